"""Named problems that every pooling kernel should meet, and data for them.

A case is a geometry with a name that says which corner it probes. Shapes are channels_last and small; relayout
turns an array to any other layout. Data come from the raw words of PCG64 by integer arithmetic, so that they are the
same on every machine and under every version of NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from . import oracle

Array = NDArray[Any]
KINDS = ("real", "small_integers", "special", "subnormal")


@dataclass(frozen=True)
class Case:
    """One geometry of pool; the fields are pool's arguments.

    >>> Case("pairs", "two cells a window", (1, 4, 1), 2).arguments("max")
    {'kernel': 2, 'stride': None, 'padding': 0, 'dilation': 1, 'ceil_mode': False}
    """

    name: str
    probes: str
    x_shape: tuple[int, ...]
    kernel: Any
    stride: Any = None
    padding: Any = 0
    dilation: Any = 1
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor_override: int | None = None

    @property
    def geometry(self) -> dict[str, Any]:
        """The arguments of every mode, which are also those of output_shape."""
        return {name: getattr(self, name) for name in ("kernel", "stride", "padding", "dilation", "ceil_mode")}

    def arguments(self, mode: str) -> dict[str, Any]:
        """The arguments of pool in this mode: "avg" has two more."""
        extra = ("count_include_pad", "divisor_override") if mode == "avg" else ()
        return self.geometry | {name: getattr(self, name) for name in extra}


@dataclass(frozen=True)
class AdaptiveCase:
    """One geometry of adaptive_pool."""

    name: str
    probes: str
    x_shape: tuple[int, ...]
    output_size: Any


@dataclass(frozen=True)
class UnpoolCase:
    """One geometry of max_unpool, and which indices go with it: "distinct", "repeated" or "skipped" ones."""

    name: str
    probes: str
    x_shape: tuple[int, ...]
    kernel: Any
    stride: Any = None
    padding: Any = 0
    output_size: Any = None
    choose: str = "distinct"

    @property
    def arguments(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("kernel", "stride", "padding", "output_size")}

    def indices(self, seed: int) -> Array:
        """int64, of x's shape: distinct cells of each plane; or few, so that many repeat; or with many -1."""
        cells = np.full(self.x_shape, -1, np.int64)
        plane = math.prod(oracle.max_unpool(cells, cells, **self.arguments).shape[1:-1])
        batch, *own, channels = self.x_shape
        for n, c in np.ndindex(batch, channels):
            order = np.argsort(_words(plane, seed + n * channels + c), kind="stable")
            cells[n, ..., c] = order[: math.prod(own)].reshape(own)
        if self.choose == "repeated":
            return cells % 3
        return np.where(cells % 2 == 0, -1, cells) if self.choose == "skipped" else cells


HUGE = 2**31 - 1
HALF = 2**30

