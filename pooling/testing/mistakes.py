"""What well-known mistakes would give, to name the one that a wrong result looks like.

Most of them are the oracle's own answer to another call: a dilation forgotten, the sides of the padding swapped, the
windows shifted by one. The rest is plain NumPy on the cells of the windows. A mistake is a phrase and a function without
arguments that computes what it would give. All arrays in here are channels_last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from math import prod
from typing import Any

import numpy as np

import pooling

from . import oracle
from .cases import FLOATS, Array, letters_of, relayout
from .compare import differing
from .golden import INDEXED, Golden

MOST = 10**6  # cells of an array that a mistake makes: no more is tried
Mistakes = Iterator[tuple[str, Callable[[], Array]]]


class Call:
    """A call that went wrong, and what the oracle answers to others. part: "values", "indices" or "gradient"."""

    def __init__(self, golden: Golden, part: str) -> None:
        self.function, self.mode, self.part = golden.function, golden.mode, part
        self.arrays = {name: relayout(array, "channels_last", golden.layout) for name, array in golden.views.items()}
        self.x, self.axes, self.windows = self.arrays["x"], golden.axes, golden.windows
        self.arguments = {name: value for name, value in golden.plain.items() if name not in ("layout", "return_indices")}
        self.letters = letters_of("channels_last", self.x.ndim)[1:-1]
        self.pooled = tuple(range(1, self.x.ndim - 1))

    def again(self, **changes: Any) -> Array:
        """The oracle's answer where arguments or arrays are others; None leaves one out."""
        given = {name: value for name, value in {**self.arrays, **self.arguments, **changes}.items() if value is not None}
        if self.axes and self.windows:
            window = {name: given[name] for name in ("kernel", "stride", "padding", "dilation", "ceil_mode")}
            if prod(oracle.output_shape(given["x"].shape, **window)) > MOST:
                raise ValueError("too large")
        asks = {"return_indices": True} if self.part == "indices" else {}
        result = getattr(oracle, self.function)(**given, **asks)
        return np.asarray(result[1] if asks else result)

    @cached_property
    def want(self) -> Array:
        """The right answer."""
        return self.again()

    def rounded(self, values: Array) -> Array:
        return oracle._convert(values, self.want.dtype)

    def front(self, array: Array) -> Array:
        """(pooled..., planes), as the oracle's inner functions take it."""
        return oracle._front(array, self.pooled)

    def back(self, front: Array) -> Array:
        return oracle._back(front, self.x.shape, self.pooled)

    def gathered(self, dtype: Any = None, fill: Any = 0) -> tuple[Array, Array]:
        """Of each window the cells, flat and -1 for none, and their values: (windows, slots[, planes])."""
        return oracle._gather(self.front(self.x if dtype is None else self.x.astype(dtype)), self.windows, fill)

    def each(self, rows: Array) -> Array:
        """An array of what rows (windows, planes) hold."""
        return self.back(rows.reshape(*map(len, self.windows), -1))

    def count(self, of: Callable[[oracle.Window], int]) -> Array:
        """A number of each window, the product over the axes: exact, (pooled..., 1)."""
        total = np.ones((), object)
        for windows in self.windows:
            total = np.multiply.outer(total, np.array([of(window) for window in windows], object))
        return np.asarray(total[..., None])

    def divisors(self) -> dict[str, Array]:
        """What an average may be divided by; "right" is one of them."""
        included, override = self.arguments.get("count_include_pad", True), self.arguments.get("divisor_override")
        found = {
            "dividing by the cells in the data alone": self.count(lambda window: len(window.taps)),
            "dividing by the cells in the data and in the padding": self.count(lambda window: window.padded),
            "dividing by the whole kernel, overhang too": self.count(lambda window: window.size),
        }
        counted = list(found.values())[included]
        return {**found, "right": counted if override is None else np.full(counted.shape, override, object)}


def _where(condition: Array, yes: Array, no: Array | int) -> Array:
    return np.where(condition, yes, no)


# ---- other calls ---------------------------------------------------------------------------------------------


