"""mx.arrays as the implementations see them: element types by name, the canonical view, divisors.

The canonical view is (outer, D, H, W, inner): pooled axes in order, missing ones of size 1, carried axes merged on either
side. For both named layouts it is a reshape; letters that put the axes elsewhere cost a transposed copy.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod

import mlx.core as mx
import numpy as np

from pooling._dtypes import DTYPES, Types
from pooling._geometry import Axis, Geometry
from pooling._layout import Layout
from pooling._modes import Reduction

TYPES = {name: getattr(mx, "bool_" if name == "bool" else name) for name in DTYPES}
NAMES = {dtype: name for name, dtype in TYPES.items()}
Order = tuple[int, ...]
WITHOUT = Axis(1, 1, 1, 1, 0, 0, 1)  # stands for the pooled axes that a call does not have


def order(layout: Layout) -> tuple[int, ...]:
    """The axes as the canonical view has them: carried ones stay on their side of the last pooled one."""
    last = max(layout.pooled)
    outer = tuple(i for i in layout.carried if i < last)
    return outer + layout.pooled + tuple(i for i in layout.carried if i > last)


@lru_cache(maxsize=1024)
def _views(layout: Layout, shape: tuple[int, ...]) -> tuple[Order | None, Order, Order, Order | None]:
    """To the canonical view of a shape, and back from it: a transposition, a reshape; a reshape, a transposition."""
    now, rank = order(layout), len(layout.pooled)
    at = now.index(layout.pooled[0])
    moved = tuple(shape[i] for i in now)
    view = (prod(moved[:at]), *(1,) * (3 - rank), *moved[at : at + rank], prod(moved[at + rank :]))
    same = now == tuple(range(len(shape)))
    return None if same else now, view, moved, None if same else tuple(now.index(i) for i in range(len(shape)))


def canonical(x: mx.array, layout: Layout) -> mx.array:
    """x as (outer, D, H, W, inner)."""
    turn, view, _, _ = _views(layout, x.shape)
    return (x if turn is None else x.transpose(turn)).reshape(view)


def restored(y: mx.array, layout: Layout, shape: tuple[int, ...]) -> mx.array:
    """A canonical array as one of this shape in the caller's layout."""
    _, _, moved, turn = _views(layout, shape)
    y = y.reshape(moved)
    return y if turn is None else y.transpose(turn)


def axes(geometry: Geometry) -> tuple[Axis, ...]:
    """The axes D, H, W."""
    return (WITHOUT,) * (3 - len(geometry.axes)) + geometry.axes


@lru_cache(maxsize=1024)
def constants(dtype: str, *numbers: float) -> mx.array:
    """Numbers as an array. It is kept: on CUDA the first kernel that reads what the host has written waits for its page."""
    return mx.array(np.array(numbers, dtype))


def divisor(reduction: Reduction, dtype: mx.Dtype) -> float | None:
    """The divisor of all windows as a number, where there is one and float32 is the type that divides."""
    given = reduction.divisor if dtype == mx.float32 else None
    return None if given is None else float(np.float32(np.int64(given)))


def divisors(geometry: Geometry, reduction: Reduction, dtype: mx.Dtype, layout: Layout | None = None) -> mx.array:
    """What the windows' sums are divided by, to be broadcast over a result, a canonical one where no layout is given."""
    number = _uniform(geometry, reduction)
    if number is not None:  # and in float32 without an operation
        return constants("float32", np.int64(number)) if dtype == mx.float32 else mx.array(number, mx.int64).astype(dtype)
    rank = len(geometry.axes)
    pooled, ndim = (range(4 - rank, 4), 5) if layout is None else (layout.pooled, len(layout.letters))
    counts = mx.array(1, mx.int64)
    for i, axis in zip(pooled, geometry.axes, strict=True):
        count = _counts(axis, reduction.include_pad)
        counts = counts * count.reshape([-1 if k == i else 1 for k in range(ndim)])
    return counts.astype(dtype)


@lru_cache(maxsize=1024)
def _uniform(geometry: Geometry, reduction: Reduction) -> int | None:
    """The divisor of all windows, where they have the same."""
    if reduction.divisor is not None:
        return reduction.divisor
    counts = [axis.counts(reduction.include_pad) for axis in geometry.axes]
    return prod(count[0] for count in counts) if all(min(count) == max(count) for count in counts) else None


@lru_cache(maxsize=256)
def _counts(axis: Axis, include_pad: bool) -> mx.array:
    return mx.array(np.frombuffer(axis.counts(include_pad), np.int64))


def single(types: Types) -> Types:
    """The same types with float32 in place of float64, where there is none: for lp, which only has a bound to keep."""
    return Types(
        *("float32" if name == "float64" else name for name in (types.cell, types.accumulate, types.finish, types.result))
    )


def on_cpu() -> bool:
    """Whether MLX computes on its CPU device here and now."""
    return bool(mx.default_device() == mx.Device(mx.cpu))
