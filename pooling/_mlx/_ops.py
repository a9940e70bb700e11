"""Pooling in MLX's own operations: on any device, under every transformation, without a kernel of our own.

Forward, every axis is reduced by itself (_along). Backward, every cell walks over the windows that cover it, in row-major
order and without atomics (_covers). Nothing here looks at a value, so compile and vmap can trace it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from math import inf, prod
from typing import Any

import mlx.core as mx
import numpy as np

from pooling._dtypes import DTYPES, Types
from pooling._geometry import LIMIT, Axis, Geometry
from pooling._layout import Layout
from pooling._mlx._along import Fold, Parts, along, cut, holes, trivial
from pooling._mlx._arrays import NAMES, TYPES, canonical, divisors, on_cpu, restored, single
from pooling._mlx._convert import convert
from pooling._mlx._covers import View
from pooling._modes import COMBINES, SUM, Reduction

TILES = 2**13, 2**24  # up to so many cells, and from so many bytes
_WHOLE: dict[str, Callable[..., mx.array]] = {"max": mx.max, "min": mx.min}  # sums have an order of their own
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
    """A row's expression as Python code: a ? b : c becomes b if a else c, where a is about numbers, not arrays."""

    def python(text: str) -> str:
        test, _, rest = text.partition(" ? ")
        yes, _, no = rest.partition(" : ")
        return f"({yes}) if ({test}) else ({python(no)})" if rest else text

    return compile(python(expression), expression, "eval")


def _value(expression: str, **names: Any) -> Any:
    """A row's expression on arrays (x, s, a, b, n) and the number p."""
    return eval(_program(expression), {"fabs": mx.abs, "sqrt": mx.sqrt, "pow": _power, "__builtins__": {}}, names)


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
    row = reduction.row
    types = _working(types, reduction)
    plan = _plan(geometry, reduction, types, indexed)
    cells = x if plan.kind == types.cell else x.astype(TYPES[plan.kind])
    if row.cell != "x":
        cells = _value(row.cell, x=cells, p=reduction.p)
    if plan.scaled:
        parts: Parts = (_scaled_norm(x.astype(mx.float32), layout, plan),)
    else:
        parts = _folded(cells, layout, plan)
        if row.finish != "s":
            s = parts[0].astype(TYPES[types.finish])
            n = _divisor(layout, geometry, plan.counted, s) if row.divides else None
            parts = (_value(row.finish, s=s, n=n, p=reduction.p), *parts[1:])
    if plan.kind != types.cell or types.result != types.cell:
        parts = (convert(parts[0].astype(TYPES[types.finish]), types.finish, types.result), *parts[1:])
    return parts


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a reduction does, as far as it follows from the arguments."""

    kind: str  # the type in which cells are combined
    fold: Fold
    order: tuple[tuple[int, Axis], ...]  # of the pooled axes: number among them, and axis
    counted: Reduction
    indexed: bool
    scaled: bool  # whether squares would leave the type's range
    blocks: Callable[..., mx.array] | None  # the operation that reduces whole axes, where windows tile the cells


@lru_cache(maxsize=1024)
def _plan(geometry: Geometry, reduction: Reduction, types: Types, indexed: bool) -> _Plan:
    row = reduction.row
    combine, idempotent = _COMBINES[row.combine], COMBINES[row.combine].idempotent
    own = row.cell == "x" and idempotent  # cells that are compared stay what they are
    kind = types.cell if own else _narrow(types, geometry) if row.arithmetic in ("total", "mean") else types.accumulate
    empty = _identity(row.identity, kind)
    order = [(i, axis) for i, axis in enumerate(geometry.axes) if not trivial(axis)]
    if indexed:
        order = list(enumerate(geometry.axes))[::-1]
        fold = Fold(_chooser(reduction, kind, any(map(holes, geometry.axes))), (empty, -1), True)
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
    blocks = _WHOLE.get(row.combine) if tiled and order and not indexed else None
    return _Plan(kind, fold, tuple(order), _counted(geometry, reduction) if row.divides else reduction, indexed, scaled, blocks)


def _chooser(reduction: Reduction, kind: str, gaps: bool) -> Callable[[Parts, Parts], Parts]:
    """Of two (value, index) pairs the later one where it wins, is NaN, or the earlier one is no cell."""
    combine, second, floating = _COMBINES[reduction.row.combine], COMBINES[reduction.row.combine].second, DTYPES[kind].kind == "f"

    def choose(a: Parts, b: Parts) -> Parts:
        (v, i), (w, j) = a, b
        later = _value(second, a=v, b=w)
        later = mx.logical_or(later, w != w) if floating else later
        later = mx.logical_or(later, i < 0) if gaps else later
        return combine(v, w), mx.where(later, j, i)

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


def _divisor(layout: Layout, geometry: Geometry, reduction: Reduction, like: mx.array) -> mx.array:
    """What the sums are divided by, to be broadcast over a result in the caller's layout."""
    n = divisors(geometry, reduction, like.dtype)
    if n.ndim == 0:
        return n
    ranks = sorted(range(len(layout.pooled)), key=lambda i: layout.pooled[i])
    shape = layout.resized((1,) * like.ndim, geometry.outs)
    return n.reshape(geometry.outs).transpose(ranks).reshape(shape)


