"""pooling.functional: every function is the pool() call it stands for, under torch's names and layouts."""

import doctest
import inspect
import pickle

import numpy as np
import pytest

from pooling import adaptive_pool, functional, max_unpool, pool

RANKS = (1, 2, 3)
LETTERS = {
    (1, False): "CL",
    (1, True): "NCL",
    (2, False): "CHW",
    (2, True): "NCHW",
    (3, False): "CDHW",
    (3, True): "NCDHW",
}
SIZES = (5, 6, 7)  # of D, H, W; rank 1 pools the last, rank 2 the last two

MAX = "input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False, *, backend=None"
COUNTED = "input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True"
AVG = f"{COUNTED}, divisor_override=None, *, backend=None"
LP = "input, norm_type, kernel_size, stride=None, ceil_mode=False, *, backend=None"
ADAPTIVE_MAX = "input, output_size, return_indices=False, *, backend=None"
ADAPTIVE_AVG = "input, output_size, *, backend=None"
UNPOOL = "input, indices, kernel_size, stride=None, padding=0, output_size=None, *, backend=None"
SIGNATURES = {
    **{f"max_pool{rank}d": MAX for rank in RANKS},
    **{f"max_pool{rank}d_with_indices": MAX for rank in RANKS},
    "avg_pool1d": f"{COUNTED}, *, backend=None",
    "avg_pool2d": AVG,
    "avg_pool3d": AVG,
    **{f"lp_pool{rank}d": LP for rank in RANKS},
    **{f"adaptive_max_pool{rank}d": ADAPTIVE_MAX for rank in RANKS},
    **{f"adaptive_max_pool{rank}d_with_indices": ADAPTIVE_MAX for rank in RANKS},
    **{f"adaptive_avg_pool{rank}d": ADAPTIVE_AVG for rank in RANKS},
    **{f"max_unpool{rank}d": UNPOOL for rank in RANKS},
}

# The pool() words for torch's.
WORDS = {"kernel_size": "kernel", "norm_type": "p"}

# Arguments, each a row of its own and then together; a triple is one value for each of D, H, W.
KERNEL = {"kernel_size": (2, 3, 2)}
MAX_ROWS = [
    {"kernel_size": 3},
    KERNEL,
    {**KERNEL, "stride": 1},
    {**KERNEL, "stride": (1, 2, 3)},
    {**KERNEL, "stride": ()},
    {**KERNEL, "padding": 1},
    {**KERNEL, "padding": (1, 2, 0)},
    {**KERNEL, "padding": ((0, 1), (2, 1), (1, 0))},
    {**KERNEL, "padding": "same"},
    {**KERNEL, "stride": 2, "padding": "same_lower"},
    {**KERNEL, "padding": "valid"},
    {**KERNEL, "dilation": 2},
    {**KERNEL, "dilation": (3, 2, 1)},
    {**KERNEL, "stride": 2, "ceil_mode": True},
    {**KERNEL, "stride": (2, 1, 3), "padding": (1, 2, 1), "dilation": (2, 1, 3), "ceil_mode": True},
]
AVG_ROWS = [
    *(row for row in MAX_ROWS if "dilation" not in row),
    {**KERNEL, "padding": 1, "count_include_pad": False},
    {**KERNEL, "stride": 3, "padding": 1, "ceil_mode": True, "count_include_pad": False},
]
DIVISOR_ROWS = [{**KERNEL, "divisor_override": 5}, {**KERNEL, "padding": 1, "divisor_override": -3}]
LP_ROWS = [
    {"norm_type": p, **KERNEL, **row}
    for p in (1, 2, 2.5, float("inf"))
    for row in ({}, {"stride": (1, 2, 3)}, {"stride": 2, "ceil_mode": True})
]
ADAPTIVE_ROWS = [{"output_size": size} for size in (1, 3, 9, (2, 3, 4), (None, 2, None))]


def cells(rank, batched=True, channels=2, dtype=np.float32):
    """An input of small integers, negative ones and ties among them."""
    shape = (*((3,) if batched else ()), channels, *SIZES[-rank:])
    return np.random.default_rng(rank).integers(-9, 10, shape).astype(dtype)


