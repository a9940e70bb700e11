"""What MLX adds: transformations, laziness, views, the choice of an implementation, and memory that nobody copies.

The cells themselves are test_agreement.py's. RUNS are the implementations that can run here (mlx:kernel on a simulated
device where there is no GPU), and "mlx", which chooses among them. MLX must be installed: its absence is a failure.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys

import mlx.core as mx
import numpy as np
import pytest
from agreement import BACKENDS, EXPONENTS, backward_bound, check, forward_bound, label, modes, refused

import pooling
from pooling import _cpu
from pooling._dtypes import DTYPES
from pooling._mlx import _native
from pooling.testing import ADAPTIVE_CASES, CASES, AdaptiveCase, Case, agree, data, oracle

RUNS = ["mlx", *(name for name in BACKENDS if name.startswith("mlx:"))]
WINDOW = (3, 2, 1)
SHAPE, OUT = (2, 6, 7, 3), (2, 3, 4, 3)
on_every_run = pytest.mark.parametrize("run", RUNS)
in_every_mode = pytest.mark.parametrize("row", modes(), ids=label)


def cells(shape=SHAPE, seed=1, kind="small_integers"):
    """Small integers, on which all sums of all orders are exact."""
    return mx.array(data(shape, "float32", seed, kind))


def run_of(row, run, **more):
    """The call x -> pooled x of a row."""
    mode, options = row
    return lambda x: pooling.pool(x, mode, *WINDOW, **options, **more, backend=run)


def backward(row, g, x):
    """The oracle's gradient."""
    mode, options = row
    return oracle.pool_backward(np.asarray(g), np.asarray(x), mode, *WINDOW, **options)


def forward_agrees(got, x, row):
    """== the oracle's; for the p-norm within the bound for float32, which all implementations keep."""
    mode, options = row
    want = oracle.pool(np.asarray(x), mode, *WINDOW, **options)
    check(np.asarray(got), want, row, forward_bound(want, mode, options.get("p", 2.0), 3, "mlx:kernel"))


def gradient_agrees(got, g, x, row):
    """Likewise for the gradient."""
    mode, options = row
    g, x, want = np.asarray(g), np.asarray(x), backward(row, g, x)
    oracles = (oracle.pool, oracle.pool_backward)
    bound = backward_bound(want, g, x, mode, options.get("p", 2.0), oracles, *WINDOW, backend="mlx:kernel")
    check(np.asarray(got), want, row, bound)


def test_all_three_implementations_are_tested():
    assert set(RUNS) == {"mlx", "mlx:kernel", "mlx:ops", "mlx:native"}
    assert pooling.backends()["mlx"] is None


# ---- transformations -----------------------------------------------------------------------------------------


@on_every_run
@in_every_mode
def test_grad(row, run):
    pool, x, g = run_of(row, run), cells(), cells(OUT, 2)
    loss = lambda x: (pool(x) * g).sum()  # noqa: E731
    gradient_agrees(mx.grad(loss)(x), g, x, row)
    value, gradient = mx.value_and_grad(loss)(x)
    gradient_agrees(gradient, g, x, row)
    assert value == loss(x)
    gradient_agrees(mx.grad(lambda x: (mx.checkpoint(pool)(x) * g).sum())(x), g, x, row)
    (values,), (gradient,) = mx.vjp(pool, [x], [g])
    forward_agrees(values, x, row)
    gradient_agrees(gradient, g, x, row)
    if row[0] in ("max", "min"):
        values = lambda x: (run_of(row, run, return_indices=True)(x)[0] * g).sum()  # noqa: E731
        gradient_agrees(mx.grad(values)(x), g, x, row)


