"""Larger problems, drawn: any rank, layout, type and geometry that is legal, every mode, forward and backward."""

from __future__ import annotations

import fuzz
import hypothesis
import numpy as np
import pytest
from agreement import BACKENDS, FLOATS, backward_bound, check, forward_bound, refused
from hypothesis import strategies as st
from strategies import COUNTS, giant_axes, problems

import pooling
from pooling._dtypes import DTYPES
from pooling.testing import data, oracle, relayout

MODES = st.sampled_from([(mode, {}) for mode in pooling.MODES] + [("lp", {"p": 3.0}), ("lp", {"p": np.inf})])
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
