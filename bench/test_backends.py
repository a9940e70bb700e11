"""Every backend on the named problems, beside a memcpy of the same bytes and beside NumPy's own formulations.

    python -m pytest bench --benchmark-enable                          times; --benchmark-json=FILE keeps them
    python -m pytest bench --benchmark-enable -k "stem and forward"    one group

Groups are problems: the table gives each row's time over that of the fastest, which on large arrays is the memcpy. A
rival is timed only if its answer is ours. Without --benchmark-enable everything runs once on small shapes, as a test.
No time is asserted.
"""

from __future__ import annotations

import subprocess
import sys
from itertools import product
from statistics import median

import numpy as np
import pytest
from problems import LAYOUTS, PROBLEMS, as_layout
from rivals import NUMPY, memcpy

import pooling
from pooling.testing import agree

# On NumPy arrays: those of MLX would be converted (test_mlx.py has them on their own).
BACKENDS = [name for name, reason in pooling.backends().items() if reason is None and not name.startswith("mlx")]
DTYPES = ("uint8", "int32", "float16", "bfloat16", "float32", "float64")
ON_PROBLEMS = pytest.mark.parametrize("name", PROBLEMS)
ON_BACKENDS = pytest.mark.parametrize("backend", BACKENDS)


@pytest.fixture
def problem(benchmark, name):
    """The problem of this name: as it is where it is timed, small where it is only run."""
    return PROBLEMS[name] if benchmark.enabled else PROBLEMS[name].small()


@ON_PROBLEMS
def test_forward_memcpy(benchmark, problem, name):
    benchmark.group = f"{name} forward"
    benchmark(memcpy(problem.must_move()))


@ON_PROBLEMS
@ON_BACKENDS
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("way", ["plain", "out"])
def test_forward(benchmark, problem, name, backend, layout, way):
    """As called, and into an array that exists: a new one costs page faults."""
    benchmark.group = f"{name} forward"
    x, options = problem.cells(layout), problem.arguments | {"layout": layout, "backend": backend}
    out = {"out": pooling.pool(x, **options)} if way == "out" else {}
    y = benchmark(pooling.pool, x, **options, **out)
    assert as_layout(np.empty(problem.result_shape), layout).shape == y.shape


@pytest.mark.parametrize("name, rival", [(n, r) for n, r in product(PROBLEMS, NUMPY) if NUMPY[r](PROBLEMS[n])])
def test_forward_rival(benchmark, problem, name, rival):
    benchmark.group = f"{name} forward"
    run, x = NUMPY[rival](problem), problem.cells()
    assert agree(run(x), pooling.pool(x, **problem.arguments, layout="channels_first"))
    benchmark.pedantic(run, [x], rounds=5)


@ON_PROBLEMS
@ON_BACKENDS
@pytest.mark.parametrize("layout", LAYOUTS)
def test_backward(benchmark, problem, name, backend, layout):
    """The gradient; of max, with the indices of the forward call."""
    benchmark.group = f"{name} backward"
    x, options = problem.cells(layout), problem.arguments | {"layout": layout, "backend": backend}
    extra = {}
    if problem.mode == "max":
        y, extra["indices"] = pooling.pool(x, **options, return_indices=True)
    else:
        y = pooling.pool(x, **options)
    assert benchmark(pooling.pool_backward, y, x, **options, **extra).shape == x.shape


@ON_BACKENDS
@pytest.mark.parametrize("name", ["stem", "inception"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(benchmark, problem, name, backend, layout, dtype):
    benchmark.group = f"{name} {layout} by dtype"
    benchmark(pooling.pool, problem.cells(layout, dtype), **problem.arguments, layout=layout, backend=backend)


@ON_BACKENDS
@pytest.mark.parametrize("name", ["stem"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mode", [*pooling.MODES, "indices"])
def test_modes(benchmark, problem, name, backend, layout, mode):
    benchmark.group = f"{name} {layout} by mode"
    extra = {"mode": "max", "return_indices": True} if mode == "indices" else {"mode": mode}
    benchmark(pooling.pool, problem.cells(layout), **problem.window, **extra, layout=layout, backend=backend)


@ON_BACKENDS
@pytest.mark.parametrize("name", ["stem", "dilate"])
@pytest.mark.parametrize("threads", sorted({1, pooling.get_num_threads()}))
def test_threads(benchmark, problem, name, backend, threads):
    benchmark.group = f"{name} by threads"
    before = pooling.get_num_threads()
    pooling.set_num_threads(threads)
    try:
        benchmark(pooling.pool, problem.cells(), **problem.arguments, layout="channels_first", backend=backend)
    finally:
        pooling.set_num_threads(before)


def test_import(benchmark, capsys):
    """What `import pooling` costs after `import numpy`, each time in a fresh interpreter; the goal is 60 ms."""
    benchmark.group = "import"
    program = "import time, numpy; a = time.perf_counter(); import pooling; print(1000 * (time.perf_counter() - a))"
    milliseconds = []

    def run():
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        milliseconds.append(float(done.stdout))

    benchmark.pedantic(run, rounds=10 if benchmark.enabled else 1)
    benchmark.extra_info["beyond numpy, ms"] = median(milliseconds)
    if benchmark.enabled:
        with capsys.disabled():
            print(f"\nimport pooling, beyond numpy: {median(milliseconds):.1f} ms (goal: 60)")
