"""The library and its oracle, each against PyTorch where that defines the result: random geometries of every rank."""

from __future__ import annotations

import math
import os

import numpy as np
import pytest

import pooling
from pooling.testing import agree, data, oracle

if os.environ.get("POOLING_REQUIRE_TORCH"):
    import torch
else:
    torch = pytest.importorskip("torch", reason="the torch extra is not installed")

F = torch.nn.functional
RANKS = [1, 2, 3]
ROUNDS = 150  # configurations of each rank and test
FIRST = "channels_first"

pytestmark = pytest.mark.parametrize("ours", [pooling, oracle], ids=["pooling", "oracle"])


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """The arrays are tiny: waking threads costs more than the work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def name(kind, rank):
    return getattr(F, f"{kind}_pool{rank}d")


def tensor(x):
    return torch.from_numpy(np.ascontiguousarray(x))


def geometries(rank, dilations, seed):
    """Random legal arguments for torch: padding is the same on both sides and at most half of the kernel."""
    random = np.random.default_rng(seed)
    while True:
        kernel = random.integers(1, 6 - rank // 2, rank).tolist()
        dilation = random.integers(1, dilations + 1, rank).tolist()
        reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
        padding = [int(random.integers(k // 2 + 1)) for k in kernel]
        sizes = [int(random.integers(max(1, e - 2 * p), e + 7)) for e, p in zip(reach, padding, strict=True)]
        arguments = {
            "kernel": kernel,
            "stride": random.integers(1, 5, rank).tolist() if random.integers(4) else None,
            "padding": padding,
            "dilation": dilation,
            "ceil_mode": bool(random.integers(2)),
        }
        yield (int(random.integers(1, 3)), int(random.integers(1, 4)), *sizes), arguments


def renamed(arguments):
    return {"kernel_size" if key == "kernel" else key: value for key, value in arguments.items()}


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("kind", ["real", "special", "small_integers"])
def test_max(ours, rank, dtype, kind):
    """Values, indices and gradients. A window without a cell is left out: torch writes out of bounds for it."""
    compared = 0
    for seed, (shape, arguments) in zip(range(ROUNDS), geometries(rank, 3, rank), strict=False):
        x = data(shape, dtype, seed, kind)
        values, indices = ours.pool(x, "max", **arguments, layout=FIRST, return_indices=True)
        assert values.shape == ours.output_shape(shape, **arguments, layout=FIRST)
        if (indices < 0).any():
            continue
        leaf = tensor(x).requires_grad_()
        got, where = name("max", rank)(leaf, **renamed(arguments), return_indices=True)
        assert agree(values, got.detach().numpy()) and agree(indices, where.numpy())
        assert agree(values, name("max", rank)(tensor(x), **renamed(arguments)).numpy())
        if dtype != "float16":  # 16-bit gradients are accumulated in float32 here
            g = data(values.shape, dtype, seed + 1000)
            got.backward(tensor(g))
            assert agree(ours.pool_backward(g, x, "max", **arguments, layout=FIRST), leaf.grad.numpy())
        compared += 1
    assert compared > ROUNDS // 2


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_average(ours, rank, dtype):
    """Exact data: sums of small integers, and gradients that are multiples of every divisor."""
    for seed, (shape, arguments) in zip(range(ROUNDS), geometries(rank, 1, 10 + rank), strict=False):
        x = data(shape, dtype, seed, "small_integers")
        del arguments["dilation"]
        if rank == 3 and any(n < k for n, k in zip(shape[2:], arguments["kernel"], strict=True)):
            continue  # torch counts no padding here, on this rank
        extra = {"count_include_pad": seed % 2 == 0}
        if rank > 1 and seed % 5 == 0:  # torch has no divisor_override for one axis
            extra["divisor_override"] = (-3, 1, 7)[seed % 3]
        want = ours.pool(x, "avg", **arguments, **extra, layout=FIRST)
        leaf = tensor(x).requires_grad_()
        got = name("avg", rank)(leaf, **renamed(arguments), **extra)
        assert agree(want, got.detach().numpy())
        g = data(want.shape, dtype, seed + 1, "small_integers") * np.dtype(dtype).type(60 if rank == 1 else 12**rank * 7)
        got.backward(tensor(g))
        assert agree(ours.pool_backward(g, x, "avg", **arguments, **extra, layout=FIRST), leaf.grad.numpy())


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_lp_of_exact_data(ours, rank, dtype):
    """p = 1 of cells that are not negative is their sum. Overhang is left out: torch scales it up to whole windows."""
    for seed, (shape, arguments) in zip(range(ROUNDS // 3), geometries(rank, 1, 20 + rank), strict=False):
        x = np.abs(data(shape, dtype, seed, "small_integers"))
        k, s = (arguments[key] and arguments[key][0] for key in ("kernel", "stride"))  # one int: rank 1 takes no more
        if min(shape[2:]) < k:
            continue
        got = name("lp", rank)(tensor(x), 1, k, s).numpy()
        want = ours.pool(x, "lp", k, s, p=1, layout=FIRST)
        assert agree(np.rint(want), np.rint(got))  # neither is exact: torch takes averages times k, ours are scaled


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["real", "special", "small_integers"])
def test_adaptive_max(ours, rank, dtype, kind):
    random = np.random.default_rng(30 + rank)
    for seed in range(ROUNDS // 2):
        shape = (2, 3, *random.integers(1, 12 - 2 * rank, rank).tolist())
        size = [None if n > 10 and rank > 1 else int(n) for n in random.integers(1, 12, rank)]
        x = data(shape, dtype, seed, kind)
        values, indices = ours.adaptive_pool(x, "max", size, layout=FIRST, return_indices=True)
        leaf = tensor(x).requires_grad_()
        got, where = name("adaptive_max", rank)(leaf, size, return_indices=True)
        assert agree(values, got.detach().numpy()) and agree(indices, where.numpy())
        g = data(values.shape, dtype, seed + 1)
        got.backward(tensor(g))
        assert agree(ours.adaptive_pool_backward(g, x, "max", size, layout=FIRST), leaf.grad.numpy())


@pytest.mark.parametrize("rank", RANKS)
def test_adaptive_average(ours, rank):
    """torch divides once for every axis, so the data are multiples of every product of window lengths."""
    random = np.random.default_rng(40 + rank)
    for seed in range(ROUNDS // 2):
        shape = (2, 3, *random.integers(1, 12 - 2 * rank, rank).tolist())
        size = random.integers(0 if seed % 10 == 0 else 1, 12, rank).tolist()
        lengths = [{w.size for w in oracle._adaptive_windows(n, o)} for n, o in zip(shape[2:], size, strict=True)]
        multiple = math.prod(math.lcm(*axis) for axis in lengths)
        x = data(shape, "float64", seed, "small_integers") * multiple
        leaf = tensor(x).requires_grad_()
        got = name("adaptive_avg", rank)(leaf, size)
        want = ours.adaptive_pool(x, "avg", size, layout=FIRST)
        assert agree(want, got.detach().numpy())
        if 0 in size:
            continue
        g = data(want.shape, "float64", seed + 1, "small_integers") * multiple
        got.backward(tensor(g))
        assert agree(ours.adaptive_pool_backward(g, x, "avg", size, layout=FIRST), leaf.grad.numpy())


@pytest.mark.parametrize("rank", RANKS)
def test_unpool(ours, rank):
    """Distinct indices only: for duplicates torch promises nothing."""
    random = np.random.default_rng(50 + rank)
    unpool = getattr(F, f"max_unpool{rank}d")
    compared = 0
    for seed in range(ROUNDS):
        shape = (2, 3, *random.integers(1, 5, rank).tolist())
        kernel, stride = random.integers(1, 4, rank).tolist(), random.integers(1, 4, rank).tolist()
        padding = [int(random.integers(k // 2 + 1)) for k in kernel]
        rows = zip(shape[2:], kernel, stride, padding, strict=True)
        size = [(n - 1) * s - 2 * p + k for n, k, s, p in rows]
        if seed % 3:
            size = [n + int(random.integers(1 - s, s)) for n, s in zip(size, stride, strict=True)]
        count = math.prod(shape[2:])
        if min(size) < 1 or math.prod(size) < count:
            continue
        cells = np.stack([random.permutation(math.prod(size))[:count] for _ in range(6)]).reshape(shape)
        x = data(shape, "float32", seed)
        arguments = {"output_size": [size, (2, 3, *size)][seed % 2]} if seed % 3 else {}
        want = unpool(tensor(x), tensor(cells), kernel, stride, padding, **arguments).numpy()
        assert agree(ours.max_unpool(x, cells, kernel, stride, padding, layout=FIRST, **arguments), want)
        compared += 1
    assert compared > ROUNDS // 3
