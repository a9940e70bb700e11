"""Pooling in MLX's own operations: on any device, under every transformation, without a kernel of our own.

Forward, every axis is reduced by itself (_along). Backward, every cell walks over the windows that cover it, in row-major
order and without atomics (_covers). Nothing here looks at a value, so compile and vmap can trace it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from math import inf, prod
from typing import Any

import mlx.core as mx
import numpy as np

from pooling._dtypes import DTYPES, Types
from pooling._geometry import LIMIT, Axis, Geometry
from pooling._layout import Layout
from pooling._mlx._along import Fold, Parts, along, cut, first_cells, holes, padded, pick, reducing, trivial
from pooling._mlx._arrays import NAMES, TYPES, canonical, divisor, divisors, on_cpu, restored, single
from pooling._mlx._convert import convert
from pooling._mlx._covers import Residues, Taps, View, by_residue
from pooling._modes import COMBINES, SUM, Reduction

TILES = 2**13, 2**24  # up to so many cells, and from so many bytes
_WHOLE: dict[str, Callable[..., mx.array]] = {"max": mx.max, "min": mx.min, "add": mx.sum}
_COMBINES: dict[str, Callable[[mx.array, mx.array], mx.array]] = {"max": mx.maximum, "min": mx.minimum, "add": mx.add}


def why_not() -> str | None:
    """Operations run wherever MLX does."""
    return None


def refuses(x_size: int, y_size: int, types: Types, reduction: Reduction | None) -> str | None:
    """The sentence for a type that the default device lacks: float64 away from the CPU. lp then works in float32."""
    if on_cpu():
        return None
    if reduction is not None and reduction.row.arithmetic == "real":
        types = single(types) if types.cell != "float64" != types.result else types
    if "float64" in (types.cell, types.accumulate, types.finish, types.result):
        return "it needs float64, which MLX has on its CPU device only"
    return None


# ---- a mode's expressions --------------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _program(expression: str) -> Any:
    """A row's expression as a Python function: a ? b : c becomes b if a else c, where a is about numbers, not arrays."""

    def python(text: str) -> str:
        test, _, rest = text.partition(" ? ")
        yes, _, no = rest.partition(" : ")
        return f"({yes}) if ({test}) else ({python(no)})" if rest else text

    names = {"fabs": mx.abs, "sqrt": mx.sqrt, "pow": _power, "__builtins__": {}}
    return eval(f"lambda x=None, s=None, a=None, b=None, n=None, p=None: {python(expression)}", names)


def _value(expression: str, **names: Any) -> Any:
    """A row's expression on arrays (x, s, a, b, n) and the number p."""
    return _program(expression)(**names)


def _power(base: mx.array, exponent: float) -> mx.array:
    return mx.power(base, mx.array(exponent, base.dtype))


def _identity(identity: str, name: str) -> Any:
    """What padding counts as, in an element type."""
    row = DTYPES[name]
    if identity == "zero":
        return 0
    if row.kind == "f":
        return -inf if identity == "lowest" else inf
    if row.kind == "b":
        return identity == "highest"
    limits = np.iinfo(name)
    return np.array(limits.min if identity == "lowest" else limits.max, name)


# ---- forward ---------------------------------------------------------------------------------------------------------


def reduce(
    x: mx.array, layout: Layout, geometry: Geometry, reduction: Reduction, types: Types, indexed: bool
) -> tuple[mx.array, ...]:
    """The values, and the indices if asked for."""
    return _prepared(x.shape, layout, geometry, reduction, _working(types, reduction), indexed)(x)


def prepared(
    shape: tuple[int, ...], layout: Layout, geometry: Geometry, reduction: Reduction, types: Types, indexed: bool
) -> Callable[[mx.array], Parts]:
    """`reduce` of arrays of this shape, to be kept: only what depends on the default device is decided at each call."""
    if reduction.row.arithmetic == "real":
        return lambda x: reduce(x, layout, geometry, reduction, types, indexed)
    return _prepared(shape, layout, geometry, reduction, types, indexed)


