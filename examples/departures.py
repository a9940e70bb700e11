"""Runs other libraries' pooling over the named cases, and writes down where they depart from the reference, and how.

    python examples/departures.py [--only LIBRARY ...] [--write docs/departures.md] [--json FILE]

Each library that is installed is asked every call that it has words for, in a process of its own, and its cells are compared with
the oracle's by ==. What differs is explained by WAYS: a departure is listed where the cells are those of pooling in another way,
cell by cell, and its reproducer is the smallest call that was found by running the library on ever smaller ones. libraries.py
has the libraries, ways.py the other ways to pool.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from libraries import LIBRARIES, Cannot, Library
from ways import FLOATS, Array, Call, Near, as_if, fits

import pooling
import pooling.testing
from pooling.testing import agree, cases
from pooling.testing.apart import Died, apart

BY_NAME = {library.name: library for library in LIBRARIES}
PATIENCE, SOON = 120, 3  # seconds for an answer: usually, and where it may take for ever
SHRINKING = 4.0  # seconds for a departure
MEMORY = 12 * 2**30  # bytes of address space for a library


# ---- explanations ----------------------------------------------------------------------------------------------------


class Way(NamedTuple):
    """A row: what a library does, and the rule that it departs from; `knobs` tells as_if, for a call in which that can be."""

    key: str
    title: str
    gives: str
    reference: str
    knobs: Callable[[Call], Mapping[str, Any] | None]
    rounding: bool = False
    general: int = 0  # of two explanations the less general one is taken
    beside: bool = False  # whether it may matter beside another way where it does not alone


def when(test: Callable[[Call], bool], **knobs: Any) -> Callable[[Call], Mapping[str, Any] | None]:
    return lambda call: knobs if test(call) else None


def floating(call: Call) -> bool:
    return call.dtype in FLOATS


def extreme(call: Call) -> bool:
    return call.mode in ("max", "min") and call.function != "max_unpool"


def extreme_float(call: Call) -> bool:
    return extreme(call) and floating(call)


def adds(call: Call) -> bool:
    return floating(call) and (call.mode in ("avg", "sum") or (call.backward and extreme(call)))


def whole_average(call: Call) -> bool:
    return call.mode == "avg" and not floating(call)


def one_window(call: Call) -> bool:
    return call.adaptive and call.dtype in ("int32", "int64") and set(call.each("output_size")) == {1}


def norm(call: Call) -> bool:
    return call.mode == "lp"


NAN = "Section 3: NaN propagates in every mode. Section 4: its index is that of the last NaN of the window."
ORDER = "Section 6: pairwise sums in one fixed order, one division, one rounding."

WAYS = (
    Way(
        "nan_ignored",
        "NaN is ignored",
        "A NaN is passed over: the result is the extreme of the window's other cells.",
        NAN,
        when(extreme_float, nan="ignored"),
    ),
    Way(
        "nan_forgotten",
        "NaN is forgotten at the next cell",
        "The cell after a NaN takes its place, so the result depends on where in the window the NaN stands.",
        NAN,
        when(extreme_float, nan="forgotten"),
    ),
    Way(
        "nan_padded",
        "NaN is forgotten at the next cell, of the padding too",
        "Padding is -inf among the cells: the one after a NaN takes its place, and with it the gradient, which is lost.",
        NAN,
        when(lambda call: extreme_float(call) and call.function == "pool_backward", nan="forgotten", outside=True),
        general=1,
    ),
    Way(
        "nan_compared",
        "NaN counts only as the first cell",
        "Cells are compared by >, which is false for a NaN: as the window's first cell it stays, any other one is passed over.",
        NAN,
        when(extreme_float, nan="compared"),
    ),
    Way(
        "nan_open",
        "NaN is kept or lost by the place in a vector",
        "With a NaN in the window the result is NaN or another cell: it depends on which cells a vector compares first.",
        NAN,
        when(lambda call: extreme_float(call) and not call.backward and not call.arguments.get("return_indices"), nan="open"),
        general=4,
    ),
    Way(
        "finite_start",
        "A window of -inf has a finite maximum",
        "The search starts at the lowest finite number, which is the result where no cell exceeds it.",
        "Section 3: the identity of max is -inf, that of min +inf.",
        when(extreme_float, start="finite"),
    ),
    Way(
        "unmoved",
        "Index 0 where no cell exceeds the lowest value",
        "A window whose cells all are the lowest value of the type (or NaN) gets index 0, which may lie outside of the window.",
        "Section 4: the first cell of a tie; -1 for a window without a cell.",
        when(lambda call: extreme(call) and (call.backward or bool(call.arguments.get("return_indices"))), unmoved=0),
        beside=True,
    ),
    Way(
        "depth",
        "The index of a window of -inf forgets the depth",
        "A window whose cells all are -inf gets the index of its first cell in the first plane of the volume.",
        "Section 4: the first cell of a tie.",
        when(lambda call: extreme(call) and call.rank == 3, unmoved="depth"),
    ),
    Way(
        "whole",
        "Indices count through the whole array",
        "An index counts through batch, channels and plane.",
        "Section 4: an index counts through one plane of the input.",
        when(lambda call: extreme(call) and bool(call.arguments.get("return_indices")), index="whole"),
    ),
    Way(
        "ties_last",
        "Ties go to the last cell",
        "Of equal cells the last one has the index, and the gradient.",
        "Section 4: the first cell in row-major order.",
        when(extreme, ties="last"),
    ),
    Way(
        "ties_split",
        "The gradient of a tie is split",
        "Equal cells share the gradient evenly, and a window with a NaN gives NaN to all of its cells (0 / 0).",
        "Section 4: the gradient goes to the indexed cell: the first of a tie, the last NaN.",
        when(lambda call: extreme(call) and call.backward, ties="split"),
    ),
    Way(
        "pad_zero",
        "Padding competes with integers",
        "Padding is -inf converted to the cells' type: 0 in the small integers, True in bool, which beat the cells.",
        "Section 3: padding never counts as data.",
        lambda call: {"pad": call.dtype == "bool"} if extreme(call) and not floating(call) else None,
    ),
    Way(
        "stop_float32",
        "Cells pass through float32",
        "Wider cells are converted to float32, infinite ones to its largest number, and the result back.",
        "Section 5: max and min in the own type, float64 and 64-bit integers in float64.",
        when(lambda call: call.dtype in ("float64", "int32", "int64", "uint32", "uint64"), stop="float32"),
        beside=True,
    ),
    Way(
        "stop_int32",
        "int64 passes through int32",
        "Cells lose their upper 32 bits.",
        "Section 5: max and min in the own type.",
        when(lambda call: call.dtype == "int64", cut="int32"),
        beside=True,
    ),
    Way(
        "same_undilated",
        '"same" forgets the dilation',
        "The padding is that of a window without gaps, so the result is smaller than the input divided by the stride.",
        'Section 1: padding="same" keeps ceil(n / s) cells, from the reach d * (k - 1) + 1.',
        when(
            lambda call: call.function == "pool" and isinstance(call.padding, str) and set(call.each("dilation", 1)) != {1},
            same="undilated",
        ),
    ),
    Way(
        "overhang",
        "ceil_mode's overhang is counted in the divisor",
        "The last window is divided by the whole kernel, although it hangs over the padding.",
        "Section 3: taps past the padding are in neither the sum nor the divisor.",
        when(lambda call: call.mode == "avg" and bool(call.arguments.get("ceil_mode")), count="kernel"),
    ),
    Way(
        "uncounted",
        "Padding is never counted in the divisor",
        "The sum is divided by the cells in the data.",
        "Section 3: with count_include_pad the padding is counted.",
        when(lambda call: call.mode == "avg", count="data"),
    ),
    Way(
        "truncated",
        "The average of integers is an integer, truncated",
        "The quotient is cut off towards 0, in the cells' type.",
        "Section 5: the average of integers is a float32.",
        when(whole_average, result="own", whole="trunc"),
    ),
    Way(
        "halved",
        "The average of integers is an integer, rounded",
        "The quotient is rounded to the nearest integer, half to even, in the cells' type.",
        "Section 5: the average of integers is a float32.",
        when(whole_average, result="own", whole="rint"),
    ),
    Way(
        "wraps",
        "Sums of integers wrap in the cells' type",
        "A sum that does not fit the cells' type wraps around.",
        "Section 5: integers are summed in 64 bits, averages from the exact sum.",
        lambda call: {"wrap": call.dtype} if call.mode in ("avg", "sum") and not floating(call) else None,
    ),
    Way(
        "saturates",
        "Sums of integers saturate in the cells' type",
        "A sum that leaves the cells' type (that of int64 leaves int32) stays at its end, so that the average is at most that "
        "over the cells.",
        "Section 5: averages of integers from the exact sum.",
        when(lambda call: whole_average(call) and (call.dtype in ("int8", "uint8") or one_window(call)), wrap="saturates"),
        general=4,
    ),
    Way(
        "flush",
        "Subnormal numbers become 0",
        "A result below the smallest normal number is flushed to 0.",
        "Section 6: one rounding to the result (subnormals are left open for devices that flush them).",
        when(adds, flush=True),
    ),
    Way(
        "plain powers",
        "Powers overflow, or vanish",
        "Powers are taken in the cells' range: the norm of 1e30 is inf, that of 1e-30 is 0.",
        "Section 3: scaled, or in float64, so that the norm is right where it is representable.",
        when(norm, powers="plain"),
        general=1,
    ),
    Way(
        "signed",
        "Odd powers keep the sign",
        "Cells are raised to p with their sign, so that they cancel, and the root of a negative sum is NaN.",
        "Section 3: abs(x)**p.",
        when(lambda call: norm(call) and call.arguments.get("p") == 3.0, powers="plain", sign="kept"),
        general=1,
    ),
    Way(
        "mean",
        "A norm that hangs over is scaled up",
        "The mean of the powers is taken over the cells that there are, and multiplied by the kernel's size.",
        "Section 3: the sum of the powers, whatever hangs over.",
        when(lambda call: norm(call) and bool(call.arguments.get("ceil_mode")), powers="plain", mean=True),
        general=1,
    ),
    Way(
        "rows",
        "Sums from left to right",
        "The cells of a window are added one after the other, row by row.",
        ORDER,
        when(adds, adds="rows"),
        True,
        1,
    ),
    Way(
        "float64",
        "Sums as in float64",
        "The sum is the exact one, rounded once.",
        ORDER,
        when(adds, adds="float64"),
        True,
        1,
    ),
    Way(
        "any",
        "Sums in another order, or by a reciprocal",
        "No further from the exact result than n additions in any order, a rounded reciprocal and a product can be.",
        ORDER,
        when(lambda call: adds(call) or whole_average(call), adds="any"),
        True,
        2,
    ),
    Way(
        "own",
        "Sums in half precision",
        "Sums are rounded to 16 bits at every addition: within what n additions in that type can be off.",
        "Section 5: float16 and bfloat16 are added in float32 and rounded once.",
        when(lambda call: adds(call) and call.dtype in ("float16", "bfloat16"), adds="own"),
        True,
        3,
    ),
    Way(
        "rounded powers",
        "Powers and roots of another rounding",
        "Within the bound that the oracle derives for other power functions in float32 (float64 for float64).",
        "Section 3: how lp is computed is free, within that bound. Not a departure from the specification.",
        when(norm, powers="rounded"),
        True,
    ),
)
WAY = {way.key: way for way in WAYS}

Ways = tuple[str, ...]  # keys


def merged(call: Call, keys: Ways) -> dict[str, Any] | None:
    """The knobs of several ways; None where one cannot be in this call, or two disagree."""
    result: dict[str, Any] = {}
    for key in keys:
        knobs = WAY[key].knobs(call)
        if knobs is None or any(result.get(name, value) != value for name, value in knobs.items()):
            return None
        result |= knobs
    return result


def changes(parts: Sequence[Array | Near], usual: Sequence[Array | Near]) -> bool:
    """Whether a way makes a difference to a call."""
    pairs = list(zip(parts, usual, strict=True))
    return any(isinstance(one, Near) or isinstance(other, Near) or not agree(one, other) for one, other in pairs)


def explanations(got: Sequence[Array], call: Call, seconds: float = 5) -> list[Ways]:
    """All sets of ways that reproduce every cell, of the fewest ways that do."""
    until, usual = time.process_time() + seconds, as_if(call, {})
    usable, found = list[str](), list[Ways]()
    for way in WAYS:
        knobs = way.knobs(call)
        if knobs is not None:
            parts = as_if(call, knobs)
            if way.rounding or way.beside or norm(call) or changes(parts, usual):
                usable.append(way.key)
                found += [(way.key,)] * fits(got, parts, call)
    for size in (2, 3, 4):
        for keys in combinations(usable, size) if not found else ():
            if time.process_time() > until:
                break
            knobs = merged(call, keys)
            if knobs is not None and fits(got, as_if(call, knobs), call):
                found.append(keys)
    return found


def cover(found: Mapping[str, list[Ways]]) -> dict[str, Ways]:
    """One explanation for each call, from few ways: again and again the one that explains most of the calls that are left.

    A more general way has to explain a tenth more.
    """
    known: set[str] = set()
    left, chosen = dict(found), {}
    order = list(WAY)
    while left:
        count = Counter(keys for sets in left.values() for keys in sets)

        def merit(keys: Ways, count: Counter[Ways] = count) -> tuple[float, list[int]]:
            return count[keys] * 0.9 ** sum(WAY[key].general for key in keys), [-order.index(key) for key in keys]

        known |= set(max(count, key=merit))
        for name, sets in list(left.items()):
            ready = [keys for keys in sets if set(keys) <= known]
            if ready:
                chosen[name] = min(ready, key=lambda keys: sum(WAY[key].general for key in keys))
                del left[name]
    return chosen


# ---- questions -------------------------------------------------------------------------------------------------------

WIDTHS = ("channels_8", "channels_1", "channels_3", "channels_6", "one_below_", "exactly_", "one_beyond_", "halves_")


def questions(library: Library) -> list[Any]:
    """The cases of pooling.testing that it is asked.

    All of float32: every mode and geometry, real and special data, forward, with indices, and backward. Of its other types the
    special data, channels first where it has both orders. Where a model is compiled for each call, not the cases that only
    differ in how many cells fill a vector.
    """
    found = []
    for golden in cases(function=None, dtype=library.dtypes, layout=library.layouts):
        question, plain = golden.question, golden.dtype == "float32"
        if golden.indices and golden.function.endswith("_backward"):
            continue  # indices given to a gradient: no library has that
        if question.p not in (None, 2.0, 3.0):
            continue
        if golden.mode == "min" and question.kind != "special":
            continue  # it is max turned round
        if not plain and (question.kind != "special" or golden.mode in ("min", "lp") or golden.layout != library.layouts[0]):
            continue
        if question.result is not None and (not plain or question.kind != "real" or golden.layout != library.layouts[0]):
            continue
        if question.case.name.startswith(WIDTHS) and (library.compiles or not plain):
            continue
        if (dangerous(golden) or endless(golden)) and not (
            plain and question.kind == "real" and golden.mode in ("max", "avg") and golden.layout == library.layouts[0]
        ):
            continue
        if endless(golden) and (golden.function != "pool" or golden.indices):
            continue
        if library.compiles and not plain and golden.function.endswith("_backward"):
            continue
        found.append(golden)
    return found


def dangerous(case: Any) -> bool:
    """Whether a call gets a process of its own: the gradient of a window without a cell, which PyTorch writes anywhere."""
    return case.mode in ("max", "min") and case.function.endswith("_backward") and "empty_window" in case.features


def endless(case: Any) -> bool:
    """Whether a call may visit 2**31 taps, which the process shall not survive."""
    return "huge" in case.features


# ---- in the library's process ----------------------------------------------------------------------------------------


def confined() -> None:
    """A call that asks for all of the machine's memory fails, and the machine lives."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    except (ImportError, ValueError, OSError):
        pass