def at_rank(row, rank):
    """The arguments of a row at one rank."""
    return {name: value[-rank:] if isinstance(value, tuple) else value for name, value in row.items()}


def same(ours, theirs):
    """Whether two results, or pairs of results, are equal in type, shape and every cell."""
    if isinstance(theirs, tuple):
        return isinstance(ours, tuple) and len(ours) == 2 and all(map(same, ours, theirs))
    return (
        isinstance(ours, np.ndarray)
        and ours.dtype == theirs.dtype
        and np.array_equal(ours, theirs, equal_nan=theirs.dtype.kind == "f")
    )


def test_every_name_is_offered_with_its_signature():
    assert sorted(functional.__all__) == sorted(SIGNATURES)
    for name, expected in SIGNATURES.items():
        signature = inspect.signature(getattr(functional, name))
        parameters = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
        assert str(inspect.Signature(parameters)) == f"({expected})", name


def test_no_template_is_left_where_doctest_would_run_it():
    found = {test.name for test in doctest.DocTestFinder().find(functional) if test.examples}
    assert found == {f"pooling.functional.{name}" for name in SIGNATURES}


@pytest.mark.parametrize("name", SIGNATURES)
def test_every_name_is_an_ordinary_function(name):
    function = getattr(functional, name)
    assert inspect.isfunction(function)
    assert (function.__module__, function.__name__, function.__qualname__) == (
        "pooling.functional",
        name,
        name,
    )
    assert pickle.loads(pickle.dumps(function)) is function


@pytest.mark.parametrize("name", SIGNATURES)
def test_the_docstring_explains_every_parameter_and_its_example_runs(name):
    function = getattr(functional, name)
    for parameter in inspect.signature(function).parameters:
        assert f"\n    {parameter}: " in function.__doc__
    assert "{" not in function.__doc__
    (found,) = doctest.DocTestFinder(recurse=False).find(function, name, globs={})
    assert any(name in example.source for example in found.examples if "import" not in example.source)
    assert doctest.DocTestRunner().run(found).failed == 0


def _twins():
    """(name, rank, mode, arguments) for every function that is one call of pool() or adaptive_pool()."""
    families = {
        "max_pool{}d": ("max", MAX_ROWS + [{**row, "return_indices": True} for row in MAX_ROWS]),
        "avg_pool{}d": ("avg", AVG_ROWS),
        "lp_pool{}d": ("lp", LP_ROWS),
        "adaptive_max_pool{}d": (
            "max",
            ADAPTIVE_ROWS + [{**row, "return_indices": True} for row in ADAPTIVE_ROWS],
        ),
        "adaptive_avg_pool{}d": ("avg", ADAPTIVE_ROWS),
    }
    for template, (mode, rows) in families.items():
        for rank in RANKS:
            extra = DIVISOR_ROWS if mode == "avg" and rank > 1 and template.startswith("avg") else []
            for row in rows + extra:
                yield pytest.param(template.format(rank), rank, mode, at_rank(row, rank))


@pytest.mark.parametrize("batched", (True, False), ids=("batched", "unbatched"))
@pytest.mark.parametrize("name, rank, mode, arguments", list(_twins()))
def test_a_function_is_the_call_it_stands_for(name, rank, mode, arguments, batched):
    x = cells(rank, batched)
    call = adaptive_pool if name.startswith("adaptive") else pool
    words = {WORDS.get(argument, argument): value for argument, value in arguments.items()}
    expected = call(x, mode, **words, layout=LETTERS[rank, batched])
    assert same(getattr(functional, name)(x, **arguments), expected)


