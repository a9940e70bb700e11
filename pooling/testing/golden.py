"""The calls that a pooling kernel should meet, and what each must give.

A Question is a named problem with a mode, an element type and a kind of data; it is asked as several calls (layouts, with
indices, backward), which share its arrays. Each call is a Golden. Nothing is computed for a call until its arrays or its
answer are asked for: to list or to filter all of them takes a moment. What was computed last is remembered, not all of it.

Every cell must be == (NaN equal to NaN), and mode "lp" within the bound that the oracle derives.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import cache, lru_cache
from importlib.util import find_spec
from itertools import pairwise, product
from typing import Any, NamedTuple

import numpy as np

import pooling

from . import oracle
from .cases import ADAPTIVE_CASES, CASES, FLOATS, HALF, UNPOOL_CASES, AdaptiveCase, Array, Case, UnpoolCase, data, relayout
from .compare import lp_bound, lp_gradient_bound

SIGNED, UNSIGNED = (tuple(f"{kind}{bits}" for bits in (8, 16, 32, 64)) for kind in ("int", "uint"))
TYPES = tuple(name for name in ("bool", *SIGNED, *UNSIGNED, *FLOATS) if name != "bfloat16" or find_spec("ml_dtypes"))
QUICK = ("bool", "int32", "uint8", "float32")  # one type per kind
KINDS = ("real", "special")
EXPONENTS = (2.0, 1.0, 3.0, 0.5, 2.5, float("inf"))
LETTERS = {3: "CLN", 4: "WCHN", 5: "HCWND"}  # by the axes of an array: every axis elsewhere than under the named layouts
LAYOUTS = ("channels_last", "channels_first", *LETTERS.values())
FUNCTIONS = ("pool", "adaptive_pool", "max_unpool", "pool_backward", "adaptive_pool_backward")
INDEXED = ("max", "min")


class Mismatch(AssertionError):
    """A result is not what the oracle gives; the message draws where."""


class Working(NamedTuple):
    """How exactly mode "lp" is computed: the type of the powers and sums, and the power function's error in ulps."""

    dtype: str
    ulps: float


DOUBLE = Working("float64", 4)  # libm's and NumPy's pow
SINGLE = Working("float32", 16)  # Metal Shading Language Specification: pow <= 16 ulp; CUDA promises less


# ---- questions -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Question:
    """A named problem, and what is asked about it."""

    family: str  # "pool", "adaptive_pool" or "max_unpool"
    case: Case | AdaptiveCase | UnpoolCase
    mode: str
    p: float | None  # of mode "lp"; None where the call does not give it
    dtype: str
    kind: str
    result: str | None = None  # the dtype= of the call

    @property
    def name(self) -> str:
        """As the command's --only takes it."""
        label = self.mode if self.p is None else f"{self.mode}-{self.p:g}"
        return f"{self.family}/{self.case.name}/{label}/{self.dtype}/{self.kind}"

    def goldens(self) -> Iterator[Golden]:
        """The calls: under each layout, with indices, backward."""
        backward = f"{self.family}_backward"
        calls = [(self.family, False)]
        layouts: tuple[str, ...] = ("channels_last", "channels_first", LETTERS[len(self.case.x_shape)])
        if self.family == "max_unpool":
            calls = [(self.family, True)]
            size = self.case.output_size if isinstance(self.case, UnpoolCase) else None
            if size is not None and len(size) == len(self.case.x_shape):
                layouts = layouts[:1]  # a whole shape stands in the order of one layout
        elif self.result is not None:
            layouts = layouts[:1]
        else:
            indexed, floating = self.mode in INDEXED, self.dtype in FLOATS
            calls += (
                [(self.family, True)] * indexed + [(backward, False)] * floating + [(backward, True)] * (indexed and floating)
            )
        for function, indices in calls:
            for layout in layouts:
                yield Golden(self, function, layout, indices)

    @property
    def arguments(self) -> dict[str, Any]:
        """Of every call, as the problem spells them; channels_last."""
        if isinstance(self.case, UnpoolCase):
            return dict(self.case.arguments)
        window = self.case.arguments(self.mode) if isinstance(self.case, Case) else {"output_size": self.case.output_size}
        power = {} if self.p is None else {"p": self.p}
        converted = {} if self.result is None else {"dtype": data((0,), self.result, 1).dtype}
        return {"mode": self.mode, **window, **power, **converted}


