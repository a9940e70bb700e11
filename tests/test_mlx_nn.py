"""pooling.mlx_nn: mlx.nn's layers where mlx.nn has them, pooling.pool's keywords beyond, and modules in every respect.

mlx.nn is the reference, cell for cell, wherever both must give the same floats: maxima, and averages of small integers by
powers of two. Every place where it is not has a test that says so. MLX must be installed: its absence is a failure.
"""

from __future__ import annotations

import copy
import doctest
import inspect
import pickle
import re
import subprocess
import sys

import mlx.core as mx
import mlx.nn
import mlx.optimizers
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_map

import pooling
from pooling import mlx_nn
from pooling.testing import lp_bound, within

RANKS = (1, 2, 3)
SIZES = (5, 6, 8)
EPS = 2.0**-24  # one rounding in float32, relative

WINDOW = "kernel_size, stride=None, padding=0"
SLIDING = f"{WINDOW}, *, dilation=1, ceil_mode=False"
FAMILIES = {
    "MaxPool": f"{SLIDING}, return_indices=False",
    "MinPool": f"{SLIDING}, return_indices=False",
    "AvgPool": f"{SLIDING}, count_include_pad=True, divisor_override=None",
    "LPPool": f"norm_type, {SLIDING}",
    "AdaptiveMaxPool": "output_size, *, return_indices=False",
    "AdaptiveAvgPool": "output_size",
    "MaxUnpool": WINDOW,
}
SIGNATURES = {
    **{f"{family}{rank}d": signature for family, signature in FAMILIES.items() for rank in RANKS},
    "GlobalPool": "mode, *, keepdims=True, norm_type=2.0, return_indices=False",
}
THEIRS = [name for name in dir(mlx.nn) if re.search(r"Pool\dd$", name)]

