"""The command line: `python -m pooling.testing` holds the answers of a backend, or of your function, against the oracle's.

It owns the arguments, the printing, the exit codes (0: every cell agrees; 1: one differs, a call failed, or no cell was
compared; 2: the command cannot run), and the processes: whatever computes runs in a process of its own, so that a driver or a
kernel that aborts or hangs costs one question, which is reported, and not the rest.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections import Counter
from fnmatch import fnmatchcase

import numpy as np

import pooling

from .apart import Died, apart
from .ask import Verdict, answers, reasons
from .check import LIMIT, Given, Outcome, Report, outcomes
from .draw import Asked, failure
from .golden import FUNCTIONS, QUICK, TYPES, questions

LINE = "{:<11} {:>14} {:>11} {:>9} {:>9} {:>8} {:>8}  {}"
HEADINGS = ("backend", "cells compared", "differ", "calls", "refused", "failed", "seconds", "device")
SHOWN, ALIKE = 12, 3  # faults that are printed whole: for each implementation, and for each function and mode of it
DEATHS = 10  # processes that may die before it gives up


class Progress:
    """One line on a terminal that is written over; nothing elsewhere."""

    def __init__(self, backend: str, total: int) -> None:
        self._backend, self._total, self._start, self._next = backend, total, time.perf_counter(), 0.0
        self._terminal = sys.stderr.isatty()

    def show(self, done: int, verdict: Verdict) -> None:
        """Says how far it is, a few times a second."""
        now = time.perf_counter()
        if self._terminal and now > self._next:
            self._next = now + 0.2
            left = (now - self._start) / max(done, 1) * (self._total - done)
            found = f"{verdict.differ:,} cells differ, {verdict.failed:,} calls failed"
            text = f"{self._backend}: {done:,} of {self._total:,} questions, {found}, about {left:.0f} s left"
            print(f"\r\x1b[2K{text}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Makes room for other lines."""
        if self._terminal:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)


def examine(backend: str, names: list[str], device: str | None) -> bool:
    """Asks one implementation everything and prints what came of it; whether all is well."""
    total, progress, started = Verdict(backend), Progress(backend, len(names)), time.perf_counter()
    where, done, deaths, kinds = "unknown device", 0, 0, Counter[str]()
    interrupt: KeyboardInterrupt | None = None
    again = f"python -m pooling.testing --backend {backend}{f' --device {device}' if device else ''} --only"

    def show(question: str, fault: str) -> None:
        function, _, mode, *_ = question.split("/")
        kinds[f"{function}/{mode}"] += 1
        if kinds[f"{function}/{mode}"] <= ALIKE and sum(min(count, ALIKE) for count in kinds.values()) <= SHOWN:
            progress.clear()
            print(f"\nFAULT {backend}: {fault}\n  again  {again} {question}", flush=True)

    while done < len(names) and deaths < DEATHS and not interrupt:
        try:
            for item in apart(answers, backend, names[done:], device):
                if isinstance(item, str):
                    where = item
                    continue
                done += 1
                total.add(item)
                for fault in item.faults:
                    show(item.name, fault)
                progress.show(done, total)
        except Died as death:
            lost = names[min(done, len(names) - 1)]
            total.failed, deaths, done = total.failed + 1, deaths + 1, done + 1
            total.where.update(lost.split("/"))
            show(lost, f"{lost}\n  {death}")
        except KeyboardInterrupt as error:
            interrupt = error
    progress.clear()
    if kinds:
        often = ", ".join(f"{part} ({count:,})" for part, count in total.where.most_common(15))
        print(f"\n{backend}: {kinds.total():,} faults; most often in {often}")
    if done < len(names):
        why = "interrupted" if interrupt else f"{deaths} processes died"
        print(f"{backend}: {why}; {len(names) - done:,} questions were not asked")
    counts = (total.cells, total.differ, total.calls, total.refusals.total(), total.failed)
    print(LINE.format(backend, *(f"{count:,}" for count in counts), f"{time.perf_counter() - started:.1f}", where), flush=True)
    for sentence, count in total.refusals.most_common():
        print(f"{'':<11} refused {count:,} calls: {sentence}")
    if interrupt:
        raise interrupt
    return not total.differ and not total.failed and total.cells > 0


def refuse(sentence: str) -> int:
    """Says why the command cannot run."""
    print(f"pooling.testing: {sentence}", file=sys.stderr)
    return 2