@lru_cache(maxsize=1024)
def _prepared(
    shape: tuple[int, ...], layout: Layout, geometry: Geometry, reduction: Reduction, types: Types, indexed: bool
) -> Callable[[mx.array], Parts]:
    """What only makes the operations, in types that the device has. It keeps no array: those belong to a stream and a thread."""
    row, plan, p = reduction.row, _plan(geometry, reduction, types, indexed), reduction.p
    tiled, combined, result = _whole(shape, layout, plan), TYPES[plan.kind], layout.resized(shape, geometry.outs)
    fold = (_tiling if tiled else _folding)(shape, layout, plan)
    cell, finish, wide = _program(row.cell), _program(row.finish), TYPES[types.finish]
    number = divisor(plan.counted, wide) if row.divides else None
    counted, alike, ready = row.divides and number is None, row.cell == "x" and plan.kind == types.cell, plan.kind == types.finish

    def finished(x: mx.array) -> Parts:
        if plan.scaled:
            return (_scaled_norm(x.astype(mx.float32), fold),)
        parts = fold(x if alike else cell(x=x.astype(combined), p=p))
        if row.finish == "s":
            return parts
        n = divisors(geometry, plan.counted, wide, layout) if counted else number
        return (finish(s=parts[0] if ready else parts[0].astype(wide), n=n, p=p), *parts[1:])

    def converted(x: mx.array) -> Parts:
        parts = finished(x)
        return (convert(parts[0].astype(wide), types.finish, types.result), *parts[1:])

    plain = fold if alike and row.finish == "s" else finished
    run = converted if plan.kind != types.cell or types.result != types.cell else plain
    return (lambda x: (mx.reshape(run(x)[0], result),)) if tiled else run


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a reduction does, as far as it follows from the arguments."""

    kind: str  # the type in which cells are combined
    fold: Fold
    order: tuple[tuple[int, Axis], ...]  # of the pooled axes: number among them, and axis
    counted: Reduction
    indexed: bool
    gaps: bool  # whether some windows have taps that are no cells
    scaled: bool  # whether squares would leave the type's range
    blocks: Callable[..., mx.array] | None  # the operation that reduces whole axes, where windows tile the cells


def _plan(geometry: Geometry, reduction: Reduction, types: Types, indexed: bool) -> _Plan:
    row = reduction.row
    combine, idempotent = _COMBINES[row.combine], COMBINES[row.combine].idempotent
    own = row.cell == "x" and idempotent  # cells that are compared stay what they are
    kind = types.cell if own else _narrow(types, geometry) if row.arithmetic in ("total", "mean") else types.accumulate
    empty = _identity(row.identity, kind)
    order = [(i, axis) for i, axis in enumerate(geometry.axes) if not trivial(axis)]
    gaps = any(holes(axis) for _, axis in order)
    if indexed:
        order = list(enumerate(geometry.axes))[::-1]
        fold = Fold(_chooser(reduction, kind), (empty,), True)
    else:
        fold = Fold(lambda a, b: tuple(map(combine, a, b)), (empty,), idempotent)
        if idempotent:  # any order gives the same: the axis first that leaves least
            order.sort(key=lambda item: item[1].out / item[1].n)
    tiled = all(
        not axis.shares and axis.spacing == 1 and axis.stride == axis.kernel and axis.dilation == 1 and axis.before == 0
        and not holes(axis)
        for _, axis in order
    )  # fmt: skip
    scaled = row.arithmetic == "real" and row.combine == "add" and kind == "float32" and reduction.p == 2
    exact = idempotent or all(axis.kernel & (axis.kernel - 1) == 0 for _, axis in order)
    blocks = _WHOLE[row.combine] if tiled and exact and order and not indexed else None
    counted = _counted(geometry, reduction) if row.divides else reduction
    return _Plan(kind, fold, tuple(order), counted, indexed, gaps, scaled, blocks)


def _chooser(reduction: Reduction, kind: str) -> Callable[[Parts, Parts], Parts]:
    """Of two values, each with its positions, the later one where it wins or is NaN."""
    combine, second, floating = _COMBINES[reduction.row.combine], COMBINES[reduction.row.combine].second, DTYPES[kind].kind == "f"

    def choose(a: Parts, b: Parts) -> Parts:
        later = _value(second, a=a[0], b=b[0]).view(mx.uint8)
        later = later + (b[0] != b[0]).view(mx.uint8) if floating else later  # never both; "or" is ten times slower
        return (combine(a[0], b[0]), *(pick(later, j, i) for i, j in zip(a[1:], b[1:], strict=True)))

    return choose


def _working(types: Types, reduction: Reduction) -> Types:
    """lp works in float32 where there is no float64."""
    return single(types) if reduction.row.arithmetic == "real" and not on_cpu() else types


def _narrow(types: Types, geometry: Geometry) -> str:
    """The smallest type that sums exactly: integers need no wider one than the window's volume asks for."""
    cell, total = DTYPES[types.cell], DTYPES[types.accumulate]
    if total.kind == "f" or cell.kind == "f":
        return types.accumulate
    volume = prod(min(axis.kernel, axis.n) for axis in geometry.axes)
    bits = (1 if cell.kind == "b" else 8 * cell.size) + (total.kind == "i" and cell.kind != "i") + (volume - 1).bit_length()
    fitting = (row.name for row in DTYPES.values() if row.kind == total.kind and 8 * row.size >= max(bits, 16))
    return next(fitting, types.accumulate)


