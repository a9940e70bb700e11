"""The named problems on MLX's device: ours, mlx.nn's layers and PyTorch's functions, beside a copy of the same bytes.

Everything is float32. A row is one problem in one mode, forward or value and gradient (of the sum of the results, with respect
to the input). Forward moves the input once and the result once; value and gradient also the gradient. The copy moves as many
bytes: it adds 0 to an array of half of them.

Answers are compared before anything is timed; one that differs is shown as differing. Times are medians of bursts that are
taken in turn (A B C A B C ...), each long enough to hide its start; on a GPU without a wait between its calls.

Arrays are made on the device, by the same integer arithmetic in MLX and in PyTorch, and only PyTorch's results travel: reading
a large array of a GPU through NumPy would move it to memory that the host shares.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import product
from json import dumps
from math import prod
from pathlib import Path
from statistics import median
from typing import Any

from problems import PROBLEMS, Problem, cells
from rivals import layer
from tables import asked, head, line

import pooling

BURST = 0.02  # seconds
PASSES = ("forward", "gradient")


@dataclass(frozen=True)
class Contender:
    """One way to compute a row: `call` starts a computation and gives the result, `wait` lets all of them end."""

    name: str
    layout: str  # "last" or "first"
    call: Callable[[], Any]
    wait: Callable[[], None]
    answer: Callable[[Any], Any]  # a result as an mx.array, channels last


# ---- who computes ------------------------------------------------------------------------------------------------------


def starter() -> Callable[[Any], None]:
    """What starts a computation: on the CPU also waits for it."""
    import mlx.core as mx

    return mx.eval if mx.default_device() == mx.Device(mx.cpu) else mx.async_eval


def last(problem: Problem) -> tuple[int, ...]:
    """The shape of the input, channels last."""
    batch, channels, *sizes = problem.shape
    return (batch, *sizes, channels)


def ours(problem: Problem, backend: str, layout: str = "channels_last") -> Callable[[Any], Any]:
    """pooling's function of an mx.array."""
    return lambda x: pooling.pool(x, **problem.arguments, layout=layout, backend=backend)