@pytest.mark.parametrize("rank", RANKS)
def test_arguments_go_by_position_as_well(rank):
    x, layout = cells(rank), LETTERS[rank, True]
    kernel, stride, padding, dilation = (at_rank({"": v}, rank)[""] for v in ((2, 3, 2), (1, 2, 3), (1, 2, 0), (3, 2, 1)))

    def call(name, *arguments):
        return getattr(functional, name.format(rank))(x, *arguments)

    maxima = pool(
        x,
        "max",
        kernel,
        stride,
        padding,
        dilation=dilation,
        ceil_mode=True,
        layout=layout,
        return_indices=True,
    )
    assert same(call("max_pool{}d", kernel, stride, padding, dilation, True, True), maxima)
    averages = pool(x, "avg", kernel, stride, padding, ceil_mode=True, count_include_pad=False, layout=layout)
    assert same(call("avg_pool{}d", kernel, stride, padding, True, False), averages)
    if rank > 1:
        over = pool(x, "avg", kernel, stride, padding, ceil_mode=True, divisor_override=7, layout=layout)
        assert same(call("avg_pool{}d", kernel, stride, padding, True, True, 7), over)
    norms = pool(x, "lp", kernel, stride, p=3, ceil_mode=True, layout=layout)
    assert same(call("lp_pool{}d", 3, kernel, stride, True), norms)
    parts = adaptive_pool(x, "max", kernel, layout=layout, return_indices=True)
    assert same(call("adaptive_max_pool{}d", kernel, True), parts)


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("flag", (False, True))
def test_with_indices_always_returns_them(rank, flag):
    x, layout = cells(rank), LETTERS[rank, True]
    pooled = getattr(functional, f"max_pool{rank}d_with_indices")(x, 3, 2, 1, 2, True, flag)
    assert same(pooled, pool(x, "max", 3, 2, 1, dilation=2, ceil_mode=True, layout=layout, return_indices=True))
    shared = getattr(functional, f"adaptive_max_pool{rank}d_with_indices")(x, 4, flag)
    assert same(shared, adaptive_pool(x, "max", 4, layout=layout, return_indices=True))


@pytest.mark.parametrize(
    "make",
    (lambda n: (n,), lambda n: [n], lambda n: np.array([n]), np.int64),
    ids=("tuple", "list", "array", "int64"),
)
@pytest.mark.parametrize("rank", RANKS)
def test_one_element_stands_for_every_axis(rank, make):
    x = cells(rank)

    def call(name, *arguments, **more):
        return getattr(functional, name.format(rank))(x, *arguments, **more)

    for name, plain in (
        ("max_pool{}d", (3, 2, 1, 2)),
        ("avg_pool{}d", (3, 2, 1)),
        ("adaptive_avg_pool{}d", (4,)),
    ):
        assert same(call(name, *map(make, plain)), call(name, *plain))
    assert same(call("lp_pool{}d", 2, make(3), make(2)), call("lp_pool{}d", 2, 3, 2))
    values, indices = call("max_pool{}d", 3, 2, 1, return_indices=True)
    unpool = getattr(functional, f"max_unpool{rank}d")
    expected = unpool(values, indices, 3, 2, 1, x.shape)
    assert same(unpool(values, indices, *map(make, (3, 2, 1)), x.shape), expected)


@pytest.mark.parametrize("rank", RANKS)
def test_one_pair_of_padding_stands_for_every_axis(rank):
    x, function = cells(rank), getattr(functional, f"max_pool{rank}d")
    assert same(function(x, 3, padding=((2, 1),)), function(x, 3, padding=((2, 1),) * rank))


@pytest.mark.parametrize("batched", (True, False), ids=("batched", "unbatched"))
@pytest.mark.parametrize("rank", RANKS)
def test_max_unpool_is_the_call_it_stands_for(rank, batched):
    x, layout = cells(rank, batched), LETTERS[rank, batched]
    function = getattr(functional, f"max_unpool{rank}d")
    # These windows end where the axes do, so that the default size is the input's.
    kernel, stride, padding = 3, (2, 3, 2)[-rank:], (0, 0, 1)[-rank:]
    values, indices = pool(x, "max", kernel, stride, padding, layout=layout, return_indices=True)
    expected = max_unpool(values, indices, kernel, stride, padding, layout=layout)
    assert expected.shape == x.shape
    assert same(function(values, indices, kernel, stride, padding), expected)
    assert same(function(values, indices, kernel_size=kernel, stride=stride, padding=padding), expected)

    pooled = tuple(n + 1 for n in x.shape[-rank:])
    whole = (*x.shape[:-rank], *pooled)
    expected = max_unpool(values, indices, kernel, stride, padding, output_size=pooled, layout=layout)
    assert expected.shape == whole
    for size in (pooled, list(pooled), np.array(pooled), whole, (99, 99, *pooled)):
        assert same(function(values, indices, kernel, stride, padding, size), expected)