def answers(library: str, calls: Sequence[Call], seconds: int) -> Iterator[tuple[str, Any]]:
    """The arrays for each call, or the sentence of a refusal; a call that takes more seconds than that ends the process."""
    own = BY_NAME[library]
    start = own.start()
    confined()
    for call in calls:
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_PROF, seconds)  # of the processor's time, not the clock's
        try:
            yield "gave", own.ask(start, call)
        except Exception as error:  # whatever a library raises is its answer
            yield "refused", f"{type(error).__name__}: {error}"


class Smallest(NamedTuple):
    """A departure's reproducer, as it was run."""

    program: str
    got: tuple[Array, ...]
    expected: tuple[Array, ...]


class Job(NamedTuple):
    """A departure to be reproduced: a call that shows it, the ways that explain it, and ways that shall not explain it too."""

    key: str
    ways: Ways
    call: Call
    others: Ways


def reproduced(library: str, jobs: Sequence[Job]) -> Iterator[Smallest | None]:
    """For each job the smallest call that shows it, found by running the library; None for one that is done, or cannot be."""
    own, done = BY_NAME[library], set[str]()
    start = own.start()
    confined()
    for job in jobs:

        def shows(call: Call, job: Job = job) -> bool:
            try:
                got = own.ask(start, call)
            except Exception:  # a smaller call may be one that it refuses
                return False
            if len(got) == len(call.expected) and all(map(agree, got, call.expected)):
                return False
            knobs = merged(call, job.ways)
            if knobs is None or not fits(got, as_if(call, knobs), call):
                return False
            fewer = [tuple(key for key in job.ways if key != less) for less in job.ways]
            rest = [merged(call, keys) for keys in (*fewer, *((key,) for key in job.others)) if keys]
            return not any(knobs is not None and fits(got, as_if(call, knobs), call) for knobs in rest)

        if job.key in done or not shows(job.call):
            yield None
            continue
        small = shrunk(job.call, shows, time.process_time() + SHRINKING)
        program = "\n".join((*own.first, *literals(own, small), own.program(small)))
        names: dict[str, Any] = {}
        exec(program, names)  # the very text that the page prints
        result = names["result"]
        parts = result if isinstance(result, (tuple, list)) else (result,)
        done.add(job.key)
        yield Smallest(program, tuple(np.array(own.take(part, small)) for part in parts), small.expected)


