"""What is true of every pooling, whatever computes it: one function a law, on the data for which it is exactly true.

`law` puts a function into LAWS, with the calls that are drawn for it and the name of a saboteur (of saboteurs.py) that
breaks it. A law is called with the public functions of a backend and one call of strategies.calls; it asks whatever it
needs, and raises AssertionError where two answers that must be the same cells are not.

Arrays here are channels_last where no layout is given. Norms (lp) take part only where they are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any, NamedTuple

import fuzz
import numpy as np
from agreement import BACKENDS, FLOATS, LAYOUTS, check, forward_bound, refused
from strategies import EXACT, calls

import pooling
from pooling._dtypes import DTYPES, numpy_dtype
from pooling.testing import data, oracle, relayout

WIDE = ("float32", "float64")  # floats that are their own accumulators
INTEGERS = tuple(name for name, row in DTYPES.items() if row.kind in "biu")
EXTREMES = ("max", "min")
EXACTLY = ("small_integers",)  # sums of such cells are exact, in any order
FINITE = ("real", "small_integers")
Array = np.ndarray[Any, Any]
Call = dict[str, Any]


class Backend:
    """pooling's functions, on one backend; the oracle and the saboteurs are modules that have the same."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getattr__(self, function: str) -> Callable[..., Any]:
        found: Callable[..., Any] = getattr(pooling, function)
        return found if function == "output_shape" else partial(found, backend=self.name)


class Law(NamedTuple):
    """What must hold, for which calls, on which backends, and who breaks it."""

    holds: Callable[[Any, Call], None]
    calls: Any
    broken_by: str
    only: tuple[str, ...] = ()  # backends; all where there are none


LAWS: dict[str, Law] = {}


def law(drawn: Any, broken_by: str, only: tuple[str, ...] = ()) -> Callable[[Callable[[Any, Call], None]], Any]:
    """Puts the function into LAWS under its name."""

    def enter(function: Callable[[Any, Call], None]) -> Callable[[Any, Call], None]:
        LAWS[function.__name__] = Law(function, drawn, broken_by, only)
        return function

    return enter


def cells(call: Call, more: int = 0, **changes: Any) -> Array:
    """The array of a call; another one for each `more`."""
    call = call | changes
    return data(call["shape"], call["dtype"], call["seed"] + 1000 * more, call["kind"])


def pooled(ours: Any, x: Array, call: Call, **changes: Any) -> Any:
    """x pooled as the call says, with indices where there are some."""
    mode = changes.pop("mode", call["mode"])
    indexed = {"return_indices": True} if mode in EXTREMES else {}
    own = call["options"] if mode == call["mode"] else {}
    return ours.pool(x, mode, **call["window"] | own | indexed | changes)


def values(result: Any) -> Array:
    """The values of a result, without indices."""
    return result[0] if isinstance(result, tuple) else result


def sizes(call: Call) -> list[int]:
    return list(call["shape"][1:-1])


def each(function: Callable[..., Any], result: Any) -> Any:
    """The same of values and indices."""
    return tuple(map(function, result)) if isinstance(result, tuple) else function(result)


def floating(call: Call) -> bool:
    return DTYPES[call["dtype"]].kind == "f"


def geometry(call: Call) -> list[tuple[int, int, int, tuple[int, int], int]]:
    """Size, kernel, stride, padding and dilation of each axis."""
    window = call["window"]
    rows = zip(sizes(call), *(window[name] for name in ("kernel", "stride", "padding", "dilation")), strict=True)
    return [(n, k, s, (before, after), d) for n, k, s, (before, after), d in rows]


# ---- the definition --------------------------------------------------------------------------------------------


@law(calls(tuple(pooling.MODES)), "padding_off_by_one")
def the_oracle_agrees(ours: Any, call: Call) -> None:
    """What is found by any law, or by a library that differs, is asked of the oracle as well."""
    x, layout, mode = cells(call), call["layout"], call["mode"]
    want = pooled(oracle, x, call)
    got = pooled(ours, relayout(x, layout), call, layout=layout)
    bound = forward_bound(
        want, mode, call["options"].get("p", 2.0), tuple(call["window"]["kernel"]), getattr(ours, "name", "cpu")
    )
    check(each(partial(relayout, target="channels_last", source=layout), got), want, call, bound)


