"""Whole calls, drawn at random and held against the oracle: `python tests/fuzz.py --calls 100000 --seed 0 --backend cpu`.

It draws what the cases of the suite are too small for: every way that rows, channels, taps and views can have through the
loops. The first call that differs is printed as a line that repeats it, and ends the run with status 1.
"""

from __future__ import annotations

import argparse
import sys
import time
from math import prod
from typing import Any

import numpy as np
from agreement import EXPONENTS, LAYOUTS, backward_bound, check, forward_bound, refused

import pooling
from pooling._dtypes import DTYPES
from pooling.testing import data, oracle, relayout

CELLS = 40_000  # of an array, at most
WORK = 4_000_000  # cells of all windows together, which is what the oracle takes time for
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
    kind = rng.integers(0, 5)
    axis = int(rng.integers(0, x.ndim))
    if kind == 0:
        return np.flip(np.ascontiguousarray(np.flip(x, axis)), axis)
    if kind == 1:
        wide = np.repeat(x, 2, axis)
        return wide[(slice(None),) * axis + (slice(None, None, 2),)]
    if kind == 2:
        order = rng.permutation(x.ndim)
        return np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))
    return x


def drawn(seed: int) -> dict[str, Any]:
    """A call: a legal one, as large as the oracle's patience allows."""
    rng = np.random.default_rng(seed)
    while True:
        rank = int(rng.choice((1, 2, 2, 2, 3)))
        sizes = tuple(_log(rng, *SIZES[rank]) for _ in range(rank))
        columns = [_axis(rng, n) for n in sizes]
        kernel, stride, padding, dilation = (tuple(column) for column in zip(*columns, strict=True))
        shape = (int(rng.choice((1, 1, 2, 5))), *sizes, _log(rng, 1, 130))
        if prod(shape) > CELLS or any(max(p) > d * (k - 1) for p, k, d in zip(padding, kernel, dilation, strict=True)):
            continue
        window = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
        window |= {"ceil_mode": bool(rng.random() < 0.3)}
        out = oracle.output_shape(shape, **window)
        if prod(out) * prod(kernel) <= WORK and prod(out) <= 4 * CELLS:
            break
    mode = str(rng.choice(list(pooling.MODES)))
    options: dict[str, Any] = {"p": float(rng.choice(EXPONENTS))} if mode == "lp" else {}
    if mode == "avg":
        options = {
            "count_include_pad": bool(rng.integers(2)),
            "divisor_override": [None, None, None, 3, -7][int(rng.integers(5))],
        }
    return {
        "shape": shape,
        "window": window,
        "mode": mode,
        "options": options,
        "dtype": str(rng.choice(list(DTYPES))),
        "kind": str(rng.choice(KINDS)),
        "layout": str(rng.choice(("channels_last", "channels_first", *LAYOUTS[rank]))),
        "indices": mode in ("max", "min") and bool(rng.integers(2)),
        "backward": bool(rng.random() < 0.3),
        "out": bool(rng.random() < 0.3),
        "threads": int(rng.integers(1, 4)),
        "seed": seed,
    }


def run(call: dict[str, Any], backend: str) -> None:
    """AssertionError where the call differs from the oracle, on as many threads as it says."""
    threads = pooling.get_num_threads()
    pooling.set_num_threads(call["threads"])
    try:
        _run(call, backend)
    finally:
        pooling.set_num_threads(threads)


def _run(call: dict[str, Any], backend: str) -> None:
    rng = np.random.default_rng(call["seed"])
    window, mode, layout, dtype = (call[name] for name in ("window", "mode", "layout", "dtype"))
    if refused(backend, mode, dtype):
        return
    options = call["options"] | window
    x = data(call["shape"], dtype, call["seed"] % 1000, call["kind"])
    given = _view(rng, relayout(x, layout))
    p = options.get("p", 2.0)
    if call["backward"] and DTYPES[dtype].kind == "f":
        g = data(oracle.output_shape(x.shape, **window), dtype, call["seed"] % 1000 + 100, "real")
        want = oracle.pool_backward(g, x, mode, **options)
        got = pooling.pool_backward(_view(rng, relayout(g, layout)), given, mode, **options, layout=layout, backend=backend)
        oracles = (oracle.pool, oracle.pool_backward)
        bound = backward_bound(want, g, x, mode, p, oracles, backend=backend, **window)
        check(relayout(got, "channels_last", layout), want, call, bound)
        return
    more = {"return_indices": True} if call["indices"] else {}
    want = oracle.pool(x, mode, **options, **more)
    if call["out"] and backend == "cpu":
        parts = want if isinstance(want, tuple) else (want,)
        into = tuple(_view(rng, np.full_like(relayout(part, layout), 1)) for part in parts)
        more["out"] = into if call["indices"] else into[0]
    got = pooling.pool(given, mode, **options, **more, layout=layout, backend=backend)
    back = tuple(relayout(part, "channels_last", layout) for part in (got if isinstance(got, tuple) else (got,)))
    check(back, want, call, None if call["indices"] else forward_bound(want, mode, p, window["kernel"], backend))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="of the first call; each takes the next one")
    parser.add_argument("--backend", default="cpu")
    given = parser.parse_args()
    begin = time.monotonic()
    for seed in range(given.seed, given.seed + given.calls):
        call = drawn(seed)
        try:
            run(call, given.backend)
        except Exception as error:
            print(f"\n{type(error).__name__}: {str(error)[:2000]}")
            print(f"python tests/fuzz.py --seed {seed} --calls 1 --backend {given.backend}")
            return 1
        if sys.stderr.isatty():
            print(f"\r{seed + 1 - given.seed} of {given.calls}", end="", file=sys.stderr)
    print(f"{given.calls} calls from seed {given.seed} on {given.backend} agree, {time.monotonic() - begin:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
