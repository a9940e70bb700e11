"""The pooling layers of mlx.nn, and those that it lacks, as mlx.nn.Modules: channels last, on mx.arrays.

A model that takes MaxPool1d-3d and AvgPool1d-3d from here in place of mlx.nn trains as before: they have mlx.nn's
arguments in mlx.nn's order, its text and its values. All layers do what pooling.pool and its sisters do and nothing else;
a layer has no weights, keeps its arguments under their own names, as tuples with one entry per axis, and can be copied and
pickled. Wrong arguments are refused when the layer is made, wrong arrays, and arguments that do not go together, when it
is called.

Beyond mlx.nn: dilation, ceil_mode, return_indices, count_include_pad, divisor_override, (before, after) pairs of padding,
"same", "same_lower" and "valid", and inputs without a batch axis.

On purpose the MaxPool and AvgPool layers differ from mlx.nn's in this:

- The gradient of a maximum goes to the first of equal cells, as in torch; mlx.nn splits it evenly among them and equal
  padding, so that of a window of -inf is partly lost there.
- Padding never wins: mlx.nn pads int8, int16, uint64 and bool with what becomes of -inf there, which is no least value.
- 16-bit floats are added in float32, integers exactly, and the sum is divided once. mlx.nn adds float16 and bfloat16 in their
  own type, where sums overflow, and multiplies by a rounded 1/n.
- A window larger than its padded axis and padding as large as the window are errors. mlx.nn returns an empty array, and
  windows that hold padding only.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, SupportsIndex

try:
    import mlx.nn
except ImportError as error:
    raise ImportError(
        f'{error}; pip install "pooling[mlx]" installs MLX, and "pooling[cuda]" its build for NVIDIA GPUs'
    ) from error

from pooling._api import adaptive_pool, global_pool, max_unpool, pool
from pooling._modes import mode_of
from pooling._window import AdaptiveWindow, Window, exponent, flag, integer
from pooling.functional import Array, Ints, Padding, Sizes

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "GlobalPool",
    "LPPool1d",
    "LPPool2d",
    "LPPool3d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MaxUnpool3d",
    "MinPool1d",
    "MinPool2d",
    "MinPool3d",
]

_ARGUMENTS = {
    "mode": '"max", "min", "avg", "sum" or "lp".',
    "norm_type": 'the p of the norm, above 0; float("inf") gives the greatest abs(x).',
    "kernel_size": "cells of the window: an int, or {rank} in a tuple or list.",
    "stride": "cells from one window to the next; None means kernel_size.",
    "padding": 'cells around the data that hold none: ints, (before, after) pairs, or "same" and its like.',
    "output_size": "cells of the output: an int, or {rank} in a tuple or list; None there keeps the axis as it is.",
    "dilation": "cells from one tap of a window to the next.",
    "ceil_mode": "round the size of the output up instead of down.",
    "count_include_pad": "count padding in the divisor.",
    "divisor_override": "a non-zero int that replaces the divisor.",
    "keepdims": "keep the pooled axes, with size 1.",
    "return_indices": "return (values, indices): int64, row-major over the pooled axes of one plane.",
}
_RAISES = """
    TypeError: an argument has the wrong type, or pooling.pool does not accept the array.
    ValueError: an argument is outside its range, or the array has another number of axes or is smaller than the window."""

_EXAMPLE = (
    ">>> import mlx.core as mx",
    ">>> from pooling.mlx_nn import {name}",
    ">>> row = mx.array([3.0, -4.0, 0.0, 0.0, 6.0, 8.0]).reshape{row}",
)

# An error of pool() speaks of its own arguments; here it speaks of the layer's.
_OURS = re.compile(r"^\w+: |\bkernel(?=[=\[])|\bp(?==)")
_NAMES = {"kernel": "kernel_size", "p": "norm_type"}


class _Layer(mlx.nn.Module):  # type: ignore[misc, name-defined]  # mlx.nn does not say that it exports Module
    """What all layers share: the text, the errors and, once there is a rank, the docstring."""

    _parameters: ClassVar[Mapping[str, inspect.Parameter]]
    _rank: ClassVar[int] = 0
    _template: ClassVar[str]

    def __init_subclass__(cls, rank: int | None = None) -> None:
        if cls.__module__ != __name__:  # a class of the caller's, whose constructor is its own
            return
        cls._parameters = inspect.signature(cls).parameters
        if rank is None:  # a family
            return
        cls._rank = rank
        axes = ", ".join(("L", "HW", "DHW")[rank - 1])
        ones = (1,) * (rank - 1)
        text, _, example = inspect.cleandoc(cls._template).partition("Example:")
        parts = (
            f"{text}Args:",
            *(f"    {name}: {_ARGUMENTS[name]}" for name in cls._parameters),
            f"\nRaises:{_RAISES}\n\nExample:",
            *(f"    {line}" for line in _EXAMPLE),
        )
        cls.__doc__ = ("\n".join(parts) + example + "\n").format(
            name=cls.__name__,
            rank=rank,
            shapes=f"(N, {axes}, C) or, unbatched, ({axes}, C)",
            row=(1, *ones, 6, 1),
            window=(*ones, 2),
            thirds=(*ones, 3),
        )

    def _extra_repr(self) -> str:
        """The arguments: those of mlx.nn always, keywords where they are not at their defaults."""
        return ", ".join(
            f"{name}={getattr(self, name)!r}"
            for name, parameter in self._parameters.items()
            if parameter.kind is not parameter.KEYWORD_ONLY
            or getattr(self, name) not in (parameter.default, (parameter.default,) * self._rank)
        )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Errors leave with the layer's name and those of its arguments."""
        kinds = (TypeError, ValueError, IndexError, MemoryError)
        try:
            yield
        except kinds as error:
            text = _OURS.sub(lambda ours: _NAMES.get(ours[0], ""), str(error))
            kind = next(kind for kind in kinds if isinstance(error, kind))
            raise kind(f"{type(self).__name__}: {text}") from None


