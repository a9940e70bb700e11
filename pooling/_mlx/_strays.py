"""Indices that name no cell of their own window, found on the device: a GPU's indices need not come to the host to be checked."""

from __future__ import annotations

from functools import lru_cache

import mlx.core as mx
import numpy as np

from pooling._geometry import Axis, Geometry
from pooling._layout import Layout


def strays(indices: mx.array, layout: Layout, geometry: Geometry) -> bool:
    """Whether an index is neither -1 nor a cell of its own window. The indices have values."""
    rest = indices.astype(mx.int64)  # what int64 does not hold turns negative, but for ...
    wrong = (rest < -1) | (rest >= mx.array(geometry.plane, mx.int64))
    if indices.dtype == mx.uint64:
        wrong = wrong | (rest < 0)  # ... 2**64 - 1, which is not -1
    named = rest >= 0
    for i, axis in reversed(list(zip(layout.pooled, geometry.axes, strict=True))):
        starts, extents = (numbers.reshape([-1 if k == i else 1 for k in range(rest.ndim)]) for numbers in _spans(axis))
        offset = rest % axis.n - starts
        wrong = wrong | (named & ((offset < 0) | (offset >= extents) | (offset % axis.dilation != 0)))
        rest = rest // axis.n
    return bool(mx.any(wrong).item())


@lru_cache(maxsize=64)
def _spans(axis: Axis) -> tuple[mx.array, mx.array]:
    """Where each window begins, and its extent."""
    ranges = axis.ranges()
    if ranges is None:
        return mx.array(np.arange(axis.out) * axis.stride - axis.before), mx.array(np.array([axis.extent]))
    starts, extents = (mx.array(np.frombuffer(numbers, np.int64)) for numbers in ranges)
    return starts, extents
