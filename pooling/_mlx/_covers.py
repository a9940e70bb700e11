"""Windows seen from the cells: which windows cover a cell, one axis at a time, in ascending order.

Cells are viewed as (blocks, width) per axis, a block for every window start, so that "the t-th window back" is the same shift
of the windows for all cells of a block: a slice, broadcast over the block. Axes without such blocks (adaptive windows, one
giant stride) have width 1 and a table of windows per cell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import gcd, prod
from typing import Any

import mlx.core as mx
import numpy as np

from pooling._geometry import Axis, Geometry, cached
from pooling._mlx._along import Parts, cut, padded, taken
from pooling._mlx._arrays import axes

Array = np.ndarray[Any, Any]
TAPS = 2**10  # so many operations at most are made of them


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
    numbers: Array  # of the cells, as (blocks, width); -1 outside the axis
    length: int  # the most windows that cover a cell, or are looked at
    step: Callable[[int], Step]  # made when asked for: all of them could fill the memory


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

    def step(c: int) -> Step:
        t = backs[c]
        taps = (residues + t * s < axis.extent) & ((residues + t * s) % d == 0)
        return Step(first - t + left, taps & (q - t >= 0) & (q - t < axis.out) & (numbers >= 0))

    return Cover(blocks, s, axis.before - first * s, left, right, numbers, len(backs), step)


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

    def step(c: int) -> Step:
        return Step(np.where(c < count, first + c * apart, axis.out), (c < count)[:, None])

    return Cover(axis.n, 1, 0, 0, 1, cells[:, None], int(count.max()), step)


@lru_cache(maxsize=64)
def _cover(axis: Axis) -> Cover:
    blocked = not axis.shares and (axis.n + 2 * axis.stride <= 4 * axis.n) and (axis.extent - 1) // axis.stride <= 4 * axis.n
    return _blocked(axis) if blocked else _listed(axis)


Taps = tuple[tuple[int, int], ...]  # (how many windows back, distance of the cell from that window's first tap)


@dataclass(frozen=True, slots=True)
class Residues:
    """One axis: the taps that cells of each residue modulo the stride have, windows in ascending order."""

    n: int
    windows: int
    stride: int
    shift: int  # the first window starts so many cells before the first
    skip: int
    before: int  # windows added so that `reach` windows back from any block there is one
    after: int
    reach: int
    groups: tuple[Taps, ...]


@lru_cache(maxsize=64)
def by_residue(geometry: Geometry) -> tuple[Residues, ...] | None:
    """The taps of every axis, or None where they or the residues are many, or windows adapt."""
    three = axes(geometry)
    if any(axis.shares for axis in three):
        return None
    if prod(axis.kernel + axis.stride for axis in three) > TAPS:
        return None
    if any(axis.stride > 2 * axis.n or axis.extent // axis.stride > 2 * (axis.n + axis.out) for axis in three):
        return None  # mostly room, no windows
    found = []
    for axis in three:
        s, first, last = axis.stride, axis.before // axis.stride, (axis.n - 1 + axis.before) // axis.stride
        cells = [j * axis.dilation for j in range(axis.kernel)]
        groups = tuple(tuple((c // s, c) for c in reversed(cells) if c % s == r) for r in range(s))
        reach = (axis.extent - 1) // s
        found.append(
            Residues(axis.n, axis.out, s, axis.before, axis.before - first * s, reach - first, last + 1 - axis.out, reach, groups)
        )
    return tuple(found)


class View:
    """The cells of a geometry as (outer, blocks and width per axis, inner), and the windows that cover them step by step."""

    def __init__(self, geometry: Geometry) -> None:
        self._covers = [cached(_cover, max(axis.n, axis.out))(axis) for axis in axes(geometry)]
        self._sizes = tuple(axis.n for axis in axes(geometry))
        self.length = prod(cover.length for cover in self._covers)

    def windows(self, a: mx.array, empty: Any) -> mx.array:
        """A canonical array of windows, ready to be looked up."""
        parts: Parts = (a,)
        for i, cover in enumerate(self._covers):
            parts = padded(parts, i + 1, cover.before, cover.after, (empty,))
        outer, *sizes, inner = parts[0].shape
        return parts[0].reshape(outer, *(m for n in sizes for m in (n, 1)), inner)

    def cells(self, a: mx.array) -> mx.array:
        """A canonical array of cells in this view; the cells beyond the axes are 0."""
        parts: Parts = (a,)
        for i, cover in enumerate(self._covers):
            after = cover.blocks * cover.width - cover.skip - parts[0].shape[i + 1]
            parts = padded(parts, i + 1, cover.skip, after, (0,))
        outer, *_, inner = parts[0].shape
        return parts[0].reshape(outer, *(m for cover in self._covers for m in (cover.blocks, cover.width)), inner)

    def restored(self, a: mx.array) -> mx.array:
        """An array of this view as a canonical one."""
        outer, inner = a.shape[0], a.shape[-1]
        parts: Parts = (a.reshape(outer, *(cover.blocks * cover.width for cover in self._covers), inner),)
        for i, (cover, n) in enumerate(zip(self._covers, self._sizes, strict=True)):
            parts = cut(parts, i + 1, cover.skip, n)
        return parts[0]

    def walk(self, arrays: Parts, steps: tuple[Step, ...] = ()) -> Iterator[tuple[Parts, tuple[Step, ...]]]:
        """What each cell's next window holds in the arrays of `windows`, in row-major order of the windows."""
        if len(steps) == 3:
            yield arrays, steps
            return
        i = len(steps)
        cover, at = self._covers[i], 2 * i + 1
        for step in map(cover.step, range(cover.length)):
            if isinstance(step.windows, int):
                found = cut(arrays, at, step.windows, cover.blocks)
            else:
                found = taken(arrays, at, step.windows)
            yield from self.walk(found, (*steps, step))

    def numbers(self, steps: Sequence[Step], dtype: mx.Dtype) -> mx.array:
        """The flat number of every cell that these steps' windows cover; below -1 for all others."""
        weight = prod(self._sizes)
        total, nowhere = mx.zeros((), dtype), -2 * weight - 2
        for i, (cover, step) in enumerate(zip(self._covers, steps, strict=True)):
            weight //= self._sizes[i]
            total = total + self._broad(mx.array(np.where(step.covers, cover.numbers * weight, nowhere), dtype), i)
        return total

    def covered(self, steps: Sequence[Step]) -> mx.array:
        """Which cells these steps' windows cover."""
        total = mx.array(True)
        for i, step in enumerate(steps):
            total = mx.logical_and(total, self._broad(mx.array(step.covers), i))
        return total

    def _broad(self, a: mx.array, i: int) -> mx.array:
        return a.reshape([1] * (1 + 2 * i) + list(a.shape) + [1] * (5 - 2 * i))
