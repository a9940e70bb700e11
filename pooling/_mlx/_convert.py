"""Conversions of finished values to the result's type: rounded once, half to even; to integers saturating, NaN to 0.

`astype` alone does that from float32 to any float and from integers to float32 and wider. Elsewhere it would round twice
(float64 and 64-bit integers to 16 bits go by way of float32) or is undefined (out of an integer's range), so the value
first becomes one from which the last step is right: a float32 rounded to odd, or a number inside the range.
Pure mx operations of the source's device: float64 appears only where it is the source or the target.
"""

from __future__ import annotations

import mlx.core as mx
import numpy as np

from pooling._dtypes import DTYPES, numpy_dtype
from pooling._mlx._arrays import TYPES


def convert(y: mx.array, source: str, target: str) -> mx.array:
    """y, of the element type `source`, in the element type `target`."""
    kinds = DTYPES[source].kind, DTYPES[target].kind
    if source == target:
        return y
    if kinds[1] in "iu":
        y = _inside_float(y, target) if kinds[0] == "f" else _inside_integer(y, source, target)
    elif DTYPES[target].size == 2 and DTYPES[source].size == 8:
        y = _odd_from_float(y) if kinds[0] == "f" else _odd_from_integer(y, source)
    return y.astype(TYPES[target])


def _bound(value: int, name: str) -> mx.array:
    return mx.array(np.array(value, numpy_dtype(name)))


def _inside_integer(y: mx.array, source: str, target: str) -> mx.array:
    """Integers (and bool) clipped to what the target holds."""
    if DTYPES[source].kind == "b":
        return y
    own, other = np.iinfo(source), np.iinfo(target)
    if own.min < other.min:
        y = mx.maximum(y, _bound(int(other.min), source))
    return mx.minimum(y, _bound(int(other.max), source)) if own.max > other.max else y


def _inside_float(y: mx.array, target: str) -> mx.array:
    """Floats as integers of the target: its ends are compared as powers of two, which every float type has."""
    limits = np.iinfo(target)
    y = mx.round(y)
    above, below = y >= float(int(limits.max) + 1), y < float(limits.min)
    whole = mx.where(above | below | (y != y), mx.zeros_like(y), y).astype(TYPES[target])
    return mx.where(above, _bound(int(limits.max), target), mx.where(below, _bound(int(limits.min), target), whole))


def _odd_from_float(y: mx.array) -> mx.array:
    """float64 as float32 rounded to odd: of the two neighbours of an inexact number the one with an odd last bit."""
    near = y.astype(mx.float32)
    back = near.astype(mx.float64)
    odd = (near.view(mx.uint32) - (mx.abs(back) > mx.abs(y)).astype(mx.uint32)) | 1
    return mx.where((back == y) | (y != y), near, odd.view(mx.float32))


def _odd_from_integer(y: mx.array, source: str) -> mx.array:
    """64-bit integers as float32 rounded to odd, with at least 10 of their leading bits."""
    size = (mx.where(y < 0, -y, y) if DTYPES[source].kind == "i" else y).astype(mx.uint64)
    drop = sum((size >> bits != 0).astype(mx.uint64) * more for bits, more in ((24, 14), (38, 14), (52, 12)))
    kept = size >> drop << drop
    kept = (kept | (kept != size).astype(mx.uint64) << drop).astype(mx.float32)  # 24 bits at most: exact
    return mx.where(y < 0, -kept, kept) if DTYPES[source].kind == "i" else kept