CASES = [
    # where windows end
    Case("kernel_one", "every cell is a window", (2, 6, 3), 1, 1),
    Case("kernel_one_strided", "cells are only picked", (2, 5, 10, 3), 1, (2, 3)),
    Case("one_cell", "the smallest array", (1, 1, 1), 1),
    Case("one_cell_padded", "more padding than data", (2, 1, 1, 3), 3, 1, 1),
    Case("kernel_equals_axis", "one window, all cells", (2, 7, 3), 7),
    Case("kernel_equals_padded_axis", "one window, all cells and all padding", (2, 7, 3), 11, 1, 2),
    Case("kernel_beyond_axis", "longer than the data in every place", (2, 4, 5, 3), 7, 1, 3),
    Case("global_window", "one window over the plane", (2, 6, 9, 3), (6, 9)),
    Case("global_window_3d", "one window over the volume", (2, 3, 4, 5, 3), (3, 4, 5)),
    Case("stride_equals_kernel", "cells in one window each", (2, 8, 12, 3), (2, 3)),
    Case("stride_within_kernel", "cells in several windows", (2, 9, 11, 3), 4, 3),
    Case("stride_beyond_kernel", "cells in no window", (2, 13, 3), 2, 5),
    Case("stride_beyond_axis", "a second window would be far outside", (2, 6, 7, 3), 2, 50),
    Case("last_cells_dropped", "the end fills no window", (2, 11, 8, 3), 3, 3),
    Case("last_window_ends_at_end", "nothing is dropped", (2, 11, 9, 3), 3, 2),
    Case("unit_stride", "all places", (2, 6, 7, 3), 3, 1),
    Case("empty_stride", "an empty sequence means the kernel", (2, 6, 7, 3), (3, 2), ()),
    # padding
    Case("pad_both", "the common 3 by 3", (2, 7, 8, 3), 3, 1, 1),
    Case("pad_both_strided", "the common 3 by 3, stride 2", (2, 8, 11, 3), 3, 2, 1),
    Case("pad_before_only", "the first window alone is short", (2, 9, 3), 3, 2, ((2, 0),)),
    Case("pad_after_only", "the last window alone is short", (2, 9, 3), 3, 2, ((0, 2),)),
    Case("pads_differ_by_axis", "axes are not mixed up", (2, 5, 6, 3), (4, 3), (2, 1), (3, 1)),
    Case("pads_differ_by_side", "sides are not mixed up", (2, 5, 6, 3), (4, 3), (2, 1), ((0, 3), (2, 0))),
    Case("pad_to_the_limit", "windows with one real cell", (2, 5, 4, 3), 3, 1, 2),
    Case("pad_beyond_data", "windows longer than the data, all padding but one cell", (2, 2, 3, 3), 6, 1, 5),
    Case("pad_not_counted", "divisors without the padding", (2, 6, 7, 3), 3, 2, 1, count_include_pad=False),
    Case("pad_not_counted_one_side", "as above, one side", (2, 7, 3), 4, 1, ((3, 1),), count_include_pad=False),
    Case("valid", "a word for no padding", (2, 7, 8, 3), (3, 2), 2, "valid"),
    Case("same_odd_kernel", "the size stays", (2, 6, 7, 3), 3, 1, "same"),
    Case("same_even_kernel", "more after than before", (2, 6, 7, 3), (2, 4), 1, "same"),
    Case("same_lower", "more before than after", (2, 6, 7, 3), (2, 4), 1, "same_lower"),
    Case("same_strided", "stride decides the padding", (2, 10, 11, 3), 4, 3, "same", count_include_pad=False),
    Case("same_stride_beyond_kernel", "no padding, cells dropped", (2, 9, 10, 3), 2, 4, "same"),
    Case("same_dilated", "the reach decides the padding", (2, 6, 7, 3), 3, 2, "same", 2),
    Case("same_ceil", "ceil_mode changes nothing", (2, 9, 10, 3), (2, 3), 4, "same_lower", ceil_mode=True),
    # ceil_mode
    Case("ceil_exact", "no cell is left over", (2, 9, 7, 3), 3, 2, ceil_mode=True),
    Case("ceil_adds_window", "a last window hangs over", (2, 8, 6, 3), 3, 2, ceil_mode=True),
    Case("ceil_drops_last_window", "it would start in the padding", (2, 4, 3), 2, 3, 1, ceil_mode=True),
    Case("ceil_one_cell_left", "it holds one cell", (2, 9, 13, 3), (2, 3), 4, ceil_mode=True),
    Case("ceil_overhang_divisor", "overhang is not counted, padding is", (2, 6, 8, 3), 3, 2, 1, ceil_mode=True),
    Case(
        "ceil_overhang_not_counted",
        "neither overhang nor padding is counted",
        (2, 6, 8, 3),
        3,
        2,
        1,
        ceil_mode=True,
        count_include_pad=False,
    ),
    Case("ceil_pad_before_only", "overhang without padding", (2, 9, 3), 4, 3, ((2, 0),), ceil_mode=True),
    Case("ceil_pad_after_only", "overhang beyond padding", (2, 8, 3), 5, 3, ((0, 1),), ceil_mode=True),
    Case("ceil_dilated", "overhang between taps", (2, 10, 9, 3), 3, 3, 2, 2, ceil_mode=True),
    Case("ceil_3d", "all three axes hang over", (1, 4, 5, 6, 2), 3, 2, 1, ceil_mode=True),
    # dilation
    Case("dilated", "gaps between taps", (2, 9, 10, 3), 3, 1, 0, 2),
    Case("dilated_padded", "gaps over the edge", (2, 7, 8, 3), 3, 2, 2, (2, 3)),
    Case("dilation_without_kernel", "one tap has no gaps", (2, 5, 6, 3), 1, 2, 0, 7),
    Case("dilation_reaches_both_ends", "first and last cell only", (2, 9, 3), 2, 1, 0, 8),
    Case("dilation_shares_stride", "windows share no cell", (2, 12, 3), 3, 2, 0, 2),
    Case("dilation_odd_to_stride", "windows share some cells", (2, 13, 3), 3, 2, 2, 3),
    Case("dilated_window_with_no_real_cell", "all taps miss the data", (2, 2, 3), 2, 1, 3, 4),
    Case(
        "dilated_window_with_no_divisor",
        "no cell and nothing to divide by",
        (2, 2, 3, 3),
        2,
        1,
        (3, 1),
        (4, 2),
        count_include_pad=False,
    ),
    # long windows: the pairwise order has its turns at powers of two
    Case("kernel_4", "two pairs", (2, 9, 3), 4, 1),
    Case("kernel_5", "two pairs and one", (2, 9, 3), 5, 1),
    Case("kernel_7", "a pair of unequal halves", (2, 12, 3), 7, 2, 3),
    Case("kernel_16", "a power of two", (1, 20, 19, 2), 16, 1),
    Case("kernel_17", "one beyond a power of two", (1, 20, 19, 2), 17, 1, 3),
    Case("kernel_31", "a long window", (1, 40, 33, 2), 31, 3, 7),
    Case("kernel_63", "one below a power of two", (1, 70, 2), 63, 2, 20),
    Case("kernel_65", "one beyond a power of two", (1, 70, 2), 65, 1, 9),
    Case("kernel_101_over_short_axis", "always over both ends", (1, 30, 2), 101, 1, 50),
    Case("kernel_101_tall", "long in one axis, short in the other", (1, 110, 4, 2), (101, 3), 2, (11, 1)),
    Case("huge_kernel_huge_padding", "taps are not visited", (1, 5, 2), HUGE, 1, HALF),
    Case("huge_kernel_huge_padding_2d", "divisors beyond 32 bits", (1, 3, 2, 2), HUGE, 1, HALF),
    Case("huge_kernel_one_side", "all of the padding before", (1, 5, 2), HUGE, 3, ((HUGE - 1, 2),), ceil_mode=True),
    Case("huge_stride", "no second window", (1, 5, 2), 2, HUGE, 1, ceil_mode=True),
    Case("huge_dilation", "only the last tap is a cell", (1, 5, 2), 2, 1, ((HUGE, 0),), HUGE),
    # shapes
    Case("row_only", "a window of one row", (2, 6, 7, 3), (1, 3), 1, (0, 1)),
    Case("column_only", "a window of one column", (2, 6, 7, 3), (3, 1), 1, (1, 0)),
    Case("tall_stride", "strides differ by axis", (2, 9, 10, 3), 3, (3, 1), (1, 0)),
    Case("one_row", "a plane of one row", (2, 1, 9, 3), (1, 3), 2, (0, 1)),
    Case("one_column", "a plane of one column", (2, 9, 1, 3), (3, 1), 2, (1, 0)),
    Case("long_row", "longer than any row buffer", (1, 3, 4133, 1), 3, 2, 1),
    Case("large_batch", "many small planes", (37, 3, 4, 2), 2, 1),
    Case("cube", "three axes", (2, 4, 6, 5, 3), 2),
    Case("cube_overlapping", "the common 3 by 3 by 3, stride 2", (1, 5, 7, 6, 3), 3, 2, 1),
    Case("cube_differs_by_axis", "axes are not mixed up", (1, 5, 6, 7, 2), (2, 3, 4), (1, 2, 3), ((1, 0), (0, 2), (3, 1))),
    Case("depth_only", "a window along the first axis", (2, 5, 3, 4, 2), (3, 1, 1), (2, 1, 1), (1, 0, 0)),
    Case("cube_dilated", "gaps along three axes", (1, 6, 7, 8, 2), 2, (1, 2, 3), 1, (2, 3, 4)),
    Case("cube_same", "three axes keep their size", (1, 4, 5, 3, 2), (2, 3, 4), 1, "same"),
    Case("batch_empty", "no plane", (0, 5, 6, 3), 3, 2, 1),
    Case("channels_empty", "no channel", (2, 5, 6, 0), 3, 2, 1),
    Case("channels_1", "cells lie side by side", (2, 7, 12, 1), 3, 2, 1),
    Case("channels_prime", "channels fill no vector", (2, 5, 6, 13), 3, 2, 1),
    *(Case(f"channels_{c}", "channels about a vector", (1, 4, 5, c), 3, 1, 1) for c in (8, 16, 17, 31, 33, 64)),
    *(
        Case(f"{name}_vector_{width}", "cells of a row about a vector", (1, 3, width + more, 1), 3, 1, 1)
        for width in (8, 16, 32, 64)
        for name, more in (("one_below", -1), ("exactly", 0), ("one_beyond", 1))
    ),
    *(Case(f"halves_to_{n}", "outputs of a row about a vector, stride 2", (1, 4, 2 * n, 1), 2, 2) for n in (7, 8, 9, 31, 33)),
    # divisors
    Case("divisor_override", "a divisor for all windows", (2, 6, 7, 3), 3, 2, 1, divisor_override=5),
    Case("divisor_override_negative", "a sign in the divisor", (2, 6, 3), 3, 2, 1, divisor_override=-3),
    Case("divisor_override_rounded", "float32 has no such number", (2, 6, 3), 3, 2, 1, divisor_override=2**24 + 1),
    Case(
        "divisor_override_with_overhang",
        "it replaces every product",
        (2, 6, 3),
        3,
        2,
        1,
        ceil_mode=True,
        count_include_pad=False,
        divisor_override=2,
    ),
]

