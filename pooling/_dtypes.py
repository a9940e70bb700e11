"""The element types: what a cell may be, in what a mode accumulates it, and what comes out.

DTYPES is the one table; the kernels are generated from it, and tests and backends iterate over it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class DType:
    """One element type: its NumPy name, kind (b, i, u, f), size in bytes and the C type that holds a cell."""

    name: str
    kind: str
    size: int
    c: str
    cell: str  # the type in which max and min compare: a C type with an order of its own
    sum: str  # the type that sums exactly, or as widely as SEMANTICS section 5 asks


DTYPES = {
    row.name: row
    for row in (
        DType("bool", "b", 1, "truth_t", "uint8", "int64"),
        DType("int8", "i", 1, "int8_t", "int8", "int64"),
        DType("int16", "i", 2, "int16_t", "int16", "int64"),
        DType("int32", "i", 4, "int32_t", "int32", "int64"),
        DType("int64", "i", 8, "int64_t", "int64", "int64"),
        DType("uint8", "u", 1, "uint8_t", "uint8", "uint64"),
        DType("uint16", "u", 2, "uint16_t", "uint16", "uint64"),
        DType("uint32", "u", 4, "uint32_t", "uint32", "uint64"),
        DType("uint64", "u", 8, "uint64_t", "uint64", "uint64"),
        DType("float16", "f", 2, "half_t", "float32", "float32"),
        DType("bfloat16", "f", 2, "brain_t", "float32", "float32"),
        DType("float32", "f", 4, "float", "float32", "float32"),
        DType("float64", "f", 8, "double", "float64", "float64"),
    )
}


@dataclass(frozen=True, slots=True)
class Types:
    """The types of one call: of a cell, of the accumulator, of the finished value, and of the result."""

    cell: str
    accumulate: str
    finish: str
    result: str


def _ordered(row: DType, asked: str | None) -> Types:
    """max and min: the cells' own type; a conversion starts from a type that holds every cell exactly."""
    accumulate = row.cell if asked in (None, row.name) else row.sum
    return Types(row.name, accumulate, accumulate, asked or row.name)


def _total(row: DType, asked: str | None) -> Types:
    """sum: widened; float64 on request."""
    accumulate = "float64" if asked == "float64" else row.sum
    return Types(row.name, accumulate, accumulate, asked or (row.name if row.kind == "f" else row.sum))


def _mean(row: DType, asked: str | None) -> Types:
    """avg: floats as sum; small ints exactly, divided in float32; 64-bit ints in float64."""
    if row.kind == "f" or asked == "float64":
        accumulate = finish = _total(row, asked).accumulate
    elif row.size < 8:
        accumulate, finish = "int64", "float32"
    else:
        accumulate = finish = "float64"
    return Types(row.name, accumulate, finish, asked or (row.name if row.kind == "f" else "float32"))


def _real(row: DType, asked: str | None) -> Types:
    """lp: powers and sums in float64."""
    return Types(row.name, "float64", "float64", asked or (row.name if row.kind == "f" else "float32"))


ARITHMETIC = {"ordered": _ordered, "total": _total, "mean": _mean, "real": _real}


@lru_cache(maxsize=1024)
def types_of(arithmetic: str, cell: str, asked: str | None) -> Types:
    """The types of a call whose mode computes in `arithmetic`, for cells of one type and `dtype=asked`."""
    return ARITHMETIC[arithmetic](DTYPES[cell], asked)


def narrowed(types: Types, taps: int) -> Types:
    """The same types with sums of small ints in 16 or 32 bits, where no sum of so many taps can leave them."""
    row = DTYPES[types.cell]
    if row.kind == "f" or types.accumulate not in ("int64", "uint64") or types.accumulate == types.finish != types.result:
        return types
    largest = taps if row.kind == "b" else taps << (8 * row.size - (row.kind == "i"))
    name = next((name for name in ("int16", "int32") if largest < 1 << (8 * DTYPES[name].size - 1)), types.accumulate)
    return Types(types.cell, name, name if types.finish == types.accumulate else types.finish, types.result)


def keyed(types: Types) -> Types:
    """The types of max and min where 16-bit floats compare as ints: those of _cells.h that are ordered as they are."""
    sixteen = DTYPES[types.cell].kind == "f" and DTYPES[types.cell].size == 2 and types.result == types.cell
    return Types(types.cell, "int16", "int16", types.result) if sixteen else types


@lru_cache(maxsize=256)
def name_of(dtype: np.dtype[Any]) -> str | None:
    """The row's name of a NumPy dtype of any byte order, or None where pooling has no such element type."""
    if dtype.kind in "biuf" or dtype.type.__module__.startswith("ml_dtypes"):
        return dtype.name if dtype.name in DTYPES else None
    return None


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The native NumPy dtype of a row; bfloat16 comes from ml_dtypes."""
    return _numpy_dtypes[name] if name in _numpy_dtypes else np.dtype(_bfloat16())


def _bfloat16() -> Any:
    module: Any = sys.modules.get("ml_dtypes")
    if module is None:
        try:
            import ml_dtypes as module
        except ImportError:
            raise TypeError('dtype="bfloat16" in NumPy needs the package ml_dtypes: pip install ml_dtypes') from None
    return module.bfloat16


_numpy_dtypes = {name: np.dtype(name) for name in DTYPES if name != "bfloat16"}


def requested(dtype: Any) -> str | None:
    """The row's name for a `dtype=` argument; None stays None."""
    if dtype is None:
        return None
    if isinstance(dtype, str) and dtype == "bfloat16":
        return dtype
    try:
        name = name_of(np.dtype(dtype))
    except Exception:  # what NumPy makes of a string that is no type, or an object of it
        name = None
    accepted = [name for name in DTYPES if name != "bool"]
    if name not in accepted:
        from pooling._window import shown  # not above: the build reads this file before there is a package

        raise TypeError(f"dtype={shown(dtype)}: a result is one of {', '.join(accepted)}")
    return name
