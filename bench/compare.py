"""`python -m bench compare`: ours beside every library that pools, and beside a memcpy of the same bytes, on the CPU.

Each library has a process and the same number of threads (see workers.py). A question is first asked of all: who answers as
we do is timed, in turn (A B C A B C ...), each burst of calls after the last one's threads have gone to sleep, a pause, and
calls that only wake its own: the median of a burst, the median over the rounds. What cannot be timed has a sentence in its
place. contract.py says what the figures must be.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from contract import LAYOUTS, LINES, ONE, Row, Verdict, geometric_mean, named, over, over_memcpy, over_one_thread, verdict
from problems import Problem, Question, questions, windows
from rivals import MEMCPY, POOLING, RIVALS, Library
from tables import asked, head, known, line
from workers import ONCE, Failed, Worker, running

import pooling

ROOT = Path(__file__).parents[1]
README, PAGE = ROOT / "README.md", ROOT / "docs" / "benchmarks.md"
MARKERS = "<!-- bench compare: begin -->", "<!-- bench compare: end -->"
COMMAND = "python -m bench compare --write"
PAUSE, BURST = 0.01, 0.02  # seconds: before a burst; and of a burst
SPENT = 1.0  # seconds of bursts for one column of one row


@dataclass(frozen=True)
class Column:
    """One way of one library, in its process."""

    name: str
    worker: Worker
    way: str


# ---- measuring -----------------------------------------------------------------------------------------------------------


def installed(library: Library) -> bool:
    return all(find_spec(name.partition(".")[0]) for name in library.needs)


def columns(libraries: list[Library], threads: int, limit: float) -> list[Column]:
    """Ours first, whose answer is the one that is wanted; the memcpy; ours and the memcpy with one thread; the rivals."""
    workers = [(Worker(library, threads, limit), "") for library in (POOLING, MEMCPY)]
    workers += [(Worker(library, 1, limit), ONE) for library in (POOLING, MEMCPY) if threads > 1]
    workers += [(Worker(library, threads, limit), "") for library in libraries]
    return [Column(w.library.column(way) + end, w, way) for w, end in workers for way in w.library.ways]


def fits(column: Column, question: Question) -> bool:
    """Whether the column is of interest: our one thread is compared with all on arrays of 10 to 60 MB, with out=."""
    if column.worker.library is MEMCPY or not column.name.endswith(ONE):
        return True
    large = (question.dtype, question.part) == ("float32", "forward") and 10e6 <= question.input_bytes <= 60e6
    return large and "out" in column.way


class Survey:
    """Asks one question after the other, and remembers who is too slow for larger windows."""

    def __init__(self, columns: list[Column], rounds: int, burst: float, say: Progress) -> None:
        self._columns, self._rounds, self._burst, self._say = columns, rounds, burst, say
        self._slow: dict[tuple[str, str], int] = {}  # (column, problem) -> the least kernel without an answer in time

    def ask(self, question: Question) -> Row:
        times: dict[str, float | str] = {}
        timed = []
        for column in self._columns:
            if not fits(column, question):
                continue
            self._say(f"{question}: {column.name}")
            found = self._agree(column, question)
            if found is not None:
                times[column.name] = found
            if isinstance(found, float) and found < ONCE:
                timed.append((column, found))
            if isinstance(found, str) and column is self._columns[0]:
                return Row(question, times)  # ours gives no answer to compare with
        bursts: dict[str, list[float]] = {column.name: [] for column, _ in timed}
        for number in range(self._rounds):
            self._say(f"{question}: round {number + 1} of {self._rounds}")
            for column, first in timed:
                calls = max(1, min(10000, round(self._burst / first)))
                if isinstance(times[column.name], str) or number * calls * first > SPENT:
                    continue
                time.sleep(PAUSE)
                try:
                    bursts[column.name].append(column.worker.burst(question, column.way, calls))
                except Failed as failed:
                    times[column.name] = str(failed)
        times |= {name: median(found) for name, found in bursts.items() if found and not isinstance(times[name], str)}
        return Row(question, times)

    def _agree(self, column: Column, question: Question) -> float | str | None:
        """The time of a call, a sentence, or None where the library has no words for the question."""
        problem = question.problem
        slow = self._slow.get((column.name, problem.name))
        if slow is not None and problem.kernel >= slow:
            return f"not asked: no answer in time with a window of {slow}"
        try:
            return column.worker.agree(question, column.way, self._answer, column is self._columns[0])
        except Failed as failed:
            if "no answer" in str(failed):
                self._slow[column.name, problem.name] = problem.kernel
            return str(failed)

    def __enter__(self) -> Survey:
        self._folder = TemporaryDirectory()
        self._answer = Path(self._folder.name) / "answer.npy"
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()


class Progress:
    """One line that is written over, where somebody looks."""

    def __init__(self) -> None:
        self._shown, self.done, self.of, self._start = sys.stderr.isatty(), 0, 0, time.monotonic()

    def __call__(self, text: str) -> None:
        if self._shown:
            print(
                f"\r\x1b[K[{self.done}/{self.of}, {time.monotonic() - self._start:.0f} s] {text}",
                end="",
                file=sys.stderr,
                flush=True,
            )

    def clear(self) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def survey(asked: list[Question], columns: list[Column], rounds: int, burst: float) -> Iterator[Row]:
    """A row for every question, as it is measured."""
    say = Progress()
    say.of = len(asked)
    with running([column.worker for column in columns]), Survey(columns, rounds, burst, say) as all_of:
        for question in asked:
            row = all_of.ask(question)
            say.done += 1
            say.clear()
            yield row


# ---- the tables ------------------------------------------------------------------------------------------------------------


def heading(libraries: list[Library], threads: int, wanted: Iterable[str] = RIVALS) -> list[str]:
    """What was measured, and on what; which of the libraries that were wanted are not there."""
    distributions = packages_distributions()
    names = [f"{x.name} {version(distributions[x.needs[0]][0])}" for x in libraries]
    absent = [name for name in wanted if not installed(RIVALS[name])]
    cpu = ", ".join(f"{key} {value}" for key, value in pooling.cpu_info().items())
    return [
        f"{processor()}, {threads} of {os.cpu_count()} threads; Python {platform.python_version()}, {platform.platform()}.",
        f"pooling {pooling.__version__} ({cpu}); {', '.join(names) or 'no rivals'}.",
        *([f"Not installed, so left out: {', '.join(absent)}."] if absent else []),
    ]


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(text.partition(":")[2].strip() for text in lines if text.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


TITLES = [
    "problem",
    "window",
    "part",
    "dtype",
    "layout",
    "MB",
    "memcpy",
    "ours",
    "with out=",
    "x memcpy",
    "best rival",
    "ours / its",
]
WORDS = 5
ROWS = head(TITLES, WORDS)
CONTRACT = head(["time of", "over that of", "at most", "measured", "greatest at", "rows that hold", ""], 2)
LEGEND = (
    "Milliseconds. `x memcpy` is our time over that of a memcpy of the bytes that must be moved (MB: input read once, result "
    "written once), with `out=` above 16 MB; `ours / its` is our time, as called, over the best rival's, in whichever layout "
    "that is faster. Below 1 we are faster."
)


def shown(seconds: float | str | None) -> str:
    """Milliseconds in three digits."""
    if seconds is None:
        return "-"
    if isinstance(seconds, str):
        return seconds.partition(":")[0] if seconds.startswith(("differs", "fails", "crashes")) else "too slow"
    milliseconds = 1000 * seconds
    return f"{milliseconds:.0f}" if milliseconds >= 100 else f"{milliseconds:.3g}"


def factor(number: float | None) -> str:
    return "-" if number is None else f"{number:.2f}"


def lines_of(row: Row, rivals: list[str]) -> Iterator[str]:
    """One row in Markdown for each of our layouts."""
    problem, best = row.question.problem, row.best()
    for layout in LAYOUTS:
        yield line(
            [
                row.name,
                f"{problem.mode} {problem.kernel}/{problem.stride}",
                row.question.part,
                row.question.dtype,
                layout,
                f"{row.question.moved / 1e6:.3g}",
                shown(row.copy()),
                shown(row.times.get(f"{POOLING.name} {layout}")),
                shown(row.times.get(f"{POOLING.name} {layout} out")),
                factor(over_memcpy(row, layout)),
                best[0] if best else "-",
                factor(over("")(row, layout)),
                *(shown(row.times.get(name)) for name in rivals),
            ]
        )


def table(rows: Iterable[Row], rivals: list[str]) -> Iterator[str]:
    yield head([*TITLES, *rivals], WORDS)
    for row in rows:
        yield from lines_of(row, rivals)


def verdicts(rows: list[Row]) -> Iterator[str]:
    """The lines of the contract."""
    yield CONTRACT
    for found in (verdict(rule, rows) for rule in LINES):
        yield line(
            [
                found.line.what,
                found.line.than,
                f"{found.line.limit:.3g}",
                factor(found.figure),
                found.where or "-",
                f"{found.holding} of {found.of}",
                word(found),
            ]
        )


def word(found: Verdict) -> str:
    return {None: "not measured", True: "reached", False: "**not reached**"}[found.reached]


def means(rows: list[Row], rivals: list[str]) -> Iterator[str]:
    """Geometric means over the named problems."""
    rows = [row for row in rows if named(row.question)]
    kinds = {f"our time / {kind}": figure for kind, figure in (("memcpy", over_memcpy), ("the best rival's", over("")))}
    kinds |= {f"our time / that of {name}": over(name) for name in rivals}
    kinds |= {"all threads / one thread, ours": over_one_thread}
    yield head(["geometric means", "rows", *LAYOUTS], 1)
    for title, figure in kinds.items():
        found = [[f for row in rows if (f := figure(row, layout)) is not None] for layout in LAYOUTS]
        if all(found):
            yield line([title, len(found[0]), *(factor(geometric_mean(figures)) for figures in found)])
    copies = [t for row in rows if (t := copied(row)) is not None]
    if copies:
        yield line(["all threads / one thread, memcpy", len(copies), factor(geometric_mean(copies)), ""])


def copied(row: Row) -> float | None:
    """The memcpy's time with all threads over that with one: what threads can bring."""
    both, one = row.seconds(MEMCPY.name), row.seconds(MEMCPY.name + ONE)
    return both / one if both and one else None


