"""The oracle against answers written by hand, and against other ways to say the same thing in NumPy."""

from __future__ import annotations

import ast
import sys
import zlib
from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import product
from math import ceil, floor, prod
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from pooling.testing import (
    ADAPTIVE_CASES,
    CASES,
    KINDS,
    UNPOOL_CASES,
    agree,
    data,
    first_difference,
    lp_bound,
    lp_gradient_bound,
    oracle,
    relayout,
    within,
)

MODES = ["max", "min", "avg", "sum", "lp"]
SIGNED, UNSIGNED = ["int8", "int16", "int32", "int64"], ["uint8", "uint16", "uint32", "uint64"]
FLOATS = ["float16", "bfloat16", "float32", "float64"]
DTYPES = ["bool", *SIGNED, *UNSIGNED, *FLOATS]
nan, inf = np.nan, np.inf


def names(cases):
    return {"argvalues": cases, "ids": [case.name for case in cases]}


def line(values, dtype="float32"):
    """One plane of one axis and one channel."""
    return np.array(values, dtype)[None, :, None]


def along(result):
    return [r[0, :, 0].tolist() for r in result] if isinstance(result, tuple) else result[0, :, 0].tolist()


# Geometry, by enumeration


def test_windows_are_those_that_enumeration_finds():
    count = 0
    for n, k, s, d, ceil_mode in product(range(1, 7), range(1, 5), range(1, 5), range(1, 4), (False, True)):
        e = d * (k - 1) + 1
        for b, a in product(range(e), range(e)):
            if n + b + a < e:
                continue
            # every start whose window ends in the padded extent; in ceil mode the next one too, if it begins
            # before the padding that follows the data, and if the last window left a cell of that extent over
            starts = [t for t in range(-b, n + a, s) if t + e <= n + a]
            if ceil_mode and starts[-1] + e < n + a and starts[-1] + s < n:
                starts.append(starts[-1] + s)
            span = n + b + a - e
            out = -(-span // s) + 1 if ceil_mode else span // s + 1
            if ceil_mode and (out - 1) * s >= n + b:
                out -= 1
            assert len(starts) == out == len(oracle._starts(n, k, s, b, a, d, ceil_mode))
            for start, window in zip(starts, oracle._windows(n, k, s, b, a, d, ceil_mode), strict=True):
                places = [(j, start + j * d) for j in range(k)]
                assert list(window.taps) == [(j, i) for j, i in places if 0 <= i < n]
                assert (window.size, window.padded) == (k, sum(-b <= i < n + a for _, i in places))
            count += 1
    assert count > 5000


def test_adaptive_windows_have_the_known_ends():
    for n, out in product(range(1, 20), range(25)):
        ends = [(floor(Fraction(o * n, out)), ceil(Fraction((o + 1) * n, out))) for o in range(out)]
        cells = [tuple(i for _, i in window.taps) for window in oracle._adaptive_windows(n, out)]
        assert cells == [tuple(range(*pair)) for pair in ends]


@pytest.mark.parametrize(
    ("n", "arguments", "out"),
    [
        (10, {"kernel": 3}, 3),
        (10, {"kernel": 3, "ceil_mode": True}, 4),
        (4, {"kernel": 2, "stride": 3, "padding": 1, "ceil_mode": True}, 2),
        (7, {"kernel": 4, "stride": 2, "padding": "same"}, 4),
        (7, {"kernel": 4, "stride": 2, "padding": "same_lower", "ceil_mode": True}, 4),
        (2**40, {"kernel": 2**31 - 1, "stride": 2**31 - 1, "padding": 2**30}, 513),
    ],
)
def test_output_shape(n, arguments, out):
    assert oracle.output_shape((2, n, 3), **arguments) == (2, out, 3)
    assert oracle.output_shape((n, 5, n), layout="WNH", **arguments) == (out, 5, out)


# By hand

HAND = [
    # (mode, x, arguments, result)
    ("max", [1, 3, 2, 5, 4], {"kernel": 2}, [3, 5]),
    ("max", [1, 3, 2, 5, 4], {"kernel": 2, "ceil_mode": True}, [3, 5, 4]),
    ("max", [-1, -3], {"kernel": 3, "stride": 1, "padding": 1}, [-1, -1]),
    ("min", [1, 3, 2, 5, 4], {"kernel": 3, "stride": 2}, [1, 2]),
    ("max", [1, nan, 2, 5], {"kernel": 2, "stride": 1}, [nan, nan, 5]),
    ("min", [inf, inf, -inf], {"kernel": 2, "stride": 1}, [inf, -inf]),
    ("sum", [1, nan, 2, 5], {"kernel": 2, "stride": 1}, [nan, nan, 7]),
    ("sum", [inf, 1, -inf], {"kernel": 3, "stride": 1, "padding": 1}, [inf, nan, -inf]),
    ("sum", [1, 2, 4, 8, 16], {"kernel": 2, "stride": 1, "dilation": 3}, [9, 18]),
    ("avg", [3, 6, 9], {"kernel": 3, "stride": 1, "padding": 1}, [3, 6, 5]),
    ("avg", [3, 6, 9], {"kernel": 3, "stride": 1, "padding": 1, "count_include_pad": False}, [4.5, 6, 7.5]),
    ("avg", [3, 6, 9], {"kernel": 3, "stride": 1, "padding": 1, "divisor_override": -2}, [-4.5, -9, -7.5]),
    ("avg", [2, 4, 6], {"kernel": 2, "stride": 2, "ceil_mode": True}, [3, 6]),
    # positions -1 0 1, 1 2 3, 3 4 5, 5 (6) 7: cell 6 is padding and counts, 7 is overhang and does not
    ("avg", [1, 2, 3, 4, 5, 6], {"kernel": 3, "stride": 2, "padding": 1, "ceil_mode": True}, [1, 3, 5, 3]),
    (
        "avg",
        [1, 2, 3, 4, 5, 6],
        {"kernel": 3, "stride": 2, "padding": 1, "ceil_mode": True, "count_include_pad": False},
        [1.5, 3, 5, 6],
    ),
    # taps -3 and 1, -2 and 2, -1 and 3, 0 and 4, of two cells
    ("max", [7, 8], {"kernel": 2, "stride": 1, "dilation": 4, "padding": 3}, [8, -inf, -inf, 7]),
    ("min", [7, 8], {"kernel": 2, "stride": 1, "dilation": 4, "padding": 3}, [8, inf, inf, 7]),
    ("sum", [7, 8], {"kernel": 2, "stride": 1, "dilation": 4, "padding": 3}, [8, 0, 0, 7]),
    ("lp", [7, 8], {"kernel": 2, "stride": 1, "dilation": 4, "padding": 3}, [8, 0, 0, 7]),
    ("avg", [7, 8], {"kernel": 2, "stride": 1, "dilation": 4, "padding": 3}, [4, 0, 0, 3.5]),
    (
        "avg",
        [7, 8],
        {"kernel": 2, "stride": 1, "dilation": 4, "padding": 3, "count_include_pad": False},
        [8, nan, nan, 7],
    ),
    ("lp", [3, -4, 0], {"kernel": 2, "stride": 1}, [5, 4]),
    ("lp", [3, -4, nan, inf], {"kernel": 2, "stride": 1, "p": 1}, [7, nan, nan]),
    ("lp", [3, -4, -inf, 2], {"kernel": 2, "stride": 1, "p": inf}, [4, inf, inf]),
    ("lp", [1e30, -1e30, 1e-40, nan], {"kernel": 2, "p": inf}, [1e30, nan]),
    ("sum", [1, 2, 4], {"kernel": 2, "stride": 1, "padding": "valid"}, [3, 6]),
    ("sum", [1, 2, 4], {"kernel": 2, "stride": 1, "padding": "same"}, [3, 6, 4]),
    ("sum", [1, 2, 4], {"kernel": 2, "stride": 1, "padding": "same_lower"}, [1, 3, 6]),
    ("sum", [1, 2, 4, 8], {"kernel": 4, "stride": 3, "padding": "same"}, [7, 12]),
]


@pytest.mark.parametrize(("mode", "x", "arguments", "result"), HAND)
def test_by_hand(mode, x, arguments, result):
    assert agree(oracle.pool(line(x), mode, **arguments), line(result))


@pytest.mark.parametrize(
    ("mode", "x", "indices"),
    [
        ("max", [2, 2, 1, 2], [0, 1, 3]),  # the first of equals
        ("min", [2, 1, 1, 2], [1, 1, 2]),
        ("max", [0.0, -0.0, 0.0, -1], [0, 1, 2]),  # zeros are equal
        ("max", [nan, 1, nan, nan], [0, 2, 3]),  # the last NaN
        ("min", [nan, nan, 1, 0], [1, 1, 3]),
        ("max", [-inf, -inf, nan, inf], [0, 2, 2]),
        ("min", [inf, inf, inf, -inf], [0, 1, 3]),
    ],
)
@pytest.mark.parametrize("dtype", FLOATS)
def test_ties_and_nan(mode, x, indices, dtype):
    x = line(x, dtype)
    values, found = oracle.pool(x, mode, 2, 1, return_indices=True)
    assert found.dtype == np.int64 and along(found) == indices
    assert agree(values, np.take_along_axis(x, found, 1))


def test_nan_in_a_plane_is_the_last_in_row_major_order():
    x = np.array([[5, nan, 7], [nan, 1, 9]], "float32")
    assert oracle.pool(x, "max", 2, 1, layout="HW", return_indices=True)[1].tolist() == [[3, 1]]
    assert oracle.pool(x.T, "max", 2, 1, layout="WH", return_indices=True)[1].tolist() == [[3], [1]]
    assert oracle.global_pool(x, "min", layout="HW", return_indices=True)[1].tolist() == [[3]]


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_window_without_a_cell_gives_the_identity(mode, dtype):
    empty = along(oracle.pool(line([1, 0], dtype), mode, 2, 1, 3, dilation=4))[1:3]
    if dtype == "bool":
        assert empty == [mode == "min"] * 2
    elif dtype in FLOATS:
        assert empty == [-inf if mode == "max" else inf] * 2
    else:
        assert empty == [getattr(np.iinfo(dtype), "min" if mode == "max" else "max")] * 2


def test_indices_leave_padding_out():
    x = line([1, 5, 2])
    values, indices = oracle.pool(x, "max", 3, 1, 1, return_indices=True)
    assert along(indices) == [1, 1, 1] and along(values) == [5, 5, 5]
    empty = oracle.pool(line([7, 8]), "max", 2, 1, 3, dilation=4, return_indices=True)[1]
    assert along(empty) == [1, -1, -1, 0]
    lowest = line([-128, -128], "int8")
    assert along(oracle.pool(lowest, "max", 3, 1, 1, return_indices=True)) == [[-128, -128], [0, 0]]


def test_a_tie_with_padding_is_not_lost():
    x = np.full((1, 2, 2, 1), -inf, "float32")
    indices = oracle.pool(x, "max", 2, 1, 1, return_indices=True)[1]
    assert indices[0, ..., 0].tolist() == [[0, 0, 1], [0, 0, 1], [2, 2, 3]]


# Other formulations


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["real", "small_integers"])
def test_whole_windows(dtype, kind):
    x = data((2, 7, 9, 3), dtype, 5, kind)
    windows = sliding_window_view(x, (3, 2), (1, 2))[:, ::2, ::3]
    assert agree(oracle.pool(x, "max", (3, 2), (2, 3)), windows.max((-1, -2)))
    assert agree(oracle.pool(x, "min", (3, 2), (2, 3)), windows.min((-1, -2)))
    if kind == "small_integers":
        exact = windows.astype(np.float64).sum((-1, -2))
        total = oracle.pool(x, "sum", (3, 2), (2, 3))
        assert (total.astype(np.float64) == exact).all()
        assert (oracle.pool(x, "avg", (3, 2), (2, 3), divisor_override=2, dtype="float64") == exact / 2).all()


