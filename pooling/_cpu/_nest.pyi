"""The types of the loop nest's Python face."""

from array import array
from collections.abc import Callable
from typing import Any

import numpy as np

from pooling._cpu._views import View
from pooling._dtypes import Types
from pooling._geometry import Axis

_Array = np.ndarray[Any, Any]
Row = tuple[Axis, tuple[array[int], array[int]] | None, array[int] | None]  # ranges, and counts of the divisor

class Loops:
    def __init__(
        self,
        rows: dict[tuple[str, ...], int],
        combine: str,
        idempotent: bool,
        cell: str,
        finish: str,
        types: Types,
        index: str,
        identity: bytes,
        neutral: bytes,
    ) -> None: ...

class Plan:
    def __init__(
        self,
        loops: Loops,
        axes: list[Row],
        view: View,
        index: int,
        p: float,
        divisor: int,
        uniform: bool,
        threads: int,
    ) -> None: ...
    def words(self) -> str: ...
    def run(self, x: _Array, y: _Array, i: _Array | None = None) -> None: ...

class Packed:
    def __init__(
        self,
        pool: Callable[[_Array, tuple[_Array, ...] | None], tuple[_Array, ...]],
        planned: Callable[..., Plan],
        threads: Callable[[], int],
        cells: np.dtype[Any],
        wanted: tuple[np.dtype[Any], ...],
        shape: tuple[int, ...],
    ) -> None: ...
    def __call__(self, x: _Array, out: tuple[_Array, ...] | None) -> tuple[_Array, ...]: ...

def info() -> dict[str, Any]: ...