def asked() -> Iterator[Question]:
    """Every question."""
    modes = [(mode, p) for mode in pooling.MODES for p in (EXPONENTS if mode == "lp" else (None,))]
    pooled: tuple[tuple[str, Sequence[Case | AdaptiveCase]], ...] = (("pool", CASES), ("adaptive_pool", ADAPTIVE_CASES))
    for family, problems in pooled:
        for case, (mode, p), dtype, kind in product(problems, modes, TYPES, KINDS):
            yield Question(family, case, mode, p, dtype, kind)
    for unpooled, dtype in product(UNPOOL_CASES, TYPES):
        yield Question("max_unpool", unpooled, "max", None, dtype, "special")
    for mode, dtype, result, kind in product(pooling.MODES, TYPES, [name for name in TYPES if name != "bool"], KINDS):
        converted = Case(f"as_{result}", "a result of another type", (2, 6, 7, 3), 3, 2, 1)
        yield Question("pool", converted, mode, None, dtype, kind, result)


def questions(types: tuple[str, ...] = TYPES) -> Iterator[tuple[str, Callable[[], Iterator[Golden]]]]:
    """Names, and what makes the calls of each."""
    return ((question.name, question.goldens) for question in asked() if question.dtype in types)


# ---- answers -------------------------------------------------------------------------------------------------

REMEMBERED = 64  # questions whose arrays are kept: the calls of one follow each other


def _kept(array: Array) -> Array:
    """What is remembered is shared, and must not be written to."""
    array.flags.writeable = False
    return array


@lru_cache(maxsize=REMEMBERED)
def _x(question: Question) -> Array:
    return _kept(data(question.case.x_shape, question.dtype, 1, question.kind))


@lru_cache(maxsize=REMEMBERED)
def _forward(question: Question) -> tuple[Array, ...]:
    """The values, and the indices where the mode has some."""
    indices = {"return_indices": True} if question.mode in INDEXED else {}
    result = getattr(oracle, question.family)(_x(question), **question.arguments, **indices)
    return tuple(map(_kept, result if indices else (result,)))


@lru_cache(maxsize=REMEMBERED)
def _unpooled(question: Question) -> tuple[Array, Array]:
    """The indices, and what comes back."""
    assert isinstance(question.case, UnpoolCase)
    indices = question.case.indices(3)
    return _kept(indices), _kept(oracle.max_unpool(_x(question), indices, **question.case.arguments))


@lru_cache(maxsize=REMEMBERED)
def _backward(question: Question) -> tuple[Array, Array]:
    """The gradient of the result, and that of x."""
    g = data(_forward(question)[0].shape, question.dtype, 2)
    return _kept(g), _kept(getattr(oracle, f"{question.family}_backward")(g, _x(question), **question.arguments))


@cache
def _terms(function: str, case: Case | AdaptiveCase) -> int:
    """The cells of the largest window or the windows over one cell, whichever is more: sums of ones count them."""
    ones = np.ones((1, *case.x_shape[1:-1], 1))
    window = case.geometry if isinstance(case, Case) else {"output_size": case.output_size}
    covered = getattr(oracle, function)(ones, "sum", **window)
    covering = getattr(oracle, f"{function}_backward")(np.ones_like(covered), ones, "sum", **window)
    return int(max(covered.max(initial=1), covering.max(initial=1)))


def _near(question: Question, working: Working) -> Array:
    """How far a norm may be from the oracle's. Norms that are rounded to integers are at most one more apart."""
    assert not isinstance(question.case, UnpoolCase)
    (want,), whole = _forward(question), question.result is not None and question.result not in FLOATS
    p, terms = question.p or 2.0, _terms(question.family, question.case)
    bound = lp_bound(want.astype(np.float64) if whole else want, p, terms, working=working.dtype, ulps=working.ulps)
    return bound + 1.0 if whole else bound


def _near_gradient(question: Question, working: Working) -> Array:
    assert not isinstance(question.case, UnpoolCase)
    x, (g, want), arguments = _x(question), _backward(question), question.arguments
    norms = getattr(oracle, question.family)(x, **arguments, dtype="float64")
    sizes = np.abs(g.astype(np.float64)), np.abs(x.astype(np.float64))
    magnitude = getattr(oracle, f"{question.family}_backward")(*sizes, **arguments)
    p, terms = question.p or 2.0, _terms(question.family, question.case)
    return lp_gradient_bound(want, g, norms, magnitude, p, terms, working=working.dtype, ulps=working.ulps)


