"""Anyone's function, asked every case that it can be asked, and a report that leads to what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple
from unittest import SkipTest

from .call import Function, load
from .golden import FEATURES, Golden, Mismatch, cases

LIMIT = 3  # failures that are drawn
HUGE = "an argument of 2**30 or more, which a simple kernel may try to allocate; feature='huge' asks these"
ROW = "  {:<18} {:>7} {:>7}  {}"


class Outcome(NamedTuple):
    """What came of one case."""

    golden: Golden
    text: str | None  # what is wrong
    reason: str | None  # why it was not asked


@dataclass
class Report:
    """What came of asking a function: true where it was asked something and every answer is what is expected."""

    name: str  # of the function
    limit: int = LIMIT
    asked: list[Golden] = field(default_factory=list)
    failed: list[tuple[Golden, str]] = field(default_factory=list)  # simplest first, each with its text
    drawn: list[str] = field(default_factory=list)  # the texts of some: each of other features
    skipped: Counter[str] = field(default_factory=Counter)  # sentences, and how many cases were not asked for that

    def __bool__(self) -> bool:
        return bool(self.asked) and not self.failed

    @staticmethod
    def _kind(golden: Golden) -> frozenset[str]:
        return golden.features - {"nan", "ties"}

    def draws(self, golden: Golden) -> bool:
        """Whether a wrong answer to this case is to be drawn: the simplest of those with its features."""
        return len(self.drawn) < self.limit and self._kind(golden) not in {self._kind(other) for other, _ in self.failed}

    def add(self, outcome: Outcome) -> None:
        """Counts what came of a case."""
        golden, text, reason = outcome
        if reason is not None:
            self.skipped[reason] += 1
            return
        self.asked.append(golden)
        if text is not None:
            self.drawn += [text] if self.draws(golden) else []
            self.failed.append((golden, text))

    def __str__(self) -> str:
        answers = f"{len(self.failed):,} answers are wrong" if self.failed else "every answer is right"
        lines = [f"{self.name}: {len(self.asked):,} calls; {answers if self.asked else 'nothing was asked'}"]
        if self.asked:
            lines += ["", *self._table(), ""]
        common = [word for word in FEATURES if self.failed and all(word in golden.features for golden, _ in self.failed)]
        if common:
            lines.append(f"every wrong answer has: {', '.join(common)}")
        lines += [f"not asked: {count:,} cases: {sentence}" for sentence, count in self.skipped.most_common()]
        if self.drawn:
            lines += ["", f"{len(self.drawn)} of the {len(self.failed):,} wrong answers, the simplest of their kind:"]
            lines += [f"\n{text}" for text in self.drawn]
        return "\n".join(lines)

    def _table(self) -> list[str]:
        asked = Counter(word for golden in self.asked for word in golden.features or ["none of these"])
        failed = Counter(word for golden, _ in self.failed for word in golden.features or ["none of these"])
        lines = [ROW.format("feature", "asked", "failed", "").rstrip()]
        lines += [ROW.format("all calls", f"{len(self.asked):,}", f"{len(self.failed):,}", "").rstrip()]
        for word in (*FEATURES, "none of these"):
            if asked[word]:
                said = FEATURES[word][0] if word in FEATURES else ""
                lines.append(ROW.format(word, f"{asked[word]:,}", f"{failed[word]:,}", said).rstrip())
        return lines


def check(fn: Callable[..., Any], *, limit: int = LIMIT, spelled: bool = False, **filters: Any) -> Report:
    """Asks fn every case that it can be asked, and compares every cell; the report, or else `Mismatch` with it.

    fn is called with keyword arguments: of a case's arrays and arguments it gets those that its signature names
    (**kwargs takes all). They have the names of pooling's functions and, unless spelled is true, their plainest form:
    kernel, stride and dilation one int per pooled axis, padding one (before, after) pair per pooled axis. spelled=True
    gives them as pooling takes them too: 3, None, "same". A case that needs an argument which fn does not take is not
    asked, nor is one for which fn raises NotImplementedError; the report counts both.

    fn returns an array, or anything that numpy.asarray takes, of the type and shape that pooling's function returns;
    values and indices as a pair. An exception, a modified input, another type or shape are wrong answers.

    filters are those of `cases`; dtype is "float32" unless it or a name is given, and dtype=None asks all element
    types. Cases with the feature "huge" are asked only where a feature or a name is given, and feature=None asks
    all. limit says how many wrong answers are drawn.

    TypeError: fn takes no mode (or no layout) and the filters leave several; or it requires an argument that no
    case has. ValueError: there is no such case.

    >>> from pooling.testing import oracle
    >>> def max_pool(x, kernel, stride):
    ...     return oracle.pool(x, "max", kernel, stride)
    >>> report = check(max_pool, mode="max", layout="channels_last", rank=1)
    >>> bool(report), len(report.asked), len(report.failed)
    (True, 12, 0)
    """
    function = Function(fn, spelled)
    report = Report(function.name, limit)
    for _ in asking(function, selected(function, filters), report, names_huge(filters)):
        pass
    if not report:
        raise Mismatch(str(report))
    return report


def asking(function: Function, goldens: Iterable[Golden], report: Report, huge: bool) -> Iterator[Golden | Outcome]:
    """Asks each case: yields it before, in case that it ends the process, and what came of it after."""
    for golden in goldens:
        yield golden
        text, reason = None, None if huge or "huge" not in golden.features else HUGE
        try:
            text = function.fault(golden, report.draws(golden)) if reason is None else None
        except SkipTest as skipped:
            reason = str(skipped)
        outcome = Outcome(golden, text, reason)
        report.add(outcome)
        yield outcome


def names_huge(filters: dict[str, Any]) -> bool:
    """Whether the filters mean cases with huge arguments: not unless they name features or cases."""
    return "feature" in filters or "name" in filters


def selected(function: Function, filters: dict[str, Any], quick: bool = False) -> list[Golden]:
    """The cases to ask, the simplest first; quick: one of those that differ in nothing but shapes and numbers."""
    found = cases(**({} if "name" in filters else {"dtype": "float32"}) | filters)
    if not found:
        raise ValueError(f"no case has {', '.join(f'{name}={value!r}' for name, value in filters.items())}")
    for name in ("mode", "layout"):
        several = sorted({getattr(golden, name) for golden in found if name in golden.arguments})
        if len(several) > 1 and not function.takes(name):
            raise TypeError(
                f"{function.name} takes no {name}: say which one it has, as {name}={several[0]!r}; here are {several}"
            )
    found.sort(key=lambda golden: (len(golden.features), prod(golden.question.case.x_shape)))
    if quick:
        alike = {(one.function, one.rank, one.mode, one.layout, one.dtype, one.features): one for one in reversed(found)}
        found = list(reversed(alike.values()))
    return found


class Given(NamedTuple):
    """The arguments of a run with --function."""

    filters: dict[str, Any]
    limit: int
    quick: bool
    spelled: bool


def outcomes(target: str, given: Given, done: int) -> Iterator[str | int | Golden | Outcome]:
    """Asks a function all but the first cases: yields how many there are, and then what asking() does; or why it cannot."""
    try:
        function = Function(load(target), given.spelled, target)
        goldens = selected(function, given.filters, given.quick)
    except Exception as error:  # whatever somebody's module raises when it is imported
        yield f"{type(error).__name__}: {error}"
        return
    yield len(goldens)
    yield from asking(function, goldens[done:], Report(function.name, given.limit), names_huge(given.filters))
