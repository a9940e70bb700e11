"""The named problems of the benchmarks: the arrays, the bytes that must be moved, and how far an answer may be from ours.

Shapes are channels first, as in the papers and frameworks that the problems come from. The cells are integers, so that every
order of adding gives the same bits; those of a maximum differ from their neighbours as far as the type allows, so that no
library has a choice between equal cells. Averages are of multiples of 4, which a 2 by 2 window of bytes divides exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import ml_dtypes  # noqa: F401  gives NumPy the name bfloat16
import numpy as np

import pooling

Array = np.ndarray[Any, Any]
LAYOUTS = ("channels_first", "channels_last")
MIXED, BITS = 0x9E3779B1, 24  # odd: i * MIXED has different low bits for any 2**24 neighbours
INTEGERS = {"uint8": 8, "bfloat16": 8, "float16": 11}  # types with fewer than 2**BITS consecutive integers, and their bits
UNIT = {"bfloat16": 2.0**-8, "float16": 2.0**-11, "float64": 2.0**-53}  # the rest: float32's 2**-24

# What each part reads and writes once: the cells x, the results y, the int64 indices i; gradients have x's and y's sizes.
MOVED = {
    ("forward", "max"): "xy",
    ("forward", "avg"): "xy",
    ("indices", "max"): "xyi",
    ("backward", "max"): "yix",
    ("backward", "avg"): "yx",
    ("gradient", "max"): "xyx",  # value and gradient together, as MLX computes them
    ("gradient", "avg"): "xyx",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One pooling, the same window on every pooled axis.

    `compare` asks for each of the parts in float32, and for the results in each of the dtypes; where `keeps`, as is usual with
    images, they are asked for in the type of the cells.
    """

    name: str
    source: str
    mode: str
    shape: tuple[int, ...]
    kernel: int
    stride: int
    padding: int = 0
    dtypes: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    keeps: bool = False

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

    def result_dtype(self, dtype: str) -> np.dtype[Any]:
        """The type of the result, of cells of this type."""
        if self.keeps:
            return np.dtype(dtype)
        return pooling.pool(np.zeros((1,) * len(self.shape), dtype), self.mode, 1, layout="channels_first").dtype

    def must_move(self, dtype: str = "float32", part: str = "forward") -> int:
        """The bytes that any algorithm moves: what it needs read once, what it makes written once."""
        results = prod(self.result_shape)
        sizes = {
            "x": prod(self.shape) * np.dtype(dtype).itemsize,
            "y": results * self.result_dtype(dtype).itemsize,
            "i": results * 8,
        }
        return sum(sizes[array] for array in MOVED[part, self.mode])

    def small(self) -> Problem:
        """The same window on a few cells, for tests."""
        few = 2 * max(self.kernel, self.stride)
        return replace(self, shape=(*(min(n, 3) for n in self.shape[:2]), *(min(n, few) for n in self.shape[2:])))

    def cells(self, layout: str = "channels_first", dtype: str = "float32") -> Array:
        """The array to pool: contiguous in its layout."""
        bits = INTEGERS.get(dtype, BITS)
        below = 3 * 2 ** (bits - 2) if self.mode == "max" and dtype != "uint8" else 0  # so that padding with 0 would be seen
        index = np.arange(prod(self.shape), dtype=np.uint32)
        x = cells(index, self.mode, lambda i: (i.astype(np.int32) - below).astype(dtype), bits)
        return np.ascontiguousarray(as_layout(x.reshape(self.shape), layout))

    def gradient(self, layout: str = "channels_first") -> Array:
        """The gradient of a loss with respect to the result: float32 from 1 to 8, so that all terms of a sum have one sign."""
        index = np.arange(prod(self.result_shape), dtype=np.uint32)
        g = cells(index, "max", lambda i: i.astype(np.float32), 3) + 1
        return np.ascontiguousarray(as_layout(g.reshape(self.result_shape), layout))

    def tolerance(self, part: str, want: Any, dtype: str = "float32") -> Any:
        """How far a result may be from ours: 0 for max, whose results are cells or sums of integers.

        An average of ours divides an exact sum and rounds once. A rival may divide axis by axis and multiply by rounded
        reciprocals: at most three roundings more for one of ours. Backward up to N rounded quotients are added in any order, on
        both sides: 2 * (N + 2) roundings of the sum. All terms have one sign, so a rounding is at most UNIT of the result.
        """
        roundings = 4 if part == "forward" else 2 * (self.kernel**self.rank + 2)
        unit = UNIT.get(dtype, 2.0**-24)
        return abs(want) * (0.0 if self.mode == "max" else roundings * unit)