@on_every_run
@in_every_mode
def test_jvp_is_the_transpose_of_vjp(row, run):
    """<J t, g> = <t, J' g>: on small integers both are exact, but for lp."""
    pool, x, g, t = run_of(row, run), cells(kind="real"), cells(OUT, 2), cells(SHAPE, 3)
    _, (out,) = mx.jvp(pool, [x], [t])
    _, (back,) = mx.vjp(pool, [x], [g])
    if row[0] == "avg":  # a ninth is not exact
        g, t = g * 9, t * 9
        _, (out,) = mx.jvp(pool, [x], [t])
        _, (back,) = mx.vjp(pool, [x], [g])
    left, right = (out * g).sum().item(), (back * t).sum().item()
    assert abs(left - right) <= (0 if row[0] in ("max", "min", "sum") else 2**-16 * mx.abs(back * t).sum().item())


@on_every_run
@in_every_mode
def test_second_order(row, run):
    """The gradient of (g . J t) in t, and for lp the gradient of its gradient, by central differences in float64."""
    pool, g = run_of(row, run), cells(OUT, 2)
    if row[0] != "lp":
        x = cells()
        inner = lambda x: (mx.grad(lambda x: (pool(x) ** 2).sum())(x) * x).sum()  # noqa: E731
        y = pool(x)
        want = 4 * np.asarray(y) if row[0] in ("max", "min", "sum", "avg") else None  # x . grad = 2 y**2 where y is linear
        gradient = mx.grad(inner)(x)
        if row[0] == "avg":
            assert np.abs(np.asarray(gradient) - backward(row, mx.array(want), x)).max() < 1e-4
        else:
            assert agree(np.asarray(gradient), backward(row, mx.array(want), x))
    elif row[1]["p"] != float("inf"):
        wide = mx.float32 if run == "mlx:kernel" else mx.float64
        x, d = (mx.abs(cells(seed=seed, kind="real")).astype(wide) + 0.5 for seed in (1, 5))
        g = g.astype(wide)
        first = lambda x: (mx.grad(lambda x: (pool(x) * g).sum())(x) * d).sum()  # noqa: E731
        step, bound = (1e-2, 2e-2) if wide == mx.float32 else (1e-4, 1e-6)
        slope = ((first(x + step * d) - first(x - step * d)) / (2 * step)).item()
        got = (mx.grad(first)(x) * d).sum().item()
        assert abs(got - slope) <= bound * max(1, abs(slope))


@pytest.mark.parametrize("run", [name for name in RUNS if name != "mlx:native"])
@in_every_mode
def test_compile(row, run):
    if run == "mlx:kernel" and mx.default_device() == mx.Device(mx.cpu):
        pytest.skip("the simulated device computes when called, and has no value to read here")
    pool, x, g = run_of(row, run), cells(), cells(OUT, 2)
    forward_agrees(mx.compile(pool)(x), x, row)
    compiled = mx.compile(mx.grad(lambda x: (pool(x) * g).sum()))  # its cotangent is a constant
    for _ in range(2):
        gradient_agrees(compiled(x), g, x, row)
    gradient_agrees(mx.compile(lambda g, x: mx.vjp(pool, [x], [g])[1][0])(g, x), g, x, row)
    constant = mx.compile(lambda y: y + pool(x))
    assert agree(np.asarray(constant(mx.zeros(OUT))), np.asarray(constant(mx.zeros(OUT))))
    forward_agrees(constant(mx.zeros(OUT)), x, row)


@pytest.mark.parametrize("run", ["mlx", "mlx:ops"])
@in_every_mode
def test_vmap(row, run):
    pool, x, g = run_of(row, run), cells((4, *SHAPE)), cells((4, *OUT), 2)
    mapped = mx.vmap(pool)(x)
    moved = mx.vmap(pool, in_axes=2)(mx.moveaxis(x, 0, 2))
    gradients = mx.vmap(mx.grad(lambda x, g: (pool(x) * g).sum()))(x, g)
    around = mx.grad(lambda x: (mx.vmap(pool)(x) * g).sum())(x)
    twice = mx.vmap(mx.vmap(pool))(mx.stack([x, x]))
    for i in range(4):
        for got in (mapped, moved, twice[0], twice[1]):
            forward_agrees(got[i], x[i], row)
        for got in (gradients, around):
            gradient_agrees(got[i], g[i], x[i], row)
    if row[0] in ("max", "min"):
        values, indices = mx.vmap(run_of(row, run, return_indices=True))(x)
        for i in range(4):
            forward_agrees(values[i], x[i], row)
            assert (indices[i] == run_of(row, run, return_indices=True)(x[i])[1]).all()