def _counted(geometry: Geometry, reduction: Reduction) -> Reduction:
    """The reduction with its divisor said, where all windows have the same."""
    if reduction.divisor is not None:
        return reduction
    counts = [axis.counts(reduction.include_pad) for axis in geometry.axes]
    if any(min(count) != max(count) for count in counts):
        return reduction
    return replace(reduction, divisor=prod(count[0] for count in counts))


def _folding(shape: tuple[int, ...], layout: Layout, plan: _Plan) -> Callable[[mx.array], Parts]:
    """Cells in the caller's layout combined window by window; with the flat index of the chosen cell if asked for."""
    if plan.indexed:
        return lambda cells: _indexed(cells, layout, plan)
    steps = []
    for i, axis in plan.order:
        steps.append(reducing(shape, layout.pooled[i], axis, plan.fold))
        shape = (*shape[: layout.pooled[i]], axis.out, *shape[layout.pooled[i] + 1 :])

    def fold(cells: mx.array) -> Parts:
        parts: Parts = (cells,)
        for step in steps:
            parts = step(parts)
        return parts

    return fold


def _indexed(cells: mx.array, layout: Layout, plan: _Plan) -> Parts:
    """The values and the flat indices."""
    parts: Parts = (cells,)
    for i, axis in plan.order:  # the first of a row, then of the rows
        if _choosing(axis):
            positions = np.arange(axis.n).astype(_position(axis))
            parts = (*parts, _spread(positions, layout.pooled[i], cells.ndim))
        fold = replace(plan.fold, empty=plan.fold.empty + (0,) * (len(parts) - 1))
        parts = along(parts, layout.pooled[i], axis, fold)
    return parts[0], _index(parts, layout, plan)


@lru_cache(maxsize=1024)
def _choosing(axis: Axis) -> bool:
    """Whether windows have several cells to choose from; where not, the first cell is the chosen one."""
    ranges = axis.ranges()
    return axis.n > 1 and (axis.kernel > 1 if ranges is None else max(ranges[1]) > 1)


def _position(axis: Axis) -> str:
    """The type that tells a window's cells apart: positions are kept modulo a power of two, as cells beside each other are."""
    reach = min(axis.n, axis.kernel if axis.shares else axis.extent)
    return "uint8" if reach <= 2**8 else "uint16" if reach <= 2**16 else "uint32"


def _spread(numbers: np.ndarray[Any, Any], at: int, ndim: int) -> mx.array:
    """Numbers along axis `at`, to be broadcast over the others."""
    return mx.array(numbers.reshape([-1 if k == at else 1 for k in range(ndim)]))