def _padded(call: Call, fill: Any, more: bool = False) -> Array:
    """The padding written into the array; with more, all that ceil_mode's windows cover too. fill: a value, or "edge"."""
    ends = []
    for n, k, s, before, after, d, ceil_mode in call.axes:
        reach = d * (k - 1) + 1
        windows = -((n + before + after - reach) // -s) + 1
        ends.append((before, (windows - 1) * s + reach - n - before if more and ceil_mode else after))
    pads = [(0, 0), *ends, (0, 0)]
    if prod(n + before + after for n, (before, after) in zip(call.x.shape, pads, strict=True)) > MOST:
        raise ValueError("too large")
    x = np.pad(call.x, pads, mode="edge") if isinstance(fill, str) else np.pad(call.x, pads, constant_values=fill)
    return call.again(x=x, padding=0, **({"ceil_mode": False} if more else {}))


def _nan(call: Call) -> Mistakes:
    if call.x.dtype.name in FLOATS and np.isnan(call.x).any():
        nothing = np.asarray({"max": -np.inf, "min": np.inf}.get(call.mode, 0), call.x.dtype)
        yield "ignoring NaN", partial(call.again, x=np.where(np.isnan(call.x), nothing, call.x))


def _paddings(call: Call) -> Mistakes:
    """The same call on an array that has the padding in it."""
    padded = any(axis.before or axis.after for axis in call.axes)
    identity = oracle._identity(call.mode, call.x.dtype) if call.mode in INDEXED else 0
    if padded and call.mode in INDEXED:
        yield "padding that counts as 0", partial(_padded, call, 0)
        yield "padding and overhang that count as 0", partial(_padded, call, 0, more=True)
    if padded and call.arguments.get("ceil_mode"):
        yield "one window more, which starts in the padding after the data", partial(_padded, call, identity, more=True)
    if padded:
        yield "padding filled with the cells at the edge", partial(_padded, call, "edge")


def _arguments(call: Call) -> Mistakes:
    """The same cells under other arguments."""
    for text, changes in _changes(call):
        yield text, partial(call.again, **changes)


def _changes(call: Call) -> Iterator[tuple[str, dict[str, Any]]]:
    given, letters = call.arguments, call.letters
    if call.mode == "avg" and given.get("divisor_override") is not None:
        yield "ignoring divisor_override", {"divisor_override": None}
    elif call.mode == "avg" and call.axes:
        yield f"count_include_pad={not given['count_include_pad']}", {"count_include_pad": not given["count_include_pad"]}
    sides = [(axis.before, axis.after) for axis in call.axes]
    several = {name: value for name, value in given.items() if name in ("kernel", "stride", "dilation", "padding", "output_size")}
    if any(axis.d > 1 for axis in call.axes):
        yield "a dilation of 1", {"dilation": 1}
    if any(before != after for before, after in sides):
        yield "the padding's sides swapped", {"padding": [side[::-1] for side in sides]}
        yield "the padding before the data on both sides", {"padding": [(before, before) for before, _ in sides]}
    for name, value in several.items():
        if value != value[::-1]:
            yield f"the {name} of the axes in reverse order", {name: value[::-1]}
    if given.get("ceil_mode"):
        yield "ceil_mode=False", {"ceil_mode": False}
    if any(map(any, sides)):
        yield "no padding", {"padding": 0}
    if call.axes and given["stride"] != given["kernel"]:
        yield "a stride of the kernel's size", {"stride": given["kernel"]}
    if any(axis.s > 1 for axis in call.axes):
        yield "a stride of 1", {"stride": 1}
    for i, (axis, letter) in enumerate(zip(call.axes, letters, strict=False)):

        def on(name: str, value: Any, i: int = i) -> dict[str, Any]:
            return {name: [*several[name][:i], value, *several[name][i + 1 :]]}

        before, after, d = axis.before, axis.after, axis.d
        if d > 1 and len(call.axes) > 1:
            yield f"a dilation of 1 along {letter}", on("dilation", 1)
        yield f"windows one cell too far along {letter}", on("padding", (before - 1, after + 1))
        yield f"windows one cell too early along {letter}", on("padding", (before + 1, after - 1))
        if axis.k > 1:
            yield f"windows without their last cell along {letter}", on("kernel", axis.k - 1) | on("padding", (before, after - d))
            yield (
                f"windows without their first cell along {letter}",
                on("kernel", axis.k - 1) | on("padding", (before - d, after)),
            )
        yield f"windows one cell longer along {letter}", on("kernel", axis.k + 1) | on("padding", (before, after + d))
    if call.mode == "lp":
        yield from ((f"p={p:g}", {"p": p}) for p in (1.0, 2.0, float("inf")) if p != given.get("p", 2.0))
    own = dict.fromkeys(("p", "count_include_pad", "divisor_override"))
    others = pooling.MODES if call.part != "indices" else INDEXED
    yield from ((f"mode {mode!r}", {"mode": mode, **own}) for mode in others if mode != call.mode)


def _moved(call: Call) -> Mistakes:
    """The right cells in the wrong place."""
    for axis, letter in enumerate(call.letters, 1):
        for by, where in ((1, "before"), (-1, "after")):
            yield f"the cell that stands one {where} it along {letter}", partial(np.roll, call.want, by, axis)
        yield f"the cells in reverse order along {letter}", partial(np.flip, call.want, axis)
    for axis, letter in ((0, "N"), (call.want.ndim - 1, "C")):
        yield (
            f"the first plane, for every {letter}",
            lambda axis=axis: np.repeat(  # type: ignore[misc]
                call.want.take([0], axis), call.want.shape[axis], axis
            ),
        )


# ---- values --------------------------------------------------------------------------------------------------


def _quotients(call: Call) -> Mistakes:
    """Averages that are divided by something else, or otherwise."""
    working = oracle._accumulator(call.x.dtype, "avg", call.arguments.get("dtype"))
    total = oracle._sum(call.front(call.x).astype(working), call.windows)
    total = total if working.kind == "f" else oracle._convert(total, oracle.F32)
    divisors = {text: oracle._convert(divisor.astype(np.float64), total.dtype) for text, divisor in call.divisors().items()}
    right = divisors.pop("right")
    for text, divisor in divisors.items():
        yield text, lambda divisor=divisor: call.back(call.rounded(total / divisor))  # type: ignore[misc]
    yield "multiplying by 1 / divisor", lambda: call.back(call.rounded(total * (total.dtype.type(1) / right)))
    yield "rounding down", lambda: call.back(call.rounded(np.floor(total / right)))


def _added(call: Call, working: Any) -> Array:
    """The cells of each window added one after the other in a type, and divided in it."""
    total = call.each(np.add.accumulate(call.gathered(working)[1], axis=1, dtype=working)[:, -1])
    return call.rounded(total / call.divisors()["right"].astype(working) if call.mode == "avg" else total)


def _sums(call: Call) -> Mistakes:
    own = call.x.dtype
    if call.mode == "avg":
        yield from _quotients(call)
    if own.name in FLOATS:
        yield "adding in float64", lambda: call.rounded(call.again(x=call.x.astype(np.float64)))
        yield "adding from left to right, not in pairs", partial(_added, call, oracle._accumulator(own, "sum"))
        if own.itemsize == 2:
            yield f"adding in {own.name}", partial(_added, call, own)


def _norms(call: Call) -> Mistakes:
    p, cells = call.arguments.get("p", 2.0), call.gathered(np.float64)[1]
    powers = (cells**p).sum(axis=1)
    yield "powers without abs", lambda: call.rounded(call.each(np.sign(powers) * np.abs(powers) ** (1 / p)))
    yield "leaving out the root", lambda: call.rounded(call.each((np.abs(cells) ** p).sum(axis=1)))
    yield "the mean of the powers", lambda: call.rounded(call.each((np.abs(cells) ** p).mean(axis=1) ** (1 / p)))


def _extremes(call: Call) -> Mistakes:
    own, empty = call.x.dtype, call.count(lambda window: len(window.taps)) == 0
    ends = [np.finfo(own)] if own.kind == "f" else [np.iinfo(own)] if own.kind in "iu" else []
    for value in (0, *(limit for end in ends for limit in (end.min, end.max))):
        yield f"{value} for a window without a cell", partial(_where, empty, np.asarray(value).astype(own), call.want)


def _values(call: Call) -> Mistakes:
    own = {"max": _extremes, "min": _extremes, "sum": _sums, "avg": _sums, "lp": _norms}
    yield from _nan(call)
    yield from own.get(call.mode, _extremes)(call)
    yield from _paddings(call)
    yield from _arguments(call)
    yield from _moved(call)


# ---- indices -------------------------------------------------------------------------------------------------


def _hits(call: Call) -> tuple[Array, Array, Array]:
    """The cells of each window, which of them an index may name, and whether they are NaN: (windows, slots, planes)."""
    front = call.front(call.x)
    cells, seen = call.gathered(fill=oracle._identity(call.mode, front.dtype))
    best = oracle._extreme(front, call.mode, call.windows)[0][:, None]
    real, nan = (cells >= 0)[..., None], np.broadcast_to(best != best, (len(best), 1, seen.shape[2]))
    return np.broadcast_to(cells[..., None], seen.shape), np.where(nan, seen != seen, seen == best) & real, nan[:, 0]


def _chosen(call: Call, last: bool, last_nan: bool) -> Array:
    """The indices under other rules for equal cells and for NaN."""
    cells, hit, nan = _hits(call)
    slot = np.where(np.where(nan, last_nan, last), hit.shape[1] - 1 - hit[:, ::-1].argmax(axis=1), hit.argmax(axis=1))
    return call.each(np.take_along_axis(np.where(hit, cells, -1), slot[:, None], axis=1)[:, 0])


def _flat(at: Sequence[Any], shape: Sequence[int]) -> Array:
    flat = np.zeros_like(at[0])
    for i, n in zip(at, shape, strict=True):
        flat = flat * n + i
    return np.asarray(flat)


def _indices(call: Call) -> Mistakes:
    want, shape = call.want, call.x.shape[1:-1]
    real, plane, (batch, *_, channels) = want >= 0, prod(shape), want.shape
    n, c = np.arange(batch).reshape(-1, *[1] * (want.ndim - 1)), np.arange(channels)
    at = np.unravel_index(np.where(real, want, 0), shape)
    yield "the last of equal cells", partial(_chosen, call, True, True)
    yield "the first NaN of a window, not the last", partial(_chosen, call, False, False)
    others = {
        "column-major indices": _flat(at[::-1], shape[::-1]),
        "indices that count from 1": want + 1,
        "indices one plane too far": want + plane,
        "indices one plane back": want - plane,
        "indices that count on from plane to plane": want + plane * (n * channels + c),
        "indices that count C too, in the order H, W, C": want * channels + c,
        "indices that count N and C too, in the order N, H, W, C": (n * plane + want) * channels + c,
    }
    if call.axes:
        outs = np.indices(want.shape[1:-1])[..., None]
        starts = [o * axis.s - axis.before for o, axis in zip(outs, call.axes, strict=True)]
        inside = [(i - start) // axis.d for i, start, axis in zip(at, starts, call.axes, strict=True)]
        others["positions in the window"] = _flat(inside, [axis.k for axis in call.axes])
        padded = [i + axis.before for i, axis in zip(at, call.axes, strict=True)]
        others["indices in the padded plane"] = _flat(
            padded, [m + axis.before + axis.after for m, axis in zip(shape, call.axes, strict=True)]
        )
    for text, other in others.items():
        yield text, partial(_where, real, other, want)
    yield "0 for a window without a cell", partial(_where, real, want, 0)
    yield from _nan(call)
    yield from _paddings(call)
    yield from _arguments(call)
    yield from _moved(call)


# ---- gradients, and the way back from indices ----------------------------------------------------------------


def _scattered(call: Call, split: bool) -> Array:
    """The gradient of a maximum, given to all equal cells."""
    cells, hit, _ = _hits(call)
    g = call.front(call.arrays["grad_output"]).reshape(len(cells), 1, -1)
    part = np.where(hit, g / (np.maximum(hit.sum(axis=1, keepdims=True), 1) if split else 1), 0)
    shape = call.front(call.x).shape
    return call.rounded(call.back(oracle._scatter(shape, oracle._flat(cells), oracle._flat(part))))


def _assigned(call: Call) -> Array:
    """The gradient of a maximum, where a later window takes the place of an earlier one."""
    plane = np.zeros_like(call.front(call.x))
    cells = call.front(_chosen(call, False, True))
    g = call.front(call.arrays["grad_output"])
    for window in np.ndindex(*cells.shape):
        if cells[window] >= 0:
            plane[(*np.unravel_index(cells[window], plane.shape[:-1]), window[-1])] = g[window]
    return call.back(plane)


def _gradient(call: Call) -> Mistakes:
    if call.mode in INDEXED:
        yield "giving to the last of equal cells", lambda: call.again(indices=_chosen(call, True, True))
        yield "giving to the first NaN, not to the last", lambda: call.again(indices=_chosen(call, False, False))
        yield "giving to all equal cells alike", partial(_scattered, call, False)
        yield "splitting among equal cells", partial(_scattered, call, True)
        yield "the gradient of the last window alone, not the sum", partial(_assigned, call)
    if call.mode == "avg":
        working = oracle._accumulator(call.x.dtype, "avg")
        for text, divisor in call.divisors().items():
            q = call.arrays["grad_output"].astype(working) / divisor.astype(working)
            own = {"mode": "sum", "count_include_pad": None, "divisor_override": None}
            x = call.x.astype(working)
            if text != "right":
                yield text, lambda q=q, own=own, x=x: call.rounded(call.again(grad_output=q, x=x, **own))  # type: ignore[misc]
    yield from _nan(call)
    yield from _arguments(call)
    yield from _moved(call)


def _unpool(call: Call) -> Mistakes:
    flipped = {name: np.flip(array, call.pooled) for name, array in call.arrays.items()}
    yield "the first of equal indices", partial(call.again, **flipped)
    yield "an index of -1 that is the last cell", lambda: call.again(indices=call.arrays["indices"] % prod(call.want.shape[1:-1]))
    yield from _moved(call)


TABLES: dict[str, Callable[[Call], Mistakes]] = {"values": _values, "indices": _indices, "gradient": _gradient, "unpool": _unpool}


def likely(golden: Golden, part: str, got: Array, wrong: Array | None) -> str | None:
    """The mistake that explains a result: the first cell that differs, and at least half of those that do; or None.

    wrong: which cells differ; None where the shape does.
    """
    call, got = Call(golden, part), relayout(got, "channels_last", golden.layout)
    bound = golden.bound()
    bound = None if bound is None or part == "indices" else relayout(bound, "channels_last", golden.layout)
    wrong = None if wrong is None else relayout(wrong, "channels_last", golden.layout)
    table = TABLES["unpool" if golden.function == "max_unpool" else part]
    with np.errstate(all="ignore"):
        return _shaped(table(call), call, got) if wrong is None else _explained(table(call), call, got, wrong, bound)


def _computed(table: Mistakes) -> Iterator[tuple[str, Array]]:
    for text, compute in table:
        try:
            yield text, compute()
        except (IndexError, ValueError):  # what the mistake makes of this call is no call, or too large
            continue


def _shaped(table: Mistakes, call: Call, got: Array) -> str | None:
    """The mistake that gives the same array, or else one of the same shape."""
    fits = [(text, other) for text, other in _computed(table) if other.shape == got.shape != call.want.shape]
    for text, other in fits:
        if not differing(other.astype(got.dtype), got).any():
            return f"got is what {text} would give"
    return f"got has the shape that {fits[0][0]} would give" if fits else None


def _explained(table: Mistakes, call: Call, got: Array, wrong: Array, bound: Array | None) -> str | None:
    best, most, total = "", 0, int(np.count_nonzero(wrong))
    first = tuple(np.argwhere(wrong)[0])
    for text, other in _computed(table):
        if all(n >= m for n, m in zip(other.shape, got.shape, strict=True)):
            other = other[tuple(slice(n) for n in got.shape)].astype(got.dtype)
            agrees = ~differing(other, got, bound) & wrong
            count = int(np.count_nonzero(agrees))
            if agrees[first] and count > most:
                best, most = text, count
    if 2 * most < total:
        return None
    if call.mode == "avg" and call.part == "values" and best in (divisors := call.divisors()):
        place = (*first[1:-1], 0)
        best += f" ({divisors[best][place]}, not {divisors['right'][place]})"
    return f"got is what {best} would give" + ("" if most == total else f", in {most:,} of these cells")