ADAPTIVE_CASES = [
    AdaptiveCase("to_one", "one window over all", (2, 5, 7, 3), 1),
    AdaptiveCase("to_same", "every cell is a window", (2, 5, 7, 3), (5, 7)),
    AdaptiveCase("to_none", "None keeps the size", (2, 5, 7, 3), (None, 3)),
    AdaptiveCase("to_none_twice", "None keeps both sizes", (2, 5, 7, 3), (None, None)),
    AdaptiveCase("to_zero", "an empty result", (2, 5, 7, 3), 0),
    AdaptiveCase("to_zero_on_one_axis", "an empty result, one axis kept", (2, 5, 7, 3), (3, 0)),
    AdaptiveCase("divides", "equal windows that do not overlap", (2, 8, 12, 3), (4, 3)),
    AdaptiveCase("does_not_divide", "windows of two sizes that overlap", (2, 7, 11, 3), (3, 4)),
    AdaptiveCase("one_less", "windows of two that overlap by one", (2, 9, 3), (8,)),
    AdaptiveCase("one_more", "windows of one and two", (2, 9, 3), (10,)),
    AdaptiveCase("larger_than_input", "cells in many windows", (2, 3, 2, 3), (8, 7)),
    AdaptiveCase("multiple_of_input", "each cell in as many windows as any other", (2, 3, 3, 3), (9, 6)),
    AdaptiveCase("far_larger_than_input", "one cell in all windows", (2, 1, 3, 3), (5, 64)),
    AdaptiveCase("long_windows", "the pairwise order matters", (1, 130, 2), (3,)),
    AdaptiveCase("many_windows_over_a_cell", "its gradient adds in the pairwise order", (1, 2, 2), (37,)),
    AdaptiveCase("axes_differ", "one axis shrinks, one grows", (2, 10, 3, 3), (4, 5)),
    AdaptiveCase("cube", "three axes", (1, 4, 5, 6, 2), (2, 3, 4)),
    AdaptiveCase("cube_mixed", "three axes: kept, one, larger", (1, 4, 5, 3, 2), (None, 1, 4)),
    AdaptiveCase("batch_empty", "no plane", (0, 5, 6, 3), (2, 3)),
    AdaptiveCase("channels_empty", "no channel", (2, 5, 6, 0), (2, 3)),
    AdaptiveCase("channels_1", "cells lie side by side", (2, 7, 33, 1), (3, 17)),
    AdaptiveCase("channels_prime", "channels fill no vector", (1, 7, 9, 13), (3, 4)),
]

