"""Larger problems, drawn: any rank, layout, type and geometry that is legal, every mode, forward and backward."""

from __future__ import annotations

import os

import fuzz
import hypothesis
import numpy as np
import pytest
from agreement import BACKENDS, FLOATS, LAYOUTS, backward_bound, check, forward_bound, refused
from hypothesis import strategies as st

import pooling
from pooling._dtypes import DTYPES
from pooling.testing import data, oracle, relayout

hypothesis.settings.register_profile("quick", max_examples=150, deadline=None, derandomize=True, database=None)
hypothesis.settings.register_profile("long", max_examples=20_000, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))  # or "long"


@st.composite
def axes(draw, cells):
    """One axis: size, kernel, stride, padding, dilation; the effective kernel fits the padded size."""
    n = draw(st.integers(1, cells))
    dilation = draw(st.integers(1, 4))
    kernel = draw(st.integers(1, max(1, min(2 * n, 70) // dilation)))
    extent = dilation * (kernel - 1) + 1
    before, after = draw(st.integers(0, extent - 1)), draw(st.integers(0, extent - 1))
    if n + before + after < extent:
        after = extent - 1
        before = max(before, min(extent - 1, extent - n - after))
    return n, kernel, draw(st.integers(1, kernel + 3)), (before, after), dilation


@st.composite
def problems(draw):
    """A shape, the arguments of a window on it, an element type and a layout."""
    rank = draw(st.integers(1, 3))
    columns = zip(*(draw(axes((300, 40, 12)[rank - 1])) for _ in range(rank)), strict=True)
    sizes, kernel, stride, padding, dilation = columns
    shape = (draw(st.integers(1, 3)), *sizes, draw(st.sampled_from((1, 2, 3, 5, 16, 17))))
    window = {
        "kernel": kernel,
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "ceil_mode": draw(st.booleans()),
    }
    return shape, window, draw(st.sampled_from(("channels_last", "channels_first", *LAYOUTS[rank])))


@st.composite
def giant_axes(draw):
    """One axis of few cells under a window of any reach, with few outputs."""
    n, dilation = draw(st.integers(1, 6)), draw(st.sampled_from((1, 2, 3, 7)))
    kernel = draw(st.sampled_from((1, 2, 5, 9, 40, 700, 2**15 + 1, 2**20)))
    extent = dilation * (kernel - 1) + 1
    stride = draw(st.integers(1, extent))
    needed = max(0, (draw(st.integers(1, 5)) - 1) * stride + extent - n)
    hypothesis.assume(needed <= 2 * (extent - 1))
    before = draw(st.integers(max(0, needed - extent + 1), min(extent - 1, needed)))
    after = needed - before
    return n, kernel, stride, (before, after), dilation


MODES = st.sampled_from([(mode, {}) for mode in pooling.MODES] + [("lp", {"p": 3.0}), ("lp", {"p": np.inf})])
COUNTS = st.fixed_dictionaries(
    {"count_include_pad": st.booleans(), "divisor_override": st.sampled_from((None, None, None, 3, -7))}
)
KINDS = st.sampled_from(("real", "special", "subnormal"))


@pytest.mark.parametrize("backend", BACKENDS)
@hypothesis.given(problems(), MODES, COUNTS, st.sampled_from(list(DTYPES)), KINDS, st.integers(0, 99))
def test_pool(backend, problem, row, counts, dtype, kind, seed):
    shape, window, layout = problem
    mode, options = row
    hypothesis.assume(not refused(backend, mode, dtype))
    options = options | window | (counts if mode == "avg" else {}) | ({"return_indices": True} if mode in ("max", "min") else {})
    x = data(shape, dtype, seed, kind)
    want = oracle.pool(x, mode, **options)
    got = pooling.pool(relayout(x, layout), mode, **options, layout=layout, backend=backend)
    back = tuple(relayout(part, "channels_last", layout) for part in (got if isinstance(got, tuple) else (got,)))
    bound = forward_bound(want, mode, options.get("p", 2.0), window["kernel"], backend)
    check(back, want, (shape, mode, options, layout), bound)


@pytest.mark.parametrize("backend", BACKENDS)
@hypothesis.given(problems(), MODES, COUNTS, st.sampled_from(FLOATS), KINDS, st.integers(0, 99))
def test_pool_backward(backend, problem, row, counts, dtype, kind, seed):
    shape, window, layout = problem
    mode, options = row
    hypothesis.assume(not refused(backend, mode, dtype))
    options = options | window | (counts if mode == "avg" else {})
    x = data(shape, dtype, seed, kind)
    g = data(oracle.output_shape(shape, **window), dtype, seed + 100, "real")
    want = oracle.pool_backward(g, x, mode, **options)
    got = pooling.pool_backward(relayout(g, layout), relayout(x, layout), mode, **options, layout=layout, backend=backend)
    oracles = (oracle.pool, oracle.pool_backward)
    bound = backward_bound(want, g, x, mode, options.get("p", 2.0), oracles, backend=backend, **window)
    check(relayout(got, "channels_last", layout), want, (shape, mode, options, layout), bound)


@pytest.mark.parametrize("backend", BACKENDS)
@hypothesis.given(st.lists(giant_axes(), min_size=1, max_size=3), st.sampled_from(("max", "sum", "avg")), st.integers(0, 99))
def test_giant_windows(backend, axes, mode, seed):
    sizes, kernel, stride, padding, dilation = zip(*axes, strict=True)
    window = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    x = data((1, *sizes, 2), "float32", seed)
    want = oracle.pool(x, mode, **window)
    check(pooling.pool(x, mode, **window, backend=backend), want, (sizes, window))
    g = data(want.shape, "float32", seed + 100)
    want = oracle.pool_backward(g, x, mode, **window)
    check(pooling.pool_backward(g, x, mode, **window, backend=backend), want, (sizes, window, "gradient"))


@pytest.mark.parametrize("backend", BACKENDS)
@hypothesis.given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 60)), min_size=1, max_size=3),
    MODES,
    st.sampled_from(FLOATS),
    st.integers(0, 99),
)
def test_adaptive_pool(backend, axes, row, dtype, seed):
    mode, options = row
    hypothesis.assume(not refused(backend, mode, dtype))
    sizes, outs = (tuple(column) for column in zip(*((n // len(axes) + 1, out // len(axes) + 1) for n, out in axes), strict=True))
    x = data((2, *sizes, 3), dtype, seed)
    want = oracle.adaptive_pool(x, mode, outs, **options)
    bound = forward_bound(want, mode, options.get("p", 2.0), sizes, backend)
    check(pooling.adaptive_pool(x, mode, outs, **options, backend=backend), want, (sizes, outs, mode), bound)
    g = data(want.shape, dtype, seed + 100)
    want = oracle.adaptive_pool_backward(g, x, mode, outs, **options)
    got = pooling.adaptive_pool_backward(g, x, mode, outs, **options, backend=backend)
    oracles = (oracle.adaptive_pool, oracle.adaptive_pool_backward)
    bound = backward_bound(want, g, x, mode, options.get("p", 2.0), oracles, outs, backend=backend)
    check(got, want, (sizes, outs, mode), bound)


@pytest.mark.parametrize("first", range(0, 3000, 300))
def test_whole_calls(first):
    """Calls that are larger than the other tests', in several ways each; `python tests/fuzz.py` draws more of them."""
    for seed in range(first, first + 300):
        fuzz.run(fuzz.drawn(seed), "cpu")