def examine_function(target: str, given: Given) -> int:
    """Asks somebody's function and prints the report."""
    report, asked = Report(target.rpartition(":")[2].rpartition(".")[2], given.limit), None
    done, total, deaths = 0, 1, 0
    while done < total and deaths < DEATHS:
        try:
            for step in apart(outcomes, target, given, done):
                if isinstance(step, str):
                    return refuse(f"--function {target}: {step}")
                if isinstance(step, int):
                    total = step
                elif isinstance(step, Outcome):
                    done += 1
                    report.add(step)
                else:
                    asked = step
        except Died as death:
            if asked is None:
                return refuse(f"--function {target}: {death}")
            deaths, done = deaths + 1, done + 1
            again = f"python -m pooling.testing --function {target} --call {asked.function} --name {asked.name}"
            text = failure(asked, [("raised", str(death))], Asked(report.name, asked.plain, again))
            report.add(Outcome(asked, text, None))
    print(report)
    if done < total:
        print(f"\n{deaths} processes died; {total - done:,} cases were not asked")
    return 0 if report and done == total else 1


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; the result is the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m pooling.testing",
        description="Asks a backend, or a function of yours, the named cases, and compares every cell with the oracle's.",
    )
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--backend", metavar="NAME", help="cpu; mlx, for all that can run here; or mlx:ops ...")
    who.add_argument("--function", metavar="MODULE:NAME", help="a function of yours, as package.module:function")
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"--backend: {', '.join(QUICK)} only; --function: one case of those with the same features",
    )
    backend = parser.add_argument_group("with --backend")
    backend.add_argument("--only", metavar="PATTERN", help="questions by name, as a fault shows it; * stands for anything")
    backend.add_argument("--device", choices=("cpu", "gpu"), help="where MLX computes (default: where MLX would)")
    function = parser.add_argument_group("with --function; an option may be given more than once, and means any of its values")
    function.add_argument("--call", action="append", choices=FUNCTIONS, help="what it is asked to be (default: pool)")
    for option in ("mode", "layout", "feature", "name"):
        function.add_argument(f"--{option}", action="append", help="* stands for anything" if option == "name" else None)
    function.add_argument("--rank", action="append", type=int, help="how many axes are pooled: 1, 2 or 3")
    function.add_argument("--dtype", action="append", help="element types (default: float32); all for all of them")
    function.add_argument("--limit", type=int, default=LIMIT, help=f"how many wrong answers are drawn (default: {LIMIT})")
    function.add_argument("--spelled", action="store_true", help="arguments as pooling spells them: 3, None, 'same'")
    given = parser.parse_args(arguments)
    if given.function is not None:
        words = {
            "function": given.call,
            **{name: getattr(given, name) for name in ("mode", "layout", "feature", "name", "rank", "dtype")},
        }
        filters = {name: value for name, value in words.items() if value is not None}
        if filters.get("dtype") == ["all"]:
            filters["dtype"] = None
        return examine_function(given.function, Given(filters, given.limit, given.quick, given.spelled))
    return examine_backends(given.backend, given.only, given.device, given.quick)


def examine_backends(backend: str, only: str | None, device: str | None, quick: bool) -> int:
    """Asks all that a name stands for."""
    try:
        unusable: dict[str, str | None] = next(apart(reasons, device))
    except Died as death:
        return refuse(f"pooling.backends() cannot be asked: {death}")
    chosen = [name for name in unusable if backend in (name, name.partition(":")[0])]
    if not chosen:
        return refuse(f"--backend {backend}: a backend is one of {', '.join(unusable)}")
    names = [name for name, _ in questions(QUICK if quick else TYPES)]
    names = [name for name in names if only is None or fnmatchcase(name, only)]
    if not names:
        return refuse(f"--only {only}: no question has such a name, as pool/pad_both/max/float32/real")
    usable = [name for name in chosen if unusable[name] is None]
    print(f"pooling {pooling.__version__}, Python {platform.python_version()}, NumPy {np.__version__}, {platform.platform()}")
    print(f"{len(names):,} questions, each under up to three layouts, forward, with indices and backward")
    if "bfloat16" not in TYPES:
        print("bfloat16 is left out: it needs the package ml_dtypes (pip install ml_dtypes)")
    for name in chosen:
        if unusable[name] is not None:
            print(f"not run: {name}: {unusable[name]}")
    if not usable:
        return refuse(f"--backend {backend}: nothing of it is usable here")
    print("\n" + LINE.format(*HEADINGS), flush=True)
    try:
        well = [examine(name, names, device) for name in usable]
    except KeyboardInterrupt:
        return refuse("interrupted")
    return 0 if all(well) else 1


if __name__ == "__main__":
    raise SystemExit(main())
