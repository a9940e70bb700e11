"""Anyone's function, asked every case that it can be asked, and a report that leads to what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any
from unittest import SkipTest

from .call import Function
from .golden import FEATURES, Golden, Mismatch, cases

LIMIT = 3  # failures that are drawn
ROW = "  {:<18} {:>7} {:>7}  {}"


@dataclass
class Report:
    """What came of asking a function: true where it was asked something and every answer is what is expected."""

    name: str  # of the function
    asked: list[Golden] = field(default_factory=list)
    failed: list[tuple[Golden, str]] = field(default_factory=list)  # simplest first, each with its text
    skipped: Counter[str] = field(default_factory=Counter)  # sentences, and how many cases were not asked for that
    limit: int = LIMIT

    def __bool__(self) -> bool:
        return bool(self.asked) and not self.failed

    def __str__(self) -> str:
        answers = f"{len(self.failed):,} answers are wrong" if self.failed else "every answer is right"
        lines = [f"{self.name}: {len(self.asked):,} calls; {answers if self.asked else 'nothing was asked'}"]
        if self.asked:
            lines += ["", *self._table(), ""]
        lines += [f"not asked: {count:,} cases: {sentence}" for sentence, count in self.skipped.most_common()]
        shown = self.shown()
        if shown:
            lines += ["", f"the simplest of the wrong answers, {len(shown)} of {len(self.failed):,}:"]
            lines += [f"\n{text}" for _, text in shown]
        return "\n".join(lines)

    def shown(self) -> list[tuple[Golden, str]]:
        """The failures to print: the simplest, each with other features."""
        apart: dict[frozenset[str], tuple[Golden, str]] = {}
        for golden, text in self.failed:
            apart.setdefault(golden.features, (golden, text))
        return list(apart.values())[: self.limit]

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

    filters are those of `cases`; dtype is "float32" unless given, and dtype=None asks all element types. limit says
    how many wrong answers are drawn.

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
    return ask(function, limit=limit, **filters)


def ask(function: Function, /, *, limit: int = LIMIT, **filters: Any) -> Report:
    """As check, of a Function."""
    report = Report(function.name, limit=limit)
    for golden in selected(function, **filters):
        try:
            text = function.fault(golden)
        except SkipTest as reason:
            report.skipped[str(reason)] += 1
            continue
        report.asked.append(golden)
        if text is not None:
            report.failed.append((golden, text))
    if not report:
        raise Mismatch(str(report))
    return report


def selected(function: Function, /, **filters: Any) -> list[Golden]:
    """The cases to ask, the simplest first."""
    found = cases(**{"dtype": "float32", **filters})
    if not found:
        raise ValueError(f"no case has {', '.join(f'{name}={value!r}' for name, value in filters.items())}")
    for name in ("mode", "layout"):
        several = sorted({getattr(golden, name) for golden in found if name in golden.arguments})
        if len(several) > 1 and not function.takes(name):
            raise TypeError(
                f"{function.name} takes no {name}: say which one it has, as {name}={several[0]!r}; here are {several}"
            )
    return sorted(found, key=lambda golden: (len(golden.features), prod(golden.question.case.x_shape)))