def test_what_cannot_be_traced_says_so(monkeypatch):
    from pooling._mlx import _kernel

    def lazy(**_):  # a kernel that is not run, as on a GPU
        return lambda inputs, output_shapes, output_dtypes, **_: [
            mx.zeros(shape, dtype) + inputs[0].sum().astype(dtype)
            for shape, dtype in zip(output_shapes, output_dtypes, strict=True)
        ]

    monkeypatch.setattr(_kernel, "device_kernel", lambda *_, **__: lazy())
    monkeypatch.setattr(_kernel, "why_not", lambda: None)
    for run in ("mlx:native", "mlx:kernel"):
        with pytest.raises(RuntimeError, match="backend='mlx:ops'"):
            mx.vmap(lambda x, run=run: pooling.pool(x, "max", *WINDOW, backend=run))(cells((4, *SHAPE)))
    with pytest.raises(RuntimeError, match="backend='mlx:ops'"):
        mx.compile(lambda x: pooling.pool(x, "max", *WINDOW, backend="mlx:native"))(cells())


@on_every_run
def test_unpool_and_its_gradient(run):
    """max_unpool is linear in x: only the cells that were not overwritten have a gradient."""
    x = cells((2, 3, 4, 3), 1)
    indices = mx.array(data((2, 3, 4, 3), "uint8", 7).astype(np.int32) % 20 - 1)
    call = lambda x: pooling.max_unpool(x, indices, 2, backend=run)  # noqa: E731
    want = oracle.max_unpool(np.asarray(x), np.asarray(indices), 2)
    check(np.asarray(call(x)), want)
    g = cells(want.shape, 5)
    gradient = np.asarray(mx.grad(lambda x: (call(x) * g).sum())(x))
    wanted = np.zeros(x.shape, np.float32)
    for n, c in np.ndindex(2, 3):
        last = {int(i): place for place, i in np.ndenumerate(np.asarray(indices)[n, ..., c]) if i >= 0}
        for index, place in last.items():
            wanted[(n, *place, c)] = np.asarray(g)[n, ..., c].ravel()[index]
    check(gradient, wanted)


@on_every_run
def test_gradients_of_other_calls(run):
    """adaptive_pool and global_pool have gradients too, and pool_backward has one."""
    x = cells()
    for mode in pooling.MODES:
        if mode == "lp":
            continue
        got = mx.grad(lambda x, mode=mode: pooling.adaptive_pool(x, mode, (4, 5), backend=run).sum())(x)
        check(np.asarray(got), oracle.adaptive_pool_backward(np.ones((2, 4, 5, 3), np.float32), np.asarray(x), mode, (4, 5)))
        got = mx.grad(lambda x, mode=mode: pooling.global_pool(x, mode, keepdims=False, backend=run).sum())(x)
        check(np.asarray(got), oracle.adaptive_pool_backward(np.ones((2, 1, 1, 3), np.float32), np.asarray(x), mode, 1))
    g = cells(OUT, 2)
    back = lambda g: pooling.pool_backward(g, x, "max", *WINDOW, backend=run)  # noqa: E731
    check(np.asarray(mx.grad(lambda g: (back(g) * x).sum())(g)), np.asarray(pooling.pool(x, "max", *WINDOW)))