@pytest.mark.parametrize("case", **names(CASES))
@pytest.mark.parametrize("kind", ["real", "special"])
def test_max_is_the_largest_of_its_window(case, kind):
    """Each window again, from the padded array as sliding_window_view sees it, where that array is small."""
    x = data(case.x_shape, "float32", 3, kind)
    values, indices = oracle.pool(x, "max", **case.geometry, return_indices=True)
    assert values.shape == indices.shape == oracle.output_shape(x.shape, **case.geometry)
    flat = x.reshape(x.shape[0], prod(x.shape[1:-1]), x.shape[-1])
    places = indices.reshape(x.shape[0], prod(indices.shape[1:-1]), x.shape[-1])
    picked = np.where(places < 0, np.float32(-inf), np.take_along_axis(flat, np.maximum(places, 0), 1))
    assert agree(values, picked.reshape(values.shape))
    lowest = -oracle.pool(-x, "min", **case.geometry)
    assert agree(values, lowest)
    rows = oracle._rows(x.shape, case.kernel, case.stride, case.padding, case.dilation, case.ceil_mode, "channels_last")
    if max(k * d + s for _, k, s, _, _, d, _ in rows[1]) > 10**4:
        return
    full = np.pad(x, [(0, 0), *((b, a + s) for _, _, s, b, a, _, _ in rows[1]), (0, 0)], constant_values=-inf)
    axes = tuple(range(1, x.ndim - 1))
    reach = [(k - 1) * d + 1 for _, k, _, _, _, d, _ in rows[1]]
    full = np.pad(full, [(0, 0), *((0, e) for e in reach), (0, 0)], constant_values=-inf)
    view = sliding_window_view(full, reach, axes)
    for axis, (_, _, s, _, _, d, _) in zip(axes, rows[1], strict=True):
        view = np.moveaxis(np.moveaxis(view, axis, 0)[::s][: values.shape[axis]], 0, axis)
        view = np.moveaxis(np.moveaxis(view, axis - 1 - len(axes), 0)[::d], 0, axis - 1 - len(axes))
    assert agree(values, view.max(tuple(range(-len(axes), 0)), initial=-inf))


