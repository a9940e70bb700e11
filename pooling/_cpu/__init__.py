"""The CPU backend: NumPy arrays in, NumPy arrays out, through the Cython loop nest.

This is its Python face: it finds memory, types and views for one call and hands addresses to the nest. It trusts what
the door has checked (window, layout, types) and checks what only an array can tell (indices, overlap, memory).
"""

from __future__ import annotations

import os
import platform
import sys
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from itertools import repeat
from math import prod
from operator import setitem
from typing import Any, NoReturn

import numpy as np

from pooling._cpu import _gomp, _back, _nest  # isort: skip  # _gomp first
from pooling._cpu._isa import ISA, ROWS
from pooling._cpu._views import LARGE, Array, Memory, empty_by_plane, empty_like, fits, view, view_of
from pooling._dtypes import DTYPES, Types, keyed, name_of, narrowed, numpy_dtype
from pooling._geometry import CACHED, Axis, Geometry, cached
from pooling._layout import Layout
from pooling._modes import COMBINES, SUM, Reduction
from pooling._window import shown

_gomp.loaded()

_WITHOUT = Axis(1, 1, 1, 1, 0, 0, 1)  # stands for the pooled axes that a call does not have


def owns(x: Any) -> bool:
    """Whether x is a NumPy array; a masked one has cells that pooling could not leave out."""
    kind = type(x)  # isinstance would believe what an object says of itself
    return kind is np.ndarray or (issubclass(kind, np.ndarray) and not issubclass(kind, np.ma.MaskedArray))


def plain(x: Array) -> Array:
    """The ndarray that an array of a subclass is: its shape and strides are those of its memory, not what it says they are."""
    return x if type(x) is np.ndarray else np.ndarray.view(x, np.ndarray)


def why_not() -> str | None:
    """The CPU backend is always usable once it is imported."""
    return None


def from_numpy(x: Array) -> Array:
    """NumPy's arrays are the backend's own."""
    return x


to_numpy = from_numpy


def cell(x: Array) -> str:
    """The element type's name; a TypeError for a type that pooling does not have."""
    name = name_of(x.dtype)
    if name is None:
        raise TypeError(f"cells of type {shown(x.dtype, str)} cannot be pooled; the types are {', '.join(DTYPES)}")
    return name


# ---- threads -------------------------------------------------------------------------------------------------


def _default_threads() -> int:
    for name in ("POOLING_NUM_THREADS", "OMP_NUM_THREADS"):
        try:
            number = int(os.environ.get(name, "").partition(",")[0])
        except ValueError:
            continue
        if number > 0:
            return min(number, 1024)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_OPENMP = bool(_nest.info()["openmp"])
_threads = _default_threads()
_forked = False


def _after_fork() -> None:
    """A child of fork has none of the parent's OpenMP threads, and waiting for them would hang: it works alone."""
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def set_num_threads(n: int) -> None:
    """How many threads a call may use."""
    global _threads
    _threads = n


def get_num_threads() -> int:
    """How many threads a call may use: one where the build has no OpenMP, and in a forked child."""
    return 1 if _forked or not _OPENMP else _threads


def info() -> dict[str, str]:
    """How the extension was built and what it runs on."""
    built = _nest.info()
    return {
        "instruction set": f"{platform.machine()} {ISA}",
        "compiler": built["compiler"],
        "openmp": "yes" if built["openmp"] else "no",
        "debug": "yes" if built["debug"] else "no",
    }


# ---- memory --------------------------------------------------------------------------------------------------


def _native(x: Array) -> Array:
    """The array itself; a copy only where its bytes are swapped or unaligned."""
    return x if x.dtype.isnative and x.flags.aligned else x.astype(x.dtype.newbyteorder("="), order="K")