@law(calls(), "last_column_dropped")
def the_shape_is_output_shape(ours: Any, call: Call) -> None:
    x = cells(call)
    assert values(pooled(ours, x, call)).shape == pooling.output_shape(call["shape"], **call["window"]), call


# ---- windows of one cell, of all cells, of half of them ----------------------------------------------------------


@law(calls(), "rows_swapped")
def kernel_1_is_the_identity(ours: Any, call: Call) -> None:
    x = cells(call)
    got = ours.pool(x, call["mode"], 1, 1, dilation=call["window"]["dilation"])
    want = x.astype(np.float64) if call["mode"] == "avg" and not floating(call) else x
    check(got, want.astype(got.dtype), call)


@law(calls(ceil=False), "stride_of_the_wrong_axis")
def a_stride_picks_from_stride_1(ours: Any, call: Call) -> None:
    x, picks = cells(call), tuple(slice(None, None, s) for s in call["window"]["stride"])
    every = pooled(ours, x, call, stride=1)
    check(pooled(ours, x, call), each(lambda part: part[(slice(None), *picks)], every), call)


@law(calls(), "dilation_ignored_on_one_axis")
def dilation_is_a_strided_view(ours: Any, call: Call) -> None:
    """Windows whose stride is a multiple of the dilation see every d-th cell, as if there were no others."""
    steps, kernel, strides = (call["window"][name] for name in ("dilation", "kernel", "stride"))
    spread = [n + d * (k - 1) for n, d, k in zip(sizes(call), steps, kernel, strict=True)]  # the window fits
    x = cells(call, shape=[call["shape"][0], *spread, call["shape"][-1]])
    wide = {"kernel": kernel, "stride": [d * s for d, s in zip(steps, strides, strict=True)], "dilation": steps}
    near = x[(slice(None), *(slice(None, None, d) for d in steps))]
    got = ours.pool(x, call["mode"], **wide, **call["options"])
    check(got, ours.pool(near, call["mode"], kernel, strides, **call["options"]), call)


@law(calls(ceil=False), "integers_padded_with_0")
def padding_is_cells_of_the_identity(ours: Any, call: Call) -> None:
    """For sums and averages they are zeros; avg counts them."""
    x, mode, padding = cells(call), call["mode"], call["window"]["padding"]
    identity: Any = 0
    if mode in EXTREMES:
        low, high = {"b": lambda t: (False, True), "f": lambda t: (-np.inf, np.inf)}.get(
            DTYPES[call["dtype"]].kind, lambda t: (np.iinfo(t).min, np.iinfo(t).max)
        )(x.dtype)
        identity = low if mode == "max" else high
    wide = np.pad(x, [(0, 0), *padding, (0, 0)], constant_values=identity)
    own = {"divisor_override": call["options"]["divisor_override"]} if mode == "avg" else {}
    window = call["window"]
    check(ours.pool(x, mode, **window, **own), ours.pool(wide, mode, **window | {"padding": 0}, **own), call)


