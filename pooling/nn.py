"""The pooling layers of torch.nn and lucid.nn as plain objects, channels first.

A layer keeps its constructor's arguments under their own names and hands them, by name, to the function of
pooling.functional after which it is called; every check is made there, at the call. It has no weights, no
state and no framework: what a torch.nn.Module has beyond that (train, hooks, state_dict) is absent.

A family is a dataclass whose fields are the constructor; a layer is a family with a function. Layers of one
class are equal when their arguments are, and, since those may be assigned, do not hash.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, SupportsIndex

from pooling import functional
from pooling._window import items
from pooling.functional import Array, Ints, Padding, Rank, Sizes, document

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
    "LPPool1d",
    "LPPool2d",
    "LPPool3d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MaxUnpool3d",
]


@dataclass(repr=False)
class _Layer:
    """What all layers share: the call, torch's text and, once there is a function, the docstring."""

    forward: ClassVar[Callable[..., Any]]
    _template: ClassVar[str]
    _function: ClassVar[Callable[..., Any]]
    _names: ClassVar[tuple[str, ...]]
    _rank: ClassVar[int]

    def __init_subclass__(cls, function: Callable[..., Any] | None = None) -> None:
        if function is None:  # a family, or a class of the caller's
            return
        signature = inspect.signature(cls)
        at = Rank.of(cls.__name__)
        cls._function = staticmethod(function)
        cls._names = tuple(signature.parameters)
        cls._rank = len(at.axes)
        cls.__doc__ = document(at, __name__, cls._template, signature)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"

    def extra_repr(self) -> str:
        """The arguments that torch prints, as torch prints them."""
        return ", ".join(f"{f.name}={getattr(self, f.name)}" for f in fields(self) if f.repr)

    def _apply(self, *arrays: Any, **more: Any) -> Any:
        return self._function(*arrays, **{name: getattr(self, name) for name in self._names}, **more)


class _Pool(_Layer):
    """A layer that takes one array."""

    def forward(self, input: Array) -> Any:
        """The layer's function of `input`."""
        return self._apply(input)


@dataclass(repr=False)
class _Windowed(_Layer):
    """The arguments of every layer with a window, and what torch makes of them."""

    kernel_size: Ints
    stride: Ints | None = None
    padding: Padding = 0

    _spelled_out: ClassVar[bool] = False  # torch turns the ints of some layers, not of others, into tuples

    def __post_init__(self) -> None:
        if self.stride is None:
            self.stride = self.kernel_size
        if self._spelled_out:
            for name in ("kernel_size", "stride", "padding"):
                value = getattr(self, name)
                elements = items(name, value)
                if elements is not None:
                    setattr(self, name, tuple(elements))
                elif not isinstance(value, str):
                    setattr(self, name, (value,) * self._rank)


@dataclass(repr=False)
class _MaxPool(_Windowed, _Pool):
    _template = """The greatest cell of every window: functional.max_pool{rank}d and its arguments.

    Call it with an array of shape {shapes}.

    Example:
        {setup}
        >>> {name}({window})(row).ravel()
        array([3., 0., 8.])
    """

    dilation: Ints = 1
    return_indices: bool = field(default=False, repr=False)
    ceil_mode: bool = False


class MaxPool1d(_MaxPool, function=functional.max_pool1d): ...


class MaxPool2d(_MaxPool, function=functional.max_pool2d): ...


class MaxPool3d(_MaxPool, function=functional.max_pool3d): ...


@dataclass(repr=False)
class _AvgPoolByCount(_Windowed, _Pool):
    _template = """The average of every window: functional.avg_pool{rank}d and its arguments.

    Call it with an array of shape {shapes}. Padding counts as zeros.

    Example:
        {setup}
        >>> {name}({window})(row).ravel()
        array([-0.5,  0. ,  7. ])
    """

    ceil_mode: bool = field(default=False, repr=False)
    count_include_pad: bool = field(default=True, repr=False)