# ---- the operations ------------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def _loops(reduction: Reduction, types: Types, index: str = "") -> _nest.Loops:
    """The row loops of a mode on these types; `index`: the type that carries indices, where they are asked for."""
    row, combine = reduction.row, COMBINES[reduction.row.combine]
    identity, load = _identity(row.identity, types.cell), row.cell
    neutral = np.array(identity, numpy_dtype(types.cell)).tobytes()
    if combine.key and load == "x" and not index:
        types, load = keyed(types), combine.key if keyed(types) != types else load
    if types.accumulate == "int16" and DTYPES[types.cell].kind == "f":
        bits = int(np.array(identity, numpy_dtype(types.cell)).view(np.int16))
        identity = bits ^ (bits >> 15 & 0x7FFF)
    return _nest.Loops(
        ROWS,
        row.combine,
        combine.idempotent,
        load,
        row.finish,
        types,
        index,
        np.array(identity, numpy_dtype(types.accumulate)).tobytes(),
        neutral,
    )


def _identity(identity: str, cell: str) -> Any:
    """The value that changes no result: the type's own lowest or highest, or zero."""
    row, low = DTYPES[cell], identity == "lowest"
    if identity == "zero":
        return 0
    if row.kind == "f":
        return -np.inf if low else np.inf
    if row.kind == "b":
        return 0 if low else 1
    limits = np.iinfo(numpy_dtype(cell))
    return limits.min if low else limits.max


def _axes(geometry: Geometry, reduction: Reduction) -> tuple[Any, int, bool]:
    """The tables of a call, kept unless they are long."""
    return cached(_tables, max(geometry.outs))(geometry, reduction)


@lru_cache(maxsize=1024)
def _tables(geometry: Geometry, reduction: Reduction) -> tuple[Any, int, bool]:
    """What the nest reads of the geometry: the axes D, H, W with ranges and counts, the divisor, whether it is one for all."""
    fits((3, sum(geometry.outs)), 8)  # first cell, number of cells and divisor of every window of an axis
    axes = (_WITHOUT,) * (3 - len(geometry.axes)) + geometry.axes
    divisor, uniform = reduction.divisor or 1, True
    counts: list[Any] = [None] * 3
    if reduction.row.divides and reduction.divisor is None:
        counts = [axis.counts(reduction.include_pad) for axis in axes]
        uniform = all(min(count, default=1) == max(count, default=1) for count in counts)
        for count in counts:
            divisor *= count[0] if uniform and len(count) else 1
    return [(axis, axis.ranges(), count) for axis, count in zip(axes, counts, strict=True)], divisor, uniform


def _memory(array: Array) -> Memory:
    return array.shape, array.strides, array.itemsize


def _carried(layout: Layout, geometry: Geometry) -> tuple[Layout, Geometry, bool]:
    """Axes of a volume whose windows are one cell are carried: D, or else W, and H beside it; and whether D is left alone."""
    idle = [len(geometry.axes) == 3 and axis.idle for axis in geometry.axes]
    if idle[0]:
        idle[1:] = False, False
    elif not idle[-1]:
        idle[1:-1] = [False] * (len(idle) - 2)
    if not any(idle):
        return layout, geometry, False
    return layout.carrying(idle), geometry.without(idle), sum(idle) == 2


@lru_cache(maxsize=1024)
def _planning(layout: Layout, geometry: Geometry, reduction: Reduction, types: Types) -> Callable[..., _nest.Plan]:
    """The function (x, y) or (x, y, i) -> the plan for arrays that lie in memory as these do; it keeps a few."""
    carried = _carried(layout, geometry)

    def planned(threads: int, x: Memory, y: Memory, *i: Memory) -> _nest.Plan:
        own, pooled, alone = (layout, geometry, False) if i else carried  # an index counts the cells of all pooled axes
        axes, divisor, uniform = _axes(pooled, reduction)
        kinds = narrowed(types, prod(min(axis.kernel, axis.n) for axis in geometry.axes))
        # Beside values of 32 bits or less, indices of 32 bits: they are chosen by the same vector masks.
        short = DTYPES[types.accumulate].size < 8 and geometry.plane < 2**32 - 1
        loops = _loops(reduction, kinds, ("uint32" if short else "uint64") if i else "")
        index = i[0][2] if i else 0
        arrays = view_of(own, (x, y, *(i or (y,))))
        if alone:  # D takes the place of H, for the ways that take whole rows
            cell = tuple([arrays.inner[0] * size for size in arrays.inner[1:]])
            axes, arrays = [*axes[1:], axes[0]], arrays._replace(pooled=[*arrays.pooled[1:], cell])
        plan = _nest.Plan(loops, axes, arrays, index, reduction.p, divisor, uniform, threads)
        if "logging" in sys.modules:  # who wants to read it has imported it
            log = sys.modules["logging"].getLogger("pooling")
            what = reduction.row.name, types.cell, x[0], own.letters
            log.debug("%s of %s cells of shape %s, layout %s: %s", *what, plan.words())
        return plan

    kept = cached(lru_cache(maxsize=8)(planned), max(geometry.outs))
    return lambda *arrays: kept(get_num_threads(), *map(_memory, arrays))


