"""The modes: what a window does with its cells.

A mode is data. `cell`, `combine`, `finish` and `slope` are expressions in the common subset of C, CUDA and Metal;
the kernels are generated from them, so a new mode is a row here and a row in the oracle.

    a window's value = finish(combine(cell(x1), cell(x2), ...)), and padding is `identity`

In the expressions x is a cell, a and b are two partial values, s is the combined value, n the divisor and p the exponent.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Combine:
    """How two partial values become one, and the facts that algorithms rely on."""

    expression: str
    idempotent: bool  # a cell may be counted twice
    wraps: bool = False  # on integers it is taken modulo 2**64, in unsigned arithmetic
    second: str = ""  # where cells have an order: true where b, the later one, wins over a (not NaN, not a tie)
    key: str = ""  # where a NaN stands if 16-bit floats are compared as ints: high or low, so that it wins


COMBINES = {
    "max": Combine("b != b ? b : (b > a ? b : a)", True, second="b > a", key="high"),
    "min": Combine("b != b ? b : (b < a ? b : a)", True, second="b < a", key="low"),
    "add": Combine("a + b", False, wraps=True),
}


@dataclass(frozen=True, slots=True)
class Mode:
    """One reduction: its expressions, its arithmetic (a row of _dtypes) and the keywords that it alone reads."""

    name: str
    combine: str
    identity: str  # what padding counts as: "lowest" or "highest" of the cells' type, or "zero"
    arithmetic: str
    cell: str = "x"
    finish: str = "s"
    gradient: str = "choice"  # "choice": to the indexed cell; "share": to every cell alike; "slope": by each cell's part
    keywords: tuple[str, ...] = ()
    limit: str = ""  # the row that takes over where p is infinite

    @property
    def indexed(self) -> bool:
        """Whether a window's value is one of its cells, which has an index."""
        return "return_indices" in self.keywords

    @property
    def divides(self) -> bool:
        """Whether the finish reads the divisor."""
        return "divisor_override" in self.keywords


_INDEX = ("return_indices", "indices")
_POWER = "p == 2 ? x * x : p == 1 ? fabs(x) : pow(fabs(x), p)"
_ROOT = "p == 2 ? sqrt(s) : p == 1 ? s : pow(s, 1 / p)"

ROWS = {
    row.name: row
    for row in (
        Mode("max", "max", "lowest", "ordered", keywords=_INDEX),
        Mode("min", "min", "highest", "ordered", keywords=_INDEX),
        Mode("avg", "add", "zero", "mean", "x", "s / n", "share", keywords=("count_include_pad", "divisor_override")),
        Mode("sum", "add", "zero", "total", gradient="share"),
        Mode("lp", "add", "zero", "real", _POWER, _ROOT, "slope", keywords=("p",), limit="lp_inf"),
        Mode("lp_inf", "max", "zero", "real", "fabs(x)", gradient="choice", keywords=("p",)),
    )
}
MODES = {name: row for name, row in ROWS.items() if name not in {row.limit for row in ROWS.values()}}

_SYNONYMS = {
    "avg": ("mean", "average"),
    "max": ("maximum", "amax"),
    "min": ("minimum", "amin"),
    "sum": ("add", "total"),
    "lp": ("l1", "l2", "norm"),
}


def mode_of(name: object) -> Mode:
    """The row of a public mode name; anything else is an error that suggests one."""
    row = MODES.get(name) if isinstance(name, str) else None
    if row is not None:
        return row
    from pooling._window import shown  # not above: the build reads this file before there is a package

    if not isinstance(name, str):
        raise TypeError(f"mode={shown(name)}: a mode is one of the strings {_listed()}")
    meant = {word: mode for mode, words in _SYNONYMS.items() for word in (mode, *words)}
    near = difflib.get_close_matches(name.lower(), meant, n=1, cutoff=0.5)
    hint = f"; did you mean {meant[near[0]]!r}?" if near else ""
    raise ValueError(f"mode={shown(name)}: a mode is one of {_listed()}{hint}")


def _listed() -> str:
    return ", ".join(repr(name) for name in MODES)


@dataclass(frozen=True, slots=True)
class Reduction:
    """A mode with its parameters bound: all that a backend needs to know of it."""

    row: Mode
    p: float = 2.0
    include_pad: bool = True
    divisor: int | None = None  # in place of the counted one

    @classmethod
    def of(cls, row: Mode, p: float = 2.0, include_pad: bool = True, divisor: int | None = None) -> Reduction:
        """The reduction of a call; an infinite p is a row of its own."""
        return cls(ROWS[row.limit] if row.limit and p == float("inf") else row, p, include_pad, divisor)


SUM = Reduction(ROWS["sum"])