def notes(rows: list[Row]) -> Iterator[str]:
    """Why something was not timed: a line for each column and sentence."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for column, sentence in row.times.items():
            if isinstance(sentence, str):
                found.setdefault((column, sentence), []).append(str(row.question))
    for (column, sentence), where in found.items():
        yield f"- {column}: {sentence} ({'; '.join(where)})"


def rivals_in(rows: list[Row]) -> list[str]:
    """The columns of rivals, in order of appearance."""
    return list(dict.fromkeys(name for row in rows for name in row.times if not name.startswith((POOLING.name, MEMCPY.name))))


def close(rows: list[Row], rivals: list[str]) -> Iterator[str]:
    """What follows the table."""
    yield from ("", LEGEND, "", *means(rows, rivals), "", "## The contract", "", *verdicts(rows))
    if reasons := list(notes(rows)):
        yield from ("", "## Not timed", "", *reasons)


# ---- the pages -------------------------------------------------------------------------------------------------------------


def block(rows: list[Row], head: list[str]) -> str:
    """What stands between the README's markers."""
    if not rows:
        return f"Not measured yet: `{COMMAND}` writes the tables and plots here."
    shown_rows = [
        row for row in rows if named(row.question) and (row.question.dtype, row.question.part) == ("float32", "forward")
    ]
    picture = "![{}](docs/{}.png)"
    return "\n".join(
        [
            *head,
            "",
            *verdicts(rows),
            "",
            LEGEND + f" [All rows](docs/{PAGE.name}), with a column for every rival.",
            "",
            *table(shown_rows, []),
            "",
            picture.format("Time over that of a memcpy, for every problem", "benchmarks-problems"),
            "",
            picture.format("Time against the size of the window", "benchmarks-windows"),
        ]
    )


