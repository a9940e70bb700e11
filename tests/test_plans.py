"""The ways through the CPU's loops that only some sizes and types take, each held against NumPy's own windows."""

from __future__ import annotations

import ctypes
import logging
import mmap
import os
import subprocess
import sys
from functools import reduce
from itertools import product
from math import prod

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

import pooling
from pooling._cpu._isa import ROWS, usable
from pooling._dtypes import DTYPES, Types, narrowed, numpy_dtype, types_of
from pooling._modes import MODES
from pooling.testing import agree, data, lp_bound, oracle, within

FIRST, LAST = "channels_first", "channels_last"


def windows(x, mode, kernel, padding, edge):
    """max or min of an (N, C, H, W) array at stride 1."""
    x = np.pad(x, ((0, 0), (0, 0), *padding), constant_values=edge)
    views = sliding_window_view(x, kernel, (2, 3))
    return getattr(views, mode)((-2, -1))


def way(caplog, *arguments, **keywords):
    """The result of pool, and what the log says of the way to it."""
    caplog.clear()
    with caplog.at_level(logging.DEBUG, "pooling"):
        result = pooling.pool(*arguments, **keywords)
    return result, caplog.text


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("layout", [FIRST, LAST])
@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64"])
@pytest.mark.parametrize(
    "shape, kernel, padding",
    [
        ((1, 2, 70, 1100), (21, 17), ((10, 10), (8, 8))),
        ((1, 1, 40, 600), (40, 3), ((20, 20), (1, 1))),  # the kernel is as long as the axis
        ((1, 1, 40, 600), (41, 3), ((20, 20), (1, 1))),  # and longer
        ((2, 1, 33, 9000), (16, 5), ((0, 15), (4, 0))),  # in several parts along a row
        ((1, 3, 80, 700), (64, 1), ((0, 0), (0, 0))),  # fewer rows of windows than the kernel has
        ((1, 2, 100, 1024), (9, 40), ((8, 0), (39, 39))),
    ],
)
def test_sweeping(caplog, shape, kernel, padding, dtype, layout, mode):
    x = data(shape, dtype, 3, "special" if dtype.startswith("float") else "real")
    lowest = np.inf if dtype.startswith("float") else 255
    edge = -lowest if mode == "max" and lowest == np.inf else 0 if mode == "max" else lowest
    with np.errstate(invalid="ignore"):
        want = windows(x, mode, kernel, padding, edge)
    given = x if layout == FIRST else np.ascontiguousarray(np.moveaxis(x, 1, -1))
    got, log = way(caplog, given, mode, kernel, 1, padding, layout=layout)
    assert agree(got if layout == FIRST else np.moveaxis(got, -1, 1), want)
    assert "H by sweeping" in log or kernel[0] > shape[2] or dtype in ("uint8", "float16")


def tree(x, kernel, axis):
    """The sum over windows of one axis, in the order that every sum is added."""
    if kernel == 1:
        return x
    half = 1 << (kernel - 1).bit_length() - 1
    left, right = tree(x, half, axis), tree(x, kernel - half, axis)
    n = x.shape[axis] - kernel + 1
    return left[(slice(None),) * axis + (slice(n),)] + right[(slice(None),) * axis + (slice(half, half + n),)]


@pytest.mark.parametrize("mode", ["sum", "avg"])
@pytest.mark.parametrize("layout", [FIRST, LAST])
@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64"])
@pytest.mark.parametrize(
    "shape, kernel, padding",
    [
        ((1, 2, 70, 1100), (21, 17), ((10, 10), (8, 8))),
        ((1, 1, 90, 600), (90, 3), ((45, 44), (1, 1))),  # the kernel is as long as the axis
        ((2, 1, 33, 9000), (16, 5), ((0, 15), (4, 0))),  # in several parts along a row
        ((1, 3, 80, 700), (63, 1), ((0, 0), (0, 0))),
        ((1, 2, 200, 1024), (9, 40), ((8, 0), (39, 39))),
        ((1, 3, 40, 1037), (6, 2), ((5, 0), (1, 0))),  # of few rows; strips and vectors that end beside the row
        ((2, 1, 19, 523), (7, 1), ((3, 3), (0, 0))),
    ],
)
def test_piling(caplog, shape, kernel, padding, dtype, layout, mode):
    x = data(shape, dtype, 3, "real")
    wide = np.pad(x, ((0, 0), (0, 0), *padding)).astype({"uint8": "uint64", "float16": "float32"}.get(dtype, dtype))
    want = tree(tree(wide, kernel[0], 2), kernel[1], 3)
    if mode == "avg":
        want = want.astype("float32" if dtype == "uint8" else want.dtype)
        want = want / want.dtype.type(kernel[0] * kernel[1])
    want = want.astype("float16" if dtype == "float16" else want.dtype)
    given = x if layout == FIRST else np.ascontiguousarray(np.moveaxis(x, 1, -1))
    got, log = way(caplog, given, mode, kernel, 1, padding, layout=layout)
    assert agree(got if layout == FIRST else np.moveaxis(got, -1, 1), want)
    assert "H by piling" in log and "rows of windows at a time" in log


def pooled(x, mode, kernel, stride, padding):
    """The last axes of x, one after the other, in the order that every backend has."""
    for axis, (k, step, pads) in enumerate(zip(kernel, stride, padding, strict=True), x.ndim - len(kernel)):
        widths = [pads if i == axis else (0, 0) for i in range(x.ndim)]
        if mode == "max":
            x = sliding_window_view(np.pad(x, widths, constant_values=-np.inf), k, axis).max(-1)
        else:
            x = tree(np.pad(x, widths), k, axis)
        x = x[(slice(None),) * axis + (slice(None, None, step),)]
    return x