def _index(parts: Parts, layout: Layout, plan: _Plan) -> mx.array:
    """The flat index, of the positions along each axis: they count from the window's first cell."""
    dtype, weight = mx.int32 if prod(axis.n for _, axis in plan.order) < LIMIT else mx.int64, 1
    values, ndim = parts[0], parts[0].ndim
    index, nowhere = mx.zeros((1,) * ndim, dtype), mx.zeros((1,) * ndim, mx.bool_)
    base = index
    positions = iter(parts[1:])
    for i, axis in plan.order:
        first = first_cells(axis)
        if _choosing(axis):
            start = _spread(np.maximum(first, 0).astype(_position(axis)), layout.pooled[i], ndim)
            index = index + (next(positions) - start).astype(dtype) * weight
        base = base + _spread(np.maximum(first, 0) * weight, layout.pooled[i], ndim).astype(dtype)
        nowhere = mx.logical_or(nowhere, _spread(first < 0, layout.pooled[i], ndim))
        weight *= axis.n
    index = mx.broadcast_to(index + base, values.shape)
    if plan.gaps:  # where padding was chosen no cell is better, so that the first one is the answer
        index = pick(values == mx.array(plan.fold.empty[0], values.dtype), mx.where(nowhere, -1, base), index)
    return index


def _whole(shape: tuple[int, ...], layout: Layout, plan: _Plan) -> bool:
    """Whether reducing whole axes is possible, and faster: for few cells, or side by side where taps or cells are many."""
    size, inner = prod(shape), prod(shape[max(layout.pooled) + 1 :])
    large = size * DTYPES[plan.kind].size >= TILES[1] or any(axis.kernel > 2 for _, axis in plan.order)
    return plan.blocks is not None and (size <= TILES[0] or (plan.fold.idempotent and inner >= 32 and large))


def _tiling(shape: tuple[int, ...], layout: Layout, plan: _Plan) -> Callable[[mx.array], Parts]:
    """Windows that tile the cells, as axes of their own, which stay with size 1.

    A sum halves them, neighbours first, two cells at a time: that is the order of adding, whatever the device does with more.
    """
    assert plan.blocks is not None
    whole, once, kernels = plan.blocks, plan.fold.idempotent, {layout.pooled[i]: axis for i, axis in plan.order}
    inside, tiles = list(shape), {}
    wide: list[int] = []
    for at, n in enumerate(shape):
        if at not in kernels:
            wide.append(n)
            continue
        k, out = kernels[at].kernel, kernels[at].out
        sizes = [k] if once else [2] * (k.bit_length() - 1)
        inside[at] = out * k
        wide += [out, *sizes]
        tiles[at] = range(len(wide) - len(sizes), len(wide))
    steps = [[i for at in kernels for i in tiles[at]]] if once else [[i] for at in kernels for i in reversed(tiles[at])]
    rest = None if inside == list(shape) else tuple(map(slice, inside))

    def fold(cells: mx.array) -> Parts:
        cells = mx.reshape(cells if rest is None else cells[rest], wide)
        for axes in steps:
            cells = whole(cells, axes, True)
        return (cells,)

    return fold


def _scaled_norm(x: mx.array, fold: Callable[[mx.array], Parts]) -> mx.array:
    """sqrt(sum(x**2)) in float32, which squares may leave: large, usual and small cells are summed apart (J. L. Blue, 1978).

    A NaN belongs to all three, so that none hides it.
    """
    size, scale, low, high = mx.abs(x), 2.0**90, 2.0**-50, 2.0**50
    large = mx.where(size <= high, 0, size / scale)
    small = mx.where(size >= low, 0, size * scale)
    usual = mx.where((size < low) | (size > high), 0, size)
    large, usual, small = (fold(part * part)[0] for part in (large, usual, small))
    rest = mx.where(usual > 0, mx.sqrt(usual + small / scale / scale), mx.sqrt(small) / scale)
    return mx.where(large > 0, mx.sqrt(large + usual / scale / scale) * scale, rest)


# ---- backward --------------------------------------------------------------------------------------------------------


def scatter(g: mx.array, indices: mx.array, layout: Layout, geometry: Geometry, types: Types) -> mx.array:
    """Each cell adds, from left to right, the g of the windows that chose it."""
    total, shape = DTYPES[types.cell].sum, layout.resized(g.shape, geometry.sizes)
    dtype = mx.int32 if 7 * (geometry.plane + 1) < LIMIT else mx.int64
    if indices.dtype != dtype:
        indices = mx.where((indices >= 0) & (indices < geometry.plane), indices, -1).astype(dtype)
    chosen, amounts = canonical(indices, layout), canonical(g.astype(TYPES[total]), layout)
    taps, view = by_residue(geometry), View(geometry)
    apart = view.length == 1 and chosen.shape[-1] >= 16  # every cell in one window at most, and cells to broadcast side by side
    if taps is None or apart or _room(chosen, taps) >= LIMIT:
        result = _walked_choice(chosen, amounts, view)
    else:
        result = _tapped(chosen, amounts, taps)
    if result is None:
        return mx.zeros(shape, TYPES[types.cell])
    return restored(convert(result, total, types.cell), layout, shape)


