"""The pooling functions of torch.nn.functional, channels first, for every array that pool() accepts.

Owned here: torch's names, its parameters in their order, its two layouts per rank (batched and unbatched),
and its rule that a one-element sequence stands for every axis. Refused here: an input with any other number
of axes. All else is handed to pool(), adaptive_pool() or max_unpool(), which check it and raise the errors.

A family is written once for all ranks; `_public` makes its public functions, each with a name, signature and
docstring of its own. What a family needs to know of its rank comes in as a `Rank`.

Where the results differ from torch's:

- lp_pool takes abs(x) first (torch leaves it out) and sums the cells that exist (under ceil_mode torch scales
  a clipped window up to the whole kernel); norm_type must be above 0, inf included.
- Averages are divided once and rounded once; torch's adaptive averages divide once per axis.
- max_unpool skips an index of -1, and the last of several equal indices wins.

Accepted here and not in torch: padding up to one less than the window's extent, (before, after) pairs of
padding, "same", "same_lower" and "valid", empty channel axes, integers in every mode, and `backend`.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any, Concatenate, NamedTuple, ParamSpec, SupportsIndex, TypeAlias, TypeVar

from pooling._api import adaptive_pool, max_unpool, pool
from pooling._window import items

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool1d_with_indices",
    "adaptive_max_pool2d",
    "adaptive_max_pool2d_with_indices",
    "adaptive_max_pool3d",
    "adaptive_max_pool3d_with_indices",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "lp_pool1d",
    "lp_pool2d",
    "lp_pool3d",
    "max_pool1d",
    "max_pool1d_with_indices",
    "max_pool2d",
    "max_pool2d_with_indices",
    "max_pool3d",
    "max_pool3d_with_indices",
    "max_unpool1d",
    "max_unpool2d",
    "max_unpool3d",
]

P = ParamSpec("P")
R = TypeVar("R")
Array: TypeAlias = Any
Ints: TypeAlias = SupportsIndex | Sequence[SupportsIndex]
Padding: TypeAlias = Ints | str | Sequence[tuple[SupportsIndex, SupportsIndex]]
Sizes: TypeAlias = SupportsIndex | Sequence[SupportsIndex | None]


class Rank(NamedTuple):
    """What a family knows of the public function it works for: its name and its pooled axes."""

    name: str
    axes: str

    @classmethod
    def of(cls, name: str) -> Rank:
        """The digit in a public name is its rank."""
        return cls(name, ("L", "HW", "DHW")[int(name.lower().partition("pool")[2][0]) - 1])

    @property
    def batched(self) -> str:
        """The axes of a batched input; an unbatched one lacks the first."""
        return "NC" + self.axes

    @property
    def shapes(self) -> str:
        """The two shapes of an input, in words."""
        return f"({', '.join(self.batched)}) or, unbatched, ({', '.join(self.batched[1:])})"

    def layout(self, input: Array) -> str:
        """The axes of `input`; an object without ndim is left for pool() to refuse."""
        batched = self.batched
        missing = len(batched) - getattr(input, "ndim", len(batched))
        if missing not in (0, 1):
            raise ValueError(f"input has shape {tuple(input.shape)}; the rule is {self.shapes}")
        return batched[missing:]

    def each(self, value: Any) -> Any:
        """`value`; a one-element sequence is repeated for every pooled axis, as in torch."""
        if type(value) is int or value is None:
            return value
        try:
            elements = items("", value)
        except TypeError:  # pool() says what is wrong, and with which argument
            return value
        return tuple(elements) * len(self.axes) if elements is not None and len(elements) == 1 else value


_PARAMETERS = {
    "input": "array of shape {shapes}, of any element type of pool().",
    "indices": "integers of the input's shape, as max_pool{rank}d returns them; -1 is skipped.",
    "norm_type": 'the p of the norm, above 0; float("inf") gives the greatest abs(x).',
    "kernel_size": "cells of the window: one int, or one per pooled axis.",
    "stride": "cells from one window to the next; None means kernel_size.",
    "padding": 'cells around the data that hold none: ints, (before, after) pairs, or "same" and its like.',
    "dilation": "cells from one tap of a window to the next.",
    "ceil_mode": "round the size of the output up instead of down.",
    "count_include_pad": "count padding in the divisor.",
    "divisor_override": "a non-zero int that replaces the divisor.",
    "return_indices": "return (values, indices): int64, row-major over the pooled axes of one plane.",
    "output_size": "cells of the output.",
    "backend": "the name of the backend that computes; None lets the array choose.",
}


def document(at: Rank, module: str, template: str, signature: inspect.Signature) -> str:
    """The docstring of one public name; its example pools one row, so that it reads alike on every rank."""
    rank = len(at.axes)
    ones = (1,) * (rank - 1)
    setup = (
        ">>> import numpy as np",
        f">>> from {module} import {at.name}",
        f">>> row = np.array([3.0, -4.0, 0.0, 0.0, 6.0, 8.0]).reshape({(1, 1, *ones, 6)})",
    )
    text, _, example = inspect.cleandoc(template).partition("Example:")
    parameters = "\n".join(f"    {name}: {_PARAMETERS[name]}" for name in signature.parameters)
    raises = (
        "    ValueError: the input has another number of axes, or a value is outside its range.\n"
        "    TypeError: pool() does not accept the array, or an argument has the wrong type."
    )
    return f"{text}Args:\n{parameters}\n\nRaises:\n{raises}\n\nExample:{example}\n".format(
        name=at.name,
        rank=rank,
        shapes=at.shapes,
        window=(*ones, 2),
        thirds=(*ones, 3),
        setup="\n    ".join(setup),
    )


# An error of pool() speaks of its own arguments; here it speaks of those that the caller knows.
_OURS = re.compile(r"^\w+: |\bkernel(?=[=\[])|\bp(?==)|\bx(?= is |: shape|\)$)")
_NAMES = {"kernel": "kernel_size", "p": "norm_type", "x": "input"}


def _theirs(ours: re.Match[str]) -> str:
    return _NAMES.get(ours[0], "")


def _public(family: Callable[Concatenate[Rank, P], R], name: str) -> Callable[P, R]:
    """The function `name` of a family."""
    at = Rank.of(name)

    signature = inspect.signature(family)
    signature = signature.replace(parameters=list(signature.parameters.values())[1:])

    @functools.wraps(family)
    def function(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return family(at, *args, **kwargs)
        except (TypeError, ValueError, IndexError, MemoryError) as error:
            text = str(error)
            try:
                signature.bind(*args, **kwargs)
            except TypeError as unbound:  # said of this function, not of its family
                text = str(unbound)
            raise type(error)(f"{name}: {_OURS.sub(_theirs, text)}") from None

    # A template in __doc__ would be run as a doctest, so it moves out of there the first time it is read.
    template = vars(family).setdefault("template", family.__doc__) or ""
    family.__doc__ = None
    function.__name__ = function.__qualname__ = name
    function.__doc__ = document(at, __name__, template, signature)
    vars(function)["__signature__"] = signature
    return function


def _max_pool(
    at: Rank,
    input: Array,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    backend: str | None = None,
) -> Any:
    """The greatest cell of every window, as torch.nn.functional.{name}: pool(input, "max", ...).

    Example:
        {setup}
        >>> {name}(row, {window}).ravel()
        array([3., 0., 8.])
        >>> values, indices = {name}(row, {window}, return_indices=True)
        >>> indices.ravel()
        array([0, 2, 5])
    """
    return pool(
        input,
        "max",
        at.each(kernel_size),
        at.each(stride),
        at.each(padding),
        dilation=at.each(dilation),
        ceil_mode=ceil_mode,
        layout=at.layout(input),
        return_indices=return_indices,
        backend=backend,
    )


def _max_pool_with_indices(
    at: Rank,
    input: Array,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    backend: str | None = None,
) -> tuple[Array, Array]:
    """max_pool{rank}d that always returns (values, indices): return_indices is not read (torch).

    Example:
        {setup}
        >>> values, indices = {name}(row, {window})
        >>> values.ravel(), indices.ravel()
        (array([3., 0., 8.]), array([0, 2, 5]))
    """
    values, indices = _max_pool(at, input, kernel_size, stride, padding, dilation, ceil_mode, True, backend=backend)
    return values, indices


def _avg_pool(
    at: Rank,
    input: Array,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    backend: str | None = None,
) -> Array:
    """The average of every window, as torch.nn.functional.{name}: pool(input, "avg", ...).

    Padding counts as zeros. Integers and bool give float32.

    Example:
        {setup}
        >>> {name}(row, {window}).ravel()
        array([-0.5,  0. ,  7. ])
    """
    return pool(
        input,
        "avg",
        at.each(kernel_size),
        at.each(stride),
        at.each(padding),
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
        divisor_override=divisor_override,
        layout=at.layout(input),
        backend=backend,
    )


def _avg_pool_by_count(
    at: Rank,
    input: Array,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    *,
    backend: str | None = None,
) -> Array:
    return _avg_pool(at, input, kernel_size, stride, padding, ceil_mode, count_include_pad, backend=backend)


_avg_pool_by_count.__doc__ = _avg_pool.__doc__


def _lp_pool(
    at: Rank,
    input: Array,
    norm_type: float,
    kernel_size: Ints,
    stride: Ints | None = None,
    ceil_mode: bool = False,
    *,
    backend: str | None = None,
) -> Array:
    """The p-norm of every window, after torch.nn.functional.{name}: pool(input, "lp", ...).

    A window gives (sum of abs(x) ** p) ** (1 / p). torch leaves abs out, which matters for negative cells
    unless p is even, and under ceil_mode scales a clipped window up to the whole kernel. Integers and bool
    give float32.

    Example:
        {setup}
        >>> {name}(row, 2, {window}).ravel()
        array([ 5.,  0., 10.])
    """
    return pool(
        input,
        "lp",
        at.each(kernel_size),
        at.each(stride),
        ceil_mode=ceil_mode,
        p=norm_type,
        layout=at.layout(input),
        backend=backend,
    )


def _adaptive_max_pool(
    at: Rank,
    input: Array,
    output_size: Sizes,
    return_indices: bool = False,
    *,
    backend: str | None = None,
) -> Any:
    """The greatest cell of each of output_size even parts, as torch.nn.functional.{name}.

    This is adaptive_pool(input, "max", ...). A None in output_size keeps that axis as it is.

    Example:
        {setup}
        >>> {name}(row, {thirds}).ravel()
        array([3., 0., 8.])
        >>> values, indices = {name}(row, {thirds}, return_indices=True)
        >>> indices.ravel()
        array([0, 2, 5])
    """
    return adaptive_pool(
        input,
        "max",
        at.each(output_size),
        layout=at.layout(input),
        return_indices=return_indices,
        backend=backend,
    )


def _adaptive_max_with_indices(
    at: Rank,
    input: Array,
    output_size: Sizes,
    return_indices: bool = False,
    *,
    backend: str | None = None,
) -> tuple[Array, Array]:
    """adaptive_max_pool{rank}d that always returns (values, indices): return_indices is not read (torch).

    Example:
        {setup}
        >>> values, indices = {name}(row, {thirds})
        >>> values.ravel(), indices.ravel()
        (array([3., 0., 8.]), array([0, 2, 5]))
    """
    values, indices = _adaptive_max_pool(at, input, output_size, True, backend=backend)
    return values, indices


def _adaptive_avg_pool(at: Rank, input: Array, output_size: Sizes, *, backend: str | None = None) -> Array:
    """The average of each of output_size even parts, as torch.nn.functional.{name}.

    This is adaptive_pool(input, "avg", ...). A None in output_size keeps that axis as it is.

    Example:
        {setup}
        >>> {name}(row, {thirds}).ravel()
        array([-0.5,  0. ,  7. ])
    """
    return adaptive_pool(input, "avg", at.each(output_size), layout=at.layout(input), backend=backend)


def _max_unpool(
    at: Rank,
    input: Array,
    indices: Array,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    output_size: Sequence[SupportsIndex] | None = None,
    *,
    backend: str | None = None,
) -> Array:
    """The cells of input where max_pool{rank}d found them and zeros elsewhere, as torch.nn.functional.{name}.

    This is max_unpool(input, indices, ...). By default an axis of n cells becomes
    (n - 1) * stride - before - after + kernel_size; output_size may say anything less than one stride from
    that. It is one int per pooled axis or a whole shape, whose batch and channels are not read if it has both
    (torch).

    Example:
        {setup}
        >>> from pooling.functional import max_pool{rank}d
        >>> values, indices = max_pool{rank}d(row, {window}, return_indices=True)
        >>> {name}(values, indices, {window}).ravel()
        array([3., 0., 0., 0., 0., 8.])
    """
    sizes = items("output_size", output_size)
    if sizes is not None and len(sizes) == len(at.batched):
        output_size = sizes[2:]
    return max_unpool(
        input,
        indices,
        at.each(kernel_size),
        at.each(stride),
        at.each(padding),
        output_size=at.each(output_size),
        layout=at.layout(input),
        backend=backend,
    )


max_pool1d = _public(_max_pool, "max_pool1d")
max_pool2d = _public(_max_pool, "max_pool2d")
max_pool3d = _public(_max_pool, "max_pool3d")
max_pool1d_with_indices = _public(_max_pool_with_indices, "max_pool1d_with_indices")
max_pool2d_with_indices = _public(_max_pool_with_indices, "max_pool2d_with_indices")
max_pool3d_with_indices = _public(_max_pool_with_indices, "max_pool3d_with_indices")
avg_pool1d = _public(_avg_pool_by_count, "avg_pool1d")
avg_pool2d = _public(_avg_pool, "avg_pool2d")
avg_pool3d = _public(_avg_pool, "avg_pool3d")
lp_pool1d = _public(_lp_pool, "lp_pool1d")
lp_pool2d = _public(_lp_pool, "lp_pool2d")
lp_pool3d = _public(_lp_pool, "lp_pool3d")
adaptive_max_pool1d = _public(_adaptive_max_pool, "adaptive_max_pool1d")
adaptive_max_pool2d = _public(_adaptive_max_pool, "adaptive_max_pool2d")
adaptive_max_pool3d = _public(_adaptive_max_pool, "adaptive_max_pool3d")
adaptive_max_pool1d_with_indices = _public(_adaptive_max_with_indices, "adaptive_max_pool1d_with_indices")
adaptive_max_pool2d_with_indices = _public(_adaptive_max_with_indices, "adaptive_max_pool2d_with_indices")
adaptive_max_pool3d_with_indices = _public(_adaptive_max_with_indices, "adaptive_max_pool3d_with_indices")
adaptive_avg_pool1d = _public(_adaptive_avg_pool, "adaptive_avg_pool1d")
adaptive_avg_pool2d = _public(_adaptive_avg_pool, "adaptive_avg_pool2d")
adaptive_avg_pool3d = _public(_adaptive_avg_pool, "adaptive_avg_pool3d")
max_unpool1d = _public(_max_unpool, "max_unpool1d")
max_unpool2d = _public(_max_unpool, "max_unpool2d")
max_unpool3d = _public(_max_unpool, "max_unpool3d")
