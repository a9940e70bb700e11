"""Pooling by its definition, window by window: the slow twin with which every backend is compared.

It owns the meaning of every mode, index, divisor, conversion and gradient, written a second time: it imports
NumPy and nothing of the product, so that a wrong formula there is not repeated here. It checks nothing: the
arguments must be valid, in any spelling. It is meant for small arrays: max, min and lp gather all windows at
once.

One function writes down the windows of ONE axis, as lists of (position in the window, cell); adaptive
windows, and the transpose that gradients need, have the same form. All else takes products of these lists.
Carried axes never interact, so inside they are one axis, behind the pooled ones.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache, reduce
from math import prod
from operator import index
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]
F32, F64, BOOL = np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.bool)


# Windows of one axis


class Window(NamedTuple):
    size: int  # positions, in the data or not: the k of the pairwise order
    padded: int  # taps inside the padded extent
    taps: tuple[tuple[int, int], ...]  # (position, cell) of the taps inside the data, ascending


Windows = tuple[Window, ...]


def _starts(n: int, k: int, s: int, before: int, after: int, d: int, ceil_mode: bool) -> range:
    """Where windows start: all the whole ones; with ceil_mode one more, but never one past the data."""
    reach = d * (k - 1) + 1
    whole = range(-before, n + after - reach + 1, s)
    last = whole[-1]
    hang = ceil_mode and last + reach < n + after and last + s < n
    return range(-before, last + s + 1, s) if hang else whole


@lru_cache(maxsize=4096)
def _windows(n: int, k: int, s: int, before: int, after: int, d: int, ceil_mode: bool) -> Windows:
    """The windows of one axis. Taps outside the data are computed away, never visited."""
    windows = []
    for start in _starts(n, k, s, before, after, d, ceil_mode):
        first = max(0, -(start // d))
        last = min(k - 1, (n - 1 - start) // d)
        padded = min(k, (n + after - 1 - start) // d + 1)
        windows.append(Window(k, padded, tuple((j, start + j * d) for j in range(first, last + 1))))
    return tuple(windows)


@lru_cache(maxsize=4096)
def _adaptive_windows(n: int, out: int) -> Windows:
    """Window o holds every cell that overlaps the interval from o*n/out to (o+1)*n/out."""
    windows = []
    for o in range(out):
        cells = [i for i in range(n) if i * out < (o + 1) * n and (i + 1) * out > o * n]
        windows.append(Window(len(cells), len(cells), tuple(enumerate(cells))))
    return tuple(windows)


@lru_cache(maxsize=4096)
def _covering(n: int, windows: Windows, adaptive: bool) -> Windows:
    """For every cell the windows that cover it, as taps on the outputs.

    With s - 1 zeros between the outputs these are windows of the same size and dilation, turned round:
    position j becomes size-1-j. Adaptive windows are counted off in ascending order instead.
    """
    found: list[list[tuple[int, int]]] = [[] for _ in range(n)]
    for o, window in enumerate(windows):
        for j, i in window.taps:
            found[i].append((len(found[i]) if adaptive else window.size - 1 - j, o))
    return tuple(Window(len(t) if adaptive else windows[0].size, len(t), tuple(t)) for t in found)


# Arguments: which axes are pooled, and their windows


class Plan(NamedTuple):
    axes: tuple[int, ...]  # the pooled axes of x, in the order D, H, W, L
    windows: tuple[Windows, ...]  # one entry per pooled axis
    adaptive: bool


def _axes(layout: str, ndim: int, *arguments: Any) -> tuple[int, ...]:
    """The pooled axes. Under the two named layouts the sequences among the arguments say how many they are."""
    m = next((len(v) for v in arguments if np.ndim(v) and len(v)), ndim - 2)
    if layout == "channels_last":
        return tuple(range(ndim - 1 - m, ndim - 1))
    if layout == "channels_first":
        return tuple(range(ndim - m, ndim))
    return tuple(layout.index(letter) for letter in "DHWL" if letter in layout)


def _each(value: Any, m: int) -> list[int]:
    return [index(v) for v in value] if np.ndim(value) else [index(value)] * m


def _stride(stride: Any, kernel: Any) -> Any:
    return kernel if stride is None or (np.ndim(stride) and not len(stride)) else stride


def _padding(padding: Any, n: int, k: int, s: int, d: int, axis: int) -> tuple[int, int]:
    """(before, after) of one axis."""
    if isinstance(padding, str):
        total = 0 if padding == "valid" else max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
        small, large = total // 2, total - total // 2
        return (large, small) if padding == "same_lower" else (small, large)
    own = padding[axis] if np.ndim(padding) else padding
    before, after = own if np.ndim(own) else (own, own)
    return index(before), index(after)


def _rows(
    shape: Sequence[int], kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool, layout: str
) -> tuple[tuple[int, ...], list[tuple[int, int, int, int, int, int, bool]]]:
    """The pooled axes, and the arguments of _windows for each."""
    stride = _stride(stride, kernel)
    axes = _axes(layout, len(shape), kernel, stride, padding, dilation)
    m, rows = len(axes), []
    for i, (k, s, d) in enumerate(zip(_each(kernel, m), _each(stride, m), _each(dilation, m), strict=True)):
        n = shape[axes[i]]
        rows.append((n, k, s, *_padding(padding, n, k, s, d, i), d, ceil_mode))
    return axes, rows


def _plan(
    x: Array,
    kernel: Any,
    stride: Any,
    padding: Any,
    *,
    dilation: Any = 1,
    ceil_mode: bool = False,
    layout: str = "channels_last",
    **rest: Any,
) -> tuple[Plan, dict[str, Any]]:
    """The plan of pool's arguments, and those that it has no use for."""
    axes, rows = _rows(np.shape(x), kernel, stride, padding, dilation, ceil_mode, layout)
    return Plan(axes, tuple(_windows(*row) for row in rows), False), rest