# kernel, stride, padding; the last two repeat their last entry or number on every axis of the rank
WINDOWS = (
    (2, None, 0),
    (2, 1, 1),
    (2, 3, 0),
    (3, None, 1),
    (3, 2, 1),
    (4, 2, 0),
    (1, 2, 0),
    ((1, 3, 2), None, 0),
    ([2, 1, 4], [1, 2, 3], [1, 0, 2]),
    ((2, 2, 2), (2, 1, 2), 1),
)
TYPES = ("float32", "float16", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool_")
WRONG_PADDING = ("int8", "int16", "uint64", "bool_")  # mlx.nn's -inf, cast to these


def window(arguments, rank):
    """The arguments as a layer of this rank takes them."""
    return tuple(type(value)(value[:rank]) if isinstance(value, (tuple, list)) else value for value in arguments)


def distinct(rank, seed=0, batched=True):
    """No two cells of a plane alike: a permutation."""
    shape = (*((2,) if batched else ()), *SIZES[-rank:], 3)
    count = int(np.prod(shape))
    return mx.array(np.random.default_rng(seed).permutation(count).reshape(shape).astype(np.float32) - count // 2)


def small(rank, kind="float32", seed=1):
    """Small integers, with ties."""
    low = 0 if kind[0] == "u" else -9
    return mx.array(np.random.default_rng(seed).integers(low, 10, (2, *SIZES[-rank:], 3))).astype(getattr(mx, kind))


def same(ours, theirs):
    """Whether two arrays, or pairs of arrays, are equal in type, shape and every cell; NaN equals NaN."""
    if isinstance(theirs, (tuple, list)):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    alike = isinstance(ours, mx.array) and (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    return alike and mx.array_equal(ours, theirs, equal_nan=mx.issubdtype(ours.dtype, mx.floating)).item()


def pair(name, *arguments, **more):
    """The layer of that name, ours and mlx.nn's."""
    return getattr(mlx_nn, name)(*arguments, **more), getattr(mlx.nn, name)(*arguments, **more)


def gradient(layer, x, g):
    return mx.grad(lambda x: (layer(x) * g).sum())(x)


def bare(parameters):
    return str(inspect.Signature([p.replace(annotation=inspect.Parameter.empty) for p in parameters]))


# ---- names and signatures ------------------------------------------------------------------------------------


def test_every_name_is_offered_with_its_signature():
    assert sorted(mlx_nn.__all__) == sorted(SIGNATURES)
    for name, expected in SIGNATURES.items():
        layer = getattr(mlx_nn, name)
        assert issubclass(layer, mlx.nn.Module)
        assert bare(inspect.signature(layer).parameters.values()) == f"({expected})", name
        call = "self, x, indices, output_size=None" if "Unpool" in name else "self, x"
        assert bare(inspect.signature(layer.__call__).parameters.values()) == f"({call})", name


def test_every_pooling_layer_of_mlx_nn_is_here_and_takes_its_arguments_in_its_order():
    assert len(THEIRS) >= 6
    for name in THEIRS:
        theirs = list(inspect.signature(getattr(mlx.nn, name)).parameters.values())
        ours = list(inspect.signature(getattr(mlx_nn, name)).parameters.values())
        assert [(p.name, p.kind, p.default) for p in ours[: len(theirs)]] == [(p.name, p.kind, p.default) for p in theirs], name
        assert all(p.kind is p.KEYWORD_ONLY for p in ours[len(theirs) :]), name  # room for what mlx.nn may add


@pytest.mark.parametrize("name", SIGNATURES)
def test_the_docstring_explains_every_argument_and_its_example_runs(name):
    layer = getattr(mlx_nn, name)
    assert (layer.__module__, layer.__name__, layer.__qualname__) == ("pooling.mlx_nn", name, name)
    for parameter in inspect.signature(layer).parameters:
        assert f"\n    {parameter}: " in layer.__doc__
    assert "{" not in layer.__doc__ and max(map(len, layer.__doc__.splitlines())) <= 130
    (found,) = doctest.DocTestFinder(recurse=False).find(layer, name, globs={})
    assert any(f"{name}(" in example.source for example in found.examples)
    assert doctest.DocTestRunner().run(found).failed == 0


def test_without_mlx_the_import_says_what_to_install():
    program = "import sys; sys.modules['mlx'] = sys.modules['mlx.nn'] = None; import pooling, pooling.mlx_nn"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 1
    assert re.match(r'ImportError: .*pip install "pooling\[mlx\]"', run.stderr.splitlines()[-1])


# ---- mlx.nn's values -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("arguments", WINDOWS, ids=str)
def test_maxima_are_those_of_mlx_nn(arguments, rank, kind):
    arguments = window(arguments, rank)
    if kind in WRONG_PADDING and arguments[2]:
        arguments = (*arguments[:2], 0)
    ours, theirs = pair(f"MaxPool{rank}d", *arguments)
    assert same(ours(small(rank, kind)), theirs(small(rank, kind)))


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("arguments", WINDOWS, ids=str)
def test_averages_are_those_of_mlx_nn(arguments, rank, kind):
    arguments = window(arguments, rank)
    ours, theirs = pair(f"AvgPool{rank}d", *arguments)
    x = small(rank, kind)
    volume = int(np.prod(ours.kernel_size))
    if volume & (volume - 1) == 0:  # sums of small integers, divided by a power of two
        assert same(ours(x), theirs(x))
    elif ours(x).dtype == mx.float32:  # mlx.nn rounds 1/n and the product, we the quotient: three roundings
        left, right = np.asarray(ours(x)), np.asarray(theirs(x))
        assert left.shape == right.shape and (np.abs(left - right) <= 4 * EPS * np.abs(left)).all()
    else:  # the quotient of exact sums, rounded to 16 bits once
        assert same(ours(x), ours(x.astype(mx.float32)).astype(x.dtype))


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("arguments", WINDOWS, ids=str)
def test_gradients_are_those_of_mlx_nn_where_no_cells_are_equal(arguments, rank):
    """Sums of small integers, divided by powers of two: every order of adding gives the same."""
    for mode in ("Max", "Avg"):
        ours, theirs = pair(f"{mode}Pool{rank}d", *window(arguments, rank))
        volume = int(np.prod(ours.kernel_size))
        if mode == "Max" or volume & (volume - 1) == 0:
            x = distinct(rank)
            g = mx.array(np.random.default_rng(2).integers(-9, 10, theirs(x).shape).astype(np.float32))
            assert same(gradient(ours, x, g), gradient(theirs, x, g))


@pytest.mark.parametrize("name", [name for name in THEIRS if hasattr(mlx_nn, name)])
def test_views_and_infinities_are_pooled_as_by_mlx_nn(name):
    rank = int(name[-2])
    ours, theirs = pair(name, 2, 1)
    x = distinct(rank)
    views = (x[:, ::2], x[:, ::-1], x[..., ::2], x.swapaxes(0, 1), mx.broadcast_to(x[..., :1], x.shape))
    for view in views:
        assert same(ours(view), theirs(view))
    special = mx.where(x % 7 == 0, float("nan"), mx.where(x % 5 == 0, -float("inf"), x))
    assert same(ours(special), theirs(special))


@pytest.mark.parametrize("rank", RANKS)
def test_an_empty_batch_gives_an_empty_result(rank):
    for name in (f"MaxPool{rank}d", f"AvgPool{rank}d"):
        ours, theirs = pair(name, 3, 2)
        assert same(ours(distinct(rank)[:0]), theirs(distinct(rank)[:0]))


# ---- what differs on purpose ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", RANKS)
def test_the_first_of_equal_cells_takes_the_gradient(rank):
    ours, theirs = pair(f"MaxPool{rank}d", 2)
    x, g = mx.zeros((1, *(2,) * rank, 1)), mx.array(8.0)
    assert gradient(ours, x, g).flatten().tolist() == [8.0] + [0.0] * (2**rank - 1)
    assert gradient(theirs, x, g).flatten().tolist() == [8.0 / 2**rank] * 2**rank
    assert gradient(getattr(mlx_nn, f"MinPool{rank}d")(2), x, g).flatten().tolist() == [8.0] + [0.0] * (2**rank - 1)


def test_a_window_of_minus_infinity_keeps_its_gradient_from_the_padding():
    ours, theirs = pair("MaxPool1d", 3, 3, 1)
    x, g = mx.full((1, 2, 1), -float("inf")), mx.array(6.0)
    assert gradient(ours, x, g).flatten().tolist() == [6.0, 0.0]
    assert gradient(theirs, x, g).flatten().tolist() == [2.0, 2.0]  # and 2 to the padding


@pytest.mark.parametrize("kind", WRONG_PADDING)
def test_padding_never_wins(kind):
    ours, theirs = pair("MaxPool1d", 3, 3, 1)
    x = mx.array({"i": [-5, -3], "u": [5, 3], "b": [0, 0]}[kind[0]]).astype(getattr(mx, kind)).reshape(1, 2, 1)
    assert ours(x).item() == x.max().item() != theirs(x).item()


def test_16_bit_averages_do_not_overflow():
    ours, theirs = pair("AvgPool1d", 2)
    x = mx.full((1, 2, 1), 60000.0, mx.float16)
    assert ours(x).item() == 60000.0 != theirs(x).item()
    x = mx.array([256.0, 1.0, 1.0, 2.0]).astype(mx.bfloat16).reshape(1, 4, 1)  # 257 and 259 have no bfloat16
    assert mlx_nn.AvgPool1d(4)(x).item() == 65.0


@pytest.mark.parametrize("rank", RANKS)
def test_an_input_without_a_batch_is_pooled(rank):
    x = distinct(rank)
    for layer in (
        getattr(mlx_nn, f"MaxPool{rank}d")(3, 2, 1),
        getattr(mlx_nn, f"AvgPool{rank}d")(2),
        getattr(mlx_nn, f"LPPool{rank}d")(1, 2),
        getattr(mlx_nn, f"AdaptiveMaxPool{rank}d")(3, return_indices=True),
        getattr(mlx_nn, f"AdaptiveAvgPool{rank}d")(2),
    ):
        results, single = (y if isinstance(y, tuple) else (y,) for y in (layer(x), layer(x[0])))
        assert same(single, tuple(y[0] for y in results))
    with pytest.raises(ValueError, match="spatial"):
        getattr(mlx.nn, f"MaxPool{rank}d")(2)(x[0])


# ---- pooling.pool's values -----------------------------------------------------------------------------------

# Constructor arguments by family, and the public call that they stand for; every argument appears.
CALLS = {
    "MaxPool": ("pool", "max"),
    "MinPool": ("pool", "min"),
    "AvgPool": ("pool", "avg"),
    "LPPool": ("pool", "lp"),
    "AdaptiveMaxPool": ("adaptive_pool", "max"),
    "AdaptiveAvgPool": ("adaptive_pool", "avg"),
}
PADDED = ({"padding": "same"}, {"padding": "same_lower"}, {"padding": "valid"}, {"padding": ((1, 2), (0, 1), (2, 0))})
EXTREME = [
    {"kernel_size": 3, "stride": 2, "padding": 1, "dilation": 2, "ceil_mode": True, "return_indices": True},
    {"kernel_size": (3, 2, 3), "dilation": (1, 2, 1), "ceil_mode": True},
    *({"kernel_size": 3, "stride": 2, "return_indices": True, **padded} for padded in PADDED),
]
SUMMED = [
    {"kernel_size": 3, "stride": (2, 1, 3), "padding": 1, "dilation": 2, "ceil_mode": True},
    *({"kernel_size": (3, 4, 3), "stride": 2, **padded} for padded in PADDED),
]
ARGUMENTS = {
    "MaxPool": EXTREME,
    "MinPool": EXTREME,
    "AvgPool": [
        *SUMMED,
        {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False},
        {"kernel_size": 3, "divisor_override": -5},
        {"kernel_size": np.int64(3), "stride": (), "divisor_override": 1},
    ],
    "LPPool": [{"norm_type": norm, **row} for norm, row in zip((1, 2, 3.5, float("inf"), 2), SUMMED, strict=True)],
    "AdaptiveMaxPool": [{"output_size": 3}, {"output_size": (3, None, 2), "return_indices": True}],
    "AdaptiveAvgPool": [{"output_size": 4}, {"output_size": [None, 3, 7]}],
}
LAYERS = [(family, rank, row) for family, rows in ARGUMENTS.items() for rank in RANKS for row in rows]
PUBLIC = {"kernel_size": "kernel", "norm_type": "p"}


def of_rank(arguments, rank):
    return {key: value[:rank] if isinstance(value, (tuple, list)) else value for key, value in arguments.items()}


@pytest.mark.parametrize("family, rank, arguments", LAYERS)
def test_a_layer_is_the_public_function_with_its_arguments(family, rank, arguments):
    arguments = of_rank(arguments, rank)
    function, mode = CALLS[family]
    x = small(rank)
    expected = getattr(pooling, function)(x, mode, **{PUBLIC.get(key, key): value for key, value in arguments.items()})
    layer = getattr(mlx_nn, f"{family}{rank}d")(**arguments)
    assert same(layer(x), expected)
    assert same(layer(x=x), expected)


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("mode", pooling.MODES)
def test_global_pool_is_the_public_function(mode, rank):
    x = small(rank)
    assert same(mlx_nn.GlobalPool(mode)(x), pooling.global_pool(x, mode))
    flat = mlx_nn.GlobalPool(mode, keepdims=False)(x)
    assert flat.shape == (2, 3) and same(flat, pooling.global_pool(x, mode, keepdims=False))
    if mode in ("max", "min"):
        assert same(mlx_nn.GlobalPool(mode, return_indices=True)(x), pooling.global_pool(x, mode, return_indices=True))
    if mode == "lp":
        assert same(mlx_nn.GlobalPool(mode, norm_type=1)(x), pooling.global_pool(x, mode, p=1))


@pytest.mark.parametrize("rank", RANKS)
def test_max_unpool_takes_indices_and_a_size(rank):
    x = distinct(rank)
    window = ([4, 2, 2][-rank:], [5, 3, 2][-rank:], [0, 0, 1][-rank:])
    values, indices = getattr(mlx_nn, f"MaxPool{rank}d")(*window, return_indices=True)(x)
    layer = getattr(mlx_nn, f"MaxUnpool{rank}d")(*window)
    assert layer(values, indices.astype(mx.int32) * 0).shape == (2, *(4, 5, 8)[-rank:], 3)
    for size in (x.shape, x.shape[1:-1], [n + 1 for n in x.shape[1:-1]]):
        back = layer(values, indices, output_size=size)
        assert same(back, layer(values, indices, size))
        assert same(back, pooling.max_unpool(values, indices, *window, output_size=size))
    back = layer(values, indices, x.shape)
    assert back.shape == x.shape and int((back != 0).sum()) == int((values != 0).sum())
    assert mx.all((back == x) | (back == 0)).item()
    g = mx.array(np.random.default_rng(4).integers(-9, 10, x.shape).astype(np.float32))
    found = mx.take_along_axis(g.reshape(2, -1, 3), indices.reshape(2, -1, 3), axis=1).reshape(values.shape)
    assert same(gradient(lambda values: layer(values, indices, x.shape), values, g), found)


# ---- modules -------------------------------------------------------------------------------------------------

EVERY = [
    *((f"{family}{rank}d", of_rank(row, rank)) for family, rank, row in LAYERS),
    *((f"MaxUnpool{rank}d", {"kernel_size": 2, "stride": 3, "padding": 1}) for rank in RANKS),
    ("GlobalPool", {"mode": "lp", "keepdims": False, "norm_type": 3}),
]


def call(name, layer):
    """The layer's result on some input."""
    x = small(int(name[-2]) if name[-1] == "d" else 2)
    return layer(x, mx.zeros(x.shape, mx.int32)) if "Unpool" in name else layer(x)


@pytest.mark.parametrize("name", [name for name in THEIRS if hasattr(mlx_nn, name)])
def test_the_text_is_that_of_mlx_nn(name):
    rank = int(name[-2])
    for arguments in WINDOWS:
        ours, theirs = pair(name, *window(arguments, rank))
        assert repr(ours) == str(ours) == repr(theirs)
    assert "MaxPool2d(kernel_size=(2, 2), stride=(2, 2), padding=(0, 0))" in repr(mlx.nn.Sequential(mlx_nn.MaxPool2d(2)))


@pytest.mark.parametrize(
    "layer, text",
    [
        (
            mlx_nn.MaxPool1d(3, 2, ((0, 1),), dilation=3, ceil_mode=True, return_indices=True),
            "MaxPool1d(kernel_size=(3,), stride=(2,), padding=((0, 1),), dilation=(3,), ceil_mode=True, return_indices=True)",
        ),
        (mlx_nn.MinPool2d(3, 2, ((1, 1), (1, 2))), "MinPool2d(kernel_size=(3, 3), stride=(2, 2), padding=((1, 1), (1, 2)))"),
        (mlx_nn.MinPool1d(2, padding="same"), "MinPool1d(kernel_size=(2,), stride=(2,), padding='same')"),
        (mlx_nn.MaxPool2d(2, padding="valid"), "MaxPool2d(kernel_size=(2, 2), stride=(2, 2), padding=(0, 0))"),
        (
            mlx_nn.AvgPool1d(2, dilation=2, count_include_pad=False, divisor_override=1),
            "AvgPool1d(kernel_size=(2,), stride=(2,), padding=(0,), dilation=(2,), count_include_pad=False, divisor_override=1)",
        ),
        (mlx_nn.LPPool1d(2, 3), "LPPool1d(norm_type=2.0, kernel_size=(3,), stride=(3,), padding=(0,))"),
        (mlx_nn.AdaptiveMaxPool2d((3, None)), "AdaptiveMaxPool2d(output_size=(3, None))"),
        (mlx_nn.AdaptiveAvgPool3d(3), "AdaptiveAvgPool3d(output_size=(3, 3, 3))"),
        (mlx_nn.MaxUnpool1d([2], 3, [1]), "MaxUnpool1d(kernel_size=(2,), stride=(3,), padding=(1,))"),
        (mlx_nn.GlobalPool("avg"), "GlobalPool(mode='avg')"),
        (mlx_nn.GlobalPool("lp", keepdims=False, norm_type=1), "GlobalPool(mode='lp', keepdims=False, norm_type=1.0)"),
    ],
    ids=lambda value: value.split("(")[0] if isinstance(value, str) else "",
)  # fmt: skip
def test_the_text_names_the_keywords_that_are_not_at_their_defaults(layer, text):
    assert repr(layer) == text


@pytest.mark.parametrize("name, arguments", EVERY)
def test_a_layer_has_no_parameters_and_keeps_its_arguments(name, arguments):
    layer = getattr(mlx_nn, name)(**arguments)
    assert layer.parameters() == layer.trainable_parameters() == layer.children() == {}
    assert [(path, type(module)) for path, module in layer.named_modules()] == [("", type(layer))]
    assert not tree_flatten(layer.parameters())
    assert layer.training and not layer.eval().training and layer.train().training
    assert repr(layer.freeze()) == repr(layer.unfreeze()) == repr(layer)
    expected = call(name, layer)
    layer.set_dtype(mx.float16)
    layer.load_weights([])
    layer.update(tree_map(mx.zeros_like, layer.parameters()))
    assert same(call(name, layer), expected)
    kept = {key: getattr(layer, key) for key in arguments}
    assert repr(type(layer)(**kept)) == repr(layer)
    rank = int(name[-2]) if name[-1] == "d" else 0
    for key in ("kernel_size", "stride", "dilation", "output_size"):
        assert len(getattr(layer, key, (0,) * rank)) == rank


@pytest.mark.parametrize("name, arguments", EVERY)
def test_layers_are_copied_and_pickled(name, arguments):
    layer = getattr(mlx_nn, name)(**arguments)
    for twin in (copy.copy(layer), copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert type(twin) is type(layer) and repr(twin) == repr(layer)
        assert vars(twin) == vars(layer) and dict(twin) == dict(layer)
        assert same(call(name, twin), call(name, layer))


def test_a_subclass_may_have_a_constructor_and_a_text_of_its_own():
    class Halved(mlx_nn.MaxPool2d):
        """Half of it."""

        def __init__(self, size):
            super().__init__(size, return_indices=True)

        def __call__(self, x):
            return super().__call__(x)[0] / 2

    x = small(2)
    assert same(Halved(3)(x), mlx.nn.MaxPool2d(3)(x) / 2)
    assert repr(Halved(3)) == "Halved(kernel_size=(3, 3), stride=(3, 3), padding=(0, 0), return_indices=True)"
    assert Halved.__doc__ == "Half of it."


def network(layers, seed=0):
    mx.random.seed(seed)
    return mlx.nn.Sequential(
        mlx.nn.Conv2d(2, 2, 3, padding=1),
        mlx.nn.ReLU(),
        layers.MaxPool2d(3, 2, 1),
        mlx.nn.Conv2d(2, 2, 3, padding=1),
        layers.AvgPool2d((1, 2)),
        layers.MaxPool2d((2, 1), [2, 1]),
        lambda x: x.flatten(1),
        mlx.nn.Linear(8, 1),
    )


def test_a_model_learns():
    x, y = mx.random.normal((8, 8, 8, 2), key=mx.random.key(1)), mx.random.normal((8, 1), key=mx.random.key(2))
    model, optimizer = network(mlx_nn), mlx.optimizers.Adam(learning_rate=0.01)
    step = mlx.nn.value_and_grad(model, lambda model, x, y: ((model(x) - y) ** 2).sum())
    losses = []
    for _ in range(30):
        value, gradients = step(model, x, y)
        optimizer.update(model, gradients)
        mx.eval(model.parameters(), optimizer.state)
        losses.append(value.item())
    assert losses[-1] < losses[0] / 10


def eager(step, state):
    return step


def compiled(step, state):
    return mx.compile(step, inputs=state, outputs=state)


@pytest.mark.parametrize("seed", range(3))
def test_a_training_step_gives_the_weights_that_it_gives_with_mlx_nn_compiled_or_not(seed):
    """With integer cells, weights of 1 and -1 and a step of 1/64 all arithmetic is exact, in any order, fused or not.

    A cell is at most 1500, after the convolutions 18 * 1500 + 1 and 18 * 27001 + 1, after the linear layer 8 * 486019 + 1,
    and the sum over the batch is below 2**23, in units of 1/2 since the average; the gradients are smaller. So large, cells
    are rarely equal, in the chosen seeds never but for the zeros of the ReLU, where no gradient passes.
    """
    draw = np.random.default_rng(seed)
    x = mx.array(draw.integers(-1500, 1501, (2, 8, 8, 2)).astype(np.float32))
    signs = lambda shape: mx.array(draw.choice([-1.0, 1.0], shape).astype(np.float32))  # noqa: E731
    y, weights = signs((2, 1)), [(key, signs(w.shape)) for key, w in tree_flatten(network(mlx_nn).parameters())]
    results = []
    for layers, transform in ((mlx.nn, eager), (mlx_nn, eager), (mlx_nn, compiled)):
        model, optimizer = network(layers), mlx.optimizers.SGD(learning_rate=2.0**-6)
        model.load_weights(weights)
        loss = mlx.nn.value_and_grad(model, lambda model, x, y: (model(x) * y).sum())

        def step(x, y, model=model, optimizer=optimizer, loss=loss):
            value, gradients = loss(model, x, y)
            optimizer.update(model, gradients)
            return value

        value = transform(step, [model.state, optimizer.state])(x, y)
        results.append([value, *(w for _, w in tree_flatten(model.parameters()))])
    theirs, ours, fused = results
    assert same(ours, theirs) and same(fused, ours)
    assert not same(ours[1:], [before for _, before in weights])


def test_weights_saved_with_mlx_nn_are_loaded(tmp_path):
    ours, theirs = network(mlx_nn, 1), network(mlx.nn, 2)
    theirs.save_weights(str(tmp_path / "weights.npz"))
    ours.load_weights(str(tmp_path / "weights.npz"))
    left, right = dict(tree_flatten(ours.parameters())), dict(tree_flatten(theirs.parameters()))
    assert left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)


@pytest.mark.parametrize("name, arguments", EVERY)
def test_every_layer_can_be_compiled(name, arguments):
    layer = getattr(mlx_nn, name)(**arguments)
    got, want = call(name, mx.compile(layer, inputs=[mlx.nn.Sequential(layer).state])), call(name, layer)
    p = getattr(layer, "norm_type", None)
    if p is None:
        assert same(got, want)
    else:  # perhaps of two implementations, each within the bound of the true value; no window has more cells than 240
        got, want = np.asarray(got), np.asarray(want)
        assert within(got, want, 3 * lp_bound(want, p, 240, working=np.float32, ulps=16))


# ---- refusals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make, error, text",
    [
        (lambda: mlx_nn.MaxPool2d(0), ValueError, "MaxPool2d: kernel_size=0: "),
        (lambda: mlx_nn.MaxPool2d((2, 0)), ValueError, "MaxPool2d: kernel_size[1]=0: "),
        (lambda: mlx_nn.MaxPool2d(2.0), TypeError, "MaxPool2d: kernel_size=2.0: "),
        (lambda: mlx_nn.MaxPool2d(True), TypeError, "MaxPool2d: kernel_size=True: "),
        (lambda: mlx_nn.MaxPool2d(None), TypeError, "MaxPool2d: kernel_size=None: "),
        (lambda: mlx_nn.AvgPool1d((2, 2)), ValueError, "AvgPool1d: kernel_size=(2, 2): 2 elements"),
        (lambda: mlx_nn.AvgPool3d(2, (1, 1)), ValueError, "AvgPool3d: stride=(1, 1): 2 elements"),
        (lambda: mlx_nn.AvgPool3d(2, 0), ValueError, "AvgPool3d: stride=0: "),
        (lambda: mlx_nn.MaxPool1d(2, 2, -1), ValueError, "MaxPool1d: padding=-1: "),
        (lambda: mlx_nn.MaxPool1d(2, 2, 2), ValueError, "MaxPool1d: padding=2: "),
        (lambda: mlx_nn.MaxPool1d(2, 2, "full"), ValueError, "MaxPool1d: padding='full': "),
        (lambda: mlx_nn.MaxPool1d(2, dilation=0), ValueError, "MaxPool1d: dilation=0: "),
        (lambda: mlx_nn.MinPool1d(2, ceil_mode=1), TypeError, "MinPool1d: ceil_mode=1: "),
        (lambda: mlx_nn.MinPool1d(2, return_indices=None), TypeError, "MinPool1d: return_indices=None: "),
        (lambda: mlx_nn.AvgPool2d(2, count_include_pad=0), TypeError, "AvgPool2d: count_include_pad=0: "),
        (lambda: mlx_nn.AvgPool2d(2, divisor_override=0), ValueError, "AvgPool2d: divisor_override=0: "),
        (lambda: mlx_nn.AvgPool2d(2, divisor_override=1.5), TypeError, "AvgPool2d: divisor_override=1.5: "),
        (lambda: mlx_nn.LPPool2d(0, 2), ValueError, "LPPool2d: norm_type=0: "),
        (lambda: mlx_nn.LPPool2d("2", 2), TypeError, "LPPool2d: norm_type='2': "),
        (lambda: mlx_nn.LPPool2d(2, 2, 2, True), TypeError, "LPPool2d: padding=True: "),  # ceil_mode, in torch
        (lambda: mlx_nn.AdaptiveMaxPool2d(None), TypeError, "AdaptiveMaxPool2d: output_size=None: "),
        (lambda: mlx_nn.AdaptiveMaxPool2d(-1), ValueError, "AdaptiveMaxPool2d: output_size=-1: "),
        (lambda: mlx_nn.AdaptiveMaxPool2d(2, return_indices=1), TypeError, "AdaptiveMaxPool2d: return_indices=1: "),
        (lambda: mlx_nn.AdaptiveAvgPool1d((2, 2)), ValueError, "AdaptiveAvgPool1d: output_size=(2, 2): 2 elements"),
        (lambda: mlx_nn.MaxUnpool1d(0), ValueError, "MaxUnpool1d: kernel_size=0: "),
        (lambda: mlx_nn.GlobalPool("mean"), ValueError, "GlobalPool: mode='mean': "),
        (lambda: mlx_nn.GlobalPool("avg", keepdims=0), TypeError, "GlobalPool: keepdims=0: "),
        (lambda: mlx_nn.GlobalPool("lp", norm_type=-1), ValueError, "GlobalPool: norm_type=-1: "),
        (lambda: mlx_nn.GlobalPool("max", return_indices=1), TypeError, "GlobalPool: return_indices=1: "),
    ],
)
def test_wrong_arguments_are_refused_when_the_layer_is_made(make, error, text):
    with pytest.raises(error, match=f"^{re.escape(text)}"):
        make()


PAIR = (mx.ones((1, 2, 1)), mx.zeros((1, 2, 1), mx.int64))


@pytest.mark.parametrize(
    "layer, arrays, error, text",
    [
        (mlx_nn.MaxPool2d(2), [mx.ones((4, 4))], ValueError, "MaxPool2d: kernel_size=(2, 2)"),
        (mlx_nn.MaxPool1d(2), [mx.ones((1, 4, 4, 1))], ValueError, "MaxPool1d: kernel_size=(2,)"),
        (mlx_nn.MaxPool1d(9), [mx.ones((1, 4, 1))], ValueError, "MaxPool1d: kernel_size=9: "),
        (mlx_nn.AvgPool1d(2), [[1.0, 2.0]], TypeError, "AvgPool1d: x is list"),
        (mlx_nn.LPPool1d(2, 2), [mx.ones((1, 4, 1), mx.complex64)], TypeError, "LPPool1d: "),
        (mlx_nn.AdaptiveAvgPool2d(2), [mx.ones((4, 1))], ValueError, "AdaptiveAvgPool2d: output_size=(2, 2)"),
        (mlx_nn.AdaptiveMaxPool1d(2), [mx.ones((1, 4, 4, 1))], ValueError, "AdaptiveMaxPool1d: output_size=(2,)"),
        (mlx_nn.GlobalPool("avg"), [mx.ones((4, 1))], ValueError, "GlobalPool: "),
        (mlx_nn.GlobalPool("avg", norm_type=3), [mx.ones((1, 4, 1))], ValueError, "GlobalPool: norm_type=3.0: "),
        (mlx_nn.GlobalPool("lp", return_indices=True), [mx.ones((1, 4, 1))], ValueError, "GlobalPool: return_indices=True: "),
        (mlx_nn.MaxUnpool1d(2), [mx.ones((1, 2, 1)), mx.full((1, 2, 1), 4)], IndexError, "MaxUnpool1d: indices[0, 0, 0] = 4: "),
        (mlx_nn.MaxUnpool1d(2), [mx.ones((1, 2, 1)), mx.ones((1, 2, 1))], TypeError, "MaxUnpool1d: indices have cells"),
        (mlx_nn.MaxUnpool1d(2, padding="same"), [*PAIR], ValueError, "MaxUnpool1d: padding='same'"),
    ],
)  # fmt: skip
def test_wrong_arrays_are_refused_when_the_layer_is_called(layer, arrays, error, text):
    with pytest.raises(error, match=f"^{re.escape(text)}"):
        layer(*arrays)
