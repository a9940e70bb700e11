"""The names of torch.nn.functional and torch.nn against torch itself: signatures, texts and results.

Data are small integers in floats. There max, indices and unpool are equal cell for cell, and an average is
one division of an exact sum on both sides. Where the two differ on purpose (lp of negative cells or under
ceil_mode, unpool with duplicate indices) nothing is compared here.
"""

import inspect
import os
import re

import numpy as np
import pytest

from pooling import functional, nn

if os.environ.get("POOLING_REQUIRE_TORCH"):
    import torch
else:
    torch = pytest.importorskip("torch", reason="the torch extra is not installed")

import torch.nn.functional as F

RANKS = (1, 2, 3)
SIZES = (5, 6, 7)  # of D, H, W; rank 1 pools the last, rank 2 the last two
BATCHED = pytest.mark.parametrize("batched", (True, False), ids=("batched", "unbatched"))

KERNELS = (2, 3, (2, 3, 2))
STRIDES = (None, 1, (1, 2, 3))
PADDINGS = (0, 1, (1, 0, 1))  # torch allows up to half of the kernel
DILATIONS = (1, 2, (1, 2, 2))
SHARES = (1, 3, 9, (2, 3, 4), (None, 2, None))


def at_rank(value, rank):
    """The entries of a triple, one for each of D, H, W, that belong to a rank."""
    return value[-rank:] if isinstance(value, tuple) else value


def grid(**axes):
    """Every combination of the values, as dictionaries."""
    rows = [{}]
    for name, values in axes.items():
        rows = [{**row, name: value} for row in rows for value in values]
    return rows


def cells(rank, batched, low=-9, scale=1, dtype=np.float32):
    """An input of small integers times `scale`, ties among them."""
    shape = (*((3,) if batched else ()), 2, *SIZES[-rank:])
    return (scale * np.random.default_rng(rank).integers(low, 10, shape)).astype(dtype)


def both(name, x, arguments, rank):
    """The results of pooling.functional and of torch, as lists of arrays."""
    arguments = {key: at_rank(value, rank) for key, value in arguments.items()}
    ours = getattr(functional, name)(x, **arguments)
    theirs = getattr(F, name)(torch.from_numpy(x), **arguments)
    if not isinstance(theirs, tuple):
        ours, theirs = (ours,), (theirs,)
    return list(ours), [tensor.numpy() for tensor in theirs]


def assert_equal(ours, theirs):
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.dtype == other.dtype
        np.testing.assert_array_equal(mine, other, strict=True)


def bare(parameters):
    """(name, default) of parameters, without those that only pooling has."""
    return [(p.name, p.default) for p in parameters.values() if p.kind is not p.KEYWORD_ONLY]


def documented(function):
    """The signature in the first line of a docstring: all that C functions and torch's dispatchers offer."""
    (inside,) = re.match(r"\s*\w+\((.*?)\)(?: -> Tensor)?\n", function.__doc__).groups()
    scope = {}
    exec(f"def written({inside}): ...", scope)
    return inspect.signature(scope["written"])


def pools(module):
    """The public pooling names of a module; the fractional ones are random and have no counterpart."""
    names = [name for name in dir(module) if "pool" in name.lower() and not name.startswith("_")]
    return sorted(name for name in names if "fractional" not in name.lower())


def test_every_pooling_name_of_torch_is_offered():
    assert functional.__all__ == pools(F)
    assert nn.__all__ == pools(torch.nn)


@pytest.mark.parametrize("name", functional.__all__)
def test_functions_have_the_signatures_of_torch(name):
    theirs = getattr(F, name)
    dispatched = hasattr(F, f"{name}_with_indices")
    signature = documented(theirs) if dispatched or inspect.isbuiltin(theirs) else inspect.signature(theirs)
    assert bare(inspect.signature(getattr(functional, name)).parameters) == bare(signature.parameters)
    if dispatched:
        whole = inspect.signature(getattr(F, f"{name}_with_indices"))
        assert bare(inspect.signature(getattr(functional, name)).parameters) == bare(whole.parameters)