UNPOOL_CASES = [
    UnpoolCase("default_size", "the inverse of 2 by 2", (2, 3, 4, 3), 2),
    UnpoolCase("overlapping", "stride below kernel", (2, 3, 4, 3), 3, 2),
    UnpoolCase("padded", "the default size leaves out padding", (2, 3, 4, 3), 3, 2, 1),
    UnpoolCase("padded_one_side", "sides differ", (2, 4, 3), 3, 2, ((1, 0),)),
    UnpoolCase("gaps", "stride beyond kernel", (2, 4, 3), 2, 5),
    UnpoolCase("one_cell_more", "output_size above the default", (2, 3, 4, 3), 2, 2, 0, (7, 8)),
    UnpoolCase("one_cell_less", "output_size below the default", (2, 3, 4, 3), 2, 2, 0, (6, 7)),
    UnpoolCase("whole_shape", "output_size with batch and channels", (2, 3, 4, 3), 2, 2, 0, (2, 7, 8, 3)),
    UnpoolCase("same_padding", "output_size is needed", (2, 3, 4, 3), 3, 2, "same", (5, 8)),
    UnpoolCase("repeated", "the last of duplicates stays", (2, 3, 4, 3), 2, choose="repeated"),
    UnpoolCase("skipped", "-1 goes nowhere", (2, 3, 4, 3), 2, choose="skipped"),
    UnpoolCase("line", "one axis", (2, 5, 3), 3),
    UnpoolCase("cube", "three axes", (2, 2, 3, 2, 3), 2, choose="skipped"),
    UnpoolCase("batch_empty", "no plane", (0, 3, 4, 3), 2),
    UnpoolCase("channels_empty", "no channel", (2, 3, 4, 0), 2),
]


