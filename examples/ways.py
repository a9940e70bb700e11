"""What a library may do instead of what the specification says: pooling by the definition, in other ways.

as_if(call, ways) gives the cells that a call would have if it were computed in these ways; without any it gives what the oracle
gives. A departure is explained where a library's cells are those of some ways, cell by cell. Sums are taken in float64 here,
so without a way of adding they are the oracle's where that is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, NamedTuple

import numpy as np

from pooling.testing import lp_bound, lp_gradient_bound, oracle

Array = np.ndarray
FLOATS = ("float16", "bfloat16", "float32", "float64")


def letters(layout: str, ndim: int) -> str:
    """An order of axes, in letters."""
    pooled = "DHW"[5 - ndim :] if ndim > 3 else "L"
    return {"channels_last": f"N{pooled}C", "channels_first": f"NC{pooled}"}.get(layout, layout)


@dataclass(frozen=True, eq=False)
class Call:
    """A call of one of pooling's functions."""

    name: str
    function: str
    layout: str
    arrays: Mapping[str, Array]
    arguments: Mapping[str, Any]
    features: frozenset[str] = frozenset()

    answer: Callable[[], tuple[Array, ...]] | None = None  # where it has been computed

    @classmethod
    def of(cls, golden: Any) -> Call:
        """That of a case of pooling.testing."""
        arrays, arguments = golden.arrays, golden.arguments
        return cls(golden.name, golden.function, golden.layout, arrays, arguments, golden.features, lambda: golden.expected)

    @property
    def x(self) -> Array:
        return self.arrays["x"]

    @property
    def mode(self) -> str:
        return str(self.arguments.get("mode", "max"))

    @property
    def dtype(self) -> str:
        return str(self.x.dtype.name)

    @property
    def backward(self) -> bool:
        return self.function.endswith("_backward")

    @property
    def adaptive(self) -> bool:
        return self.function.startswith("adaptive")

    @property
    def axes(self) -> list[int]:
        """The pooled axes of x, in the order of the arguments for each axis."""
        order = letters(self.layout, self.x.ndim)
        return [order.index(letter) for letter in "DHWL" if letter in order]

    @property
    def rank(self) -> int:
        return len(self.axes)

    @property
    def sizes(self) -> list[int]:
        return [self.x.shape[axis] for axis in self.axes]

    def each(self, name: str, default: Any = None) -> tuple[Any, ...]:
        """An argument, one value for each pooled axis."""
        value = self.arguments.get(name, default)
        return tuple(value) if np.ndim(value) and len(value) else (value,) * self.rank

    @property
    def stride(self) -> tuple[int, ...]:
        given = self.arguments.get("stride")
        return self.each("kernel" if given is None or (np.ndim(given) and not len(given)) else "stride")

    @property
    def padding(self) -> str | tuple[tuple[int, int], ...]:
        """The word "same" or "same_lower", or (before, after) for each axis."""
        given = self.arguments.get("padding", 0)
        if isinstance(given, str) and given != "valid":
            return given
        own = self.each("padding", 0) if given != "valid" else (0,) * self.rank
        return tuple(tuple(sides) if np.ndim(sides) else (sides, sides) for sides in own)

    @cached_property
    def expected(self) -> tuple[Array, ...]:
        """What the oracle gives."""
        if self.answer is not None:
            return self.answer()
        result = getattr(oracle, self.function)(**self.arrays, **self.arguments)
        return result if isinstance(result, tuple) else (result,)


# ---- windows ---------------------------------------------------------------------------------------------------------


class Windows(NamedTuple):
    """The windows of a call in row-major order."""

    shape: tuple[int, ...]
    cells: Array  # (windows, slots): flat cells of the plane, row-major; -1 for a slot without one
    divisors: Array  # (windows,)
    volume: Array  # (windows,): all taps, in the data or not


class Axis(NamedTuple):
    """A window along one axis."""

    taps: Sequence[int]  # its cells; -1 is a tap outside of the data, where those are wanted too
    padded: int  # taps inside the padded extent
    size: int  # all taps