@on_every_run
def test_training_types(run):
    """Gradients of 16-bit arrays are of that type, and those of float64 where there is float64."""
    for name in ("float16", "bfloat16", "float32", "float64"):
        if refused(run, "max", name):
            continue
        x = cells().astype(getattr(mx, name))
        for mode in pooling.MODES:
            gradient = mx.grad(lambda x, mode=mode: pooling.pool(x, mode, *WINDOW, backend=run).astype(mx.float32).sum())(x)
            assert gradient.dtype == x.dtype


@pytest.mark.parametrize("transform", [mx.grad, mx.value_and_grad, mx.compile, lambda f: lambda x: mx.jvp(f, [x], [x])])
def test_no_gradient_is_lost_on_the_way_to_another_backend(transform):
    """A gradient of zeros would be wrong and silent."""
    with pytest.raises(RuntimeError, match="'mlx:native'"):
        transform(lambda x: pooling.pool(x, "max", 2, backend="cpu").sum())(cells())
    assert pooling.pool(cells(), "max", 2, backend="cpu").size


# ---- arrays of every state -----------------------------------------------------------------------------------

STATES = {
    "sliced": lambda x: mx.concatenate([x, x], axis=1)[:, : x.shape[1]],
    "strided": lambda x: mx.repeat(x, 2, axis=2)[:, :, ::2],
    "reversed": lambda x: x[:, ::-1][:, ::-1],
    "transposed": lambda x: mx.contiguous(x.transpose(3, 2, 1, 0)).transpose(3, 2, 1, 0),
    "channels first in memory": lambda x: mx.contiguous(x.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1),
    "offset": lambda x: mx.concatenate([x[:1] * 7, x])[1:],
    "broadcast": lambda x: mx.broadcast_to(x[:1, :, :, :1], x.shape),
    "lazy": lambda x: (x * 2 + 1 - 1) / 2,
}


@on_every_run
@pytest.mark.parametrize("state", STATES)
def test_states(state, run):
    x = STATES[state](cells())
    before = np.array(x)
    for row in modes():
        forward_agrees(run_of(row, run)(STATES[state](cells())), before, row)
        g = np.ones(OUT, np.float32)
        got = pooling.pool_backward(STATES["lazy"](mx.array(g)), x, row[0], *WINDOW, **row[1], backend=run)
        gradient_agrees(got, g, before, row)
    values, indices = pooling.pool(x, "max", 2, return_indices=True, backend=run)
    want = oracle.pool(before, "max", 2, return_indices=True)
    check((np.asarray(values), np.asarray(indices)), want)
    assert indices.dtype == mx.int64
    got = pooling.max_unpool(values[:, ::-1][:, ::-1], mx.array(want[1])[:, ::-1][:, ::-1], 2, output_size=(6, 7), backend=run)
    check(np.asarray(got), oracle.max_unpool(*want, 2, output_size=(6, 7)))
    assert (np.array(x) == before).all()


@on_every_run
def test_what_mlx_nn_gets_wrong(run):
    """Averages of float16 do not overflow; integers padded for max and min keep their own lowest and highest."""
    x = mx.full((1, 4, 4, 1), 60000.0, mx.float16)
    assert (pooling.pool(x, "avg", 4, backend=run) == 60000).all()
    for name in ("int8", "int16", "int64", "uint64", "uint8"):
        limits = np.iinfo(name)
        for mode, value in (("max", limits.min), ("min", limits.max)):
            x = np.full((1, 4, 4, 1), value, name)
            got = pooling.pool(mx.array(x), mode, *WINDOW, backend=run)
            assert (np.asarray(got) == value).all(), (name, mode)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int16"])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_windows_side_by_side(layout, dtype):
    """Few cells are reduced as axes of their own, with cells left over or without: the CPU's bits, in its order of adding."""
    for n, h, w, c in ((2, 16, 16, 2), (1, 17, 19, 3), (3, 48, 48, 4)):
        for kind in ("real", "special"):
            x = data((n, h, w, c) if layout == "NHWC" else (n, c, h, w), dtype, 1, kind)
            for mode in ("max", "min", "avg", "sum"):
                for kernel in (2, 4, 8, (1, 2), (16, 3), (2, 8)):
                    got, want = (pooling.pool(x, mode, kernel, layout=layout, backend=name) for name in ("mlx:ops", "cpu"))
                    assert agree(got, want), (h, kind, mode, kernel)