@pytest.mark.parametrize("name", SIGNATURES)
def test_another_number_of_axes_is_refused_by_name(name):
    rank = int(name.partition("pool")[2][0])
    function = getattr(functional, name)
    arguments = {"norm_type": 2, "kernel_size": 1, "output_size": 1, "indices": np.zeros((), np.int64)}
    needed = {
        p.name: arguments[p.name]
        for p in inspect.signature(function).parameters.values()
        if p.default is p.empty and p.name != "input"
    }
    unbatched = ", ".join(LETTERS[rank, False])
    for ndim in (0, rank, rank + 3):
        x = np.ones((1,) * ndim)
        with pytest.raises(ValueError) as caught:
            function(x, **needed)
        for part in (name, str(x.shape), f"(N, {unbatched})", f"({unbatched})"):
            assert part in str(caught.value)


@pytest.mark.parametrize(
    "name, arguments, error",
    (
        ("max_pool2d", {"kernel_size": 0}, ValueError),
        ("max_pool2d", {"kernel_size": 99}, ValueError),
        ("max_pool2d", {"kernel_size": 2.0}, TypeError),
        ("max_pool2d", {"kernel_size": "2"}, TypeError),
        ("max_pool2d", {"kernel_size": (2.0,)}, TypeError),
        ("max_pool2d", {"kernel_size": (2, 2, 2)}, ValueError),
        ("max_pool2d", {"kernel_size": ()}, ValueError),
        ("max_pool2d", {"kernel_size": 2, "padding": 2}, ValueError),
        ("max_pool2d", {"kernel_size": 2, "padding": "full"}, ValueError),
        ("max_pool2d", {"kernel_size": 2, "ceil_mode": 1}, TypeError),
        ("max_pool2d", {"kernel_size": 2, "return_indices": 1}, TypeError),
        ("max_pool2d", {"kernel_size": 2, "backend": "abacus"}, ValueError),
        ("avg_pool2d", {"kernel_size": 2, "divisor_override": 0}, ValueError),
        ("lp_pool2d", {"kernel_size": 2, "norm_type": 0}, ValueError),
        ("lp_pool2d", {"kernel_size": 2, "norm_type": float("-inf")}, ValueError),
        ("adaptive_avg_pool2d", {"output_size": None}, TypeError),
        ("adaptive_max_pool2d", {"output_size": (1, 2, 3)}, ValueError),
    ),
)
def test_errors_are_those_of_pool(name, arguments, error):
    with pytest.raises(error):
        getattr(functional, name)(cells(2), **arguments)


@pytest.mark.parametrize("name", ("max_pool1d", "adaptive_avg_pool2d", "lp_pool3d"))
def test_what_is_no_array_is_refused_by_pool(name):
    arguments = {"lp_pool3d": (2, 1)}.get(name, (1,))
    with pytest.raises(TypeError, match="list"):
        getattr(functional, name)([[[[[1.0]]]]], *arguments)


def test_more_is_accepted_than_torch_does():
    x = cells(2, channels=0)
    assert functional.max_pool2d(x, 3).shape == (3, 0, 2, 2)
    x = cells(2, dtype=np.int8)
    assert functional.avg_pool2d(x, 3).dtype == np.float32
    assert same(functional.max_pool2d(x, 3, padding=2), pool(x, "max", 3, padding=2, layout="NCHW"))


@pytest.mark.parametrize("name", SIGNATURES)
def test_the_backend_is_handed_on(name):
    rank = int(name.partition("pool")[2][0])
    function, x = getattr(functional, name), cells(rank)
    arguments = {"norm_type": 2, "kernel_size": 2, "output_size": 2, "indices": np.zeros(x.shape, np.int64)}
    needed = {p: arguments[p] for p in inspect.signature(function).parameters if p in arguments}
    if "kernel_size" in needed:
        needed.pop("output_size", None)
    assert same(function(x, **needed, backend="cpu"), function(x, **needed))
    with pytest.raises(ValueError, match="abacus"):
        function(x, **needed, backend="abacus")