def test_random_sums_of_integers_against_a_loop():
    random = np.random.default_rng(0)
    for _ in range(300):
        m = int(random.integers(1, 4))
        k, s, d = (random.integers(1, 4, m).tolist() for _ in range(3))
        reach = [(size - 1) * gap + 1 for size, gap in zip(k, d, strict=True)]
        padding = [(int(random.integers(e)), int(random.integers(e))) for e in reach]
        n = [int(random.integers(max(1, e - b - a), e + 5)) for e, (b, a) in zip(reach, padding, strict=True)]
        x = random.integers(-9, 10, (2, *n, 2)).astype(np.int32)
        options = {"padding": padding, "dilation": d, "ceil_mode": bool(random.integers(2))}
        got = oracle.pool(x, "sum", k, s, **options)
        counts = oracle.pool(np.ones_like(x), "sum", k, s, **options)
        average = oracle.pool(x, "avg", k, s, **options, count_include_pad=False)
        want, cells = np.zeros_like(got), np.zeros_like(got)
        for place in np.ndindex(*got.shape[1:-1]):
            for tap in np.ndindex(*k):
                cell = [p * q - b + j * g for p, q, (b, _), j, g in zip(place, s, padding, tap, d, strict=True)]
                if all(0 <= c < size for c, size in zip(cell, n, strict=True)):
                    want[(slice(None), *place)] += x[(slice(None), *cell)]
                    cells[(slice(None), *place)] += 1
        assert agree(got, want) and agree(counts, cells)
        with np.errstate(invalid="ignore"):
            assert agree(average, want.astype(np.float32) / cells.astype(np.float32))


# The order of sums


def doubled(x, k):
    """The doubling algorithm: rows of sums of 1, 2, 4 ... cells, then one row for every bit of k, the last first."""
    level, total, end = {1: x}, None, k
    while max(level) * 2 <= k:
        h = max(level)
        level[2 * h] = level[h][: len(level[h]) - h] + level[h][h:]
    for h in (h for h in level if k & h):
        end -= h
        row = level[h][end : end + len(x) - k + 1]
        total = row if total is None else row + total
    return total


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_sums_follow_the_doubling_algorithm(dtype):
    x = data((1, 140, 2), dtype, 8)
    wide = "float64" if dtype == "float64" else "float32"
    differs = 0
    for k in range(1, 70):
        want = doubled(x[0].astype(wide), k)
        assert agree(oracle.pool(x, "sum", k, 1, dtype=wide)[0], want)
        assert agree(oracle.pool(x, "sum", k, 1)[0], want.astype(dtype))
        plain = sum(x[0, i : i + 141 - k].astype(wide) for i in range(k))
        differs += k > 3 and not agree(plain.astype(want.dtype), want)
        assert k > 3 or agree(plain.astype(want.dtype), want)
    assert dtype in ("float16", "bfloat16") or differs > 50  # the data can tell one order from another


@pytest.mark.parametrize("k", [5, 7, 8, 13, 31, 33, 101])
def test_missing_taps_are_zeros(k):
    x = data((1, 23, 2), "float32", 9)
    for d in (1, 2):
        pad = (k - 1) * d
        spread = np.zeros((1, 23 + 2 * pad, 2), "float32")
        spread[:, pad : pad + 23] = x
        for start in range(d):
            want = doubled(spread[0, start::d], k)
            got = oracle.pool(x, "sum", k, 1, pad, dilation=d)[0, start::d]
            assert agree(got, want)


def test_rows_of_a_column_come_first():
    big = 2.0**24
    x = np.array([[[big, -big], [1, 1]]], "float32")[..., None]
    assert oracle.pool(x, "sum", 2).item() == 1  # 2**24 + 1 is 2**24 in float32; the columns are 2**24 and 1 - 2**24
    assert oracle.pool(x.transpose(0, 2, 1, 3), "sum", 2).item() == 2
    assert oracle.pool(x.transpose(0, 2, 1, 3), "sum", 2, layout="NWHC").item() == 1
    deep = data((1, 3, 5, 4, 2), "float32", 1)
    want = deep[0]
    for k in (3, 5, 4):
        want = doubled(want, k)[0]
    assert agree(oracle.global_pool(deep, "sum", keepdims=False)[0], want)


def test_huge_kernel_keeps_its_positions():
    """2**31 - 1 positions, the data at 2**30 - 2 ... : the turn of the first halves falls inside the data."""
    x = line([2.0**24, 1, 1, 1])
    total = oracle.pool(x, "sum", 2**31 - 1, 1, ((2**30 - 2, 2**30),))
    assert total[0, 0, 0] == (np.float32(2**24) + np.float32(1)) + np.float32(2)
    assert oracle.pool(x, "sum", 2**31 - 1, 1, ((2**30 - 1, 2**30),))[0, 0, 0] == np.float32(2**24) + np.float32(3)


# Element types