def reduce(
    x: Array, layout: Layout, geometry: Geometry, reduction: Reduction, types: Types, y: Array, i: Array | None = None
) -> None:
    """Pools x into y, and the indices into i, of int64 or (for planes below 2**31 cells) int32.

    `types` names the cells: their arrays may be of any dtype of that size, as uint16 for bfloat16.
    """
    if y.size:
        arrays = (x, y) if i is None else (x, y, i)
        _planning(layout, geometry, reduction, types)(*arrays).run(*arrays)


def pooling(
    layout: Layout, geometry: Geometry, reduction: Reduction, types: Types, indexed: bool, shape: tuple[int, ...]
) -> Callable[[Array, tuple[Array, ...] | None], tuple[Array, ...]]:
    """The function (x, out) -> the values, of this shape, and the indices if asked for."""
    cells, wanted = numpy_dtype(types.cell), (numpy_dtype(types.result), np.dtype(np.int64))[: 1 + indexed]
    size = sum(dtype.itemsize for dtype in wanted)
    plan_of = _planning(layout, geometry, reduction, types)

    def pool(x: Array, out: tuple[Array, ...] | None) -> tuple[Array, ...]:
        given = None if out is None else _checked_out(out, shape, wanted)
        x = _native(x)
        apart = given is None or any(np.may_share_memory(x, array) or not array.flags.aligned for array in given)
        if given is None or apart:
            fits(shape, size)
            result = tuple([empty_like(x, shape, dtype) for dtype in wanted])
        else:
            result = given
        if result[0].size:
            plan_of(x, *result).run(x, *result)
        if out is None or given is None:
            return result
        if apart:  # both of a pair, or none: no signal is handled between calls that C makes
            targets: list[Any] = list(given)
            deque(map(setitem, targets, repeat(...), result), maxlen=0)
        return out

    if not 0 < prod(shape) * size <= LARGE or max(geometry.outs) > CACHED:
        return pool
    return _nest.Packed(pool, plan_of, get_num_threads, cells, wanted, shape)


def _checked_out(out: tuple[Array, ...], shape: tuple[int, ...], wanted: tuple[np.dtype[Any], ...]) -> tuple[Array, ...]:
    """The arrays of `out`, each as a plain ndarray."""
    if len(out) != len(wanted):
        raise ValueError(f"out has {len(out)} arrays; {len(wanted)} are needed (return_indices makes it a pair)")
    for array in out:
        if not owns(array):
            raise TypeError(f"out is {type(array).__name__}; a NumPy array is needed")
    out = tuple([plain(array) for array in out])
    for array, dtype in zip(out, wanted, strict=True):
        if array.dtype != dtype or not array.dtype.isnative:
            raise TypeError(f"out has dtype {array.dtype.str}; the result is {dtype} in native byte order")
        if array.shape != shape:
            raise ValueError(f"out has shape {array.shape}; the result has shape {shape}")
        if not array.flags.writeable:
            raise ValueError("out is read-only")
        if _overlaps_itself(array):
            raise ValueError(f"out overlaps itself: two cells share memory (shape {array.shape}, strides {array.strides})")
    if len(out) == 2 and _overlap(*out):
        raise ValueError("out: its two arrays overlap each other")
    return out


def _overlap(a: Array, b: Array) -> bool:
    """Whether two arrays share bytes; True where finding out would take too long."""
    try:
        return np.shares_memory(a, b, max_work=10**6)  # type: ignore[arg-type]  # its stub knows two values only
    except np.exceptions.TooHardError:
        return True


