"""Every named case asked of a backend, and its answers held against the oracle's.

It owns the list of questions, the comparison, and what is given to a backend that has arrays of its own; __main__ owns the
arguments, the printing and the processes. A question is asked under three layouts, forward, with indices, and backward;
each such call is a Row, which says what to call and what must come back, and knows nothing of who is asked.

Every cell must be == (NaN equal to NaN), and mode "lp" within the bound that the oracle derives. One allowance is the
specification's: a GPU may flush subnormal results to 0.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from importlib.util import find_spec
from itertools import product
from typing import Any, NamedTuple

import numpy as np

import pooling

from . import oracle
from .cases import ADAPTIVE_CASES, CASES, FLOATS, UNPOOL_CASES, AdaptiveCase, Array, Case, UnpoolCase, data, relayout
from .compare import lp_bound, lp_gradient_bound

SIGNED, UNSIGNED = (tuple(f"{kind}{bits}" for bits in (8, 16, 32, 64)) for kind in ("int", "uint"))
TYPES = tuple(name for name in ("bool", *SIGNED, *UNSIGNED, *FLOATS) if name != "bfloat16" or find_spec("ml_dtypes"))
QUICK = ("bool", "int32", "uint8", "float32")  # one type per kind
KINDS = ("real", "special")
EXPONENTS = (2.0, 1.0, 3.0, 0.5, 2.5, float("inf"))
LETTERS = {3: "CLN", 4: "WCHN", 5: "HCWND"}  # by the axes of an array: every axis elsewhere than under the named layouts


class Working(NamedTuple):
    """How exactly a backend computes mode "lp": the type of its powers and sums, and its power function's error in ulps."""

    dtype: str
    ulps: float


DOUBLE = Working("float64", 4)  # libm's and NumPy's pow
SINGLE = Working("float32", 16)  # Metal Shading Language Specification: pow <= 16 ulp; CUDA promises less
Bound = Callable[[Working], Array]


@dataclass(frozen=True)
class Row:
    """One call and what it must give: cells that are ==, or within bound, where there is one."""

    function: str  # of pooling
    arrays: Mapping[str, Array]
    arguments: Mapping[str, Any]
    expected: tuple[Array, ...]
    bound: Bound | None = None


# ---- the questions -------------------------------------------------------------------------------------------


def questions(types: tuple[str, ...] = TYPES) -> Iterator[tuple[str, Callable[[], Iterator[Row]]]]:
    """Names, and what makes the rows of each: nothing is computed for a question that is not asked."""
    modes = [(mode, {"p": p} if mode == "lp" else {}) for mode in pooling.MODES for p in (EXPONENTS if mode == "lp" else (0,))]
    pooled: tuple[tuple[str, Sequence[Case | AdaptiveCase]], ...] = (("pool", CASES), ("adaptive_pool", ADAPTIVE_CASES))
    for function, cases in pooled:
        for case, (mode, power), dtype, kind in product(cases, modes, types, KINDS):
            label = mode + "".join(f"-{p:g}" for p in power.values())
            yield f"{function}/{case.name}/{label}/{dtype}/{kind}", partial(_pooled, function, case, mode, power, dtype, kind)
    for unpooled, dtype in product(UNPOOL_CASES, types):
        yield f"max_unpool/{unpooled.name}/max/{dtype}/special", partial(_unpooled, unpooled, dtype)
    for mode, dtype, result, kind in product(pooling.MODES, types, [name for name in TYPES if name != "bool"], KINDS):
        yield f"pool/as_{result}/{mode}/{dtype}/{kind}", partial(_converted, mode, dtype, result, kind)


def _layouts(
    function: str, arrays: Mapping[str, Array], arguments: Mapping[str, Any], expected: tuple[Array, ...], bound: Bound | None
) -> Iterator[Row]:
    """A channels_last row under every layout; arrays are views, so that most of them are not contiguous."""
    for layout in ("channels_last", "channels_first", LETTERS[arrays["x"].ndim]):

        def turned(working: Working, layout: str = layout) -> Array:
            assert bound is not None
            return relayout(bound(working), layout)

        yield Row(
            function,
            {name: relayout(array, layout) for name, array in arrays.items()},
            {**arguments, "layout": layout},
            tuple(relayout(array, layout) for array in expected),
            None if bound is None else turned,
        )


def _pooled(
    function: str, case: Case | AdaptiveCase, mode: str, power: Mapping[str, float], dtype: str, kind: str
) -> Iterator[Row]:
    """One array, pooled forward, with indices, and backward."""
    window = case.arguments(mode) if isinstance(case, Case) else {"output_size": case.output_size}
    arguments = {"mode": mode, **window, **power}
    forward, backward = getattr(oracle, function), getattr(oracle, f"{function}_backward")
    x = data(case.x_shape, dtype, 1, kind)
    want = forward(x, **arguments)
    near = partial(_near, want, power["p"], _terms(function, case)) if mode == "lp" else None
    yield from _layouts(function, {"x": x}, arguments, (want,), near)
    chosen = forward(x, **arguments, return_indices=True) if mode in ("max", "min") else None
    if chosen:
        yield from _layouts(function, {"x": x}, {**arguments, "return_indices": True}, chosen, None)
    if dtype not in FLOATS:
        return
    g = data(want.shape, dtype, 2)
    arrays, want = {"grad_output": g, "x": x}, backward(g, x, **arguments)
    near = partial(_near_gradient, want, g, x, arguments, function, _terms(function, case)) if mode == "lp" else None
    yield from _layouts(f"{function}_backward", arrays, arguments, (want,), near)
    if chosen:
        given = {**arrays, "indices": chosen[1].astype(np.int32)}
        yield from _layouts(f"{function}_backward", given, arguments, (want,), None)


