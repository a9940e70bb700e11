"""pooling.nn: every layer is the function of its name with its arguments kept, and prints as torch's does."""

import copy
import doctest
import inspect
import pickle

import numpy as np
import pytest

from pooling import functional, nn

RANKS = (1, 2, 3)
SIZES = (5, 6, 7)

MAX = "kernel_size, stride=None, padding=0, dilation=1, return_indices=False, ceil_mode=False"
COUNTED = "kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True"
SIGNATURES = {
    **{f"MaxPool{rank}d": MAX for rank in RANKS},
    "AvgPool1d": COUNTED,
    "AvgPool2d": f"{COUNTED}, divisor_override=None",
    "AvgPool3d": f"{COUNTED}, divisor_override=None",
    **{f"LPPool{rank}d": "norm_type, kernel_size, stride=None, ceil_mode=False" for rank in RANKS},
    **{f"AdaptiveMaxPool{rank}d": "output_size, return_indices=False" for rank in RANKS},
    **{f"AdaptiveAvgPool{rank}d": "output_size" for rank in RANKS},
    **{f"MaxUnpool{rank}d": "kernel_size, stride=None, padding=0" for rank in RANKS},
}

# The text that torch prints.
TEXTS = [
    (nn.MaxPool2d(2), "MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)"),
    (
        nn.MaxPool1d(3, 2, 1, 2, True, True),
        "MaxPool1d(kernel_size=3, stride=2, padding=1, dilation=2, ceil_mode=True)",
    ),
    (nn.AvgPool1d(2), "AvgPool1d(kernel_size=(2,), stride=(2,), padding=(0,))"),
    (nn.AvgPool2d((2, 3), divisor_override=5), "AvgPool2d(kernel_size=(2, 3), stride=(2, 3), padding=0)"),
    (nn.AvgPool3d(3, 1, 1, True, False), "AvgPool3d(kernel_size=3, stride=1, padding=1)"),
    (nn.LPPool2d(2, 3), "LPPool2d(norm_type=2, kernel_size=3, stride=None, ceil_mode=False)"),
    (nn.LPPool1d(1.5, 3, 2, True), "LPPool1d(norm_type=1.5, kernel_size=3, stride=2, ceil_mode=True)"),
    (nn.AdaptiveMaxPool2d((3, None), True), "AdaptiveMaxPool2d(output_size=(3, None))"),
    (nn.AdaptiveAvgPool3d(3), "AdaptiveAvgPool3d(output_size=3)"),
    (nn.MaxUnpool1d(2), "MaxUnpool1d(kernel_size=(2,), stride=(2,), padding=(0,))"),
    (nn.MaxUnpool2d([2, 3], 1), "MaxUnpool2d(kernel_size=(2, 3), stride=(1, 1), padding=(0, 0))"),
    (nn.MaxUnpool3d(3, padding=1), "MaxUnpool3d(kernel_size=(3, 3, 3), stride=(3, 3, 3), padding=(1, 1, 1))"),
    # Beyond torch: a word of padding is kept as it is.
    (nn.AvgPool1d(2, padding="same"), "AvgPool1d(kernel_size=(2,), stride=(2,), padding=same)"),
]

