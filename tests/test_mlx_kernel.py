"""The kernel where small arrays do not lead it, and that a wrong one is found.

What it computes otherwise is test_agreement.py's. All of it runs on the simulated device of metal.py where there is no GPU.
"""

from __future__ import annotations

from itertools import product

import metal
import mlx.core as mx
import numpy as np
import pytest
from agreement import BACKENDS, backward_bound, check, forward_bound, label, modes

import pooling
from pooling._mlx import _kernel
from pooling._window import Window
from pooling.testing import ADAPTIVE_CASES, CASES, data, oracle

SIMULATED = mx.default_device() == mx.Device(mx.cpu)
ORACLES = (oracle.pool, oracle.pool_backward)


def clear():
    """Forgets what depends on the text or the costs."""
    for value in list(vars(_kernel).values()):
        getattr(value, "cache_clear", lambda: None)()


@pytest.fixture
def every_plan(monkeypatch):
    """Costs under which small windows too are pooled axis by axis, in links, in wide numbers and by sorting."""
    for name, cost in {"LAUNCH": 0, "VISIT": 0, "SORT": 0, "LANES": 1, "FULL": 1}.items():
        monkeypatch.setattr(_kernel, name, cost)
    clear()
    yield
    clear()


@pytest.mark.parametrize("row", modes(), ids=label)
def test_the_plans_of_large_windows(row, every_plan):
    """The cases, with the algorithms that otherwise only large windows get."""
    mode, options = row
    p = options.get("p", 2.0)
    for case in CASES:
        arguments = case.arguments(mode) | options
        indexed = {"return_indices": True} if mode in ("max", "min") else {}
        for kind in ("real", "special"):
            x = data(case.x_shape, "float32", 1, kind)
            want = oracle.pool(x, mode, **arguments, **indexed)
            got = pooling.pool(x, mode, **arguments, **indexed, backend="mlx:kernel")
            check(got, want, case.name, None if indexed else forward_bound(want, mode, p, case.kernel, "mlx:kernel"))
        g = data((want[0] if indexed else want).shape, "float32", 2)
        want = oracle.pool_backward(g, x, mode, **arguments)
        bound = backward_bound(want, g, x, mode, p, ORACLES, backend="mlx:kernel", **case.arguments(mode))
        check(pooling.pool_backward(g, x, mode, **arguments, backend="mlx:kernel"), want, (case.name, "gradient"), bound)
    for case in ADAPTIVE_CASES:
        x = data(case.x_shape, "float32", 1, "special")
        want = oracle.adaptive_pool(x, mode, case.output_size, **options)
        got = pooling.adaptive_pool(x, mode, case.output_size, **options, backend="mlx:kernel")
        check(got, want, case.name, forward_bound(want, mode, p, x.shape[1:-1], "mlx:kernel"))


@pytest.fixture
def several_cells(monkeypatch):
    """Threads make several cells of small arrays too."""
    monkeypatch.setattr(_kernel, "FULL", 1)
    clear()
    yield
    clear()


@pytest.mark.parametrize("shape", [(4, 15, 16, 1), (1, 15, 16, 8), (3, 15, 16, 9), (2, 15, 16, 5)], ids=str)
@pytest.mark.parametrize(
    "mode, dtype",
    [*product(["max", "min", "avg", "sum"], ["float32"]), *product(["max", "avg"], ["float16", "bfloat16"])],
)
def test_threads_of_several_cells(mode, dtype, shape, several_cells):
    """Images or channels that share a thread; windows apart, whose gradients they write themselves, and windows that overlap."""
    indexed = {"return_indices": True} if mode in ("max", "min") else {}
    for window in ((2,), (7,), ((2, 3), (3, 5)), ((15, 16),), (3, 2, 1), (5, 1, 2)):
        for kind in ("real", "special"):
            x = data(shape, dtype, 1, kind)
            want = oracle.pool(x, mode, *window, **indexed)
            check(pooling.pool(x, mode, *window, **indexed, backend="mlx:kernel"), want, window)
            g = data((want[0] if indexed else want).shape, dtype, 2)
            want = oracle.pool_backward(g, x, mode, *window)
            check(pooling.pool_backward(g, x, mode, *window, backend="mlx:kernel"), want, (window, "gradient"))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_squares_leave_float32_and_norms_do_not(scale, backend):
    x = (data((2, 9, 8, 3), "float32", 1) * np.float32(scale)).astype(np.float32)
    x[0, :4] = 0
    for kernel, stride in ((3, 2), (2, 2), ((9, 8), 1)):
        want = oracle.pool(x, "lp", kernel, stride)
        assert (want[want != 0] > 0).all() and np.isfinite(want).all() and (want > 0).any()
        check(pooling.pool(x, "lp", kernel, stride, backend=backend), want, kernel, forward_bound(want, "lp", 2.0, 9, backend))


