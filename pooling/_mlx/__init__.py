"""The MLX backend: mx.arrays in, mx.arrays out, through one of three implementations with one meaning.

    _kernel   one kernel body for Metal and CUDA, on a GPU; lazy
    _ops      shift-and-combine in MLX operations, on any device and under every transformation; lazy
    _native   the CPU backend's loops on MLX's own memory, on its CPU device; evaluates its input
    _auto     chooses one of them, call by call

Each is a module with the functions why_not, refuses, reduce, scatter, route, slope and unpool. What MLX's transformations need
(grad, jvp, second order) is the same for all of them and stands in _autodiff. This is the face that they share.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import prod
from typing import Any

try:
    import mlx.core as mx
except ImportError as error:
    raise ImportError(
        f'{error}; pip install "pooling[mlx]" installs MLX, and "pooling[cuda]" its build for NVIDIA GPUs'
    ) from error
import numpy as np

from pooling._dtypes import DTYPES, Types, numpy_dtype
from pooling._geometry import LIMIT, Geometry
from pooling._layout import Layout
from pooling._mlx import _auto, _autodiff, _kernel, _native, _ops
from pooling._mlx._arrays import NAMES, TYPES
from pooling._mlx._implementation import Implementation
from pooling._mlx._memory import LARGE, fits, total
from pooling._modes import Reduction


class Backend:
    """One implementation behind the interface that every backend has."""

    def __init__(self, name: str, run: Implementation) -> None:
        self._name, self._run = name, run

    def owns(self, x: Any) -> bool:
        """Whether x is an mx.array."""
        return issubclass(type(x), mx.array)

    def plain(self, x: mx.array) -> mx.array:
        """The mx.array that one of a subclass is."""
        return x if type(x) is mx.array else mx.array(x)

    def why_not(self) -> str | None:
        """None, or the sentence that says why the implementation cannot run on the default device."""
        return self._run.why_not()

    def cell(self, x: mx.array) -> str:
        """The element type's name; a TypeError for a type that pooling does not have."""
        name = NAMES.get(x.dtype)
        if name is None:
            raise TypeError(f"cells of type {x.dtype} cannot be pooled; the types are {', '.join(DTYPES)}")
        return name

    def from_numpy(self, x: np.ndarray[Any, Any]) -> mx.array:
        """A copy in MLX's memory, of the same element type."""
        name = x.dtype.name
        plain = np.array(x, x.dtype.newbyteorder("="), order="C", copy=True, subok=False)
        if name == "bfloat16":
            return mx.array(plain.view(np.uint16)).view(mx.bfloat16)
        return mx.array(plain, TYPES[name]) if name in TYPES else mx.array(plain)

    def to_numpy(self, x: mx.array) -> np.ndarray[Any, Any]:
        """The array as NumPy's, of the same element type; not while a gradient would have to follow it there."""
        if _native.tracing():
            raise RuntimeError("no gradient follows an mx.array to another backend: use 'mlx:native', whose loops are the CPU's")
        if x.dtype == mx.bfloat16:
            return np.asarray(x.view(mx.uint16)).view(numpy_dtype("bfloat16"))
        return np.asarray(x)

    def pooling(
        self, layout: Layout, geometry: Geometry, reduction: Reduction, types: Types, indexed: bool, shape: tuple[int, ...]
    ) -> Callable[[mx.array, Any], tuple[mx.array, ...]]:
        """The function (x, out) -> the values, of this shape, and the indices if asked for."""
        self._shape(shape)
        results = ((shape, types.result), (shape, "int64"))[: 1 + indexed]
        arrays = ((layout.resized(shape, geometry.sizes), types.cell), *results)
        large, x_size, y_size = total(*arrays) > LARGE, prod(arrays[0][0]), prod(shape)
        make = _autodiff.indexed if indexed else _autodiff.pooled
        call: tuple[Any, ...] = (layout, geometry, reduction, types, indexed)
        reduce = (
            _ops.prepared(arrays[0][0], *call)
            if self._run is _ops and y_size and not large
            else lambda x: self._run.reduce(x, *call)
        )

        @lru_cache(maxsize=2)
        def function(working: str) -> Callable[[mx.array], tuple[mx.array, ...]]:
            return make(self._run, layout, geometry, reduction, types, working)

        def pool(x: mx.array, out: Any) -> tuple[mx.array, ...]:
            if out is not None:
                raise TypeError("out: an mx.array cannot be written to; the result is a new one")
            self._check(x_size, y_size, reduction, types)
            if large:
                fits(*arrays)
            if not y_size:
                return tuple(mx.zeros(shape, TYPES[name]) for _, name in results)
            if _native.tracing():
                return function(_autodiff.working(self._run, reduction))(x)
            parts = reduce(x)
            return (parts[0], parts[1].astype(mx.int64)) if indexed else parts

        return pool

    def pool_backward(
        self,
        g: mx.array,
        x: mx.array,
        layout: Layout,
        geometry: Geometry,
        reduction: Reduction,
        types: Types,
        indices: mx.array | None,
    ) -> mx.array:
        """The gradient with respect to x, in x's type."""
        self._check(x.size, g.size, reduction, types)
        fits((x.shape, types.cell), (x.shape, types.accumulate), (g.shape, "int64"))
        if indices is not None:
            indices = _compared(indices)
            _native.check_windows(indices, layout, geometry)
        if not g.size or not x.size:
            return mx.zeros(x.shape, x.dtype)
        rule = _autodiff.gradient(self._run, layout, geometry, reduction, types, _autodiff.working(self._run, reduction))
        return rule(g, x, indices)

    def unpool(self, x: mx.array, indices: mx.array, layout: Layout, sizes: tuple[int, ...]) -> mx.array:
        """Zeros of the given pooled sizes, with each cell of x where its index says."""
        shape = self._shape(layout.resized(x.shape, sizes))
        name = self.cell(x)
        self._check(x.size, prod(shape), None, Types(name, name, name, name))
        fits((x.shape, name), (shape, name), (shape, "int64"))
        indices = _compared(indices)
        _native.check_plane(indices, layout, sizes)
        if not x.size:
            return mx.zeros(shape, x.dtype)
        return _autodiff.unpooled(self._run, layout, sizes)(x, indices)

    def _check(self, x_size: int, y_size: int, reduction: Reduction | None, types: Types) -> None:
        reason = self.why_not()
        if reason is not None:
            raise RuntimeError(f"backend {self._name!r} is not usable here: {reason}")
        refusal = self._run.refuses(x_size, y_size, types, reduction)
        if refusal is not None:
            raise TypeError(f"backend {self._name!r} refuses this call: {refusal}")

    def _shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if max(shape) >= LIMIT:
            raise ValueError(f"a result of shape {shape}: on MLX every axis must be below 2**31")
        return shape


def _compared(indices: mx.array) -> mx.array:
    """Indices of a type that can be compared with every size: MLX refuses to make 130 an int8."""
    return indices.astype(mx.int32) if indices.dtype.size < 4 else indices


auto, kernel = Backend("mlx", _auto), Backend("mlx:kernel", _kernel)
ops, native = Backend("mlx:ops", _ops), Backend("mlx:native", _native)