def _unpooled(case: UnpoolCase, dtype: str) -> Iterator[Row]:
    x, indices = data(case.x_shape, dtype, 1, "special"), case.indices(3)
    want = (oracle.max_unpool(x, indices, **case.arguments),)
    rows = _layouts("max_unpool", {"x": x, "indices": indices}, case.arguments, want, None)
    whole = case.output_size is not None and len(case.output_size) == x.ndim  # it stands in the order of one layout
    yield from [next(rows)] if whole else rows


def _converted(mode: str, dtype: str, result: str, kind: str) -> Iterator[Row]:
    """A result of another type. Norms that are rounded to integers are at most one more apart."""
    x, asked = data((2, 6, 7, 3), dtype, 4, kind), data((0,), result, 1).dtype
    arguments: dict[str, Any] = {"mode": mode, "kernel": 3, "stride": 2, "padding": 1, "dtype": asked}
    want = oracle.pool(x, **arguments)
    near: Bound | None = None
    if mode == "lp":
        near = partial(_near, want, 2.0, 9) if result in FLOATS else partial(_near, want.astype(np.float64), 2.0, 9, more=1.0)
    yield Row("pool", {"x": x}, arguments, (want,), near)


def _near(want: Array, p: float, terms: int, working: Working, more: float = 0.0) -> Array:
    return lp_bound(want, p, terms, working=working.dtype, ulps=working.ulps) + more


def _near_gradient(
    want: Array, g: Array, x: Array, arguments: Mapping[str, Any], function: str, terms: int, working: Working
) -> Array:
    norms = getattr(oracle, function)(x, **arguments, dtype="float64")
    sizes = np.abs(g.astype(np.float64)), np.abs(x.astype(np.float64))
    magnitude = getattr(oracle, f"{function}_backward")(*sizes, **arguments)
    p = arguments["p"]
    return lp_gradient_bound(want, g, norms, magnitude, p, terms, working=working.dtype, ulps=working.ulps)


@lru_cache
def _terms(function: str, case: Case | AdaptiveCase) -> int:
    """The cells of the largest window or the windows over one cell, whichever is more: sums of ones count them."""
    ones = np.ones((1, *case.x_shape[1:-1], 1))
    window = case.geometry if isinstance(case, Case) else {"output_size": case.output_size}
    covered = getattr(oracle, function)(ones, "sum", **window)
    covering = getattr(oracle, f"{function}_backward")(np.ones_like(covered), ones, "sum", **window)
    return int(max(covered.max(initial=1), covering.max(initial=1)))


# ---- who is asked --------------------------------------------------------------------------------------------


REFUSED = "refuses this call: "  # what stands before the sentence, in the error of a backend


class Refused(Exception):
    """A call that a backend says it cannot do here; the message is its sentence."""


class Kind(NamedTuple):
    """The arrays that a backend takes and gives, and what its device promises."""

    device: str
    give: Callable[[Array], Any]
    take: Callable[[Any], Array]
    working: Working
    flushes: bool


def kind_of(backend: str, device: str | None = None) -> Kind:
    """What a backend is given. device: "cpu" or "gpu", where MLX shall compute; None leaves the choice to MLX."""
    return _mlx(device) if backend.partition(":")[0] == "mlx" else Kind(_processor(), lambda x: x, _numpy, DOUBLE, False)


def _numpy(y: Any) -> Array:
    if type(y) is not np.ndarray:
        raise TypeError(f"the result is a {type(y).__name__}, not a NumPy array")
    return y


def _processor() -> str:
    try:  # Linux
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _mlx(device: str | None) -> Kind:
    """mx.arrays, in memory as the NumPy arrays are: a transposed view becomes one."""
    import mlx.core as mx

    version = importlib.metadata.version("mlx")
    if device is not None:
        mx.set_default_device(mx.Device(getattr(mx, device)))
    here = mx.default_device()
    gpu = here != mx.Device(mx.cpu)

    def give(x: Array) -> Any:
        if gpu and x.dtype == np.float64:
            raise Refused("MLX has float64 on its CPU device only.")
        order = sorted(range(x.ndim), key=lambda i: -x.strides[i])
        plain = x.transpose(order).copy()
        if x.dtype.name == "bfloat16":
            y = mx.array(plain.view(np.uint16)).view(mx.bfloat16)
        else:
            y = mx.array(plain, getattr(mx, "bool_" if x.dtype == np.bool else x.dtype.name))
        return y.transpose(np.argsort(order).tolist())

    def take(y: Any) -> Array:
        if not isinstance(y, mx.array):
            raise TypeError(f"the result is a {type(y).__name__}, not an mx.array")
        if y.dtype == mx.bfloat16:
            return np.array(y.view(mx.uint16)).view("bfloat16")
        return np.array(y)

    facts = mx.device_info() if hasattr(mx, "device_info") else mx.metal.device_info()
    named = f"MLX {version} on {here}, {facts.get('device_name') or facts.get('architecture', 'unknown')}"
    return Kind(named, give, take, SINGLE if gpu else DOUBLE, gpu)