def cells(index: Any, mode: str, convert: Callable[[Any], Any], bits: int = BITS) -> Any:
    """Cells for flat uint32 indices, in any library. max: neighbours that differ. avg: integers whose sums are exact."""
    mixed = (index * MIXED) & (2**BITS - 1)
    return convert(mixed >> (BITS - bits)) if mode == "max" else convert((mixed >> 10) % 15 * 4)


def as_layout(x: Array, layout: str) -> Array:
    """A channels_first array as a view in another layout."""
    return x if layout == "channels_first" else np.moveaxis(x, 1, -1)


SMALL_TYPES = ("uint8", "float16", "bfloat16")
BACKWARD = ("backward",)
PROBLEMS = {
    problem.name: problem
    for problem in (
        Problem(
            "stem",
            "ResNet's first pooling",
            "max",
            (8, 64, 112, 112),
            3,
            2,
            1,
            (*SMALL_TYPES, "int32", "float64"),
            ("indices", "backward"),
        ),
        Problem("vgg", "VGG's poolings", "max", (8, 64, 112, 112), 2, 2, 0, SMALL_TYPES, ("indices", "backward")),
        Problem("transition", "between DenseNet's blocks", "avg", (8, 128, 56, 56), 2, 2, 0, SMALL_TYPES, BACKWARD),
        Problem("shuffle", "ShuffleNet's shortcut", "avg", (16, 240, 28, 28), 3, 2, 1, SMALL_TYPES, BACKWARD),
        Problem("inception", "Inception's pooled branch", "avg", (8, 192, 35, 35), 3, 1, 1, (), BACKWARD),
        Problem("nasnet", "a cell of NASNet", "max", (8, 168, 42, 42), 3, 1, 1, (), BACKWARD),
        Problem("yolo", "the last pooling of tiny YOLO", "max", (32, 512, 13, 13), 2, 1, 0, (), BACKWARD),
        Problem("stagger", "a staggered grid: from corners to cells", "avg", (4, 3, 513, 513), 2, 1, 0, (), BACKWARD),
        Problem("spp", "YOLO's spatial pyramid", "max", (1, 512, 20, 20), 13, 1, 6),
        Problem("gap", "ResNet's last pooling", "avg", (32, 2048, 7, 7), 7, 7),
        Problem("rgb", "photographs: three channels", "max", (4, 3, 512, 512), 3, 2, 1, ("uint8",)),
        Problem("pyramid", "a level of an image pyramid", "avg", (1, 3, 2048, 2048), 2, 2, 0, ("uint8",), keeps=True),
        Problem("volume", "a scan: three pooled axes", "max", (2, 32, 48, 48, 48), 3, 2, 1, (), ("indices",)),
        Problem("sequence", "audio: one pooled axis", "max", (16, 128, 16000), 2, 2, 0, (), ("indices",)),
        Problem("dilate", "morphology: a large window at every cell", "max", (1, 3, 1024, 1024), 31, 1, 15),
        Problem("box", "the box filter", "avg", (1, 3, 1024, 1024), 31, 1, 15),
        Problem("tiny", "what a call costs", "max", (1, 16, 8, 8), 2, 2),
    )
}


@dataclass(frozen=True, slots=True)
class Question:
    """What every library is asked: one part of one problem in one element type."""

    problem: Problem
    dtype: str = "float32"
    part: str = "forward"

    @property
    def moved(self) -> int:
        """The bytes that must be moved."""
        return self.problem.must_move(self.dtype, self.part)

    @property
    def input_bytes(self) -> int:
        """The bytes of the array that is pooled."""
        return prod(self.problem.shape) * np.dtype(self.dtype).itemsize

    def __str__(self) -> str:
        return f"{self.problem.name} {self.problem.mode} {self.problem.kernel} {self.dtype} {self.part}"


def questions(problem: Problem) -> list[Question]:
    """Forward in float32, in the other types that the problem lists, and its other parts."""
    others = [Question(problem, dtype) for dtype in problem.dtypes]
    return [Question(problem), *others, *(Question(problem, part=part) for part in problem.parts)]


WINDOWS = (2, 3, 5, 9, 15, 21, 31, 45, 65, 101)


def windows() -> list[Question]:
    """The same large image under windows of many sizes, at every cell."""
    large = (PROBLEMS["dilate"], PROBLEMS["box"])
    return [Question(replace(p, kernel=k, padding=(k - 1) // 2)) for p in large for k in WINDOWS]