def _adaptive_plan(x: Array, output_size: Any, *, layout: str = "channels_last", **rest: Any) -> tuple[Plan, dict[str, Any]]:
    axes = _axes(layout, np.ndim(x), output_size)
    sizes = list(output_size) if np.ndim(output_size) else [output_size] * len(axes)
    pairs = [(n, n if out is None else index(out)) for n, out in zip(_take(np.shape(x), axes), sizes, strict=True)]
    return Plan(axes, tuple(_adaptive_windows(*pair) for pair in pairs), True), rest


def _take(shape: Sequence[int], axes: tuple[int, ...]) -> list[int]:
    return [shape[a] for a in axes]


def _front(x: Array, axes: tuple[int, ...]) -> Array:
    """The pooled axes first, then one axis with all carried cells; native byte order."""
    x = np.asarray(x)
    x = np.moveaxis(x.astype(x.dtype.newbyteorder("="), copy=False), axes, range(len(axes)))
    return x.reshape(*x.shape[: len(axes)], prod(x.shape[len(axes) :]))


def _flat(front: Array) -> Array:
    return front.reshape(prod(front.shape[:-1]), front.shape[-1])


def _back(front: Array, shape: Sequence[int], axes: tuple[int, ...]) -> Array:
    """The inverse of _front, for an array with the carried axes of shape."""
    carried = [n for a, n in enumerate(shape) if a not in axes]
    x = front.reshape(*front.shape[:-1], *carried)
    return np.array(np.moveaxis(x, range(len(axes)), axes), order="C")


# Element types


