"""What MLX's transformations need of pooling: the rules of grad, jvp and vmap, the same for every implementation.

Sums and choices are linear, and come as pairs (apply, adjoint), each of which is the other's gradient: so second and higher
orders, forward or reverse, need nothing more. The p-norm's gradient is not linear in x; its own gradient is that of its
formula, written in differentiable operations. An axis that vmap adds is one more that is carried along.

The functions made here are kept by what they compute, never by arrays: those belong to one stream and one thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import mlx.core as mx

from pooling._dtypes import DTYPES, Types
from pooling._geometry import Geometry
from pooling._layout import Layout
from pooling._mlx._arrays import TYPES, canonical, divisors, restored
from pooling._mlx._convert import convert
from pooling._mlx._implementation import Implementation
from pooling._modes import SUM, Reduction

Arrays = tuple[mx.array, ...]
Function = Callable[..., mx.array]
Forward = Callable[[mx.array], Arrays]  # x -> results
Backward = Callable[[mx.array, mx.array, "mx.array | None"], mx.array]  # grad_output, x, indices -> grad_input
KEPT = 1024


class Problem(NamedTuple):
    """One call but for its arrays: who computes, and what."""

    run: Implementation
    layout: Layout
    geometry: Geometry
    reduction: Reduction
    types: Types
    working: str  # the type in which the p-norm's gradients are summed, on the device of this call

    def values(self, x: mx.array) -> mx.array:
        """Pools x, inside a function with rules of its own."""
        return self.run.reduce(x, self.layout, self.geometry, self.reduction, self.types, False)[0]

    def reduce(self, x: mx.array, types: Types | None = None, indexed: bool = False) -> Arrays:
        """Pools x; no gradient passes through."""
        x = mx.stop_gradient(x)
        return self.run.reduce(x, self.layout, self.geometry, self.reduction, types or self.types, indexed)

    def mapped(self) -> Problem:
        """The same call on arrays with one more carried axis in front."""
        return self._replace(layout=_mapped(self.layout))


_DOUBLE = Types(*("float64",) * 4)


def working(run: Implementation, reduction: Reduction) -> str:
    """For the p-norm, float64 where the implementation has it here and now: the default device may change between two calls."""
    return "float32" if reduction.row.arithmetic != "real" or run.refuses(1, 1, _DOUBLE, None) else "float64"


def _mapped(layout: Layout) -> Layout:
    pooled, carried = (tuple(i + 1 for i in positions) for positions in (layout.pooled, layout.carried))
    return Layout("*" + layout.letters, pooled, (0, *carried))


@lru_cache(maxsize=KEPT)
def pooled(*problem: Any) -> Forward:
    """The differentiable function x -> (values,) of a call."""
    apply = _RULES[problem[3].row.gradient](Problem(*problem))[0]
    return lambda x: (apply(x),)


@lru_cache(maxsize=KEPT)
def indexed(*problem: Any) -> Forward:
    """The differentiable function x -> (values, indices) of a call."""
    this = Problem(*problem)
    scatter, gather = _chosen(this)

    def forward(x: mx.array) -> Arrays:
        values, indices = this.reduce(x, indexed=True)
        return values, indices.astype(mx.int64)

    def jvp(x: Any, tangents: Any) -> Arrays:
        indices = this.reduce(_first(x), indexed=True)[1].astype(mx.int64)
        return gather(_first(tangents), indices), mx.zeros_like(indices)

    function = _custom(
        forward,
        vjp=lambda x, cotangents, outputs: scatter(cotangents[0], mx.stop_gradient(outputs[1])),
        jvp=jvp,
        mapped=lambda: indexed(*this.mapped()),
    )
    return lambda x: tuple(function(x))


@lru_cache(maxsize=KEPT)
def gradient(*problem: Any) -> Backward:
    """The differentiable function (grad_output, x, indices or None) -> grad_input of a call."""
    return _RULES[problem[3].row.gradient](Problem(*problem))[1]


@lru_cache(maxsize=KEPT)
def unpooled(run: Implementation, layout: Layout, sizes: tuple[int, ...]) -> Function:
    """The differentiable function (x, indices) -> x's cells where their indices say."""
    return _unpool_pair(run, layout, sizes)[0]


# ---- functions with rules ------------------------------------------------------------------------------------


def _custom(function: Callable[..., Any], vjp: Any, jvp: Any, mapped: Callable[[], Callable[..., Any]]) -> Any:
    """The function with its rules; `mapped` makes the one that takes a further axis in front of every array."""

    def vmap(inputs: Any, places: Any) -> Any:
        pairs = list(zip(inputs, places, strict=True)) if isinstance(inputs, tuple) else [(inputs, places)]
        size = next(x.shape[i] for x, i in pairs if i is not None)
        result = mapped()(*(mx.broadcast_to(x[None], (size, *x.shape)) if i is None else mx.moveaxis(x, i, 0) for x, i in pairs))
        return result, (0,) * len(result) if isinstance(result, tuple) else 0

    made: Any = mx.custom_function(function)
    made.vjp(vjp)
    made.jvp(jvp)
    made.vmap(vmap)
    return made


