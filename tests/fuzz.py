"""Whole calls, drawn at random and held against the oracle: `python tests/fuzz.py --calls 100000 --seed 0 --backend cpu`.

It draws what the cases of the suite are too small for: every way that rows, channels, taps and views can have through the
loops. The oracle takes most of the time, so a problem that it has solved is asked in several ways, each of them a call: under
other layouts, from and into other memory, on other numbers of threads, and with an argument that is wrong, where the right
error is the result. The first call that differs is printed as a line that repeats its problem, and ends the run with status 1.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from math import prod
from typing import Any

import ml_dtypes  # noqa: F401  (its import makes bfloat16 known)
import numpy as np
from agreement import EXPONENTS, FLOATS, LAYOUTS, backward_bound, check, forward_bound, refused

import pooling
from pooling._dtypes import DTYPES
from pooling.testing import data, oracle, relayout

CELLS = 40_000  # of an array, at most
WORK = 4_000_000  # cells of all windows together, and
STEPS = 100_000  # taps of all windows of an axis: what the oracle takes time for
WAYS = 8  # in which a problem is asked
FUNCTIONS = {  # and how often each is drawn
    "pool": 10,
    "pool_backward": 4,
    "adaptive_pool": 2,
    "adaptive_pool_backward": 1,
    "global_pool": 1,
    "max_unpool": 2,
}
KINDS = ("real", "special", "subnormal", "small_integers")
SIZES = {1: (1, 4000), 2: (1, 300), 3: (1, 40)}
Draw = np.random.Generator


def _log(rng: Draw, low: int, high: int) -> int:
    """A number from low to high, small ones as likely as large ones."""
    return int(np.exp(rng.uniform(np.log(low), np.log(high + 1))))


def _axis(rng: Draw, n: int) -> tuple[int, int, tuple[int, int], int]:
    """Kernel, stride, padding and dilation of an axis of n cells."""
    dilation = int(rng.choice((1, 1, 1, 1, 2, 3)))
    kernel = _log(rng, 1, max(1, min(n, 120) // dilation))
    extent = dilation * (kernel - 1) + 1
    stride = int(rng.choice((1, 1, 2, 3, kernel, kernel + 1)))
    before, after = (int(rng.integers(0, extent)) if rng.random() < 0.5 else 0 for _ in range(2))
    if rng.random() < 0.3:
        before = after = (kernel - 1) // 2
    return kernel, stride, (before, max(after, extent - n - before)), dilation


def _view(rng: Draw, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The same cells from memory with other strides."""
    kind = rng.integers(0, 7)
    axis = int(rng.integers(0, x.ndim))
    if kind == 0:
        return np.flip(np.ascontiguousarray(np.flip(x, axis)), axis)
    if kind == 1:
        wide = np.repeat(x, 2, axis)
        return wide[(slice(None),) * axis + (slice(None, None, 2),)]
    if kind == 2:
        order = rng.permutation(x.ndim)
        return np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))
    if kind == 3:  # at odd addresses, where cells have one byte
        within = (slice(1, -1),) * x.ndim
        large = np.zeros([n + 2 for n in x.shape], x.dtype)
        large[within] = x
        return large[within]
    if kind == 4:  # at no address that is a multiple of anything
        memory = np.empty(x.nbytes + 1, np.uint8)
        shifted = memory[1:].view(x.dtype).reshape(x.shape)
        shifted[...] = x
        return shifted
    return x


