"""Geometry: where the windows fall on pooled axes of known sizes. Every formula stands here once, for ONE axis.

Window o of an axis covers the cells o*stride - before + j*dilation, j = 0 .. kernel-1, of which those in [0, n) are data.
The formulas are those of torch.nn.MaxPool2d and torch.nn.AdaptiveMaxPool2d, checked against them.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ParamSpec, TypeVar

LIMIT = 2**31
WHOLE = 2**63
CACHED = 2**16

P = ParamSpec("P")
R = TypeVar("R")


def same_padding(n: int, kernel: int, stride: int, dilation: int, *, lower: bool) -> tuple[int, int]:
    """The (before, after) that makes ceil(n / stride) windows; the odd cell goes after, or before if `lower`."""
    out = -(-n // stride)
    total = max((out - 1) * stride + dilation * (kernel - 1) + 1 - n, 0)
    small, large = total // 2, total - total // 2
    return (large, small) if lower else (small, large)


@dataclass(frozen=True, slots=True)
class Axis:
    """One pooled axis: its cells, its windows and the number of windows.

    spacing: the source cells stand this far apart, with zeros between them (a gradient's way back through a stride).
    shares: adaptive windows, which share the axis out: window o has the cells o*n // out to ceil((o+1)*n / out) - 1.
    """

    n: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int
    out: int
    spacing: int = 1
    shares: bool = False

    @classmethod
    def of(cls, i: int, n: int, kernel: int, stride: int, dilation: int, padding: tuple[int, int], ceil_mode: bool) -> Axis:
        """Sliding windows on axis `i` of n cells."""
        not_empty(i, n)
        before, after = padding
        extent = dilation * (kernel - 1) + 1
        span = n + before + after - extent
        if span < 0:
            raise ValueError(
                f"kernel={kernel}: on pooled axis {i} the effective kernel {extent} (dilation {dilation}) is larger than the "
                f"padded size {n + before + after} ({n} cells, padding {before} before and {after} after)"
            )
        out = (-(-span // stride) if ceil_mode else span // stride) + 1
        if ceil_mode and (out - 1) * stride >= n + before:
            out -= 1  # no window may start in the padding after the data
        return cls(n, kernel, stride, dilation, before, after, out)

    @classmethod
    def shared(cls, i: int, n: int, out: int) -> Axis:
        """Adaptive windows: `out` of them share the n cells of axis `i`."""
        not_empty(i, n)
        if out and n % out == 0:
            return cls(n, n // out, n // out, 1, 0, 0, out)
        return cls(n, -(-n // out) + 1 if out else 1, 1, 1, 0, 0, out, shares=True)

    @property
    def extent(self) -> int:
        """The effective kernel: the distance from a window's first tap to its last, plus one."""
        return self.dilation * (self.kernel - 1) + 1

    @property
    def idle(self) -> bool:
        """Whether every window is one cell, in order."""
        return self.kernel == self.stride == self.spacing == 1 and self.before == self.after == 0 and not self.shares

    def transposed(self) -> Axis:
        """The windows, over the outputs of this axis, that cover each of its cells: the way back of a sum."""
        if self.shares:
            # A cell c is covered by the windows c*out // n to ceil((c+1)*out / n) - 1: the same formula.
            return Axis(self.out, -(-self.out // self.n) + 1, 1, 1, 0, 0, self.n, shares=True)
        reach = (self.out - 1) * self.stride + 1
        before, after = self.extent - 1 - self.before, self.n + self.before - reach
        return Axis(reach, self.kernel, 1, self.dilation, before, after, self.n, spacing=self.stride)

    def ranges(self) -> tuple[array[int], array[int]] | None:
        """First cell and number of cells of every adaptive window; None for sliding ones."""
        return cached(_ranges, self.out)(self.n, self.out) if self.shares else None

    def counts(self, include_pad: bool) -> array[int]:
        """How many taps of each window lie in the padded extent, or in the data: one factor of the divisor."""
        ranges = self.ranges()
        return cached(_counts, self.out)(self, include_pad) if ranges is None else ranges[1]


def cached(table: Callable[P, R], length: int) -> Callable[P, R]:
    """The table's function; not its cache where the table is long: 64 of them could fill the memory."""
    bare: Callable[P, R] = getattr(table, "__wrapped__", table)
    return table if length <= CACHED else bare


def not_empty(i: int, n: int) -> None:
    """A ValueError where pooled axis `i` has no cells."""
    if n < 1:
        raise ValueError(f"pooled axis {i} has no cells; only batch and channels may be empty")


@lru_cache(maxsize=64)
def _ranges(n: int, out: int) -> tuple[array[int], array[int]]:
    starts = array("q", (o * n // out for o in range(out)))
    return starts, array("q", (-(-(o + 1) * n // out) - start for o, start in enumerate(starts)))


@lru_cache(maxsize=64)
def _counts(axis: Axis, include_pad: bool) -> array[int]:
    low = -axis.before if include_pad else 0
    high = axis.n + axis.after if include_pad else axis.n

    def count(o: int) -> int:
        start = o * axis.stride - axis.before
        first = max(0, -((start - low) // axis.dilation))
        last = min(axis.kernel - 1, (high - 1 - start) // axis.dilation)
        return max(0, last - first + 1)

    # Windows that lie wholly inside are all alike: only those at the ends are counted one by one.
    inner = min(axis.out, max(0, -(-(low + axis.before) // axis.stride)))
    outer = min(axis.out, max(inner, (high - axis.extent + axis.before) // axis.stride + 1))
    ends: Iterator[int] = map(count, range(inner))
    return array("q", ends) + array("q", [axis.kernel]) * (outer - inner) + array("q", map(count, range(outer, axis.out)))


@dataclass(frozen=True, slots=True)
class Geometry:
    """The pooled axes of one call, in the order D, H, W, L."""

    axes: tuple[Axis, ...]

    @property
    def outs(self) -> tuple[int, ...]:
        """The number of windows along each pooled axis."""
        return tuple(axis.out for axis in self.axes)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of cells along each pooled axis."""
        return tuple(axis.n for axis in self.axes)

    @property
    def plane(self) -> int:
        """The cells of one plane: every index is below it."""
        return math.prod(self.sizes)

    def without(self, idle: Sequence[bool]) -> Geometry:
        """The other axes."""
        return Geometry(tuple(axis for axis, is_idle in zip(self.axes, idle, strict=True) if not is_idle))

    def transposed(self) -> Geometry:
        """The geometry of the gradient: windows over the outputs that cover each cell."""
        return Geometry(tuple(axis.transposed() for axis in self.axes))


def unpooled(
    sizes: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[tuple[int, int], ...]
) -> tuple[int, ...]:
    """The size per axis that max_unpool gives by default: the smallest that windows without overhang could come from."""
    return tuple(
        (n - 1) * s - before - after + k for n, k, s, (before, after) in zip(sizes, kernel, stride, padding, strict=True)
    )
