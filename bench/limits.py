"""`python -m bench limits`: what the time of each row of the benchmark goes to, with one thread: loops, or waiting for memory.

Each problem is measured whole, and cut to fewer images, channels and rows, with the same windows, until what it moves stays in
a core's caches. What is left of the time per byte there is work; a memcpy, measured likewise, has hardly any.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from compare import ROOT, TITLES, heading
from problems import Problem, Question, questions, windows
from rivals import MEMCPY, POOLING
from tables import asked, head, line

PAGE = ROOT / "docs" / "limits.md"
COMMAND = "python -m bench limits --write"
CACHED = 2**19  # bytes that a problem moves when it is cut, at most, unless its windows need more
COLUMNS = [*TITLES[:6], "ours", "in cache", "memcpy", "in cache", "work", "x memcpy there"]
LEGEND = """Picoseconds per byte that must be moved, the least of many calls with one thread, results in arrays that are there
already: of the whole problem, and of one that is cut until it stays in the caches, less what a call costs. *work* is what is left
of the time there: where it is near 100 %, more instructions per byte than a copy needs are the limit, else the rest is waiting
for memory. *x memcpy there*: the time in the caches over that of a memcpy in the caches, which moves a vector per instruction."""


def cut(question: Question) -> Question:
    """The same windows on so few cells that they stay in the caches."""
    problem = question.problem
    while replace(question, problem=problem).moved > CACHED:
        n, c, *sizes = problem.shape
        if n > 1:
            n //= 2
        elif c > 16 or (c > 1 and sizes[0] < 8 * problem.kernel):
            c //= 2
        elif sizes[0] >= 8 * problem.kernel:
            sizes[0] //= 2
        else:
            break
        problem = replace(problem, shape=(n, c, *sizes))
    return replace(question, problem=problem)


def least(run: Callable[[], Any], seconds: float) -> float:
    """The least time of a call."""
    run()
    found, end = [], time.perf_counter() + seconds
    while len(found) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return min(found)


def times(question: Question, way: str, seconds: float) -> list[float]:
    """Seconds of a call: ours, and a memcpy's."""
    started = [library.start(question, words, 1) for library, words in ((POOLING, way), (MEMCPY, ""))]
    assert all(started)
    return [least(found[0], seconds) for found in started if found]


def row(question: Question, layout: str, seconds: float) -> list[str]:
    problem: Problem = question.problem
    way = layout if question.part == "backward" else f"{layout} out"
    few, none = cut(question), replace(question, problem=problem.small())  # what a call costs is taken off
    ours, copy = (1e12 * t / question.moved for t in times(question, way, seconds))
    calls = zip(times(few, way, seconds), times(none, way, seconds / 4), strict=True)
    near, close = (1e12 * max(t - call, 0) / max(few.moved - none.moved, 1) for t, call in calls)
    what = [problem.name, f"{problem.mode} {problem.kernel}/{problem.stride}", question.part, question.dtype, layout]
    figures = [f"{question.moved / 1e6:.3g}", f"{ours:.0f}", f"{near:.0f}", f"{copy:.0f}", f"{close:.0f}"]
    return [*what, *figures, f"{min(near / ours, 1):.0%}", f"{near / close:.1f}" if close else "-"]


def limits(only: list[str] | None = None, quick: bool = False, write: bool = False) -> int:
    """Measures, prints and writes the page; the result is the exit code."""
    try:
        problems = asked(only)
    except LookupError as error:
        print(f"python -m bench limits: {error.args[0]}", file=sys.stderr)
        return 2
    wanted = [question for problem in problems for question in questions(problem)] + ([] if only else windows())
    rows = []
    for number, question in enumerate(wanted):
        if sys.stderr.isatty():
            print(f"\r\x1b[K[{number}/{len(wanted)}] {question}", end="", file=sys.stderr, flush=True)
        rows += [row(question, layout, 0.02 if quick else 0.1) for layout in ("first", "last")]
    table = [head(COLUMNS, 5), *(line(cells) for cells in rows)]
    text = "\n".join(["# Limits", "", f"Written by `{COMMAND}`.", "", *heading([], 1, ()), "", LEGEND, "", *table, ""])
    print(text)
    if write:
        PAGE.write_text(text, encoding="utf-8")
    return 0