def between(text: str, inside: str) -> str:
    """A page with something else between its markers."""
    begin, end = MARKERS
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed) or begin in rest or end in after:
        raise LookupError(f"the page needs {begin} and {end}, once each")
    return f"{before}{begin}\n\n{inside}\n\n{end}{after}"


def write(rows: list[Row], head: list[str]) -> None:
    """The README's block, the page of all rows, and the plots."""
    from plots import over_problems, over_windows

    PAGE.parent.mkdir(exist_ok=True)
    over_problems(rows, PAGE.with_name("benchmarks-problems"))
    over_windows(rows, PAGE.with_name("benchmarks-windows"))
    rivals = rivals_in(rows)
    page = ["# Benchmarks", "", f"Written by `{COMMAND}`.", "", *head, "", *table(rows, rivals), *close(rows, rivals), ""]
    PAGE.write_text("\n".join(page), encoding="utf-8")
    README.write_text(between(README.read_text(encoding="utf-8"), block(rows, head)), encoding="utf-8")


# ---- the command -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Options:
    """The command line."""

    quick: bool
    only: list[str] | None
    rivals: list[str] | None
    rounds: int
    threads: int
    limit: float
    json: Path | None
    load: list[Path] | None
    write: bool


def wanted(problems: list[Problem], options: Options) -> list[Question]:
    """All parts and types of the problems, and with them the windows of many sizes; --quick: one question for each problem."""
    if options.quick:
        return [questions(problem)[0] for problem in problems]
    names = {problem.name for problem in problems}
    sizes = (question for question in windows() if question.problem.name in names)
    return list(dict.fromkeys([*(question for problem in problems for question in questions(problem)), *sizes]))