def _overlaps_itself(array: Array) -> bool:
    """Whether two cells of an array share bytes."""
    if array.flags.c_contiguous or array.flags.f_contiguous:
        return False
    steps = sorted((abs(stride), n) for stride, n in zip(array.strides, array.shape, strict=True) if n > 1)
    if sum(stride * (n - 1) for stride, n in steps) + array.itemsize < array.nbytes:
        return array.size > 0  # more cells than the memory from the first to the last one holds
    if steps and steps[0][0] < array.itemsize:
        return True
    reach = array.itemsize
    for stride, n in steps:
        if stride < reach:
            break  # not nested: only the addresses themselves can tell
        reach += stride * (n - 1)
    else:
        return False
    addresses = np.zeros(1, np.int64)
    for stride, n in zip(array.strides, array.shape, strict=True):
        addresses = (addresses[:, None] + stride * np.arange(n)).ravel()
    addresses.sort()
    return bool(array.size > 1 and np.diff(addresses).min() < array.itemsize)


def pool_backward(
    grad_output: Array,
    x: Array,
    layout: Layout,
    geometry: Geometry,
    reduction: Reduction,
    types: Types,
    indices: Array | None,
) -> Array:
    """The gradient with respect to x, in x's type."""
    rule = {"choice": _choice, "share": _share, "slope": _slope}[reduction.row.gradient]
    fits(x.shape, x.itemsize)
    with np.errstate(all="ignore"):
        return rule(_native(grad_output), _native(x), layout, geometry, reduction, types, indices)


def _choice(
    g: Array, x: Array, layout: Layout, geometry: Geometry, reduction: Reduction, types: Types, indices: Array | None
) -> Array:
    """To the cell that each window chose, windows in row-major order."""
    given = indices
    if indices is None:
        kinds = Types(types.cell, types.accumulate, types.accumulate, types.accumulate)
        y = empty_like(g, g.shape, numpy_dtype(types.accumulate))
        indices = empty_like(g, g.shape, np.dtype(np.int32 if geometry.plane < 2**31 else np.int64))
        reduce(x, layout, geometry, reduction, kinds, y, indices)
        if reduction.row.cell != "x":
            indices[np.isnan(y)] = -1  # no cell's absolute value equals a NaN
    if reduction.row.arithmetic == "real":
        g = g.astype(types.accumulate)
    name = cell(g)
    grad, apart = empty_by_plane(layout, x, x.shape, g.dtype)
    if not scatter("add", name, DTYPES[name].sum, layout, geometry, grad, apart, g, indices):
        _misplaced(given, layout, geometry)
    if reduction.row.cell != "x":
        grad = np.where(x == 0, np.zeros((), grad.dtype), grad * np.sign(x.astype(grad.dtype)))
        grad = np.where(np.isnan(x), np.zeros((), grad.dtype), grad)
    return grad if types.cell == name else _rounded(grad, x, layout, types.cell)


def _share(
    g: Array, x: Array, layout: Layout, geometry: Geometry, reduction: Reduction, types: Types, indices: Array | None
) -> Array:
    """To every cell alike: the sum, over the windows that cover a cell, of their gradients over their divisors."""
    accumulate, divides = DTYPES[types.cell].sum, reduction.row.divides
    grad = empty_like(x, x.shape, numpy_dtype(types.cell))
    if not g.size:  # nor is there anything to count, of axes that may be long
        grad[...] = 0
        return grad
    if [axis.idle for axis in geometry.axes] == [True, False, False]:
        layout, geometry, _ = _carried(layout, geometry)
    axes, divisor, uniform = _axes(geometry, reduction)
    if all(_few(axis) for axis in geometry.axes):
        covers = [axis.transposed().ranges() if axis.shares else None for axis, *_ in axes]
        sums = ROWS["down", accumulate], ROWS["along", accumulate]
        loops = ROWS["quotient", types.cell, accumulate], *sums, ROWS["store", accumulate, types.cell]
        whole: Any = ROWS.get(("shared", types.cell), ())
        size = DTYPES[accumulate].size
        places, threads = view(layout, grad, g), get_num_threads()
        _back.share(loops, whole, ROWS["vector",], axes, covers, places, grad, g, size, divides, divisor, uniform, threads)
        return grad
    if divides:
        divisors: Any = np.int64(reduction.divisor or 1)
        for axis, i in zip(geometry.axes if reduction.divisor is None else (), layout.pooled, strict=False):
            count = np.frombuffer(axis.counts(reduction.include_pad), np.int64)
            divisors = divisors * count.reshape([-1 if k == i else 1 for k in range(x.ndim)])
        g = g.astype(accumulate) / np.asarray(divisors).astype(accumulate)
    reduce(g, layout, geometry.transposed(), SUM, Types(cell(g), accumulate, accumulate, types.cell), grad)
    return grad