def drawn(seed: int) -> dict[str, Any]:
    """A problem: a legal one, as large as the oracle's patience allows, most of them far smaller."""
    rng = np.random.default_rng(seed)
    patience = int(rng.choice((1, 4, 16, 16)))
    while True:
        rank = int(rng.choice((1, 2, 2, 2, 3)))
        sizes = tuple(_log(rng, *SIZES[rank]) for _ in range(rank))
        columns = [_axis(rng, n) for n in sizes]
        kernel, stride, padding, dilation = (tuple(column) for column in zip(*columns, strict=True))
        shape = (int(rng.choice((1, 1, 2, 5))), *sizes, _log(rng, 1, 130))
        if prod(shape) * patience > CELLS or any(max(p) > d * (k - 1) for p, k, d in zip(padding, kernel, dilation, strict=True)):
            continue
        window = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
        window |= {"ceil_mode": bool(rng.random() < 0.3)}
        out = oracle.output_shape(shape, **window)
        steps = sum(n * k for n, k in zip(out[1:-1], kernel, strict=True))
        if prod(out) * prod(kernel) * patience <= WORK and prod(out) * patience <= 4 * CELLS and steps * patience <= STEPS:
            break
    weights = np.array(list(FUNCTIONS.values()))
    function = str(rng.choice(list(FUNCTIONS), p=weights / weights.sum()))
    if function == "max_unpool" and (max(dilation) > 1 or prod(out[1:-1]) > 300):  # legal and quick ones only
        function = "pool"
    mode = "max" if function == "max_unpool" else str(rng.choice(list(pooling.MODES)))
    options: dict[str, Any] = {"p": float(rng.choice(EXPONENTS))} if mode == "lp" else {}
    if function.startswith("adaptive"):
        window = {"output_size": tuple(_log(rng, 1, min(n + n // 2 + 1, 60)) for n in sizes)}
    elif function == "global_pool":
        window = {}
    elif mode == "avg":
        options = {
            "count_include_pad": bool(rng.integers(2)),
            "divisor_override": [None, None, None, 3, -7][int(rng.integers(5))],
        }
    backward = function.endswith("backward")
    indexed = mode in ("max", "min") and bool(rng.integers(2))
    dtype = str(rng.choice(FLOATS if backward else list(DTYPES)))
    if not backward and function != "max_unpool":
        if indexed:
            options["return_indices"] = True
        if rng.random() < 0.2:  # the bound of lp is one for floats
            options["dtype"] = str(rng.choice(FLOATS if mode == "lp" else [name for name in DTYPES if name != "bool"]))
    return {
        "function": function,
        "shape": shape,
        "window": window,
        "mode": mode,
        "options": options,
        "indices": backward and indexed,
        "dtype": dtype,
        "kind": str(rng.choice(KINDS)),
        "layouts": ("channels_last", "channels_first", *LAYOUTS[rank]),
        "seed": seed,
    }


def run(call: dict[str, Any], backend: str) -> int:
    """How many calls were made of a problem; AssertionError where one of them differs from the oracle."""
    if refused(backend, call["mode"], call["dtype"], call["options"].get("dtype")):
        return 0
    arrays, arguments, want, bound = _solved(call, backend)
    rng, threads, ways = np.random.default_rng(call["seed"]), pooling.get_num_threads(), WAYS if backend == "cpu" else 1
    try:
        for way in range(ways):
            pooling.set_num_threads(int(rng.integers(1, 4)))
            _ask(call, rng, arrays, arguments | {"backend": backend}, want, bound, wrong=way > 0 and rng.random() < 0.2)
    finally:
        pooling.set_num_threads(threads)
    return ways


def _solved(call: dict[str, Any], backend: str) -> tuple[Any, ...]:
    """The arrays by name, channels last; the other arguments; what the oracle gives; and its bound, or None."""
    function, window, mode, number = (call[name] for name in ("function", "window", "mode", "seed"))
    x = data(call["shape"], call["dtype"], number % 1000, call["kind"])
    arguments = {"mode": mode, **window, **call["options"]}
    p = arguments.get("p", 2.0)
    terms = window.get("kernel", x.shape[1:-1])
    if function == "max_unpool":
        values, indices = oracle.pool(x, **arguments, return_indices=True)
        arguments = {name: window[name] for name in ("kernel", "stride", "padding")} | {"output_size": x.shape[1:-1]}
        return {"x": values, "indices": indices}, arguments, (oracle.max_unpool(values, indices, **arguments),), None
    if not function.endswith("backward"):
        want = getattr(oracle, function)(x, **arguments)
        want = want if isinstance(want, tuple) else (want,)
        return {"x": x}, arguments, want, None if len(want) == 2 else forward_bound(want[0], mode, p, terms, backend)
    forward, backward = (getattr(oracle, name) for name in (function.removesuffix("_backward"), function))
    arrays = {"grad_output": None, "x": x}
    if call["indices"]:
        values, arrays["indices"] = forward(x, **arguments, return_indices=True)
    else:
        values = forward(x, **arguments)
    arrays["grad_output"] = g = data(values.shape, call["dtype"], number % 1000 + 100, "real")
    want = backward(**arrays, **arguments)
    return arrays, arguments, (want,), backward_bound(want, g, x, mode, p, (forward, backward), backend=backend, **window)


def _ask(call: dict[str, Any], rng: Draw, arrays: Any, arguments: dict[str, Any], want: Any, bound: Any, *, wrong: bool) -> None:
    """One call, in a way that is drawn."""
    layout = str(rng.choice(call["layouts"]))
    given = {name: _view(rng, relayout(array, layout)) for name, array in arrays.items()}
    function, out = call["function"], ()
    if arguments["backend"] == "cpu" and rng.random() < 0.3 and list(given) == ["x"]:
        out = tuple(_view(rng, np.full_like(relayout(part, layout), 1)) for part in want)
        given["out"] = out if len(out) == 2 else out[0]
    error = _spoil(rng, given) if wrong else ()
    before = [part.copy() for part in out] if error else []
    try:
        got = getattr(pooling, function)(**given, **arguments, layout=layout)
    except error:
        assert all((part == kept).all() for part, kept in zip(out, before, strict=True)), (call, layout, "out was written")
        return
    assert not error, f"{call}: no {error.__name__}"
    got = got if isinstance(got, tuple) else (got,)
    assert not out or all(part is own for part, own in zip(got, out, strict=True)), (call, layout, "out was not returned")
    check(tuple(relayout(part, "channels_last", layout) for part in got), want, (call, layout), bound)


def _spoil(rng: Draw, given: dict[str, Any]) -> type[Exception]:
    """Makes one argument wrong, and says what error that is."""
    x = given["x"]
    if "indices" in given:
        wrong = given["indices"].astype(np.int64)
        wrong[tuple(rng.integers(n) for n in wrong.shape)] = rng.choice((-2, 2**32 + 3, -(2**63), 2**63 - 1, 10**6))
        given["indices"] = wrong
        return IndexError
    if "grad_output" in given:
        given["grad_output"] = np.concatenate([given["grad_output"]] * 2, int(rng.integers(x.ndim)))
        return ValueError
    if "out" not in given:
        given["x"] = np.ones(x.shape, np.complex64)
        return TypeError
    pair = isinstance(given["out"], tuple)
    *rest, last = given["out"] if pair else (given["out"],)
    kind = rng.integers(3)
    if kind == 0:
        last = np.concatenate([last] * 2, int(rng.integers(x.ndim)))
    elif kind == 1:
        last = last.view()
        last.flags.writeable = False
    else:
        last = last.astype(last.dtype.newbyteorder() if last.itemsize > 1 else np.complex64)
    given["out"] = (*rest, last) if pair else last
    return TypeError if kind == 2 else ValueError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=10_000, help=f"at least so many: a problem is asked in {WAYS} ways")
    parser.add_argument("--seed", type=int, default=0, help="of the first problem; each takes the next one")
    parser.add_argument("--backend", default="cpu")
    parser.add_argument("--note", default=os.devnull, help="a file for the present problem: a process may die of it")
    given = parser.parse_args()
    begin = time.monotonic()
    seed, calls, note = given.seed, 0, os.open(given.note, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    while calls < given.calls:
        os.lseek(note, 0, os.SEEK_SET)
        os.write(note, b"%-20d" % seed)
        call = drawn(seed)
        try:
            calls += run(call, given.backend)
        except Exception as error:
            print(f"\n{type(error).__name__}: {str(error)[:2000]}")
            print(f"python tests/fuzz.py --seed {seed} --calls 1 --backend {given.backend}")
            return 1
        seed += 1
        if sys.stderr.isatty():
            print(f"\r{calls} of {given.calls}", end="", file=sys.stderr)
        elif calls // 100_000 > (calls - WAYS) // 100_000:
            print(f"  {calls} calls, up to problem {seed - 1}, {time.monotonic() - begin:.0f} s", flush=True)
    passed = time.monotonic() - begin
    print(f"{calls} calls, of problems {given.seed} to {seed - 1}, on {given.backend} agree, {passed:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
