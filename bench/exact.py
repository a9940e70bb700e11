"""What a window's sum, average and 2-norm are, exactly, and how far a result is from that.

Floating numbers are integers times powers of two, so their sums are too: Python's integers hold them. A quotient stays a
Fraction. A root is kept as a Fraction with 128 bits whose last one says whether more bits follow ("round to odd"): it rounds to
every type here as the root itself does. Nothing of the product is used, and of NumPy only operations that are exact here.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import isqrt
from typing import Any

import ml_dtypes  # noqa: F401  gives NumPy the name bfloat16
import numpy as np

Array = np.ndarray[Any, Any]
HALF = 26  # bits: two halves make the 53 of a float64
ROOT = 128  # bits of a root


@dataclass(frozen=True, slots=True)
class Format:
    """A floating type: its bits, the exponent of its least number, and that of the first power of two that it lacks."""

    bits: int
    least: int
    end: int

    @property
    def unit(self) -> Fraction:
        """The unit roundoff: the greatest relative error of rounding to nearest."""
        return Fraction(1, 2**self.bits)

    @property
    def tiny(self) -> Fraction:
        """The least positive number."""
        return power(self.least)

    def ulp(self, value: Fraction) -> Fraction:
        """The distance of neighbours at a value: of 2**e <= abs(value) < 2**(e + 1), 2**(e - bits + 1), or the least number.

        >>> FORMATS["float32"].ulp(Fraction(3, 2)) == Fraction(1, 2**23)
        True
        """
        top, bottom = abs(value.numerator), value.denominator
        e = top.bit_length() - bottom.bit_length()
        if Fraction(top, bottom) < power(e):
            e -= 1
        return power(max(e - self.bits + 1, self.least)) if value else self.tiny

    def nearest(self, value: Fraction) -> Fraction | float:
        """The value, rounded to nearest, half to even; inf where the type ends.

        >>> FORMATS["float16"].nearest(Fraction(1, 3))
        Fraction(1365, 4096)
        """
        ulp = self.ulp(value)
        found = round(value / ulp) * ulp
        return found if abs(found) < power(self.end) else float("inf") * (1 if found > 0 else -1)

    def after(self, error: Fraction, value: Fraction) -> Fraction:
        """How far a number within `error` of the value may be from it when it has been rounded."""
        return error + self.unit * (abs(value) + error) + self.tiny / 2


FORMATS = {
    "float16": Format(11, -24, 16),
    "bfloat16": Format(8, -133, 128),
    "float32": Format(24, -149, 128),
    "float64": Format(53, -1074, 1024),
}


def power(exponent: int) -> Fraction:
    """2**exponent."""
    return Fraction(2**exponent) if exponent >= 0 else Fraction(1, 2**-exponent)


# ---- exact values of windows, which are the rows of a float64 array --------------------------------------------------------


def sums(windows: Array) -> list[Fraction]:
    """The sum of each row, exactly: halves of the integers are added apart for each exponent, where float64 is exact.

    >>> sums(np.array([[1e300, 2.0**-1074, -1e300]])) == [Fraction(1, 2**1074)]
    True
    """
    rows, cells = windows.shape
    assert cells < 2 ** (53 - HALF - 1)  # the sum of so many halves has 53 bits
    fractions, exponents = np.frexp(windows)
    whole = np.ldexp(fractions, 53).astype(np.int64)
    first = int(exponents.min())
    span = int(exponents.max()) - first + 1
    place = (np.arange(rows)[:, None] * span + (exponents - first)).ravel()
    total = [0] * rows
    for half, shift in ((whole & (2**HALF - 1), 0), (whole >> HALF, HALF)):
        binned = np.bincount(place, half.ravel(), rows * span)
        for at in np.flatnonzero(binned):
            total[at // span] += int(binned[at]) << (int(at) % span + shift)
    return [number * power(first - 53) for number in total]


def squares(windows: Array) -> Array:
    """Rows whose sums are those of the squares: (a + b)**2 = a*a + 2*a*b + b*b of halves of 26 bits, each exact.

    >>> sums(squares(np.array([[1 + 2.0**-52]]))) == [Fraction(1 + 2.0**-52) ** 2]
    True
    """
    fractions, exponents = np.frexp(windows)
    high = np.ldexp(np.rint(np.ldexp(fractions, HALF)), exponents - HALF)
    low = windows - high
    return np.concatenate([high * high, 2 * high * low, low * low], 1)


def root(value: Fraction) -> Fraction:
    """The square root, rounded to odd.

    >>> root(Fraction(9, 4)) == Fraction(3, 2) and FORMATS["float64"].nearest(root(Fraction(2))) == Fraction(2**0.5)
    True
    """
    top, bottom = value.numerator, value.denominator  # a power of two
    shift = max(0, 2 * ROOT - top.bit_length()) + bottom.bit_length()
    shift += shift % 2
    assert (top << shift) % bottom == 0
    square = (top << shift) // bottom
    floor = isqrt(square)
    return (2 * floor + (floor * floor != square)) * power(-shift // 2 - 1)


MODES = {
    "avg": lambda windows: [total / windows.shape[1] for total in sums(windows)],
    "sum": sums,
    "lp": lambda windows: [root(total) for total in sums(squares(windows))],
}


# ---- how far results are from them -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Errors:
    """Of some results, in units in the last place (ulps) of the exact values."""

    greatest: float
    mean: float
    share: float  # of results that are the exact value, rounded once

    @classmethod
    def of(cls, results: Array, exact: list[Fraction], form: Format) -> Errors:
        """The results are float64 numbers; their distances are exact but for the last of float64's bits.

        >>> Errors.of(np.array([1.0, 1 + 2.0**-23]), [Fraction(1)] * 2, FORMATS["float32"])
        Errors(greatest=1.0, mean=0.5, share=0.5)
        """
        nearest = [form.nearest(value) for value in exact]
        ulps = [form.ulp(value) for value in exact]
        rest = np.array([float((value - near) / ulp) for value, near, ulp in zip(exact, nearest, ulps, strict=True)])
        found = np.abs((results - np.array(nearest, np.float64)) / np.array(ulps, np.float64) - rest)
        found[np.isnan(found)] = np.inf
        return cls(float(found.max()), float(found.mean()), float((results == np.array(nearest, np.float64)).mean()))
