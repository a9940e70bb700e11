"""`python -m bench accuracy`: how far averages, sums and 2-norms are from exact arithmetic, ours and other libraries'.

Every library is asked as `bench compare` asks it (rivals.py), in a process of its own with one thread. A question is one mode,
one element type and one size of window; its array has an image for each kind of data, and its windows lie side by side, so that
every result has cells of its own. exact.py knows what the results are. All cells are finite, and no exact result overflows.

What ours are held to, by the order of adding that docs and oracle define (S(k) = S(h) + S(k - h) with h the largest power of two
below k, along one pooled axis after the other): on its way into the result a cell takes part in at most ceil(log2 k) additions
of an axis of k cells, as h and k - h are at most the power of two that halves the next one from k on. Each addition rounds once,
fl(a + b) = (a + b)(1 + d) with abs(d) <= u, also where the result is subnormal, as it is exact there. So the computed sum is the
sum of x[i] times at most D = sum over the axes of ceil(log2 k) factors (1 + d), and differs from the exact one by at most
D*u / (1 - D*u) * sum(abs(x[i])): the bound of pairwise summation in N. J. Higham, Accuracy and Stability of Numerical
Algorithms, 2nd edition, SIAM 2002, section 4.2 (lemma 3.1 for the product of the factors). The divisor is exact; the division
rounds once, and so does the conversion to the result, where that is narrower: `Format.after`. u is float32's for cells of up to
32 bits, else float64's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from importlib.util import find_spec
from itertools import product
from math import inf, isfinite, nextafter, prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from compare import ROOT, Progress, heading, installed
from exact import FORMATS, MODES, Array, Errors, Format, sums
from orders import Search
from problems import Problem, Question, as_layout
from rivals import POOLING, RIVALS, Library
from tables import head, line
from workers import Failed, Worker, running

from pooling.testing import data

PAGE = ROOT / "docs" / "accuracy.md"
COMMAND = "python -m bench accuracy --write"
OURS = replace(POOLING, ways=("first", "last"))
WINDOWS = ((2, 2), (3, 3), (7, 7), (13, 13), (31, 31), (101, 101), (1000,))
LARGEST = WINDOWS[-2]  # of two axes
CHANNELS, TILES = 16, 16  # of an image: results of a kind are CHANNELS * TILES
ASKED = {  # who has words for a mode
    "avg": ("torch", "ONNX Runtime", "OpenVINO", "JAX", "mlx.nn"),
    "sum": ("torch", "JAX"),
    "lp": ("torch", "ONNX Runtime"),
}
LIMIT = 60.0  # seconds for a call
SEARCHED = 1000  # cells of the largest window for which every way of adding is tried


# ---- the cells -------------------------------------------------------------------------------------------------------------


def fractions(shape: tuple[int, ...], seed: int) -> Array:
    """Multiples of 2**-53 in [0, 1), of raw words, which NumPy promises to keep."""
    return (np.asarray(np.random.PCG64(seed).random_raw(prod(shape)), np.uint64) >> 11).reshape(shape) * 2.0**-53


def uniform(shape: tuple[int, int], dtype: str, seed: int) -> Array:
    return np.minimum(fractions(shape, seed), float(1 - FORMATS[dtype].unit))  # the greatest below 1


def normal(shape: tuple[int, int], dtype: str, seed: int) -> Array:
    return data(shape, "float64", seed)


def cancelling(shape: tuple[int, int], dtype: str, seed: int) -> Array:
    """Pairs a and d - a, with a in [1/2, 1) and d in [1/128, 1/64), shuffled; of an odd number of cells the last one is a d."""
    rows, cells = shape
    a = (1 + fractions((rows, cells // 2), seed)) / 2
    d = (1 + fractions((rows, cells - cells // 2), seed + 1)) / 128
    a = a.astype(dtype).astype(np.float64)
    windows = np.concatenate([a, d[:, : cells // 2] - a, d[:, cells // 2 :]], 1)
    return np.take_along_axis(windows, np.argsort(fractions(shape, seed + 2), 1), 1)


def wide(shape: tuple[int, int], dtype: str, seed: int) -> Array:
    """Positive numbers of every exponent from 2**-1 down to 2**-40; in float16 to 2**-12."""
    exponents = 12 if dtype == "float16" else 40
    return np.ldexp(1 + fractions(shape, seed), -1 - (fractions(shape, seed + 1) * exponents).astype(np.int32))


KINDS: dict[str, tuple[str, Callable[[tuple[int, int], str, int], Array]]] = {
    "uniform": ("in [0, 1)", uniform),
    "normal": ("about normal, mean 0", normal),
    "cancelling": ("pairs that cancel but for 1/128 to 1/64", cancelling),
    "wide": ("positive, of 40 exponents (float16: 12)", wide),
}


def drawn(kind: str, shape: tuple[int, int], dtype: str) -> Array:
    """A window in every row: numbers of the type, in float64."""
    number = list(KINDS).index(kind)
    return KINDS[kind][1](shape, dtype, 10 * number + 100 * shape[1]).astype(dtype).astype(np.float64)


@dataclass(frozen=True)
class Drawn(Problem):
    """A problem whose cells lie in a file."""

    file: str = ""

    def cells(self, layout: str = "channels_first", dtype: str = "float32") -> Array:
        return np.ascontiguousarray(as_layout(np.load(self.file).astype(dtype), layout))


def problem_of(window: tuple[int, ...], tiles: int, mode: str = "avg", file: str = "") -> Drawn:
    """An image for each kind, of windows side by side."""
    side = round(tiles ** (1 / len(window)))
    shape = (len(KINDS), CHANNELS, *(side * k for k in window))
    return Drawn(name_of(window), "", mode, shape, window[0], window[0], file=file)


def folded(windows: Array, problem: Problem) -> Array:
    """Rows that are windows as one image of the problem; row by row its results."""
    sides, rank = problem.result_shape[2:], problem.rank
    split = windows.reshape(-1, *sides, *[problem.kernel] * rank)
    axes = (0, *(axis for pair in zip(range(1, rank + 1), range(rank + 1, 2 * rank + 1), strict=True) for axis in pair))
    return split.transpose(axes).reshape(problem.shape[1:])


def name_of(window: tuple[int, ...]) -> str:
    return "x".join(map(str, window))


# ---- what ours are held to -------------------------------------------------------------------------------------------------


def bound(mode: str, dtype: str, window: tuple[int, ...], size: Fraction, exact: Fraction) -> Fraction:
    """How far a sum or an average of ours may be from the exact one; size: the exact sum of abs(cells)."""
    working = FORMATS["float64" if dtype == "float64" else "float32"]
    depth = sum((k - 1).bit_length() for k in window)  # ceil(log2 k)
    error = depth * working.unit / (1 - depth * working.unit) * size
    if mode == "avg":
        assert prod(window) <= 2**working.bits
        error = working.after(error / prod(window), exact)
    return error if FORMATS[dtype] is working else FORMATS[dtype].after(error, exact)


# ---- measuring -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """What one way of one library gave for one question and one kind of data; or a sentence in its place."""

    mode: str
    dtype: str
    window: str
    kind: str
    library: str
    way: str
    errors: Errors | None
    failure: str = ""
    bound: float | None = None  # of our sums and averages: the greatest, in ulps
    of_bound: float | None = None  # the greatest share of its bound that an error is

    @property
    def column(self) -> str:
        return f"{self.library} {self.way}".strip()


@dataclass(frozen=True)
class Exact:
    """What a mode makes of the windows of a kind; the bounds of ours, where there are any."""

    kind: str
    form: Format
    values: list[Fraction]
    bounds: list[Fraction] | None


def exact_values(mode: str, dtype: str, window: tuple[int, ...], kind: str, windows: Array, sizes: list[Fraction]) -> Exact:
    values = MODES[mode](windows)
    if mode == "lp":
        return Exact(kind, FORMATS[dtype], values, None)
    return Exact(kind, FORMATS[dtype], values, [bound(mode, dtype, window, *pair) for pair in zip(sizes, values, strict=True)])


def held(results: Array, of: Exact) -> tuple[float, float]:
    """The greatest bound, in ulps; and the greatest error over its bound, which is above 1 exactly where one exceeds it."""
    greatest, share = 0.0, 0.0
    for result, value, limit in zip(results, of.values, of.bounds or [], strict=True):
        greatest = max(greatest, float(limit / of.form.ulp(value)))
        over = abs(Fraction(float(result)) - value) / limit if isfinite(result) else inf
        share = max(share, float(over), nextafter(1, 2) if over > 1 else 0.0)
    return greatest, share


class Survey:
    """Asks every library; found() says how each adds, as far as its averages tell."""

    def __init__(self, libraries: list[Library], tiles: int) -> None:
        self._workers = [Worker(library, 1, LIMIT) for library in libraries]
        self._tiles, self._search = tiles, Search()

    def rows(self, dtypes: Iterable[str], sizes: Iterable[tuple[int, ...]], say: Progress) -> Iterator[Row]:
        asked = list(product(dtypes, sizes))
        say.of = len(asked) * len(MODES)
        with running(self._workers), TemporaryDirectory() as folder:
            for dtype, window in asked:
                yield from self._of_window(dtype, window, Path(folder), say)

    def found(self) -> dict[tuple[str, str, str], str]:
        """By library, way and element type."""
        return self._search.found()

    def _of_window(self, dtype: str, window: tuple[int, ...], folder: Path, say: Progress) -> Iterator[Row]:
        problem = problem_of(window, self._tiles)
        shape = (prod(problem.result_shape[1:]), prod(window))
        windows = {kind: drawn(kind, shape, dtype) for kind in KINDS}
        np.save(folder / "cells.npy", np.stack([folded(rows, problem) for rows in windows.values()]))
        sizes = {kind: sums(abs(rows)) for kind, rows in windows.items()}
        for mode in MODES:
            exact = [exact_values(mode, dtype, window, kind, rows, sizes[kind]) for kind, rows in windows.items()]
            question = Question(problem_of(window, self._tiles, mode, str(folder / "cells.npy")), dtype)
            given: dict[Any, Array] = {}
            for worker in self._workers:
                library = worker.library
                for way in library.ways if library.name in (OURS.name, *ASKED[mode]) else ():
                    say(f"{mode} {dtype} {problem.name}: {library.column(way)}")
                    about = (mode, dtype, problem.name)
                    results = answer(worker, question, way, folder / "answer.npy")
                    if isinstance(results, str):
                        yield from (Row(*about, of.kind, library.name, way, None, results) for of in exact)
                    elif results is not None:
                        given[library.name, way, dtype] = results.ravel()
                        yield from (
                            judged(about, of, library, way, found)
                            for of, found in zip(exact, results.reshape(len(exact), -1), strict=True)
                        )
            if mode == "avg" and prod(window) <= SEARCHED:
                self._search.see(given, np.concatenate(list(windows.values())), window, dtype)
            say.done += 1
        say.clear()


def answer(worker: Worker, question: Question, way: str, file: Path) -> Array | str | None:
    """The results in float64, channels first; a sentence where it fails; None where it has no words for the question."""
    try:
        return None if worker.agree(question, way, file, True) is None else np.load(file)
    except Failed as failed:
        return str(failed)


def judged(about: tuple[str, str, str], of: Exact, library: Library, way: str, results: Array) -> Row:
    limits = held(results, of) if library.name == OURS.name and of.bounds else (None, None)
    return Row(*about, of.kind, library.name, way, Errors.of(results, of.values, of.form), "", *limits)


# ---- the page --------------------------------------------------------------------------------------------------------------

LEGEND = (
    "Each cell: the greatest error · the mean error · the share of results that are the exact value, rounded once. Errors are in "
    "units in the last place (ulps) of the exact result in its type: 0.5 or less is correctly rounded. Where cells cancel, the "
    "result is small beside them, and its ulp too. A row is {results} results, whose windows have no cell in common. `of bound` "
    "is the greatest error of ours over what pairwise summation may cost at most (bench/accuracy.py derives it); in float16 and "
    "bfloat16 nearly all of that is the last rounding. *first* and *last* are channels first and last, one column where they are "
    "equally good; `-`: the library has no words for it."
)
TITLES = {"avg": "Averages", "sum": "Sums", "lp": "2-norms (`lp`, p = 2)"}
ADDING = (
    "Found from the averages alone: which of the ways in bench/orders.py (an order of adding, a type to add in, and how the sum "
    "becomes the average) give every bit of every result, for all kinds of cells and all windows of up to {cells} cells. Ways "
    "joined by *or* could not be told apart; *another way* is none of these."
)
BOUND = f"{OURS.name}'s bound"  # the title of a curve


def columns_of(rows: list[Row]) -> dict[str, list[tuple[str, str]]]:
    """A title for each library, and its ways: apart where their results are not equally good."""
    given: dict[tuple[str, str], list[Any]] = {}
    for row in rows:
        given.setdefault((row.library, row.way), []).append((row.mode, row.dtype, row.window, row.kind, row.errors))
    found: dict[str, list[tuple[str, str]]] = {}
    for library in dict.fromkeys(library for library, _ in given):
        ways = [who for who in given if who[0] == library]
        if all(given[who] == given[ways[0]] for who in ways):
            found[library] = ways
        else:
            found |= {" ".join(who).strip(): [who] for who in ways}
    return found


def number(value: float) -> str:
    """Three digits."""
    return f"{value:.3g}"


def part(share: float) -> str:
    """Per cent, rounded down: 100 is all."""
    return f"{int(100 * share)} %"


def cell(row: Row | None) -> str:
    if row is None:
        return "-"
    if row.errors is None:
        return row.failure.partition(":")[0]
    errors = row.errors
    return f"{number(errors.greatest)} · {errors.mean:.2g} · {part(errors.share)}"


def table(rows: list[Row]) -> Iterator[str]:
    """One mode and one kind: a line for each type and window."""
    titles = columns_of(rows)
    bounded = any(row.of_bound is not None for row in rows)
    at = {(row.dtype, row.window, row.library, row.way): row for row in rows}
    first, *others = titles
    yield head(["cells", "window", first, *(["of bound"] if bounded else []), *others], 2)
    for dtype, window in dict.fromkeys((row.dtype, row.window) for row in rows):
        found = {title: at.get((dtype, window, *ways[0])) for title, ways in titles.items()}
        ours = found.pop(first)
        share = [part(ours.of_bound) if ours and ours.of_bound is not None else "-"] if bounded else []
        yield line([dtype, window, cell(ours), *share, *(cell(row) for row in found.values())])


def section(rows: list[Row], mode: str) -> Iterator[str]:
    """All tables of a mode; but for the first, folded."""
    yield from (f"## {TITLES[mode]}", "")
    for kind, (words, _) in KINDS.items():
        chosen = [row for row in rows if (row.mode, row.kind) == (mode, kind)]
        if not chosen:
            continue
        title = f"{TITLES[mode].partition(' ')[0]} of {kind} cells: {words}"
        if (mode, kind) == ("avg", "uniform"):
            yield from (f"{title}.", "", *table(chosen), "")
        else:
            yield from ("<details>", f"<summary>{title}</summary>", "", *table(chosen), "", "</details>", "")


def adding(found: dict[tuple[str, str, str], str]) -> Iterator[str]:
    """How each library adds, by type."""
    dtypes = list(dict.fromkeys(dtype for _, _, dtype in found))
    told: dict[tuple[str, str], list[str]] = {}
    for library, way in dict.fromkeys(who[:2] for who in found):
        told[library, way] = [found.get((library, way, dtype), "-") for dtype in dtypes]
    yield head(["averages", *dtypes], 1 + len(dtypes))
    for library in dict.fromkeys(library for library, _ in told):
        ways = {way: words for (name, way), words in told.items() if name == library}
        alike = len(set(map(tuple, ways.values()))) == 1
        for way, words in list(ways.items())[: 1 if alike else None]:
            yield line([library if alike else f"{library} {way}".strip(), *words])


def seen(rows: list[Row]) -> Iterator[str]:
    """What stands out, in sentences whose figures come from the rows."""
    shares: dict[str, float] = {}
    for row in rows:
        if row.of_bound is not None:
            shares[row.dtype] = max(row.of_bound, shares.get(row.dtype, 0.0))
    if shares:
        verdict = "stay within" if max(shares.values()) <= 1 else "**exceed**"
        told = ", ".join(f"{part(share)} of it in {dtype}" for dtype, share in shares.items())
        yield f"- Our sums and averages {verdict} the bound of pairwise summation; the greatest error is {told}."
    for dtype in ("float32", "float64", "float16"):
        chosen = [row for row in rows if (row.mode, row.kind, row.dtype) == ("avg", "uniform", dtype) and row.errors]
        chosen = [row for row in chosen if row.window == name_of(LARGEST)]
        alike: dict[str, list[str]] = {}
        for row, title in sorted(one_each(chosen), key=lambda pair: pair[0].errors.greatest if pair[0].errors else 0.0):
            alike.setdefault(number(row.errors.greatest) if row.errors else "", []).append(title)
        if alike:
            told = "; ".join(f"{ulps} ({', '.join(titles)})" for ulps, titles in alike.items())
            yield f"- Averages of {name_of(LARGEST)} uniform cells in {dtype}, greatest errors in ulps: {told}."


def one_each(rows: list[Row]) -> Iterator[tuple[Row, str]]:
    """For each title of the columns a row, of those that are one for each way."""
    for title, ways in columns_of(rows).items():
        yield next(row for row in rows if (row.library, row.way) == ways[0]), title


def failures(rows: list[Row]) -> Iterator[str]:
    """Why there is no figure: a line for each library and sentence."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for row in rows:
        if row.errors is None:
            found.setdefault((row.column, row.failure), {})[f"{row.mode} {row.dtype}"] = None
    for (column, sentence), where in found.items():
        yield f"- {column}: {sentence} ({'; '.join(where)})"