def _pair(apply: Function, adjoint: Function, mapped: Callable[[], tuple[Function, Function]]) -> tuple[Function, Function]:
    """Two linear functions of their first argument, each the other's adjoint; a second argument is an array of integers."""
    pair: list[Any] = []

    def rules(i: int, function: Function) -> Any:
        def vjp(primals: Any, cotangent: mx.array, _: Any) -> Any:
            rest = _rest(primals)
            back = pair[1 - i](cotangent, *rest)
            return (back, *map(mx.zeros_like, rest)) if rest else back

        def jvp(primals: Any, tangents: Any) -> mx.array:
            result: mx.array = pair[i](_first(tangents), *_rest(primals))
            return result

        return _custom(function, vjp, jvp, lambda: mapped()[i])

    pair += [rules(0, apply), rules(1, adjoint)]
    return pair[0], pair[1]


def _first(arrays: Any) -> mx.array:
    """The first argument: MLX hands a single one over bare."""
    first: mx.array = arrays if isinstance(arrays, mx.array) else arrays[0]
    return first


def _rest(arrays: Any) -> Arrays:
    return () if isinstance(arrays, mx.array) else tuple(map(mx.stop_gradient, arrays[1:]))


# ---- along indices -------------------------------------------------------------------------------------------


def _gathered(x: mx.array, indices: mx.array, layout: Layout, dtype: mx.Dtype) -> mx.array:
    """The cells of x that indices name, 0 for -1: the adjoint of a scatter."""
    flat, chosen = canonical(x, layout), canonical(indices, layout)
    flat = flat.reshape(flat.shape[0], -1, flat.shape[-1])
    places = chosen.reshape(chosen.shape[0], -1, chosen.shape[-1])
    cells = mx.take_along_axis(flat, mx.maximum(places, 0), axis=1)
    cells = mx.where(places < 0, mx.zeros((), cells.dtype), cells).astype(dtype)
    return restored(cells.reshape(chosen.shape), layout, tuple(indices.shape))


def _chosen(this: Problem) -> tuple[Function, Function]:
    """(g, indices) -> gradient to the indexed cells, and its adjoint."""
    cell, result = TYPES[this.types.cell], TYPES[this.types.result]

    def scatter(g: mx.array, indices: mx.array) -> mx.array:
        g, indices = mx.stop_gradient(g).astype(cell), mx.stop_gradient(indices)
        return this.run.scatter(g, indices, this.layout, this.geometry, this.types)

    def gather(x: mx.array, indices: mx.array) -> mx.array:
        return _gathered(mx.stop_gradient(x), mx.stop_gradient(indices), this.layout, result)

    return _pair(scatter, gather, lambda: _chosen(this.mapped()))


def _routed(this: Problem) -> tuple[Function, Function]:
    """(g, x) -> gradient to the cells of x that were chosen, and its adjoint. Both are linear in the first, constant in x."""
    cell = TYPES[this.types.cell]
    kinds = replace(this.types, finish=this.types.accumulate, result=this.types.accumulate)

    def route(g: mx.array, x: mx.array) -> mx.array:
        g, x = mx.stop_gradient(g).astype(cell), mx.stop_gradient(x)
        return this.run.route(g, x, this.layout, this.geometry, this.reduction, kinds)

    def gather(t: mx.array, x: mx.array) -> mx.array:
        indices = this.reduce(x, kinds, indexed=True)[1]
        return _gathered(mx.stop_gradient(t), indices, this.layout, TYPES[this.types.result])

    return _pair(route, gather, lambda: _routed(this.mapped()))


def _unpool_pair(run: Implementation, layout: Layout, sizes: tuple[int, ...]) -> tuple[Function, Function]:
    def scatter(x: mx.array, indices: mx.array) -> mx.array:
        return run.unpool(mx.stop_gradient(x), mx.stop_gradient(indices), layout, sizes)

    def gather(g: mx.array, indices: mx.array) -> mx.array:
        """Of duplicates, all but the last were overwritten and have no gradient: places tell which was the last."""
        indices = mx.stop_gradient(indices)
        cells = canonical(indices, layout)
        places = mx.arange(1, cells[0, ..., 0].size + 1, dtype=mx.int64).reshape(1, *cells.shape[1:4], 1)
        places = restored(mx.broadcast_to(places, cells.shape), layout, tuple(indices.shape))
        last = _gathered(run.unpool(places, indices, layout, sizes), indices, layout, mx.int64)
        return _gathered(mx.stop_gradient(g), mx.where(last == places, indices, -1), layout, g.dtype)

    return _pair(scatter, gather, lambda: _unpool_pair(run, _mapped(layout), sizes))


# ---- one rule per kind of gradient: the differentiable functions x -> values and (g, x, indices) -> gradient --------