def _plain(padding: Padding) -> Padding:
    """Pairs as mlx.nn's ints where these say the same."""
    if isinstance(padding, tuple) and all(before == after for before, after in padding):
        return tuple(before for before, _ in padding)
    return padding


class _Windowed(_Layer):
    """The layers with a window, kept as one entry per axis."""

    _mode: ClassVar[str]

    def _keep(
        self, kernel_size: Ints, stride: Ints | None, padding: Padding, dilation: Ints = 1, ceil_mode: bool = False
    ) -> None:
        window = Window.of(kernel_size, stride, padding, dilation, ceil_mode, self._rank)
        self.kernel_size, self.stride, self.padding = window.kernel, window.stride, _plain(window.padding)
        self.dilation, self.ceil_mode = window.dilation, window.ceil_mode

    def _pool(self, x: Array, **more: Any) -> Any:
        with self._errors():
            return pool(
                x,
                self._mode,
                self.kernel_size,
                self.stride,
                self.padding,
                dilation=self.dilation,
                ceil_mode=self.ceil_mode,
                layout="channels_last",
                **more,
            )


class _ExtremePool(_Windowed):
    def __init__(
        self,
        kernel_size: Ints,
        stride: Ints | None = None,
        padding: Padding = 0,
        *,
        dilation: Ints = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> None:
        super().__init__()
        with self._errors():
            self._keep(kernel_size, stride, padding, dilation, ceil_mode)
            self.return_indices = flag("return_indices", return_indices)

    def __call__(self, x: Array) -> Any:
        return self._pool(x, return_indices=self.return_indices)


class _MaxPool(_ExtremePool):
    _mode = "max"
    _template = """The greatest cell of every window: mlx.nn.{name} with more keywords.

    Call it with an mx.array of shape {shapes}.
    Padding never wins, in no element type, and NaN always does. The gradient goes to the first of equal cells; mlx.nn
    splits it evenly among them.

    Example:
        >>> {name}({window})(row).flatten()
        array([3, 0, 8], dtype=float32)
        >>> values, indices = {name}({window}, return_indices=True)(row)
        >>> indices.flatten()
        array([0, 2, 5], dtype=int64)
    """


class MaxPool1d(_MaxPool, rank=1): ...


class MaxPool2d(_MaxPool, rank=2): ...


class MaxPool3d(_MaxPool, rank=3): ...


class _MinPool(_ExtremePool):
    _mode = "min"
    _template = """The least cell of every window, with the arguments of MaxPool{rank}d.

    Call it with an mx.array of shape {shapes}.
    Padding never wins, and NaN always does. The gradient goes to the first of equal cells.

    Example:
        >>> {name}({window})(row).flatten()
        array([-4, 0, 6], dtype=float32)
    """


class MinPool1d(_MinPool, rank=1): ...


class MinPool2d(_MinPool, rank=2): ...


class MinPool3d(_MinPool, rank=3): ...


class _AvgPool(_Windowed):
    _mode = "avg"
    _template = """The average of every window: mlx.nn.{name} with more keywords.

    Call it with an mx.array of shape {shapes}.
    Padding counts as zeros; integers and bool give float32. 16-bit floats are added in float32, divided and rounded once;
    mlx.nn adds them in 16 bits.

    Example:
        >>> {name}({window})(row).flatten()
        array([-0.5, 0, 7], dtype=float32)
    """

    def __init__(
        self,
        kernel_size: Ints,
        stride: Ints | None = None,
        padding: Padding = 0,
        *,
        dilation: Ints = 1,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        with self._errors():
            self._keep(kernel_size, stride, padding, dilation, ceil_mode)
            self.count_include_pad = flag("count_include_pad", count_include_pad)
            self.divisor_override = None if divisor_override is None else integer("divisor_override", divisor_override)
            if self.divisor_override == 0:
                raise ValueError("divisor_override=0: any int but 0")

    def __call__(self, x: Array) -> Any:
        return self._pool(x, count_include_pad=self.count_include_pad, divisor_override=self.divisor_override)


class AvgPool1d(_AvgPool, rank=1): ...


class AvgPool2d(_AvgPool, rank=2): ...


class AvgPool3d(_AvgPool, rank=3): ...


class _LPPool(_Windowed):
    _mode = "lp"
    _template = """The p-norm of every window: (sum of abs(x) ** p) ** (1 / p), p = norm_type.

    Call it with an mx.array of shape {shapes}. Integers and bool give float32.

    Example:
        >>> {name}(2, {window})(row).flatten()
        array([5, 0, 10], dtype=float32)
    """

    def __init__(
        self,
        norm_type: float,
        kernel_size: Ints,
        stride: Ints | None = None,
        padding: Padding = 0,
        *,
        dilation: Ints = 1,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        with self._errors():
            self.norm_type = exponent("norm_type", norm_type)
            self._keep(kernel_size, stride, padding, dilation, ceil_mode)

    def __call__(self, x: Array) -> Any:
        return self._pool(x, p=self.norm_type)


class LPPool1d(_LPPool, rank=1): ...


class LPPool2d(_LPPool, rank=2): ...


class LPPool3d(_LPPool, rank=3): ...


class _Adaptive(_Layer):
    def _keep(self, output_size: Sizes) -> None:
        sizes = AdaptiveWindow.of(output_size, self._rank).output_size
        if len(sizes) != self._rank:
            raise ValueError(f"output_size={output_size!r}: {len(sizes)} elements for {self._rank} pooled axes")
        self.output_size = sizes


class _AdaptiveMaxPool(_Adaptive):
    _template = """The greatest cell of each of output_size even parts, which overlap where they do not fit.

    Call it with an mx.array of shape {shapes}.

    Example:
        >>> {name}({thirds})(row).flatten()
        array([3, 0, 8], dtype=float32)
    """

    def __init__(self, output_size: Sizes, *, return_indices: bool = False) -> None:
        super().__init__()
        with self._errors():
            self._keep(output_size)
            self.return_indices = flag("return_indices", return_indices)

    def __call__(self, x: Array) -> Any:
        with self._errors():
            return adaptive_pool(x, "max", self.output_size, layout="channels_last", return_indices=self.return_indices)


class AdaptiveMaxPool1d(_AdaptiveMaxPool, rank=1): ...


class AdaptiveMaxPool2d(_AdaptiveMaxPool, rank=2): ...


class AdaptiveMaxPool3d(_AdaptiveMaxPool, rank=3): ...


class _AdaptiveAvgPool(_Adaptive):
    _template = """The average of each of output_size even parts, which overlap where they do not fit.

    Call it with an mx.array of shape {shapes}. Integers and bool give float32.

    Example:
        >>> {name}({thirds})(row).flatten()
        array([-0.5, 0, 7], dtype=float32)
    """

    def __init__(self, output_size: Sizes) -> None:
        super().__init__()
        with self._errors():
            self._keep(output_size)

    def __call__(self, x: Array) -> Any:
        with self._errors():
            return adaptive_pool(x, "avg", self.output_size, layout="channels_last")


class AdaptiveAvgPool1d(_AdaptiveAvgPool, rank=1): ...


class AdaptiveAvgPool2d(_AdaptiveAvgPool, rank=2): ...


class AdaptiveAvgPool3d(_AdaptiveAvgPool, rank=3): ...


class _MaxUnpool(_Windowed):
    _template = """The cells of a max pooling put back where they stood, zeros elsewhere.

    Call it with the values, of shape {shapes}, their indices,
    and output_size where the default, (n - 1) * stride - before - after + kernel_size, is wrong: the sizes of the pooled
    axes or the whole shape. An index of -1 is skipped; one outside the plane of the result is an IndexError.

    Example:
        >>> from pooling.mlx_nn import MaxPool{rank}d
        >>> values, indices = MaxPool{rank}d({window}, return_indices=True)(row)
        >>> {name}({window})(values, indices).flatten()
        array([3, 0, 0, 0, 0, 8], dtype=float32)
    """

    def __init__(self, kernel_size: Ints, stride: Ints | None = None, padding: Padding = 0) -> None:
        super().__init__()
        with self._errors():
            self._keep(kernel_size, stride, padding)

    def __call__(self, x: Array, indices: Array, output_size: Sequence[SupportsIndex] | None = None) -> Any:
        with self._errors():
            return max_unpool(
                x,
                indices,
                self.kernel_size,
                self.stride,
                self.padding,
                output_size=output_size,
                layout="channels_last",
            )


class MaxUnpool1d(_MaxUnpool, rank=1): ...


class MaxUnpool2d(_MaxUnpool, rank=2): ...


class MaxUnpool3d(_MaxUnpool, rank=3): ...


class GlobalPool(_Layer, rank=0):
    _template = """One cell of each plane, in any mode of pooling.pool.

    Call it with an mx.array of shape (N, pooled..., C): every axis but the first and the last is pooled, one to three.

    Example:
        >>> {name}("avg")(row).shape
        (1, 1, 1)
        >>> {name}("avg", keepdims=False)(row)
        array([[2.16667]], dtype=float32)
    """

    def __init__(self, mode: str, *, keepdims: bool = True, norm_type: float = 2.0, return_indices: bool = False) -> None:
        super().__init__()
        with self._errors():
            self.mode = mode_of(mode).name
            self.keepdims = flag("keepdims", keepdims)
            self.norm_type = exponent("norm_type", norm_type)
            self.return_indices = flag("return_indices", return_indices)

    def __call__(self, x: Array) -> Any:
        with self._errors():
            return global_pool(
                x,
                self.mode,
                keepdims=self.keepdims,
                p=self.norm_type,
                layout="channels_last",
                return_indices=self.return_indices,
            )