def _words(count: int, seed: int) -> NDArray[np.uint64]:
    """Raw 64-bit words. NumPy promises to keep these; the distributions of its Generator may change."""
    return np.asarray(np.random.PCG64(seed).random_raw(count), np.uint64)


FLOATS = {"float16": (10, 15), "bfloat16": (7, 127), "float32": (23, 127), "float64": (52, 1023)}  # bits, exponent


def data(shape: Sequence[int], dtype: DTypeLike, seed: int, kind: str = "real") -> Array:
    """An array of shape and dtype, the same everywhere for the same seed.

    kind: "real", floats about normal, integers from all of their range; "small_integers", up to 7 in size, so that
    sums are exact; "special", "real" with NaN, infinities, both zeros, the ends of the type and many ties;
    "subnormal", floats about the smallest normal number, integers as "real".

    >>> data((2, 3), "int8", 1, "small_integers").shape
    (2, 3)
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; it must be one of {', '.join(KINDS)}")
    if dtype == "bfloat16":
        import ml_dtypes  # noqa: F401  (its import makes the name known)
    dtype, count = np.dtype(dtype), math.prod(shape)
    words, more = _words(count, 2 * seed), _words(count, 2 * seed + 1)
    values: Array
    ends: list[Any]
    if dtype.kind in "biu":
        least = -7 if dtype.kind == "i" else 0
        values = words >> 63 == 1 if dtype == np.bool else words.astype(dtype)
        ends = [False, True] if dtype == np.bool else [np.iinfo(dtype).min, np.iinfo(dtype).max, 0, 1]
    else:
        least = -7
        bits, exponent = FLOATS[dtype.name]
        coarse = sum((words >> i & 0xFFFF).astype(np.int64) for i in (0, 16, 32, 48)) - 2 * 0xFFFF
        values = ((coarse << 36) + (more & (2**36 - 1)).astype(np.int64)) * 2.0**-51
        if kind == "subnormal":
            values = values * 2.0 ** (1 - exponent)
        largest = (2 - 2.0**-bits) * 2.0**exponent
        ends = [np.nan, np.inf, -np.inf, 0.0, -0.0, largest, -largest, 1.0]
    if kind == "small_integers":
        values = (words >> 32).astype(np.int64) % (8 - least) + least
        values = values > 3 if dtype == np.bool else values
    if kind == "special":
        pick = (more >> 40).astype(np.int64)
        values = np.where(pick % 3 == 0, np.rint(values) if values.dtype.kind == "f" else values, values)  # ties
        values = np.where(pick % 4 == 1, np.array(ends, values.dtype)[pick // 12 % len(ends)], values)
    return values.astype(dtype).reshape(shape)


def letters_of(layout: str, ndim: int) -> str:
    """A letter for each axis, as "NHWC"."""
    pooled = "DHW"[5 - ndim :] if ndim > 3 else "L"
    return {"channels_last": f"N{pooled}C", "channels_first": f"NC{pooled}"}.get(layout, layout)


def relayout(x: Array, target: str, source: str = "channels_last") -> Array:
    """The same cells under another layout, named or in letters: a view.

    >>> relayout(np.zeros((2, 5, 6, 3)), "channels_first").shape
    (2, 3, 5, 6)
    >>> relayout(np.zeros((2, 5, 6, 3)), "WHCN").shape
    (6, 5, 3, 2)
    """
    letters = letters_of(source, x.ndim)
    return x.transpose([letters.index(letter) for letter in letters_of(target, x.ndim)])