def curves(rows: list[Row]) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """By type and title, of uniform averages on two axes: side of the window, greatest error. Who is alike has one curve."""
    found: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for dtype in dict.fromkeys(row.dtype for row in rows):
        chosen = [row for row in rows if (row.mode, row.kind, row.dtype) == ("avg", "uniform", dtype) and "x" in row.window]
        titles: dict[tuple[tuple[int, float], ...], list[str]] = {}
        for title, ways in columns_of(chosen).items():
            mine = [row for row in chosen if (row.library, row.way) == ways[0] and row.errors]
            if mine:
                titles.setdefault(tuple((side(row), row.errors.greatest) for row in mine if row.errors), []).append(title)
        ours = [row for row in chosen if row.bound is not None and row.way == OURS.ways[0]]
        titles[tuple((side(row), row.bound or 0.0) for row in ours)] = [BOUND]
        found[dtype] = {", ".join(names): list(points) for points, names in titles.items()}
    return found


def side(row: Row) -> int:
    return int(row.window.partition("x")[0])


def page(heading: list[str], rows: list[Row], found: dict[tuple[str, str, str], str], results: int) -> str:
    parts = ["# Accuracy", "", f"Written by `{COMMAND}`.", "", *heading, "", *seen(rows), ""]
    picture = "![The greatest error of averages against the side of the window]({})"
    parts += [picture.format(PAGE.with_suffix(".png").name), "", "## How they add", ""]
    parts += [ADDING.format(cells=SEARCHED), "", *adding(found), "", "## Figures", ""]
    parts += [LEGEND.format(results=results), ""]
    for mode in MODES:
        parts += section(rows, mode)
    if reasons := list(failures(rows)):
        parts += ["## Not measured", "", *reasons, ""]
    return "\n".join(parts)