# Constructor arguments by family; every argument appears, alone or with others.
ARGUMENTS = {
    "MaxPool": [
        {"kernel_size": 3},
        {"kernel_size": (3,), "stride": 2, "padding": [1], "dilation": 2, "ceil_mode": True},
        {"kernel_size": 2, "padding": "same", "return_indices": True},
        {"kernel_size": 3, "padding": ((1, 2),)},
    ],
    "AvgPool": [
        {"kernel_size": 3},
        {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
        {"kernel_size": 3, "stride": (), "padding": (1,), "count_include_pad": False},
        {"kernel_size": 3, "padding": "same_lower"},
        {"kernel_size": 3, "padding": ((1, 2),)},
    ],
    "LPPool": [
        {"norm_type": 2, "kernel_size": 3},
        {"norm_type": 3, "kernel_size": 2, "stride": 3, "ceil_mode": True},
    ],
    "AdaptiveMaxPool": [{"output_size": 3}, {"output_size": (2,), "return_indices": True}],
    "AdaptiveAvgPool": [{"output_size": 3}, {"output_size": [None]}],
}
FUNCTIONS = {
    "MaxPool": "max_pool",
    "AvgPool": "avg_pool",
    "LPPool": "lp_pool",
    "AdaptiveMaxPool": "adaptive_max_pool",
    "AdaptiveAvgPool": "adaptive_avg_pool",
}
LAYERS = [
    (rank, family, arguments)
    for family, rows in ARGUMENTS.items()
    for rank in RANKS
    for arguments in [
        *rows,
        *([{"kernel_size": 2, "divisor_override": 3}] if family == "AvgPool" and rank > 1 else []),
    ]
]


def cells(rank, batched=True):
    """An input of small integers, negative ones and ties among them."""
    shape = (*((3,) if batched else ()), 2, *SIZES[-rank:])
    return np.random.default_rng(rank).integers(-9, 10, shape).astype(np.float32)


def same(ours, theirs):
    """Whether two results, or pairs of results, are equal in type, shape and every cell."""
    if isinstance(theirs, tuple):
        return isinstance(ours, tuple) and len(ours) == 2 and all(map(same, ours, theirs))
    return isinstance(ours, np.ndarray) and ours.dtype == theirs.dtype and np.array_equal(ours, theirs)


def test_every_name_is_offered_with_its_signature():
    assert sorted(nn.__all__) == sorted(SIGNATURES)
    for name, expected in SIGNATURES.items():
        layer = getattr(nn, name)
        parameters = [p.replace(annotation=inspect.Parameter.empty) for p in inspect.signature(layer).parameters.values()]
        assert str(inspect.Signature(parameters)) == f"({expected})", name
        forward = "self, input, indices, output_size=None" if "Unpool" in name else "self, input"
        parameters = [p.replace(annotation=inspect.Parameter.empty) for p in inspect.signature(layer.forward).parameters.values()]
        assert str(inspect.Signature(parameters)) == f"({forward})", name


@pytest.mark.parametrize("name", SIGNATURES)
def test_the_docstring_explains_every_argument_and_its_example_runs(name):
    layer = getattr(nn, name)
    assert (layer.__module__, layer.__name__, layer.__qualname__) == ("pooling.nn", name, name)
    for parameter in inspect.signature(layer).parameters:
        assert f"\n    {parameter}: " in layer.__doc__
    assert "{" not in layer.__doc__
    (found,) = doctest.DocTestFinder(recurse=False).find(layer, name, globs={})
    assert any(f"{name}(" in example.source for example in found.examples)
    assert doctest.DocTestRunner().run(found).failed == 0


@pytest.mark.parametrize("batched", (True, False), ids=("batched", "unbatched"))
@pytest.mark.parametrize("rank, family, arguments", LAYERS)
def test_a_layer_is_the_function_of_its_name(rank, family, arguments, batched):
    x = cells(rank, batched)
    layer = getattr(nn, f"{family}{rank}d")(**arguments)
    expected = getattr(functional, f"{FUNCTIONS[family]}{rank}d")(x, **arguments)
    assert same(layer(x), expected)
    assert same(layer.forward(x), expected)
    assert same(layer(input=x), expected)


@pytest.mark.parametrize("batched", (True, False), ids=("batched", "unbatched"))
@pytest.mark.parametrize("rank", RANKS)
def test_max_unpool_takes_indices_and_a_size(rank, batched):
    x = cells(rank, batched)
    window = (3, (2, 3, 2)[-rank:], (0, 0, 1)[-rank:])  # it ends where the axes do
    values, indices = getattr(nn, f"MaxPool{rank}d")(*window, return_indices=True)(x)
    layer, function = getattr(nn, f"MaxUnpool{rank}d")(*window), getattr(functional, f"max_unpool{rank}d")
    assert layer(values, indices).shape == x.shape
    assert same(layer(values, indices), function(values, indices, *window))
    size = (*x.shape[:-rank], *(n + 1 for n in x.shape[-rank:]))
    expected = function(values, indices, *window, size)
    assert expected.shape == size
    for result in (layer(values, indices, size), layer(values, indices, output_size=size)):
        assert same(result, expected)


@pytest.mark.parametrize("layer, text", TEXTS, ids=[text for _, text in TEXTS])
def test_the_text_is_that_of_torch(layer, text):
    assert repr(layer) == str(layer) == text
    assert f"{type(layer).__name__}({layer.extra_repr()})" == text


@pytest.mark.parametrize("rank, family, arguments", LAYERS)
def test_the_arguments_are_attributes(rank, family, arguments):
    name = f"{family}{rank}d"
    layer = getattr(nn, name)(**arguments)
    defaults = {p.name: p.default for p in inspect.signature(type(layer)).parameters.values()}
    expected = {**defaults, **arguments}
    if expected.get("stride", 0) is None and family != "LPPool":
        expected["stride"] = expected["kernel_size"]
    if name == "AvgPool1d":
        for key in ("kernel_size", "stride", "padding"):
            if isinstance(expected[key], (int, list)):
                expected[key] = (expected[key],) if isinstance(expected[key], int) else tuple(expected[key])
    assert vars(layer) == expected


@pytest.mark.parametrize("rank, family, arguments", LAYERS)
def test_layers_are_copied_pickled_and_compared_by_their_arguments(rank, family, arguments):
    kind = getattr(nn, f"{family}{rank}d")
    layer = kind(**arguments)
    for twin in (
        kind(**arguments),
        copy.copy(layer),
        copy.deepcopy(layer),
        pickle.loads(pickle.dumps(layer)),
    ):
        assert twin == layer
        assert same(twin(cells(rank)), layer(cells(rank)))
    assert getattr(nn, f"{family}{5 - rank if rank > 1 else 2}d")(**arguments) != layer
    changed = next(iter(arguments))
    assert kind(**{**arguments, changed: 4}) != layer


def test_an_argument_may_be_assigned_and_other_attributes_do_not_matter():
    x, layer = cells(2), nn.MaxPool2d(2)
    layer.return_indices = True
    layer.note = "first of five"
    assert same(layer(x), functional.max_pool2d(x, 2, return_indices=True))


def test_a_subclass_may_replace_what_torch_lets_it_replace():
    class Doubled(nn.MaxPool2d):
        def forward(self, input):
            return 2 * super().forward(input)

        def extra_repr(self):
            return "twice"

    x, layer = cells(2), Doubled(3)
    assert same(layer(x), 2 * functional.max_pool2d(x, 3))
    assert repr(layer) == "Doubled(twice)"


@pytest.mark.parametrize(
    "layer, error",
    (
        (lambda: nn.MaxPool2d(0), ValueError),
        (lambda: nn.MaxPool2d(2.0), TypeError),
        (lambda: nn.MaxPool2d((2, 2, 2)), ValueError),
        (lambda: nn.MaxPool2d(2, return_indices=1), TypeError),
        (lambda: nn.AvgPool1d("2"), TypeError),
        (lambda: nn.AvgPool2d(2, divisor_override=0), ValueError),
        (lambda: nn.LPPool2d(-1, 2), ValueError),
        (lambda: nn.AdaptiveAvgPool2d(None), TypeError),
    ),
)
def test_wrong_arguments_are_refused_at_the_call_at_the_latest(layer, error):
    with pytest.raises(error):
        layer()(cells(1 if layer().__class__ is nn.AvgPool1d else 2))


def test_the_number_of_axes_is_checked_by_the_function():
    with pytest.raises(ValueError, match="max_pool2d"):
        nn.MaxPool2d(2)(np.ones((4, 4)))