@pytest.mark.parametrize("name", nn.__all__)
def test_layers_have_the_signatures_of_torch(name):
    ours, theirs = getattr(nn, name), getattr(torch.nn, name)
    assert bare(inspect.signature(ours).parameters) == bare(inspect.signature(theirs).parameters)
    assert bare(inspect.signature(ours.forward).parameters) == bare(inspect.signature(theirs.forward).parameters)


@BATCHED
@pytest.mark.parametrize("rank", RANKS)
def test_max_pool(rank, batched):
    x = cells(rank, batched)
    for row in grid(kernel_size=KERNELS, stride=STRIDES, padding=PADDINGS, dilation=DILATIONS, ceil_mode=(False, True)):
        for name, flag in (
            (f"max_pool{rank}d", False),
            (f"max_pool{rank}d", True),
            (f"max_pool{rank}d_with_indices", False),
        ):
            assert_equal(*both(name, x, {**row, "return_indices": flag}, rank))


@BATCHED
@pytest.mark.parametrize("rank", RANKS)
def test_avg_pool(rank, batched):
    x = cells(rank, batched)
    rows = grid(
        kernel_size=KERNELS,
        stride=STRIDES,
        padding=PADDINGS,
        ceil_mode=(False, True),
        count_include_pad=(False, True),
    )
    if rank > 1:
        rows = [{**row, **more} for row in rows for more in ({}, {"divisor_override": 5}, {"divisor_override": -3})]
    for row in rows:
        assert_equal(*both(f"avg_pool{rank}d", x, row, rank))


@BATCHED
@pytest.mark.parametrize("rank", RANKS)
def test_lp_pool(rank, batched):
    x = cells(rank, batched, low=0, dtype=np.float64)
    # Let u = 2**-53, k the cells of a window, S their sum of powers, p >= 1, and pow right to 2u (one unit in
    # the last place). No term is negative, so S has a relative error of 2u (pow) + (k - 1)u (sum) + 2u (torch
    # divides and multiplies by k), which the root divides by p. The root adds 2u and, as its exponent 1 / p
    # is rounded, u * ln(S) / p: here S <= 27 * 9**3, whose ln is below 10. That is (k + 15)u at most on
    # either side; one u more covers the products of these errors.
    u = 2.0**-53
    for row in grid(norm_type=(1, 2, 3, float("inf")), kernel_size=(2, 3, (2, 3, 2)), stride=STRIDES):
        if rank == 1 and isinstance(row["kernel_size"], tuple):
            continue  # torch's lp_pool1d takes a plain int only
        (ours,), (theirs,) = both(f"lp_pool{rank}d", x, row, rank)
        k = np.prod(np.broadcast_to(at_rank(row["kernel_size"], rank), rank))
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        assert np.all(np.abs(ours - theirs) <= 2 * (k + 16) * u * theirs)


@BATCHED
@pytest.mark.parametrize("rank", RANKS)
def test_adaptive_pools(rank, batched):
    # torch divides an adaptive average once per axis. Cells are multiples of every product of window lengths
    # (divisors of 30 on D, of 6 on H, of 42 on W), so that each division is exact; the greatest sum,
    # 5 * 6 * 7 cells of 9 * 30 * 6 * 42, is below 2**24.
    x = cells(rank, batched, scale=30 * 6 * 42)
    for size in SHARES:
        if rank == 1 and isinstance(size, tuple) and None in at_rank(size, rank):
            continue  # torch takes None from rank 2 on
        assert_equal(*both(f"adaptive_avg_pool{rank}d", x, {"output_size": size}, rank))
        for name, flag in (
            (f"adaptive_max_pool{rank}d", False),
            (f"adaptive_max_pool{rank}d", True),
            (f"adaptive_max_pool{rank}d_with_indices", False),
        ):
            assert_equal(*both(name, x, {"output_size": size, "return_indices": flag}, rank))