def graded(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The gradient, and beside it the value, of the sum of a function's results."""
    import mlx.core as mx

    run = mx.value_and_grad(lambda x: function(x).sum())
    return lambda x: run(x)[::-1]


def mlx_contenders(problem: Problem, part: str) -> Iterator[Contender]:
    """Ours, by every usable implementation and in both layouts, and mlx.nn's."""
    import mlx.core as mx

    shape, start = last(problem), starter()
    x = cells(mx.arange(prod(shape), dtype=mx.uint32), problem.mode, lambda i: i.astype(mx.float32)).reshape(shape)
    turned = mx.contiguous(mx.moveaxis(x, -1, 1))
    mx.eval(x, turned)

    def contender(name: str, layout: str, function: Callable[[Any], Any]) -> Contender:
        run, array = function if part == "forward" else graded(function), x if layout == "last" else turned

        def call() -> Any:
            result = run(array)
            start(result)
            return result

        def answer(result: Any) -> Any:
            y = result if part == "forward" else result[0]
            return y if layout == "last" else mx.moveaxis(y, 1, -1)

        return Contender(name, layout, call, mx.synchronize, answer)

    for name, reason in pooling.backends().items():
        if name.startswith("mlx:") and reason is None:
            for layout in ("last", "first"):
                yield contender(name, layout, ours(problem, name, f"channels_{layout}"))
    yield contender("mlx.nn", "last", layer(problem))


def torch_device(on_cpu: bool) -> str | None:
    """Where PyTorch computes; None where it is not installed or sees no GPU, and on a CPU, where its threads disturb ours."""
    try:
        import torch
    except ImportError:
        return None
    if on_cpu:
        return None
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else None


def torch_contenders(problem: Problem, part: str, device: str) -> Iterator[Contender]:
    """PyTorch's functions, in both memory formats."""
    import mlx.core as mx
    import torch

    shape = last(problem)
    index = torch.arange(prod(shape), dtype=torch.int64, device=device)
    x = cells(index, problem.mode, lambda i: i.float()).reshape(shape)
    function = getattr(torch.nn.functional, f"{problem.mode}_pool{problem.rank}d")
    wait = {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}[device]
    for layout in ("last", "first"):
        array = x.movedim(-1, 1)
        array = array if layout == "last" else array.contiguous()
        if part != "forward":
            array = array.detach().requires_grad_()

        def call(array: Any = array) -> Any:
            y = function(array, problem.kernel, problem.stride, problem.padding)
            return y if part == "forward" else torch.autograd.grad(y.sum(), array)[0]

        yield Contender("torch", layout, call, wait, lambda y: mx.array(y.detach().movedim(1, -1).contiguous().cpu().numpy()))


def copy(count: int) -> Contender:
    """The yardstick: moves `count` bytes, half read and half written."""
    import mlx.core as mx

    x, start = mx.ones((count // 8,), mx.float32), starter()
    mx.eval(x)

    def call() -> Any:
        y = x + 0
        start(y)
        return y

    return Contender("copy", "", call, mx.synchronize, lambda y: y)


# ---- measuring -----------------------------------------------------------------------------------------------------------


def burst(contender: Contender, calls: int) -> float:
    """Seconds per call."""
    contender.wait()
    start = time.perf_counter()
    for _ in range(calls):
        contender.call()
    contender.wait()
    return (time.perf_counter() - start) / calls


def times(contenders: list[Contender], rounds: int, seconds: float) -> list[float]:
    """The median of each, in turn."""
    calls = [max(1, min(1000, round(seconds / min(burst(c, 1), burst(c, 1))))) for c in contenders]
    found = [[burst(c, n) for c, n in zip(contenders, calls, strict=True)] for _ in range(rounds)]
    return [median(times) for times in zip(*found, strict=True)]


def reference(contenders: list[Contender]) -> Any:
    """The first answer that is one; ours come first."""
    import mlx.core as mx

    for contender in contenders:
        try:
            answer = contender.answer(contender.call())
            mx.eval(answer)
        except Exception:  # fault will say so
            continue
        return answer
    raise RuntimeError("nobody gives an answer")


def fault(problem: Problem, part: str, contender: Contender, want: Any) -> str | None:
    """What is wrong with an answer, if it is not ours."""
    import mlx.core as mx

    try:
        got = contender.answer(contender.call())
        if tuple(got.shape) != tuple(want.shape) or got.dtype != want.dtype:
            return f"differs: {got.dtype} {tuple(got.shape)}, not {want.dtype} {tuple(want.shape)}"
        wrong = int((mx.abs(got - want) > problem.tolerance(part, want)).sum())
    except Exception as error:  # a rival may lack an operation, or memory
        return f"fails: {type(error).__name__}: {error}"
    return f"differs: {wrong} of {want.size} cells" if wrong else None


def windows(problem: Problem) -> int:
    """The bytes of all windows."""
    return 4 * int(prod(problem.result_shape)) * problem.kernel**problem.rank


def room() -> float:
    """The bytes that a rival may take for them."""
    import mlx.core as mx

    facts = mx.device_info()
    size = facts.get("memory_size") or facts.get("total_memory")
    if size is None:
        with open("/proc/meminfo", encoding="utf-8") as lines:
            size = 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemTotal"))
    return float(size) / 4


def measure(problem: Problem, part: str, on_cpu: bool, rounds: int, seconds: float) -> dict[str, Any]:
    """One row: the seconds of every contender, or a sentence in its place."""
    device = torch_device(on_cpu)
    contenders = list(mlx_contenders(problem, part)) + (list(torch_contenders(problem, part, device)) if device else [])
    row: dict[str, Any] = {"problem": problem.name, "mode": problem.mode, "pass": part}
    want, found, timed = reference(contenders), {}, []
    for contender in contenders:
        name = f"{contender.name} {contender.layout}"
        if contender.name == "mlx.nn" and (part == "gradient" or not on_cpu) and windows(problem) > room():
            found[name] = f"not run: its windows take {windows(problem) / 1e9:.0f} GB"
        elif (sentence := fault(problem, part, contender, want)) is not None:
            found[name] = sentence
        else:
            timed.append(contender)
    del want
    moved = problem.must_move(part=part)
    yardstick, *seconds_of = times([copy(moved), *timed], rounds, seconds)
    found |= {f"{c.name} {c.layout}": t for c, t in zip(timed, seconds_of, strict=True)}
    return row | {"bytes": moved, "copy": yardstick, "times": found}


# ---- printing --------------------------------------------------------------------------------------------------------------


def heading(on_cpu: bool, batch: int) -> list[str]:
    """What was measured, and on what."""
    import mlx.core as mx

    facts = mx.device_info()
    name = facts.get("device_name") or facts.get("architecture") or "a device without a name"
    torch = f", PyTorch {version('torch')} on {torch_device(on_cpu)}" if torch_device(on_cpu) else ""
    many = f"; {batch} times as many images as in the table of problems" if batch > 1 else ""
    versions = f"pooling {pooling.__version__}, MLX {version('mlx')} on {mx.default_device()}{torch}"
    return [
        f"## {name}",
        "",
        f"{versions}; Python {platform.python_version()}, {platform.platform()}{many}",
        "",
        "Milliseconds per call, and the share of the bandwidth of a copy of the same bytes (100 %: as fast as the copy).",
        "The last column: the time of the best rival over that of our fastest.",
        "",
    ]


def shown(row: dict[str, Any], names: list[str]) -> tuple[str, list[str]]:
    """A row in Markdown, and notes on what was not timed."""
    columns, notes = [], []
    for name in names:
        found = row["times"][name]
        if isinstance(found, str):
            columns.append(found.partition(":")[0])
            notes += [f"{row['problem']} {row['mode']} {row['pass']}, {name}: {found}"]
        else:
            columns.append(f"{1000 * found:.3f}, {100 * row['copy'] / found:.0f} %")
    spent = {name: t for name, t in row["times"].items() if not isinstance(t, str)}
    ours = min((t for name, t in spent.items() if name.startswith("mlx:")), default=None)
    rival = min((t for name, t in spent.items() if not name.startswith("mlx:")), default=None)
    ratio = f"{rival / ours:.2f}" if ours and rival else "-"
    first = [f"{row['problem']} {row['mode']}", row["pass"], f"{1000 * row['copy']:.3f}"]
    return line([*first, *columns, ratio]), notes


def table(quick: bool, cpu: bool, only: list[str] | None, rounds: int, json: Path | None, batch: int = 1) -> int:
    """Measures, and prints the table as it grows; the result is the exit code."""
    try:
        import mlx.core as mx
    except ImportError as error:
        print(f"bench gpu: MLX cannot be imported: {error}")
        return 2
    if cpu:
        mx.set_default_device(mx.Device(mx.cpu))
    if mx.default_device() == mx.Device(mx.cpu) and not cpu:
        print("bench gpu: MLX's default device is no GPU; --cpu measures on its CPU device.")
        return 2
    try:
        problems = asked(only)
    except LookupError as error:
        print(f"bench gpu: {error}")
        return 2
    rows, notes = [], []
    for problem in problems:
        for mode, part in product(modes(problem), PASSES):
            asked_of = problem.small() if quick else problem
            many = replace(asked_of, mode=mode, shape=(batch * asked_of.shape[0], *asked_of.shape[1:]))
            row = measure(many, part, cpu, rounds, 0.0 if quick else BURST)
            if not rows:
                titles = ["problem", "pass", "copy", *row["times"], "rival / ours"]
                print("\n".join([*heading(cpu, batch), head(titles, 2)]))
            rows.append(row)
            text, more = shown(row, list(rows[0]["times"]))
            notes += more
            print(text, flush=True)
    print("\n" + "\n".join(f"- {note}" for note in notes))
    if json is not None:
        json.write_text(dumps({"heading": heading(cpu, batch), "rows": rows}, indent=1) + "\n", encoding="utf-8")
    return 1 if any(", mlx:" in note for note in notes) else 0


def modes(problem: Problem) -> list[str]:
    """max and avg; but the problem's own one where another problem is its twin in the other."""
    twins = [other for other in PROBLEMS.values() if (other.shape, other.window) == (problem.shape, problem.window)]
    return ["max", "avg"] if len(twins) == 1 else [problem.mode]
