"""Where a result differs from what is expected, as text: the first cell that differs, its window, and what may be wrong.

A window is drawn tap by tap: cells of the input with their values, "pad" for taps in the padding, "out" for taps beyond it
(ceil_mode's overhang). Gaps of a dilation are not drawn; of a long window the two ends are, and "..." between them. For a
gradient it is the cells of grad_output whose windows cover the cell. [value] is the expected one, <value> the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from .cases import FLOATS, Array, Case, letters_of, relayout
from .compare import differing
from .golden import INDEXED, Golden
from .mistakes import likely

LONG = 8  # entries of an axis that are drawn
LINE = "  {:<9} {}"


# ---- the text of a failure -----------------------------------------------------------------------------------


def parts(result: Any, count: int) -> list[Array]:
    """The arrays of a result: one, or as many as a tuple or list of them has."""
    several = isinstance(result, tuple) or (count > 1 and isinstance(result, list))
    return [np.asarray(part) for part in (result if several else (result,))]


def difference(golden: Golden, result: Any, asked: Asked | None = None, drawn: bool = True) -> str | None:
    """None where the result is what is expected, or else the text; drawn=False leaves out what takes time."""
    want = golden.expected
    try:
        got = parts(result, len(want))
    except Exception as error:  # whatever numpy.asarray raises
        return failure(golden, [("raised", f"{type(error).__name__}: {error}, as numpy.asarray read the result")], asked)
    if len(got) != len(want):
        return failure(golden, [("differ", f"{len(got)} arrays came back, not {len(want)}")], asked)
    names = ("gradient",) if golden.function.endswith("_backward") else ("values", "indices")
    for part, one, two in zip(names, got, want, strict=False):
        if one.shape != two.shape or one.dtype != two.dtype:
            lines = [("differ", f"the {part} are an array of another {'type' if one.shape == two.shape else 'shape'}")]
            lines += [("expected", f"{two.dtype} {two.shape}"), ("got", f"{one.dtype} {one.shape}")]
            phrase = likely(golden, part, one, None) if drawn and one.shape != two.shape else None
            return failure(golden, lines, asked, phrase)
        wrong = differing(one, two, None if part == "indices" else golden.bound())
        if wrong.any():
            phrase = likely(golden, part, one, wrong) if drawn else None
            return failure(golden, _cell(golden, part, one, two, wrong, drawn), asked, phrase)
    return None


class Asked(NamedTuple):
    """How a case was asked of somebody's function."""

    name: str
    arguments: Mapping[str, Any]
    again: str  # one line that asks it again


def asked_of(golden: Golden) -> Asked:
    """Of nobody in particular."""
    other = "" if golden.function == "pool" else f"function={golden.function!r}, "
    return Asked(golden.function, golden.plain, f"cases({other}name={golden.name!r})[0].check(fn)")


def failure(golden: Golden, lines: Sequence[tuple[str, str]], asked: Asked | None = None, phrase: str | None = None) -> str:
    """The case, the call, lines of a word and a text each, a phrase, and how to ask again."""
    asked = asked or asked_of(golden)
    arrays = [f"{name}={array.dtype} {array.shape}" for name, array in golden.views.items()]
    call = ", ".join([*arrays, *(f"{name}={value!r}" for name, value in asked.arguments.items())])
    text = [f"{golden.name}: {golden.probes}", LINE.format("call", f"{asked.name}({call})")]
    for word, rest in lines:
        first, *more = rest.split("\n")
        text += [LINE.format(word, first).rstrip(), *(LINE.format("", line).rstrip() for line in more)]
    text += [f"  {phrase}"] if phrase else []
    return "\n".join([*text, LINE.format("again", asked.again)])


# ---- the first cell ------------------------------------------------------------------------------------------


def _cell(golden: Golden, part: str, got: Array, want: Array, wrong: Array, drawn: bool) -> list[tuple[str, str]]:
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    letters = letters_of(golden.layout, want.ndim)
    named = ", ".join(f"{letter} {i}" for letter, i in zip(letters, at, strict=True))
    cells = "gradients" if part == "gradient" else part
    lines = [("differ", f"{np.count_nonzero(wrong):,} of {wrong.size:,} {cells}; the first one at {at}: {named}")]
    a, b = want[at], got[at]
    if not drawn:
        return [*lines, ("expected", _text(a)), ("got", _text(b) + _apart(golden, part, a, b, at))]
    here = dict(zip(letters, at, strict=True))
    place = tuple(here[letter] for letter in letters_of("channels_last", want.ndim))
    drawing = _unpooled if golden.function == "max_unpool" else _covering if part == "gradient" else _window
    return [*lines, *drawing(golden, place, part, a, b, _apart(golden, part, a, b, at))]


def _text(value: Any) -> str:
    return str(value)


def _ordered(value: Any) -> int:
    """A float's place among all floats of its type; neighbours are one apart."""
    array = np.asarray(value)
    bits = int(array.view(f"u{array.itemsize}")[()])
    sign = 1 << 8 * array.itemsize - 1
    return sign - bits if bits & sign else bits