def _folded(cells: mx.array, layout: Layout, plan: _Plan) -> Parts:
    """Cells in the caller's layout combined window by window; with the flat index of the chosen cell if asked for."""
    if plan.blocks is not None and _whole(cells, layout):
        return (_tiles(cells, layout, plan),)
    parts: Parts = (cells,)
    if not plan.indexed:
        for i, axis in plan.order:
            parts = along(parts, layout.pooled[i], axis, plan.fold)
        return parts
    dtype = mx.int32 if prod(axis.n for _, axis in plan.order) < LIMIT else mx.int64
    index, weight = mx.broadcast_to(mx.array(0, dtype), cells.shape), 1
    for i, axis in plan.order:  # the first of a row, then of the rows
        at = layout.pooled[i]
        number = (mx.arange(axis.n, dtype=dtype) * weight).reshape([-1 if k == at else 1 for k in range(cells.ndim)])
        index = mx.where(index < 0, index, index + number) if weight > 1 else index + number
        parts = along((parts[0], index), at, axis, plan.fold)
        index, weight = parts[1], weight * axis.n
    return parts


def _whole(cells: mx.array, layout: Layout) -> bool:
    """Whether reducing whole axes at once is the faster way: for few cells, or many beyond a cache and side by side."""
    inner = prod(cells.shape[max(layout.pooled) + 1 :])
    return bool(cells.size <= TILES[0] or (inner >= 32 and cells.nbytes >= TILES[1]))


def _tiles(cells: mx.array, layout: Layout, plan: _Plan) -> mx.array:
    """Windows that tile the cells, as axes of their own."""
    assert plan.blocks is not None
    kernels = {layout.pooled[i]: axis for i, axis in plan.order}
    for at, axis in kernels.items():
        cells = cut((cells,), at, 0, axis.out * axis.kernel)[0]
    shape: list[int] = []
    reduced = []
    for at, n in enumerate(cells.shape):
        if at in kernels:
            shape += [kernels[at].out, kernels[at].kernel]
            reduced.append(len(shape) - 1)
        else:
            shape.append(n)
    return plan.blocks(cells.reshape(shape), reduced)


def _scaled_norm(x: mx.array, layout: Layout, plan: _Plan) -> mx.array:
    """sqrt(sum(x**2)) in float32, where squares leave its range: large, usual and small cells are summed apart (J. L. Blue, 1978).

    A NaN belongs to all three, so that none hides it.
    """
    size, scale, low, high = mx.abs(x), 2.0**90, 2.0**-50, 2.0**50
    large = mx.where(size <= high, 0, size / scale)
    small = mx.where(size >= low, 0, size * scale)
    usual = mx.where((size < low) | (size > high), 0, size)
    large, usual, small = (_folded(part * part, layout, plan)[0] for part in (large, usual, small))
    rest = mx.where(usual > 0, mx.sqrt(usual + small / scale / scale), mx.sqrt(small) / scale)
    return mx.where(large > 0, mx.sqrt(large + usual / scale / scale) * scale, rest)


# ---- backward --------------------------------------------------------------------------------------------------------


def scatter(g: mx.array, indices: mx.array, layout: Layout, geometry: Geometry, types: Types) -> mx.array:
    """Each cell adds, from left to right, the g of the windows that chose it."""
    total = DTYPES[types.cell].sum
    view = View(geometry)
    dtype = mx.int32 if 7 * (geometry.plane + 1) < LIMIT else mx.int64
    wide = mx.where((indices >= 0) & (indices < geometry.plane), indices, -1) if indices.dtype != mx.int32 else indices
    chosen = view.windows(canonical(wide.astype(dtype), layout), -1)
    amounts = view.windows(canonical(g.astype(TYPES[total]), layout), 0)
    result: mx.array | None = None
    for (cell, amount), steps in view.walk((chosen, amounts)):
        part = mx.where(cell == view.numbers(steps, dtype), amount, 0)
        result = part if result is None else result + part
    shape = layout.resized(g.shape, geometry.sizes)
    if result is None:
        return mx.zeros(shape, TYPES[types.cell])
    return restored(convert(view.restored(result), total, types.cell), layout, shape)


def slope(
    g: mx.array, x: mx.array, layout: Layout, geometry: Geometry, reduction: Reduction, types: Types
) -> mx.array:
    """The gradient of lp: over the windows of a cell, the sum of g * sign(x) * (abs(x) / y)**(p - 1)."""
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
    return mx.where((x == 0) | (covered == 0), 0, _sign(x) * _raised(mx.abs(x), power) * total)


def _walked(g: mx.array, x: mx.array, y: mx.array, layout: Layout, geometry: Geometry, power: float) -> mx.array:
    """Window by window: nothing but a quotient that is too large or too small can leave the range."""
    view = View(geometry)
    cells = view.cells(canonical(x, layout))
    size, sign = mx.abs(cells), _sign(cells)
    result: mx.array | None = None
    for (norm, amount), steps in view.walk((view.windows(canonical(y, layout), 0), view.windows(canonical(g, layout), 0))):
        real = (size != 0) & (norm != 0)
        covered = view.covered(steps)
        real = real if covered is None else real & covered
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
    result = mx.where(last < 0, mx.zeros((), x.dtype), found)
    return restored(result, layout, layout.resized(x.shape, sizes))
