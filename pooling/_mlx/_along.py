"""Windows along ONE axis of an array: partial values in, one combined value per window out.

It owns the choice of algorithm, by counting, and the order of adding (by position in the window: S(k) = S(h) +
S(k - h), h the largest power of two below k). What it works on are parts, arrays that are cut and combined together: a
value alone, or a value and its index. No window is ever materialised, and no value is looked at, so that it can be traced.

    direct    every tap is a slice at the windows' stride, combined in a tree
    doubling  P(2h, i) = P(h, i) + P(h, i + h): log2(k) passes over the cells that are still needed
    overlap   two doubled windows that overlap, where a cell may count twice
    spaced    cells with zeros between them (a gradient's way back through a stride): one small reduction per residue
    gathered  any windows at all (adaptive ones, giant kernels and paddings): the tree of all windows, level by level
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from math import gcd, prod
from typing import Any, TypeVar

import mlx.core as mx
import numpy as np

from pooling._geometry import CACHED, LIMIT, Axis, cached

Parts = tuple[mx.array, ...]
Step = Callable[[Parts], Parts]
T = TypeVar("T")
OPERATION = 2**13  # what starting an operation costs, in cells combined
EDGES = 8  # windows at the ends, and taps of one, that are handled one by one


@dataclass(frozen=True, slots=True)
class Fold:
    """How the parts of two neighbours become one, what a part is where there is no cell, whether a cell may count twice."""

    combine: Callable[[Parts, Parts], Parts]
    empty: tuple[Any, ...]
    idempotent: bool


# ---- pieces of arrays ------------------------------------------------------------------------------------------------


def cut(parts: Parts, at: int, start: int, count: int, step: int = 1) -> Parts:
    """`count` cells along axis `at`, every `step`-th from `start`."""
    n = parts[0].shape[at]
    if start == 0 and count == n and step == 1:
        return parts
    piece = _piece(at, start, count, step)
    return tuple([part[piece] for part in parts])


def _piece(at: int, start: int, count: int, step: int) -> tuple[slice, ...]:
    return (slice(None),) * at + (slice(start, start + (count - 1) * step + 1, step if count > 1 else 1),)


def filled(parts: Parts, at: int, count: int, values: Sequence[Any]) -> Parts:
    """`count` cells along axis `at` that hold the value of each part."""
    shapes = [(*part.shape[:at], count, *part.shape[at + 1 :]) for part in parts]
    return tuple(
        mx.broadcast_to(mx.array(value, part.dtype), shape) for part, shape, value in zip(parts, shapes, values, strict=True)
    )


def joined(pieces: Sequence[Parts], at: int) -> Parts:
    """Pieces side by side along axis `at`; a part may still be one cell wide where another piece is not."""
    return pieces[0] if len(pieces) == 1 else tuple(_concatenated(list(piece), at) for piece in zip(*pieces, strict=True))


def _concatenated(pieces: list[mx.array], at: int) -> mx.array:
    widest = [max(sizes) for sizes in zip(*(piece.shape for piece in pieces), strict=True)]
    shapes = [(*widest[:at], piece.shape[at], *widest[at + 1 :]) for piece in pieces]
    whole = [
        piece if piece.shape == shape else mx.broadcast_to(piece, shape) for piece, shape in zip(pieces, shapes, strict=True)
    ]
    return mx.concatenate(whole, at)


def padded(parts: Parts, at: int, before: int, after: int, values: Sequence[Any]) -> Parts:
    """With cells of the given values before and after."""
    if not before and not after:
        return parts
    if (size := before + parts[0].shape[at] + after) >= LIMIT:
        raise ValueError(
            f"padding makes an axis of {size} cells out of {parts[0].shape[at]}: on MLX every axis must be below 2**31"
        )
    ends = [filled(parts, at, count, values) if count else () for count in (before, after)]
    return joined([piece for piece in (ends[0], parts, ends[1]) if piece], at)


def taken(parts: Parts, at: int, indices: np.ndarray[Any, Any]) -> Parts:
    """The cells at these indices along axis `at`; a slice where they are evenly spaced."""
    steps = np.diff(indices)
    if indices.size and (indices.size == 1 or (steps[0] > 0 and (steps == steps[0]).all())):
        return cut(parts, at, int(indices[0]), indices.size, int(steps[0]) if steps.size else 1)
    chosen = mx.array(indices.astype(np.int32))
    return tuple(mx.take(part, chosen, axis=at) for part in parts)


def pick(condition: mx.array, yes: mx.array, no: mx.array | None = None) -> mx.array:
    """mx.where on bits, `no` being 0 if left out: MLX's own branches per cell, 10 ns where a CPU guesses wrong; this takes 1.

    By arithmetic modulo 2**n: under vmap MLX's bitwise operations lose an axis where one side alone has it.
    """
    bits = {1: mx.uint8, 2: mx.uint16, 4: mx.uint32, 8: mx.uint64}[yes.dtype.size]
    mask, chosen = condition.astype(bits), yes.view(bits)
    if no is None:
        return (chosen * mask).view(yes.dtype)
    other = no.view(bits)
    return (other + (chosen - other) * mask).view(yes.dtype)


def half(k: int) -> int:
    """The largest power of two below k."""
    return 1 << (k - 1).bit_length() - 1


def tree(taps: Sequence[tuple[int, int]], size: int, leaf: Callable[[int], T], combine: Callable[[T, T], T], first: int = 0) -> T:
    """S(size) over the taps, given as (position, what `leaf` takes); positions without a tap add nothing."""
    if len(taps) == 1:
        return leaf(taps[0][1])
    h = half(size)
    split = bisect_left(taps, (first + h,))
    if split == len(taps):
        return tree(taps, h, leaf, combine, first)
    if split == 0:
        return tree(taps, size - h, leaf, combine, first + h)
    return combine(tree(taps[:split], h, leaf, combine, first), tree(taps[split:], size - h, leaf, combine, first + h))


# ---- windows whose taps are all cells --------------------------------------------------------------------------------


def _levels(k: int, stride: int, dilation: int, out: int) -> list[tuple[int, int, int, int]]:
    """The doubling's levels: (blocks, distance of neighbours, cells apart, cells made), blocks halving from k.

    Only cells a common divisor apart are still needed: with an even stride every level halves the array.
    """
    levels, h, blocks = [], 1, k
    while blocks > 1:
        apart = stride if blocks < 4 else gcd(stride, 2 * h * dilation)
        count = ((out - 1) * stride + (blocks // 2 - 1) * 2 * h * dilation) // apart + 1
        levels.append((blocks, h * dilation, apart, count))
        h, blocks = 2 * h, blocks // 2
    return levels


@lru_cache(maxsize=1024)
def _choice(k: int, stride: int, dilation: int, out: int, idempotent: bool, lanes: int) -> tuple[int, str]:
    """The cheapest way and its cost, in cells combined."""
    levels = _levels(k, stride, dilation, out)
    tails = sum(blocks % 2 for blocks, *_ in levels)
    costs = [((k - 1) * (out * lanes + OPERATION), "direct")]
    costs.append(((sum(count for *_, count in levels) + tails * out) * lanes + (len(levels) + tails) * OPERATION, "doubling"))
    if idempotent and k > 2 and k & (k - 1):
        h = half(k)
        step = gcd(stride, (k - h) * dilation)
        reach = ((out - 1) * stride + (k - h) * dilation) // step + 1
        costs.append((_choice(h, step, dilation, reach, True, lanes)[0] + out * lanes + OPERATION, "overlap"))
    return min(costs)


def _regular(parts: Parts, at: int, fold: Fold, first: int, k: int, stride: int, dilation: int, out: int, lanes: int) -> Parts:
    """Windows that lie wholly inside: window o starts at cell first + o * stride."""
    if k == 1:
        return cut(parts, at, first, out, stride)
    _, way = _choice(k, stride, dilation, out, fold.idempotent, lanes)
    if way == "direct":
        taps = [(j, first + j * dilation) for j in range(k)]
        return tree(taps, k, lambda start: cut(parts, at, start, out, stride), fold.combine)
    if way == "overlap":
        h = half(k)
        step = gcd(stride, (k - h) * dilation)
        reach = ((out - 1) * stride + (k - h) * dilation) // step + 1
        doubled = _regular(parts, at, fold, first, h, step, dilation, reach, lanes)
        ends = [cut(doubled, at, start, out, stride // step) for start in (0, (k - h) * dilation // step)]
        return fold.combine(ends[0], ends[1])
    apart = gcd(stride, dilation)
    level = cut(parts, at, first, ((out - 1) * stride + (k - 1) * dilation) // apart + 1, apart)
    tail: Parts | None = None
    for blocks, distance, next_apart, count in _levels(k, stride, dilation, out):
        if blocks % 2:
            block = cut(level, at, (blocks - 1) * distance // apart, out, stride // apart)
            tail = block if tail is None else fold.combine(block, tail)
        pair = [cut(level, at, start, count, next_apart // apart) for start in (0, distance // apart)]
        level, apart = fold.combine(pair[0], pair[1]), next_apart
    return level if tail is None else fold.combine(level, tail)


# ---- sliding windows -------------------------------------------------------------------------------------------------


def along(parts: Parts, at: int, axis: Axis, fold: Fold) -> Parts:
    """One combined value per window of the axis."""
    if trivial(axis):
        return parts
    if axis.shares:
        return _gathered(parts, at, axis, fold)
    if axis.n == 1 and axis.out <= CACHED:
        return _repeated(parts, at, axis, fold)
    return _sliding(parts, at, axis, fold) if axis.spacing == 1 else _spaced(parts, at, axis, fold)


def reducing(shape: tuple[int, ...], at: int, axis: Axis, fold: Fold) -> Step:
    """`along` of a value alone in arrays of this shape, to be kept: where every tap is a slice, nothing is left but those."""
    taps = _slices(shape, at, axis, fold.idempotent)
    if taps is None:
        return lambda parts: along(parts, at, axis, fold)

    def leaf(piece: Any) -> Step:
        return lambda parts: (parts[0][piece],)

    def combine(a: Step, b: Step) -> Step:
        return lambda parts: fold.combine(a(parts), b(parts))

    return tree(taps, axis.kernel, leaf, combine)


def trivial(axis: Axis) -> bool:
    """Whether every cell is a window."""
    return axis.kernel == axis.stride == axis.spacing == 1 and axis.out == axis.n and axis.before == 0 and not axis.shares


def _repeated(parts: Parts, at: int, axis: Axis, fold: Fold) -> Parts:
    """The only cell, in every window that has it."""
    runs = [(covers, len(list(run))) for covers, run in groupby((first_cells(axis) == 0).tolist())]
    if len(runs) > EDGES:
        return _gathered(parts, at, axis, fold)
    shapes = [(*part.shape[:at], axis.out, *part.shape[at + 1 :]) for part in parts]
    whole = tuple(mx.broadcast_to(part, shape) for part, shape in zip(parts, shapes, strict=True))
    return joined([cut(whole, at, 0, n) if covers else filled(parts, at, n, fold.empty) for covers, n in runs], at)


def holes(axis: Axis) -> bool:
    """Whether some window has a tap that is no cell."""
    return not axis.shares and (
        axis.spacing > 1 or axis.before > 0 or (axis.out - 1) * axis.stride - axis.before + axis.extent > axis.n
    )


def first_cells(axis: Axis) -> np.ndarray[Any, Any]:
    """The first cell of every window; -1 where it has none."""
    ranges = axis.ranges()
    if ranges is not None:
        return np.frombuffer(ranges[0], np.int64)
    starts = np.arange(axis.out, dtype=np.int64) * axis.stride - axis.before
    taps = np.maximum(0, -(starts // axis.dilation))
    cells = starts + taps * axis.dilation
    return np.where((taps < axis.kernel) & (cells < axis.n), cells, -1)


def _lanes(parts: Parts, at: int) -> int:
    return _lanes_of(max(part.size for part in parts), parts[0].shape[at])


def _lanes_of(size: int, n: int) -> int:
    """Cells beside each other across the axis, as a power of two."""
    return 1 << (size // max(1, n)).bit_length()


Taps = tuple[tuple[int, int], ...]  # (position in the window, cell)


@lru_cache(maxsize=1024)
def _ends(axis: Axis) -> tuple[int, int, tuple[Taps, ...]] | None:
    """The windows that lie wholly inside, as first and end, and the taps of the others; None where those are many."""
    n, k, stride, dilation, before = axis.n, axis.kernel, axis.stride, axis.dilation, axis.before
    low = min(axis.out, max(0, -(-before // stride)))
    high = max(low, min(axis.out, (n + before - axis.extent) // stride + 1))
    if high == low or low + axis.out - high > EDGES:
        return None
    ends = []
    for o in (*range(low), *range(high, axis.out)):
        start = o * stride - before
        taps = range(max(0, -(start // dilation)), min(k - 1, (n - 1 - start) // dilation) + 1)
        if len(taps) > EDGES:
            return None
        ends.append(tuple((j, start + j * dilation) for j in taps))
    return low, high, tuple(ends)


def _sliding(parts: Parts, at: int, axis: Axis, fold: Fold) -> Parts:
    """Windows at the ends by themselves where they are few; else cells without effect around the axis."""
    n, k, stride, dilation, before, out = axis.n, axis.kernel, axis.stride, axis.dilation, axis.before, axis.out
    lanes, ends = _lanes(parts, at), _ends(axis)
    left, right = max(0, before), max(0, (out - 1) * stride - before + axis.extent - n)
    length = left + n + right
    if ends is not None:
        low, high, edges = ends
        operations = sum(2 * len(taps) for taps in edges)
        if not edges or out * lanes + operations * OPERATION < length * lanes:
            inner = _regular(parts, at, fold, low * stride - before, k, stride, dilation, high - low, lanes)
            pieces = [_edge(parts, at, fold, k, taps) for taps in edges]
            return joined([*pieces[:low], inner, *pieces[low:]], at)
    if length > 2 * (n + out):
        return _gathered(parts, at, axis, fold)
    wide = padded(parts, at, left, right, fold.empty)
    return _regular(wide, at, fold, left - before, k, stride, dilation, out, lanes)


def _slices(shape: tuple[int, ...], at: int, axis: Axis, idempotent: bool) -> tuple[tuple[int, Any], ...] | None:
    """The taps as (position, slice of a part), where _sliding would combine them and do nothing else; None elsewhere."""
    k, out, first = axis.kernel, axis.out, -axis.before
    if axis.shares or axis.spacing > 1 or axis.n == 1 or k > EDGES or _ends(axis) != (0, out, ()):
        return None
    lanes = _lanes_of(prod(shape), axis.n)
    if k > 1 and _choice(k, axis.stride, axis.dilation, out, idempotent, lanes)[1] != "direct":
        return None
    starts = [first + j * axis.dilation for j in range(k)]
    return tuple((j, _piece(at, start, out, axis.stride)) for j, start in enumerate(starts))


def _edge(parts: Parts, at: int, fold: Fold, k: int, taps: Taps) -> Parts:
    """One window."""
    return tree(taps, k, lambda cell: cut(parts, at, cell, 1), fold.combine) if taps else filled(parts, at, 1, fold.empty)


# ---- cells with zeros between them -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Class:
    """Neighbouring outputs, as seen from one source cell q, that read the same cells q + offset in the same order."""

    outputs: int
    taps: tuple[tuple[int, int], ...]  # (position, offset)
    regular: bool  # whether the order is that of a window of len(taps) cells


def _pair(a: Any, b: Any) -> Any:
    return a, b


def _nested(taps: Sequence[tuple[int, int]], size: int) -> Any:
    """The order of adding as nested pairs."""
    leaf: Callable[[int], Any] = int
    return tree(taps, size, leaf, _pair) if taps else None


@lru_cache(maxsize=256)
def _classes(kernel: int, spacing: int, dilation: int) -> tuple[_Class, ...]:
    """Output q * spacing + r - shift for r = 0, 1, ...: which source cells it reads, equal neighbours as one class."""
    extent = dilation * (kernel - 1) + 1
    rows = []
    for r in range(spacing):
        first = next((j for j in range(min(kernel, spacing)) if (r - extent + 1 + j * dilation) % spacing == 0), kernel)
        reach = range(first, kernel, spacing // gcd(spacing, dilation))
        taps = tuple((j, (r - extent + 1 + j * dilation) // spacing) for j in reach)
        rows.append((_nested(taps, kernel), taps))
    classes = []
    for order, group in groupby(rows, key=lambda row: row[0]):
        members = list(group)
        taps = members[0][1]
        plain = _nested([(i, offset) for i, (_, offset) in enumerate(taps)], len(taps))
        classes.append(_Class(len(members), taps, bool(taps) and order == plain))
    return tuple(classes)


def _spaced(parts: Parts, at: int, axis: Axis, fold: Fold) -> Parts:
    """Outputs split by residue: a few small reductions of stride 1, put side by side and merged by a reshape."""
    spacing, m = axis.spacing, (axis.n - 1) // axis.spacing + 1
    few = axis.kernel // spacing * gcd(spacing, axis.dilation)
    if spacing > min(axis.out, 1024) or few > 256:
        return _gathered(parts, at, axis, fold)
    classes, shift = _classes(axis.kernel, spacing, axis.dilation), axis.extent - 1 - axis.before
    start, count = shift // spacing, (axis.out - 1 + shift) // spacing - shift // spacing + 1
    offsets = [offset for group in classes for _, offset in group.taps] or [0]
    left, right = max(0, -start - min(offsets)), max(0, start + count + max(offsets) - m)
    if left + right > 2 * (m + axis.out):
        return _gathered(parts, at, axis, fold)
    wide, lanes = padded(parts, at, left, right, fold.empty), _lanes(parts, at)

    def values(group: _Class) -> Parts:
        if not group.taps:
            return filled(parts, at, count, fold.empty)
        cells = [(j, start + left + offset) for j, offset in group.taps]
        if group.regular:
            step = cells[1][1] - cells[0][1] if len(cells) > 1 else 1
            return _regular(wide, at, fold, cells[0][1], len(cells), 1, step, count, lanes)
        return tree(cells, axis.kernel, lambda first: cut(wide, at, first, count), fold.combine)

    def spread(group: _Class) -> Parts:
        return tuple(
            mx.broadcast_to(mx.expand_dims(part, at + 1), (*part.shape[: at + 1], group.outputs, *part.shape[at + 1 :]))
            for part in values(group)
        )

    merged = joined([spread(group) for group in classes], at + 1)
    shapes = [(*part.shape[:at], count * spacing, *part.shape[at + 2 :]) for part in merged]
    whole = tuple(part.reshape(shape) for part, shape in zip(merged, shapes, strict=True))
    return cut(whole, at, shift - start * spacing, axis.out)


# ---- any windows -----------------------------------------------------------------------------------------------------

Array = np.ndarray[Any, Any]
Level = tuple[int, Array, Array]  # size of its nodes; which nodes of size half(size), and of the rest, they are made of


def _gathered(parts: Parts, at: int, axis: Axis, fold: Fold) -> Parts:
    """All windows' trees, level by level from single cells up, every partial value once."""
    levels, sizes, chosen = cached(_gathers, max(axis.n // axis.spacing, axis.out))(axis)
    nodes = {1: padded(parts, at, 0, int(holes(axis)), fold.empty)}
    for size, left, right in levels:
        nodes[size] = fold.combine(taken(nodes[half(size)], at, left), taken(nodes[size - half(size)], at, right))
    return taken(joined([nodes[size] for size in sizes], at), at, chosen)


@lru_cache(maxsize=64)
def _gathers(axis: Axis) -> tuple[list[Level], list[int], Array]:
    """The levels, small ones first; the sizes of whole windows; the windows among the nodes of those sizes.

    A node is a window's part: `size` positions from a start. Only those with a cell are kept, so that one size never has
    more than about two per window or one per cell; one empty node ends each level where there are holes.
    """
    ranges, d, cells = axis.ranges(), axis.dilation, (axis.n - 1) // axis.spacing + 1
    if ranges is None:
        starts = np.arange(axis.out, dtype=np.int64) * axis.stride - axis.before
        kinds = np.full(axis.out, axis.kernel, np.int64)
    else:
        starts, kinds = (np.frombuffer(part, np.int64) for part in ranges)
    common = gcd(d, axis.spacing)
    period = axis.spacing // common  # of the positions that can hold a cell
    inverse = pow(d // common, -1, period)
    needed: dict[int, Array] = {}

    def occupied(start: Array, size: int) -> Array:
        low = np.maximum(0, -(start // d))
        low += (-(start // common % period) * inverse - low) % period
        found: Array = (low <= np.minimum(size - 1, (axis.n - 1 - start) // d)) & (start % common == 0)
        return found

    def need(start: Array, size: int) -> None:
        start = start[occupied(start, size)]
        needed[size] = np.unique(np.concatenate([needed[size], start]) if size in needed else start)

    def place(start: Array, size: int) -> Array:
        index: Array = start // axis.spacing if size == 1 else np.searchsorted(needed[size], start)
        return np.where(occupied(start, size), index, length(size))

    def length(size: int) -> int:
        return cells if size == 1 else len(needed[size])

    sizes = sorted(set(kinds.tolist()))
    for size in sizes:
        need(starts[kinds == size], size)
    waiting, order = set(sizes) - {1}, []
    while waiting:
        size = max(waiting)
        h = half(size)
        need(needed[size], h)
        need(needed[size] + h * d, size - h)
        waiting = (waiting | {h, size - h}) - {size, 1}
        order.append(size)
    levels = []
    for size in reversed(order):
        h = half(size)
        left, right = place(needed[size], h), place(needed[size] + h * d, size - h)
        if holes(axis):
            left, right = np.append(left, length(h)), np.append(right, length(size - h))
        levels.append((size, left, right))
    chosen, offset = np.zeros(axis.out, np.int64), 0
    for size in sizes:
        chosen[kinds == size] = offset + place(starts[kinds == size], size)
        offset += length(size) + holes(axis)
    return levels, sizes, chosen