def _few(axis: Axis) -> bool:
    """Whether windows without gaps cover a cell three at most, and section 6 adds them from left to right."""
    if axis.shares:
        return max(axis.transposed().counts(False)) <= 3
    return (axis.dilation == 1 or axis.kernel == 1) and (axis.kernel <= 3 or axis.kernel <= 2 * axis.stride)


def _slope(g: Array, x: Array, layout: Layout, geometry: Geometry, reduction: Reduction, types: Types, _: Array | None) -> Array:
    """By each cell's part in its windows, rounded once."""
    total = slope(g.astype(np.float64), x.astype(np.float64), layout, geometry, reduction)
    return total if types.cell == "float64" else _rounded(total, x, layout, types.cell)


@np.errstate(all="ignore")
def slope(g: Array, x: Array, layout: Layout, geometry: Geometry, reduction: Reduction) -> Array:
    """g sign(x) (|x|/y)**(p-1), summed over the windows of a cell: sign(x) (|x|/c)**(p-1) times the sum of g (y/c)**(1-p).

    All in float64. Windows are taken in bands of y, each with its own scale c, so that no power overflows while the quotient
    does not.
    """
    p, wide = reduction.p, Types("float64", "float64", "float64", "float64")
    y = empty_like(g, g.shape, g.dtype)
    reduce(x, layout, geometry, reduction, wide, y)
    size, sign = np.abs(x), np.sign(x)
    real = np.isfinite(y) & (y > 0)
    bands = np.zeros(y.shape, np.int64)
    bands[real] = np.floor(np.log2(y[real]) * max(abs(p - 1), 1e-3) / 500)
    back = geometry.transposed()
    total, part = np.zeros(x.shape), empty_like(x, x.shape, x.dtype)
    for band in np.unique(bands):
        chosen = bands == band
        scale = np.max(y, where=chosen & real, initial=0.0) or 1.0
        q = np.where(chosen & (y != 0), g * (y / scale) ** (1 - p), 0.0)
        reduce(q, layout, back, SUM, wide, part)
        total += np.where((size == 0) | (part == 0), 0.0, sign * (size / scale) ** (p - 1) * part)
    lost = np.isnan(size) | (np.isinf(size) if p != 1 else False)  # NaN, and inf/inf, in every window that holds the cell
    if lost.any():
        reduce(np.ones(y.shape), layout, back, SUM, wide, part)
        total[lost & (part > 0)] = np.nan
    return total


def _rounded(values: Array, like: Array, layout: Layout, result: str) -> Array:
    """The same values in another type, each rounded once."""
    name = cell(values)
    y = empty_like(like, values.shape, numpy_dtype(result))
    alone = Geometry(tuple(Axis.shared(i, n, n) for i, n in enumerate(layout.sizes(values.shape))))
    reduce(values, layout, alone, SUM, Types(name, name, name, result), y)
    return y


def unpool(x: Array, indices: Array, layout: Layout, sizes: tuple[int, ...]) -> Array:
    """Zeros of the given pooled sizes, with each cell of x where its index says."""
    x, size = _native(x), f"uint{8 * x.itemsize}"
    result, apart = empty_by_plane(layout, x, layout.resized(x.shape, sizes), x.dtype)
    if not scatter("set", size, size, layout, whole(layout, x.shape, sizes), result, apart, x, indices):
        _outside(indices, layout, sizes)
    return result


def whole(layout: Layout, shape: tuple[int, ...], sizes: tuple[int, ...]) -> Geometry:
    """Windows that each cover all of the plane."""
    return Geometry(tuple(Axis(n, n, 0, 1, 0, 0, out) for n, out in zip(sizes, layout.sizes(shape), strict=True)))


