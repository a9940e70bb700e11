"""Windows seen from the cells: which windows cover a cell, one axis at a time, in ascending order.

Cells are viewed as (blocks, width) per axis, a block for every window start, so that "the t-th window back" is the same shift
of the windows for all cells of a block: a slice, broadcast over the block. Axes without such blocks (adaptive windows, one
giant stride) have width 1 and a table of windows per cell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import gcd
from typing import Any

import mlx.core as mx
import numpy as np

from pooling._geometry import Axis, Geometry, cached
from pooling._mlx._along import cut, padded, taken
from pooling._mlx._arrays import axes

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Step:
    """One covering window per cell: where it stands among the windows, and which cells of (blocks, width) it covers."""

    windows: int | Array  # the first block's window, in the padded windows; or a window per block
    covers: Array


@dataclass(frozen=True, slots=True)
class Cover:
    """One axis: its cells are blocks * width from number -skip on; windows are padded before they are looked up."""

    blocks: int
    width: int
    skip: int
    before: int
    after: int
    steps: tuple[Step, ...]
    numbers: Array  # of the cells, as (blocks, width); -1 outside the axis


def _numbers(blocks: int, width: int, skip: int, n: int) -> Array:
    cells = np.arange(blocks * width, dtype=np.int64).reshape(blocks, width) - skip
    return np.where((cells >= 0) & (cells < n), cells, -1)


def _blocked(axis: Axis) -> Cover:
    """Cell number q * stride + r - before is covered by window q - t where r + t * stride is a tap."""
    s, d, first = axis.stride, axis.dilation, axis.before // axis.stride
    blocks = (axis.n - 1 + axis.before) // s - first + 1
    residues, q = np.arange(s), np.arange(first, first + blocks)[:, None]
    backs = [t for t in range((axis.extent - 1) // s, -1, -1) if -t * s % d < s]
    left = max(0, max(backs) - first)
    right = max(0, first + blocks - min(backs) - axis.out)
    numbers = _numbers(blocks, s, axis.before - first * s, axis.n)
    steps = []
    for t in backs:
        taps = (residues + t * s < axis.extent) & ((residues + t * s) % d == 0)
        covers = taps & (q - t >= 0) & (q - t < axis.out) & (numbers >= 0)
        steps.append(Step(first - t + left, covers))
    return Cover(blocks, s, axis.before - first * s, left, right, tuple(steps), numbers)


def _listed(axis: Axis) -> Cover:
    """A table per step: the c-th window that covers each cell, or the empty one after the last."""
    cells = np.arange(axis.n, dtype=np.int64)
    if axis.shares:
        ranges = axis.transposed().ranges()
        assert ranges is not None
        first, count, apart = np.frombuffer(ranges[0], np.int64), np.frombuffer(ranges[1], np.int64), 1
    else:
        s, d = axis.stride, axis.dilation
        apart = d // gcd(s, d)
        last = np.minimum((cells + axis.before) // s, axis.out - 1)
        first = np.maximum(0, -((axis.extent - 1 - axis.before - cells) // s))
        solvable = (cells + axis.before) % gcd(s, d) == 0
        # the first window w >= first with (cell + before - w * stride) divisible by the dilation
        inverse = pow(s // gcd(s, d), -1, apart)
        first = first + ((cells + axis.before) // gcd(s, d) % apart * inverse - first) % apart
        count = np.where(solvable, np.maximum(0, (last - first) // apart + 1), 0)
    steps = []
    for c in range(int(count.max())):
        covers = c < count
        steps.append(Step(np.where(covers, first + c * apart, axis.out), covers[:, None]))
    return Cover(axis.n, 1, 0, 0, 1, tuple(steps), cells[:, None])


@lru_cache(maxsize=64)
def _cover(axis: Axis) -> Cover:
    blocked = not axis.shares and (axis.n + 2 * axis.stride <= 4 * axis.n) and (axis.extent - 1) // axis.stride <= 4 * axis.n
    return _blocked(axis) if blocked else _listed(axis)


class View:
    """The cells of a geometry as (outer, blocks and width per axis, inner), and the windows that cover them step by step."""

    def __init__(self, geometry: Geometry) -> None:
        self._covers = [cached(_cover, max(axis.n, axis.out))(axis) for axis in axes(geometry)]
        self._sizes = tuple(axis.n for axis in axes(geometry))
        self.length = int(np.prod([max(1, len(cover.steps)) for cover in self._covers]))

    def windows(self, a: mx.array, empty: Any) -> mx.array:
        """A canonical array of windows, ready to be looked up."""
        parts = (a,)
        for i, cover in enumerate(self._covers):
            parts = padded(parts, i + 1, cover.before, cover.after, (empty,)) if cover.before or cover.after else parts
        outer, *sizes, inner = parts[0].shape
        return parts[0].reshape(outer, *(m for n in sizes for m in (n, 1)), inner)

    def cells(self, a: mx.array) -> mx.array:
        """A canonical array of cells in this view; the cells beyond the axes are 0."""
        parts = (a,)
        for i, cover in enumerate(self._covers):
            after = cover.blocks * cover.width - cover.skip - parts[0].shape[i + 1]
            if cover.skip or after > 0:
                parts = padded(parts, i + 1, cover.skip, max(0, after), (0,))
        outer, *_, inner = parts[0].shape
        return parts[0].reshape(outer, *(m for cover in self._covers for m in (cover.blocks, cover.width)), inner)

    def restored(self, a: mx.array) -> mx.array:
        """An array of this view as a canonical one."""
        outer, inner = a.shape[0], a.shape[-1]
        parts: tuple[mx.array, ...] = (a.reshape(outer, *(cover.blocks * cover.width for cover in self._covers), inner),)
        for i, (cover, n) in enumerate(zip(self._covers, self._sizes, strict=True)):
            parts = cut(parts, i + 1, cover.skip, n)
        return parts[0]

    def walk(self, arrays: tuple[mx.array, ...]) -> Iterator[tuple[tuple[mx.array, ...], tuple[Step, ...]]]:
        """What each cell's next window holds in the arrays of `windows`, in row-major order of the windows."""
        yield from self._walk(arrays, ())

    def _walk(
        self, arrays: tuple[mx.array, ...], steps: tuple[Step, ...]
    ) -> Iterator[tuple[tuple[mx.array, ...], tuple[Step, ...]]]:
        if len(steps) == 3:
            yield arrays, steps
            return
        i = len(steps)
        cover, at = self._covers[i], 2 * i + 1
        for step in cover.steps:
            if isinstance(step.windows, int):
                found = cut(arrays, at, step.windows, cover.blocks)
            else:
                found = taken(arrays, at, step.windows)
            yield from self._walk(found, (*steps, step))

    def numbers(self, steps: Sequence[Step], dtype: mx.Dtype) -> mx.array:
        """The flat number of every cell that these steps' windows cover; below -1 for all others."""
        total: mx.array | None = None
        nowhere, weight = -2 * int(np.prod(self._sizes, dtype=object)) - 2, int(np.prod(self._sizes, dtype=object))
        for i, (cover, step) in enumerate(zip(self._covers, steps, strict=True)):
            weight //= self._sizes[i]
            own = np.where(step.covers, cover.numbers * weight, nowhere)
            part = self._broad(mx.array(own, dtype), i)
            total = part if total is None else total + part
        assert total is not None
        return total

    def covered(self, steps: Sequence[Step]) -> mx.array | None:
        """Which cells these steps' windows cover; None for all."""
        masks = [self._broad(mx.array(step.covers), i) for i, step in enumerate(steps) if not step.covers.all()]
        total = masks[0] if masks else None
        for mask in masks[1:]:
            total = total & mask
        return total

    def _broad(self, a: mx.array, i: int) -> mx.array:
        return a.reshape([1] * (1 + 2 * i) + list(a.shape) + [1] * (5 - 2 * i))