# ---- calls ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Golden:
    """One call and what it must give; `cases` makes them.

    >>> case, *_ = cases(name="pool/pad_both/max/float32/real/channels_first")
    >>> case.probes, case.mode, case.rank, case.layout, case.dtype
    ('the common 3 by 3', 'max', 2, 'channels_first', 'float32')
    >>> case.arguments["padding"], case.plain["padding"], case.arrays["x"].shape
    (1, ((1, 1), (1, 1)), (2, 3, 7, 8))
    >>> case.expected[0].shape
    (2, 3, 7, 8)
    >>> case.difference(case.expected[0]) is None
    True
    """

    question: Question
    function: str
    layout: str
    indices: bool  # asked for, or given

    @property
    def name(self) -> str:
        """Unique: the function, the problem, the mode, the element type, the kind of data, the layout."""
        _, own = self.question.name.split("/", 1)
        given = "/indices" if self.indices and self.function != "max_unpool" else ""
        return f"{self.function}/{own}/{self.layout}{given}"

    @property
    def probes(self) -> str:
        """The corner, in words."""
        return self.question.case.probes

    @property
    def mode(self) -> str:
        return self.question.mode

    @property
    def dtype(self) -> str:
        return self.question.dtype

    @property
    def rank(self) -> int:
        """How many axes are pooled."""
        return len(self.question.case.x_shape) - 2

    @property
    def features(self) -> frozenset[str]:
        """The words of FEATURES that hold for this call."""
        question = self.question
        floating = question.dtype in FLOATS
        return _features(self.function, question.case, question.mode, question.kind, floating, question.result, self.indices)

    @property
    def windows(self) -> tuple[oracle.Windows, ...]:
        """Where windows lie, axis by axis; nothing for max_unpool, which has none."""
        return () if isinstance(self.question.case, UnpoolCase) else windows_of(self.question.case)

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The window's arguments, axis by axis; nothing for adaptive windows."""
        return () if isinstance(self.question.case, AdaptiveCase) else axes_of(self.question.case)

    @property
    def views(self) -> dict[str, Array]:
        """As arrays, but read-only views of channels_last memory, most of them not contiguous."""
        arrays = {"x": _x(self.question)}
        if self.function == "max_unpool":
            arrays["indices"] = _unpooled(self.question)[0]
        if self.function.endswith("_backward"):
            arrays = {"grad_output": _backward(self.question)[0], **arrays}
            if self.indices:
                arrays["indices"] = _forward(self.question)[1].astype(np.int32)
        return {name: relayout(array, self.layout) for name, array in arrays.items()}

    @property
    def arrays(self) -> dict[str, Array]:
        """By argument: "x", "grad_output", "indices"; new ones at each access, C-contiguous in the case's layout."""
        return {name: np.array(array, order="C") for name, array in self.views.items()}

    @property
    def arguments(self) -> dict[str, Any]:
        """The other arguments, as pooling's functions take them and as the problem spells them."""
        asks = {"return_indices": True} if self.indices and not self.function.endswith(("_backward", "unpool")) else {}
        return {**self.question.arguments, "layout": self.layout, **asks}

    @property
    def plain(self) -> dict[str, Any]:
        """The same arguments in the plainest form.

        kernel, stride, dilation and output_size are one int per pooled axis, padding is one (before, after) pair
        per pooled axis; no word, no None.
        """
        return {**self.arguments, **_plain(self.question.case)}

    @property
    def expected(self) -> tuple[Array, ...]:
        """The values; the values and the indices; or a gradient. In the case's layout."""
        if self.function == "max_unpool":
            found: tuple[Array, ...] = _unpooled(self.question)[1:]
        elif self.function.endswith("_backward"):
            found = _backward(self.question)[1:]
        else:
            found = _forward(self.question)[: 1 + self.indices]
        return tuple(np.array(relayout(array, self.layout), order="C") for array in found)

    @property
    def chosen(self) -> Array:
        """Of max and min: the index of each window, channels_last."""
        return _forward(self.question)[1]

    def bound(self, working: Working = DOUBLE) -> Array | None:
        """How far each cell may be from the expected one; None where it must be ==."""
        if self.mode != "lp":
            return None
        near = _near_gradient if self.function.endswith("_backward") else _near
        return relayout(near(self.question, working), self.layout)

    def difference(self, result: Any) -> str | None:
        """None where result is what is expected; or else a text that draws the first cell that differs.

        result: an array, or anything that numpy.asarray takes; a pair of them where indices are asked for.
        """
        from .draw import difference  # which draws Goldens

        return difference(self, result)

    def check(self, fn: Callable[..., Any], *, spelled: bool = False) -> None:
        """Calls fn, and raises Mismatch unless the result is what is expected; see `pooling.testing.check`.

        Where fn takes no argument for what the case needs, or raises NotImplementedError, the result is
        unittest.SkipTest, which pytest reports as a skipped test.
        """
        from .call import Function  # which is called with Goldens

        text = Function(fn, spelled).fault(self)
        if text is not None:
            raise Mismatch(text)