# Each is an edit of the kernel's text, and the name of a case that shows it.
EDITS = {
    "a window is one tap short": ("if (tap >= stop)", "if (tap + 1 >= stop)"),
    "a window is one cell short": ("cells_before(start + stop, a) - cell", "cells_before(start + stop, a) - cell - 1"),
    "NaN does not win": ("(b.value != b.value) | second", "second"),
    "ties go to the last": ("second(a.value, b.value)) ? b : a", "!second(b.value, a.value)) ? b : a"),
    "blocks of taps are joined too late": ("change > 1; change >>= 1", "change > 3; change >>= 1"),
    "the divisor leaves out the padding": ("taps_before(a.padded, a,", "taps_before(a.reach, a,"),
    "the index is one off": ("found.of[part].at;", "found.of[part].at + 1;"),
    "a cell takes its neighbour's gradient": ("chosen[at] == own", "chosen[at] == own + 1"),
    "a window's gradient goes to the next cell": ("found.of[part].at == index", "found.of[part].at + 1 == index"),
    "cells behind the last window are left out": ("a.outs ? a.cells", "a.outs ? o * a.stride - a.before + a.taps"),
    "planes are mixed up": ("H.cells * W.cells * inner + lane", "H.cells * W.outs * inner + lane"),
    "dilation is forgotten": ("start + tap * a.dilation", "start + tap"),
    "padding before is forgotten": ("o * a.stride - a.before, stop", "o * a.stride, stop"),
    "the order of adding is reversed": ("if (tap != now) {", "if (false) {"),
    "the p-norm's gradient loses its sign": ("own < 0 ? -size : size", "size"),
    "it writes past the end": ("y[at] = R(result);", "y[at + 1] = R(result);"),
    "it reads before the beginning": ("V value = V(READ(x[at]));", "V value = V(READ(x[at - 1]));"),
}  # fmt: skip
SHOWING = ("pad_both_strided", "last_cells_dropped", "dilated_padded", "ceil_overhang_divisor", "kernel_7")
SHOWING += ("cube_overlapping", "large_batch")


def wrong() -> list[str]:
    """What differs from the oracle, over a few cases."""
    found = []
    for case in (case for case in CASES if case.name in SHOWING):
        x = data(case.x_shape, "float32", 1, "special")
        for mode in pooling.MODES:
            indexed = {"return_indices": True} if mode in ("max", "min") else {}
            arguments = case.arguments(mode)
            try:
                want = oracle.pool(x, mode, **arguments, **indexed)
                got = pooling.pool(x, mode, **arguments, **indexed, backend="mlx:kernel")
                check(got, want, bound=None if indexed else forward_bound(want, mode, 2.0, case.kernel, "mlx:kernel"))
                g = data((want[0] if indexed else want).shape, "float32", 2)
                want = oracle.pool_backward(g, x, mode, **arguments)
                bound = backward_bound(want, g, x, mode, 2.0, ORACLES, backend="mlx:kernel", **arguments)
                check(pooling.pool_backward(g, x, mode, **arguments, backend="mlx:kernel"), want, bound=bound)
            except (AssertionError, metal.MetalError) as error:
                found.append(f"{case.name}, {mode}: {error}")
    return found


def test_windows_apart_begin_in_the_data():
    """The kernel that writes the gradients of a window's cells goes from where it begins to where the next one does."""
    asked = 0
    for n, kernel, stride, before, after, dilation in product(range(1, 7), (1, 2, 3), range(1, 8), range(4), range(4), (1, 2)):
        for ceil_mode in (False, True):
            try:
                geometry = Window.of(kernel, stride, ((before, after),), dilation, ceil_mode, 1).on((n,))
            except ValueError:
                continue
            (axis,) = geometry.axes
            if _kernel._apart(axis) and axis.out > 1:
                asked += 1
                assert axis.stride - axis.before > 0 and (axis.out - 1) * axis.stride - axis.before < n, axis
    assert asked > 300


def test_divisors_without_a_division():
    """For the most that the kernel divides, at every multiple of some divisors where a wrong quotient would begin."""
    for d in (1, 2, 3, 5, 7, 112, 641, 2**16 - 1, 2**16, 2**16 + 1, 10**9 + 7, 2**30, 2**31 - 1):
        factor, shift = _kernel._divisor(d)
        assert -(2**31) <= factor < 2**31
        ends = {n + more for n in (0, d, 1000 * d, 2**30 // d * d, (2**31 - 1) // d * d) for more in (-1, 0, d - 1)}
        for n in (n for n in ends | {2**31 - 1} if 0 <= n < 2**31):
            assert n * (factor % 2**32) >> shift == n // d and n * (factor % 2**32) < 2**64


def test_the_kernel_as_it_is():
    assert wrong() == []


@pytest.mark.skipif(not SIMULATED, reason="a text with a fault is not given to a real device")
@pytest.mark.parametrize("edit", EDITS)
def test_a_wrong_kernel_is_found(edit, monkeypatch):
    old, new = EDITS[edit]
    assert (_kernel.FUNCTIONS + _kernel.BODY).count(old) == 1, "the text has changed: so must this edit"
    monkeypatch.setattr(_kernel, "FUNCTIONS", _kernel.FUNCTIONS.replace(old, new))
    monkeypatch.setattr(_kernel, "BODY", _kernel.BODY.replace(old, new))
    monkeypatch.setattr(_kernel, "why_not", lambda: None)  # it may fail its own probe; here the cases must find it
    clear()
    try:
        assert wrong()
    finally:
        monkeypatch.undo()
        clear()