# ---- the comparison ------------------------------------------------------------------------------------------


@dataclass
class Verdict:
    """What came of one question, or of many: see add."""

    name: str
    cells: int = 0  # compared with the oracle's
    differ: int = 0  # of them
    calls: int = 0
    failed: int = 0  # calls that raised, or whose result is no array
    refusals: Counter[str] = field(default_factory=Counter)
    where: Counter[str] = field(default_factory=Counter)  # parts of the names of calls with a fault
    faults: list[str] = field(default_factory=list)  # one text per such call

    def add(self, other: Verdict) -> None:
        """Adds up; the faults' texts are the caller's to keep."""
        for name in ("cells", "differ", "calls", "failed", "refusals", "where"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def fault(self, row: Row, text: str) -> None:
        """Keeps what is wrong with a call."""
        layout = row.arguments.get("layout", "channels_last")
        self.where.update([row.function, *self.name.split("/")[1:], layout])
        arrays = [f"{name}: {array.dtype} {array.shape}" for name, array in row.arrays.items()]
        call = ", ".join([*arrays, *(f"{name}={value!r}" for name, value in row.arguments.items())])
        self.faults.append(f"{self.name}, {layout}\n  call  {row.function}({call})\n  {text}")


def differing(got: Array, want: Array, bound: Array | None, flushes: bool) -> Array:
    """Which cells are wrong; all, and at least one, where the shape or the type is."""
    if got.shape != want.shape or got.dtype != want.dtype:
        return np.ones(want.shape or 1, np.bool) if want.size else np.ones(1, np.bool)
    same = (got == want) | ((got != got) & (want != want))
    with np.errstate(all="ignore"):
        if bound is not None:
            same |= np.abs(got.astype(np.float64) - want.astype(np.float64)) <= bound
        if flushes and want.dtype.name in FLOATS:
            _, exponent = FLOATS[want.dtype.name]
            same |= (got == 0) & (np.abs(want.astype(np.float64)) < 2.0 ** (1 - exponent))
    return np.asarray(~same)


def ask(backend: str, kind: Kind, name: str, rows: Iterator[Row]) -> Verdict:
    """Makes the calls of one question and compares; whatever a call raises is noted, and the next one follows."""
    verdict = Verdict(name)
    for row in rows:
        verdict.calls += 1
        try:
            arrays = {name: kind.give(array) for name, array in row.arrays.items()}
            result = getattr(pooling, row.function)(**arrays, **row.arguments, backend=backend)
            results = [kind.take(part) for part in (result if isinstance(result, tuple) else (result,))]
            if len(results) != len(row.expected):
                raise TypeError(f"{len(results)} arrays came back, not {len(row.expected)}")
        except Exception as error:  # anything that a device, its driver or the product can raise
            _, marked, sentence = str(error).partition(REFUSED)
            if marked or isinstance(error, Refused):
                verdict.refusals[sentence.partition(" [")[0] or str(error)] += 1
            else:
                verdict.failed += 1
                verdict.fault(row, f"raised {type(error).__name__}: {error}")
            continue
        bound = None if row.bound is None else row.bound(kind.working)
        for part, got, want in zip(("values", "indices"), results, row.expected, strict=False):
            wrong = differing(got, want, bound, kind.flushes)
            verdict.cells += want.size
            if wrong.any():
                verdict.differ += (count := int(np.count_nonzero(wrong)))
                verdict.fault(row, _seen(part, wrong, count, got, want))
    return verdict


def _seen(part: str, wrong: Array, count: int, got: Array, want: Array) -> str:
    if got.shape != want.shape or got.dtype != want.dtype:
        return f"{part}  expected {want.dtype} {want.shape}, got {got.dtype} {got.shape}"
    first = tuple(int(i) for i in np.argwhere(wrong)[0])
    return f"{part}  at {first}: expected {want[first]}, got {got[first]}; {count} of {want.size} cells differ"


def reasons(device: str | None) -> Iterator[dict[str, str | None]]:
    """What pooling.backends() says on that device, once."""
    if device is not None:
        _mlx(device)
    yield pooling.backends()


def answers(backend: str, names: list[str], device: str | None) -> Iterator[str | Verdict]:
    """The device's name, and then the verdict of each of the named questions."""
    kind, makers = kind_of(backend, device), dict(questions())
    yield kind.device
    for name in names:
        yield ask(backend, kind, name, makers[name]())
