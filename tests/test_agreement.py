"""Every call agrees with the oracle over the named cases x modes x element types x layouts, on every backend."""

from __future__ import annotations

from functools import lru_cache
from math import prod

import numpy as np
import pytest
from agreement import BACKENDS, EXPONENTS, FLOATS, backward_bound, check, forward_bound, label, layouts, modes, refused

import pooling
from pooling._dtypes import DTYPES, numpy_dtype
from pooling.testing import ADAPTIVE_CASES, CASES, UNPOOL_CASES, data, oracle, relayout

on_every_backend = pytest.mark.parametrize("backend", BACKENDS)  # the outermost mark varies fastest: the oracle is asked once
KINDS = ("real", "special")


def relaid(result, layout):
    """A result in channels_last, or a tuple of them."""
    return tuple(relayout(part, "channels_last", layout) for part in (result if isinstance(result, tuple) else (result,)))


@lru_cache(maxsize=64)
def wanted(function, x_shape, dtype, kind, mode, arguments):
    """x, and what the oracle makes of it."""
    x = data(x_shape, dtype, 1, kind)
    return x, getattr(oracle, function)(x, mode, **dict(arguments))


@lru_cache(maxsize=64)
def wanted_gradient(function, x_shape, g_shape, dtype, kind, mode, arguments):
    """x, a gradient of the result, and what the oracle makes of them."""
    x, g = data(x_shape, dtype, 1, kind), data(g_shape, dtype, 2, "real")
    return x, g, getattr(oracle, function)(g, x, mode, **dict(arguments))


def frozen(arguments):
    return tuple(arguments.items())


@on_every_backend
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("row", modes(), ids=label)
def test_pool(case, row, backend):
    mode, extra = row
    indexed = mode in ("max", "min")
    arguments = case.arguments(mode) | extra
    for dtype in DTYPES:
        for kind in KINDS if not refused(backend, mode, dtype) else ():
            more = arguments | ({"return_indices": True} if indexed else {})
            x, want = wanted("pool", case.x_shape, dtype, kind, mode, frozen(more))
            bound = None if indexed else forward_bound(want, mode, extra.get("p", 2), case.kernel, backend)
            for layout in layouts(x):
                got = pooling.pool(relayout(x, layout), mode, **more, layout=layout, backend=backend)
                check(relaid(got, layout), want, (dtype, kind, layout), bound)
            if indexed:
                check(pooling.pool(x, mode, **arguments, backend=backend), want[0], (dtype, kind))


@on_every_backend
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("row", modes(), ids=label)
def test_pool_backward(case, row, backend):
    mode, extra = row
    arguments = case.arguments(mode) | extra
    g_shape = oracle.output_shape(case.x_shape, **case.geometry)
    oracles = (oracle.pool, oracle.pool_backward)
    for dtype in FLOATS:
        for kind in KINDS if not refused(backend, mode, dtype) else ():
            x, g, want = wanted_gradient("pool_backward", case.x_shape, g_shape, dtype, kind, mode, frozen(arguments))
            p = extra.get("p", 2)
            bound = backward_bound(want, g, x, mode, p, oracles, backend=backend, **case.arguments(mode))
            for layout in layouts(x):
                arrays = relayout(g, layout), relayout(x, layout)
                got = pooling.pool_backward(*arrays, mode, **arguments, layout=layout, backend=backend)
                check(relaid(got, layout), want, (dtype, kind, layout), bound)
            if mode in ("max", "min"):
                _, indices = pooling.pool(x, mode, **arguments, return_indices=True, backend=backend)
                given = pooling.pool_backward(g, x, mode, **arguments, indices=indices.astype(np.int32), backend=backend)
                check(given, want, (dtype, kind, "indices"))


