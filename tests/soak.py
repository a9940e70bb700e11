"""Millions of small calls, and what they do to the resident memory: `python tests/soak.py --calls 10000000`.

Values, indices, `out`, gradients, the way back from indices, errors of every kind and, where there is MLX, some of its calls:
the same few hundred again and again, and one in a hundred on a shape that no call had before, so that what is remembered is
also forgotten. Memory that is still higher at the end than after the first tenth, by more than LIMIT, ends it with status 1.
Before they are counted, so many shapes are seen that every cache is full.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import resource
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count, cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

import pooling

LIMIT = 1 << 20  # bytes: a tenth of one for each of 10,000,000 calls
SAMPLES = 20
CACHED = 3000  # more than any cache keeps
Call = Callable[[], Any]


def _raises(error: type[Exception], call: Call) -> None:
    try:
        call()
    except error:
        return
    raise AssertionError(f"no {error.__name__}")


def calls_on(n: int, w: int) -> dict[str, Call]:
    """One small call of each kind, on arrays with rows of n cells in w columns."""
    x = np.arange(2.0 * n * w * 3, dtype=np.float32).reshape(2, n, w, 3) % 17
    half, small, first = x.astype(np.float16), x.astype(np.int8), np.moveaxis(x, -1, 1)
    y, i = pooling.pool(x, "max", 2, return_indices=True)
    into, pair, turned = np.empty_like(y), (np.empty_like(y), np.empty_like(i)), np.empty_like(y)[::-1]
    wrong, less = np.full_like(i, n * w), y[:, 1:]
    return {
        **{
            f"{mode} {cells.dtype}": lambda mode=mode, cells=cells: pooling.pool(cells, mode, 2)
            for mode in pooling.MODES
            for cells in (x, half, small)
        },
        "indices": lambda: pooling.pool(x, "max", 2, return_indices=True),
        "window": lambda: pooling.pool(x, "avg", (3, 2), (1, 2), 1, dilation=1, ceil_mode=True, count_include_pad=False),
        "channels first": lambda: pooling.pool(first, "max", 3, 1, "same", layout="channels_first"),
        "dtype": lambda: pooling.pool(small, "sum", 2, dtype="float64"),
        "out": lambda: pooling.pool(x, "max", 2, out=into),
        "out, a pair": lambda: pooling.pool(x, "min", 2, return_indices=True, out=pair),
        "out, turned": lambda: pooling.pool(x, "max", 2, out=turned),
        "adaptive": lambda: pooling.adaptive_pool(x, "avg", 2),
        "global": lambda: pooling.global_pool(x, "max", keepdims=False),
        "unpool": lambda: pooling.max_unpool(y, i, 2, output_size=(n, w)),
        **{f"gradient of {mode}": lambda mode=mode: pooling.pool_backward(y, x, mode, 2) for mode in pooling.MODES},
        "gradient by indices": lambda: pooling.pool_backward(y, x, "max", 2, indices=i),
        "gradient, adaptive": lambda: pooling.adaptive_pool_backward(y, x, "avg", y.shape[1:3]),
        "shape": lambda: pooling.output_shape(x.shape, 2),
        "kernel": lambda: _raises(ValueError, lambda: pooling.pool(x, "max", n + 1)),
        "mode": lambda: _raises(ValueError, lambda: pooling.pool(x, "mean", 2)),
        "list": lambda: _raises(TypeError, lambda: pooling.pool([1.0], "max", 2)),
        "out of another shape": lambda: _raises(ValueError, lambda: pooling.pool(x, "max", 2, out=less)),
        "gradient of another shape": lambda: _raises(ValueError, lambda: pooling.pool_backward(less, x, "max", 2)),
        "index": lambda: _raises(IndexError, lambda: pooling.pool_backward(y, x, "max", 2, indices=wrong)),
        "index to unpool": lambda: _raises(IndexError, lambda: pooling.max_unpool(y, wrong, 2)),
        "too much memory": lambda: _raises(MemoryError, lambda: pooling.adaptive_pool(x, "max", 2**22)),
    }


def _on_mlx() -> Iterator[Call]:
    """The same on MLX's arrays, where they can be pooled by the compiled loops."""
    if pooling.backends()["mlx:native"] is None:
        import mlx.core as mx

        x = mx.array(np.arange(96.0, dtype=np.float32).reshape(2, 4, 4, 3))
        total = mx.grad(lambda x: pooling.pool(x, "max", 2, backend="mlx:native").sum())
        yield lambda: mx.eval(pooling.pool(x, "avg", 2, backend="mlx:native"))
        yield lambda: mx.eval(pooling.pool(x, "max", 2, return_indices=True, backend="mlx:native"))
        yield lambda: mx.eval(total(x))
        yield lambda: _raises(ValueError, lambda: pooling.pool(x, "max", 9, backend="mlx:native"))


def unseen(n: int) -> Call:
    """A call on a shape of its own, as long as n is below a million: what is remembered of it is never needed again."""
    x = np.ones((1, n % 1000 + 2, n // 1000 % 1000 + 2, 1), np.int8)
    return lambda: pooling.pool(x, "max", 2, (3, 2))


def varied() -> Iterator[Call]:
    """Calls without end."""
    known = cycle([call for n in range(4, 10) for call in calls_on(n, 13 - n).values()])
    others = cycle([*_on_mlx()] or [lambda: None])
    for n in count(CACHED):
        yield from islice(known, 98)
        yield unseen(n)
        yield next(others)


def resident() -> int:
    """Bytes of this process in memory; where the system does not say, the most that there ever were."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def soak(calls: Iterator[Call], many: int, show: Callable[[str], None] = print) -> int:
    """Makes so many calls; by how many bytes the memory grew after the first tenth of them."""
    for n in range(CACHED):
        unseen(n)()
    begin, warm, done = time.monotonic(), 0, 0
    for sample in range(SAMPLES + 1):
        for call in islice(calls, many * sample // SAMPLES - done):
            call()
        done = many * sample // SAMPLES
        gc.collect()
        now = resident()
        warm = now if sample <= SAMPLES // 10 else warm
        show(f"{done:>10} calls  {time.monotonic() - begin:7.1f} s  {now / 2**20:8.2f} MiB  {(now - warm) / 1024:+9.0f} KiB")
    return now - warm


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=1_000_000)
    many, begin = parser.parse_args().calls, time.monotonic()
    before = {name: call() for name, call in calls_on(6, 7).items()}
    growth = soak(varied(), many, lambda line: print(line, flush=True))
    after = {name: call() for name, call in calls_on(6, 7).items()}
    for name, result in before.items():
        assert np.array_equal(np.asarray(result, object), np.asarray(after[name], object)), name
    rate = many / (time.monotonic() - begin)
    print(f"{many} calls, {rate:.0f} a second; the resident memory grew by {growth} bytes, of {LIMIT} that are allowed")
    return int(growth > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
