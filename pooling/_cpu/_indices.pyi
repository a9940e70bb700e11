"""The types of the index loops' Python face."""

from typing import Any

import numpy as np

from pooling._cpu._nest import Row
from pooling._cpu._views import View

_Array = np.ndarray[Any, Any]

def scatter(
    loop: int,
    view: View,
    cells: tuple[int, ...],
    apart: int,
    grad: _Array,
    g: _Array,
    i: _Array,
    threads: int,
) -> None: ...
def misplaced(axes: list[Row], indices: _Array) -> tuple[int, int, int, int, int] | None: ...
