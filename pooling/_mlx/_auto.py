"""Chooses the implementation of each call: the kernel on a GPU, the CPU's loops on MLX's CPU device, operations elsewhere.

Elsewhere: while compile or vmap trace on the CPU device, where there are no values to read, and for what the kernel refuses.
POOLING_MLX_IMPL (kernel, ops or native) chooses once for all.
"""

from __future__ import annotations

import os
import warnings
from functools import cache
from math import prod

import mlx.core as mx

from pooling._dtypes import Types
from pooling._geometry import Geometry
from pooling._layout import Layout
from pooling._mlx import _kernel, _native, _ops
from pooling._mlx._arrays import on_cpu
from pooling._mlx._implementation import Implementation
from pooling._modes import Reduction

RUNS: dict[str, Implementation] = {"kernel": _kernel, "ops": _ops, "native": _native}


def _asked() -> Implementation | None:
    name = os.environ.get("POOLING_MLX_IMPL") or None
    if name is not None and name not in RUNS:
        raise ValueError(f"POOLING_MLX_IMPL={name!r}: an implementation is one of {', '.join(map(repr, RUNS))}")
    return None if name is None else RUNS[name]


def _best(x_size: int, y_size: int, types: Types, reduction: Reduction | None) -> Implementation:
    """The implementation for arrays that have values."""
    asked = _asked()
    if asked is not None:
        return asked
    if on_cpu():
        return _native
    reason = _kernel.why_not()
    if reason is not None:
        _warn(reason)
    refused = reason is not None or _kernel.refuses(x_size, y_size, types, reduction) is not None
    return _ops if refused else _kernel


@cache  # once in a process
def _warn(reason: str) -> None:
    warnings.warn(f"pooling runs on MLX's operations, as its kernel cannot run: {reason}", RuntimeWarning, stacklevel=2)


def _for(y_size: int, types: Types, reduction: Reduction | None, *arrays: mx.array) -> Implementation:
    """The implementation for these arrays, traced or not."""
    run = _best(arrays[0].size, y_size, types, reduction)
    return _ops if run is _native and _asked() is None and not all(map(_native.readable, arrays)) else run


def why_not() -> str | None:
    """None, or the reason of the implementation that POOLING_MLX_IMPL asks for."""
    run = _asked()
    return None if run is None else run.why_not()


def refuses(x_size: int, y_size: int, types: Types, reduction: Reduction | None) -> str | None:
    """What the best implementation refuses."""
    return _best(x_size, y_size, types, reduction).refuses(x_size, y_size, types, reduction)


def reduce(
    x: mx.array, layout: Layout, geometry: Geometry, reduction: Reduction, types: Types, indexed: bool
) -> tuple[mx.array, ...]:
    """As the implementation that is chosen; likewise below."""
    run = _for(prod(layout.resized(x.shape, geometry.outs)), types, reduction, x)
    return run.reduce(x, layout, geometry, reduction, types, indexed)


def scatter(g: mx.array, indices: mx.array, layout: Layout, geometry: Geometry, types: Types) -> mx.array:
    run = _for(prod(layout.resized(g.shape, geometry.sizes)), types, None, g, indices)
    return run.scatter(g, indices, layout, geometry, types)


def route(g: mx.array, x: mx.array, layout: Layout, geometry: Geometry, reduction: Reduction, types: Types) -> mx.array:
    run = _for(x.size, types, reduction, g, x)
    return run.route(g, x, layout, geometry, reduction, types)


def slope(g: mx.array, x: mx.array, layout: Layout, geometry: Geometry, reduction: Reduction, types: Types) -> mx.array:
    run = _for(x.size, types, reduction, g, x)
    return run.slope(g, x, layout, geometry, reduction, types)


def unpool(x: mx.array, indices: mx.array, layout: Layout, sizes: tuple[int, ...]) -> mx.array:
    shape = layout.resized(x.shape, sizes)
    run = _for(prod(shape), Types(*("uint8",) * 4), None, x, indices)
    return run.unpool(x, indices, layout, sizes)
