"""Every named case asked of a backend, and its answers held against the oracle's.

It owns what is given to a backend that has arrays of its own, and the counting; golden owns the calls and what they must
give, __main__ the arguments, the printing and the processes. One allowance is the specification's: a GPU may flush
subnormal results to 0.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

import pooling

from .cases import Array
from .compare import differing
from .golden import DOUBLE, SINGLE, Golden, Working, questions

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

    def fault(self, golden: Golden, text: str) -> None:
        """Keeps what is wrong with a call."""
        self.where.update([golden.function, *self.name.split("/")[1:], golden.layout])
        arrays = [f"{name}: {array.dtype} {array.shape}" for name, array in golden.views.items()]
        call = ", ".join([*arrays, *(f"{name}={value!r}" for name, value in golden.arguments.items())])
        self.faults.append(f"{self.name}, {golden.layout}\n  call  {golden.function}({call})\n  {text}")


def ask(backend: str, kind: Kind, name: str, goldens: Iterator[Golden]) -> Verdict:
    """Makes the calls of one question and compares; whatever a call raises is noted, and the next one follows."""
    verdict = Verdict(name)
    for golden in goldens:
        verdict.calls += 1
        expected = golden.expected
        try:
            arrays = {name: kind.give(array) for name, array in golden.views.items()}
            result = getattr(pooling, golden.function)(**arrays, **golden.arguments, backend=backend)
            results = [kind.take(part) for part in (result if isinstance(result, tuple) else (result,))]
            if len(results) != len(expected):
                raise TypeError(f"{len(results)} arrays came back, not {len(expected)}")
        except Exception as error:  # anything that a device, its driver or the product can raise
            _, marked, sentence = str(error).partition(REFUSED)
            if marked or isinstance(error, Refused):
                verdict.refusals[sentence.partition(" [")[0] or str(error)] += 1
            else:
                verdict.failed += 1
                verdict.fault(golden, f"raised {type(error).__name__}: {error}")
            continue
        bound = golden.bound(kind.working)
        for part, got, want in zip(("values", "indices"), results, expected, strict=False):
            wrong = differing(got, want, bound, kind.flushes)
            verdict.cells += want.size
            if wrong.any():
                verdict.differ += (count := int(np.count_nonzero(wrong)))
                verdict.fault(golden, _seen(part, wrong, count, got, want))
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