def _floating(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "f" or dtype.name == "bfloat16"


def _accumulator(own: np.dtype[Any], mode: str, target: np.dtype[Any] | None = None) -> np.dtype[Any]:
    """The type in which sum and avg add."""
    if own == F64 or (target is not None and target == F64):  # a dtype equals None: NumPy reads it as float64
        return F64
    if _floating(own):
        return F32
    if mode == "avg" and own.itemsize == 8:
        return F64
    return np.dtype(np.uint64 if own.kind == "u" else np.int64)


def _convert(v: Array, dtype: np.dtype[Any]) -> Array:
    """v rounded once, half to even, to dtype. Integers saturate and take NaN for 0.

    Casts that would round twice start from v rounded to odd, which tells the second rounding what the first
    one dropped: if inexact, of the two neighbours the one with an odd last bit.
    """
    whole = v.dtype.kind in "biu"
    if v.dtype == dtype or (v.dtype == BOOL and dtype.kind in "iu"):
        return v.astype(dtype)
    if dtype.kind in "iu":
        low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
        if whole:
            own = np.iinfo(v.dtype)
            return np.clip(v, max(low, int(own.min)), min(high, int(own.max))).astype(dtype)
        v = np.rint(v.astype(F64))
        inside = np.where((v > low) & (v < high), v, 0).astype(dtype)
        return np.where(v >= high, high, np.where(v <= low, low, inside)).astype(dtype)
    if whole and v.dtype.itemsize == 8 and dtype != F64:
        odd = v >> 11 << 11 | ((v & 2047) != 0).astype(v.dtype) << 11  # 53 bits, the last one odd if inexact
        v = np.where(np.abs(v.astype(F64)) < 2.0**53, v, odd)
    v = v.astype(F64)
    if dtype.name == "bfloat16":  # ml_dtypes goes by way of float32
        near = v.astype(F32)
        away = np.nextafter(near, np.where(v > near, np.inf, -np.inf).astype(F32))
        v = np.where((near != v) & (near.view(np.uint32) % 2 == 0), away, near)
    return v.astype(dtype)


# Reductions of (pooled..., carried) arrays


def _pairwise(x: Array, size: int, taps: Sequence[tuple[int, int]], first: int = 0) -> Array:
    """S(k, i) = S(h, i) + S(k-h, i+h), h the largest power of two below k; a position without a tap is +0."""
    if len(taps) == 1:
        return np.asarray(x[taps[0][1]])
    half = 1 << ((size - 1).bit_length() - 1)
    split = bisect_left(taps, (first + half,))
    if split == len(taps):
        return _pairwise(x, half, taps, first)
    if split == 0:
        return _pairwise(x, size - half, taps, first + half)
    return _pairwise(x, half, taps[:split], first) + _pairwise(x, size - half, taps[split:], first + half)


def _sum(x: Array, windows: Sequence[Windows]) -> Array:
    """The pairwise sums along the first pooled axis, then along the next, the last one last."""
    for axis, along in enumerate(windows):
        x = np.moveaxis(x, axis, 0)
        total = np.zeros((len(along), *x.shape[1:]), x.dtype)
        for o, window in enumerate(along):
            if window.taps:
                total[o] = _pairwise(x, window.size, window.taps)
        x = np.moveaxis(total, 0, axis)
    return x


def _divisor(windows: Sequence[Windows], include_pad: bool, override: Any, dtype: np.dtype[Any]) -> Array:
    """The divisor of every window, rounded once to the dividing type."""
    if override is None:
        counts = [np.array([w.padded if include_pad else len(w.taps) for w in a], np.int64) for a in windows]
        return _convert(reduce(np.multiply.outer, counts)[..., None], dtype)
    d = index(override)
    shift = max(0, d.bit_length() - 62)
    top = d >> shift | (d % (1 << shift) != 0)  # rounded to odd: any int fits
    return np.asarray(np.ldexp(_convert(np.array(top, np.int64), dtype), shift))


def _gather(x: Array, windows: Sequence[Windows], fill: Any) -> tuple[Array, Array]:
    """All windows in row-major order: their cells (windows, slots) and their values (windows, slots,
    carried).

    A slot without a cell has cell -1 and the value fill. Along every axis cells come first, so slot 0 is a
    cell of the window unless it has none.
    """
    cells = np.zeros((1, 1), np.int64)
    for n, along in zip(x.shape, windows, strict=False):
        own = np.full((len(along), max([1, *(len(w.taps) for w in along)])), -1, np.int64)
        for o, window in enumerate(along):
            own[o, : len(window.taps)] = [i for _, i in window.taps]
        left, right = cells[:, None, :, None], own[None, :, None, :]
        joint = np.where((left < 0) | (right < 0), -1, left * n + right)
        cells = joint.reshape(joint.shape[0] * joint.shape[1], joint.shape[2] * joint.shape[3])
    return cells, np.concatenate([_flat(x), np.full((1, x.shape[-1]), fill, x.dtype)])[cells]


def _identity(mode: str, dtype: np.dtype[Any]) -> Any:
    """What max or min is where there is no cell."""
    if _floating(dtype):
        return -np.inf if mode == "max" else np.inf
    if dtype == BOOL:
        return mode == "min"
    return np.iinfo(dtype).min if mode == "max" else np.iinfo(dtype).max


def _extreme(x: Array, mode: str, windows: Sequence[Windows]) -> tuple[Array, Array]:
    """Values and flat cells (windows, carried): the last NaN, or else the first of the extreme cells."""
    cells, seen = _gather(x, windows, _identity(mode, x.dtype))
    key = seen.astype(F32) if _floating(x.dtype) and x.dtype.itemsize == 2 else seen
    nan = key != key
    # argmax and argmin take the first of equals; no fill wins a tie: where it is extreme, slot 0 is too.
    slot = key.argmax(axis=1) if mode == "max" else key.argmin(axis=1)
    slot = np.where(nan.any(axis=1), nan.shape[1] - 1 - nan[:, ::-1].argmax(axis=1), slot)
    rows = np.arange(len(cells))[:, None]
    return seen[rows, slot, np.arange(x.shape[-1])], cells[rows, slot]


def _norm(size: Array, p: float) -> Array:
    """The p-norm along axis 1 of float64 cells >= 0, scaled by the largest, so that no power overflows."""
    largest: Array = size.max(axis=1)
    usual = np.isfinite(largest) & (largest > 0)
    scale = np.where(usual, largest, 1)
    if p == np.inf:
        return largest
    return np.where(usual, scale * ((size / scale[:, None]) ** p).sum(axis=1) ** (1 / p), largest)


def _scatter(shape: Sequence[int], cells: Array, values: Array) -> Array:
    """Zeros, to which values are added at cells (both (any, carried)) in row-major order; -1 is nowhere."""
    result = np.zeros(prod(shape), values.dtype)
    flat = cells * shape[-1] + np.arange(shape[-1])
    np.add.at(result, flat[cells >= 0], values[cells >= 0])
    return result.reshape(shape)


def _lp_gradient(g: Array, x: Array, p: float, windows: Sequence[Windows]) -> Array:
    cells, seen = _gather(x, windows, 0)
    norm = _norm(np.abs(seen), p)[:, None]
    if p == np.inf:
        hit = np.abs(seen) == norm
        part = np.where(hit & (np.cumsum(hit, axis=1) == 1), g * np.sign(seen), 0)
    else:
        part = g * np.sign(seen) * (np.abs(seen) / norm) ** (p - 1)
    part = np.where((seen == 0) | (norm == 0), 0, part)
    return _scatter(x.shape, _flat(np.broadcast_to(cells[..., None], part.shape)), _flat(part))


# Any windows, any layout


def _forward(
    x: Array,
    mode: str,
    plan: Plan,
    *,
    p: float = 2.0,
    dtype: DTypeLike | None = None,
    return_indices: bool = False,
    count_include_pad: bool = True,
    divisor_override: Any = None,
) -> Any:
    front = _front(x, plan.axes)
    target = None if dtype is None else np.dtype(dtype)
    result = front.dtype if _floating(front.dtype) or mode in ("max", "min") else F32
    with np.errstate(all="ignore"):
        if mode in ("max", "min"):
            values, cells = _extreme(front, mode, plan.windows)
        elif mode == "lp":
            values = _norm(np.abs(_gather(front.astype(F64), plan.windows, 0)[1]), float(p))
        else:
            values = _sum(front.astype(_accumulator(front.dtype, mode, target)), plan.windows)
            if mode == "avg":
                values = values if _floating(values.dtype) else _convert(values, F32)
                values = values / _divisor(plan.windows, count_include_pad, divisor_override, values.dtype)
            elif not _floating(front.dtype):
                result = values.dtype
        out = (*map(len, plan.windows), front.shape[-1])
        values = _convert(values.reshape(out), result if target is None else target)
    values = _back(values, np.shape(x), plan.axes)
    return (values, _back(cells.reshape(out), np.shape(x), plan.axes)) if return_indices else values


def _backward(
    grad_output: Array,
    x: Array,
    mode: str,
    plan: Plan,
    *,
    p: float = 2.0,
    indices: Array | None = None,
    count_include_pad: bool = True,
    divisor_override: Any = None,
) -> Array:
    front, g = _front(x, plan.axes), _front(grad_output, plan.axes)
    g = g.astype(F64 if mode == "lp" else _accumulator(front.dtype, mode))
    with np.errstate(all="ignore"):
        if mode in ("max", "min"):
            cells = _extreme(front, mode, plan.windows)[1] if indices is None else _front(indices, plan.axes)
            grad = _scatter(front.shape, _flat(cells.astype(np.int64)), _flat(g))
        elif mode == "lp":
            grad = _lp_gradient(_flat(g)[:, None], front.astype(F64), float(p), plan.windows)
        else:
            if mode == "avg":
                g = g / _divisor(plan.windows, count_include_pad, divisor_override, g.dtype)
            along = zip(front.shape, plan.windows, strict=False)
            grad = _sum(g, [_covering(n, windows, plan.adaptive) for n, windows in along])
        return _back(_convert(grad, front.dtype), np.shape(x), plan.axes)


# The public calls: pooling's own, without out and backend. What options are: the keywords of _plan or
# _adaptive_plan, and those of _forward or _backward.


def pool(x: Array, mode: str, kernel: Any, stride: Any = None, padding: Any = 0, **options: Any) -> Any:
    """What pooling.pool returns for a NumPy array: the values, or (values, indices)."""
    plan, options = _plan(x, kernel, stride, padding, **options)
    return _forward(x, mode, plan, **options)


def pool_backward(
    grad_output: Array, x: Array, mode: str, kernel: Any, stride: Any = None, padding: Any = 0, **options: Any
) -> Array:
    """What pooling.pool_backward returns."""
    plan, options = _plan(x, kernel, stride, padding, **options)
    return _backward(grad_output, x, mode, plan, **options)


def adaptive_pool(x: Array, mode: str, output_size: Any, **options: Any) -> Any:
    """What pooling.adaptive_pool returns."""
    plan, options = _adaptive_plan(x, output_size, **options)
    return _forward(x, mode, plan, **options)


def adaptive_pool_backward(grad_output: Array, x: Array, mode: str, output_size: Any, **options: Any) -> Array:
    """What pooling.adaptive_pool_backward returns."""
    plan, options = _adaptive_plan(x, output_size, **options)
    return _backward(grad_output, x, mode, plan, **options)


def global_pool(x: Array, mode: str, *, keepdims: bool = True, **options: Any) -> Any:
    """What pooling.global_pool returns."""
    plan, options = _adaptive_plan(x, 1, **options)
    result = _forward(x, mode, plan, **options)
    if keepdims:
        return result
    return tuple(r.squeeze(plan.axes) for r in result) if type(result) is tuple else result.squeeze(plan.axes)


def max_unpool(
    x: Array,
    indices: Array,
    kernel: Any,
    stride: Any = None,
    padding: Any = 0,
    *,
    output_size: Any = None,
    layout: str = "channels_last",
) -> Array:
    """What pooling.max_unpool returns."""
    stride = _stride(stride, kernel)
    axes = _axes(layout, np.ndim(x), kernel, stride, padding)
    values, cells, m = _front(x, axes), _front(indices, axes), len(axes)
    if output_size is None:
        size = []
        for i, (n, k, s) in enumerate(zip(values.shape[:m], _each(kernel, m), _each(stride, m), strict=True)):
            before, after = _padding(padding, n, k, s, 1, i)
            size.append((n - 1) * s - before - after + k)
    else:
        given = _each(output_size, m)
        size = given if len(given) == m else _take(given, axes)
    carried = np.arange(values.shape[-1])
    result = np.zeros((prod(size), len(carried)), values.dtype)
    for window in np.ndindex(*values.shape[:m]):  # in row-major order, so that the last of duplicates stays
        real = cells[window] >= 0
        result[cells[window][real], carried[real]] = values[window][real]
    return _back(result.reshape(*size, len(carried)), np.shape(x), axes)


def output_shape(
    input_shape: Sequence[int],
    kernel: Any,
    stride: Any = None,
    padding: Any = 0,
    *,
    dilation: Any = 1,
    ceil_mode: bool = False,
    layout: str = "channels_last",
) -> tuple[int, ...]:
    """What pooling.output_shape returns. No window is enumerated, so any size will do."""
    shape = [index(n) for n in input_shape]
    for a, row in zip(*_rows(shape, kernel, stride, padding, dilation, ceil_mode, layout), strict=True):
        shape[a] = len(_starts(*row))
    return tuple(shape)
