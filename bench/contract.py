"""What was measured, and what it must be: the lines that every release is held to, evaluated from the rows.

A figure is one time over another, so less is better in every line. Against the memcpy a result of more than 16 MB moved is
written into `out=`, a smaller one into a new array: a new array costs page faults, which a large memcpy into one would too.
Gradients have no `out=`. Against rivals both sides are timed as their users call them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from math import exp, log
from statistics import mean
from typing import Any

from problems import PROBLEMS, SMALL_TYPES, Problem, Question

OURS, YARDSTICK, ONE = "pooling", "memcpy", ", 1 thread"  # names of columns, and the end of those with one thread
LARGE = 16e6  # bytes moved
LAYOUTS = ("first", "last")


@dataclass(frozen=True)
class Row:
    """The answers to one question: for every column seconds, or a sentence in their place."""

    question: Question
    times: dict[str, float | str]

    @property
    def name(self) -> str:
        """The problem's, and the kernel where it is not the problem's own."""
        problem = self.question.problem
        return problem.name if named(self.question) else f"{problem.name} {problem.kernel}"

    def seconds(self, column: str) -> float | None:
        found = self.times.get(column)
        return found if isinstance(found, float) else None

    def copy(self) -> float | None:
        """The memcpy's: with all threads, or with one where starting others takes longer."""
        return min((t for end in ("", ONE) if (t := self.seconds(YARDSTICK + end))), default=None)

    def plain(self, layout: str) -> float | None:
        """Ours, as called."""
        return self.seconds(f"{OURS} {layout}")

    def out(self, layout: str, end: str = "") -> float | None:
        """Ours, into arrays that exist."""
        return self.seconds(f"{OURS} {layout} out{end}")

    def beside_memcpy(self, layout: str) -> float | None:
        """Ours, as it is held against the memcpy."""
        return (self.out(layout) if self.question.moved > LARGE else None) or self.plain(layout)

    def rivals(self, prefix: str = "") -> dict[str, float]:
        """The seconds of all rivals, or of one library's ways."""
        return {
            name: found
            for name, found in self.times.items()
            if isinstance(found, float) and not name.startswith((OURS, YARDSTICK)) and name.startswith(prefix)
        }

    def best(self) -> tuple[str, float] | None:
        """The fastest rival."""
        return min(self.rivals().items(), key=lambda item: item[1], default=None)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(found: dict[str, Any]) -> Row:
        question = found["question"]
        problem = {k: tuple(v) if isinstance(v, list) else v for k, v in question["problem"].items()}
        return Row(Question(**question | {"problem": Problem(**problem)}), found["times"])


def named(question: Question) -> bool:
    """Whether it is one of a named problem, not of another window on its array."""
    return question.problem == PROBLEMS.get(question.problem.name)


# ---- figures: (row, layout) -> one time over another, or None where one of them is missing -----------------------------------


def ratio(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below is not None else None


def over_memcpy(row: Row, layout: str) -> float | None:
    return ratio(row.beside_memcpy(layout), row.copy())


def over(library: str) -> Callable[[Row, str], float | None]:
    """Over the fastest way of a library; of any, if it has no name."""
    return lambda row, layout: ratio(row.plain(layout), min(row.rivals(library).values(), default=None))


def over_one_thread(row: Row, layout: str) -> float | None:
    return ratio(row.out(layout), row.out(layout, ONE))


def geometric_mean(figures: Iterable[float]) -> float:
    return exp(mean(map(log, figures)))


# ---- the lines ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """What of which questions must be at most how much; of all figures the greatest, or what `combine` makes of them."""

    what: str
    than: str
    limit: float
    figure: Callable[[Row, str], float | None]
    of: Callable[[Question], bool]
    combine: Callable[[Iterable[float]], float] = max


@dataclass(frozen=True)
class Verdict:
    """A line's figure, the row where it is greatest, and how many rows hold; None: nothing was measured."""

    line: Line
    figure: float | None
    where: str
    holding: int
    of: int

    @property
    def reached(self) -> bool | None:
        return None if self.figure is None else self.figure <= self.line.limit


def part(name: str, /, **fields: Any) -> Callable[[Question], bool]:
    """Questions of a part whose problem has these values; a tuple lists several."""

    def has(question: Question) -> bool:
        found = ((getattr(question.problem, field), value) for field, value in fields.items())
        return question.part == name and all(x in value if isinstance(value, tuple) else x == value for x, value in found)

    return has


def strided(question: Question) -> bool:
    return part("forward")(question) and question.problem.stride >= 2


def float32(question: Question) -> bool:
    return question.dtype == "float32"


def every(question: Question) -> bool:
    return True


WIDE = {"name": ("dilate", "box"), "stride": 1}
MEMCPY, BEST = "memcpy", "the best rival"
LINES = (
    Line(
        "stride 2 and more, float32, arrays of 10 MB and more",
        MEMCPY,
        1.25,
        over_memcpy,
        lambda q: strided(q) and float32(q) and q.input_bytes >= 10e6,
    ),
    Line("3x3 at stride 1", MEMCPY, 2.0, over_memcpy, part("forward", kernel=3, stride=1, rank=2)),
    Line("31x31 at stride 1, max", MEMCPY, 3.5, over_memcpy, part("forward", kernel=31, mode="max", **WIDE)),
    Line("31x31 at stride 1, avg", MEMCPY, 5.0, over_memcpy, part("forward", kernel=31, mode="avg", **WIDE)),
    Line("31x31 at stride 1", "OpenCV", 1.0, over("OpenCV"), part("forward", kernel=31, **WIDE)),
    Line("101x101 at stride 1, max", MEMCPY, 5.0, over_memcpy, part("forward", kernel=101, mode="max", **WIDE)),
    Line("101x101 at stride 1, avg", MEMCPY, 7.0, over_memcpy, part("forward", kernel=101, mode="avg", **WIDE)),
    Line("13x13 at stride 1 on (1, 512, 20, 20)", BEST, 0.5, over(""), part("forward", name="spp")),
    Line(
        "2x2 and 3x3 at stride 2, uint8, float16, bfloat16",
        MEMCPY,
        1.5,
        over_memcpy,
        lambda q: part("forward", kernel=(2, 3), stride=2, rank=2)(q) and q.dtype in SMALL_TYPES,
    ),
    Line("max with indices, stride 2 and more", MEMCPY, 1.75, over_memcpy, part("indices")),
    Line("max with indices, stride 2 and more", "torch", 1.0, over("torch"), part("indices")),
    Line("backward, 2x2 and 3x3, stride 1 and 2", MEMCPY, 2.0, over_memcpy, part("backward")),
    Line("backward, 2x2 and 3x3, stride 1 and 2", "torch", 1.0, over("torch"), part("backward")),
    Line("everything measured", BEST, 1.0, over(""), every),
    Line("the named problems, geometric mean", BEST, 0.5, over(""), named, geometric_mean),
    Line("all threads, arrays of 10 to 60 MB, out=", "one thread", 1 / 1.6, over_one_thread, every),
)


def verdict(line: Line, rows: list[Row]) -> Verdict:
    """Evaluates one line."""
    found = [
        (figure, f"{row.name} {row.question.dtype} {row.question.part} {layout}")
        for row in rows
        if line.of(row.question)
        for layout in LAYOUTS
        if (figure := line.figure(row, layout)) is not None
    ]
    if not found:
        return Verdict(line, None, "", 0, 0)
    figures = [figure for figure, _ in found]
    return Verdict(line, line.combine(figures), max(found)[1], sum(f <= line.limit for f in figures), len(found))
