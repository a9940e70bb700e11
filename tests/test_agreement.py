"""Every call agrees with the oracle over the named cases x modes x element types x layouts."""

from __future__ import annotations

import numpy as np
import pytest
from agreement import BACKENDS, FLOATS, backward_bound, check, forward_bound, label, layouts, modes

import pooling
from pooling._dtypes import DTYPES, numpy_dtype
from pooling.testing import ADAPTIVE_CASES, CASES, UNPOOL_CASES, data, oracle, relayout

pytestmark = pytest.mark.parametrize("backend", BACKENDS)
KINDS = ("real", "special")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("row", modes(), ids=label)
def test_pool(case, row, backend):
    mode, extra = row
    indexed = mode in ("max", "min")
    for dtype in DTYPES:
        for kind in KINDS:
            x = data(case.x_shape, dtype, 1, kind)
            arguments = case.arguments(mode) | extra | ({"return_indices": True} if indexed else {})
            want = oracle.pool(x, mode, **arguments)
            bound = None if indexed else forward_bound(want, mode, extra.get("p", 2), case.kernel)
            for layout in layouts(x):
                got = pooling.pool(relayout(x, layout), mode, **arguments, layout=layout, backend=backend)
                got = (
                    tuple(relayout(part, "channels_last", layout) for part in got)
                    if indexed
                    else relayout(got, "channels_last", layout)
                )
                check(got, want, (dtype, kind, layout), bound)
            if indexed:
                check(pooling.pool(x, mode, **case.arguments(mode), backend=backend), want[0], (dtype, kind))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("row", modes(), ids=label)
def test_pool_backward(case, row, backend):
    mode, extra = row
    arguments = case.arguments(mode) | extra
    for dtype in FLOATS:
        for kind in KINDS:
            x = data(case.x_shape, dtype, 1, kind)
            g = data(oracle.output_shape(x.shape, **case.geometry), dtype, 2, "real")
            want = oracle.pool_backward(g, x, mode, **arguments)
            bound = backward_bound(
                want, g, x, mode, extra.get("p", 2), (oracle.pool, oracle.pool_backward), **case.arguments(mode)
            )
            for layout in layouts(x):
                got = pooling.pool_backward(
                    relayout(g, layout), relayout(x, layout), mode, **arguments, layout=layout, backend=backend
                )
                check(relayout(got, "channels_last", layout), want, (dtype, kind, layout), bound)
            if mode in ("max", "min"):
                _, indices = pooling.pool(x, mode, **arguments, return_indices=True, backend=backend)
                given = pooling.pool_backward(g, x, mode, **arguments, indices=indices.astype(np.int32), backend=backend)
                check(given, want, (dtype, kind, "indices"))