@pytest.mark.parametrize("mode", ["max", "sum"])
@pytest.mark.parametrize("kernel", [*range(1, 36), 48, 63, 64, 65, 101, 129])
def test_every_number_of_taps(kernel, mode):
    """Blocks of four, digits and what is left, down D, H and W, at stride 1 and further, alone and beside other planes."""
    n, pads = kernel + 9, (kernel // 3, kernel // 2)
    for shape, at in (((6, n), 0), ((3, n, 9), 0), ((3, 9, n), 1), ((1, n, 700), 0), ((2, n, 5, 6), 0), ((1, 300, n), 1)):
        x = data(shape, "float32", kernel, "real")
        rank = x.ndim - 1
        for stride in (1, 2, kernel):
            windows = [(kernel if i == at else 1, stride if i == at else 1, pads if i == at else (0, 0)) for i in range(rank)]
            want = pooled(x, mode, *zip(*windows, strict=True))
            got = pooling.pool(x, mode, *zip(*windows, strict=True), layout="C" + "DHW"[-rank:])
            assert agree(got, want), (shape, stride)


@pytest.mark.parametrize("mode", ["max", "sum"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "uint8"])
@pytest.mark.parametrize("kernel, stride, pad", [(2, 2, 0), (3, 2, 1), (3, 1, 1), (5, 1, 2), (7, 7, 0), (4, 3, 1), (1, 2, 0)])
def test_small_planes_together(caplog, kernel, stride, pad, dtype, mode):
    """More planes than a group has, or just as many, of every size around a vector's; and windows of D in groups."""
    together = 0
    for size, planes in product((7, 8, 9, 13, 16, 17, 20), (1, 3, 700)):
        x = data((planes, size, size), dtype, size, "real")
        wide = x if dtype.startswith("float") and dtype != "float16" else x.astype("float32" if dtype == "float16" else "float64")
        want = pooled(wide, mode, *[(k,) * 2 for k in (kernel, stride, (pad, pad))])
        got, log = way(caplog, x, mode, kernel, stride, pad, layout="CHW")
        together += " planes together" in log
        assert agree(got.astype(want.dtype), want.astype(got.dtype).astype(want.dtype)), (size, planes)
        if planes == 3 and size > 7:
            x = data((2, 11, size, size), dtype, size, "real")
            wide = x.astype(wide.dtype)
            want = pooled(wide, mode, *[(k,) * 3 for k in (kernel, stride, (pad, pad))])
            got = pooling.pool(x, mode, kernel, stride, pad, layout="CDHW")
            assert agree(got.astype(want.dtype), want.astype(got.dtype).astype(want.dtype)), (size, "D")
    assert together > 7


@pytest.mark.parametrize("mode", ["max", "sum", "avg"])
@pytest.mark.parametrize("n, outs", [(3, 3000), (5, 777), (1, 500)])
def test_many_more_windows_than_cells(n, outs, mode):
    """Adaptive ones, and ones that reach far beyond the data: a row of results is longer than the row of cells."""
    x = data((2, 40, n), "float32", n, "real")
    first, last = np.arange(outs) * n // outs, -(-(np.arange(outs) + 1) * n // outs) - 1
    assert (last - first <= 1).all()
    double = {"max": np.maximum, "sum": np.add, "avg": np.add}[mode](x[..., first], x[..., last]) / (2 if mode == "avg" else 1)
    want = np.where(first == last, x[..., first], double.astype(x.dtype))
    assert agree(pooling.adaptive_pool(x, mode, (40, outs), layout="CHW"), want)
    if mode == "max":  # every window holds all cells that are not too far to one side
        kernel = outs - n + 1
        got = pooling.pool(x, mode, (1, kernel), 1, (0, kernel - 1), layout="CHW")
        views = [x[..., max(0, o - kernel + 1) : o + 1].max(-1) for o in range(n + kernel - 1)]
        assert agree(got, np.stack(views, -1))


@pytest.mark.parametrize("mode", ["max", "sum", "avg"])
@pytest.mark.parametrize("kernel", [(4, 1), (5, 1), (7, 1), (13, 1), (3, 3), (1, 5)])
def test_results_with_rows_far_apart_or_reversed(kernel, mode):
    """What sums keep aside lies in buffers, however the result lies."""
    x = data((3, 30, 41, 2), "float32", 4, "real")
    want = pooling.pool(x, mode, kernel, 1)
    space = np.full((3, 5 * want.shape[1], 3 * want.shape[2], 2), 7, want.dtype)
    for rows, cells in product((slice(None, None, 5), slice(None, None, -5)), (slice(None, None, 3), slice(-1, None, -3))):
        out = space[:, rows, cells]
        space[...] = 7
        assert pooling.pool(x, mode, kernel, 1, out=out) is out
        assert agree(out, want)
        assert (space == 7).sum() >= space.size - want.size


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_every_16_bit_float_beside_every_kind(dtype, mode):
    """They compare as ints: each pattern of bits against itself shuffled, and against zeros, infinities and NaNs."""
    bits = np.arange(2**16, dtype=np.uint16)
    kinds = np.array([0, -0.0, np.inf, -np.inf, np.nan, 1], np.float32).astype(numpy_dtype(dtype)).view(np.uint16)
    kinds = np.append(kinds, kinds[4] ^ 0x8000)
    for other in (np.random.default_rng(5).permutation(bits), *(np.full_like(bits, kind) for kind in kinds)):
        pairs = np.stack([bits, other]).view(numpy_dtype(dtype))
        wide = pairs.astype(np.float32)
        with np.errstate(invalid="ignore"):
            want = getattr(np, mode + "imum")(wide[0], wide[1])
        got = pooling.pool(pairs, mode, 2, layout="LC")[0]
        assert got.dtype == pairs.dtype and agree(got.astype(np.float32), want)


@pytest.mark.parametrize("dtype", [name for name, row in DTYPES.items() if row.kind in "biu" and row.size < 4])
@pytest.mark.parametrize("mode", ["sum", "avg"])
def test_sums_at_the_edge_of_fewer_bits(dtype, mode):
    """As many extreme cells as 16 or 32 bits just hold, and one more."""
    low, high = (0, 1) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    size = 8 * DTYPES[dtype].size - (DTYPES[dtype].kind == "i") if dtype != "bool" else 0
    for taps, extreme in product((2**15 >> size, (2**15 >> size) - 1, (2**15 >> size) + 1, 2**31 >> size), (low, high)):
        if 0 < taps < 2**20:
            x = np.full((taps, 2), extreme, dtype)
            total = int(extreme) * taps
            got = pooling.pool(x, mode, taps, layout="LC")
            want = total if mode == "sum" else np.float32(total) / np.float32(taps)
            assert (got == want).all(), (taps, extreme, got, want)


@pytest.mark.parametrize("name", [name for name, row in DTYPES.items() if row.kind in "biu"])
def test_narrowed_holds_every_sum(name):
    row = DTYPES[name]
    reach = 1 if row.kind == "b" else 2 ** (8 * row.size - (row.kind == "i"))
    for arithmetic, bits in product(("total", "mean"), range(40)):
        wide = types_of(arithmetic, name, None)
        types = narrowed(wide, 2**bits)
        if types != wide:
            assert DTYPES[types.accumulate].size < 8
            assert reach * 2**bits < 2 ** (8 * DTYPES[types.accumulate].size - 1)
    asked = types_of("total", name, "float32")
    assert narrowed(asked, 4) == asked  # only what is stored as an int is exact in any number of bits
    floats = Types("float32", "float32", "float32", "float32")
    assert narrowed(floats, 4) == floats


@pytest.mark.parametrize("layout", [FIRST, LAST])
@pytest.mark.parametrize(
    "dtype, mode",
    [
        *product(("bool", "int8", "int16", "uint8", "uint16"), ("sum", "avg")),
        *product(("float16", "bfloat16"), ("sum", "avg", "max", "min")),
    ],
)
def test_cells_converted_as_their_rows_are_combined(caplog, dtype, mode, layout):
    """Every number of taps at every edge, and rows of whole vectors, of parts and of single cells, as with cells of 32 bits."""
    wide = "float32" if DTYPES[dtype].kind == "f" else "int32"
    merges = dtype != "float16" or mode in ("max", "min") or ("merge", "add", "x", "float16", "float32") in ROWS
    for number, (height, width, channels) in enumerate(((9, 16, 1), (7, 37, 3), (12, 67, 2), (3, 9, 40), (1, 130, 1))):
        shape = (2, channels, height, width) if layout == FIRST else (2, height, width, channels)
        x = data(shape, dtype, number, "special")
        for kernel, (stride, dilation), padding in product((1, 2, 3, 4), ((1, 1), (2, 1), (1, 3)), (0, 1, (3, 2))):
            low, high = np.broadcast_to(padding, 2)
            reach = dilation * (kernel - 1)
            if height + low + high <= reach or max(low, high) > reach:  # no window, or one of padding
                continue
            arguments = {"stride": stride, "dilation": dilation, "padding": ((low, high), (1, 1)), "layout": layout}
            if mode == "avg":
                arguments |= {"dtype": dtype if dtype != "bool" else "int8", "count_include_pad": stride > 1}
            with np.errstate(over="ignore", invalid="ignore"):
                got, log = way(caplog, x, mode, (kernel, 2), **arguments)
                want = pooling.pool(x.astype(wide), mode, (kernel, 2), **(arguments | {"dtype": got.dtype.name}))
            assert agree(got, want), (shape, kernel, stride, dilation, padding)
            row = width * (channels if layout == LAST else 1) * DTYPES[dtype].size
            assert not log or ("converted on the way" in log) == ("in one go" in log or (merges and kernel < 4 and row >= 16))


@pytest.mark.parametrize("dtype", ["uint8", "float16", "bfloat16"])
@pytest.mark.parametrize("inner", [1, 24, 5000])
def test_converted_rows_of_results_that_lie_apart(dtype, inner):
    """Cells and results with gaps between rows, planes and cells, and more channels than a block takes."""
    x = data((4, 6, 200 if inner < 100 else 5, inner + 1), dtype, 3, "small_integers")
    arguments = {"padding": 1, "count_include_pad": False, "dtype": dtype}
    for part in (np.s_[..., :-1], np.s_[:, ::-1, :, 1:], np.s_[:, :, ::2, :-1], np.s_[::2, :, 1:, :-1], np.s_[..., ::2]):
        cells = x[part]
        want = pooling.pool(np.ascontiguousarray(cells).astype("float32"), "avg", (3, 2), 2, **arguments)
        assert agree(pooling.pool(cells, "avg", (3, 2), 2, **arguments), want)
        frame = np.full(tuple(2 * n for n in want.shape), 7, want.dtype)
        for place in (np.s_[:, ::2, :, :], np.s_[:, :, ::-1, :], np.s_[:, :, :, ::2]):
            target = frame[place][tuple(slice(n) for n in want.shape)]
            assert agree(pooling.pool(cells, "avg", (3, 2), 2, **arguments, out=target), want)
            target[...] = 7
            assert (frame == 7).all()


@pytest.mark.parametrize("kernel, stride", [(2, 2), (3, 1), (3, 2)])
@pytest.mark.parametrize("dtype", ["uint8", "int8", "bool"])
def test_quotients_of_small_windows(dtype, kernel, stride):
    """By divisors of every kind, each is the one that a division rounds to."""
    x = data((3, 40, 70), dtype, 7, "real")
    sums = pooling.pool(x, "sum", kernel, stride, layout="CHW").astype("float32")
    assert len(np.unique(sums)) > (kernel**2 if dtype == "bool" else 500)
    for divisor in (*range(1, 50), 127, 441, 961, 8191, 8192, 8193, 10**7 + 19, 2**24 - 1, 2**31 - 1):
        got = pooling.pool(x, "avg", kernel, stride, layout="CHW", divisor_override=divisor)
        assert agree(got, sums / np.float32(divisor)), divisor


@pytest.mark.parametrize("dtype, taps", [("uint8", 127), ("int8", 255), ("bool", 700)])
def test_every_quotient_of_small_sums(dtype, taps):
    """All sums that 16 bits are taken for, by divisors of every kind, as Python's integers round them: half to even."""
    low, high = (0, 1) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    sums = np.arange(low * taps, high * taps + 1)
    x = np.zeros((taps, sums.size), dtype)
    rest = sums.copy()
    for row in x:
        row[:] = np.clip(rest, low, high)
        rest -= row
    assert not rest.any()
    x = np.ascontiguousarray(x.T)
    divisors = (*range(1, 18), 25, 49, 64, 121, 127, 128, 254, 255, 256, 1000, 8191, 8192, 8193, 2**14)
    for divisor, result in product(divisors, ("int8", "uint8")):
        quotient, over = np.divmod(sums, divisor)
        quotient += (2 * over > divisor) | ((2 * over == divisor) & (quotient % 2 == 1))
        want = np.clip(quotient, np.iinfo(result).min, np.iinfo(result).max).astype(result)
        got = pooling.pool(x, "avg", taps, layout="CL", divisor_override=divisor, dtype=result)
        assert agree(got[:, 0], want), (divisor, result)


@pytest.mark.parametrize("inner", [1, 2, 3, 4, 5, 7, 16, 17, 64, 67])
@pytest.mark.parametrize("width", [1, 2, 7, 8, 9, 14, 35, 131])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
def test_rows_of_any_length(inner, width, dtype):
    """Whole vectors, parts of them and single cells: every tap counts once, at every stride."""
    x = data((2, 5, width, inner), dtype, 7, "real")
    for kernel, stride in product((1, 2, 3, 5), (1, 2, 3)):
        if kernel <= width:
            views = sliding_window_view(x, (2, kernel), (1, 2))[:, ::2, ::stride]
            got = pooling.pool(x, "max", (2, kernel), (2, stride))
            assert agree(got, views.max((-2, -1))), (kernel, stride)


VIEWS = {
    "rows backwards": np.s_[:, ::-1],
    "columns backwards": np.s_[:, :, ::-1],
    "channels backwards": np.s_[..., ::-1],
    "every second row": np.s_[:, ::2],
    "every second column": np.s_[:, :, ::2],
    "every second channel": np.s_[..., ::2],
    "all backwards": np.s_[:, ::-1, ::-1, ::-1],
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("layout", [FIRST, LAST])
@pytest.mark.parametrize("mode", ["max", "avg", "lp"])
@pytest.mark.parametrize("dtype", ["uint8", "float16", "bfloat16", "float32", "float64"])
def test_views_by_every_way(view, layout, mode, dtype):
    """What the cells are views of changes nothing: windows few and many, that are loaded first or read in place."""
    x = data((1, 60, 240, 6), dtype, 3, "real")[VIEWS[view]]
    plain, given = np.ascontiguousarray(x), x if layout == LAST else np.moveaxis(x, -1, 1)
    for kernel, stride in product(((2, 2), (3, 3), (19, 3), (3, 40), (21, 37), (1, 9), (9, 1)), (1, 2)):
        want = pooling.pool(plain, mode, kernel, stride, dtype="float64" if mode == "lp" else None)
        got = pooling.pool(given, mode, kernel, stride, layout=layout, dtype="float64" if mode == "lp" else None)
        assert agree(got if layout == LAST else np.moveaxis(got, 1, -1), want), (kernel, stride)


@pytest.mark.parametrize("inner", [100, 5000, 20000])
@pytest.mark.parametrize("mode", ["max", "sum"])
def test_channels_in_pieces(mode, inner):
    """More channels than a block takes: results are as far apart as all of them, not as those of the piece."""
    x = data((1, 6, 9, inner), "float32", 7, "small_integers")
    for kernel, stride in product(((2, 1), (1, 2), (2, 2), (3, 1)), ((2, 1), (1, 2), (2, 2))):
        views = sliding_window_view(x, kernel, (1, 2))[:, :: stride[0], :: stride[1]]
        want = views.max((-2, -1)) if mode == "max" else views.sum((-2, -1))
        assert agree(pooling.pool(x, mode, kernel, stride), want), (kernel, stride)


@pytest.mark.parametrize("mode", ["max", "avg"])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("kernel", [2, 3, 31, 101, 200, (500, 3), (3, 500), 500])
def test_row_buffers_are_small(caplog, kernel, dtype, mode):
    """At most 4 MiB a thread, but for windows that are larger themselves: these pass through at most six times over."""
    x = np.ones((1, 600, 1100, 3), dtype)
    for stride in (1, 2, 7):
        _, log = way(caplog, x, mode, kernel, stride)
        most = int(log.split(" bytes each")[0].split()[-1])
        assert most <= max(4 << 20, 6 * np.prod(np.broadcast_to(kernel, 2)) * 3 * 8), log


@pytest.mark.parametrize("mode", ["max", "avg"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kernel", [(2, 2, 2), (3, 60, 3), (9, 2, 5), (17, 1, 1)])
def test_row_buffers_of_volumes_are_small(caplog, kernel, dtype, mode):
    x = np.ones((1, 30, 80, 700, 3), dtype)
    for stride in (1, 2, 7):
        _, log = way(caplog, x, mode, kernel, stride)
        assert int(log.split(" bytes each")[0].split()[-1]) <= 4 << 20, log


@pytest.mark.parametrize("mode", ["max", "avg"])
@pytest.mark.parametrize("outs", [(4, 30, 90), (29, 2, 3), (40, 100, 800)])
def test_row_buffers_of_adaptive_volumes_are_small(caplog, outs, mode):
    with caplog.at_level(logging.DEBUG, "pooling"):
        pooling.adaptive_pool(np.ones((1, 30, 80, 700, 3), "float32"), mode, outs)
    assert int(caplog.text.split(" bytes each")[0].split()[-1]) <= 4 << 20, caplog.text


def test_a_result_between_other_cells_leaves_them_alone():
    """Rows are written in whole vectors, and no cell beside them."""
    x = data((2, 8, 18, 3), "float32", 9, "real")
    want = pooling.pool(x, "max", 2)
    for part in (np.s_[:, :, 1:-1, :], np.s_[..., 1:-1], np.s_[:, ::2, ::3], np.s_[1:3, 1:5, 2:11, 4:7]):
        frame = np.full((5, 12, 40, 9), 7, np.float32)
        target = frame[part][: want.shape[0], : want.shape[1], : want.shape[2], : want.shape[3]]
        if target.shape != want.shape:
            continue
        assert pooling.pool(x, "max", 2, out=target) is target
        assert agree(target, want)
        target[...] = 7
        assert (frame == 7).all()


DIGEST = """
import hashlib
import numpy as np, pooling
from pooling._dtypes import DTYPES
from pooling.testing import CASES, data
digest = hashlib.sha256()
def add(*arrays):
    for x in arrays:
        x = np.where(np.isnan(x), np.float32(0.5), x.astype("float64")) if x.dtype.kind not in "iub" else x
        digest.update(np.where(x == 0, 0, x).tobytes())  # neither the sign of a zero nor the payload of a NaN
for number, (case, dtype) in enumerate((case, dtype) for case in CASES for dtype in DTYPES):
    x = data(case.x_shape, dtype, number, "special")
    for mode in ("max", "min", "avg", "sum"):
        arguments = case.arguments(mode)
        y = pooling.pool(x, mode, **arguments)
        add(y)
        if mode in ("max", "min"):
            add(*pooling.pool(x, mode, **arguments, return_indices=True))
        if DTYPES[dtype].kind == "f":
            add(pooling.pool_backward(data(y.shape, dtype, number + 1, "real"), x, mode, **arguments))
print(pooling.cpu_info()["instruction set"], digest.hexdigest())
"""


def test_every_instruction_set_gives_the_same_bits():
    """All builds of the row loops that this machine can run, each in a process of its own, on every case and type."""
    found = {}
    for isa in usable():
        variables = os.environ | {"POOLING_CPU_ISA": isa}
        done = subprocess.run([sys.executable, "-c", DIGEST], capture_output=True, text=True, env=variables, check=True)
        name, found[isa] = done.stdout.rsplit(maxsplit=1)
        assert name.endswith(isa)
    assert len(set(found.values())) == 1, found


def test_rows_without_a_cell_in_a_result_whose_cells_stand_apart():
    """A dilated window may hold no row of the data: each of its cells is the identity, however the result lies in memory."""
    x = data((1, 2, 9, 3), "float32", 11, "real")
    arguments = {"mode": "max", "kernel": (2, 1), "stride": 1, "padding": ((2, 2), (0, 0)), "dilation": (3, 1)}
    want = pooling.pool(x, **arguments)
    assert np.isneginf(want).any()
    frame = np.full((*want.shape[:2], 2 * want.shape[2], want.shape[3]), 7, np.float32)
    assert agree(pooling.pool(x, **arguments, out=frame[:, :, ::2]), want)
    assert (frame[:, :, 1::2] == 7).all()


def chosen(x, mode, kernel, stride, padding, dilation):
    """Values and indices of windows of an (N, C, ...) array: the first cell that is best, or the last NaN."""
    m, nan = len(kernel), np.isnan(x)
    rank = np.unique(np.where(nan, 0, x), return_inverse=True)[1].reshape(x.shape)
    rank = rank if mode == "max" else x.size - rank
    rank = np.where(nan, np.arange(x.size).reshape(x.shape) + 2 * x.size, rank)
    numbers = np.arange(np.prod(x.shape[2:])).reshape(x.shape[2:])
    extent = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    step = tuple(slice(None, None, s) for s in (*stride, *dilation))
    views = []
    for part in (rank, np.broadcast_to(numbers, x.shape)):
        part = np.pad(part, [(0, 0), (0, 0), *((p, p) for p in padding)], constant_values=-1)
        view = sliding_window_view(part, extent, tuple(range(2, 2 + m)))[(slice(None), slice(None), *step)]
        views.append(view.reshape(*view.shape[: 2 + m], -1))
    index = np.take_along_axis(views[1], views[0].argmax(-1)[..., None], -1)[..., 0]
    flat = index.reshape(*x.shape[:2], -1)
    return np.take_along_axis(x.reshape(*x.shape[:2], -1), flat, -1).reshape(index.shape), index


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float16", "float32", "float64"])
@pytest.mark.parametrize(
    "shape, kernel, stride, padding, dilation",
    [
        ((3, 7, 14, 14), (3, 3), (2, 2), (1, 1), (1, 1)),  # several planes as one run, the last of them fewer
        ((40, 13, 7, 7), (2, 2), (2, 2), (0, 0), (1, 1)),
        ((1, 2, 120, 200), (3, 3), (2, 2), (1, 1), (1, 1)),  # a plane in several slabs
        ((1, 1, 7, 9001), (3, 2), (1, 3), (1, 1), (1, 1)),  # and a row in several parts
        ((1, 1, 8, 6000), (5, 3), (1, 1), (2, 1), (1, 1)),  # and slabs of one row, two of them at the upper edge
        ((2, 3, 300), (2,), (2,), (0,), (1,)),
        ((2, 3, 21), (5,), (2,), (2,), (1,)),
        ((2, 3, 40, 41), (3, 3), (2, 2), (2, 2), (2, 2)),  # all taps in one phase
        ((2, 3, 40, 41), (3, 4), (3, 2), (2, 0), (2, 1)),
        ((2, 2, 30, 31), (2, 2), (5, 5), (0, 1), (1, 1)),  # rows that no window reads
        ((2, 2, 4, 5), (3, 4), (1, 1), (2, 2), (2, 1)),  # windows larger than the data
        ((1, 3, 9, 10, 21), (3, 3, 3), (2, 2, 2), (1, 1, 1), (1, 1, 1)),  # planes that are kept for the next windows
        ((2, 2, 9, 10, 11), (3, 2, 2), (1, 2, 1), (2, 0, 1), (2, 1, 1)),
        ((1, 17, 6, 9), (3, 3), (2, 1), (1, 1), (1, 1)),
        ((1, 70, 5, 40), (2, 3), (1, 2), (1, 1), (1, 1)),
        ((1, 16, 9, 9), (9, 8), (1, 1), (0, 0), (1, 1)),  # more taps than one call takes
    ],
)
def test_indices_tap_by_tap(caplog, shape, kernel, stride, padding, dilation, dtype, mode):
    x = data(shape, dtype, 3, "special" if dtype.startswith("float") else "real")
    x.flat[::3] = x.flat[1]  # ties
    worst = np.inf if dtype.startswith("float") else np.iinfo(dtype).max
    x[0, 0, ..., : x.shape[-1] // 2] = worst if mode == "min" else -worst if dtype.startswith("float") else np.iinfo(dtype).min
    want, index = chosen(x, mode, kernel, stride, padding, dilation)
    for layout in (FIRST, LAST):
        given = x if layout == FIRST else np.ascontiguousarray(np.moveaxis(x, 1, -1))
        got, log = way(caplog, given, mode, kernel, stride, padding, dilation=dilation, layout=layout, return_indices=True)
        value, place = got if layout == FIRST else (np.moveaxis(part, -1, 1) for part in got)
        assert (place == index).all()
        assert agree(value, want)
        direct = layout == LAST and shape[1] * max(4, x.itemsize) >= 64 and dtype != "float16"
        if direct or np.prod(kernel) <= 16:
            assert ("tap by tap, from the array" in log) == direct
            assert direct or "tap by tap, from split rows" in log or "tap by tap, from lines of cells" in log


@pytest.mark.parametrize("layout", [FIRST, LAST])
def test_large_results_with_indices(layout):
    """They are written past the caches, wherever they begin; small ones are not."""
    x = data((4, 24, 127, 130), "float32", 5, "special")
    if layout == LAST:
        x = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    parts = [pooling.pool(x[n : n + 1], "max", 2, 1, layout=layout, return_indices=True) for n in range(len(x))]
    want = [np.concatenate(part) for part in zip(*parts, strict=True)]
    assert sum(part.nbytes for part in want) > 2**24 > sum(part.nbytes for part in parts[0])
    for gap in (0, 1, 3):
        frames = [np.full(part.size + 6, 7, part.dtype) for part in want]
        out = tuple(frame[gap : gap + part.size].reshape(part.shape) for frame, part in zip(frames, want, strict=True))
        pooling.pool(x, "max", 2, 1, layout=layout, return_indices=True, out=out)
        assert agree(out[0], want[0]) and (out[1] == want[1]).all()
        for frame, part in zip(frames, want, strict=True):
            assert (frame[:gap] == 7).all() and (frame[gap + part.size :] == 7).all()


@pytest.mark.parametrize("layout", ["HWC", "CHW"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, 1, 0), (2, 2, 1), ((1, 3), 1, (0, 1)), ((4, 1), (2, 1), (2, 0))])
def test_gradients_of_few_cells(kernel, stride, padding, dtype, layout):
    """Each cell gets what names it and nothing else, of channels in vectors and those left over, -1 and infinity too."""
    shape = (9, 7, 37)
    x = np.random.default_rng(1).permutation(prod(shape)).reshape(shape).astype("float32")
    x = np.ascontiguousarray(np.moveaxis(x, -1, layout.index("C")))
    y, indices = pooling.pool(x, "max", kernel, stride, padding, layout=layout, return_indices=True)
    g = np.arange(y.size, dtype="float64").reshape(y.shape) % 7
    g.flat[::31], g.flat[::37], indices.flat[::29] = np.inf, np.nan, -1
    want = np.zeros((63, 37))
    places, gradients = (np.moveaxis(a, layout.index("C"), -1).reshape(-1, 37) for a in (indices, g))
    for place, gradient in zip(places, gradients, strict=True):
        (named,) = np.nonzero(place >= 0)
        want[place[named], named] += gradient[named]
    cells = numpy_dtype(dtype)
    for kind in ("int32", "int64"):
        arguments = {"layout": layout, "indices": indices.astype(kind)}
        got = pooling.pool_backward(g.astype(cells), x.astype(cells), "max", kernel, stride, padding, **arguments)
        assert got.dtype == cells
        np.testing.assert_array_equal(np.moveaxis(got, layout.index("C"), -1).reshape(63, 37).astype("float64"), want)


def spread(shares, axis, n, kernel, stride, padding):
    """Each cell's windows along an axis, added from left to right."""
    shares, cells = np.moveaxis(shares, axis, 0), []
    for cell in range(n):
        covering = [s for o, s in enumerate(shares) if 0 <= cell + padding - o * stride < kernel]
        cells.append(reduce(np.add, covering, np.zeros_like(shares[0])))
    return np.moveaxis(np.array(cells), 0, axis)


@pytest.mark.parametrize("count_include_pad", [True, False])
@pytest.mark.parametrize("layout", ["CHW", "HWC"])
@pytest.mark.parametrize("sizes", [(70, 35), (33, 9), (5, 70), (40, 3), (3, 2100)])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(3, 1, 1), (2, 1, 0), (3, 2, 1), (2, 2, 0), (4, 2, 1), (3, 3, 1), (2, 3, 0)]
)
def test_gradients_of_averages_in_runs_of_rows(kernel, stride, padding, sizes, layout, count_include_pad):
    """Rows of shares and their sums, kept in a ring that planes as high as these go round, and planes that meet what was left."""
    x = np.zeros((5, *sizes) if layout == "CHW" else (*sizes, 5), "float32")
    axes = [layout.index("H"), layout.index("W")]
    arguments = {"layout": layout, "count_include_pad": count_include_pad}
    y = pooling.pool(x, "avg", kernel, stride, padding, **arguments)
    g = np.random.default_rng(2).standard_normal(y.shape).astype("float32")
    counts = pooling.pool(np.ones_like(x), "sum", kernel, stride, padding, layout=layout)
    want = g / (np.float32(kernel**2) if count_include_pad else counts)
    for axis, n in zip(axes, sizes, strict=True):
        want = spread(want, axis, n, kernel, stride, padding)
    got = pooling.pool_backward(g, x, "avg", kernel, stride, padding, **arguments)
    assert np.array_equal(got, want)


@pytest.fixture(scope="module")
def last_page():
    """Memory behind which nothing may be read."""
    memory, size = mmap.mmap(-1, 2**20 + mmap.PAGESIZE), 2**20
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    assert protect(np.frombuffer(memory, np.uint8).ctypes.data + size, mmap.PAGESIZE, 0) == 0
    return np.frombuffer(memory, np.uint8, size)


def placed_windows(caplog, last_page, x, mode, kernel, **arguments):
    """How small windows of x were made, as the oracle says: read to the array's last cell and no further, written to the result's
    last one, and between other cells."""
    placed = last_page[len(last_page) - x.nbytes :].view(x.dtype).reshape(x.shape)
    placed[...] = x
    with np.errstate(over="ignore", invalid="ignore"):
        got, log = way(caplog, placed, mode, kernel, **arguments)
        want = oracle.pool(x, mode, kernel, **arguments)
    assert agree(got, want), (x.shape, arguments)
    around = np.zeros(tuple(n + 2 for n in got.shape), got.dtype)
    inside = around[(slice(1, -1),) * got.ndim]
    pooling.pool(placed, mode, kernel, **arguments, out=inside)
    assert agree(inside, want)
    inside[...] = 0
    assert not around.view(np.uint8).any(), "cells beside the result were written"
    behind = last_page[len(last_page) - got.nbytes :].view(got.dtype).reshape(got.shape)
    assert agree(pooling.pool(x, mode, kernel, **arguments, out=behind), want)
    return log


FUSED = sorted({cell for loop, *_, cell, _ in (key for key in ROWS if key[0] == "fuse")})


@pytest.mark.skipif(os.name == "nt", reason="there is no mprotect")
@pytest.mark.skipif(not FUSED, reason="this instruction set has no such loops")
@pytest.mark.parametrize("mode", ["max", "min", "sum", "avg"])
@pytest.mark.parametrize("stride, dilation", [((1, 1), 1), ((2, 2), 1), ((1, 2), 3), ((3, 1), 2)])
@pytest.mark.parametrize("kernel", [2, 3])
@pytest.mark.parametrize("dtype", FUSED)
def test_small_windows_in_one_go(caplog, last_page, dtype, kernel, stride, dilation, mode):
    """Lines of all lengths about those of vectors: read to the array's last cell and no further, written to the result's last one
    and between other cells, finished in every form."""
    went = finished = 0
    lengths = (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 97, 129, 130)
    for number, (cells, (lines, planes), lead) in enumerate(product(lengths, ((1, 5), (5, 2), (8, 1)), (0, 1))):
        before, after = min(lead, kernel - 1), number % kernel
        if cells + before + after < kernel:
            continue
        x = data((planes, lines, cells), dtype, number, "special")
        arguments = {"stride": stride, "dilation": (dilation, 1), "layout": "CHW", "count_include_pad": number % 3 > 0}
        arguments["padding"] = ((dilation * (kernel - 1) * (lines < 8),) * 2, (before, after))
        if mode != "avg":
            del arguments["count_include_pad"]
        elif dtype in ("int8", "uint8"):
            arguments |= {"dtype": (None, dtype)[number % 2], "divisor_override": (None, 2, 7, 5000)[number % 4]}
        log = placed_windows(caplog, last_page, x, mode, kernel, **arguments)
        went += "in one go" in log
        finished += "in one go" in log and "results are stored" not in log
    merged = mode in ("sum", "avg") or dtype in ("float32", "float64", "float16", "bfloat16", "uint8")
    assert went > 20 or not merged
    assert finished > 20 or not merged or (mode == "sum" and dtype in ("bool", "int8", "uint8")) or dtype in ("int16", "uint16")


@pytest.mark.skipif(os.name == "nt", reason="there is no mprotect")
@pytest.mark.skipif(not FUSED, reason="this instruction set has no such loops")
@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("stride, dilation", [((1, 1), 1), ((2, 2), 1), ((1, 2), 1), ((2, 1), 1), ((1, 2), 3), ((3, 1), 2)])
@pytest.mark.parametrize("kernel", [2, 3])
def test_indices_of_small_windows_in_one_go(caplog, last_page, kernel, stride, dilation, mode):
    """Lines of all lengths about those of vectors, with ties, NaN, and windows of padding's value alone: their first cell."""
    went = 0
    for number, (cells, (lines, planes), lead) in enumerate(
        product((1, 2, 3, 7, 8, 9, 16, 17, 31, 33, 64, 65, 130), ((1, 5), (5, 2), (8, 1), (70, 2)), (0, 1))
    ):
        tall, after = dilation * (kernel - 1) * (lines < 8), number % kernel
        if cells + lead + after < kernel or lines + 2 * tall <= dilation * (kernel - 1):
            continue
        x = data((1, planes, lines, cells), "float32", number, "special")
        x[:, number % 2 :, :, : 1 + cells // 2] = np.inf if mode == "min" else -np.inf
        placed = last_page[len(last_page) - x.nbytes :].view(x.dtype).reshape(x.shape)
        placed[...] = x
        padding, arguments = ((tall, tall), (lead, after)), {"dilation": (dilation, 1), "layout": FIRST, "return_indices": True}
        (got, index), log = way(caplog, placed, mode, kernel, stride, padding, **arguments)
        want, place = oracle.pool(x, mode, kernel, stride, padding, **arguments)
        assert agree(got, want) and (index == place).all(), (cells, lines, planes, lead, after)
        went += "from lines of cells" in log
    assert went > 20


@pytest.mark.skipif(not FUSED, reason="this instruction set has no such loops")
@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("lead", [0, 1])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [2, 3])
def test_one_nan_is_found_wherever_it_is(caplog, kernel, stride, lead, mode):
    """Among numbers, in a cell of its own in every plane: in the first vector of a row and the last, in lines that rows share."""
    for cells, lines in ((5, 4), (16, 6), (70, 9)):
        x = data((1, cells * lines, lines, cells), "float32", 7, "small_integers")
        assert np.isfinite(x).all()
        x.reshape(cells * lines, -1)[np.arange(cells * lines), np.arange(cells * lines)] = np.nan
        arguments = {"padding": lead, "layout": FIRST, "return_indices": True}
        (got, index), log = way(caplog, x, mode, kernel, stride, **arguments)
        want, place = oracle.pool(x, mode, kernel, stride, **arguments)
        assert agree(got, want) and (index == place).all(), (cells, lines)
        assert "from lines of cells" in log


@pytest.mark.skipif(os.name == "nt", reason="there is no mprotect")
@pytest.mark.skipif(not FUSED, reason="this instruction set has no such loops")
@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize(
    "depth, stride, dilation, padding", [(1, 2, 1, 0), (2, 1, 1, 1), (3, 2, 1, 1), (3, 1, 2, 2), (5, 3, 1, 2)]
)
def test_indices_of_small_windows_of_volumes_in_one_go(caplog, last_page, depth, stride, dilation, padding, mode):
    """Plane by plane, and then the winners of the planes: the first of equals, the last NaN, with planes outside the data."""
    for number, (cells, lines, planes, kernel) in enumerate(product((3, 8, 17, 50), (4, 60), (1, 4, 9), (2, 3))):
        if planes + 2 * padding <= dilation * (depth - 1) or dilation > planes:
            continue
        x = data((1, 2, planes, lines, cells), "float32", number, "special")
        x.flat[:: 3 + number % 2] = x.flat[1]
        x[:, number % 2, :, :, : 1 + cells // 2] = np.inf if mode == "min" else -np.inf
        placed = last_page[len(last_page) - x.nbytes :].view(x.dtype).reshape(x.shape)
        placed[...] = x
        arguments = {"stride": (stride, 1 + number % 2, 1 + number // 2 % 2), "dilation": (dilation, 1, 1), "layout": FIRST}
        arguments |= {"padding": (padding, kernel // 2, kernel // 2), "return_indices": True}
        (got, index), log = way(caplog, placed, mode, (depth, kernel, kernel), **arguments)
        want, place = oracle.pool(x, mode, (depth, kernel, kernel), **arguments)
        assert agree(got, want) and (index == place).all(), (cells, lines, planes, kernel)
        assert "from lines of cells" in log


@pytest.mark.skipif(os.name == "nt", reason="there is no mprotect")
@pytest.mark.skipif(not FUSED, reason="this instruction set has no such loops")
@pytest.mark.parametrize("mode", ["max", "sum", "avg"])
@pytest.mark.parametrize("kernel", [2, 3])
@pytest.mark.parametrize("dtype", FUSED)
def test_small_windows_of_few_channels_in_one_go(caplog, last_page, dtype, kernel, mode):
    """Fewer channels than a vector has, in rows that are one piece or several, finished in every form."""
    went = 0
    pieces = ((2, 3), (9, 2), (31, 2), (700, 1), *((-size, 1) for size in (1, 2, 4, 8)))
    for number, (channels, (cells, planes), stride, lead) in enumerate(product((2, 3, 4, 5, 7, 11), pieces, (1, 2), (0, 1))):
        after = number % kernel
        if cells < 0:  # a window more than as many pieces of a row as 4 KiB of accumulators of that size make
            cells, after = (4096 // (-cells * stride * channels) + 1) * stride + kernel - stride - lead, 0
        if cells + lead + after < kernel:
            continue
        x = data((planes, 3 + number % 2, cells, channels), dtype, number, "special")
        arguments = {"stride": stride, "padding": ((kernel // 2, number % 2), (lead, after))}
        if mode == "avg":
            arguments["count_include_pad"] = number % 3 > 0
            if dtype in ("int8", "uint8"):
                arguments |= {"dtype": (None, dtype)[number % 2], "divisor_override": (None, 2, 7, 5000)[number // 2 % 4]}
        went += "in one go" in placed_windows(caplog, last_page, x, mode, kernel, **arguments)
    assert went > 20 or (mode == "max" and dtype not in ("float16", "bfloat16", "float32", "float64", "uint8"))


@pytest.mark.skipif(os.name == "nt", reason="there is no mprotect")
@pytest.mark.skipif(not FUSED, reason="this instruction set has no such loops")
@pytest.mark.parametrize("mode", ["max", "sum", "avg"])
@pytest.mark.parametrize("kernel", [2, 3])
@pytest.mark.parametrize("dtype", FUSED)
def test_small_windows_of_many_channels_in_one_go(caplog, last_page, dtype, kernel, mode):
    """Channels that are a vector, a few of them, parts of one, and more than are kept at a time."""
    went = 0
    many, strides = (8, 15, 16, 17, 33, 64, 65, 130, 1100, 4500), ((1, 1), (2, 2), (1, 2))
    for number, (channels, stride, lead) in enumerate(product(many, strides, (0, 1))):
        shape = (2, 3 + number % 5, 2 + number % 9, channels) if channels < 1000 else (1, 3, 3, channels)
        x = data(shape, dtype, number, "special")
        arguments = {"stride": stride, "padding": ((kernel // 2, 0), (lead, number % kernel))}
        if x.shape[2] + lead + number % kernel < kernel:
            continue
        if mode == "avg":
            arguments["count_include_pad"] = number % 3 > 0
            if dtype in ("int8", "uint8"):
                arguments["dtype"] = (None, dtype)[number % 2]
        went += "in one go" in placed_windows(caplog, last_page, x, mode, kernel, **arguments)
    assert went > 5 or (mode == "max" and dtype not in ("float16", "bfloat16", "float32", "float64", "uint8"))


@pytest.mark.parametrize("channels", [1, 3, 40])
@pytest.mark.parametrize("layout", [FIRST, LAST])
@pytest.mark.parametrize("dtype", ["uint8", "int8", "bool", "int32", "float16", "bfloat16", "float32", "float64"])
def test_averages_of_windows_without_a_cell(dtype, layout, channels):
    """Padding on both sides of one row, which no line of a window meets: all have the divisor 0."""
    x = data((2, channels, 1, 20) if layout == FIRST else (2, 1, 20, channels), dtype, 1, "real")
    for result in (None, dtype if dtype != "bool" else "uint8"):
        arguments = {
            "padding": ((1, 1), (0, 0)),
            "dilation": (2, 1),
            "count_include_pad": False,
            "layout": layout,
            "dtype": result,
        }
        got = pooling.pool(x, "avg", 2, (1, 2), **arguments)
        assert agree(got, oracle.pool(x, "avg", 2, (1, 2), **arguments))
        assert np.isnan(got.astype(np.float64)).all() or not got.any()


@pytest.mark.parametrize("kernel", [2, 4, 5])
@pytest.mark.parametrize("mode", ["max", "sum"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_planes_of_a_volume_for_several_threads(dtype, mode, kernel):
    """Windows of one plane, shared out by planes, are those of each plane alone."""
    x = data((1, 2, 15, 21, 147), dtype, kernel, "real")
    threads = pooling.get_num_threads()
    try:
        for number in (1, 2, 4):
            pooling.set_num_threads(number)
            got = pooling.pool(x, mode, (1, kernel, kernel), (1, 2, 1))
            assert agree(got, np.stack([pooling.pool(x[:, d], mode, kernel, (2, 1)) for d in range(2)], 1)), number
    finally:
        pooling.set_num_threads(threads)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("layout", ["NCDHW", "NDHWC", "DNHCW", "WHDC"])
@pytest.mark.parametrize("idle", [idle for idle in product((False, True), repeat=3) if any(idle)])
def test_axes_whose_windows_have_one_cell(caplog, idle, layout, mode):
    """They are carried: the planes of D for windows of H and W, a row's cells for windows of D."""
    carried = "D" if idle[0] else "HW" if idle[1:] == (True, True) else "W" if idle[2] else ""
    letters = "".join(letter.lower() if letter in carried else letter for letter in layout)
    shape = [{"N": 2, "C": 3, "D": 5, "H": 6, "W": 7}[letter] for letter in layout]
    for number, (kernel, stride, pad) in enumerate(((2, 2, (0, 0)), (3, 1, (1, 1)), (4, 2, (2, 1)))):
        x = data(shape, "float32", number, "special")
        arguments = {"kernel": [1 if i else kernel for i in idle], "stride": [1 if i else stride for i in idle], "layout": layout}
        arguments |= {"padding": [(0, 0) if i else pad for i in idle]} | ({"p": 3} if mode == "lp" else {})
        for view in (x, x[::-1], np.moveaxis(np.ascontiguousarray(np.moveaxis(x, -1, 0)), 0, -1)):
            got, log = way(caplog, view, mode, **arguments)
            want = oracle.pool(view, mode, **arguments)
            assert within(got, want, lp_bound(want, 3, 64)) if mode == "lp" else agree(got, want)
            assert f"layout {letters}:" in log or all(idle)  # one plan serves all of these
            if mode != "lp":
                g = data(got.shape, "float32", number + 1, "real")
                want = oracle.pool_backward(g, view, mode, **arguments)
                assert agree(pooling.pool_backward(g, view, mode, **arguments), want)
            if mode in ("max", "min"):
                want = oracle.pool(view, mode, **arguments, return_indices=True)
                both = pooling.pool(view, mode, **arguments, return_indices=True)
                assert agree(both[0], want[0]) and np.array_equal(both[1], want[1])


@pytest.mark.skipif(not FUSED, reason="this instruction set has no such loops")
@pytest.mark.parametrize("mode", ["max", "sum", "avg"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_small_windows_of_volumes_in_one_go(caplog, dtype, mode):
    """Lines that are combined down D first, for windows of all planes and of some."""
    went = 0
    for number, (cells, depth, kernel, stride) in enumerate(product((5, 16, 33, 70), (1, 4, 9), (2, 3), (1, 2))):
        x = data((2, depth, 40 if cells == 70 else 6, cells), dtype, number, "special")
        arguments = {"kernel": (min(depth, 1 + number % 3), kernel, kernel), "stride": (1 + number % 2, stride, stride)}
        arguments |= {"padding": ((0, 0), (1, 0), (1, 1)), "layout": "CDHW"}
        with np.errstate(over="ignore", invalid="ignore"):
            got, log = way(caplog, x, mode, **arguments)
            assert agree(got, oracle.pool(x, mode, **arguments)), (cells, depth, kernel, stride)
        went += "in one go" in log
    assert went > 20 or (dtype == "uint8" and mode != "max")


@pytest.mark.skipif(os.name == "nt", reason="there is no mprotect")
@pytest.mark.skipif(not FUSED, reason="this instruction set has no such loops")
@pytest.mark.parametrize("layout", ["CHW", "HWC", "CW"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [2, 3])
@pytest.mark.parametrize("padding", [((0, 0), (0, 0)), ((1, 1), (1, 1)), ((1, 0), (0, 1)), ((0, 1), (1, 2)), ((2, 1), (1, 0))])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_gradients_in_one_go(monkeypatch, last_page, dtype, padding, kernel, stride, layout):
    """Shares of small windows become rows of cells by whole vectors: of gradients up to the array's last one and no further, in
    bands of rows and of planes, divided and not."""
    went, share = [], pooling._cpu._back.share
    monkeypatch.setattr(pooling._cpu._back, "share", lambda *told: went.append(share(*told)))
    lengths = (3, 8, 15, 16, 17, 33, 40, 130) if "H" in layout else (3, 8, 16, 40, 130, 5000)
    for number, (cells, lines) in enumerate(product(lengths, (3, 6, 25) if "H" in layout else (1,))):
        sizes = {"C": (3, 20)[number % 2] if layout[0] == "C" else (32, 35)[number % 2], "H": lines, "W": cells}
        arguments = {"kernel": kernel, "stride": stride, "layout": layout}
        arguments["padding"] = tuple(tuple(np.minimum(pair, kernel - 1).tolist()) for pair in padding[3 - len(layout) :])
        x = np.zeros([sizes[axis] for axis in layout], numpy_dtype(dtype))
        shape = pooling.output_shape(x.shape, **arguments)
        for mode in ("sum", "avg"):
            if mode == "avg":
                arguments |= {"divisor_override": (None, 4, 7, 2**54 + 2**30 + 1)[number % 4]}  # the last: rounded once
            g = data(shape, dtype, number + 1, "special" if number % 4 else "real")
            placed = last_page[len(last_page) - g.nbytes :].view(g.dtype).reshape(g.shape)
            placed[...] = g
            with np.errstate(over="ignore", invalid="ignore"):
                got = pooling.pool_backward(placed, x, mode, **arguments)
                want = oracle.pool_backward(g, x, mode, **arguments)
            assert agree(got, want), (cells, lines, mode)
    assert all(went) and len(went) >= 12


@pytest.mark.skipif(os.name == "nt", reason="there is no mprotect")
@pytest.mark.parametrize("mode", ["max", "min", "sum", "avg"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint64", "uint8", "float16"])
def test_whole_planes(caplog, last_page, dtype, mode):
    """Small dense planes are combined at once, in vectors that are longer than their rows: up to the last cell and no further."""
    for rows, cells in product((1, 2, 3, 7, 8, 9, 15, 16, 17), repeat=2):
        for planes in (1, 2, 33, 40):
            x = data((planes, rows, cells), dtype, 1, "special")
            placed = last_page[len(last_page) - x.nbytes :].view(dtype).reshape(x.shape)
            placed[...] = x
            got, text = way(caplog, placed, mode, (rows, cells), layout="CHW")
            assert agree(got, oracle.pool(x, mode, (rows, cells), layout="CHW")), (rows, cells, planes)
            if dtype in ("float32", "float64") and text:
                assert ("whole planes" in text) == (rows * cells > 1 and max(rows, cells) <= 16), (rows, cells, planes, text)