def one_axis(n: int, k: int, s: int, before: int, after: int, d: int, ceil_mode: bool, outside: bool) -> list[Axis]:
    """The windows of an axis."""
    reach = d * (k - 1) + 1
    starts = [-before + s * o for o in range((n + before + after - reach) // s + 1)]
    if ceil_mode and starts[-1] + reach < n + after and starts[-1] + s < n:
        starts.append(starts[-1] + s)
    found = []
    for start in starts:
        first, last = max(0, -(start // d)), min(k - 1, (n - 1 - start) // d)
        taps: Sequence[int] = range(start + first * d, start + last * d + 1, d)
        if outside:
            taps = [start + j * d if first <= j <= last else -1 for j in range(k)]
        found.append(Axis(taps, min(k, (n + after - 1 - start) // d + 1), k))
    return found


def sides(n: int, k: int, s: int, d: int, word: str, undilated: bool) -> tuple[int, int]:
    """The padding that "same" means."""
    total = max((-(-n // s) - 1) * s + (k if undilated else d * (k - 1) + 1) - n, 0)
    small, large = total // 2, total - total // 2
    return (large, small) if word == "same_lower" else (small, large)


def windows_of(call: Call, ways: Mapping[str, Any]) -> Windows:
    along: list[list[Axis]] = []
    counted = "data"
    if call.adaptive:
        for n, given in zip(call.sizes, call.each("output_size"), strict=True):
            out = n if given is None else given
            spans = [range(o * n // out, -(-(o + 1) * n // out)) for o in range(out)]
            along.append([Axis(span, len(span), len(span)) for span in spans])
    else:
        counted = ways.get("count", "padded" if call.arguments.get("count_include_pad", True) else "data")
        kernel, stride, dilation, padding = call.each("kernel"), call.stride, call.each("dilation", 1), call.padding
        for i, n in enumerate(call.sizes):
            k, s, d = kernel[i], stride[i], dilation[i]
            pads = sides(n, k, s, d, padding, "same" in ways) if isinstance(padding, str) else padding[i]
            ceil_mode = call.arguments.get("ceil_mode", False) and not isinstance(padding, str)
            along.append(one_axis(n, k, s, *pads, d, ceil_mode, "outside" in ways))
    cells, divisors, volume = np.zeros((1, 1), np.int64), np.ones(1), np.ones(1)
    for n, own in zip(call.sizes, along, strict=True):
        table = np.full((len(own), max([1, *(len(window.taps) for window in own)])), -1, np.int64)
        for o, window in enumerate(own):
            table[o, : len(window.taps)] = window.taps
        left, right = cells[:, None, :, None], table[None, :, None, :]
        joint = np.where((left < 0) | (right < 0), -1, left * n + right)
        cells = joint.reshape(joint.shape[0] * joint.shape[1], joint.shape[2] * joint.shape[3])
        columns = {
            "data": [len(window.taps) for window in own],
            "padded": [window.padded for window in own],
            "kernel": [window.size for window in own],
        }
        divisors = np.multiply.outer(divisors, np.array(columns[counted], float)).ravel()
        volume = np.multiply.outer(volume, np.array(columns["kernel"], float)).ravel()
    override = call.arguments.get("divisor_override")
    return Windows(
        tuple(map(len, along)), cells, divisors if override is None else np.full(len(divisors), float(override)), volume
    )


def covering(windows: Windows, plane: int) -> Array:
    """(cells, most): for every cell of the plane the windows over it, row-major; -1 fills."""
    found: list[list[int]] = [[] for _ in range(plane)]
    for window, row in enumerate(windows.cells):
        for cell in row[row >= 0]:
            found[cell].append(window)
    table = np.full((plane, max([1, *map(len, found)])), -1, np.int64)
    for cell, own in enumerate(found):
        table[cell, : len(own)] = own
    return table


# ---- types -----------------------------------------------------------------------------------------------------------


def limits(dtype: Any) -> Any:
    """np.finfo, of bfloat16 too."""
    if np.dtype(dtype).name == "bfloat16":
        import ml_dtypes

        return ml_dtypes.finfo(dtype)
    return np.finfo(dtype)


def lowest(dtype: Any, mode: str, finite: bool = False) -> Any:
    """What loses against every other value in mode "max", or "min"."""
    if dtype.kind == "b":
        return mode == "min"
    if dtype.kind in "iu":
        return np.iinfo(dtype).min if mode == "max" else np.iinfo(dtype).max
    size = float(limits(dtype).max) if finite else np.inf
    return -size if mode == "max" else size


# ---- the modes -------------------------------------------------------------------------------------------------------


class Near(NamedTuple):
    """Cells, and how far from each a result may be; a bound that is inf or NaN leaves the cell open."""

    cells: Array
    bound: Array
    dtype: Any = None  # of the result; None for the oracle's


class Plane(NamedTuple):
    """A call whose pooled axes are one, and whose carried axes are one."""

    call: Call
    windows: Windows
    x: Array  # (plane, carried)

    def flat(self, array: Array) -> Array:
        moved = np.moveaxis(array, self.call.axes, range(self.call.rank))
        return moved.reshape(prod(moved.shape[: self.call.rank]), prod(moved.shape[self.call.rank :]))

    def back(self, y: Array, sizes: Sequence[int] | None = None) -> Array:
        """(any, carried) in the call's layout: windows, or as many as sizes say."""
        axes = self.call.axes
        carried = [n for axis, n in enumerate(self.call.x.shape) if axis not in axes]
        y = y.reshape(*(self.windows.shape if sizes is None else sizes), *carried)
        return np.moveaxis(y, range(len(axes)), axes)

    @property
    def g(self) -> Array:
        return self.flat(self.call.arrays["grad_output"])


def as_if(call: Call, ways: Mapping[str, Any]) -> tuple[Array | Near, ...]:
    """What the call would give if it were computed in these ways."""
    if call.function == "max_unpool":
        return call.expected
    with np.errstate(all="ignore"):
        plane = Plane(call, windows_of(call, ways), np.zeros((0, 0)))
        x = plane.flat(call.x)
        plane = plane._replace(x=_stopped(x, ways))
        kind = {"max": "extremes", "min": "extremes", "lp": f"{ways.get('powers', 'no')} powers"}.get(call.mode, "sums")
        maker = MAKERS.get((kind, call.backward))
        return call.expected if maker is None else maker(plane, ways)


def _stopped(x: Array, ways: Mapping[str, Any]) -> Array:
    """The cells after a stop at a narrower type, or at two."""
    if "cut" in ways:
        x = x.astype(np.int64).astype(ways["cut"])
    if "stop" not in ways:
        return x
    narrow = np.dtype(ways["stop"])
    top = float(limits(narrow).max)
    return np.clip(x, -top, top).astype(narrow) if x.dtype.name in FLOATS else x.astype(narrow)


def _restored(values: Array, dtype: np.dtype[Any]) -> Array:
    """Back in the cells' type: integers saturate, at the last one that a float32 holds."""
    if dtype.kind in "iu" and values.dtype.kind == "f":
        least, most = (int(end) for end in (np.iinfo(dtype).min, np.iinfo(dtype).max))
        top = np.float32(most) if int(np.float32(most)) <= most else np.nextafter(np.float32(most), np.float32(0))
        return np.clip(values, np.float32(least), top).astype(dtype)
    return values.astype(dtype)


def _extremes(plane: Plane, ways: Mapping[str, Any]) -> tuple[Array, Array]:
    """Values and cells (windows, carried), looking at one cell of each window after the other."""
    x, mode = plane.x, plane.call.mode
    wide = x.astype(np.float32) if x.dtype.name in ("float16", "bfloat16") else x
    shape = (len(plane.windows.cells), x.shape[1])
    best, chosen = np.full(shape, lowest(x.dtype, mode, ways.get("start") == "finite")).astype(wide.dtype), np.full(shape, -1)
    if "pad" in ways:  # the value of a cell in the padding
        outside = ((plane.windows.cells >= 0).sum(1) < plane.windows.volume)[:, None]
        best = np.where(outside, np.array(ways["pad"]).astype(wide.dtype), best)
    rest, first = {"unmoved", "pad", "start", "outside"} & set(ways), True
    for slot in plane.windows.cells.T:
        real = (slot >= 0)[:, None] | ("outside" in ways)
        value = np.where((slot >= 0)[:, None], wide[slot], np.array(lowest(x.dtype, mode)).astype(wide.dtype))
        with np.errstate(invalid="ignore"):
            take = value > best if mode == "max" else value < best
        take |= (value == best) & (ways.get("ties") == "last")
        if not rest:
            take |= chosen < 0
        nan, held = value != value, best != best
        take = {
            "last": nan | (take & ~held),
            "ignored": ~nan & (take | held),
            "compared": take,
            "forgotten": nan | held | take | (first and "outside" in ways),
        }[ways.get("nan", "last")]
        best, chosen = np.where(take & real, value, best), np.where(take & real, slot[:, None], chosen)
        first = False
    if "unmoved" in ways:  # the index of a window where nothing won against the start
        depth = prod(plane.call.sizes[1:])
        chosen = np.where(chosen < 0, plane.windows.cells[:, :1] % depth if ways["unmoved"] == "depth" else 0, chosen)
    return best.astype(x.dtype), chosen


def _extreme_values(plane: Plane, ways: Mapping[str, Any]) -> tuple[Array | Near, ...]:
    call = plane.call
    if ways.get("nan") == "open":
        values = _extremes(plane, {**ways, "nan": "ignored"})[0].astype(np.float64)
        lost = np.zeros(values.shape, bool)
        for slot in plane.windows.cells.T:
            lost |= (slot >= 0)[:, None] & np.isnan(plane.x[slot].astype(np.float64))
        return (Near(plane.back(values), plane.back(np.where(lost, np.nan, 0))),)
    values, chosen = _extremes(plane, ways)
    values = _restored(values, np.dtype(ways.get("cut", call.x.dtype))).astype(call.x.dtype)
    result = plane.back(values)
    if not call.arguments.get("return_indices"):
        return (result,)
    if ways.get("index") == "whole":
        chosen = chosen + np.arange(chosen.shape[1]) * len(plane.x)
    return result, plane.back(chosen)


def _extreme_gradient(plane: Plane, ways: Mapping[str, Any]) -> tuple[Array | Near, ...]:
    x, g, windows = plane.x, plane.g.astype(np.float64), plane.windows
    total, size, many = (np.zeros(x.shape) for _ in range(3))
    carried = np.broadcast_to(np.arange(x.shape[1]), g.shape)

    def add(cells: Array, parts: Array, where: Array) -> None:
        at = cells[where], carried[where]
        for sums, terms in ((total, parts), (size, np.abs(parts)), (many, np.ones(parts.shape))):
            np.add.at(sums, at, terms[where])

    if ways.get("ties") == "split":
        values = np.where(windows.cells[..., None] < 0, np.nan, x.astype(np.float64)[windows.cells])
        real = windows.cells[..., None] >= 0
        least = -np.inf if plane.call.mode == "max" else np.inf
        padded = np.where(real, values, least)
        extreme = padded.max(1, keepdims=True) if plane.call.mode == "max" else padded.min(1, keepdims=True)
        equal = real & (padded == extreme)
        beside = (plane.windows.volume - real[..., 0].sum(1))[:, None, None] * (extreme == least)  # padding is such a cell too
        shares = np.where(real, equal / (equal.sum(1, keepdims=True) + beside), 0)
        for slot in range(windows.cells.shape[1]):
            cells = np.broadcast_to(windows.cells[:, slot, None], g.shape)
            add(cells, shares[:, slot] * g, (cells >= 0) & (shares[:, slot] != 0))
    else:
        chosen = _extremes(plane, ways)[1]
        add(chosen, g, chosen >= 0)
    return (_rounded(plane, Sum(total, size, many), np.ones(1), plane.call.sizes, ways),)


class Sum(NamedTuple):
    """Sums (any, carried) in float64, the sums of the terms' sizes, and how many terms there are."""

    total: Array
    size: Array
    many: Array


def _sum(x: Array, taps: Array, working: Any = np.float64) -> Sum:
    """Over the taps (any, slots) of x, one after the other."""
    total, size = np.zeros((len(taps), x.shape[1]), working), np.zeros((len(taps), x.shape[1]))
    x = x.astype(working)
    for slot in taps.T if len(x) else ():
        part = np.where((slot >= 0)[:, None], x[slot], np.zeros((), working))
        total, size = total + part, size + np.where(np.isfinite(part.astype(float)), np.abs(part.astype(float)), 0)
    return Sum(total, size, np.broadcast_to((taps >= 0).sum(1)[:, None], total.shape))


def _working(plane: Plane, ways: Mapping[str, Any]) -> Any:
    """The type in which sums are made: the specification's, or the narrower own one."""
    own = plane.call.x.dtype
    narrow = ways.get("adds") == "own" and own.name in FLOATS
    return own if (own.name == "float64" and "stop" not in ways) or narrow else np.dtype(np.float32)


def _sums(plane: Plane, ways: Mapping[str, Any]) -> tuple[Array | Near, ...]:
    own, average = plane.call.x.dtype, plane.call.mode == "avg"
    whole = own.name not in FLOATS
    x = plane.x
    divisors = plane.windows.divisors if average else np.ones(1)
    if whole and ways.get("wrap") == "saturates":  # in some order: a saturated sum over the cells, or anything nearer to 0
        count = (plane.windows.cells >= 0).sum(1)[:, None] * np.ones(x.shape[1])
        return (Near(plane.back(0 * count), plane.back(min(float(np.iinfo(own).max), 2.0**31) / np.maximum(count, 1) + 1), own),)
    if whole and ways.get("result") == "own":
        if "stop" in ways:  # an average of float32 cells, rounded: their sum may be off
            added = _sum(x, plane.windows.cells)
            values = _restored(np.rint(added.total / divisors[:, None]), np.dtype(ways.get("cut", own))).astype(np.float64)
            bound = 1 + added.size / divisors[:, None] * (added.many + 3) * 2.0**-23
            return (Near(plane.back(values), plane.back(bound), own),)
        total, by = _sum(x, plane.windows.cells, np.int64).total, np.maximum(divisors[:, None], 1).astype(np.int64)
        total = total.astype(ways["wrap"]).astype(np.int64) if "wrap" in ways else total
        down = total // by
        if ways.get("whole") == "trunc":
            return (plane.back((down + ((total < 0) & (down * by != total))).astype(own)),)
        return (plane.back(np.rint(total / by).astype(own)),)
    if whole and (not average or "wrap" in ways):
        kind = np.dtype(ways.get("wrap", "uint64" if own.kind == "u" else "int64"))
        wide = np.uint64 if kind.kind == "u" else np.int64
        total = _sum(x, plane.windows.cells, wide).total.astype(kind)
        if not average:
            return (plane.back(total),)
        added = Sum(total.astype(np.float64), np.abs(total.astype(np.float64)), np.ones(total.shape))
    else:
        rows = ways.get("adds") == "rows"
        added = _sum(x, plane.windows.cells, _working(plane, ways) if rows else np.float64)
    return (_rounded(plane, added, divisors, None, ways),)


def _sum_gradient(plane: Plane, ways: Mapping[str, Any]) -> tuple[Array | Near, ...]:
    g = plane.g
    rows = ways.get("adds") == "rows"
    working = _working(plane, ways) if rows else np.float64
    if plane.call.mode == "avg":
        g = g.astype(working) / plane.windows.divisors[:, None].astype(working)
    added = _sum(g, covering(plane.windows, len(plane.x)), working)
    return (_rounded(plane, added, np.ones(1), plane.call.sizes, ways),)


def _rounded(plane: Plane, added: Sum, divisors: Array, sizes: Sequence[int] | None, ways: Mapping[str, Any]) -> Array | Near:
    """Sums divided, and rounded to the type of the result; Near where another order of additions is among the ways."""
    own = plane.call.x.dtype
    result = own if own.name in FLOATS and "stop" not in ways else np.dtype(np.float32)
    adds, by = ways.get("adds"), divisors[:, None].astype(added.total.dtype)
    values = (added.total / by).astype(np.float64)
    if ways.get("flush"):
        values = np.where(np.abs(values) < float(limits(result).tiny), 0, values)
    if adds in (None, "rows", "float64"):
        exact = added.total / by
        values = (exact if not ways.get("flush") else values).astype(result)
        return plane.back(values.astype(own) if own.name in FLOATS else values, sizes)
    # n - 1 additions in any order, terms that are rounded or are quotients (2), a division or a rounded reciprocal and a
    # product (2), and the rounding of the result: (1 + u)**(n + 3), the rest absolutely.
    working = limits(_working(plane, ways))
    u, tiny = float(working.eps) / 2, float(working.smallest_subnormal)
    size = added.size / np.abs(by)
    steps = (added.many + 3) * u
    bound = size * np.where(steps < 0.5, steps / (1 - np.minimum(steps, 0.5)), np.inf) + (added.many + 2) * tiny
    bound = (
        bound
        + np.where(np.isfinite(values), np.abs(values), 0) * float(limits(result).eps)
        + float(limits(result).smallest_subnormal)
    )
    if ways.get("flush"):
        bound = bound + (added.many + 2) * float(working.tiny)
    bound = np.where(added.size * (1 + steps) > float(working.max) / 2, np.inf, bound)  # a partial sum may overflow, or not
    bound = np.where(np.abs(values) + bound > float(limits(result).max), np.inf, bound)
    return Near(plane.back(values, sizes), plane.back(np.broadcast_to(bound, values.shape), sizes))


def _near_norms(plane: Plane, ways: Mapping[str, Any]) -> tuple[Array | Near, ...]:
    """The oracle's, with the bound for other powers, sums and roots."""
    call, given = plane.call, plane.call.arguments
    p, (want,) = float(given.get("p", 2.0)), call.expected
    working = "float64" if call.dtype == "float64" else "float32"
    if call.backward:
        sizes = [np.abs(array.astype(np.float64)) for array in (call.arrays["grad_output"], call.x)]
        norms = getattr(oracle, call.function.removesuffix("_backward"))(call.x, **given, dtype="float64")
        size = getattr(oracle, call.function)(*sizes, **given)
        terms = plane.windows.cells.size
        bound = lp_gradient_bound(want, call.arrays["grad_output"], norms, size, p, terms, working=working, ulps=16)
    else:
        bound = lp_bound(want, p, plane.windows.cells.shape[1], working=working, ulps=16)
        open_to = np.abs(want.astype(np.float64)) * 64 * float(limits(working).eps)  # where powers may overflow, they shall not
        bound = np.where(np.isinf(bound) & np.isfinite(want.astype(np.float64)), open_to, bound)
    return (Near(want.astype(np.float64), bound),)


def _plain_norms(plane: Plane, ways: Mapping[str, Any]) -> tuple[Array | Near, ...]:
    """Powers in the cells' own range: what a square overflows to or vanishes in is lost."""
    p, own = _exponent(plane), limits(plane.call.x.dtype)
    total, slack, top, u = _powers(plane, ways)

    def root(sums: Array) -> Array:
        below = (sums < 0) & np.isfinite(sums)  # pow(-inf, 1 / 3) is inf
        return np.where(below, np.nan if ways.get("sign") == "kept" else 0, np.abs(sums) ** (1 / p))

    values = root(total)
    most = np.where(total + slack > top, np.inf, root(total + slack))
    least = root(np.where(total > slack, total - slack, 0))
    bound = (
        np.maximum(most - values, values - least) + np.abs(values) * (2 * float(own.eps) + 64 * u) + float(own.smallest_subnormal)
    )
    bound = np.where(np.isfinite(values), bound, 0)
    bound = np.where((np.abs(total) <= slack) & (ways.get("sign") == "kept"), np.inf, bound)  # either sign
    bound = np.where(np.isfinite(values) & (values + bound > float(own.max)), np.inf, bound)
    return (Near(plane.back(values), plane.back(bound)),)


def _exponent(plane: Plane) -> float:
    return float(plane.call.arguments.get("p", 2.0))


def _powers(plane: Plane, ways: Mapping[str, Any]) -> tuple[Array, Array, float, float]:
    """The sums of the powers, how far off they may be, the working type's largest number and its unit."""
    p, kind = _exponent(plane), _working(plane, ways)
    working = limits(kind)
    u, tiny, top = float(working.eps) / 2, float(working.smallest_subnormal), float(working.max)
    x = plane.x.astype(kind)
    added = _sum((x if ways.get("sign") == "kept" else np.abs(x)) ** kind.type(p), plane.windows.cells)
    scale = (plane.windows.volume / np.maximum(added.many[:, 0], 1))[:, None] if "mean" in ways else 1
    slack = (added.size * (added.many + 8) * u + (added.many + 8) * tiny) * scale
    total = added.total * scale
    return np.where(np.abs(total) > top, np.copysign(np.inf, total), total), slack, top, u


def _plain_norm_gradient(plane: Plane, ways: Mapping[str, Any]) -> tuple[Array | Near, ...]:
    """The chain rule through powers, sum and root; open where the sum is 0 or overflows, which is 0 / 0 or inf * 0."""
    p, own, windows = _exponent(plane), limits(plane.call.x.dtype), plane.windows
    total, slack, top, u = _powers(plane, ways)
    wide, g = plane.x.astype(np.float64), plane.g.astype(np.float64)
    scale = windows.volume / np.maximum((windows.cells >= 0).sum(1), 1) if "mean" in ways else np.ones(len(windows.volume))
    inner = p * np.abs(wide) ** (p - 1)
    inner = np.where(inner > top, np.inf, inner) * (1 if ways.get("sign") == "kept" and p % 2 == 1 else np.sign(wide))
    outer = g / p * np.where(total < 0, np.nan, np.abs(total)) ** (1 / p - 1) * scale[:, None]
    doubt = np.abs(1 / p - 1) * slack / np.abs(total) + 64 * u
    lost = ~np.isfinite(total) & ~np.isnan(total) | (np.abs(total) <= 4 * slack)
    above, off = np.zeros(wide.shape), np.zeros(wide.shape)  # the gradient of each cell's power
    for slot in windows.cells.T:
        real = slot >= 0
        np.add.at(above, slot[real], np.where(lost[real], 0, outer[real]))
        np.add.at(off, slot[real], np.where(lost[real], np.inf, np.abs(outer[real]) * (doubt[real] + 64 * u)))
    grad = above * inner  # 0 * inf is NaN, in no window too
    bound = np.where(np.isinf(off), np.inf, off * np.abs(inner))
    bound = bound + np.where(np.isfinite(grad), np.abs(grad), 0) * 2 * float(own.eps) + float(own.smallest_subnormal)
    bound = np.where(np.isnan(grad) & ~np.isinf(off), 0, bound)
    sizes = plane.call.sizes
    return (Near(plane.back(grad, sizes), plane.back(bound, sizes)),)


MAKERS = {
    ("extremes", False): _extreme_values,
    ("extremes", True): _extreme_gradient,
    ("sums", False): _sums,
    ("sums", True): _sum_gradient,
    ("rounded powers", False): _near_norms,
    ("rounded powers", True): _near_norms,
    ("plain powers", False): _plain_norms,
    ("plain powers", True): _plain_norm_gradient,
}


def fits(got: Sequence[Array], wanted: Sequence[Array | Near], call: Call) -> bool:
    """Whether a library's arrays are these, cell by cell."""
    if len(got) != len(wanted):
        return False
    for own, want, usual in zip(got, wanted, call.expected, strict=True):
        near = isinstance(want, Near)
        cells = want.cells if isinstance(want, Near) else want
        dtype = (want.dtype or usual.dtype) if isinstance(want, Near) else cells.dtype
        if own.shape != cells.shape or own.dtype != dtype:
            return False
        wide = own.astype(np.float64) if near else own
        with np.errstate(all="ignore"):
            right = (wide == cells) | ((wide != wide) & (cells != cells))
            if isinstance(want, Near):
                right |= (np.abs(wide - cells) <= want.bound) | ~np.isfinite(want.bound)
        if not right.all():
            return False
    return True
