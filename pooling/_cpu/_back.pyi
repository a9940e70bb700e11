"""The types of the Python face of the way back."""

from array import array
from typing import Any

import numpy as np

from pooling._cpu._nest import Row
from pooling._cpu._views import View

_Array = np.ndarray[Any, Any]

def scatter(
    loops: tuple[int, int, int, int],
    view: View,
    axes: list[Row],
    apart: int,
    wide: int,
    grad: _Array | None,
    g: _Array,
    i: _Array,
    threads: int,
) -> bool: ...
def share(
    loops: tuple[int, ...],
    whole: tuple[int, ...],
    vector: int,
    axes: list[Row],
    covers: list[tuple[array[int], array[int]] | None],
    view: View,
    grad: _Array,
    g: _Array,
    wide: int,
    divides: bool,
    divisor: int,
    uniform: bool,
    threads: int,
) -> bool: ...