@BATCHED
@pytest.mark.parametrize("rank", RANKS)
def test_max_unpool(rank, batched):
    x = cells(rank, batched)
    for kernel, stride, padding in (
        (3, (2, 3, 2), (0, 0, 1)),  # these windows end where the axes do
        (2, None, 0),
        (3, 2, 1),
        (3, 3, 1),
        ((2, 3, 2), (1, 2, 2), (1, 1, 1)),
    ):
        window = [at_rank(value, rank) for value in (kernel, stride, padding)]
        values, indices = getattr(functional, f"max_pool{rank}d")(x, *window, return_indices=True)
        pooled = x.shape[-rank:]
        default = (None,) if isinstance(stride, tuple) and kernel == 3 else ()
        # The first two of rank + 2 sizes are not read: a decoder may pass the shape of an image.
        for size in (*default, pooled, list(pooled), (99, 99, *pooled)):
            ours = getattr(functional, f"max_unpool{rank}d")(values, indices, *window, size)
            tensors = (torch.from_numpy(values), torch.from_numpy(indices))
            theirs = getattr(F, f"max_unpool{rank}d")(*tensors, *window, output_size=size)
            assert_equal([ours], [theirs.numpy()])


LAYERS = {
    "MaxPool": [
        {"kernel_size": 2},
        {"kernel_size": [3], "stride": (2,)},
        {
            "kernel_size": 3,
            "stride": 2,
            "padding": 1,
            "dilation": 2,
            "return_indices": True,
            "ceil_mode": True,
        },
    ],
    "AvgPool": [
        {"kernel_size": 2},
        {"kernel_size": [3], "stride": (2,)},
        {"kernel_size": 3, "stride": 1, "padding": 1, "ceil_mode": True, "count_include_pad": False},
    ],
    "LPPool": [{"norm_type": 1, "kernel_size": 2}, {"norm_type": 1.0, "kernel_size": 2, "stride": 1}],
    "AdaptiveMaxPool": [{"output_size": 3}, {"output_size": 2, "return_indices": True}],
    "AdaptiveAvgPool": [{"output_size": 1}],
    "MaxUnpool": [
        {"kernel_size": 2},
        {"kernel_size": 3, "stride": 2},
        {"kernel_size": 3, "stride": 2, "padding": 1},
    ],
}


@BATCHED
@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("family", LAYERS)
def test_layers_print_keep_and_compute_the_same(family, rank, batched):
    name = f"{family}{rank}d"
    for arguments in LAYERS[family]:
        ours, theirs = getattr(nn, name)(**arguments), getattr(torch.nn, name)(**arguments)
        assert repr(ours) == repr(theirs)
        assert ours.extra_repr() == theirs.extra_repr()
        for key, value in vars(ours).items():
            kept = getattr(theirs, key)
            assert type(value) is type(kept) and value == kept
        # Cells as in test_adaptive_pools; lp with p = 1 is a sum, which torch takes from an average of 2, 4
        # or 8 cells and so exactly.
        arrays = [cells(rank, batched, low=0, scale=30 * 6 * 42)]
        more = ()
        if family == "MaxUnpool":
            window = (ours.kernel_size, ours.stride, ours.padding)
            size = arrays[0].shape[-rank:]
            arrays = list(getattr(functional, f"max_pool{rank}d")(*arrays, *window, return_indices=True))
            more = (size,)
        results = ours(*arrays, *more), theirs(*map(torch.from_numpy, arrays), *more)
        mine, other = (list(r) if isinstance(r, tuple) else [r] for r in results)
        assert_equal(mine, [tensor.numpy() for tensor in other])


def test_every_family_of_layers_is_compared():
    assert sorted(f"{family}{rank}d" for family in LAYERS for rank in RANKS) == nn.__all__
