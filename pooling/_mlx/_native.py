"""The CPU backend's loops on MLX's CPU device: they read an mx.array in place and write into memory that MLX owns.

np.asarray of an evaluated mx.array is a view of its memory, and the view of a new mx.empty can be written through before
anybody else has seen it. A bfloat16 array, which NumPy's buffers do not know, is seen as uint16: the loops are told the
element type by name. This is the one place where a backend uses another: what lies in the host's memory is pooled by its loops.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from io import BytesIO
from math import prod
from threading import Thread, local
from typing import Any

import mlx.core as mx
import numpy as np

from pooling import _cpu
from pooling._dtypes import DTYPES, Types
from pooling._geometry import Axis, Geometry
from pooling._layout import Layout
from pooling._mlx._arrays import NAMES, TYPES, on_cpu, order
from pooling._mlx._strays import strays
from pooling._modes import SUM, Reduction

Array = np.ndarray[Any, Any]
SMALL = 2**20  # bytes of an array that is copied sooner than MLX makes one
CONVERTED = ("bfloat16", "float64")  # what mx.array would convert, to copy it


def why_not() -> str | None:
    """None on MLX's CPU device."""
    return None if on_cpu() else "the default device is a GPU: its arrays are pooled there, by mlx:kernel."


def refuses(x_size: int, y_size: int, types: Types, reduction: Reduction | None) -> str | None:
    """Nothing."""
    return None


def readable(x: mx.array) -> bool:
    """Evaluates x; False while compile or vmap trace, as there is no value."""
    try:
        mx.eval(x)
    except ValueError:
        return False
    return True


def tracing() -> bool:
    """Whether a transformation is being traced in this thread; only a placeholder of an earlier trace can tell.

    What is compiled is called with it, and not replayed, wherever it counts as traced. That is asked first, as the answer is
    mostly no; the other answer is also given when compile itself has to trace, so that mx.eval has the last word.
    """
    _asked.called = False
    _probe(_placeholders[0])
    if not _asked.called:
        return False
    try:
        mx.eval(_placeholders[0])
    except ValueError:  # "during function transformations"
        return True
    except RuntimeError:  # "without a primitive"
        pass
    return False


_placeholders: list[mx.array] = []
_asked = local()


def _keep(x: mx.array) -> mx.array:
    _placeholders.append(x)
    return x


mx.compile(_keep)(mx.array(0))


@mx.compile
def _probe(x: mx.array) -> list[mx.array]:
    _asked.called = True
    return []


@lru_cache(maxsize=256)
def _header(shape: tuple[int, ...], name: str) -> bytes:
    """How a .npy file of such an array begins."""
    file, descr = BytesIO(), "|V2" if name == "bfloat16" else np.dtype(name).str
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()


class _Unwritten:
    """A .npy file of any cells at all: mx.load makes memory for them, and leaves it to the file to write there."""

    closed = False

    def __init__(self, shape: tuple[int, ...], name: str) -> None:
        self._header, self._at = _header(shape, name), 0

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = (0, self._at, 2**63)[whence] + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, memory: memoryview) -> int:
        if self._at < len(self._header):
            memory[:] = self._header[self._at : self._at + len(memory)]
        self._at += len(memory)
        return len(memory)


def _new(shape: Sequence[int], dtype: mx.Dtype) -> mx.array:
    """An array with memory and without a graph, to be written through a view.

    MLX fills an mx.empty with zeros, in a thread of its own, which takes as long as pooling into it; so it is read from a
    file that writes nothing. What is evaluated under grad keeps its graph, and a compile around that would run it again,
    without the writing; so it is made in a thread where nothing is traced.
    """
    made: list[mx.array] = []

    def evaluated() -> None:
        load: Any = mx.load  # its types know no file but one on a disk
        made.append(load(_Unwritten(tuple(shape), NAMES[dtype]), format="npy", stream=mx.cpu))
        mx.eval(made)

    if not tracing():
        evaluated()
    elif prod(shape) * dtype.size <= SMALL and NAMES[dtype] not in CONVERTED:
        made.append(mx.array(np.empty(shape, NAMES[dtype])))
    else:
        thread = Thread(target=evaluated)
        thread.start()
        thread.join()
    return made[0]