def probed(library: str, program: str) -> Iterator[str]:
    """What a program of PROBES leaves as its result, as text."""
    names: dict[str, Any] = {}
    exec(program, names)
    yield str(names["result"])


# ---- smaller calls ---------------------------------------------------------------------------------------------------


def shrunk(call: Call, shows: Callable[[Call], bool], until: float) -> Call:
    """The last of ever smaller calls that still shows the departure."""
    call = plain(call)
    progress = True
    while progress and time.process_time() < until:
        progress = False
        for smaller in smaller_calls(call):
            if time.process_time() > until:
                break
            if legal(smaller) and shows(smaller):
                call, progress = smaller, True
                break
    return call


def plain(call: Call) -> Call:
    """One value for each axis, in every argument."""
    arguments = dict(call.arguments)
    if call.adaptive:
        sizes = zip(call.sizes, call.each("output_size"), strict=True)
        arguments["output_size"] = tuple(n if out is None else out for n, out in sizes)
    elif call.function != "max_unpool":
        given = {
            "kernel": call.each("kernel"),
            "stride": call.stride,
            "dilation": call.each("dilation", 1),
            "padding": call.padding,
        }
        arguments |= given
    return replace(call, arguments=arguments, answer=None)


def legal(call: Call) -> bool:
    """Whether pooling takes it."""
    if call.adaptive:
        return all(n > 0 for n in call.sizes)
    given = {
        name: call.arguments[name] for name in ("kernel", "stride", "padding", "dilation", "ceil_mode") if name in call.arguments
    }
    try:
        pooling.output_shape(call.x.shape, layout=call.layout, **given)
    except ValueError:
        return False
    return True