def check_plane(indices: Array, layout: Layout, sizes: tuple[int, ...]) -> None:
    """IndexError for an index outside [-1, plane)."""
    if not _checked(indices, layout, whole(layout, indices.shape, sizes)):
        _outside(indices, layout, sizes)


def check_windows(indices: Array, layout: Layout, geometry: Geometry) -> None:
    """IndexError for an index that is neither -1 nor a cell of its own window."""
    if not _checked(indices, layout, geometry):
        _misplaced(indices, layout, geometry)


def _outside(given: Any, layout: Layout, sizes: tuple[int, ...]) -> NoReturn:
    where = _first_wrong(given, layout, whole(layout, given.shape, sizes))
    raise IndexError(
        f"indices[{', '.join(map(str, where))}] = {int(given[where])}: outside [-1, {prod(sizes)}), the output's plane"
    )


def _misplaced(given: Any, layout: Layout, geometry: Geometry) -> NoReturn:
    where = _first_wrong(given, layout, geometry)
    raise IndexError(
        f"indices[{', '.join(map(str, where))}] = {int(given[where])}: "
        f"neither -1 nor a cell of the window at {tuple(where[i] for i in layout.pooled)}"
    )


def _first_wrong(given: Array, layout: Layout, geometry: Geometry) -> tuple[int, ...]:
    """Where the first index stands that is neither -1 nor a cell of its window: for an error, as slow as it likes."""
    indices = rest = _integers(given)
    wrong = (indices < -1) | (indices >= geometry.plane)
    for i, axis in reversed(list(zip(layout.pooled, geometry.axes, strict=True))):
        ranges, along = axis.ranges(), [-1 if k == i else 1 for k in range(indices.ndim)]
        starts = np.arange(axis.out) * axis.stride - axis.before if ranges is None else np.frombuffer(ranges[0], np.int64)
        extents = np.full(axis.out, axis.extent) if ranges is None else np.frombuffer(ranges[1], np.int64)
        offset = rest % axis.n - starts.reshape(along)
        wrong |= (indices >= 0) & ((offset < 0) | (offset >= extents.reshape(along)) | (offset % axis.dilation != 0))
        rest = rest // axis.n
    return tuple(map(int, np.unravel_index(int(np.argmax(wrong)), wrong.shape)))


def _integers(indices: Array) -> Array:
    """Indices as int32 or int64, with those that int64 cannot hold made an illegal negative."""
    indices = _native(indices)
    if indices.dtype == np.uint64:
        return np.where(indices > np.uint64(2**63 - 1), np.int64(-2), indices.astype(np.int64))
    return indices if indices.dtype == np.int32 else indices.astype(np.int64, copy=False)


def scatter(
    loop: str, cells: str, accumulate: str, layout: Layout, geometry: Geometry, grad: Array, apart: int, g: Array, indices: Array
) -> bool:
    """Fills grad with zeros and adds (loop "add") or puts ("set") g where indices say; False where one is not of its window.

    `cells` names the type of grad and g, `accumulate` the one that sums; neighbours in a plane of grad are `apart` bytes apart.
    """
    if not g.size:
        grad[...] = 0
        return True
    indices = _integers(indices)
    kind, size = f"int{8 * indices.itemsize}", DTYPES[accumulate].size
    store = 0 if cells == accumulate else ROWS["store", accumulate, cells]
    match = ROWS["match", cells, accumulate, kind] if loop == "add" else 0
    loops, axes = (ROWS["check", kind], ROWS[loop, cells, accumulate, kind], store, match), _axes(geometry, SUM)[0]
    return _back.scatter(loops, view(layout, grad, g, indices), axes, apart, size, grad, g, indices, get_num_threads())


def _checked(indices: Array, layout: Layout, geometry: Geometry) -> bool:
    """Whether every index is -1 or a cell of its window."""
    indices = _integers(indices)
    if not indices.size:
        return True
    loops, places = (ROWS["check", f"int{8 * indices.itemsize}"], 0, 0, 0), view(layout, indices, indices, indices)
    return _back.scatter(loops, places, _axes(geometry, SUM)[0], 0, 0, None, indices, indices, get_num_threads())
