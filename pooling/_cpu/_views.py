"""The canonical view (outer, D, H, W, inner) of arrays in any layout, made from shapes and strides without a copy.

Carried axes are merged where the strides of all arrays allow it. The one that moves fastest in memory becomes `inner`
where it moves faster than the pooled axes (channels last), and the others are walked as `outer`.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np

from pooling._layout import Layout

LARGE = 2**28  # bytes above which memory is asked for whether it holds them

Array = np.ndarray[Any, Any]
Steps = tuple[int, ...]  # a size and one stride in bytes per array
Memory = tuple[Steps, Steps, int]  # an array's shape, strides and itemsize


class View(NamedTuple):
    """Sizes and strides of one call's arrays."""

    outer: list[Steps]
    inner: Steps
    pooled: list[Steps]  # D, H, W: strides alone


def view(layout: Layout, *arrays: Array) -> View:
    """The view of arrays that differ in their pooled sizes only; the memory order of the first one decides."""
    return view_of(layout, tuple((array.shape, array.strides, array.itemsize) for array in arrays))


@lru_cache(maxsize=1024)
def view_of(layout: Layout, arrays: tuple[Memory, ...]) -> View:
    """The view, of what it reads of the arrays."""
    shape, strides, _ = arrays[0]
    merged: list[Steps] = []
    for steps in sorted(
        ((shape[i], *(array[1][i] for array in arrays)) for i in layout.carried if shape[i] != 1),
        key=lambda steps: [abs(stride) for stride in steps[1:]],
        reverse=True,
    ):
        if merged and all(outer == steps[0] * inner for outer, inner in zip(merged[-1][1:], steps[1:], strict=True)):
            merged[-1] = (merged[-1][0] * steps[0], *steps[1:])
        else:
            merged.append(steps)
    fastest = min((abs(strides[i]) for i in layout.pooled if shape[i] > 1), default=None)
    inner: Steps = (1, *(itemsize for _, _, itemsize in arrays))
    if merged and (fastest is None or abs(merged[-1][1]) < fastest):
        inner = merged.pop()
    columns = [
        _strides([(shape[i], strides[i]) for i in layout.pooled], inner[0] * inner[1 + k])
        for k, (shape, strides, _) in enumerate(arrays)
    ]
    return View(merged or [(1, *(0 for _ in arrays))], inner, list(zip(*columns, strict=True)))


def _strides(axes: list[tuple[int, int]], cell: int) -> list[int]:
    """Strides of D, H, W; an axis of one cell gets the stride that lets its neighbours merge."""
    strides: list[int] = []
    for size, stride in reversed([(1, 0)] * (3 - len(axes)) + axes):
        strides.insert(0, stride if size > 1 else cell)
        cell = strides[0] * size
    return strides


def fits(shape: tuple[int, ...], itemsize: int) -> None:
    """MemoryError for arrays that the system would promise and then kill the process over."""
    size = prod(shape) * itemsize
    if size > LARGE and size > _available():
        raise MemoryError(f"an array of shape {shape} takes {size} bytes, more than this machine has free")


def _available() -> int:
    """Bytes of memory that can be had without swapping and within the process's own limit, as far as the system tells."""
    try:
        import resource

        with open("/proc/meminfo") as facts:
            free = next(int(line.split()[1]) << 10 for line in facts if line.startswith("MemAvailable"))
        with open("/proc/self/statm") as facts:
            used = int(facts.read().split()[0]) * resource.getpagesize()
    except (ImportError, OSError, StopIteration):
        return 2**63
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return free if limit == resource.RLIM_INFINITY else min(free, limit - used)


def empty_like(like: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """A new array with the memory order of another one; an axis of one cell stays before its right neighbour."""
    fits(shape, dtype.itemsize)
    if like.flags.c_contiguous:
        return np.empty(shape, dtype)
    strides = [abs(stride) for stride in like.strides]
    for i in range(like.ndim - 2, -1, -1):
        if like.shape[i] == 1:
            strides[i] = strides[i + 1]
    order = sorted(range(like.ndim), key=lambda i: -strides[i])
    return np.empty([shape[i] for i in order], dtype).transpose(np.argsort(order))


def empty_by_plane(layout: Layout, like: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Array, int]:
    """A new array whose planes can be addressed by a flat index, and the distance in bytes of two neighbours in a plane."""
    order, places, within = _by_plane(layout, like.shape, like.strides)
    fits(shape, dtype.itemsize)
    array = np.empty([shape[i] for i in order], dtype).transpose(places)
    return array, prod([shape[i] for i in within]) * dtype.itemsize


@lru_cache(maxsize=1024)
def _by_plane(layout: Layout, shape: Steps, strides: Steps) -> tuple[Steps, Steps, Steps]:
    """The axes from the one that moves slowest, where each of them stands there, and those that move faster than the plane."""
    pooled = [abs(strides[i]) for i in layout.pooled if shape[i] > 1]
    within = tuple([i for i in layout.carried if pooled and shape[i] > 1 and abs(strides[i]) < min(pooled)])
    order = (*[i for i in layout.carried if i not in within], *layout.pooled, *within)
    return order, tuple([order.index(i) for i in range(len(order))]), within