@on_every_backend
@pytest.mark.parametrize("case", ADAPTIVE_CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("row", modes(), ids=label)
def test_adaptive_pool(case, row, backend):
    mode, extra = row
    indexed = mode in ("max", "min")
    size, p = {"output_size": case.output_size}, extra.get("p", 2)
    oracles = (oracle.adaptive_pool, oracle.adaptive_pool_backward)
    for dtype in DTYPES:
        for kind in KINDS if not refused(backend, mode, dtype) else ():
            arguments = size | extra | ({"return_indices": True} if indexed else {})
            x, want = wanted("adaptive_pool", case.x_shape, dtype, kind, mode, frozen(arguments))
            bound = None if indexed else forward_bound(want, mode, p, x.shape[1:-1], backend)
            for layout in layouts(x):
                got = pooling.adaptive_pool(relayout(x, layout), mode, **arguments, layout=layout, backend=backend)
                check(relaid(got, layout), want, (dtype, kind, layout), bound)
            if DTYPES[dtype].kind == "f":
                shape = (want[0] if indexed else want).shape
                gradient = ("adaptive_pool_backward", case.x_shape, shape, dtype, kind, mode, frozen(size | extra))
                x, g, want = wanted_gradient(*gradient)
                bound = backward_bound(want, g, x, mode, p, oracles, case.output_size, backend=backend)
                for layout in layouts(x):
                    arrays = relayout(g, layout), relayout(x, layout)
                    got = pooling.adaptive_pool_backward(*arrays, mode, **size, **extra, layout=layout, backend=backend)
                    check(relaid(got, layout), want, (dtype, kind, layout, "gradient"), bound)


@on_every_backend
@pytest.mark.parametrize("shape", [(2, 9, 3), (2, 5, 7, 3), (1, 2, 3, 4, 1)], ids=str)
@pytest.mark.parametrize("row", modes(), ids=label)
def test_global_pool(shape, row, backend):
    mode, extra = row
    for dtype in DTYPES:
        for keepdims in (True, False) if not refused(backend, mode, dtype) else ():
            x, want = wanted("global_pool", shape, dtype, "special", mode, frozen(extra | {"keepdims": keepdims}))
            got = pooling.global_pool(x, mode, keepdims=keepdims, **extra, backend=backend)
            check(got, want, (dtype, keepdims), forward_bound(want, mode, extra.get("p", 2), shape[1:-1], backend))


@on_every_backend
@pytest.mark.parametrize("case", UNPOOL_CASES, ids=lambda case: case.name)
def test_max_unpool(case, backend):
    indices = case.indices(3)
    for dtype in DTYPES:
        if refused(backend, "max", dtype):
            continue
        x = data(case.x_shape, dtype, 1, "special")
        want = oracle.max_unpool(x, indices, **case.arguments)
        check(pooling.max_unpool(x, indices, **case.arguments, backend=backend), want, dtype)
        if case.output_size is None or len(case.output_size) < x.ndim:
            for layout in layouts(x):
                arrays = relayout(x, layout), relayout(indices, layout).astype("int32")
                got = pooling.max_unpool(*arrays, **case.arguments, layout=layout, backend=backend)
                check(relaid(got, layout), want, (dtype, layout))


@on_every_backend
@pytest.mark.parametrize("mode", pooling.MODES)
@pytest.mark.parametrize("result", [name for name in DTYPES if name != "bool"])
def test_result_types(mode, result, backend):
    asked = numpy_dtype(result)
    for dtype in DTYPES:
        for kind in ("real", "special", "subnormal") if not refused(backend, mode, dtype, result) else ():
            x = data((2, 6, 7, 3), dtype, 4, kind)
            want = oracle.pool(x, mode, 3, 2, 1, dtype=asked)
            got = pooling.pool(x, mode, 3, 2, 1, dtype=asked, backend=backend)
            check(got, want, (dtype, kind), _conversion_bound(want, mode, backend))


# Halfway between two 16-bit floats, and a little to either side: what is lost in between decides the rounding.
TIES = {
    "int64": [sign * (2**62 + odd * 2**54 + near) for sign in (1, -1) for odd in (1, 3) for near in (-1, 0, 1)],
    "uint64": [2**63 + odd * 2**55 + near for odd in (1, 3) for near in (-1, 0, 1)],
    "float64": [sign * (1 + odd * 2.0**-place + near * 2.0**-50) for sign in (1, -1) for odd in (1, 3) for place in (8, 11, 24)
                for near in (-1, 0, 1)],
}  # fmt: skip


@on_every_backend
@pytest.mark.parametrize("result", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("dtype", TIES)
def test_conversions_round_once(dtype, result, backend):
    x = np.array(TIES[dtype], dtype)
    want = oracle.pool(x, "max", 1, layout="L", dtype=numpy_dtype(result))
    assert len({float(value) for value in want if abs(value) < np.inf}) != 1  # neighbours of a tie go both ways
    if not refused(backend, "max", dtype, result):
        check(pooling.pool(x, "max", 1, layout="L", dtype=numpy_dtype(result), backend=backend), want, x)


def _conversion_bound(want, mode, backend):
    if mode != "lp":
        return None
    if want.dtype.kind in "iu":  # norms within their bound, and then at most one apart where they round apart
        return forward_bound(want.astype(np.float64), mode, 2.0, 3, backend) + 1
    return forward_bound(want, mode, 2.0, 3, backend)


@pytest.mark.parametrize("backend", [name for name in BACKENDS if refused(name, "max", "float64")])
def test_what_a_backend_refuses(backend):
    """A type that it lacks: a TypeError that says so, and never a result."""
    for mode in pooling.MODES:
        for dtype in DTYPES:
            for result in (None, *(name for name in DTYPES if name != "bool")):
                if refused(backend, mode, dtype, result):
                    x = data((2, 6, 7, 3), dtype, 4)
                    with pytest.raises(TypeError, match="float64"):
                        pooling.pool(x, mode, 3, dtype=result and numpy_dtype(result), backend=backend)


# ---- the way back on the CPU: what its loops tell apart -------------------------------------------------------


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("window", [(2, 2, 0), (3, 2, 1), (3, 1, 1), (5, 3, 2), (7, 7, 0)])
@pytest.mark.parametrize(
    "shape", [(1, 150, 131, 1), (1, 6000, 33), (70000, 1), (1, 7, 9, 40, 3)], ids=["bands", "wide", "one_row", "deep"]
)
def test_large_gradients(shape, window, dtype, layout):
    """Bands of sums that move on, rows too long for a product, rows cut into pieces; with threads and without."""
    if len(shape) == 2:
        shape = (1, *shape)
    kernel, stride, padding = window
    for mode in ("max", "avg"):
        rank = len(shape) - 2
        arguments = {"kernel": (kernel,) * rank, "stride": stride, "padding": padding}
        x = data(shape, dtype, 1)
        g = data(oracle.output_shape(shape, **arguments), dtype, 2, "real")
        want = oracle.pool_backward(g, x, mode, **arguments)
        for threads in (1, 3):
            with_threads(threads, lambda: check_gradient(g, x, mode, arguments, layout, want))  # noqa: B023


def with_threads(threads, call):
    before = pooling.get_num_threads()
    pooling.set_num_threads(threads)
    try:
        call()
    finally:
        pooling.set_num_threads(before)


def check_gradient(g, x, mode, arguments, layout, want):
    given = {}
    if mode == "max":
        indices = oracle.pool(x, "max", **arguments, return_indices=True)[1]
        given = {"indices": np.repeat(relayout(indices, layout), 2, axis=-1)[..., ::2]}
    got = pooling.pool_backward(relayout(g, layout), relayout(x, layout), mode, **arguments, layout=layout, **given)
    check(relaid(got, layout), want, (mode, layout))


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("n, out, channels", [(2647, 46, 9), (424, 6, 41), (40_000, 3, 1), (901, 900, 40), (70, 900, 40)])
def test_gradients_of_long_adaptive_windows(n, out, channels, layout):
    """Bands of sums for several windows at once, each of which begins nearly its own length after the one before."""
    x = data((1, n, channels), "float16", 1)
    g = data((1, out, channels), "float16", 2, "real")
    for mode in ("max", "avg"):
        got = pooling.adaptive_pool_backward(relayout(g, layout), relayout(x, layout), mode, (out,), layout=layout)
        check(relaid(got, layout), oracle.adaptive_pool_backward(g, x, mode, (out,)), (mode, layout))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_gradients_are_rounded_once(dtype):
    """2048 + 1 + 1 + 1 in float16 alone would stay 2048: sums are made in float32, here across a band's end."""
    x = np.zeros((9000, 3), np.float32).astype(numpy_dtype(dtype))
    x[1::3] = 1
    g = np.ones((9000, 3), np.float32)
    g[::3] = 2048
    wide = pooling.pool_backward(g, x.astype(np.float32), "max", 3, 1, 1, layout="LC")
    got = pooling.pool_backward(g.astype(x.dtype), x, "max", 3, 1, 1, layout="LC")
    check(got, wide.astype(x.dtype))
    assert (wide > 2049).any()


CHECKED = {
    "few_rows": ((5, 6), {"kernel": (2, 3), "stride": 1, "padding": 1}),
    "three_rows": ((7, 9), {"kernel": 3, "stride": (2, 1), "padding": ((1, 0), (0, 1))}),
    "many_rows": ((7, 6), {"kernel": (4, 2), "stride": (1, 2), "padding": (2, 0), "ceil_mode": True}),
    "gaps": ((7, 6), {"kernel": (2, 3), "stride": 1, "padding": (1, 2), "dilation": (3, 2)}),
    "deep": ((3, 4, 3), {"kernel": 2, "stride": (1, 2, 1), "padding": (1, 0, 1)}),
    "line": ((13,), {"kernel": 3, "stride": 1, "padding": (1,)}),
    "few_cells": ((5, 4), {"kernel": 2, "stride": (1, 2), "padding": (1, 0)}),
    "few_cells_and_gaps": ((5, 4), {"kernel": 2, "stride": 1, "padding": (1, 0), "dilation": (2, 3)}),
    "whole": ((4, 5), {"kernel": (4, 5)}),
    "one_window": ((2, 3), {"kernel": (1, 2), "stride": 2}),
    "adaptive": ((7, 5), {"output_size": (3, 3)}),
}


@pytest.mark.parametrize("channels", [1, 3, 17, 32])
@pytest.mark.parametrize("kind", ["int32", "int64"])
@pytest.mark.parametrize("name", CHECKED)
def test_every_index_of_every_window(name, kind, channels):
    """A cell is of a window if it alone being 1 makes the window's maximum 1; each way to check many indices at once."""
    sizes, arguments = CHECKED[name]
    layout = "DHW"[3 - len(sizes) :] + "C"
    call = "adaptive_pool" if "output_size" in arguments else "pool"
    x = np.zeros((*sizes, channels), np.float32)
    shape = getattr(pooling, call)(x, "max", **arguments, layout=layout).shape
    g, indices = np.ones(shape, np.float32), np.full(shape, -1, kind)
    for index in (*range(-3, prod(sizes) + 8), 2**31 - 1, -(2**31), *([2**32, 2**32 - 1, -(2**32)] if kind == "int64" else [])):
        own = np.zeros(shape[:-1], bool)
        if 0 <= index < prod(sizes):
            one = np.zeros((1, *sizes, 1), np.float32)
            one.flat[index] = 1
            own = getattr(oracle, call)(one, "max", **arguments)[0, ..., 0] == 1
        for place in np.ndindex(*shape[:-1]):
            indices[(*place, -1)] = index
            back = lambda: getattr(pooling, call + "_backward")(g, x, "max", **arguments, layout=layout, indices=indices)  # noqa: E731
            if own[place] or index == -1:
                assert back().sum() == (index >= 0)
            else:
                with pytest.raises(IndexError, match="neither -1 nor a cell of the window"):
                    back()
            indices[(*place, -1)] = -1


@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "HWCN"])
@pytest.mark.parametrize("kind", ["int64", "int32", "int16", "uint64", ">i8"])
def test_the_first_wrong_index_is_named(layout, kind):
    """In row-major order of the array that was given, whatever thread meets which one first."""
    x = relayout(data((4, 40, 40, 40), "float32", 1), layout)
    y, indices = pooling.pool(x, "max", 2, layout=layout, return_indices=True)
    places = [(3, 1, 2, 3), (1, 7, 3, 2), (1, 7, 2, 3)]
    for place in places:
        indices[place] = 1599 if indices[place] < 800 else 0
    indices = indices.astype(kind)
    where = ", ".join(map(str, min(places)))
    for threads in (1, 4):

        def call():
            with pytest.raises(IndexError, match=rf"indices\[{where}\] = "):
                pooling.pool_backward(y, x, "max", 2, layout=layout, indices=indices)

        with_threads(threads, call)


@on_every_backend
@pytest.mark.parametrize("p", EXPONENTS)
def test_lp_gradients_that_cancel(p, backend):
    """A cell that is NaN or infinite stays so in the gradient, also where its windows' gradients add up to 0."""
    for odd in (np.nan, np.inf, -np.inf):
        x = np.array([1, odd, 2, 3, 0], "float32").reshape(1, 5, 1)
        for g in ([1, -1, 1, 1], [0, 0, 0, 0]):
            g = np.array(g, "float32").reshape(1, 4, 1)
            with np.errstate(invalid="ignore"):
                want = oracle.pool_backward(g, x, "lp", 2, 1, p=p)
            got = pooling.pool_backward(g, x, "lp", 2, 1, p=p, backend=backend)
            assert (np.isnan(got) == np.isnan(want)).all(), (p, odd, got, want)
