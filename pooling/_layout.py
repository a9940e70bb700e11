"""Layout: which axes of an array are pooled and which are carried along, said by one letter per axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from pooling._window import shown

POOLED = "DHWL"
CARRIED = "NBCGT"
NAMED = {"channels_last": "N{}C", "channels_first": "NC{}"}
_SPATIAL = {1: "L", 2: "HW", 3: "DHW"}


@dataclass(frozen=True, slots=True)
class Layout:
    """The letters of an array's axes. Per-axis arguments follow D, H, W, L wherever the letters stand."""

    letters: str
    pooled: tuple[int, ...] = field(compare=False)  # positions, in the order D, H, W, L
    carried: tuple[int, ...] = field(compare=False)  # positions of the other axes, from left to right

    def sizes(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The sizes of the pooled axes of a shape."""
        return tuple(shape[i] for i in self.pooled)

    def resized(self, shape: tuple[int, ...], sizes: tuple[int, ...]) -> tuple[int, ...]:
        """The shape with the pooled axes given new sizes."""
        result = list(shape)
        for i, size in zip(self.pooled, sizes, strict=True):
            result[i] = size
        return tuple(result)

    def carrying(self, idle: Sequence[bool]) -> Layout:
        """The layout that carries some of the pooled axes, whose letters it has in lower case."""
        letters, moved = list(self.letters), [i for i, is_idle in zip(self.pooled, idle, strict=True) if is_idle]
        for i in moved:
            letters[i] = letters[i].lower()
        pooled = tuple(i for i in self.pooled if i not in moved)
        return Layout("".join(letters), pooled, tuple(sorted((*self.carried, *moved))))

    @staticmethod
    @lru_cache(maxsize=256)
    def of(layout: str, ndim: int, rank: int) -> Layout:
        """The layout, named or in letters, of an array of `ndim` dimensions of which `rank` are pooled."""
        letters = layout
        if layout in NAMED:
            letters = NAMED[layout].format(_SPATIAL[rank])
            letters = letters if ndim == rank + 2 else letters[1:]
        pooled = tuple(letters.index(letter) for letter in POOLED if letter in letters)
        return Layout(letters, pooled, tuple(i for i in range(len(letters)) if i not in pooled))


def pooled_letters(layout: Any, ndim: int) -> int | None:
    """How many axes a layout of letters pools, after checking every letter; None for a named layout."""
    if not isinstance(layout, str):
        raise TypeError(f"layout={shown(layout)}: a layout is a string, not {type(layout).__name__}")
    if layout in NAMED:
        return None
    for letter in layout:
        if letter not in POOLED + CARRIED or layout.count(letter) > 1:
            raise ValueError(
                f"layout={shown(layout)}: a layout is 'channels_last', 'channels_first' or one upper-case letter per axis, "
                "each once: "
                f"{', '.join(POOLED)} are pooled, {', '.join(CARRIED)} are carried"
            )
    rank = sum(letter in POOLED for letter in layout)
    if not 1 <= rank <= 3:
        raise ValueError(f"layout={shown(layout)}: it pools {rank} axes; pooling works on 1 to 3 ({', '.join(POOLED)})")
    if len(layout) != ndim:
        raise ValueError(f"layout={shown(layout)}: {len(layout)} letters for an array of {ndim} dimensions")
    return rank
