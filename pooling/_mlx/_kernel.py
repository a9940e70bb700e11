"""MLX's GPUs: the kernel in _body.h, made for Metal or CUDA by mx.fast.metal_kernel or mx.fast.cuda_kernel.

Every cell of the canonical view is made by one thread, so nothing is added by two and every result is the same each time:
gradients gather, a cell from the windows that cover it. A kernel is made for a mode, its types and a few flags; sizes are an
array that it reads. What a call needs besides its arrays is kept by problem: of a small call it was most of the time.

Pooling several axes is one launch, or a launch for some and then for the others, whichever counts fewer operations: a large
window then costs the sum of its sides, not their product. Where cells may count twice (max, min) a long side is made of
windows of windows. A p-norm in several launches, and its gradient, are sums of numbers with an exponent of their own (WIDE).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import chain, product
from math import gcd, inf, log2, prod
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from pooling._dtypes import DTYPES, Types
from pooling._geometry import LIMIT, Axis, Geometry
from pooling._layout import Layout
from pooling._mlx._arrays import NAMES, TYPES, axes, canonical, constants, on_cpu, restored, single
from pooling._mlx._convert import convert
from pooling._modes import COMBINES, SUM, Reduction

Names = tuple[str, ...]
Kinds = dict[str, str]  # element types by name
Axes = tuple[Axis, ...]  # D, H, W
Launch = Callable[..., list[mx.array]]  # arrays in, arrays out
Pass = tuple[Axes, tuple[int, ...]]  # the axes of a launch, and which of them it pools

BLOCK = 256  # threads in a threadgroup
CELLS = LIMIT - BLOCK  # a grid is made of whole blocks, and counted in 32 bits
# Costs in operations, one of which is a tap that is read and joined. Estimates: no GPU has been measured for them.
LANES = 2**15  # fewer threads than these take no less time
VISIT = 16  # a thread before its first tap: positions, and one cell written
LAUNCH = 2**21
SORT = 64  # a key, for each doubling of the keys
FULL = 2**18  # threads that keep a GPU busy: where there are more cells, a thread makes up to PARTS of them
PARTS = 4
SECTOR = 8  # cells of float32 that a GPU reads at once
FUNCTIONS, BODY = Path(__file__).with_name("_body.h").read_text(encoding="utf-8").split("// ---- the kernel ----\n")

# What the dialects do not have in common. Metal's words come with the header that MLX puts before every kernel.
DIALECTS = {
    "metal": "#define FUNCTION inline\n#define BITS(x) as_type<uint32_t>(x)\n",
    "cuda": """\