RESULTS = {
    "max": {dtype: dtype for dtype in DTYPES},
    "min": {dtype: dtype for dtype in DTYPES},
    "sum": dict.fromkeys(["bool", *SIGNED], "int64") | dict.fromkeys(UNSIGNED, "uint64") | {f: f for f in FLOATS},
    "avg": dict.fromkeys(DTYPES, "float32") | {f: f for f in FLOATS},
    "lp": dict.fromkeys(DTYPES, "float32") | {f: f for f in FLOATS},
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_result_types(mode, dtype):
    x = data((1, 5, 6, 2), dtype, 4)
    assert oracle.pool(x, mode, 2).dtype == RESULTS[mode][dtype]
    assert oracle.adaptive_pool(x, mode, 2).dtype == RESULTS[mode][dtype]
    for other in DTYPES[1:]:
        assert oracle.global_pool(x, mode, dtype=other).dtype == other
    swapped = x.astype(x.dtype.newbyteorder()) if dtype != "bfloat16" else x
    assert agree(oracle.pool(swapped, mode, 2), oracle.pool(x, mode, 2))


def test_integer_sums_wrap():
    assert along(oracle.pool(line([2**63 - 1, 1], "int64"), "sum", 2)) == [-(2**63)]
    assert along(oracle.pool(line([2**64 - 1, 3], "uint64"), "sum", 2)) == [2]
    assert along(oracle.pool(line([200, 100], "uint8"), "sum", 2)) == [300]
    assert along(oracle.pool(line([-128, -128], "int8"), "sum", 2)) == [-256]
    assert along(oracle.pool(line([True, True], "bool"), "sum", 2)) == [2]
    # float64 accumulates: it does not wrap, and it converts once
    assert along(oracle.pool(line([2**63 - 1, 1], "int64"), "sum", 2, dtype="float64")) == [2.0**63]


def test_integer_averages():
    one = line([2**24, 1, 0], "int32")  # the exact sum is 2**24 + 1; float32 has no such number
    third = oracle.pool(one, "avg", 3, divisor_override=9)
    assert along(third) == [np.float32(2**24) / np.float32(9)] != [np.float32((2**24 + 1) / 9)]
    many = line([2**24] + [1] * 7, "uint32")  # an exact sum, where float32 would lose every 1
    assert along(oracle.pool(many, "avg", 8)) == [np.float32(2**24 + 7) / 8] != [2.0**21]
    assert along(oracle.pool(line([-(2**31)] * 2, "int32"), "avg", 2)) == [-(2.0**31)]
    assert along(oracle.pool(line([2**63 - 1] * 4, "int64"), "avg", 4)) == [2.0**63]
    assert along(oracle.pool(line([1, 2], "int64"), "avg", 2, divisor_override=3, dtype="float64")) == [1.0]
    assert along(oracle.pool(line([1, 1], "int8"), "avg", 2, divisor_override=3, dtype="float64")) == [2 / 3]
    assert along(oracle.pool(line([1, 1], "int8"), "avg", 2, divisor_override=3)) == [np.float32(2) / np.float32(3)]
    assert along(oracle.pool(line([True, False], "bool"), "avg", 2)) == [0.5]
    assert along(oracle.pool(line([5, 6, 7, 8], "int8"), "avg", 2, dtype="int8")) == [6, 8]  # 5.5 and 7.5, to even


def test_sixteen_bits_accumulate_in_32():
    assert along(oracle.pool(line([2048, 1, 1], "float16"), "sum", 3)) == [2050]
    assert along(oracle.pool(line([60000, 60000, -60000], "float16"), "sum", 3)) == [60000]
    assert along(oracle.pool(line([256, 1, 1], "bfloat16"), "sum", 3)) == [258]
    assert along(oracle.pool(line([60000, 60000], "float16"), "avg", 2)) == [60000]
    assert along(oracle.pool(line([60000, 60000], "float16"), "sum", 2)) == [inf]
    assert along(oracle.pool(line([60000, 60000], "float16"), "sum", 2, dtype="float32")) == [120000]


@pytest.mark.parametrize(
    ("divisor", "float32"),
    [
        (2**24 + 1, 2**24),
        (2**54 + 2**30 + 1, 2**54 + 2**31),  # by way of float64 it would be a tie, and round to 2**54
        (-(2**54) - 2**30 - 1, -(2**54) - 2**31),
        (2**100 + 2**76 + 1, 2**100 + 2**77),
        (10**60, inf),
    ],
)
def test_divisors_are_rounded_once(divisor, float32):
    x = line([1e30, 0])
    want = np.float32(1e30) / np.float32(float32)
    assert oracle.pool(x, "avg", 2, divisor_override=divisor).item() == want
    wide = float(divisor)
    assert oracle.pool(x, "avg", 2, divisor_override=divisor, dtype="float64").item() == float(x[0, 0, 0]) / wide


def test_divisors_multiply_exactly():
    """2**31 - 1 squared is 2**62 - 2**32 + 1: float32 rounds it to 2**62."""
    x = np.ones((1, 1, 1, 1), "float32")
    average = oracle.pool(x, "avg", 2**31 - 1, 2**31 - 1, 2**30 - 1)
    assert average.shape == x.shape and average.item() == 2.0**-62
    assert oracle.pool(x, "avg", 2**31 - 1, 1, 2**30 - 1, count_include_pad=False).item() == 1


# (significant bits, exponent of the smallest normal number, of the largest)
FORMATS = {
    "float16": (11, -14, 15),
    "bfloat16": (8, -126, 127),
    "float32": (24, -126, 127),
    "float64": (53, -1022, 1023),
}


def nearest(value: Fraction, dtype: str) -> float:
    """value rounded to a float type in exact arithmetic, half to even; its own definition."""
    bits, least, most = FORMATS[dtype]
    exponent = max(least, value.numerator.bit_length() - value.denominator.bit_length() - 1)
    while abs(value) >= Fraction(2) ** (exponent + 1):
        exponent += 1
    unit = Fraction(2) ** (exponent - bits + 1)
    rounded = round(value / unit) * unit  # round() of a Fraction is half to even
    return float(rounded) if abs(rounded) < Fraction(2) ** (most + 1) else inf if value > 0 else -inf


def about_ties(dtype):
    """Integers and floats on, and just beside, the ties of a type."""
    bits = FORMATS[dtype][0]
    for odd, exponent in product((0, 1, 2, 3), (bits + 1, 30, 46, 55, 62)):
        tie = 2**exponent + (2 * odd + 1) * 2 ** (exponent - bits)
        yield from (sign * (tie + more) for sign in (1, -1) for more in (-1, 0, 1))


@pytest.mark.parametrize("target", FLOATS)
@pytest.mark.parametrize("source", ["int32", "uint32", "int64", "uint64", "float32", "float64"])
def test_conversions_round_once(source, target):
    values = list(about_ties(target))
    if source.startswith("float"):
        scales = [Fraction(2) ** e for e in (0, -20, -24, -60, -140, -150, -1060)]
        values = [float(v * scale) for v in values for scale in scales] + [
            6e-8,
            65519.99,
            65520.0,
            3.4e38,
            3.39e38,
            1e300,
        ]
        with np.errstate(over="ignore", under="ignore"):
            x = np.concatenate([np.array(values, source), data((500,), source, 1)])
            step = np.array([inf, -inf], source)
            x = np.concatenate([x, np.nextafter(x, step[0]), np.nextafter(x, step[1])])
        x = x[np.isfinite(x)]
    else:
        limits = np.iinfo(source)
        values = [v for v in values if limits.min <= v <= limits.max] + [limits.min, limits.max, limits.max - 1]
        x = np.concatenate([np.array(values, source), data((500,), source, 1)])
    got = oracle.pool(x, "max", 1, layout="L", dtype=target)
    exact = [nearest(Fraction(v), target) for v in x.tolist()]
    assert got.dtype == target and got.astype("float64").tolist() == exact


@pytest.mark.parametrize("target", [*SIGNED, *UNSIGNED])
@pytest.mark.parametrize("source", DTYPES)
def test_conversions_to_integers_saturate(source, target):
    limits = np.iinfo(target)
    x = np.concatenate([data((300,), source, 2, kind) for kind in KINDS])
    if source in FLOATS:
        halves = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 126.5, 127.5, 128.5, 255.5, 1e4, 3e9, -3e9, 1e19, -1e19, 2e19], "float64")
        with np.errstate(over="ignore"):
            x = np.concatenate([x, halves.astype(source), np.array([limits.min, limits.max], "float64").astype(source)])
    got = oracle.pool(x, "min", 1, layout="L", dtype=target).tolist()
    for value, result in zip(x.tolist(), got, strict=True):
        if value != value:
            assert result == 0
        elif abs(value) == inf:
            assert result == (limits.max if value > 0 else limits.min)
        else:
            assert result == min(max(round(Fraction(value)), limits.min), limits.max)


# Layouts and spellings