def _view(x: mx.array) -> Array:
    """The memory of x as a NumPy array, without a copy."""
    if not readable(x):
        raise RuntimeError("backend 'mlx:native' reads values, and compile and vmap trace without any: use backend='mlx:ops'")
    return np.asarray(x.view(mx.uint16) if x.dtype == mx.bfloat16 else x)


def reduce(
    x: mx.array, layout: Layout, geometry: Geometry, reduction: Reduction, types: Types, indexed: bool
) -> tuple[mx.array, ...]:
    """The values, and the indices if asked for."""
    shape = layout.resized(x.shape, geometry.outs)
    if prod(shape) * DTYPES[types.result].size <= SMALL and types.result not in CONVERTED:
        made = [np.empty(shape, name) for name in (types.result, "int64")[: 1 + indexed]]
        _cpu.reduce(_view(x), layout, geometry, reduction, types, *made)
        return tuple(map(mx.array, made))
    results = tuple(_new(shape, TYPES[name]) for name in (types.result, "int64")[: 1 + indexed])
    _cpu.reduce(_view(x), layout, geometry, reduction, types, *map(_view, results))
    return results


def _scattered(
    loop: str, cells: str, accumulate: str, x: mx.array, indices: mx.array, layout: Layout, geometry: Geometry
) -> mx.array:
    """Zeros, as canonical memory that the flat indices of a plane address, with the cells of x where their indices say."""
    shape, axes = layout.resized(x.shape, geometry.sizes), order(layout)
    result = _new([shape[i] for i in axes], x.dtype)
    back = [axes.index(i) for i in range(len(shape))]
    inner = prod(shape[i] for i in axes[axes.index(layout.pooled[-1]) + 1 :])
    into, chosen = _view(result).transpose(back), _view(indices)
    if not _cpu.scatter(loop, cells, accumulate, layout, geometry, into, inner * into.itemsize, _view(x), chosen):
        raise IndexError("indices: one is neither -1 nor a cell of its own window")
    return result.transpose(back)


def scatter(g: mx.array, indices: mx.array, layout: Layout, geometry: Geometry, types: Types) -> mx.array:
    """The gradient of max and min."""
    return _scattered("add", types.cell, DTYPES[types.cell].sum, g, indices, layout, geometry)


def route(g: mx.array, x: mx.array, layout: Layout, geometry: Geometry, reduction: Reduction, types: Types) -> mx.array:
    """The gradient of max and min: to the cells that are chosen, once they are found."""
    return scatter(g, reduce(x, layout, geometry, reduction, types, True)[1], layout, geometry, types)


def slope(g: mx.array, x: mx.array, layout: Layout, geometry: Geometry, reduction: Reduction, types: Types) -> mx.array:
    """The gradient of lp."""
    total = _cpu.slope(_view(g.astype(mx.float64)), _view(x.astype(mx.float64)), layout, geometry, reduction)
    grad = _new(x.shape, x.dtype)
    alone = Geometry(tuple(Axis.shared(i, n, n) for i, n in enumerate(layout.sizes(x.shape))))
    _cpu.reduce(total, layout, alone, SUM, Types("float64", "float64", "float64", types.cell), _view(grad))
    return grad


def unpool(x: mx.array, indices: mx.array, layout: Layout, sizes: tuple[int, ...]) -> mx.array:
    """Zeros with each cell of x where its index says."""
    name = f"uint{8 * x.itemsize}"
    whole = _cpu.whole(layout, x.shape, sizes)
    return _scattered("set", name, name, x.view(TYPES[name]), indices, layout, whole).view(x.dtype)


def check_windows(indices: mx.array, layout: Layout, geometry: Geometry) -> None:
    """IndexError for an index that is neither -1 nor a cell of its own window; nothing can be told while tracing."""
    if readable(indices) and (on_cpu() or strays(indices, layout, geometry)):
        _cpu.check_windows(_view(indices), layout, geometry)


def check_plane(indices: mx.array, layout: Layout, sizes: tuple[int, ...]) -> None:
    """IndexError for an index outside [-1, plane); nothing can be told while tracing."""
    if readable(indices) and (on_cpu() or strays(indices, layout, _cpu.whole(layout, indices.shape, sizes))):
        _cpu.check_plane(_view(indices), layout, sizes)
