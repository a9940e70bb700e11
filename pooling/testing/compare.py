"""When two results are the same: == in every cell; for lp, no further apart than a bound that is derived here."""

from __future__ import annotations

from math import log
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .cases import FLOATS
from .oracle import F32, F64, Array


def first_difference(got: Array, want: Array) -> tuple[int, ...] | None:
    """The index of the first cell that is neither == nor NaN in both; () if shape or type differ; or None."""
    if got.shape != want.shape or got.dtype != want.dtype:
        return ()
    wrong = ~((got == want) | ((got != got) & (want != want)))
    return tuple(int(i) for i in np.argwhere(wrong)[0]) if wrong.any() else None


def agree(got: Array, want: Array) -> bool:
    """The same shape, the same type, and every cell == or NaN in both."""
    return first_difference(got, want) is None


def within(got: Array, want: Array, bound: Array) -> bool:
    """As agree, but for cells that are no further apart than bound (of lp_bound or lp_gradient_bound)."""
    if got.shape != want.shape or got.dtype != want.dtype:
        return False
    with np.errstate(invalid="ignore"):
        near = np.abs(got.astype(F64) - want.astype(F64)) <= bound
    return bool(np.all(near | (got == want) | ((got != got) & (want != want))))


def differing(got: Array, want: Array, bound: Array | None = None, flushes: bool = False) -> Array:
    """Which cells are wrong; all, and at least one, where the shape or the type is."""
    if got.shape != want.shape or got.dtype != want.dtype:
        return np.ones(want.shape or 1, np.bool) if want.size else np.ones(1, np.bool)
    same = (got == want) | ((got != got) & (want != want))
    with np.errstate(all="ignore"):
        if bound is not None:
            same |= np.abs(got.astype(F64) - want.astype(F64)) <= bound
        if flushes and want.dtype.name in FLOATS:
            _, exponent = FLOATS[want.dtype.name]
            same |= (got == 0) & (np.abs(want.astype(F64)) < 2.0 ** (1 - exponent))
    return np.asarray(~same)


# How far an lp result may be from the oracle's. Nothing else needs a bound.


def _limits(dtype: np.dtype[Any]) -> tuple[float, float, float]:
    """Unit roundoff, smallest positive number and largest finite one."""
    if dtype.name == "bfloat16":
        return 2.0**-8, 2.0**-133, (2 - 2.0**-7) * 2.0**127
    limits = np.finfo(dtype)
    return float(limits.eps) / 2, float(limits.smallest_subnormal), float(limits.max)


def _lp_error(y: Array, p: float, terms: int, working: DTypeLike, ulps: float) -> Array:
    """The relative error of norms y in the working type, before they are rounded to the result, to first
    order.

    With unit roundoff u and N terms: a cell is rounded to the working type (u) and may be scaled (u); both
    count p times in its power, which has an error of its own (2*ulps*u). N terms, added in any order, cost (N
    - 1)*u; terms that vanish beside the sum S cost less than u. The root divides all that by p. The exponent
    1/p is rounded, which costs |log S|/p * u, where |log S|/p < |log y| + log(N)/p + 1 if S is not scaled, or
    scaled by the largest cell or by a power of two next to it. The root has an error of its own (2*ulps*u),
    as has the scale (u).
    """
    u = _limits(np.dtype(working))[0]
    if p == np.inf:
        return np.full(y.shape, u)
    spread = np.abs(np.log(y, out=np.zeros(y.shape), where=np.isfinite(y) & (y > 0)))
    return np.asarray(u * (2 + (2 * ulps + terms) / p + spread + log(terms) / p + 1 + 2 * ulps + 1))


def _lp_safe(y: Array, p: float, working: DTypeLike) -> Array:
    """Where the sum of the powers lies in the middle half of the working type's exponents.

    There it cannot overflow, and terms that vanish are nothing beside it. float32 is scaled for p = 2.
    """
    if p == np.inf or (p == 2 and np.dtype(working) == F32):
        return np.ones(y.shape, np.bool)
    power = p * np.log2(y, out=np.zeros(y.shape), where=np.isfinite(y) & (y > 0))
    return np.asarray(np.abs(power) < np.finfo(working).maxexp / 2)


def lp_bound(want: Array, p: float, terms: int, *, working: DTypeLike = F64, ulps: float = 4) -> Array:
    """How far a result of mode "lp" may be from want, the oracle's: float64, of the same shape; see within.

    terms: the cells of the largest window, or more. working: the type in which the other side takes powers
    and sums. ulps: the error of its power function. The oracle's is NumPy's in float64, which is within 4.

    Both sides make the errors of _lp_error and then round once to the type of want, so the distance is at
    most y * (E1 + E2) and twice half a unit in the last place. Where the result, or the sum of the powers,
    may leave its type the bound is inf: nothing is claimed. Where a cell is infinite it is 0.
    """
    y = np.abs(want.astype(F64))
    unit, small, large = _limits(want.dtype)
    error = _lp_error(y, p, terms, working, ulps) + _lp_error(y, p, terms, F64, 4)
    with np.errstate(all="ignore"):
        error = error / (1 - error)  # from first order: |(1 + a)(1 + b)... - 1| <= e / (1 - e), e = |a| + |b| + ...
        bound = y * (error + 2 * unit) * (1 + 4 * unit) + 2 * small  # y itself is rounded: 1 + 4*unit
        bound = np.where((y + bound > large) | ~_lp_safe(y, p, working), np.inf, bound)
    return np.where(np.isfinite(y), bound, 0)


def lp_gradient_bound(
    want: Array,
    grad_output: Array,
    norms: Array,
    magnitude: Array,
    p: float,
    terms: int,
    *,
    working: DTypeLike = F64,
    ulps: float = 4,
) -> Array:
    """How far a gradient of mode "lp" may be from want, the oracle's: float64, of the same shape; see within.

    norms: the oracle's forward result with dtype=float64. magnitude: the oracle's gradient in float64 for the
    sizes of grad_output and x; as every part is positive there, it is the sum of the parts' sizes. terms: the
    cells of the largest window or the windows over one cell, whichever is more.

    A part is g * sign(x) * (abs(x) / y)**(p - 1). The base has the error of y and 2*u, which count abs(p - 1)
    times; the power 2*ulps*u, the product u (a sign is exact), the sum of N parts N*u. A power that vanishes
    changes its part by less than abs(g) times the smallest normal number. Then both sides round once.
    """
    unit, small, large = _limits(want.dtype)
    y, g = norms.astype(F64), np.abs(grad_output.astype(F64))
    error, lost = 0.0, 0.0
    for side, power in ((working, ulps), (F64, 4.0)):
        u = _limits(np.dtype(side))[0]
        base = 0.0 if p == np.inf else abs(p - 1) * (float(_lp_error(y, p, terms, side, power).max(initial=0)) + 2 * u)
        error += base + (2 * power + 1 + terms) * u
        lost += terms * float(g.max(initial=0, where=np.isfinite(g))) * float(np.finfo(side).tiny)
    with np.errstate(all="ignore"):
        size = magnitude.astype(F64)
        bound = (size * error / (1 - error) + 2 * unit * np.abs(want.astype(F64))) * (1 + 4 * unit) + 2 * small + lost
        sure = (size + bound < large) & _lp_safe(y, p, working).all()
    return np.where(np.isfinite(size), np.where(sure, bound, np.inf), 0)