def smaller_calls(call: Call) -> Iterator[Call]:
    """Calls that are a little simpler, the greatest steps first."""
    if call.function == "max_unpool":
        return
    x, given = call.x, dict(call.arguments)

    def other(x: Array = x, layout: str = call.layout, **changed: Any) -> Call:
        arguments = {**given, **changed, "layout": layout}
        made = replace(call, arrays={"x": np.ascontiguousarray(x)}, arguments=arguments, layout=layout)
        if call.backward and legal(made):
            forward = {name: value for name, value in arguments.items() if name not in ("return_indices",)}
            shape = getattr(pooling.testing.oracle, call.function.removesuffix("_backward"))(made.x, **forward).shape
            g = call.arrays["grad_output"]
            g = g if g.shape == shape else np.resize(g, shape)
            made = replace(made, arrays={"grad_output": g, **made.arrays})
        return made

    def per_axis(name: str, at: int, value: Any) -> dict[str, Any]:
        own = given[name]
        return {name: (*own[:at], value, *own[at + 1 :])}

    geometry = [name for name in ("kernel", "stride", "dilation", "padding", "output_size") if isinstance(given.get(name), tuple)]
    for axis in [axis for axis in range(x.ndim) if axis not in call.axes and x.shape[axis] > 1]:
        for i in range(x.shape[axis]):
            yield other(x.take([i], axis))
        yield other(x.take([0, 1], axis))
    if call.rank > 1 and call.layout.startswith("channels"):
        for at, axis in enumerate(call.axes):
            kept = {name: given[name][:at] + given[name][at + 1 :] for name in geometry}
            for i in range(x.shape[axis]):
                yield other(x.take(i, axis), **kept)
    for at, axis in enumerate(call.axes):
        n = x.shape[axis]
        for count in sorted({n // 2, n - 1} - {0}):
            yield other(x.take(range(count), axis))
            yield other(x.take(range(n - count, n), axis))
            if call.adaptive and given["output_size"][at] > 1:
                yield other(x.take(range(count), axis), **per_axis("output_size", at, given["output_size"][at] - 1))
        for name in set(geometry) - {"padding"}:
            value = given[name][at]
            for less in sorted({1, value // 2, value - 1} - {0, value}):
                if less < value:
                    yield other(**per_axis(name, at, less))
                    if name == "kernel" and n > less:
                        yield (
                            other(x.take(range(n - value + less), axis), **per_axis(name, at, less))
                            if n > value - less
                            else other()
                        )
        if "padding" in geometry:
            before, after = given["padding"][at]
            for sides in {(0, 0), (before, 0), (0, after), (before // 2, after // 2), (max(before - 1, 0), max(after - 1, 0))}:
                if sides != (before, after) and sum(sides) < before + after:
                    yield other(**per_axis("padding", at, sides))
    for name, usual in {"ceil_mode": False, "count_include_pad": True, "return_indices": False}.items():
        if given.get(name, usual) != usual:
            yield other(**{name: usual})
    for name in call.arrays:
        for array in simpler(call.arrays[name]):
            yield replace(call, arrays={**call.arrays, name: array})


def simpler(array: Array) -> Iterator[Array]:
    """The array with rounder cells: all of them, or one."""
    floats = array.dtype.name in FLOATS
    wide = array.astype(np.float64) if floats else array
    tries = [np.ones(array.shape), np.arange(1, array.size + 1).reshape(array.shape), wide + 0.0 if floats else wide]
    if floats:
        with np.errstate(all="ignore"):
            tries += [np.where(np.abs(wide) < 1e6, np.round(wide, digits) + 0.0, wide) for digits in (0, 1, 2)]
    for parts in (2, 4, 8):
        for part in np.array_split(np.arange(array.size), parts) if array.size >= 2 * parts else ():
            some = wide.copy()
            some.flat[part] = 0
            tries.append(some)
    if array.size <= 24:
        for at in np.ndindex(array.shape):
            for value in (0, 1):
                if wide[at] not in (0, 1):
                    one = wide.copy()
                    one[at] = value
                    tries.append(one)
    for given in tries:
        with np.errstate(all="ignore"):
            made = given.astype(array.dtype)
        if listed(made) != listed(array) and simplicity(made) < simplicity(array):
            yield made


def simplicity(array: Array) -> tuple[int, int]:
    """How much there is to read: cells that are neither 0 nor 1, and digits."""
    text = listed(array)
    return len(re.findall(r"[^\[\], ]+", text)) - len(re.findall(r"(?<![\d.-])[01](\.0)?(?![\d.])", text)), len(text)


# ---- text ------------------------------------------------------------------------------------------------------------


def listed(array: Array) -> str:
    """Nested lists, in the shortest digits that tell the cells apart."""
    if array.ndim:
        return f"[{', '.join(map(listed, array))}]"
    return (
        str(bool(array))
        if array.dtype.kind == "b"
        else str(array.astype(np.float32) if array.dtype.name == "bfloat16" else array)
    )


def literals(library: Library, call: Call) -> list[str]:
    texts = {name: listed(array) for name, array in call.arrays.items()}
    special = [word for word in ("nan", "inf") if any(word in text for text in texts.values())]
    first = [f"from math import {', '.join(sorted(special))}"] if special else []
    return first + [library.literal(name, text, call) for name, text in texts.items()]


# ---- what else is asked ----------------------------------------------------------------------------------------------


def extremes_of_range(library: Library) -> list[Call]:
    """Cells that the cases do not have: norms of very large and very small cells, sums of subnormal ones."""
    found = []
    for golden in cases(
        dtype="float32", layout=library.layouts[0], mode=("lp", "avg"), name=("*/pad_both/*", "*/last_cells_dropped/*")
    ):
        if golden.question.kind != "real" or golden.question.p not in (None, 2.0):
            continue
        call = Call.of(golden)
        for power in (100, -100) if golden.mode == "lp" else (-140,):
            x = call.x * np.float32(2.0**power)
            name = golden.name.replace("/real/", f"/times_2**{power}/")
            found.append(replace(call, name=name, arrays={"x": x}, features=call.features | {"range"}, answer=None))
    return found


class Probe(NamedTuple):
    """A program that shows what a comparison of cells cannot; `shows` reads its result, or the death of its process."""

    library: str
    title: str
    gives: str
    reference: str
    program: str
    shows: Callable[[str], bool]


PROBES = (
    Probe(
        "torch",
        "The gradient of a window without a cell is written outside of its buffer",
        "The index of a dilated window whose taps all miss the data lies beyond the plane, and the gradient is added there: here "
        "to the fourth number of a buffer of three. As an ordinary call, it corrupts the memory of the process.",
        "Section 4: index -1, and no gradient. No index is ever outside of the plane.",
        """import torch
x, memory = torch.zeros(1, 1, 1, 3), torch.zeros(6)
window = [1, 2], [1, 1], [0, 1], [1, 4], False  # kernel, stride, padding, dilation, ceil_mode
values, indices = torch.ops.aten.max_pool2d_with_indices(x, *window)
torch.ops.aten.max_pool2d_with_indices_backward.grad_input(
    torch.ones_like(values), x, *window, indices, grad_input=memory[:3].view(1, 1, 1, 3)
)
result = indices.tolist(), memory.tolist()""",
        lambda result: result == "([[[[3]]]], [0.0, 0.0, 0.0, 1.0, 0.0, 0.0])",
    ),
    Probe(
        "openvino",
        "avg_pool of opset16 without dilations ends the process",
        "`dilations` has a default, with which the model cannot be compiled: the process dies. (All other calls here give them.)",
        "A default that is one, or an error.",
        """import openvino
import openvino.opset16
p = openvino.opset16.parameter([1, 1, 4], openvino.Type.f32)
model = openvino.Model([openvino.opset16.avg_pool(p, [1], [0], [0], [2], True).output(0)], [p])
result = openvino.compile_model(model, "CPU")""",
        lambda result: result.startswith("the process"),
    ),
)

# Threads of the libraries' own trackers, as found by a search; where none is named, none was found.
UPSTREAM = {
    ("torch", "signed"): "[pytorch/pytorch#184037](https://github.com/pytorch/pytorch/issues/184037) (open)",
    (
        "torch",
        "plain powers",
    ): "[pytorch/pytorch#6765](https://github.com/pytorch/pytorch/issues/6765) (closed; of its gradients)",
    (
        "torch",
        PROBES[0].title,
    ): "[pytorch/pytorch#114216](https://github.com/pytorch/pytorch/issues/114216) (of the -inf that such windows give)",
    ("openvino", PROBES[1].title): "[keras-team/keras#23039](https://github.com/keras-team/keras/pull/23039) (works around it)",
    (
        "openvino",
        "finite_start",
    ): "[openvinotoolkit/openvino#35935](https://github.com/openvinotoolkit/openvino/issues/35935) (open)",
    (
        "openvino",
        "nan_ignored",
    ): "[openvinotoolkit/openvino#35935](https://github.com/openvinotoolkit/openvino/issues/35935) (open)",
    ("openvino", "overhang"): "[openvinotoolkit/openvino#38265](https://github.com/openvinotoolkit/openvino/pull/38265) (open)",
    (
        "openvino",
        "stop_float32",
    ): "[openvinotoolkit/openvino#4681](https://github.com/openvinotoolkit/openvino/pull/4681) (by design)",
    ("jax", "flush"): "[jax-ml/jax#16200](https://github.com/jax-ml/jax/issues/16200) (working as intended)",
    ("onnxruntime", "whole"): "as ONNX specifies MaxPool",
}


# ---- a run -----------------------------------------------------------------------------------------------------------


@dataclass
class Departure:
    """An entry of the page: calls that a way explains, and the smallest of them."""

    title: str
    gives: str
    reference: str
    rounding: bool = False
    upstream: str | None = None
    calls: list[str] = field(default_factory=list)
    smallest: Smallest | None = None
    program: str = ""  # where it is a probe or a death
    key: str = ""


@dataclass
class Report:
    """What came of asking a library."""

    library: Library
    versions: list[str] = field(default_factory=list)
    missing: str | None = None
    status: dict[str, str] = field(default_factory=dict)  # of each call: "agree", "rounding", "departs", "unexplained" ...
    words: dict[str, str] = field(default_factory=dict)  # what is missing, or the sentence of a refusal, or how it died
    features: dict[str, frozenset[str]] = field(default_factory=dict)
    ways: dict[str, Ways] = field(default_factory=dict)
    departures: list[Departure] = field(default_factory=list)
    unexplained: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def named(self, status: str) -> list[str]:
        return [name for name, own in self.status.items() if own == status]


def told(error: Died) -> str:
    """How a process ended, in words."""
    found = re.search(r"exit code -(\d+)$", str(error))
    if not found:
        return str(error)
    name = signal.Signals(int(found[1])).name
    return f"no answer within {SOON} s" if name == "SIGPROF" else f"the process dies: {name}"


def versions(packages: Iterable[str]) -> list[str]:
    found = []
    for package in packages:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} of an unknown version")
    return found


Answers = Callable[[str, Sequence[str]], Iterator[tuple[str, Any]]]


def examine(library: Library, say: Callable[[str], None], asked: Sequence[Any] | None = None) -> Report:
    """Asks a library everything, each death costing one call, and explains what differs."""
    report, started = Report(library), time.monotonic()
    report.missing = library.missing()
    if report.missing is not None:
        return report
    report.versions = versions(library.packages)
    table = {case.name: case for case in (everything(library) if asked is None else asked)}
    calls = {name: replace(Call.of(case), answer=None) for name, case in table.items()}
    together, timed, single = list[str](), list[str](), list[str]()
    for name, case in table.items():
        report.features[name] = case.features | {case.mode, case.dtype}
        try:
            library.program(calls[name])
            (single if dangerous(case) else timed if endless(case) else together).append(name)
        except Cannot as error:
            report.status[name], report.words[name] = "cannot", str(error)
    gave: dict[str, tuple[Array, ...]] = {}
    for names, seconds in [(together, PATIENCE), (timed, SOON), *(([name], SOON) for name in single)]:
        while names:
            done = 0
            try:
                for what, value in apart(answers, library.name, [calls[name] for name in names], seconds, patience=PATIENCE):
                    if what == "gave":
                        gave[names[done]] = value
                    else:
                        report.status[names[done]], report.words[names[done]] = "refused", value
                    done += 1
                break
            except Died as death:
                report.status[names[done]], report.words[names[done]] = "died", told(death)
                say(f"{library.title}: {names[done]}: {told(death)}")
                names = names[done + 1 :]
    say(f"{library.title}: {len(gave):,} answers after {time.monotonic() - started:.0f} s")
    explain(report, {name: Call.of(table[name]) for name in gave}, gave)
    say(f"{library.title}: explained after {time.monotonic() - started:.0f} s")
    reproduce(report, calls)
    report.seconds = time.monotonic() - started
    return report


def everything(library: Library) -> list[Any]:
    return [*questions(library), *extremes_of_range(library)]


def explain(report: Report, calls: Mapping[str, Call], gave: Mapping[str, tuple[Array, ...]]) -> None:
    """Compares, and finds the ways."""
    found: dict[str, list[Ways]] = {}
    for name, got in gave.items():
        call = calls[name]
        if len(got) == len(call.expected) and all(map(agree, got, call.expected)):
            report.status[name] = "agree"
        else:
            sets = explanations(got, call)
            found[name] = [keys for keys in sets if all(WAY[key].rounding for key in keys)] or sets
    chosen = cover({name: sets for name, sets in found.items() if sets})
    made: dict[str, Departure] = {}
    order = list(WAY)
    for name, keys in chosen.items():
        report.status[name] = "rounding" if all(WAY[key].rounding for key in keys) else "departs"
        for key in keys:
            way = WAY[key]
            if key not in made:
                thread = UPSTREAM.get((report.library.name, key))
                made[key] = Departure(way.title, way.gives, way.reference, way.rounding, thread, key=key)
            made[key].calls.append(name)
    report.departures = [made[key] for key in sorted(made, key=order.index)]
    report.ways = chosen
    for name in found:
        if not found[name]:
            report.status[name], report.unexplained[name] = "unexplained", drawn(gave[name], calls[name])


def drawn(got: Sequence[Array], call: Call) -> str:
    """The first difference."""
    for own, want in zip(got, call.expected, strict=False):
        if own.shape != want.shape or own.dtype != want.dtype:
            return f"gives {own.dtype} {own.shape}, not {want.dtype} {want.shape}"
        wrong = ~((own == want) | ((own != own) & (want != want)))
        if wrong.any():
            first = tuple(int(i) for i in np.argwhere(wrong)[0])
            return f"at {first} gives {own[first]}, not {want[first]}; {np.count_nonzero(wrong)} of {want.size} cells differ"
    return f"gives {len(got)} arrays, not {len(call.expected)}"


def reproduce(report: Report, calls: Mapping[str, Call]) -> None:
    """Finds the smallest call of each departure, and keeps only departures that this run has shown."""
    library, jobs = report.library, list[Job]()
    for departure in report.departures:
        best = sorted(departure.calls, key=lambda name: (not calls[name].x.size, len(report.ways[name]), calls[name].x.size))[:3]
        for strict in (True, False):
            for name in best:
                keys = report.ways[name]
                level = max(WAY[key].general for key in keys)
                known = [other.key for other in report.departures if other.key not in keys and WAY[other.key].general <= level]
                others = tuple(known) if strict else ()
                jobs.append(Job(departure.key, keys, replace(calls[name], answer=None), others))
    smallest: dict[str, Smallest] = {}
    while jobs:
        done = 0
        try:
            for found in apart(reproduced, library.name, jobs, patience=PATIENCE):
                if found is not None:
                    smallest[jobs[done].key] = found
                done += 1
            break
        except Died:
            jobs = [job for job in jobs[done + 1 :] if job.key not in smallest]
    for departure in report.departures:
        departure.smallest = smallest.get(departure.key)
    deaths: dict[str, list[str]] = defaultdict(list)
    for name in report.named("died"):
        deaths[report.words[name]].append(name)
    for words, names in deaths.items():
        call = calls[min(names, key=lambda name: calls[name].x.size)]
        text = "\n".join((*library.first, *literals(library, call), library.program(call)))
        made = Departure(f"{words[0].upper()}{words[1:]}", DEATH, "Time and memory are bounded by input and output (section 2).")
        report.departures.append(replace(made, calls=names, program=text))
    for probe in PROBES:
        if probe.library == library.name:
            try:
                result = next(apart(probed, library.name, probe.program))
            except Died as death:
                result = told(death)
            if probe.shows(result):
                thread = UPSTREAM.get((library.name, probe.title))
                made = Departure(
                    probe.title, probe.gives, probe.reference, upstream=thread, program=f"{probe.program}\n# {result}"
                )
                report.departures.append(made)


DEATH = "The call does not return: it was asked in a process of its own, which is gone."

# ---- the page --------------------------------------------------------------------------------------------------------

COLUMNS = {
    "agree": "agree",
    "rounding": "differ by rounding",
    "departs": "differ in meaning",
    "unexplained": "unexplained",
    "died": "die",
    "refused": "refused",
    "cannot": "no words",
}


REFUSALS = 12  # kinds of errors that are shown


def table(headings: Sequence[str], rows: Iterable[Sequence[Any]], words: int = 1) -> list[str]:
    """In Markdown; numbers, behind as many columns of words, to the right."""
    lines = [f"| {' | '.join(headings)} |", f"|{'---|' * words}{'---:|' * (len(headings) - words)}"]
    return [*lines, *(f"| {' | '.join(f'{cell:,}' if isinstance(cell, int) else str(cell) for cell in row)} |" for row in rows)]


def counted(report: Report, names: Iterable[str]) -> list[Any]:
    count = Counter(report.status[name] for name in names)
    return [count.total(), *(count[status] or "" for status in COLUMNS)]


def slug(heading: str) -> str:
    """The name under which GitHub links to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def page(reports: Sequence[Report], command: str) -> str:
    """What docs/departures.md says."""
    ran = [report for report in reports if report.missing is None]
    ours = [f"pooling {pooling.__version__}", f"NumPy {np.__version__}"]
    every = ", ".join([*ours, *(entry for report in ran for entry in report.versions)])
    lines = [
        "# Where other libraries depart",
        "",
        f"The named cases of `pooling.testing` were asked of {len(ran)} libraries, and every cell was compared with the oracle's "
        "by `==` (NaN equal to NaN). This page is written by",
        "",
        "```sh",
        command,
        "```",
        "",
        f"Run on {platform.platform()}, Python {platform.python_version()}, with {every}.",
        "",
        "*The reference* is the specification of this package; where PyTorch defines the result (maxima, indices, shapes, "
        "divisors) the two are the same. To depart from it is not always a mistake: ONNX, for one, counts indices otherwise. "
        "Section numbers are the specification's. A difference *by rounding* is what another order of additions, or a reciprocal "
        "in place of a division, can make; a difference *in meaning* is any other one.",
        "",
        "Every departure below was seen in this run. It is explained by pooling in another way, whose cells are the library's, "
        "all of them; its reproducer is the smallest call that was found to show it and nothing else, run as it stands.",
        "",
        *table(
            ["library", "calls", *COLUMNS.values()],
            [[f"[{report.library.title}](#{slug(report.library.title)})", *counted(report, report.status)] for report in ran],
        ),
        "",
        "*refused*: the library raises an error; *no words*: its functions have no argument for the call, which is not made; "
        "*die*: the process ends, or does not answer.",
        "",
        "How many calls show each difference in meaning:",
        "",
    ]
    titles: dict[str, dict[str, str]] = defaultdict(dict)
    for report in ran:
        for departure in report.departures:
            if not departure.rounding:
                link = f"[{len(departure.calls) or 'yes'}](#{slug(f'{report.library.title}: {departure.title}')})"
                titles[departure.title][report.library.name] = link
    rows = [[title, *(own.get(report.library.name, "") for report in ran)] for title, own in titles.items()]
    lines += table(["departure", *(report.library.title for report in ran)], rows)
    for report in reports:
        lines += ["", f"## {report.library.title}", ""]
        lines += [f"Not run: {report.missing}."] if report.missing is not None else section(report)
    return "\n".join(lines) + "\n"


def section(report: Report) -> list[str]:
    """What is said of one library."""
    library = report.library
    words = Counter(report.words[name] for name in report.named("cannot"))
    lines = [
        f"Asked {' and '.join(layout.replace('_', ' ') for layout in library.layouts)}, in {', '.join(library.dtypes)}.",
        "",
        *table(["calls with", "asked", *COLUMNS.values()], by_feature(report)),
        "",
        f"No words for: {', '.join(f'{word} ({count:,})' for word, count in words.most_common())}.",
    ]
    refusals: dict[str, list[str]] = defaultdict(list)
    for name in report.named("refused"):
        refusals[plainly(report.words[name])].append(name)
    if refusals:
        rows = [
            [f"`{text}`", len(names), f"`{names[0]}`"] for text, names in sorted(refusals.items(), key=lambda item: -len(item[1]))
        ]
        lines += ["", "Refused:", "", *table(["error", "calls", "for example"], rows)]
    for rounding in (False, True):
        for departure in report.departures:
            if departure.rounding == rounding:
                lines += entry(report, departure)
    if report.unexplained:
        lines += ["", f"### {library.title}: unexplained", "", "No way reproduces these cells:", ""]
        lines += [f"- `{name}` {text}" for name, text in sorted(report.unexplained.items())]
    return lines


def plainly(sentence: str) -> str:
    """An error without its numbers, names of nodes and places."""
    text = re.sub(r"\s+", " ", sentence)
    text = re.sub(r"for '\w+'$", "for this type", text)
    text = re.sub(r"Exception from \S+|\[ONNXRuntimeError\] : \d+ :|\S*/\S+:\d+|\w*Pool_\d+", "…", text)
    text = re.sub(r"(… ?[:,]? ?)+", "… ", re.sub(r"\d+", "N", text)).replace("|", "\\|").replace("`", "'")
    return text if len(text) <= 140 else f"{text[:139]}…"


def by_feature(report: Report) -> list[list[Any]]:
    """A row for each mode, type and feature."""
    rows = []
    for word in dict.fromkeys((*MODES, *report.library.dtypes, *sorted(frozenset().union(*report.features.values())))):
        names = [name for name, own in report.features.items() if word in own]
        if any(report.status[name] != "cannot" for name in names):
            rows.append([word, *counted(report, names)])
    return rows


MODES = ("max", "min", "avg", "sum", "lp")


def entry(report: Report, departure: Departure) -> list[str]:
    """A departure, to be understood in ten seconds."""
    kind = "rounding" if departure.rounding else "meaning"
    lines = [
        "",
        f"### {report.library.title}: {departure.title}",
        "",
        f"{departure.gives} *Reference:* {departure.reference}",
        "",
    ]
    program, small = departure.program, departure.smallest
    if small is not None:
        results = zip((small.got, small.expected), (report.library.title, "reference"), strict=True)
        texts = [f"# {who}: {', '.join(map(listed, arrays))}" for arrays, who in results]
        program = "\n".join([small.program, *(text if len(text) <= 240 else f"{text[:239]}…" for text in texts)])
    lines += (
        ["```python", program, "```", ""]
        if program
        else ["(No smaller call than the cases themselves was found to show it.)", ""]
    )
    seen = [f"Kind: {kind}."]
    if departure.calls:
        cases_ = dict.fromkeys(name.split("/")[1] for name in departure.calls)
        where = dict.fromkeys(f"{name.split('/')[0]} {name.split('/')[2]}" for name in departure.calls)
        types = dict.fromkeys(name.split("/")[3] for name in departure.calls)
        shown = [f"`{name}`" for name in list(cases_)[:6]]
        more = f" and {len(cases_) - 6} more" if len(cases_) > 6 else ""
        seen.append(
            f"Seen in {len(departure.calls):,} calls: {', '.join(where)}; {', '.join(types)}; cases {', '.join(shown)}{more}."
        )
    if departure.upstream:
        seen.append(f"Upstream: {departure.upstream}.")
    return [*lines, " ".join(seen)]


def record(reports: Sequence[Report]) -> list[dict[str, Any]]:
    """The same for machines."""
    return [
        {
            "library": report.library.title,
            "versions": report.versions,
            "missing": report.missing,
            "calls": {
                name: {"status": status, "ways": report.ways.get(name, ()), "words": report.words.get(name)}
                for name, status in report.status.items()
            },
            "departures": [
                {
                    "title": one.title,
                    "rounding": one.rounding,
                    "calls": one.calls,
                    "reproducer": one.smallest.program if one.smallest else one.program,
                }
                for one in report.departures
            ],
            "unexplained": report.unexplained,
        }
        for report in reports
    ]


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; the result is the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=BY_NAME, metavar="LIBRARY", help=f"of {', '.join(BY_NAME)}")
    parser.add_argument("--write", type=Path, metavar="FILE", help="the page, as docs/departures.md (default: print it)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every call and what came of it")
    given = parser.parse_args(arguments)
    reports = []
    for library in LIBRARIES:
        if given.only is None or library.name in given.only:
            reports.append(examine(library, lambda text: print(text, file=sys.stderr, flush=True)))
    text = page(reports, "python examples/departures.py --write docs/departures.md")
    if given.write:
        given.write.write_text(text, encoding="utf-8")
    else:
        print(text)
    if given.json:
        given.json.write_text(json.dumps(record(reports)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