#define FUNCTION __device__ inline
#define thread_position_in_grid (uint3{blockIdx.x * blockDim.x + threadIdx.x, 0, 0})
#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#endif
#define BITS(x) __float_as_uint(x)
""",
}

# ---- the device ----------------------------------------------------------------------------------------------


def dialect() -> str | None:
    """The language of the default device: "metal", "cuda", or None where it is no GPU. (Tests put a simulated one here.)"""
    if on_cpu():
        return None
    return "metal" if mx.metal.is_available() else "cuda" if mx.cuda.is_available() else None


def device_kernel(name: str, input_names: Sequence[str], output_names: Sequence[str], source: str, header: str) -> Any:
    """mx.fast.metal_kernel or mx.fast.cuda_kernel. (Tests put a simulated device's here.)"""
    make: Any = mx.fast.metal_kernel if dialect() == "metal" else mx.fast.cuda_kernel
    return make(name=name, input_names=input_names, output_names=output_names, source=source, header=header)


def why_not() -> str | None:
    """None on a GPU on which a small kernel compiles and runs: errors of its compiler come up no earlier."""
    language = dialect()
    if language is None:
        return "the default device is no GPU: set one with mx.set_default_device(mx.gpu) on a Mac, or with MLX's CUDA build."
    return _probe(language, device_kernel)


@cache
def _probe(language: str, make: Any) -> str | None:
    axis, types = Axis(4, 2, 2, 1, 0, 0, 2), Types(*("float32",) * 4)
    try:
        (y,) = reduce(mx.arange(4.0), Layout.of("L", 1, 1), Geometry((axis,)), SUM, types, False)
        sums = y.tolist()
    except Exception as error:  # whatever a compiler or a driver raises
        return f"a small {language} kernel does not run: {type(error).__name__}: {error}"
    return None if sums == [1.0, 5.0] else f"a small {language} kernel adds 0+1 and 2+3 to {sums}"


def refuses(x_size: int, y_size: int, types: Types, reduction: Reduction | None) -> str | None:
    """What GPUs do not have, float64, and what positions of 32 bits do not reach."""
    inside = reduction is not None and reduction.row.arithmetic == "real"  # float32 will do there
    wide = (types.cell, types.result) if inside else (types.cell, types.accumulate, types.finish, types.result)
    if "float64" in wide:
        return 'it needs float64, which GPUs do not have in MLX; backend="cpu" and MLX\'s CPU device do.'
    if max(x_size, y_size) > CELLS:
        return f"the kernel counts cells in 32 bits, and an array has {max(x_size, y_size)}; backend='mlx:ops' takes it."
    return None


# ---- one launch ----------------------------------------------------------------------------------------------


@cache
def _kernel(language: str, make: Any, inputs: Names, outputs: Names, flags: Names, types: str) -> Any:
    header = DIALECTS[language] + "".join(f"#define {flag}\n" for flag in flags) + FUNCTIONS
    stamp = hashlib.sha256(f"{types}{inputs}{outputs}{header}{BODY}".encode()).hexdigest()[:16]
    return make(f"pooling_{stamp}", inputs, outputs, BODY, header)  # MLX keeps what is compiled by name, and by template


def _no_vmap(*_: Any) -> Any:
    raise RuntimeError("MLX's kernels cannot be mapped by mx.vmap: use backend='mlx:ops'")


_guarded: Any = mx.custom_function(lambda *inputs: inputs)  # vmap meets it before the kernel, and gets a sentence
_guarded.vmap(_no_vmap)


@dataclass(frozen=True)
class Nest:
    """The axes D, H, W of a launch, those of them that it pools, and what it reads: (outer, D, H, W, inner)."""

    axes: Axes
    pooled: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def made(self) -> tuple[int, ...]:
        """The shape of the result."""
        outs = (axis.out if i in self.pooled else n for i, (axis, n) in enumerate(zip(self.axes, self.shape[1:4], strict=True)))
        return (self.shape[0], *outs, self.shape[4])

    def launch(
        self, flags: dict[str, Any], depth_first: bool, types: Kinds, inputs: Kinds, outputs: Kinds, reals: mx.array | None = None
    ) -> Launch:
        """The kernel for the default device as a function of arrays, in the order of their names, to those of the outputs."""
        made, loops = self.made, (0, 1, 2) if depth_first else (2, 1, 0)
        cells, inner = prod(made), made[4]
        flags = dict.fromkeys(FLAGS, 0) | flags
        alone = flags["SCALED"] or flags["SORTED"] or flags["WIDE"] or _uncoalesced(self.axes, inner)
        parts, lanes = (1, inner) if alone else _parts(cells, made[0], inner)
        flags |= {f"ALONG{i}": int(a in self.pooled) for i, a in enumerate(loops)}
        flags |= {f"K{i}": _unrolled(self.axes[a]) if a in self.pooled else 1 for i, a in enumerate(loops)}
        flags |= {"DEPTH_FIRST": int(depth_first), "HIGH": int(made[2] > 1), "DEEP": int(made[1] > 1)}
        flags |= {"PARTS": parts, "GAPS": max(map(_gaps, self.axes))}
        wide = "int32" if all(_reach(axis) < LIMIT for axis in self.axes) else "int64"
        apart = [inner // parts] * 2 if lanes < inner else [cells // parts, prod(self.shape) // parts]
        numbers = [cells // parts, lanes, inner, *apart, *_divisor(lanes)]
        for axis, n, out in zip(self.axes, self.shape[1:4], made[1:4], strict=True):
            numbers += _numbers(axis, n, out)
        kept = {"axes": constants(wide, *numbers)} | ({} if reals is None else {"reals": reals})
        lines = tuple(f"{name} {value}" for name, value in flags.items())
        arrays = " ".join([*inputs.values(), wide])
        kernel = _kernel(dialect() or "", device_kernel, (*inputs, *kept), tuple(outputs), lines, arrays)
        call: dict[str, Any] = {
            "template": [(name, TYPES[kind]) for name, kind in ({"P": wide} | types).items()],
            "grid": (-(-cells // parts // BLOCK) * BLOCK, 1, 1),
            "threadgroup": (BLOCK, 1, 1),
            "output_shapes": [self.shape if flags["ROUTED"] else made] * len(outputs),
            "output_dtypes": [TYPES[kind] for kind in outputs.values()],
        }

        def launch(*arrays: mx.array) -> list[mx.array]:
            result: list[mx.array] = kernel(inputs=[*_guarded(*arrays), *kept.values()], **call)
            return result

        return launch


FLAGS = (
    *("REDUCE", "PAIRWISE", "SCALED", "INDEXED", "CARRIED", "ROUTED", "LAST", "COUNT"),  # values
    *("SCATTER", "SORTED"),  # gradients of choices
    *("WIDE", "NORM", "SHARE", "SLOPE"),  # norms of large windows, and gradients
)


def _parts(cells: int, outer: int, inner: int) -> tuple[int, int]:
    """How many cells a thread makes, of so many, and the threads along `inner`: fewer than that where it is what they share."""
    parts = next(n for n in range(max(1, min(PARTS, cells // FULL)), 0, -1) if outer % n == 0 or inner % n == 0)
    return parts, inner if outer % parts == 0 else inner // parts


def _uncoalesced(three: Axes, inner: int) -> bool:
    """Whether threads side by side meet cells that lie far apart, so that the cache is what keeps their neighbours at hand."""
    return inner < SECTOR and three[2].stride > 3  # 7 by 7 windows, channels first: twice the time with two cells a thread


def _gaps(axis: Axis) -> int:
    """What the kernel has to divide by, to find a window's cells: 0: nothing; 1: the spacing; 2: anything."""
    return 2 if axis.shares or axis.dilation > 1 else int(axis.spacing > 1)


def _step(axis: Axis) -> tuple[int, int, int, int]:
    """The taps of a window that hit a cell stand `skip` apart, and hit every `step`-th cell: skip, step, factor, inverse."""
    factor = gcd(axis.dilation, axis.spacing)
    skip, step = axis.spacing // factor, axis.dilation // factor
    return skip, step, factor, pow(step, -1, skip) if skip > 1 else 0


def _numbers(axis: Axis, cells: int, outs: int) -> list[int]:
    """What the kernel's struct Axis holds."""
    sliding = (axis.n, axis.n + axis.after, axis.kernel, axis.stride, axis.dilation, axis.before)
    steps = _step(axis)
    return [cells, outs, int(bool(axis.shares)), *sliding, *steps, *_divisor(outs), *_divisor(steps[0])]


def _divisor(d: int) -> tuple[int, int]:
    """The kernel's Divisor: (2**shift // d + 1) * n / 2**shift is less than 1 / d above n / d, for n below 2**31; as int32."""
    shift = 31 + (d - 1).bit_length()
    factor = 2**shift // d + 1
    return factor - 2**32 * (factor >= 2**31), shift


def _reach(axis: Axis) -> int:
    """No number that the kernel computes for an axis is greater."""
    if axis.shares:
        return (axis.out + 1) * axis.n + axis.out
    skip = _step(axis)[0]
    return max(
        axis.out * axis.stride + axis.before,
        axis.n + axis.before + abs(axis.after) + skip,
        axis.before + axis.dilation * (skip + 1),
        axis.before + axis.kernel + skip,
        skip * skip,
    )


def _taps(axis: Axis) -> int:
    """The most cells that a window holds."""
    if axis.shares:
        return min(axis.n, -(-axis.n // axis.out) + 1)
    return min(-(-axis.kernel // _step(axis)[0]), _size(axis))


def _size(axis: Axis) -> int:
    """The cells that an axis has in memory."""
    return (axis.n - 1) // axis.spacing + 1


def _unrolled(axis: Axis) -> int:
    """How many taps to unroll; where there are three or fewer in all, the pairwise order is from left to right."""
    taps = _taps(axis)
    return taps if taps <= 2 or (taps == 3 and (axis.shares or axis.kernel == 3)) else 0


# ---- pooling -------------------------------------------------------------------------------------------------


def _groupings(order: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], ...]]:
    """Every way to cut a sequence of axes into passes."""
    for cuts in product((False, True), repeat=max(len(order) - 1, 0)):
        groups: list[tuple[int, ...]] = []
        group = order[:1]
        for cut, axis in zip(cuts, order[1:], strict=True):
            groups, group = ([*groups, group], (axis,)) if cut else (groups, (*group, axis))
        yield (*groups, group)


def _identical(axis: Axis) -> bool:
    """Whether every window is one cell, its own."""
    return axis == Axis(axis.n, 1, 1, 1, 0, axis.after, axis.n)


def _links(axis: Axis) -> tuple[Axis, ...]:
    """The axis as windows of windows, where values may count twice: up to eight taps a pass, and the last one's two overlap."""
    if axis.shares or axis.spacing > 1 or axis.kernel < 4:
        return (axis,)
    links: list[Axis] = []
    n, before, done, reach = axis.n, axis.before, 1, (axis.out - 1) * axis.stride + 1
    while 2 * done < axis.kernel:
        taps = min(8, (axis.kernel - 1) // done)
        starts = reach + (axis.kernel - taps * done) * axis.dilation
        links.append(Axis(n, taps, 1, done * axis.dilation, before, 0, starts))
        n, before, done = starts, 0, taps * done
    return (*links, Axis(n, 2, axis.stride, (axis.kernel - done) * axis.dilation, before, 0, axis.out))


@lru_cache(maxsize=1024)
def _passes(three: Axes, carried: int, idempotent: bool, depth_first: bool) -> tuple[Pass, ...]:
    """The launches that take the fewest operations: some axes together or each alone, long windows at once or by links."""

    def cost(passes: list[Pass]) -> float:
        sizes, total = [*map(_size, three)], 0.0
        for now, group in passes:
            for i in group:
                sizes[i] = now[i].out
            cells = carried * prod(sizes)
            total += max(cells, LANES) * (prod(_taps(now[i]) for i in group) + VISIT) + LAUNCH if cells <= CELLS else inf
        return total

    order = tuple(i for i in ((0, 1, 2) if depth_first else (2, 1, 0)) if not _identical(three[i]))
    choices: list[list[Pass]] = []
    for groups in _groupings(order):
        ways: list[list[list[Pass]]] = [[[(three, group)]] for group in groups]
        for way, group in zip(ways, groups, strict=True):
            if idempotent and len(group) == 1:
                (a,) = group
                way.append([((*three[:a], link, *three[a + 1 :]), group) for link in _links(three[a])])
        choices += [list(chain.from_iterable(chosen)) for chosen in product(*ways)]
    best = min(choices, key=cost)
    return tuple(best)


def _identity(identity: str, cell: str) -> str:
    """What padding counts as, in C."""
    row, low = DTYPES[cell], identity == "lowest"
    if identity == "zero":
        return "0"
    if row.kind == "f":
        return "-INFINITY" if low else "INFINITY"
    bits = 8 * row.size - (row.kind == "i")
    if row.kind == "b" or (row.kind == "u" and low):
        return str(int(not low))
    return f"(-{2**bits - 1} - 1)" if low else f"{2**bits - 1}{'u' if row.kind == 'u' else ''}"


def reduce(
    x: mx.array, layout: Layout, geometry: Geometry, reduction: Reduction, types: Types, indexed: bool
) -> tuple[mx.array, ...]:
    """The values, and if asked for the indices as int32."""
    values, three = canonical(x, layout), axes(geometry)
    types = single(types)
    shape = layout.resized(x.shape, geometry.outs)
    passes, made = _reductions(values.shape, three, reduction, types, indexed, False, dialect() or "", device_kernel)
    truth = types.cell == "bool"
    found = [values.view(mx.uint8) if truth and passes else values]
    for launch in passes:
        found = launch(*found)
    if not passes:
        found = list(_wide(three, {"x": values != 0 if truth else values}, reduction.p, "NORM", {}, made).values())
    found[0] = convert(found[0], made, types.result)
    return tuple(restored(y, layout, shape) for y in found)


@lru_cache(maxsize=1024)
def _reductions(
    shape: tuple[int, ...], three: Axes, reduction: Reduction, types: Types, indexed: bool, routed: bool, *device: Any
) -> tuple[list[Launch], str]:
    """The launches, each of which reads what the one before it made, and the type of the last values.

    routed: not values, but gradients; there are no launches where that takes more than one.
    """
    row, combine = reduction.row, COMBINES[reduction.row.combine]
    truth, floats = DTYPES[types.cell].kind == "b", DTYPES[types.accumulate].kind == "f"
    depth_first = not combine.idempotent
    passes = _passes(three, shape[0] * shape[4], combine.idempotent, depth_first)
    made = types.result if DTYPES[types.result].cell == types.finish else types.finish  # what a plain cast rounds to
    if (row.limit or routed) and len(passes) > 1:
        return [], made
    working = types.accumulate if floats or not combine.wraps else "uint64"
    divisor = reduction.divisor if row.divides else 1
    reals = constants("float32", reduction.p, np.int64(divisor or 1))
    launches = []
    for number, (now, group) in enumerate(passes):
        first, last = number == 0, number == len(passes) - 1
        flags = {
            "REDUCE": 1,
            "LIFT": row.cell if first else "x",
            "JOIN": combine.expression,
            "SECOND": combine.second or "false",
            "FINISH": row.finish,
            "IDENTITY": _identity(row.identity, types.cell),
            "READ(x)": "((x) != 0)" if first and truth else "x",
            "PAIRWISE": int(floats and depth_first and not row.limit),
            "SCALED": int(bool(row.limit)),
            "INDEXED": int(indexed),
            "CARRIED": int(indexed and not first),
            "ROUTED": int(routed),
            "LAST": int(last),
            "COUNT": 0 if not last or divisor is not None else 1 if reduction.include_pad else 2,
        }
        cell = working if not first else "uint8" if truth else types.cell
        result = cell if routed else made if last else working
        kinds = {"V": working, "A": DTYPES[cell].sum if routed else types.accumulate, "F": types.finish, "R": result}
        inputs = {"x": cell} | ({"g": cell} if routed else {"chosen": "int32"} if indexed and not first else {})
        outputs = {"y": result} | ({"indices": "int32"} if indexed and not routed else {})
        nest = Nest(now, group, shape)
        launches.append(nest.launch(flags, depth_first, kinds, inputs, outputs, reals=reals))
        shape = nest.made
    return launches, made


# ---- gradients -----------------------------------------------------------------------------------------------


def scatter(g: mx.array, indices: mx.array, layout: Layout, geometry: Geometry, types: Types) -> mx.array:
    """Every cell's g, from the windows that chose it: it asks all that cover it, or finds them in a sorted list of all."""
    values, chosen = canonical(g, layout), canonical(_int32(indices, geometry.plane), layout)
    keys, launch = _scattering(values.shape, geometry, types.cell, dialect() or "", device_kernel)
    (y,) = launch(values, chosen if keys is None else _keys(chosen, geometry.plane, keys))
    return restored(y, layout, layout.resized(g.shape, geometry.sizes))


@lru_cache(maxsize=1024)
def _scattering(shape: tuple[int, ...], geometry: Geometry, cell: str, *device: Any) -> tuple[str | None, Launch]:
    """The type of the sorted list's keys, if there is to be one, and the launch that reads g and the keys or indices."""
    three, windows = axes(geometry.transposed()), prod(shape[1:4])
    keys = None if not _sorts(three) else "int32" if (geometry.plane + 1) * windows < LIMIT else "int64"
    inputs = {"g": cell} | ({"chosen": "int32"} if keys is None else {"keys": keys})
    nest = Nest(three, tuple(i for i in range(3) if not _identical(three[i])), shape)
    flags, kinds = {"SCATTER" if keys is None else "SORTED": 1}, {"A": DTYPES[cell].sum, "R": cell}
    return keys, nest.launch(flags, False, kinds, inputs, {"y": cell})


def route(g: mx.array, x: mx.array, layout: Layout, geometry: Geometry, reduction: Reduction, types: Types) -> mx.array:
    """The gradient of max and min: where no cell is in two windows, each window writes that of its cells when it has chosen."""
    cells, three = canonical(x, layout), axes(geometry)
    if all(map(_apart, three)) and not _uncoalesced(three, cells.shape[4]):
        passes, _ = _reductions(cells.shape, three, reduction, types, True, True, dialect() or "", device_kernel)
        if passes:
            (y,) = passes[0](cells, canonical(g, layout))
            return restored(y, layout, x.shape)
    return scatter(g, reduce(x, layout, geometry, reduction, types, True)[1], layout, geometry, types)


def _apart(axis: Axis) -> bool:
    """Whether no two windows reach over the same cell."""
    return not axis.shares and (axis.out == 1 or axis.extent <= axis.stride)


def _sorts(three: Axes) -> bool:
    """Whether sorting the windows of a plane by their cells takes fewer operations than asking all that cover a cell."""
    cells, windows = prod(axis.out for axis in three), prod(map(_size, three))
    depth = log2(windows) + 1
    return windows * depth * SORT + cells * (depth + VISIT) + windows < cells * (prod(map(_taps, three)) + VISIT)


def _keys(chosen: mx.array, plane: int, kind: str) -> mx.array:
    """For each plane of windows: cell * windows + window, sorted."""
    outer, *sizes, inner = chosen.shape
    windows, wide = prod(sizes), TYPES[kind]
    cells = mx.clip(chosen, -1, plane).astype(wide).reshape(outer, windows, inner)
    return mx.sort(cells * windows + mx.arange(windows, dtype=wide).reshape(1, -1, 1), axis=1)


def slope(g: mx.array, x: mx.array, layout: Layout, geometry: Geometry, reduction: Reduction, types: Types) -> mx.array:
    """The gradient of the p-norm: each window's share of g over its sum of powers, summed over the windows of a cell."""
    cells, back = canonical(x, layout), axes(geometry.transposed())
    shares = _wide(axes(geometry), {"x": cells}, reduction.p, "SHARE", {"g": canonical(g, layout)}, None)
    (y,) = _wide(back, shares, reduction.p, "SLOPE", {"x": cells}, types.cell).values()
    return restored(y, layout, x.shape)


def _wide(
    three: Axes, arrays: dict[str, mx.array], p: float, finish: str, more: dict[str, mx.array], result: str | None
) -> dict[str, mx.array]:
    """Sums of numbers of any size: of cells' powers, or of what was made here before. The last pass reads more, and finishes."""
    reals, parts = constants("float32", p, 1), {"parts": "float32", "exponents": "int32"}
    first = next(iter(arrays.values()))
    passes = _passes(three, first.shape[0] * first.shape[4], False, False)
    for number, (_, group) in enumerate(passes):
        last = number == len(passes) - 1
        flags = {"WIDE": 1, "CARRIED": int("part" in arrays), finish: int(last), "COUNT": 2}
        inputs = arrays | (more if last else {})
        kinds = {name: NAMES[x.dtype] for name, x in inputs.items()}
        outputs = {"y": result} if last and result else parts
        nest = Nest(three, group, next(iter(arrays.values())).shape)
        launch = nest.launch(flags, False, {"R": result} if last and result else {}, kinds, outputs, reals=reals)
        arrays = dict(zip(("part", "exponent"), launch(*inputs.values()), strict=False))
    return arrays


def _int32(indices: mx.array, plane: int) -> mx.array:
    """Indices as int32; what is no cell of the plane stays none."""
    if indices.dtype == mx.int32:
        return indices
    indices = mx.minimum(indices, mx.array(plane, indices.dtype))
    return (mx.maximum(indices, -1) if indices.dtype == mx.int64 else indices).astype(mx.int32)


def unpool(x: mx.array, indices: mx.array, layout: Layout, sizes: tuple[int, ...]) -> mx.array:
    """Every cell of the result from the last window that names it: the greatest of their numbers, whoever comes first."""
    shape, cells = layout.resized(x.shape, sizes), canonical(x, layout)
    outer, *_, inner = cells.shape
    plane, total = prod(sizes), prod(shape)
    chosen = canonical(_int32(indices, plane), layout).reshape(outer, -1, inner)
    start = (mx.arange(outer, dtype=mx.int32) * (plane * inner)).reshape(-1, 1, 1)
    places = mx.where((chosen < 0) | (chosen >= plane), total, start + chosen * inner + mx.arange(inner, dtype=mx.int32))
    last = mx.full((total + 1,), -1, mx.int32).at[places.reshape(-1)].maximum(mx.arange(x.size, dtype=mx.int32))[:-1]
    y = mx.where(last < 0, mx.zeros((), x.dtype), mx.take(cells.reshape(-1), mx.maximum(last, 0)))
    return restored(y, layout, shape)