def ulps(a: Any, b: Any) -> int | None:
    """How many floats of their type lie between two, and one; None for ints, NaN and infinities.

    >>> ulps(np.float32(1), np.float32(1 - 2**-24)), ulps(np.float32(-0.0), np.float32(0))
    (1, 0)
    """
    if np.asarray(a).dtype.name not in FLOATS or not np.isfinite([float(a), float(b)]).all():
        return None
    return abs(_ordered(a) - _ordered(b))


def _apart(golden: Golden, part: str, want: Any, got: Any, at: tuple[int, ...]) -> str:
    """How far two cells are apart."""
    distance = ulps(want, got)
    if distance is None or part == "indices":
        return ""
    bound = golden.bound()
    allowed = "" if bound is None else f"; they may be {bound[at]:.3g} apart and are {abs(float(want) - float(got)):.3g}"
    return f" ({distance:,} ulp{'s' * (distance != 1)} away{allowed})"


# ---- entries of an axis, and tables of them ------------------------------------------------------------------


class Entry(NamedTuple):
    """A tap of a window on one axis, or a window over a cell: its coordinate, and "" where there is a cell."""

    at: int | None  # None where something is left out
    kind: str = ""


def _shortened(size: int, inside: Sequence[int], edges: Sequence[int] = ()) -> list[int | None]:
    """Which of size positions to draw: all of few, or the ends, those inside beside theirs; None where some are left out."""
    if size <= LONG:
        return list(range(size))
    ends = {0, size - 1, *edges}
    if inside:
        ends |= {i + by for i, by in ((inside[0], -1), (inside[-1], 1))} | {*inside[:3], *inside[-3:]}
    chosen: list[int | None] = []
    for position in sorted(position for position in ends if 0 <= position < size):
        if chosen and chosen[-1] is not None and position > chosen[-1] + 1:
            chosen.append(None)
        chosen.append(position)
    return chosen


def _taps(golden: Golden, axis: int, o: int, kept: int | None) -> list[Entry]:
    """The taps of a window on one axis; one on the cell kept is not left out."""
    window = golden.windows[axis][o]
    keep = [j for j, i in window.taps if i == kept]
    if not golden.axes:
        cells = [i for _, i in window.taps]
        return [Entry(None if j is None else cells[j]) for j in _shortened(len(cells), range(len(cells)), keep)]
    given = golden.axes[axis]
    start = o * given.s - given.before
    positions = _shortened(given.k, [j for j, _ in window.taps], (window.padded - 1, window.padded, *keep))

    def entry(j: int | None) -> Entry:
        if j is None:
            return Entry(None)
        i = start + j * given.d
        return Entry(i, "" if 0 <= i < given.n else "pad" if j < window.padded else "out")

    return [entry(j) for j in positions]


def _table(letters: str, entries: Sequence[list[Entry]], value: Callable[[tuple[int, ...]], str]) -> str:
    """Cells of the product of the entries: the last axis across, the one before it down, the first one slice by slice."""
    if len(entries) == 3:
        slices = []
        for entry in entries[0]:
            if entry.at is None or entry.kind:
                slices.append("..." if entry.at is None else f"{letters[0]} {entry.at}: {entry.kind}")
                continue
            own = _table(letters[1:], entries[1:], lambda at, d=entry.at: value((d, *at)))  # type: ignore[misc]
            slices.append(f"{letters[0]} {entry.at}:\n{own}")
        return "\n".join(slices)
    *down, across = entries
    rows = [[""] * (len(entries) - 1) + [_label(letters[-1], entry) for entry in across]]
    for row in down[0] if down else [Entry(0)]:
        cells = []
        for column in across:
            if row.at is None or column.at is None:
                cells.append("...")
            elif row.kind or column.kind:
                cells.append("out" if "out" in (row.kind, column.kind) else "pad")
            else:
                cells.append(value((row.at, column.at) if down else (column.at,)))
        rows.append([_label(letters[0], row)] * len(down) + cells)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def _label(letter: str, entry: Entry) -> str:
    return "..." if entry.at is None else f"{letter} {entry.at}"


# ---- drawings: what stands between "differ" and the phrase ---------------------------------------------------

Lines = list[tuple[str, str]]


def _window(golden: Golden, place: tuple[int, ...], part: str, want: Any, got: Any, apart: str) -> Lines:
    """The window of a cell of a forward result."""
    n, *out, c = place
    letters = letters_of("channels_last", len(place))[1:-1]
    plane = relayout(golden.views["x"], "channels_last", golden.layout)[n, ..., c]
    index = int(golden.chosen[place]) if golden.mode in INDEXED else -1
    marks = {_at(got, plane): "<>"} if part == "indices" else {}
    marks[_at(index, plane)] = "[]"
    marks.pop((), None)
    kept = _at(index, plane) or (None,) * len(out)
    entries = [_taps(golden, axis, o, cell) for axis, (o, cell) in enumerate(zip(out, kept, strict=True))]
    told = _text(want), _text(got) + apart
    if part == "indices":
        told = _pointed(want, plane, letters, "[]"), _pointed(got, plane, letters, "<>")
    elif index >= 0:
        told = f"[{told[0]}]", told[1]

    def value(at: tuple[int, ...]) -> str:
        mark = marks.get(at, "  " if marks else "")
        return f"{mark[:1]}{_text(plane[at])}{mark[1:]}"

    lines = [("window", _table(letters, entries, value)), ("mode", _mode(golden, out))]
    return [*lines, ("expected", told[0]), ("got", told[1])]