def _room(chosen: mx.array, taps: tuple[Residues, ...]) -> int:
    """The cells of _tapped's arrays, at most: their flat axis is below 2**31."""
    return int(chosen.shape[0] * chosen.shape[-1] * prod(axis.windows + axis.before + axis.after + axis.reach for axis in taps))


def _tapped(chosen: mx.array, amounts: mx.array, taps: tuple[Residues, ...]) -> mx.array:
    """Tap by tap at the windows' size: cells of one residue, in all blocks, are one accumulator, and all are merged at the end.

    Windows lie in memory with room around them, so that a neighbouring window is the same distance away for all. A window's
    distance from its first tap to its chosen cell names the tap. Flat numbers name no other cell of the plane.
    """
    weight, first = 1, chosen
    for i in (2, 1, 0):
        axis = taps[i]
        starts = (mx.arange(axis.windows, dtype=chosen.dtype) * axis.stride - axis.shift) * weight
        first = first - starts.reshape([-1 if k == i + 1 else 1 for k in range(5)])
        weight *= axis.n
    parts: Parts = (first, amounts)
    for i, axis in enumerate(taps):
        parts = padded(parts, i + 1, axis.before, axis.after, (-(2**30), 0))
    room = parts[0].shape
    strides = [prod(room[i + 1 :]) for i in range(5)]
    reach = sum(axis.reach * strides[i + 1] for i, axis in enumerate(taps))
    tap, amount = padded(tuple(part.reshape(-1) for part in parts), 0, 0, reach, (-(2**30), 0))
    length = prod(room)
    weights = (taps[1].n * taps[2].n, taps[2].n, 1)

    def added(groups: tuple[Taps, ...]) -> mx.array:
        result: mx.array | None = None
        for steps in product(*groups):
            at = sum((axis.reach - back) * strides[i + 1] for i, (axis, (back, _)) in enumerate(zip(taps, steps, strict=True)))
            distance = sum(weight * cells for weight, (_, cells) in zip(weights, steps, strict=True))
            part = pick(tap[at : at + length] == distance, amount[at : at + length])
            result = part if result is None else result + part
        return mx.zeros(room, amount.dtype) if result is None else result.reshape(room)

    def merged(i: int, groups: tuple[Taps, ...]) -> mx.array:
        if i == 3:
            return added(groups)
        pieces = [merged(i + 1, (*groups, group)) for group in taps[i].groups]
        whole = mx.stack(pieces, i + 2) if len(pieces) > 1 else pieces[0]
        whole = whole.reshape(*pieces[0].shape[: i + 1], -1, *pieces[0].shape[i + 2 :])
        return cut((whole,), i + 1, taps[i].skip, taps[i].n)[0]

    return merged(0, ())


def _walked_choice(chosen: mx.array, amounts: mx.array, view: View) -> mx.array | None:
    """Window by window at the cells' size."""
    result: mx.array | None = None
    for (cell, amount), steps in view.walk((view.windows(chosen, -1), view.windows(amounts, 0))):
        hit = cell == view.numbers(steps, chosen.dtype)
        part = pick(hit, amount)
        result = part if result is None else result + part
    return None if result is None else view.restored(result)


def route(g: mx.array, x: mx.array, layout: Layout, geometry: Geometry, reduction: Reduction, types: Types) -> mx.array:
    """The gradient of max and min: to the cells that are chosen, once they are found."""
    return scatter(g, reduce(x, layout, geometry, reduction, types, True)[1], layout, geometry, types)