@pytest.mark.parametrize("case", **names([case for case in CASES if case.x_shape[0]]))
@pytest.mark.parametrize("mode", MODES)
def test_layouts(case, mode):
    x = data(case.x_shape, "float32", 6, "special")
    arguments = case.arguments(mode)
    ndim = x.ndim
    pooled = {3: "L", 4: "HW", 5: "DHW"}[ndim]
    want = oracle.pool(x, mode, **arguments)
    for layout in ("channels_first", f"C{pooled[::-1]}N", f"{pooled}CN"):
        turned = relayout(x, layout)
        assert agree(oracle.pool(turned, mode, **arguments, layout=layout), relayout(want, layout))
        grad = oracle.pool_backward(relayout(want, layout), turned, mode, **arguments, layout=layout)
        assert agree(grad, relayout(oracle.pool_backward(want, x, mode, **arguments), layout))
    sequence = arguments | {"dilation": [arguments["dilation"]] * (ndim - 2)} if isinstance(case.dilation, int) else arguments
    for first, layout in ((x[0], "channels_last"), (np.moveaxis(x[0], -1, 0), "channels_first")):
        back = oracle.pool(first, mode, **sequence, layout=layout)
        assert agree(back if layout == "channels_last" else np.moveaxis(back, 0, -1), want[0])
    carried = x.reshape(1, *x.shape[:-1], 1, x.shape[-1])
    letters = f"TN{pooled}GC"
    assert agree(oracle.pool(carried, mode, **arguments, layout=letters), want.reshape(1, *want.shape[:-1], 1, want.shape[-1]))


@pytest.mark.parametrize("case", **names(ADAPTIVE_CASES))
@pytest.mark.parametrize("mode", MODES)
def test_adaptive_layouts(case, mode):
    x = data(case.x_shape, "float32", 6, "special")
    want = oracle.adaptive_pool(x, mode, case.output_size)
    grad = oracle.adaptive_pool_backward(want, x, mode, case.output_size)
    layouts = ["channels_first", {3: "CLN", 4: "CWHN", 5: "WCHND"}[x.ndim]]
    for layout in layouts:
        turned, outward = relayout(x, layout), relayout(want, layout)
        assert agree(oracle.adaptive_pool(turned, mode, case.output_size, layout=layout), outward)
        back = oracle.adaptive_pool_backward(outward, turned, mode, case.output_size, layout=layout)
        assert agree(back, relayout(grad, layout))
    if isinstance(case.output_size, tuple) and x.shape[0]:
        assert agree(oracle.adaptive_pool(x[0], mode, case.output_size), want[0])


class Two:
    def __index__(self):
        return 2


@pytest.mark.parametrize(
    "arguments",
    [
        {"kernel": 2, "stride": 2, "padding": 1, "dilation": 2},
        {"kernel": (2, 2), "stride": None, "padding": [1, 1], "dilation": [2, 2]},
        {"kernel": np.array([2, 2]), "stride": (), "padding": ((1, 1), (1, 1)), "dilation": np.int8(2)},
        {"kernel": Two(), "stride": [], "padding": np.array([1, 1]), "dilation": (Two(), np.uint8(2))},
        {"kernel": np.array(2), "stride": np.array([]), "padding": [[1, 1], np.array([1, 1])], "dilation": 2},
    ],
)
def test_spellings(arguments):
    x = data((2, 5, 6, 3), "float32", 1)
    want = oracle.pool(x, "sum", (2, 2), (2, 2), ((1, 1), (1, 1)), dilation=(2, 2), layout="NHWC")
    assert agree(oracle.pool(x, "sum", **arguments), want)
    assert oracle.output_shape(x.shape, **arguments) == want.shape


def test_global_pool():
    x = data((2, 5, 6, 3), "float32", 1, "special")
    for mode in MODES:
        want = oracle.pool(x, mode, (5, 6))
        assert agree(oracle.global_pool(x, mode), want)
        assert agree(oracle.global_pool(x, mode, keepdims=False), want[:, 0, 0])
    values, indices = oracle.global_pool(x, "max", keepdims=False, return_indices=True, layout="channels_first")
    assert values.shape == indices.shape == (2, 5)
    point = oracle.global_pool(x[0, ..., 0], "sum", keepdims=False, layout="HW")
    assert isinstance(point, np.ndarray) and point.shape == ()


@pytest.mark.parametrize("mode", MODES)
def test_no_input_is_modified(mode):
    x, g = data((2, 5, 6, 3), "float32", 1), data((2, 2, 3, 3), "float32", 2)
    x.flags.writeable = g.flags.writeable = False
    oracle.pool(x, mode, 2)
    oracle.pool_backward(g, x, mode, 2)
    views = np.asfortranarray(x), x[::-1, ::-1, ::-1, ::-1][::-1, ::-1, ::-1, ::-1], np.broadcast_to(x[:1], x.shape)
    assert agree(oracle.pool(views[0], mode, 2), oracle.pool(x, mode, 2))
    assert agree(oracle.pool(views[1], mode, 2), oracle.pool(x, mode, 2))
    assert agree(oracle.pool(views[2], mode, 2)[1:], oracle.pool(x, mode, 2)[:1])


# Gradients


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("arguments", "x", "g", "grad"),
    [
        ({"kernel": 2}, [1, 3, 2, 5, 4], [10, 20], {"max": [0, 10, 0, 20, 0], "min": [10, 0, 20, 0, 0]}),
        ({"kernel": 3, "stride": 1}, [1, 9, 2, 5], [10, 20], {"max": [0, 30, 0, 0], "avg": [10 / 3, 10, 10, 20 / 3]}),
        ({"kernel": 3, "stride": 1}, [1, 9, 2, 5], [30, 60], {"avg": [10, 30, 30, 20], "sum": [30, 90, 90, 60]}),
        ({"kernel": 2, "stride": 3, "padding": 1}, [1, 9, 2], [4, 6], {"sum": [4, 0, 6], "avg": [2, 0, 3]}),
        (
            {"kernel": 2, "stride": 1, "dilation": 4, "padding": 3},
            [7, 8],
            [1, 2, 3, 4],
            {m: [4, 1] for m in ("max", "sum", "lp")},
        ),
        ({"kernel": 2}, [3, -4, 0, 0], [10, 10], {"lp": [6, -8, 0, 0]}),
        ({"kernel": 2}, [nan, nan, 1, nan], [1, 2], {"max": [0, 1, 0, 2], "min": [0, 1, 0, 2]}),
        ({"kernel": 2}, [2, 2, 0, 0], [1, 2], {"max": [1, 0, 2, 0]}),
    ],
)
def test_gradients_by_hand(mode, arguments, x, g, grad):
    if mode in grad:
        want = line(grad[mode])
        got = oracle.pool_backward(line(g), line(x), mode, **arguments)
        assert within(got, want, 2 * np.spacing(np.abs(want).astype("float32"))) if mode in ("lp", "avg") else agree(got, want)


def test_max_gradients_add_from_left_to_right():
    x, g = line([0, 9, 0]), line([1, 2.0**24, -(2.0**24)])
    assert along(oracle.pool_backward(g, x, "max", 3, 1, 1)) == [0, 0, 0]  # (1 + 2**24) - 2**24 in float32
    assert along(oracle.pool_backward(g[:, ::-1], x, "max", 3, 1, 1)) == [0, 1, 0]
    g = line([2048, 1, 1], "float16")
    assert along(oracle.pool_backward(g, x.astype("float16"), "max", 3, 1, 1)) == [0, 2050, 0]
    g, x = line([256, 1, 1], "bfloat16"), x.astype(ml_dtypes.bfloat16)
    assert along(oracle.pool_backward(g, x, "max", 3, 1, 1)) == [0, 258, 0]