class Axis(NamedTuple):
    """The window's arguments on one axis: cells, kernel, stride, padding, dilation, ceil_mode."""

    n: int
    k: int
    s: int
    before: int
    after: int
    d: int
    ceil_mode: bool


@cache
def axes_of(case: Case | UnpoolCase) -> tuple[Axis, ...]:
    """The window of a problem, axis by axis; for an UnpoolCase that of the pooling that it inverts."""
    shape, dilation, ceil_mode = case.x_shape, 1, False
    if isinstance(case, Case):
        dilation, ceil_mode = case.dilation, case.ceil_mode
    elif case.output_size is not None:
        shape = (1, *case.output_size, 1) if len(case.output_size) < len(shape) else tuple(case.output_size)
    _, rows = oracle._rows(shape, case.kernel, case.stride, case.padding, dilation, ceil_mode, "channels_last")
    return tuple(Axis(*row) for row in rows)


def windows_of(case: Case | AdaptiveCase) -> tuple[oracle.Windows, ...]:
    """The windows of a problem, axis by axis, as the oracle counts them off."""
    if isinstance(case, Case):
        return tuple(oracle._windows(*axis) for axis in axes_of(case))
    x = np.broadcast_to(np.int8(0), case.x_shape)
    return oracle._adaptive_plan(x, case.output_size)[0].windows


@cache
def _plain(case: Case | AdaptiveCase | UnpoolCase) -> Mapping[str, Any]:
    if isinstance(case, AdaptiveCase):
        return {"output_size": tuple(map(len, windows_of(case)))}
    axes = axes_of(case)
    plain: dict[str, Any] = {
        "kernel": tuple(axis.k for axis in axes),
        "stride": tuple(axis.s for axis in axes),
        "padding": tuple((axis.before, axis.after) for axis in axes),
    }
    if isinstance(case, Case):
        return {**plain, "dilation": tuple(axis.d for axis in axes)}
    return plain if case.output_size is None else {**plain, "output_size": tuple(axis.n for axis in axes)}


# ---- features ------------------------------------------------------------------------------------------------


class Facts(NamedTuple):
    """What features are computed from."""

    function: str
    case: Case | AdaptiveCase | UnpoolCase
    mode: str
    kind: str
    floating: bool
    result: str | None
    indices: bool
    axes: tuple[Axis, ...]
    windows: tuple[oracle.Windows, ...]

    @property
    def every(self) -> list[oracle.Window]:
        """The windows of all axes."""
        return [window for along in self.windows for window in along]


def _counts(case: Any) -> bool:
    return bool(getattr(case, "count_include_pad", True))


def _override(case: Any) -> Any:
    return getattr(case, "divisor_override", None)


@cache
def _has_nan(shape: tuple[int, ...]) -> bool:
    """Whether special data of this shape have a NaN: they have them in the same places whatever the type."""
    return bool(np.isnan(data(shape, "float32", 1, "special")).any())