def test_ops_is_lazy():
    """Nothing is computed before it is asked for: not even what would fail for lack of memory."""
    x = mx.zeros((2**10, 2**10)) + mx.zeros((2**10, 1))
    before = mx.get_active_memory()
    y = pooling.pool(x, "sum", 2, layout="HW", backend="mlx:ops")
    assert mx.get_active_memory() - before < x.nbytes
    assert (y == 0).all()


# ---- which implementation runs -------------------------------------------------------------------------------


def test_each_implementation_runs_when_asked(monkeypatch):
    """`backend=` reaches the implementation that it names, and nothing else."""
    from pooling._mlx import _kernel, _ops

    modules = {"mlx:kernel": _kernel, "mlx:ops": _ops, "mlx:native": _native}
    for asked in modules:
        called = []
        for name, module in modules.items():
            plain = module.reduce
            monkeypatch.setattr(
                module, "reduce", lambda *a, plain=plain, name=name, called=called: called.append(name) or plain(*a)
            )
        for row in modes():
            run_of(row, asked)(cells())
        assert set(called) == {asked}
        monkeypatch.undo()


def _in_a_process(code: str, **variables: str) -> str:
    start = "import mlx.core as mx, pooling\nx = mx.ones((1, 4, 4, 1))\n"
    done = subprocess.run([sys.executable, "-c", start + code], env=os.environ | variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_environment_chooses():
    code = (
        "from pooling._mlx import _ops, _native\n"
        "for module in (_ops, _native):\n"
        "    def reduce(*a, plain=module.reduce, name=module.__name__): print(name); return plain(*a)\n"
        "    module.reduce = reduce\n"
        "pooling.pool(x, 'max', 2)\n"
    )
    assert _in_a_process(code, POOLING_MLX_IMPL="ops") == "pooling._mlx._ops"
    assert _in_a_process(code) == "pooling._mlx._native"
    assert _in_a_process("print(pooling.backends()['mlx'])", POOLING_MLX_IMPL="kernel") != "None"
    assert "POOLING_MLX_IMPL='gpu'" in _in_a_process("print(pooling.backends()['mlx'])", POOLING_MLX_IMPL="gpu")


def test_the_array_chooses_the_backend():
    x = cells()
    assert isinstance(pooling.pool(x, "max", 2), mx.array)
    assert isinstance(pooling.pool(x, "max", 2, backend="cpu"), mx.array)
    assert isinstance(pooling.pool(np.asarray(x), "max", 2, backend="mlx"), np.ndarray)
    with pooling.use_backend("mlx:ops"):
        assert isinstance(pooling.pool(np.asarray(x), "max", 2), np.ndarray)
    with pytest.raises(TypeError, match="one kind"):
        pooling.pool_backward(x, np.asarray(x), "max", 1)
    with pytest.raises(TypeError, match=r"out: an mx.array cannot be written to"):
        pooling.pool(x, "max", 2, out=x)


def test_a_broken_mlx_is_a_sentence():
    """Where importing MLX fails, in whatever way, NumPy arrays are pooled and backends() says what is wrong."""
    for error in ("ImportError('libmlx.so')", "OSError('no driver')", "RuntimeError('odd')"):
        code = (
            "import sys, importlib.abc\n"
            "class Broken(importlib.abc.MetaPathFinder):\n"
            "    def find_spec(self, name, *_):\n"
            f"        if name == 'mlx': raise {error}\n"
            "sys.meta_path.insert(0, Broken())\n"
            "import numpy, pooling\n"
            "assert pooling.pool(numpy.ones((1, 4, 1)), 'max', 2).shape == (1, 2, 1)\n"
            "print(*pooling.backends().values(), sep='\\n')\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        first, *others = done.stdout.splitlines()
        assert first == "None" and len(others) == 4
        assert all(error.split("'")[1] in line for line in others), others


# ---- memory --------------------------------------------------------------------------------------------------


def test_native_copies_nothing(monkeypatch):
    """The loops are given the memory of the arrays themselves: inputs as they lie, and results where MLX will find them."""
    seen = []
    plain = _cpu.reduce

    def reduce(x, *middle):
        arrays = [x, *(part for part in middle if isinstance(part, np.ndarray))]
        seen.append([array.__array_interface__["data"][0] for array in arrays])
        plain(x, *middle)

    monkeypatch.setattr(_cpu, "reduce", reduce)
    monkeypatch.setattr(_native, "SMALL", 0)  # a small result is copied
    for dtype in (mx.float32, mx.bfloat16, mx.int8):
        x = mx.random.randint(-9, 9, (2, 64, 64, 16)).astype(dtype)
        mx.eval(x)
        values, indices = pooling.pool(x, "max", *WINDOW, return_indices=True, backend="mlx:native")
        addresses = [np.asarray(a.view(mx.uint16) if a.dtype == mx.bfloat16 else a).ctypes.data for a in (x, values, indices)]
        assert seen.pop() == addresses


@pytest.mark.parametrize("dtype", DTYPES)
@in_every_mode
def test_native_writes_every_cell(monkeypatch, row, dtype):
    """Whatever MLX's memory held before: here what no result has, at every call. Equal to the CPU backend's."""
    made = []

    class Written(_native._Unwritten):
        def readinto(self, memory):
            count = super().readinto(memory)
            if self._at > len(self._header):
                memory[:] = b"\xa5" * count
                made.append(count)
            return count

    monkeypatch.setattr(_native, "_Unwritten", Written)
    monkeypatch.setattr(_native, "SMALL", 0)
    (mode, options), x = row, data((2, 6, 7, 3), dtype, 1, "real")
    calls = [lambda backend: pooling.pool(x, mode, 3, 2, 1, **options, backend=backend)]
    if DTYPES[dtype].kind == "f":
        g = data((2, 3, 4, 3), dtype, 2, "real")
        calls.append(lambda backend: pooling.pool_backward(g, x, mode, 3, 2, 1, **options, backend=backend))
    if mode in ("max", "min"):
        values, indices = pooling.pool(x, mode, 2, return_indices=True)
        calls.append(lambda backend: pooling.pool(x, mode, 2, return_indices=True, backend=backend))
        calls.append(lambda backend: pooling.max_unpool(values, indices, 2, output_size=(6, 7), backend=backend))
    for call in calls:
        count = len(made)
        check(call("mlx:native"), call("cpu"))
        assert len(made) > count


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("mode", ["max", "avg"])
def test_native_makes_no_copy_of_a_gradient(mode, dtype):
    """MLX's own count: the gradient, and for max the indices (int64), is all that is alive at the peak, but for small change."""
    x = mx.random.normal((4, 64, 64, 16)).astype(getattr(mx, dtype))
    g = mx.random.normal((4, 32, 32, 16)).astype(getattr(mx, dtype))
    mx.eval(x, g)
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    mx.eval(pooling.pool_backward(g, x, mode, 2, backend="mlx:native"))
    accumulated = x.size * 4 if dtype == "bfloat16" else 0  # float32 before it is rounded
    assert mx.get_peak_memory() - before <= x.nbytes + accumulated + 2 * g.size * 8 + 2**16


def test_memory_errors(monkeypatch):
    """More than there is: a MemoryError before any array is made, where MLX would end the process."""
    ones = mx.ones((1, 3, 3, 1))
    for call in (
        lambda: pooling.adaptive_pool(ones, "max", 2**22),
        lambda: pooling.pool(ones, "avg", 2**21, 1, 2**21 - 1),
        lambda: pooling.max_unpool(ones, mx.zeros((1, 3, 3, 1), mx.int32), 2**21, 2**22),
        lambda: pooling.pool(mx.broadcast_to(ones[:, :1, 0], (2**30, 2**20, 64)), "max", 2**20, 1, 2**19),
    ):
        with pytest.raises(MemoryError, match="shape"):
            call()
    with pytest.raises(ValueError, match=r"below 2\*\*31"):
        pooling.pool(mx.ones((1, 3, 1)), "max", 2**31 - 1, 1, 2**31 - 2)
    assert all(pooling.pool(mx.array(data(SHAPE, name, 1)), "max", 2).size for name in DTYPES if name != "bfloat16")


# ---- a GPU, as far as the choice can tell ----------------------------------------------------------------------------


def test_on_a_gpu(monkeypatch):
    """The kernel where it can, operations for what it refuses, and a warning, once, where it cannot run at all."""
    from pooling._mlx import _auto, _kernel, _ops

    called = []
    for module in (_kernel, _ops):
        plain, name = module.reduce, module.__name__.rsplit("_")[-1]
        monkeypatch.setattr(module, "reduce", lambda *a, plain=plain, name=name: called.append(name) or plain(*a))
    monkeypatch.setattr(_auto, "on_cpu", lambda: False)
    x = cells()
    for dtype, mode in (("float32", "max"), ("int64", "sum"), ("int64", "avg"), ("float64", "max")):
        pooling.pool(x.astype(getattr(mx, dtype)), mode, 2)
    assert called == ["kernel", "kernel", "ops", "ops"]
    monkeypatch.setattr(_kernel, "why_not", lambda: "it is broken")
    with pytest.warns(RuntimeWarning, match="it is broken"):
        pooling.pool(x, "max", 2)
    pooling.pool(x, "max", 2)  # a second warning would be an error
    assert called[4:] == ["ops", "ops"]


@pytest.mark.parametrize("p", EXPONENTS)
def test_operations_where_there_is_no_float64(p, monkeypatch):
    """On a GPU they take powers and sums in float32, and keep its bound; squares that leave its range included."""
    from pooling._mlx import _ops

    monkeypatch.setattr(_ops, "on_cpu", lambda: False)
    for case in CASES:
        for dtype in ("float32", "float16", "int16"):
            x = data(case.x_shape, dtype, 1, "special")
            want = oracle.pool(x, "lp", p=p, **case.geometry)
            got = pooling.pool(x, "lp", p=p, **case.geometry, backend="mlx:ops")
            check(got, want, (case.name, dtype), forward_bound(want, "lp", p, case.kernel, "mlx:kernel"))
        if p != float("inf"):  # where a norm leaves float32 its gradient is lost; the kernel alone keeps it
            x = data(case.x_shape, "float32", 1, "real")
            g = data(oracle.output_shape(x.shape, **case.geometry), "float32", 2)
            want = oracle.pool_backward(g, x, "lp", p=p, **case.geometry)
            oracles = (oracle.pool, oracle.pool_backward)
            bound = backward_bound(want, g, x, "lp", p, oracles, backend="mlx:kernel", **case.geometry)
            check(
                pooling.pool_backward(g, x, "lp", p=p, **case.geometry, backend="mlx:ops"), want, (case.name, "gradient"), bound
            )
    if p == 2:
        for scale in (1e30, 1e-30):
            x = (data((2, 9, 8, 3), "float32", 1) * np.float32(scale)).astype(np.float32)
            want = oracle.pool(x, "lp", 3, 2)
            check(pooling.pool(x, "lp", 3, 2, backend="mlx:ops"), want, scale, forward_bound(want, "lp", 2.0, 3, "mlx:kernel"))
    for mode, dtype in (("avg", "int64"), ("max", "float64"), ("lp", "float64")):
        with pytest.raises(TypeError, match="float64"):
            pooling.pool(cells().astype(getattr(mx, dtype)), mode, 2, backend="mlx:ops")


def test_rules_follow_the_device(monkeypatch):
    """What was kept from a call where there is float64 does not serve one where there is none."""
    from pooling._mlx import _ops

    seen = []
    plain = _ops.scatter
    monkeypatch.setattr(_ops, "scatter", lambda *a: seen.append(a[-1].cell) or plain(*a))
    for on_cpu in (True, False):
        monkeypatch.setattr(_ops, "on_cpu", lambda on_cpu=on_cpu: on_cpu)
        pooling.pool_backward(cells(OUT), cells(), "lp", *WINDOW, p=float("inf"), backend="mlx:ops")
    assert seen == ["float64", "float32"]


@pytest.mark.parametrize("kind", ["int64", "uint64", "int32", "int8"])
@pytest.mark.parametrize("case", [*CASES, *ADAPTIVE_CASES], ids=lambda case: case.name)
def test_a_gpu_finds_wrong_indices_itself(case, kind, monkeypatch):
    """Right indices are not taken to the host; every wrong one is, for the sentence that names it."""
    x = mx.array(data(case.x_shape, "float32", 1, "special"))
    pool, arguments = "pool", case.arguments("max") if isinstance(case, Case) else {"output_size": case.output_size}
    if isinstance(case, AdaptiveCase):
        pool = "adaptive_pool"
    y, indices = getattr(pooling, pool)(x, "max", **arguments, return_indices=True)
    indices, found, check_windows = np.array(indices), [], _cpu.check_windows

    def told(*given):
        try:
            check_windows(*given)
        except IndexError:
            found.append(True)
            raise
        found.append(False)

    def asked(chosen):
        """Whether the host was asked, and what it said."""
        found.clear()
        try:
            getattr(pooling, f"{pool}_backward")(y, x, "max", **arguments, indices=mx.array(chosen), backend="mlx:ops")
        except IndexError:
            assert found == [True]
        return list(found)

    monkeypatch.setattr(_cpu, "check_windows", told)
    plane, rng = math.prod(case.x_shape[1:-1]), np.random.default_rng(1)
    wrong = [plane, -2, plane + 5, 2**63, 2**64 - 1, 2**32, *range(min(plane, 40))]
    trials = [indices.astype(kind)]
    for number in wrong if indices.size else []:
        if np.iinfo(kind).min <= number <= np.iinfo(kind).max:
            trials.append(indices.astype(kind))
            trials[-1][np.unravel_index(rng.integers(indices.size), indices.shape)] = number
    for chosen in trials:
        right = asked(chosen) == [False]
        with monkeypatch.context() as gpu:
            gpu.setattr(_native, "on_cpu", lambda: False)
            assert asked(chosen) == ([] if right else [True])


@on_every_run
@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16"])
def test_narrow_indices(kind, run):
    """Their type need not hold the size of the plane."""
    narrow = getattr(mx, kind)
    x, indices = mx.array(data((1, 700, 2), "float32", 1)), mx.array(data((1, 70, 2), "uint8", 2) % 100).astype(narrow)
    with pytest.raises(IndexError):
        pooling.pool_backward(indices.astype(mx.float32), x, "max", 10, indices=indices, backend=run)
    x = x[:, :300]
    y, right = pooling.pool(x, "max", (300,), return_indices=True)
    right = mx.minimum(right, 100)
    want = oracle.pool_backward(*map(np.asarray, (y, x)), "max", (300,), indices=np.asarray(right))
    assert agree(np.asarray(pooling.pool_backward(y, x, "max", (300,), indices=right.astype(narrow), backend=run)), want)
    places = mx.array([3, 1, 2]).reshape(1, 3, 1)
    want = oracle.max_unpool(np.ones((1, 3, 1), "float32"), np.asarray(places), 2, output_size=(301,), stride=150)
    got = pooling.max_unpool(mx.ones((1, 3, 1)), places.astype(narrow), 2, 150, output_size=(301,), backend=run)
    assert agree(np.asarray(got), want)