@law(calls(padded=False), "same_lower_taken_for_same")
def same_is_explicit_padding(ours: Any, call: Call) -> None:
    """ceil(n / s) windows; the odd cell stands after the data, or before it."""
    word = ("same", "same_lower")[call["seed"] % 2]
    pairs, outs = [], []
    for n, k, s, _, d in geometry(call):
        total = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
        pairs.append(sorted((total // 2, total - total // 2), reverse=word == "same_lower"))
        outs.append(-(-n // s))
    x, window = cells(call), call["window"] | {"ceil_mode": False}
    got = pooled(ours, x, call, padding=word)
    assert list(values(got).shape[1:-1]) == outs, call
    check(got, pooled(ours, x, call | {"window": window}, padding=pairs), call)


# ---- axes --------------------------------------------------------------------------------------------------------


@law(calls(("max", "min", "sum"), ranks=(2, 3)), "stride_of_the_wrong_axis")
def high_rank_is_rank_1_axis_by_axis(ours: Any, call: Call) -> None:
    """Sums too, of any floats: along the first pooled axis, then along the next, is the specified order."""
    x, mode, window = cells(call), call["mode"], call["window"]
    if mode == "sum" and DTYPES[call["dtype"]].kind == "f":
        x = x.astype(np.promote_types(x.dtype, np.float32))  # 16 bits are rounded once only
    want = x
    for axis in range(rank := len(sizes(call))):
        others = iter("GT")
        layout = "N" + "".join("L" if axis == i else next(others) for i in range(rank)) + "C"
        own = {name: [window[name][axis]] for name in ("kernel", "stride", "padding", "dilation")}
        want = ours.pool(want, mode, **own, ceil_mode=window["ceil_mode"], layout=layout)
    check(ours.pool(x, mode, **window), want, call)


@law(calls(), "strides_ignored")
def layouts_are_transposes(ours: Any, call: Call) -> None:
    x = cells(call)
    want = pooled(ours, x, call)
    for layout in ("channels_first", *LAYOUTS[len(sizes(call))]):
        got = pooled(ours, relayout(x, layout), call, layout=layout)
        check(each(partial(relayout, target="channels_last", source=layout), got), want, (layout, call))


@law(calls(), "strides_ignored")
def memory_never_matters(ours: Any, call: Call) -> None:
    """Views, backwards, with gaps, with axes in another order."""
    x = cells(call)
    view = fuzz._view(np.random.default_rng(call["seed"]), x)
    check(pooled(ours, view, call), pooled(ours, x.copy(), call), call)


@law(calls(), "index_one_plane_off")
def planes_never_interact(ours: Any, call: Call) -> None:
    x = cells(call)
    n, c = call["seed"] % x.shape[0], call["seed"] % x.shape[-1]

    def alone(part: Array) -> Array:
        return part[n : n + 1, ..., c : c + 1]

    check(pooled(ours, alone(x).copy(), call), each(alone, pooled(ours, x, call)), call)


@law(calls(), "threads_racing_on_one_plane")
def batches_and_channels_concatenate(ours: Any, call: Call) -> None:
    """Up to 102 planes."""
    x, y, axis = cells(call), cells(call, 1), (0, -1)[call["seed"] % 2]
    apart = pooled(ours, x, call), pooled(ours, y, call)
    pairs = tuple(zip(*apart, strict=True)) if call["mode"] in EXTREMES else (apart,)
    got = pooled(ours, np.concatenate([x, y], axis), call)
    check(got, tuple(np.concatenate(pair, axis) for pair in pairs), call)


@law(calls(modes=("max", "min", "sum", "avg"), kinds=EXACTLY, ceil=False), "padding_off_by_one")
def flips_commute(ours: Any, call: Call) -> None:
    """Where windows reach the end of the padded data: what they leave over is cut off first."""
    x, window = cells(call), call["window"]
    if call["mode"] in ("sum", "avg") and floating(call):
        x = x.astype(np.float64)  # exact, whatever the order
    axes, padding = tuple(range(1, x.ndim - 1)), []
    for axis, (n, k, s, (before, after), d) in zip(axes, geometry(call), strict=True):
        reach = (n + before + after - d * (k - 1) - 1) // s * s + d * (k - 1) + 1
        x = x[(slice(None),) * axis + (slice(reach - before),)]
        padding.append((before, max(0, reach - before - n)))
    got = ours.pool(np.flip(x, axes), call["mode"], **window | {"padding": [pair[::-1] for pair in padding]}, **call["options"])
    want = ours.pool(x, call["mode"], **window | {"padding": padding}, **call["options"])
    check(got, np.flip(want, axes), call)


# ---- modes -------------------------------------------------------------------------------------------------------


@law(calls(("max",)), "integers_padded_with_0")
def max_is_the_opposite_of_min(ours: Any, call: Call) -> None:
    """-x turns the order of floats round, ~x that of integers, unsigned ones too; the first of equals stays the first."""
    x = cells(call)
    turn = np.negative if floating(call) else np.invert
    smallest, where = pooled(ours, turn(x), call, mode="min")
    check(pooled(ours, x, call), (turn(smallest), where), call)


@law(calls(("avg",), WIDE), "reciprocal_instead_of_division")
def avg_is_the_sum_over_n(ours: Any, call: Call) -> None:
    """One division of the sum in the cells' own type. n is what pooling ones gives, on cells that padding counts as."""
    x, window, options = cells(call), call["window"], call["options"]
    total = ours.pool(x, "sum", **window)
    n: Any = options["divisor_override"]
    if n is None:
        ones = np.ones((1, *sizes(call), 1))
        if options["count_include_pad"]:
            wide = np.pad(ones, [(0, 0), *window["padding"], (0, 0)], constant_values=1)
            n = oracle.pool(wide, "sum", **window | {"padding": 0})[tuple(map(slice, (None, *total.shape[1:-1], None)))]
        else:
            n = oracle.pool(ones, "sum", **window)
    check(ours.pool(x, "avg", **window, **options), total / np.asarray(n, x.dtype), call)


@law(calls(("lp",), FLOATS), "norm_without_abs")
def the_greatest_norm_is_the_max_of_abs(ours: Any, call: Call) -> None:
    x = cells(call)
    greatest = values(pooled(ours, np.abs(x), call, mode="max"))
    got = ours.pool(x, "lp", **call["window"], p=np.inf)
    check(got, np.where(np.isneginf(greatest), 0, greatest).astype(x.dtype), call)  # of a window without cells: 0


@law(calls(tuple(pooling.MODES), FLOATS, ("special",)), "nan_ignored")
def nan_marks_its_windows_alone(ours: Any, call: Call) -> None:
    """No other cell may make one: without infinities, and with a divisor."""
    x = cells(call)
    x[~np.isnan(x) & ((np.abs(x) > 100) | (x == 0))] = 1
    call = call | {"options": call["options"] | ({"divisor_override": 3} if call["mode"] == "avg" else {})}
    marked = ours.pool(np.isnan(x), "max", **call["window"])
    check(np.isnan(values(pooled(ours, x, call))), marked, call)


@law(calls(EXACT, WIDE), "padded_with_the_lowest_float")
def scaled_cells_give_scaled_results(ours: Any, call: Call) -> None:
    """By powers of two no bit of a float is lost. A negative one makes a max a min."""
    mode, scale = call["mode"], (-1.0, 0.25, -(2.0**20))[call["seed"] % 3]
    if mode not in EXTREMES:
        call = call | {"kind": "real"}  # near to overflow, or to 0, a bit may be lost
    x, turned = cells(call), mode if scale > 0 else {"max": "min", "min": "max"}.get(mode, mode)
    factor = x.dtype.type(scale)
    check(values(pooled(ours, x * factor, call)), values(pooled(ours, x, call, mode=turned)) * factor, call)


@law(calls(("sum",), kinds=EXACTLY), "integer_sums_in_32_bits")
def sums_are_linear(ours: Any, call: Call) -> None:
    """Integers of any size too: both sides are taken modulo 2**64."""
    call = call | ({} if floating(call) else {"kind": "real"})
    x, y = cells(call), cells(call, 1)
    wide = np.float64 if floating(call) else np.uint64 if DTYPES[call["dtype"]].kind == "u" else np.int64
    x, y = x.astype(wide), y.astype(wide)
    check(pooled(ours, x + y, call), pooled(ours, x, call) + pooled(ours, y, call), call)


@law(
    calls(("max", "min", "sum", "avg"), (*WIDE, "int8", "uint8", "int32", "uint32"), FINITE),
    "integer_sums_in_32_bits",
)
def greater_cells_give_greater_results(ours: Any, call: Call) -> None:
    """Each rounding keeps the order, so any floats will do, where both sides are added in one order."""
    call = call | {"options": call["options"] | ({"divisor_override": 7} if call["mode"] == "avg" else {})}
    x = cells(call)
    y = np.maximum(x, cells(call, 1))
    assert (values(pooled(ours, x, call)) <= values(pooled(ours, y, call))).all(), call


@law(calls(EXTREMES, padded=False, ceil=False), "last_column_dropped")
def extremes_of_extremes_are_those_of_longer_windows(ours: Any, call: Call) -> None:
    """Windows of k, then of k again with the same gaps: windows of 2k - 1."""
    window, mode = call["window"] | {"stride": 1}, call["mode"]
    kernel, steps = window["kernel"], window["dilation"]
    spread = [n + d * (k - 1) for n, k, d in zip(sizes(call), kernel, steps, strict=True)]
    x = cells(call, shape=[call["shape"][0], *spread, call["shape"][-1]])
    twice = ours.pool(ours.pool(x, mode, **window), mode, **window)
    check(twice, ours.pool(x, mode, **window | {"kernel": [2 * k - 1 for k in kernel]}), call)


@law(calls(("max", "min", "sum"), kinds=EXACTLY, dilated=False), "padding_off_by_one")
def repeated_cells_in_longer_windows(ours: Any, call: Call) -> None:
    """Every cell twice, every amount of the window doubled: extremes stay, exact sums are multiplied."""
    x, window, mode = cells(call), dict(call["window"]), call["mode"]
    if floating(call):
        x = x.astype(np.float64)
    twice = x
    for axis in range(1, x.ndim - 1):
        twice = np.repeat(twice, 2, axis)
    for name in ("kernel", "stride", "padding"):
        window[name] = (2 * np.array(window[name])).tolist()
    want = ours.pool(x, mode, **call["window"])
    check(ours.pool(twice, mode, **window), want * 2 ** (x.ndim - 2) if mode == "sum" else want, call)


# ---- element types -----------------------------------------------------------------------------------------------


def wider(dtype: str) -> list[str]:
    """The types that hold every cell of this one."""
    row = DTYPES[dtype]
    return [
        name
        for name, other in DTYPES.items()
        if name != dtype
        and other.size > row.size
        and np.can_cast(numpy_dtype(dtype), numpy_dtype(name), "safe")
        and (other.kind != "f" or row.kind == "f" or row.size < 8)
    ]


@law(calls(EXTREMES, tuple(name for name in DTYPES if wider(name))), "unsigned_compared_as_signed")
def extremes_convert_before_or_after(ours: Any, call: Call) -> None:
    """To any type that holds all of their cells. A window without cells has none to convert."""
    x = cells(call)
    wide = numpy_dtype(wider(call["dtype"])[call["seed"] % len(wider(call["dtype"]))])
    result, where = pooled(ours, x, call)
    check(pooled(ours, x, call, dtype=wide), (result.astype(wide), where), (wide, call))
    before, again = pooled(ours, x.astype(wide), call)
    check(np.where(where < 0, before, result.astype(wide)), before, (wide, call))
    check(again, where, (wide, call))


@law(
    calls(("sum", "avg")),
    "rounded_toward_zero",
    only=("oracle", *(name for name in BACKENDS if not refused(name, "sum", "float64"))),
)
def a_float64_result_is_of_float64_cells(ours: Any, call: Call) -> None:
    """Sums and averages are made in it, of integers of any size as well; and another type is one conversion from it."""
    x = cells(call)
    wide = pooled(ours, x.astype(np.float64), call)
    check(pooled(ours, x, call, dtype="float64"), wide, call)
    inside = np.clip(np.nan_to_num(wide), -1000, 1000)
    rounded = ours.pool(inside, "max", 1, 1, dtype="int16")
    check(rounded, np.rint(inside).astype(np.int16), call)


@law(calls(("sum", "avg"), ("float16", "bfloat16")), "sums_in_float16")
def sixteen_bits_are_added_in_float32(ours: Any, call: Call) -> None:
    x = cells(call)
    wide = pooled(ours, x.astype(np.float32), call)
    check(pooled(ours, x, call, dtype="float32"), wide, call)
    check(pooled(ours, x, call), wide.astype(x.dtype), call)


# ---- out, threads --------------------------------------------------------------------------------------------------


@law(calls(), "out_half_written", only=("oracle", "cpu"))
def out_is_the_result(ours: Any, call: Call) -> None:
    """Any strides; the array that was given is the one that comes back."""
    x, rng = cells(call), np.random.default_rng(call["seed"])
    want = pooled(ours, x, call)
    out = each(lambda part: fuzz._view(rng, np.full_like(part, 1)), want)
    got = pooled(ours, x, call, out=out)
    assert all(ours is theirs for ours, theirs in zip(got, out, strict=True)) if isinstance(want, tuple) else got is out
    check(out, want, call)


@law(calls(tuple(pooling.MODES)), "threads_change_the_order", only=("cpu",))
def threads_never_matter(ours: Any, call: Call) -> None:
    x, before = cells(call), pooling.get_num_threads()
    try:
        pooling.set_num_threads(1)
        want = pooled(ours, x, call)
        pooling.set_num_threads(3)
        check(pooled(ours, x, call), want, call)
    finally:
        pooling.set_num_threads(before)


# ---- indices -----------------------------------------------------------------------------------------------------


def picked(x: Array, where: Array) -> Array:
    """The cells at the indices of a result; 0 where there is no cell."""
    flat = x.reshape(x.shape[0], -1, x.shape[-1])
    cells = where.reshape(x.shape[0], -1, x.shape[-1])
    return np.where(where < 0, 0, np.take_along_axis(flat, np.maximum(cells, 0), 1).reshape(where.shape)).astype(x.dtype)


@law(calls(EXTREMES), "index_one_plane_off")
def indices_point_at_the_values(ours: Any, call: Call) -> None:
    """And are -1 where pooling ones finds none, and there alone."""
    x = cells(call)
    result, where = pooled(ours, x, call)
    assert ((where >= -1) & (where < prod(sizes(call)))).all(), call
    check(np.where(where < 0, 0, result).astype(x.dtype), picked(x, where), call)
    count = oracle.pool(np.ones(x.shape), "sum", **call["window"])
    check(where < 0, count == 0, call)


@law(calls(EXTREMES), "ties_to_the_last")
def of_equal_cells_the_first(ours: Any, call: Call) -> None:
    """A plane of equal cells: the index of a window is that of its first cell, which the smallest of all indices is."""
    x = np.ones(call["shape"], numpy_dtype(call["dtype"]))
    order = np.broadcast_to(np.arange(prod(sizes(call))).reshape(*sizes(call), 1), x.shape)
    first = pooled(ours, order.astype(np.float32), call, mode="min")[1]
    check(pooled(ours, x, call)[1], first, call)


@law(calls(EXTREMES, kinds=("real", "special"), dilated=False), "minus_one_unpooled_to_the_end")
def unpooled_values_stand_where_they_stood(ours: Any, call: Call) -> None:
    """All other cells are 0. Every second index is -1: nowhere."""
    x, window = cells(call), {name: call["window"][name] for name in ("kernel", "stride", "padding")}
    result, where = pooled(ours, x, call)
    where = np.where(np.arange(where.size).reshape(where.shape) % 2, where, -1)
    want = np.zeros_like(x).reshape(x.shape[0], -1, x.shape[-1])
    for n, *place, c in zip(*np.nonzero(where >= 0), strict=True):
        want[n, where[(n, *place, c)], c] = result[(n, *place, c)]
    check(ours.max_unpool(result, where, **window, output_size=sizes(call)), want.reshape(x.shape), call)


# ---- adaptive windows, global ones -------------------------------------------------------------------------------


@law(calls(padded=False, dilated=False), "adaptive_windows_by_floor_and_floor")
def adaptive_windows_are_slices(ours: Any, call: Call) -> None:
    """Each as if it were alone; the sizes asked for are the strides drawn, some of them larger than the axis."""
    x, mode, outs = cells(call), call["mode"], call["window"]["stride"]
    got = ours.adaptive_pool(x, mode, outs)
    assert list(got.shape[1:-1]) == outs, call
    for place in np.ndindex(*outs):
        rows = [(o * n // out, -(-(o + 1) * n // out)) for o, n, out in zip(place, sizes(call), outs, strict=True)]
        alone = ours.global_pool(x[(slice(None), *(slice(*row) for row in rows))].copy(), mode, keepdims=False)
        check(got[(slice(None), *place)], alone, (place, call))


@law(calls(padded=False, dilated=False), "last_column_dropped")
def adaptive_pooling_is_pooling_where_it_divides(ours: Any, call: Call) -> None:
    """Forward, with indices, and backward; one window over all is global_pool."""
    outs, kernel, mode = call["window"]["stride"], call["window"]["kernel"], call["mode"]
    x = cells(call, shape=[1, *(out * k for out, k in zip(outs, kernel, strict=True)), call["shape"][-1]])
    if x.size > 20_000:
        x = x[(slice(None), *map(slice, kernel))].copy()
        outs = [1] * len(outs)
    own = {} if mode == "avg" else call["options"]
    indexed = {"return_indices": True} if mode in EXTREMES else {}
    got = ours.adaptive_pool(x, mode, outs, **own, **indexed)
    check(got, ours.pool(x, mode, kernel, **own, **indexed), call)
    if floating(call):
        g = data(values(got).shape, call["dtype"], call["seed"] + 1)
        check(ours.adaptive_pool_backward(g, x, mode, outs), ours.pool_backward(g, x, mode, kernel), call)
    whole = ours.pool(x, mode, x.shape[1:-1], **indexed)
    check(ours.global_pool(x, mode, **indexed), whole, call)


# ---- gradients ---------------------------------------------------------------------------------------------------


@law(calls(("sum",), WIDE), "padding_off_by_one")
def the_gradient_of_a_sum_counts_windows(ours: Any, call: Call) -> None:
    """The gradient of ones at each cell is the number of windows that hold it, which is counted here one by one."""
    x, want = cells(call), np.ones(())
    shape = pooling.output_shape(call["shape"], **call["window"])
    for (n, k, s, (before, _), d), out in zip(geometry(call), shape[1:-1], strict=True):
        count = np.zeros(n)
        for first in range(-before, out * s - before, s):
            for cell in range(first, first + k * d, d):
                if 0 <= cell < n:
                    count[cell] += 1
        want = np.multiply.outer(want, count)
    got = ours.pool_backward(np.ones(shape, x.dtype), x, "sum", **call["window"])
    check(got, np.broadcast_to(want[..., None], x.shape).astype(x.dtype), call)


@law(calls(EXACT, WIDE, EXACTLY), "gradient_of_an_average_not_divided")
def the_gradient_is_the_adjoint(ours: Any, call: Call) -> None:
    """<g, P x> == <P' g, x> in exact integers: for max and min P picks the cells of x; avg divides by a power of two."""
    x, window, mode = cells(call), call["window"], call["mode"]
    options = {"divisor_override": -4} if mode == "avg" else {}
    y = values(pooled(ours, x, call | {"options": options}))
    y = np.where(np.isinf(y), 0, y)  # a window without cells
    g = data(y.shape, call["dtype"], call["seed"] + 1, "small_integers")
    back = ours.pool_backward(g, x, mode, **window, **options)
    left, right = (float((a.astype(np.float64) * b).sum()) for a, b in ((g, y), (back, x)))
    assert left == right, (left, right, call)


@law(calls(EXTREMES, FLOATS), "gradient_of_a_tie_split_evenly")
def given_indices_give_the_same_gradient(ours: Any, call: Call) -> None:
    """They say where it goes; and from windows that share no cell it goes there as max_unpool goes."""
    x, window, mode = cells(call), dict(call["window"]), call["mode"]
    if call["seed"] % 2:
        window |= {"stride": [d * (k - 1) + 1 for k, d in zip(window["kernel"], window["dilation"], strict=True)]}
    result, where = ours.pool(x, mode, **window, return_indices=True)
    g = data(result.shape, call["dtype"], call["seed"] + 1)
    got = ours.pool_backward(g, x, mode, **window)
    check(ours.pool_backward(g, x, mode, **window, indices=where), got, call)
    if call["seed"] % 2:
        want = np.zeros_like(x).reshape(x.shape[0], -1, x.shape[-1])
        for n, *place, c in zip(*np.nonzero(where >= 0), strict=True):
            want[n, where[(n, *place, c)], c] = g[(n, *place, c)]
        check(got, want.reshape(x.shape), call)


@law(calls(EXACT, WIDE, ("real", "small_integers")), "gradients_overwritten_where_windows_overlap")
def what_flows_in_flows_out(ours: Any, call: Call) -> None:
    """Integer gradients of max and min arrive whole; of sums as often as the window has cells."""
    x, window, mode = cells(call), call["window"], call["mode"]
    shape = pooling.output_shape(call["shape"], **window)
    g = data(shape, call["dtype"], call["seed"] + 1, "small_integers")
    options = {"divisor_override": -2} if mode == "avg" else {}
    count = oracle.pool(np.ones(x.shape), "sum", **window)
    times = {"sum": count, "avg": count / -2}.get(mode, count > 0)
    got = ours.pool_backward(g, x, mode, **window, **options)
    assert float(got.astype(np.float64).sum()) == float((g * times).sum()), call


__all__ = ["LAWS", "Backend", "Law", "law"]