def _at(index: Any, plane: Array) -> tuple[int, ...]:
    """The cell of a flat index; () for none."""
    inside = 0 <= int(index) < plane.size
    return tuple(int(i) for i in np.unravel_index(int(index), plane.shape)) if inside else ()


def _pointed(index: Any, plane: Array, letters: str, mark: str) -> str:
    """Which cell an index points to."""
    at = _at(index, plane)
    if not at:
        return f"{index}, which is no cell" if index == -1 else f"{index}, outside the plane of {plane.size:,} cells"
    where = ", ".join(f"{letter} {i}" for letter, i in zip(letters, at, strict=True))
    return f"{index}, the cell at {where}: {mark[0]}{_text(plane[at])}{mark[1]}"


def _divisor(golden: Golden, out: Sequence[int]) -> int:
    """What the average of a window is divided by."""
    case = golden.question.case
    if isinstance(case, Case) and case.divisor_override is not None:
        return case.divisor_override
    included = not isinstance(case, Case) or case.count_include_pad
    windows = [along[o] for along, o in zip(golden.windows, out, strict=True)]
    return prod(window.padded if included else len(window.taps) for window in windows)


def _mode(golden: Golden, out: Sequence[int]) -> str:
    """The mode, and what it reads beside the cells."""
    if golden.mode == "lp":
        return f"lp, p={golden.arguments.get('p', 2.0):g}"
    if golden.mode != "avg":
        return golden.mode
    rule = {"divisor_override": "divisor_override", "count_include_pad": "the cells in the data alone"}
    other = "the cells in the data and in the padding" if "padding" in golden.features else "the window's cells"
    word = next((rule[word] for word in rule if word in golden.features), other)
    return f"avg, divided by {_divisor(golden, out)}: {word}"


def _covering(golden: Golden, place: tuple[int, ...], part: str, want: Any, got: Any, apart: str) -> Lines:
    """The windows over a cell of a gradient, with what they bring."""
    n, *cell, c = place
    letters = letters_of("channels_last", len(place))[1:-1]
    views = {name: relayout(view, "channels_last", golden.layout)[n, ..., c] for name, view in golden.views.items()}
    covering = [
        [o for o, window in enumerate(golden.windows[axis]) if i in {at for _, at in window.taps}] for axis, i in enumerate(cell)
    ]
    entries = [[Entry(None if j is None else found[j]) for j in _shortened(len(found), range(len(found)))] for found in covering]
    chosen = golden.chosen[n, ..., c] if golden.mode in INDEXED else None
    flat = int(np.ravel_multi_index(cell, views["x"].shape))

    def value(at: tuple[int, ...]) -> str:
        brought = _text(views["grad_output"][at])
        if chosen is not None:
            return f"[{brought}]" if chosen[at] == flat else f" {brought} "
        return f"{brought} / {_divisor(golden, at)}" if golden.mode == "avg" else brought

    own = "grad_output of the windows over the cell" + ("; [those] that chose it" if chosen is not None else "")
    drawn = _table(letters, entries, value) if all(covering) else "none covers it"
    lines = [("x", f"{_text(views['x'][tuple(cell)])} at this cell"), ("windows", f"{own}:\n{drawn}")]
    return [*lines, ("expected", _text(want)), ("got", _text(got) + apart)]


def _unpooled(golden: Golden, place: tuple[int, ...], part: str, want: Any, got: Any, apart: str) -> Lines:
    """The cells of x that go to a cell of max_unpool's result."""
    n, *cell, c = place
    result = relayout(golden.expected[0], "channels_last", golden.layout)
    flat = int(np.ravel_multi_index(cell, result.shape[1:-1]))
    views = {name: relayout(view, "channels_last", golden.layout)[n, ..., c] for name, view in golden.views.items()}
    letters = letters_of("channels_last", len(place))[1:-1]
    found = [tuple(map(int, at)) for at in np.argwhere(views["indices"] == flat)]
    cells = [f"{', '.join(f'{a} {i}' for a, i in zip(letters, at, strict=True))}: {_text(views['x'][at])}" for at in found]
    told = "\n".join([*(["..."] if len(cells) > LONG else []), *cells[-LONG:]]) + (
        "\nof which the last one stays" if len(cells) > 1 else ""
    )
    return [("cells", f"of x with the index {flat}:\n{told}" if cells else f"none of x has the index {flat}, so it is 0"),
            ("expected", _text(want)), ("got", _text(got) + apart)]  # fmt: skip
