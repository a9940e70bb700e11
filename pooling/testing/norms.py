"""Arrays whose p-norms are exactly representable, window by window, and what mode "lp" must give for them.

Powers and roots are rounded differently by every library, so a published norm must be one that no rounding touches. Here
every cell is an integer, and the integers along each axis are searched such that the p-norm of every window of that axis
is an integer too: 1 2 2 has the 2-norm 3, 3 4 5 the 3-norm 6. Products of such axes keep the property on two and three
axes. All is checked, and the answers are made, in integers: no power function and no root of floating type is trusted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from math import isqrt
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from . import oracle
from .cases import Array, data
from .oracle import F64

EXPONENTS = (2.0, 1.0, 3.0, 0.5, float("inf"))
EXACT = 2**24  # sums of powers below this are exact in float32, in any order
PATIENCE = 4000  # cells tried before a sparser row is taken
SIZES = ((6, 3), (4, 3), (3, 2), (3, 1), (2, 1), (1, 1))  # the largest cell of a row, and the largest factor of a plane


def _root(total: int, p: float) -> int | None:
    """The integer whose power is total, if there is one. Only 2 and 3 are not found in every sum."""
    if p == 2:
        root = isqrt(total)
        return root if root * root == total else None
    if p == 3:
        near = round(total ** (1 / 3))
        return next((root for root in (near - 1, near, near + 1) if root >= 0 and root**3 == total), None)
    return total


def _word(*parts: int) -> int:
    """A number that depends on every part, the same everywhere."""
    word = 0x9E3779B97F4A7C15
    for part in parts:
        word = (word ^ part + 1) * 0xBF58476D1CE4E5B9 % 2**64
        word ^= word >> 29
    return word


@lru_cache(maxsize=4096)
def row(cells: int, windows: tuple[tuple[int, ...], ...], p: float, largest: int) -> list[int]:
    """One integer from 0 to largest per cell, such that the p-norm of every window is an integer.

    >>> windows = ((0, 1, 2), (2, 3, 4), (4, 5))
    >>> cells = row(6, windows, 2.0, 4)
    >>> [sum(cells[i] ** 2 for i in window) ** 0.5 for window in windows]
    [6.0, 6.0, 5.0]
    """
    ends: list[set[tuple[int, ...]]] = [set() for _ in range(cells)]
    for window in windows:
        if window:
            ends[window[-1]].add(tuple(window))
    for sparse in (1, 2, 4, 8):  # one cell of so many tries a number before it tries 0
        found = _search(cells, ends, p, largest, sparse)
        if found:
            return found
    values = [0] * cells  # one number to a window has that number as its norm
    for i in range(cells):
        near = {cell for window in windows if i in window for cell in window}
        values[i] = 0 if any(values[cell] for cell in near) else 1 + _word(i) % largest
    return values


def _search(cells: int, ends: Sequence[set[tuple[int, ...]]], p: float, largest: int, sparse: int) -> list[int] | None:
    """Depth first, cell by cell; a window is checked at its last cell."""
    power = int(p) if p in (2, 3) else 1
    values: list[int] = []
    choices: list[list[int]] = []
    for _ in range(PATIENCE + cells):
        if len(values) == cells:
            return values
        if len(choices) == len(values):
            word = _word(len(values), largest, int(2 * min(p, 9)), sparse)
            turned = [(word + i) % largest + 1 for i in range(largest)]
            choices.append([*turned, 0] if word % sparse == 0 else [0, *turned])
            choices[-1].reverse()
        if not choices[-1]:
            choices.pop()
            if not values:
                return None
            values.pop()
            continue
        values.append(choices[-1].pop())
        for window in ends[len(values) - 1]:
            if _root(sum(values[cell] ** power for cell in window), p) is None:
                values.pop()
                break
    return None


Problem = tuple[dict[str, Array], tuple[Array]]  # the arrays of a call, and what it must give


def forward(
    function: str, shape: Sequence[int], window: Mapping[str, Any], dtype: str, p: float, result: str | None = None
) -> Problem | None:
    """x of this channels_last shape and type, and the norms of its windows; None where the type is too narrow for any.

    function: "pool" or "adaptive_pool". window: its arguments but mode and p. result: the dtype of the norms, if
    another one is asked for.

    >>> arrays, (norms,) = forward("pool", (1, 4, 4, 1), {"kernel": 2, "stride": 1}, "float32", 2.0)
    >>> bool(np.all(norms**2 == oracle.pool(arrays["x"] ** 2, "sum", 2, 1)))
    True
    """
    result = result or ("float32" if np.zeros(0, dtype).dtype.kind in "biu" else dtype)
    for cells, norms in _problems(function, shape, window, dtype, p):
        if _holds(norms, result):
            return {"x": cells.astype(dtype)}, (norms.astype(result),)
    return None


def backward(function: str, shape: Sequence[int], window: Mapping[str, Any], dtype: str, p: float) -> Problem | None:
    """As forward, for the gradient of this function: grad_output, x, and the gradient, which is exact too.

    A window hands down g * sign(x) * (abs(x) / norm)**(p - 1). With g = m * norm**(p - 1), m an integer, that is
    m * sign(x) * abs(x)**(p - 1), so that only the sum of the m is left to make.
    """
    spread = getattr(oracle, f"{function}_backward")
    for cells, norms in _problems(function, shape, window, dtype, p):
        sizes, sign = np.abs(cells).astype(F64), np.sign(cells).astype(F64)
        for most in (7, 3, 1):
            m = np.clip(data(norms.shape, "float64", 2, "small_integers"), -most, most)
            if p == np.inf:
                g, part, mode = m, sign, "max"  # to the first of the largest cells
            else:
                g, part, mode = m * norms.astype(F64) ** int(p - 1), sign * sizes ** int(p - 1), "sum"
            grad, most_of_it = part * spread(m, sizes, mode, **window), part * spread(np.abs(m), sizes, mode, **window)
            if np.abs(most_of_it).max(initial=0) < EXACT and all(_holds(array, dtype) for array in (norms, g, grad)):
                return {"grad_output": g.astype(dtype), "x": cells.astype(dtype)}, (grad.astype(dtype),)
    return None


def _problems(
    function: str, shape: Sequence[int], window: Mapping[str, Any], dtype: str, p: float
) -> Iterator[tuple[Array, Array]]:
    """Cells that the type has, and their norms, both as int64; smaller and smaller ones."""
    kind = np.zeros(0, dtype).dtype.kind
    for largest, factor in SIZES if kind != "b" else SIZES[-1:]:
        cells = _cells(function, shape, window, p, largest, factor, kind not in "bu")
        norms = _norms(function, cells, window, p)
        if norms is not None and _holds(cells, dtype):
            yield cells, norms


def _cells(
    function: str, shape: Sequence[int], window: Mapping[str, Any], p: float, largest: int, factor: int, signed: bool
) -> Array:
    """Products of one row per axis, of a factor per plane and of signs: int64."""
    empty = np.zeros(shape, np.bool)
    if function == "pool":
        plan, _ = oracle._plan(empty, **{"stride": None, "padding": 0, **window})
    else:
        plan, _ = oracle._adaptive_plan(empty, **window)
    cells = np.ones(shape, np.int64)
    for axis, along in zip(plan.axes, plan.windows, strict=True):
        taps = tuple(tuple(i for _, i in one.taps) for one in along)
        own = np.array(row(shape[axis], taps, p, largest), np.int64)
        cells *= own.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    planes = np.array([_word(i, 7) % factor + 1 for i in range(shape[0] * shape[-1])], np.int64)
    cells *= planes.reshape(shape[0], *[1] * (len(shape) - 2), shape[-1])
    cells = cells * cells if p == 0.5 else cells
    return np.where(data(shape, "bool", 5), -cells, cells) if signed else cells


def _norms(function: str, cells: Array, window: Mapping[str, Any], p: float) -> Array | None:
    """The norms as int64; None where one is no integer, or the powers are too large for float32."""
    call, sizes = getattr(oracle, function), np.abs(cells)
    if p == np.inf:
        return np.asarray(np.maximum(call(sizes, "max", **window), 0))  # a window without a cell has norm 0
    if p == 0.5:
        roots = np.array([isqrt(int(size)) for size in sizes.flat], np.int64).reshape(sizes.shape)
        assert (roots * roots == sizes).all()
        return np.asarray(call(roots, "sum", **window) ** 2)
    total = call(sizes ** int(p), "sum", **window)
    if total.max(initial=0) >= EXACT:
        return None
    found = {int(value): _root(int(value), p) for value in np.unique(total)}
    if None in found.values():
        return None
    return np.array([found[int(value)] for value in total.flat], np.int64).reshape(total.shape)


def _holds(values: Array, dtype: DTypeLike) -> bool:
    """Whether the type has all these numbers."""
    with np.errstate(all="ignore"):
        return bool((values.astype(dtype).astype(F64) == values).all())