FEATURES: dict[str, tuple[str, Callable[[Facts], bool]]] = {
    "stride": ("a stride above 1", lambda call: any(axis.s > 1 for axis in call.axes)),
    "overlap": (
        "windows that share cells: stride below kernel, or adaptive ones",
        lambda call: any(
            {i for _, i in one.taps} & {i for _, i in two.taps} for along in call.windows for one, two in pairwise(along)
        ),
    ),
    "padding": ("padding on some side", lambda call: any(axis.before or axis.after for axis in call.axes)),
    "asymmetric": ("padding that differs by side", lambda call: any(axis.before != axis.after for axis in call.axes)),
    "same": ("padding='same' or 'same_lower'", lambda call: str(getattr(call.case, "padding", "")).startswith("same")),
    "dilation": ("a dilation above 1", lambda call: any(axis.d > 1 for axis in call.axes)),
    "ceil_mode": ("ceil_mode=True", lambda call: any(axis.ceil_mode for axis in call.axes)),
    "overhang": ("a window that ends beyond the padding", lambda call: any(w.padded < w.size for w in call.every)),
    "by_axis": (
        "arguments that differ from axis to axis",
        lambda call: len({axis._replace(n=0, ceil_mode=False) for axis in call.axes}) > 1,
    ),
    "count_include_pad": ("count_include_pad=False", lambda call: call.mode == "avg" and not _counts(call.case)),
    "divisor_override": ("a divisor_override", lambda call: call.mode == "avg" and _override(call.case) is not None),
    "global": (
        "one window over the whole plane",
        lambda call: (
            bool(call.windows)
            and all(len(a) == 1 and len(a[0].taps) == n for a, n in zip(call.windows, call.case.x_shape[1:], strict=False))
        ),
    ),
    "adaptive": ("an output_size in place of a kernel", lambda call: call.function.startswith("adaptive_pool")),
    "empty_window": ("a window without a cell", lambda call: any(not window.taps for window in call.every)),
    "long_window": ("16 cells or more along an axis", lambda call: any(len(window.taps) >= 16 for window in call.every)),
    "huge": ("an argument of 2**30 or more", lambda call: any(max(axis[1:6]) >= HALF for axis in call.axes)),
    "empty": (
        "an array without a cell, or such a result",
        lambda call: not math.prod(call.case.x_shape) or not all(call.windows),
    ),
    "indices": ("indices, asked for or given", lambda call: call.indices),
    "gradient": ("a gradient", lambda call: call.function.endswith("_backward")),
    "unpool": ("max_unpool", lambda call: call.function == "max_unpool"),
    "conversion": ("a dtype= of the result", lambda call: call.result is not None),
    "nan": (
        "a NaN in x",
        lambda call: call.kind == "special" and call.floating and _has_nan(call.case.x_shape),
    ),
    "ties": (
        "many equal cells, infinities and the ends of the element type in x",
        lambda call: call.kind == "special",
    ),
}


@cache
def _features(
    function: str,
    case: Case | AdaptiveCase | UnpoolCase,
    mode: str,
    kind: str,
    floating: bool,
    result: str | None,
    indices: bool,
) -> frozenset[str]:
    axes = () if isinstance(case, AdaptiveCase) else axes_of(case)
    windows = () if isinstance(case, UnpoolCase) else windows_of(case)
    facts = Facts(function, case, mode, kind, floating, result, indices, axes, windows)
    return frozenset(word for word, (_, holds) in FEATURES.items() if holds(facts))


# ---- filters -------------------------------------------------------------------------------------------------


def _values(name: str, given: Any, known: Collection[Any] | None = None) -> frozenset[Any] | None:
    """A filter's values; a ValueError for one that no case can have, which would silently leave out everything."""
    if given is None:
        return None
    values = frozenset([given] if isinstance(given, str | int) else given)
    for value in values:
        if known is not None and value not in known:
            raise ValueError(f"{name}={value!r}: it is one of {', '.join(map(str, known))}")
    return values


def cases(
    *,
    function: str | Collection[str] | None = "pool",
    rank: int | Collection[int] | None = None,
    mode: str | Collection[str] | None = None,
    layout: str | Collection[str] | None = None,
    dtype: str | Collection[str] | None = None,
    feature: str | Collection[str] | None = None,
    name: str | Collection[str] | None = None,
) -> list[Golden]:
    """The calls that a kernel should meet, in the order of the tables of problems.

    Every filter is a value or a collection of values, of which any one will do; None leaves nothing out.
    function is one of FUNCTIONS; rank counts the pooled axes; feature is a word of FEATURES; name is a pattern,
    in which * stands for anything. A value that does not exist is a ValueError. Nothing is computed but the list.

    >>> len(cases(mode="max", rank=2, dtype="float32", layout="channels_first", name="*/pad_both/*"))
    4
    >>> {case.mode for case in cases(feature="divisor_override")}
    {'avg'}
    """
    functions = _values("function", function, FUNCTIONS)
    ranks = _values("rank", rank, (1, 2, 3))
    modes, dtypes = _values("mode", mode, pooling.MODES), _values("dtype", dtype, TYPES)
    layouts, features = _values("layout", layout, LAYOUTS), _values("feature", feature, FEATURES)
    patterns = _values("name", name)
    named = None if patterns is None else re.compile("|".join(translate(pattern) for pattern in sorted(patterns))).match
    families = None if functions is None else {word.removesuffix("_backward") for word in functions}
    return [
        golden
        for question in asked()
        if (families is None or question.family in families)
        and (modes is None or question.mode in modes)
        and (dtypes is None or question.dtype in dtypes)
        and (ranks is None or len(question.case.x_shape) - 2 in ranks)
        for golden in question.goldens()
        if (functions is None or golden.function in functions)
        and (layouts is None or golden.layout in layouts)
        and (named is None or named(golden.name))
        and (features is None or golden.features & features)
    ]
