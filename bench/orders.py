"""How a library adds, found from its averages: of some ways, those that give every bit of its results.

A way is an order, a type to add in, and how the sum becomes the average. One result that differs rules a way out; what is left
may still be another way that rounds alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Way:
    """One row of what is tried."""

    order: str
    working: str
    end: str


def in_turn(x: Array) -> Array:
    """Adds along the last axis, from left to right, one rounding for each cell."""
    total = x[..., 0]
    for number in range(1, x.shape[-1]):
        total = total + x[..., number]
    return total


def pairwise(x: Array) -> Array:
    """Adds along the last axis as ours do: the largest power of two below the length, and the rest.

    >>> x = np.array([2**24, 1, 1, 1], "float32")
    >>> int(pairwise(x)) - 2**24, int(in_turn(x)) - 2**24
    (2, 0)
    """
    cells = x.shape[-1]
    if cells == 1:
        return x[..., 0]
    half = 1 << ((cells - 1).bit_length() - 1)
    return pairwise(x[..., :half]) + pairwise(x[..., half:])


def every_axis(add: Callable[[Array], Array], x: Array) -> Array:
    """Adds along the last axis of the windows, then along what is then the last."""
    while x.ndim > 1:
        x = add(x)
    return x


def backwards(x: Array) -> Array:
    """The windows with their axes in reverse order."""
    return x.transpose(0, *range(x.ndim - 1, 0, -1))


ORDERS: dict[str, Callable[[Array], Array]] = {
    "cell by cell": lambda x: in_turn(x.reshape(len(x), -1)),
    "each row, then the rows": lambda x: every_axis(in_turn, x),
    "each column, then the columns": lambda x: every_axis(in_turn, backwards(x)),
    "pairwise, each column, then the columns": lambda x: every_axis(pairwise, backwards(x)),
}
ENDS: dict[str, Callable[[Array, int], Array]] = {
    "divided": lambda total, n: total / total.dtype.type(n),
    "times the reciprocal": lambda total, n: total * total.dtype.type(1 / n),
}


def answers(windows: Array, sides: tuple[int, ...], dtype: str) -> Iterator[tuple[Way, Array]]:
    """What each way gives for the average of each row, in float64."""
    cells = windows.astype(dtype)
    for working, (order, add) in product(dict.fromkeys(("float32", dtype)), ORDERS.items()):
        total = add(cells.astype(working).reshape(-1, *sides))
        sums = {"": total} | ({"rounded, then ": total.astype(dtype)} if working != dtype else {})
        for (before, number), (end, finish) in product(sums.items(), ENDS.items()):
            yield Way(order, working, before + end), finish(number, windows.shape[1]).astype(dtype).astype(np.float64)


class Search:
    """Which ways are left for each of several libraries, window by window."""

    def __init__(self) -> None:
        self._left: dict[Any, dict[str, list[Way]]] = {}

    def see(self, given: dict[Any, Array], windows: Array, sides: tuple[int, ...], dtype: str) -> None:
        """Compares results with those of every way."""
        tried = dict(answers(windows, sides, dtype))
        for who, results in given.items():
            left = [way for way, answer in tried.items() if np.array_equal(answer, results, equal_nan=True)]
            self._left.setdefault(who, {})["x".join(map(str, sides))] = left

    def found(self) -> dict[Any, str]:
        """In words: what is left in every window; or in more than half of them, and which these are."""
        return {who: self._words(left) for who, left in self._left.items()}

    @staticmethod
    def _words(left: dict[str, list[Way]]) -> str:
        every = dict.fromkeys(way for ways in left.values() for way in ways)
        best = max(every, key=lambda way: sum(way in ways for ways in left.values()), default=None)
        held = [window for window, ways in left.items() if best in ways]
        text = together([way for way in every if all(way in left[window] for window in held)])
        rest = [window for window in left if window not in held]
        if len(rest) >= len(held):
            return UNKNOWN
        return f"{text} ({', '.join(held)}); {UNKNOWN} ({', '.join(rest)})" if rest else text


UNKNOWN = "another way"


def together(ways: list[Way]) -> str:
    """Ways that cannot be told apart.

    >>> together([Way("pairwise", "float32", "divided"), Way("cell by cell", "float32", "divided")])
    'pairwise or cell by cell, in float32; divided'
    """
    orders, workings, ends = (list(dict.fromkeys(getattr(way, name) for way in ways)) for name in Way.__slots__)
    order = "any of the orders" if len(orders) == len(ORDERS) else " or ".join(orders)
    return f"{order}, in {' or '.join(workings)}; {' or '.join(ends)}"
