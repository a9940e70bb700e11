"""mx.arrays on MLX's CPU device: ours beside mlx.nn's layers, forward and with the gradient, and how much memory ops take.

    python -m pytest bench/test_mlx.py --benchmark-enable -k stem       times
    python -m bench gpu                                                 on a GPU

Groups are problems and passes. Every answer is compared before it is timed. Without --benchmark-enable everything runs once
on small shapes, as a test. No time is asserted; memory is, as it can be counted.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import gpu
import mlx.core as mx
import pytest
from problems import PROBLEMS, cells
from rivals import layer

import pooling

CONTENDERS = ("mlx:native", "mlx:ops", "mlx.nn")


@pytest.fixture(autouse=True)
def cpu():
    """MLX's CPU device, which is not the default on a Mac."""
    before = mx.default_device()
    mx.set_default_device(mx.Device(mx.cpu))
    yield
    mx.set_default_device(before)


def contender(problem, part, name):
    return next(c for c in gpu.mlx_contenders(problem, part) if (c.name, c.layout) == (name, "last"))


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("part", gpu.PASSES)
@pytest.mark.parametrize("who", CONTENDERS)
def test_mlx(benchmark, name, part, who):
    benchmark.group = f"{name} {part}, mx.array on the CPU"
    problem = PROBLEMS[name] if benchmark.enabled else PROBLEMS[name].small()
    if (who, part) == ("mlx.nn", "gradient") and gpu.windows(problem) > gpu.room():
        pytest.skip(f"the windows that mlx.nn makes take {gpu.windows(problem) / 1e9:.0f} GB")
    subject, reference = contender(problem, part, who), contender(problem, part, CONTENDERS[0])
    assert gpu.fault(problem, part, subject, reference.answer(reference.call())) is None
    benchmark(lambda: mx.eval(subject.call()))


@pytest.mark.parametrize("part", gpu.PASSES)
@pytest.mark.parametrize("mode", ["max", "avg"])
def test_an_answer_that_differs_is_found(mode, part):
    problem = replace(PROBLEMS["inception"].small(), mode=mode)
    honest = contender(problem, part, "mlx:ops")
    want = honest.answer(honest.call())
    assert gpu.fault(problem, part, honest, want) is None
    for change, sentence in (
        (lambda y: mx.where(mx.arange(y.size).reshape(y.shape) == 7, y * (1 + 2**-8) + 2**-8, y), f"differs: 1 of {want.size}"),
        (lambda y: y[1:], "differs: mlx.core.float32 (2, "),
        (lambda y: y.astype(mx.float16), "differs: mlx.core.float16"),
        (lambda y: y.reshape(-1, 7, 11, 13), "fails: ValueError: "),
    ):
        wrong = replace(honest, answer=lambda result, change=change: change(honest.answer(result)))
        assert gpu.fault(problem, part, wrong, want).startswith(sentence)


def test_a_contender_that_fails_leaves_the_rest():
    problem = PROBLEMS["vgg"].small()
    honest = contender(problem, "forward", "mlx:ops")

    def fail():
        raise RuntimeError("the device is on fire")

    failing = replace(honest, call=fail)
    want = gpu.reference([failing, honest])
    assert gpu.fault(problem, "forward", honest, want) is None
    assert gpu.fault(problem, "forward", failing, want) == "fails: RuntimeError: the device is on fire"


def test_max_has_no_ties_and_avg_exact_sums():
    """What the comparison with rivals relies on: gradients that nobody splits, and sums that no order changes."""
    i = mx.arange(2**24, dtype=mx.uint32)
    assert mx.array_equal(mx.sort(cells(i, "max", lambda c: c.astype(mx.float32))), i.astype(mx.float32))
    small = cells(i[: 2**16], "avg", lambda c: c.astype(mx.float32))
    assert (small.min().item(), small.max().item()) == (0, 56) and mx.array_equal(mx.round(small / 4), small / 4)


def peak(run, x):
    """The most memory, in bytes, that was taken beside x while run(x) was computed."""
    mx.synchronize()
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    mx.eval(run(x))
    mx.synchronize()
    return mx.get_peak_memory() - before


@pytest.mark.parametrize("mode", ["max", "avg"])
def test_ops_never_make_the_windows(mode):
    """A 13 by 13 window at every cell: 169 results' memory, were the windows made.

    Forward an axis takes at most 2 * log2(13) arrays of padded cells, and as MLX runs ahead of its frees all of them may live
    at a time: 2 axes, 2 * 4 arrays, (76 / 64)**2 = 1.41 results each, and the result. The gradient walks over the windows that
    cover a cell, and holds a few arrays of cells for each of the operations under way: a quarter of the windows is far more.
    mlx.nn makes all windows, at least for the gradient.
    """
    problem = replace(PROBLEMS["spp"], mode=mode, shape=(1, 16, 64, 64))
    x = mx.random.normal(gpu.last(problem))
    mx.eval(x)
    run = gpu.ours(problem, "mlx:ops")
    assert peak(run, x) < (2 * 8 * 1.42 + 1) * x.nbytes
    assert peak(gpu.graded(run), x) < 169 / 4 * x.nbytes
    assert peak(gpu.graded(layer(problem)), x) > 169 * x.nbytes


def test_native_takes_the_result_alone():
    problem = PROBLEMS["spp"].small()
    x = mx.random.normal(gpu.last(problem))
    mx.eval(x)
    assert peak(gpu.ours(problem, "mlx:native"), x) <= x.nbytes + 2**14  # MLX rounds sizes up to pages


def test_the_command():
    """`python -m bench gpu` prints a row for every problem, mode and pass."""
    command = [sys.executable, "-m", "bench", "gpu", "--quick", "--cpu"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [row.split(" | ") for row in done.stdout.splitlines() if row.startswith("| ")]
    assert len(rows) == 1 + sum(len(gpu.modes(problem)) for problem in PROBLEMS.values()) * len(gpu.PASSES)
    assert len({len(row) for row in rows}) == 1
    assert "differs" not in done.stdout and "fails" not in done.stdout
    assert f"pooling {pooling.__version__}" in done.stdout and f"MLX {gpu.version('mlx')}" in done.stdout


def test_modes_of_twins():
    """dilate and box are one window in two modes: together they are both."""
    named = [(problem.shape, problem.kernel, mode) for problem in PROBLEMS.values() for mode in gpu.modes(problem)]
    assert len(named) == len(set(named)) == 2 * len({row[:2] for row in named})
