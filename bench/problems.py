"""The named problems of the benchmarks, and what answers them with NumPy alone.

Shapes are channels first, as in the papers and frameworks that the problems come from. The cells are small integers, so
that every order of adding gives the same bits and answers can be compared with ==.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

import pooling
from pooling.testing import data

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Problem:
    """One pooling, the same window on every pooled axis."""

    name: str
    source: str
    mode: str
    shape: tuple[int, ...]
    kernel: int
    stride: int
    padding: int = 0

    @property
    def rank(self) -> int:
        """The number of pooled axes."""
        return len(self.shape) - 2

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of pooling.pool, without the layout."""
        return {"mode": self.mode} | self.window

    @property
    def window(self) -> dict[str, Any]:
        """Kernel, stride and padding."""
        return {"kernel": self.kernel, "stride": self.stride, "padding": self.padding}

    @property
    def result_shape(self) -> tuple[int, ...]:
        """The shape of the result, channels first."""
        return pooling.output_shape(self.shape, **self.window, layout="channels_first")

    def must_move(self, dtype: str = "float32") -> int:
        """The bytes that any algorithm moves: every cell read once, every result written once."""
        return (prod(self.shape) + prod(self.result_shape)) * np.dtype(dtype).itemsize

    def small(self) -> Problem:
        """The same window on a few cells, for tests."""
        few = 2 * max(self.kernel, self.stride)
        return replace(self, shape=(*(min(n, 3) for n in self.shape[:2]), *(min(n, few) for n in self.shape[2:])))

    def cells(self, layout: str = "channels_first", dtype: str = "float32") -> Array:
        """The array to pool: contiguous in its layout."""
        x = data(self.shape, dtype, 1, "small_integers")
        return np.ascontiguousarray(as_layout(x, layout))


PROBLEMS = {
    problem.name: problem
    for problem in (
        Problem("stem", "ResNet's first pooling", "max", (8, 64, 112, 112), 3, 2, 1),
        Problem("vgg", "VGG's poolings", "max", (8, 64, 112, 112), 2, 2),
        Problem("inception", "Inception's pooled branch", "avg", (8, 192, 35, 35), 3, 1, 1),
        Problem("spp", "YOLO's spatial pyramid", "max", (1, 512, 20, 20), 13, 1, 6),
        Problem("gap", "ResNet's last pooling", "avg", (32, 2048, 7, 7), 7, 7),
        Problem("rgb", "photographs: three channels", "max", (4, 3, 512, 512), 3, 2, 1),
        Problem("volume", "a scan: three pooled axes", "max", (2, 32, 48, 48, 48), 3, 2, 1),
        Problem("sequence", "audio: one pooled axis", "max", (16, 128, 16000), 2, 2),
        Problem("dilate", "morphology: a large window at every cell", "max", (1, 3, 1024, 1024), 31, 1, 15),
        Problem("box", "the box filter", "avg", (1, 3, 1024, 1024), 31, 1, 15),
        Problem("tiny", "what a call costs", "max", (1, 16, 8, 8), 2, 2),
    )
}
LAYOUTS = ("channels_first", "channels_last")


def as_layout(x: Array, layout: str) -> Array:
    """A channels_first array as a view in another layout."""
    return x if layout == "channels_first" else np.moveaxis(x, 1, -1)


# ---- rivals: (problem, channels_first array) -> result, or None where the formulation does not apply -----------


def blocks(problem: Problem) -> Callable[[Array], Array] | None:
    """The reshape one-liner: windows side by side, without padding or rest."""
    k, sizes = problem.kernel, problem.shape[2:]
    if problem.stride != k or problem.padding or any(n % k for n in sizes):
        return None
    split = (*problem.shape[:2], *(part for n in sizes for part in (n // k, k)))
    axes = tuple(range(3, 3 + 2 * problem.rank, 2))
    return lambda x: getattr(x.reshape(split), {"avg": "mean"}.get(problem.mode, problem.mode))(axes)


def windows(problem: Problem) -> Callable[[Array], Array]:
    """numpy.lib.stride_tricks.sliding_window_view, one axis after the other."""
    k, s, p = problem.kernel, problem.stride, problem.padding
    edge = -np.inf if problem.mode == "max" else 0

    def run(x: Array) -> Array:
        x = np.pad(x, [(0, 0)] * 2 + [(p, p)] * problem.rank, constant_values=edge)
        for axis in range(2, x.ndim):
            every = (slice(None),) * axis + (slice(None, None, s),)
            x = getattr(sliding_window_view(x, k, axis)[every], "max" if problem.mode == "max" else "sum")(-1)
        return x / np.float32(k**problem.rank) if problem.mode == "avg" else x

    return run


RIVALS = {"reshape": blocks, "sliding_window_view": windows}


def memcpy(count: int) -> Callable[[], Any]:
    """The yardstick: moves `count` bytes, half read and half written, with the threads that pooling has."""
    source, target = np.ones(count // 2, np.uint8), np.zeros(count // 2, np.uint8)  # both written: no page faults
    threads = pooling.get_num_threads() if count > 2**20 else 1
    if threads == 1:
        return lambda: np.copyto(target, source)
    pool = ThreadPoolExecutor(threads)
    parts = np.array_split(target, threads), np.array_split(source, threads)
    return lambda: list(pool.map(np.copyto, *parts))