def kept(files: list[Path]) -> tuple[list[str], list[Row]]:
    """What --json has kept; of several runs the least time of each column, ours, the memcpy's and the rivals' alike."""
    loaded = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    head, rows = loaded[0]["heading"], [Row.from_json(row) for row in loaded[0]["rows"]]
    for other in loaded[1:]:
        found = {row.question: row.times for row in map(Row.from_json, other["rows"])}
        rows = [Row(row.question, least(row.times, found.get(row.question, {}))) for row in rows]
    return head + [f"The least times of {len(files)} runs."] * (len(files) > 1), rows


def least(times: dict[str, float | str], others: dict[str, float | str]) -> dict[str, float | str]:
    """For each column of the first the lesser time, or its sentence where it has one."""
    return {
        name: min(t, o) if isinstance(t, float) and isinstance(o := others.get(name), float) else t for name, t in times.items()
    }


def compare(options: Options) -> int:
    """Measures, and prints the table as it grows; the result is the exit code."""
    try:
        problems = asked(options.only)
        names = known("rival", options.rivals, RIVALS)
    except LookupError as error:
        print(f"bench compare: {error}")
        return 2
    if options.write and (options.quick or options.only or options.rivals):
        print("bench compare: --write needs all problems and all rivals")
        return 2
    if options.write and not find_spec("matplotlib"):
        print("bench compare: --write needs matplotlib, which is not installed")
        return 2
    if options.load is not None:
        head, rows = kept(options.load)
        rivals = rivals_in(rows)
        print("\n".join(["# Benchmarks", "", *head, "", *table(rows, rivals)]))
    else:
        libraries = [RIVALS[name] for name in names if installed(RIVALS[name])]
        head = heading(libraries, options.threads)
        rivals = [library.column(way) for library in libraries for way in library.ways]
        print("\n".join(["# Benchmarks", "", *head, "", *table([], rivals)]), flush=True)
        rows = []
        every = columns(libraries, options.threads, options.limit)
        for row in survey(wanted(problems, options), every, options.rounds, BURST / 4 if options.quick else BURST):
            rows.append(row)
            print("\n".join(lines_of(row, rivals)), flush=True)
            if options.json is not None:  # after every row: a run that is stopped keeps what it has
                found = {"heading": head, "rows": [row.to_json() for row in rows]}
                options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print("\n".join(close(rows, rivals)))
    if options.write:
        write(rows, head)
    ours = [found for row in rows for name, found in row.times.items() if name.startswith(POOLING.name)]
    return 1 if any(isinstance(found, str) for found in ours) else 0
