"""Lines of Markdown tables, and the problems that a command line asks for."""

from __future__ import annotations

from collections.abc import Iterable

from problems import PROBLEMS, Problem


def line(cells: Iterable[object]) -> str:
    """A row."""
    return f"| {' | '.join(map(str, cells))} |"


def head(titles: list[str], words: int) -> str:
    """The titles; the first columns hold words, the others numbers."""
    return f"{line(titles)}\n|{'---|' * words}{'---:|' * (len(titles) - words)}"


def asked(only: list[str] | None) -> list[Problem]:
    """The problems of these names; a LookupError says which there are."""
    return [PROBLEMS[name] for name in known("problem", only, PROBLEMS)]


def known(kind: str, names: list[str] | None, table: Iterable[str]) -> list[str]:
    """Names of a table in its order, all where none is asked for."""
    every = list(table)
    unknown = sorted(set(names or ()) - set(every))
    if unknown:
        raise LookupError(f"there is no {kind} {', '.join(unknown)}; there are {', '.join(every)}")
    return [name for name in every if names is None or name in names]