def _share(this: Problem) -> tuple[Function, Backward]:
    """sum and avg: to every cell alike, the sum over the windows that cover it of g over their divisors."""
    apply, adjoint = _sums(this)
    return apply, lambda g, x, indices: adjoint(g)


def _sums(this: Problem) -> tuple[Function, Function]:
    accumulate = DTYPES[this.types.cell].sum
    kinds = Types(accumulate, accumulate, accumulate, this.types.cell)

    def adjoint(g: mx.array) -> mx.array:
        g = mx.stop_gradient(g).astype(TYPES[accumulate])
        if this.reduction.row.divides:
            g = g / divisors(this.geometry, this.reduction, TYPES[accumulate], this.layout)
        return this.run.reduce(g, this.layout, this.geometry.transposed(), SUM, kinds, False)[0]

    return _pair(this.values, adjoint, lambda: _sums(this.mapped()))


def _choice(this: Problem) -> tuple[Function, Backward]:
    """max and min: to the cell that a window chose; for the p-norm with p = inf, by its sign."""
    signed = this.reduction.row.cell != "x"
    wide = this._replace(types=replace(this.types, cell=this.working, result=this.working)) if signed else this
    scatter, gather = _chosen(wide)
    route, _ = _routed(this)
    kinds = replace(this.types, finish=this.types.accumulate, result=this.types.accumulate)

    def choose(x: mx.array) -> mx.array:
        values, indices = this.reduce(x, kinds, indexed=True)
        return mx.where(values != values, -1, indices) if signed else indices  # no cell's absolute value equals a NaN

    def sign(x: mx.array, like: mx.Dtype) -> mx.array:
        x = mx.stop_gradient(x)
        return mx.where(x > 0, 1, mx.where(x < 0, -1, 0)).astype(like)

    def back(g: mx.array, x: mx.array, indices: mx.array | None) -> mx.array:
        if indices is None and not signed:
            return route(g, x)
        indices = choose(x) if indices is None else indices
        if not signed:
            return scatter(g, indices)
        grad = scatter(g.astype(TYPES[this.working]), indices)
        return convert(grad * sign(x, grad.dtype), this.working, this.types.cell)

    def jvp(x: Any, tangents: Any) -> mx.array:
        x, tangent = _first(x), _first(tangents)
        tangent = tangent * sign(x, tangent.dtype) if signed else tangent
        return gather(tangent, choose(x)).astype(TYPES[this.types.result])

    apply = _custom(
        this.values,
        vjp=lambda x, cotangent, _: back(cotangent, x, None),
        jvp=jvp,
        mapped=lambda: _choice(this.mapped())[0],
    )
    return apply, back


def _slope(this: Problem) -> tuple[Function, Backward]:
    """The p-norm: sign(x) |x|**(p-1) times the sum, over the windows that cover the cell, of g y**(1-p)."""
    apply, back = _norm(this)
    return apply, lambda g, x, indices: back(g, x)


def _norm(this: Problem) -> tuple[Function, Function]:
    p, cell, work = this.reduction.p, TYPES[this.types.cell], this.working
    wide = this._replace(types=Types(work, work, work, work))
    total, spread = _sums(wide._replace(reduction=SUM))

    def power(x: mx.array, q: float) -> mx.array:
        """|x|**q, and 0 with a gradient of 0 where x is 0."""
        size = mx.abs(x)
        safe = mx.where(size == 0, mx.ones((), size.dtype), size)
        return mx.where(size == 0, mx.zeros((), size.dtype), safe**q)

    def norms(x: mx.array) -> mx.array:
        return pooled(*wide)(x)[0]

    def formula(g: mx.array, x: mx.array) -> mx.array:
        g, x = g.astype(TYPES[work]), x.astype(TYPES[work])
        return (mx.sign(x) * power(x, p - 1) * spread(g * power(norms(x), 1 - p))).astype(cell)

    def tangent(x: Any, tangents: Any) -> mx.array:
        x, t = _first(x).astype(TYPES[work]), _first(tangents).astype(TYPES[work])
        return (power(norms(x), 1 - p) * total(mx.sign(x) * power(x, p - 1) * t)).astype(TYPES[this.types.result])

    def slope(g: mx.array, x: mx.array) -> mx.array:
        g, x = mx.stop_gradient(g).astype(cell), mx.stop_gradient(x)
        return this.run.slope(g, x, this.layout, this.geometry, this.reduction, this.types)

    back = _custom(
        slope,
        vjp=lambda primals, cotangent, _: tuple(mx.vjp(formula, list(primals), [cotangent])[1]),
        jvp=lambda primals, tangents: mx.jvp(formula, list(primals), list(tangents))[1][0],
        mapped=lambda: _norm(this.mapped())[1],
    )
    apply = _custom(
        this.values,
        vjp=lambda x, cotangent, _: back(cotangent, x),
        jvp=tangent,
        mapped=lambda: _norm(this.mapped())[0],
    )
    return apply, back


_RULES: dict[str, Callable[[Problem], tuple[Function, Backward]]] = {"share": _share, "choice": _choice, "slope": _slope}