@pytest.mark.parametrize("case", ADAPTIVE_CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("row", modes(), ids=label)
def test_adaptive_pool(case, row, backend):
    mode, extra = row
    indexed = mode in ("max", "min")
    for dtype in DTYPES:
        for kind in KINDS:
            x = data(case.x_shape, dtype, 1, kind)
            arguments = extra | ({"return_indices": True} if indexed else {})
            want = oracle.adaptive_pool(x, mode, case.output_size, **arguments)
            bound = None if indexed else forward_bound(want, mode, extra.get("p", 2), x.shape[1:-1])
            for layout in layouts(x):
                got = pooling.adaptive_pool(
                    relayout(x, layout), mode, case.output_size, **arguments, layout=layout, backend=backend
                )
                got = (
                    tuple(relayout(part, "channels_last", layout) for part in got)
                    if indexed
                    else relayout(got, "channels_last", layout)
                )
                check(got, want, (dtype, kind, layout), bound)
            if DTYPES[dtype].kind == "f":
                g = data(oracle.adaptive_pool(x, "sum", case.output_size).shape, dtype, 2, "real")
                want = oracle.adaptive_pool_backward(g, x, mode, case.output_size, **extra)
                bound = backward_bound(
                    want,
                    g,
                    x,
                    mode,
                    extra.get("p", 2),
                    (oracle.adaptive_pool, oracle.adaptive_pool_backward),
                    case.output_size,
                )
                for layout in layouts(x):
                    arrays = relayout(g, layout), relayout(x, layout)
                    got = pooling.adaptive_pool_backward(*arrays, mode, case.output_size, **extra, layout=layout, backend=backend)
                    check(relayout(got, "channels_last", layout), want, (dtype, kind, layout, "gradient"), bound)


@pytest.mark.parametrize("shape", [(2, 9, 3), (2, 5, 7, 3), (1, 2, 3, 4, 1)], ids=str)
@pytest.mark.parametrize("row", modes(), ids=label)
def test_global_pool(shape, row, backend):
    mode, extra = row
    for dtype in DTYPES:
        for keepdims in (True, False):
            x = data(shape, dtype, 1, "special")
            want = oracle.global_pool(x, mode, keepdims=keepdims, **extra)
            got = pooling.global_pool(x, mode, keepdims=keepdims, **extra, backend=backend)
            check(got, want, (dtype, keepdims), forward_bound(want, mode, extra.get("p", 2), shape[1:-1]))


@pytest.mark.parametrize("case", UNPOOL_CASES, ids=lambda case: case.name)
def test_max_unpool(case, backend):
    indices = case.indices(3)
    for dtype in DTYPES:
        x = data(case.x_shape, dtype, 1, "special")
        want = oracle.max_unpool(x, indices, **case.arguments)
        check(pooling.max_unpool(x, indices, **case.arguments, backend=backend), want, dtype)
        if case.output_size is None or len(case.output_size) < x.ndim:
            for layout in layouts(x):
                arrays = relayout(x, layout), relayout(indices, layout).astype("int32")
                got = pooling.max_unpool(*arrays, **case.arguments, layout=layout, backend=backend)
                check(relayout(got, "channels_last", layout), want, (dtype, layout))


@pytest.mark.parametrize("mode", pooling.MODES)
@pytest.mark.parametrize("result", [name for name in DTYPES if name != "bool"])
def test_result_types(mode, result, backend):
    asked = numpy_dtype(result)
    for dtype in DTYPES:
        for kind in ("real", "special", "subnormal"):
            x = data((2, 6, 7, 3), dtype, 4, kind)
            want = oracle.pool(x, mode, 3, 2, 1, dtype=asked)
            check(
                pooling.pool(x, mode, 3, 2, 1, dtype=asked, backend=backend),
                want,
                (dtype, kind),
                _conversion_bound(want, mode),
            )


# Halfway between two 16-bit floats, and a little to either side: what is lost in between decides the rounding.
TIES = {
    "int64": [sign * (2**62 + odd * 2**54 + near) for sign in (1, -1) for odd in (1, 3) for near in (-1, 0, 1)],
    "uint64": [2**63 + odd * 2**55 + near for odd in (1, 3) for near in (-1, 0, 1)],
    "float64": [sign * (1 + odd * 2.0**-place + near * 2.0**-50) for sign in (1, -1) for odd in (1, 3) for place in (8, 11, 24)
                for near in (-1, 0, 1)],
}  # fmt: skip


@pytest.mark.parametrize("result", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("dtype", TIES)
def test_conversions_round_once(dtype, result, backend):
    x = np.array(TIES[dtype], dtype)
    want = oracle.pool(x, "max", 1, layout="L", dtype=numpy_dtype(result))
    check(pooling.pool(x, "max", 1, layout="L", dtype=numpy_dtype(result), backend=backend), want, x)
    assert len({float(value) for value in want if abs(value) < np.inf}) != 1  # neighbours of a tie go both ways


def _conversion_bound(want, mode):
    if mode != "lp":
        return None
    if want.dtype.kind in "iu":  # norms in float64 within its bound, and then at most one apart where they round apart
        return forward_bound(want.astype(np.float64), mode, 2.0, 3) + 1
    return forward_bound(want, mode, 2.0, 3)