def zero_stuffed(q, n, k, s, b, d, axis):
    """One axis of the rule for sum and avg: q with s - 1 zeros between neighbours, padded, pooled with stride 1."""
    q = np.moveaxis(q, axis, 0)
    out, e = len(q), d * (k - 1) + 1
    spread = np.zeros(((out - 1) * s + 1, *q.shape[1:]), q.dtype)
    spread[::s] = q
    before, after = e - 1 - b, n + b - (out - 1) * s - 1
    spread = spread[max(0, -before) : len(spread) - max(0, -after)]
    spread = np.pad(spread, [(max(0, before), max(0, after)), *[(0, 0)] * (q.ndim - 1)])
    result = np.stack([doubled(spread[i : i + e : d], k)[0] for i in range(n)])
    return np.moveaxis(result, 0, axis)


@pytest.mark.parametrize("dtype", FLOATS)
def test_sum_gradients_are_zero_stuffed_pooling(dtype):
    random = np.random.default_rng(1)
    cropped = 0
    for _ in range(200):
        m = int(random.integers(1, 4))
        k, s, d = (random.integers(1, 5 if m > 2 else 9, m).tolist() for _ in range(3))
        d = [1 + gap // 4 for gap in d]
        reach = [(size - 1) * gap + 1 for size, gap in zip(k, d, strict=True)]
        padding = [(int(random.integers(e)), int(random.integers(e))) for e in reach]
        n = [int(random.integers(max(1, e - b - a), e + 5)) for e, (b, a) in zip(reach, padding, strict=True)]
        options = {"padding": padding, "dilation": d, "ceil_mode": bool(random.integers(2))}
        x = np.zeros((2, *n, 2), dtype)
        g = data(oracle.output_shape(x.shape, k, s, **options), dtype, int(random.integers(99)))
        cropped += any(
            size + b - (out - 1) * step < 1 for size, (b, _), out, step in zip(n, padding, g.shape[1:-1], s, strict=True)
        )
        for mode, divisor in (("sum", 1), ("avg", 7)):
            q = g.astype("float64" if dtype == "float64" else "float32")
            q = q / q.dtype.type(divisor)
            for axis in range(m):
                q = zero_stuffed(q, n[axis], k[axis], s[axis], padding[axis][0], d[axis], axis + 1)
            extra = {"divisor_override": divisor} if mode == "avg" else {}
            assert agree(oracle.pool_backward(g, x, mode, k, s, **options, **extra), q.astype(dtype))


@pytest.mark.parametrize("case", **names(CASES))
@pytest.mark.parametrize("mode", MODES[:4])
def test_gradients_are_the_transpose(case, mode):
    """sum(g * pool(x)) == sum(grad * x), exactly, in integers; max and min are linear once indices are chosen."""
    x = data(case.x_shape, "float64", 1, "small_integers")
    arguments = {"divisor_override": 1} | case.geometry if mode == "avg" else case.geometry
    y = oracle.pool(x, mode, **arguments)
    g = data(y.shape, "float64", 2, "small_integers")
    grad = oracle.pool_backward(g, x, mode, **arguments)
    assert (grad * x).sum() == (g * np.where(np.isfinite(y), y, 0)).sum()
    if mode in ("max", "min"):
        indices = oracle.pool(x, mode, **arguments, return_indices=True)[1]
        for dtype in ("int64", "int32", "int16"):
            assert agree(oracle.pool_backward(g, np.full_like(x, nan), mode, **arguments, indices=indices.astype(dtype)), grad)


@pytest.mark.parametrize("case", **names([case for case in CASES if "huge" not in case.name]))
def test_average_gradients_divide_first(case):
    """The divisor is had back from the average of ones; a window without a cell needs none."""
    x, ones = np.zeros(case.x_shape, "float32"), np.ones(case.x_shape)
    cells, mean = oracle.pool(ones, "sum", **case.geometry), oracle.pool(ones, "avg", **case.arguments("avg"))
    divisor = np.rint(np.divide(cells, mean, out=np.ones_like(mean), where=cells > 0)).astype("float32")
    g = data(mean.shape, "float32", 3)
    grad = oracle.pool_backward(g / divisor, x, "sum", **case.geometry)
    assert agree(oracle.pool_backward(g, x, "avg", **case.arguments("avg")), grad)


@pytest.mark.parametrize("case", **names(ADAPTIVE_CASES))
@pytest.mark.parametrize("mode", MODES[:4])
def test_adaptive_gradients(case, mode):
    x = data(case.x_shape, "float64", 1, "small_integers")
    y = oracle.adaptive_pool(x, mode, case.output_size)
    g = data(y.shape, "float64", 2, "small_integers")
    if mode == "avg":
        cells = oracle.adaptive_pool(np.ones_like(x), "sum", case.output_size)
        g, y = g * cells, y * cells
        assert (oracle.adaptive_pool_backward(g, x, mode, case.output_size) * x).sum() == (g / cells * y).round().sum()
    else:
        assert (oracle.adaptive_pool_backward(g, x, mode, case.output_size) * x).sum() == (g * y).sum()


def test_adaptive_gradients_add_in_the_pairwise_order():
    x, g = np.zeros((1, 2, 3, 1), "float32"), data((1, 37, 41, 1), "float32", 4)
    q = g[0]
    for axis, (n, out) in enumerate(((2, 37), (3, 41))):
        q = np.moveaxis(q, axis, 0)
        rows = [[o for o in range(out) if o * n // out <= i < -(-(o + 1) * n // out)] for i in range(n)]
        q = np.moveaxis(np.stack([doubled(q[row], len(row))[0] for row in rows]), 0, axis)
    assert agree(oracle.adaptive_pool_backward(g, x, "sum", (37, 41)), q[None])
    indices = oracle.adaptive_pool(x, "max", (37, 41), return_indices=True)[1]
    grad = oracle.adaptive_pool_backward(g, x, "max", (37, 41))
    assert agree(oracle.adaptive_pool_backward(g, x, "max", (37, 41), indices=indices), grad)


# Unpooling


@pytest.mark.parametrize("case", **names(UNPOOL_CASES))
@pytest.mark.parametrize("dtype", ["bool", "int8", "bfloat16", "float64"])
def test_unpool(case, dtype):
    x, indices = data(case.x_shape, dtype, 1), case.indices(2)
    result = oracle.max_unpool(x, indices, **case.arguments)
    want = np.zeros(result.shape, dtype)
    flat = want.reshape(want.shape[0], int(np.prod(want.shape[1:-1])), want.shape[-1])
    for n, *place, c in np.ndindex(*x.shape):
        if indices[(n, *place, c)] >= 0:
            flat[n, indices[(n, *place, c)], c] = x[(n, *place, c)]
    assert agree(result, want)
    m = x.ndim - 2
    for layout in ("channels_first", {1: "CLN", 2: "CWHN", 3: "WCHND"}[m]):
        arguments = case.arguments
        if arguments["output_size"] is not None and len(arguments["output_size"]) > m:
            arguments["output_size"] = relayout(want, layout).shape
        got = oracle.max_unpool(relayout(x, layout), relayout(indices, layout), layout=layout, **arguments)
        assert agree(got, relayout(want, layout))


def test_unpool_kinds_of_indices():
    chosen = {case.choose: case.indices(3) for case in UNPOOL_CASES if case.x_shape == (2, 3, 4, 3)}
    assert len(np.unique(chosen["distinct"][0, ..., 0])) == 12 and chosen["distinct"].min() >= 0
    assert len(np.unique(chosen["repeated"])) == 3
    assert (chosen["skipped"] == -1).sum() > 20 and (chosen["skipped"] > 0).sum() > 20


def test_unpool_by_hand():
    x, indices = line([1, 2, 3, 4], "int16"), line([6, 1, -1, 1], "int64")
    assert along(oracle.max_unpool(x, indices, 2)) == [0, 4, 0, 0, 0, 0, 1, 0]
    assert along(oracle.max_unpool(x, indices, 3, 2, ((1, 0),))) == [0, 4, 0, 0, 0, 0, 1, 0]
    assert oracle.max_unpool(x[0], indices[0], (2,), output_size=(7,)).shape == (7, 1)


def test_unpool_inverts_max_pool():
    x = data((2, 6, 8, 3), "float32", 1)
    values, indices = oracle.pool(x, "max", 2, return_indices=True)
    back = oracle.max_unpool(values, indices, 2)
    assert agree(back, np.where(back != 0, x, 0)) and (back != 0).sum() == values.size
    assert agree(oracle.pool(np.where(back == 0, np.float32(-inf), back), "max", 2), values)


# lp


def exact_norm(cells, p):
    if p == inf:
        return max(map(Decimal, cells))
    return sum((Decimal(c) ** Decimal(p) for c in cells if c), Decimal(0)) ** (1 / Decimal(p))


@pytest.mark.parametrize("p", [0.5, 1, 1.5, 2, 3, 10, 200.5, inf])
@pytest.mark.parametrize("dtype", ["int8", "float16", "bfloat16", "float32", "float64"])
def test_lp_is_within_its_own_bound(p, dtype):
    x = data((1, 40, 1), dtype, 1)
    got, terms = oracle.pool(x, "lp", 7, 3, p=p), 7
    bound = lp_bound(got, p, terms)
    with localcontext() as context:
        context.prec = 60
        for o, (value, limit) in enumerate(zip(along(got), bound[0, :, 0], strict=True)):
            y = exact_norm([abs(float(c)) for c in x[0, 3 * o : 3 * o + 7, 0]], p)
            assert abs(Decimal(float(value)) - y) <= Decimal(float(limit)) / 2  # one side of two
    safe = p < 200
    assert np.isfinite(bound).all() or not safe
    wide = got.astype("float64")
    if safe:
        ulp = np.abs(np.nextafter(got, got.dtype.type(inf)).astype("float64") - wide)
        assert (bound <= 2.2 * ulp + 1e-13 * wide).all()  # no wider than two roundings ask
        assert within(got, got, bound)
        assert not within(got * got.dtype.type(1.05), got, bound)


@pytest.mark.parametrize("p", [0.5, 1, 1.5, 2, 3, 10, inf])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_lp_gradient_is_within_its_own_bound(p, dtype):
    x, k, s = data((1, 20, 1), dtype, 1), 5, 2
    norms = oracle.pool(x, "lp", k, s, p=p, dtype="float64")
    g = data(norms.shape, dtype, 2)
    got = oracle.pool_backward(g, x, "lp", k, s, p=p)
    sizes = oracle.pool_backward(np.abs(g.astype("float64")), np.abs(x.astype("float64")), "lp", k, s, p=p)
    bound = lp_gradient_bound(got, g, norms, sizes, p, k)
    with localcontext() as context:
        context.prec = 60
        for i in range(20):
            total = Decimal(0)
            for o in (o for o in range(norms.shape[1]) if 0 <= i - o * s < k):
                cells = [abs(float(c)) for c in x[0, o * s : o * s + k, 0]]
                y, size = exact_norm(cells, p), Decimal(cells[i - o * s])
                sign = Decimal(float(np.sign(x[0, i, 0])) * float(g[0, o, 0]))
                if p == inf:
                    total += sign if size == y else 0
                else:
                    total += sign * (size / y) ** Decimal(p - 1)
            assert abs(Decimal(float(got[0, i, 0])) - total) <= Decimal(float(bound[0, i, 0])) / 2
    assert np.isfinite(bound).all() and (bound <= 1e-6 * sizes + 1e-30).all()
    assert not within(got * got.dtype.type(1.001), got, bound)


@pytest.mark.parametrize("p", [0.5, 1, 1.5, 2, 3, 10])
@pytest.mark.parametrize("dtype", ["int8", "float16", "float32", "float64"])
@pytest.mark.parametrize("working", ["float32", "float64"])
@pytest.mark.parametrize("scaled", [False, True])
def test_lp_computed_in_other_ways_is_within_the_bound(p, dtype, working, scaled):
    if (dtype, working) == ("float64", "float32"):
        return  # float64 is never computed in float32
    k, x = 7, data((1, 200, 1), dtype, 3)
    cells = sliding_window_view(x[0, :, 0], k)
    size = np.abs(cells.astype(working))
    scale = size.max(1, keepdims=True) if scaled else np.ones((1, 1), working)
    y = scale[:, 0] * ((size / scale) ** working_type(working, p)).sum(1) ** (1 / working_type(working, p))
    want = oracle.pool(x, "lp", k, 1, p=p)
    assert within(y.astype(want.dtype)[None, :, None], want, lp_bound(want, p, k, working=working))
    if dtype == "int8":
        return
    g = data(want.shape, dtype, 4)
    part = np.sign(cells.astype(working)) * g.astype(working)[0] * (size / y[:, None]) ** working_type(working, p - 1)
    grad = np.zeros(200, working)
    for o, row in enumerate(part):
        grad[o : o + k] += row
    want = oracle.pool_backward(g, x, "lp", k, 1, p=p)
    norms = oracle.pool(x, "lp", k, 1, p=p, dtype="float64")
    sizes = oracle.pool_backward(np.abs(g.astype("float64")), np.abs(x.astype("float64")), "lp", k, 1, p=p)
    bound = lp_gradient_bound(want, g, norms, sizes, p, k, working=working)
    assert np.isfinite(bound).all() and within(grad.astype(dtype)[None, :, None], want, bound)


def working_type(name, value):
    return np.dtype(name).type(value)


def test_lp_bound_claims_nothing_beyond_the_exponents():
    want = np.array([1e200, 1e-200, 1.0, 0.0, inf, nan])
    bound = lp_bound(want, 2, 9)
    assert np.isinf(bound).tolist() == [True, True, False, False, False, False]
    assert bound[4] == bound[5] == 0
    overflown = np.array([inf, 0, 1.0, 0.0, inf, nan])
    assert within(overflown, want, bound)
    assert not within(np.array([inf, 0, 1.0, 0.0, 1e308, nan]), want, bound)
    assert not within(np.array([nan, 0, 1.0, 0.0, inf, nan]), want, bound)
    assert not within(np.array([inf, 0, 1.0, 1e-300, inf, nan]), want, bound)
    assert np.isfinite(lp_bound(np.array([1e30, 1e-30], "float32"), 2, 9, working="float32")).all()
    assert lp_bound(np.array([1.0], "float32"), 2, 9, working="float32")[0] > lp_bound(np.array([1.0], "float32"), 2, 9)[0]


def test_lp_gradient_at_its_corners():
    assert along(oracle.pool_backward(line([1]), line([0, 0]), "lp", 2, p=1)) == [0, 0]
    assert along(oracle.pool_backward(line([2]), line([3, -5]), "lp", 2, p=1)) == [2, -2]
    assert along(oracle.pool_backward(line([2]), line([5, -5]), "lp", 2, p=inf)) == [2, 0]
    assert along(oracle.pool_backward(line([2]), line([-5, 3]), "lp", 2, p=inf)) == [-2, 0]
    assert along(oracle.pool_backward(line([2]), line([0, 0]), "lp", 2, p=inf)) == [0, 0]
    assert agree(oracle.pool_backward(line([2]), line([inf, 3]), "lp", 2), line([nan, 0]))
    assert agree(oracle.pool_backward(line([2]), line([nan, 0]), "lp", 2), line([nan, 0]))


# Comparison, cases and data


def test_agree():
    a = np.array([[1, nan], [0.0, inf]], "float32")
    assert agree(a, a.copy()) and agree(a, np.array([[1, nan], [-0.0, inf]], "float32"))
    assert not agree(a, a.astype("float64")) and first_difference(a, a.astype("float64")) == ()
    assert not agree(a, a[None]) and first_difference(a, a[None]) == ()
    b = a.copy()
    b[1, 0] = np.float32(1e-45)
    assert first_difference(a, b) == (1, 0) and not agree(a, b)
    b = a.copy()
    b[0, 1] = 0
    assert first_difference(a, b) == first_difference(b, a) == (0, 1)
    assert agree(np.zeros((0, 3)), np.zeros((0, 3))) and not agree(np.zeros((0, 3)), np.zeros((3, 0)))
    assert agree(np.array(nan, ml_dtypes.bfloat16), np.array(nan, ml_dtypes.bfloat16))
    assert not agree(np.array(1), np.array(2)) and first_difference(np.array(1), np.array(2)) == ()


def test_names():
    for cases in (CASES, ADAPTIVE_CASES, UNPOOL_CASES):
        assert len({case.name for case in cases}) == len(cases) and all(case.probes for case in cases)
    assert len(CASES) >= 60 and {len(case.x_shape) for case in CASES} == {3, 4, 5}


@pytest.mark.parametrize("case", **names(CASES))
def test_cases_are_legal(case):
    """The limits on arguments, and what some names promise."""
    _, rows = oracle._rows(case.x_shape, case.kernel, case.stride, case.padding, case.dilation, case.ceil_mode, "channels_last")
    volume = 1
    for n, k, s, b, a, d, _ in rows:
        e = d * (k - 1) + 1
        assert n + b + a >= e and max(b, a) < min(e, 2**31) and max(k, s, d) < 2**31
        volume *= k
    assert volume < 2**63
    if "no_real_cell" in case.name or "no_divisor" in case.name:
        assert (oracle.pool(np.ones(case.x_shape, "int8"), "sum", **case.geometry) == 0).any()
    if case.name.startswith("ceil"):
        floor_shape = oracle.output_shape(case.x_shape, **case.geometry | {"ceil_mode": False})
        grows = case.name not in ("ceil_exact", "ceil_drops_last_window")
        assert (oracle.output_shape(case.x_shape, **case.geometry) != floor_shape) == grows


CHECKSUMS = {  # crc32 of (3, 100) cells of seed 7, in the order of KINDS
    "bool": (0x0E2B86E5, 0x49089F21, 0xBEC8AC6F, 0x0E2B86E5),
    "int8": (0x60E88172, 0x0CEFEF8E, 0x4071A29C, 0x60E88172),
    "int16": (0x8495EE6D, 0x6334D3E4, 0x8FA09FF5, 0x8495EE6D),
    "int32": (0x1DC430CD, 0xF4AF03AC, 0xDCDF7E4A, 0x1DC430CD),
    "int64": (0x666A70B5, 0xC790C9F2, 0x18D2E161, 0x666A70B5),
    "uint8": (0x60E88172, 0x6CF37A0C, 0x362CFDAE, 0x60E88172),
    "uint16": (0x8495EE6D, 0x12F5C658, 0x0CE76EAE, 0x8495EE6D),
    "uint32": (0x1DC430CD, 0x1E2D106E, 0x81E399D6, 0x1DC430CD),
    "uint64": (0x666A70B5, 0xA082C432, 0x638434CA, 0x666A70B5),
    "float16": (0xEAD00473, 0x8F155462, 0x110F9257, 0x8F0AC52E),
    "bfloat16": (0xAE8CCCE3, 0xBFF5AFC8, 0x67DAA021, 0xB1F9FDC6),
    "float32": (0x8836908E, 0x28070F48, 0xC6DE818D, 0x9DF89436),
    "float64": (0x0A0BF391, 0x3B8234CE, 0x270EC464, 0xFA51CF2B),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_data_are_the_same_everywhere(dtype, kind):
    x = data((3, 100), dtype, 7, kind)
    assert x.dtype == dtype and x.shape == (3, 100)
    x = np.where(x != x, x.dtype.type(3), x)  # the payload of a NaN is left open
    little = x.view(f"u{x.dtype.itemsize}").astype(f"<u{x.dtype.itemsize}")
    assert zlib.crc32(little.tobytes()) == CHECKSUMS[dtype][KINDS.index(kind)]


def test_kinds_of_data():
    small = data((1000,), "float32", 1, "small_integers")
    assert set(small.tolist()) == set(range(-7, 8))
    assert set(data((1000,), "uint8", 1, "small_integers").tolist()) == set(range(8))
    for dtype in FLOATS:
        special = data((2000,), dtype, 1, "special").astype("float64")
        largest = float(ml_dtypes.finfo(dtype).max)
        assert {inf, -inf, 0.0, largest, -largest} <= set(special[~np.isnan(special)].tolist())
        assert np.isnan(special).sum() > 20 and len(np.unique(special)) < 1900
        tiny = np.abs(data((1000,), dtype, 1, "subnormal").astype("float64"))
        assert 200 < (tiny < float(ml_dtypes.finfo(dtype).tiny)).sum() < 900
    with pytest.raises(ValueError, match="small_integers"):
        data((1,), "float32", 1, "normal")


def test_relayout():
    x = data((2, 3, 4, 5, 6), "int8", 1)
    assert relayout(x, "channels_first").shape == (2, 6, 3, 4, 5)
    assert agree(relayout(relayout(x, "WCHND"), "channels_last", "WCHND"), x)


def test_the_oracle_imports_numpy_alone():
    tree = ast.parse(Path(oracle.__file__).read_text(encoding="utf-8"))
    imported = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} <= {"numpy", *sys.stdlib_module_names}
    assert not any(node.level for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