# ---- the command -----------------------------------------------------------------------------------------------------------


def accuracy(write: bool, quick: bool, file: Path | None) -> int:
    """Measures, and prints the page; the result is the exit code: 1 where ours fail or exceed their bound."""
    if write and quick:
        print("bench accuracy: --write needs all results")
        return 2
    if write and not find_spec("matplotlib"):
        print("bench accuracy: --write needs matplotlib, which is not installed")
        return 2
    names = list(dict.fromkeys(name for names in ASKED.values() for name in names))
    libraries = [RIVALS[name] for name in names if installed(RIVALS[name])]
    tiles = TILES // 4 if quick else TILES
    survey = Survey([OURS, *libraries], tiles)
    rows = list(survey.rows(FORMATS, WINDOWS, Progress()))
    told = heading(libraries, 1, names)
    text = page(told, rows, survey.found(), CHANNELS * tiles)
    print(text)
    if file is not None:
        adds = [[*who, words] for who, words in survey.found().items()]
        kept = {"heading": told, "rows": [asdict(row) for row in rows], "adding": adds}
        file.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    if write:
        from plots import over_sides

        over_sides(curves(rows), BOUND, PAGE.with_suffix(""))
        PAGE.write_text(text, encoding="utf-8")
    ours = [row for row in rows if row.library == OURS.name]
    return 1 if any(row.errors is None or (row.of_bound or 0.0) > 1 for row in ours) else 0