@dataclass(repr=False)
class _AvgPool(_AvgPoolByCount):
    divisor_override: int | None = field(default=None, repr=False)


class AvgPool1d(_AvgPoolByCount, function=functional.avg_pool1d):
    _spelled_out = True


class AvgPool2d(_AvgPool, function=functional.avg_pool2d): ...


class AvgPool3d(_AvgPool, function=functional.avg_pool3d): ...


@dataclass(repr=False)
class _LPPool(_Pool):
    _template = """The p-norm of every window: functional.lp_pool{rank}d and its arguments.

    Call it with an array of shape {shapes}. A window gives
    (sum of abs(x) ** p) ** (1 / p); torch leaves abs out. Here, as in torch, a stride of None stays None.

    Example:
        {setup}
        >>> {name}(2, {window})(row).ravel()
        array([ 5.,  0., 10.])
    """

    norm_type: float
    kernel_size: Ints
    stride: Ints | None = None
    ceil_mode: bool = False


class LPPool1d(_LPPool, function=functional.lp_pool1d): ...


class LPPool2d(_LPPool, function=functional.lp_pool2d): ...


class LPPool3d(_LPPool, function=functional.lp_pool3d): ...


@dataclass(repr=False)
class _AdaptiveMaxPool(_Pool):
    _template = """The greatest cell of each of output_size even parts: functional.adaptive_max_pool{rank}d.

    Call it with an array of shape {shapes}. A None in output_size keeps that axis as it is.

    Example:
        {setup}
        >>> {name}({thirds})(row).ravel()
        array([3., 0., 8.])
    """

    output_size: Sizes
    return_indices: bool = field(default=False, repr=False)


class AdaptiveMaxPool1d(_AdaptiveMaxPool, function=functional.adaptive_max_pool1d): ...


class AdaptiveMaxPool2d(_AdaptiveMaxPool, function=functional.adaptive_max_pool2d): ...


class AdaptiveMaxPool3d(_AdaptiveMaxPool, function=functional.adaptive_max_pool3d): ...


@dataclass(repr=False)
class _AdaptiveAvgPool(_Pool):
    _template = """The average of each of output_size even parts: functional.adaptive_avg_pool{rank}d.

    Call it with an array of shape {shapes}. A None in output_size keeps that axis as it is.

    Example:
        {setup}
        >>> {name}({thirds})(row).ravel()
        array([-0.5,  0. ,  7. ])
    """

    output_size: Sizes


class AdaptiveAvgPool1d(_AdaptiveAvgPool, function=functional.adaptive_avg_pool1d): ...


class AdaptiveAvgPool2d(_AdaptiveAvgPool, function=functional.adaptive_avg_pool2d): ...


class AdaptiveAvgPool3d(_AdaptiveAvgPool, function=functional.adaptive_avg_pool3d): ...


@dataclass(repr=False)
class _MaxUnpool(_Windowed):
    _template = """The cells of a max pooling put back where they stood: functional.max_unpool{rank}d.

    Call it with the values, of shape {shapes}, their indices, and output_size where the default is wrong.

    Example:
        {setup}
        >>> from pooling.nn import MaxPool{rank}d
        >>> values, indices = MaxPool{rank}d({window}, return_indices=True)(row)
        >>> {name}({window})(values, indices).ravel()
        array([3., 0., 0., 0., 0., 8.])
    """

    _spelled_out = True

    def forward(self, input: Array, indices: Array, output_size: Sequence[SupportsIndex] | None = None) -> Array:
        """The layer's function of `input` and `indices`."""
        return self._apply(input, indices, output_size=output_size)


class MaxUnpool1d(_MaxUnpool, function=functional.max_unpool1d): ...


class MaxUnpool2d(_MaxUnpool, function=functional.max_unpool2d): ...


class MaxUnpool3d(_MaxUnpool, function=functional.max_unpool3d): ...