def slope(g: mx.array, x: mx.array, layout: Layout, geometry: Geometry, reduction: Reduction, types: Types) -> mx.array:
    """The gradient of lp: over the windows of a cell, the sum of g * sign(x) * (abs(x) / y)**(p - 1).

    Without float64 it is lost where a norm leaves float32; the kernel keeps it there.
    """
    types, power = _working(types, reduction), reduction.p - 1
    wide = types.accumulate
    y = reduce(x, layout, geometry, reduction, Types(types.cell, wide, wide, wide), False)[0]
    part = _separate if _separable(types, power) else _walked
    total = part(g.astype(TYPES[wide]), x.astype(TYPES[wide]), y, layout, geometry, power)
    return convert(total, wide, types.cell)


def _separable(types: Types, power: float) -> bool:
    """Whether no power of a cell, of a norm or of their product with g leaves the range of the working type."""
    exponent = {"float16": 24, "bfloat16": 133, "float32": 149, "float64": 1074}[types.cell]
    room = 1022 if types.accumulate == "float64" else 126
    return power == 0 or exponent * (abs(power) + 1) + 64 <= room


def _sign(x: mx.array) -> mx.array:
    """NaN where x is; MLX's is 0 there."""
    return mx.where(x != x, x, mx.sign(x))


def _raised(a: mx.array, power: float) -> mx.array:
    return a if power == 1 else mx.ones_like(a) if power == 0 else _power(a, power)


def _separate(g: mx.array, x: mx.array, y: mx.array, layout: Layout, geometry: Geometry, power: float) -> mx.array:
    """sign(x) * abs(x)**(p - 1) times the sum of g * y**(1 - p)."""
    kind = NAMES[x.dtype]
    kinds, back = Types(kind, kind, kind, kind), geometry.transposed()
    q = mx.where(y == 0, 0, g / _raised(y, power))
    total = reduce(q, layout, back, SUM, kinds, False)[0]
    ones = mx.ones(layout.resized((1,) * y.ndim, geometry.outs), y.dtype)
    covered = reduce(ones, layout, back, SUM, kinds, False)[0]
    return mx.where(mx.logical_or(x == 0, covered == 0), 0, _sign(x) * _raised(mx.abs(x), power) * total)


def _walked(g: mx.array, x: mx.array, y: mx.array, layout: Layout, geometry: Geometry, power: float) -> mx.array:
    """Window by window: nothing but a quotient that is too large or too small can leave the range."""
    view = View(geometry)
    cells = view.cells(canonical(x, layout))
    size, sign = mx.abs(cells), _sign(cells)
    result: mx.array | None = None
    for (norm, amount), steps in view.walk((view.windows(canonical(y, layout), 0), view.windows(canonical(g, layout), 0))):
        real = mx.logical_and(mx.logical_and(size != 0, norm != 0), view.covered(steps))
        part = mx.where(real, amount * sign * _raised(size / norm, power), 0)
        result = part if result is None else result + part
    return mx.zeros_like(x) if result is None else restored(view.restored(result), layout, x.shape)


# ---- unpooling -------------------------------------------------------------------------------------------------------


def unpool(x: mx.array, indices: mx.array, layout: Layout, sizes: tuple[int, ...]) -> mx.array:
    """Zeros with the cells of x where the indices say; the last of duplicates wins.

    The winners are found as the greatest window number per cell, which is the same in whatever order a device writes, and
    then read: no two threads write a value to one place. Skipped windows meet in a cell beyond the plane.
    """
    values, chosen = canonical(x, layout), canonical(indices, layout)
    outer, *windows, inner = values.shape
    m, plane = prod(windows), prod(sizes)
    legal = (chosen >= 0) & (chosen < plane)
    cells = mx.where(legal, chosen, plane).astype(mx.int32 if plane < LIMIT - 1 else mx.int64).reshape(outer, m, inner)
    numbers = mx.broadcast_to(mx.arange(m, dtype=mx.int32).reshape(1, m, 1), cells.shape)
    rows, columns = mx.arange(outer).reshape(-1, 1, 1), mx.arange(inner).reshape(1, 1, -1)
    last = mx.full((outer, plane + 1, inner), -1, mx.int32).at[rows, cells, columns].maximum(numbers)[:, :plane]
    found = mx.take_along_axis(values.reshape(outer, m, inner), mx.maximum(last, 0), axis=1)
    result = pick(last >= 0, found)
    return restored(result, layout, layout.resized(x.shape, sizes))
