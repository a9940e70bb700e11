"""Window: what the caller asked for, normalised and checked once; past this module there are only ints and tuples.

A window knows nothing of any array. `on(sizes)` lays it on the pooled axes of one shape, which gives a Geometry.
"""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pooling._geometry import LIMIT, Axis, Geometry, same_padding

PADDINGS = ("valid", "same", "same_lower")


def shown(value: Any, text_of: Callable[[Any], str] = repr) -> str:
    """A value as an error names it: its repr, cut where it is long."""
    try:
        text = text_of(value)
    except Exception:  # an int of 5000 digits, or an object whose repr fails
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 120 else f"{text[:100]}... ({len(text)} characters)"


def integer(name: str, value: Any, low: int | None = None, high: int | None = None) -> int:
    """`value` as an int: anything with __index__ but bool, low <= value < high."""
    if type(value) is bool:
        raise TypeError(f"{name}={value!r}: an int is needed, not a bool")
    try:
        number = operator.index(value)
    except Exception as error:  # an object's own __index__ may raise anything
        raise TypeError(f"{name}={shown(value)}: an int is needed, not {_kind(value)}{_because(error)}") from None
    if low is not None and number < low:
        raise ValueError(f"{name}={shown(number)}: it must be at least {low}")
    if high is not None and number >= high:
        raise ValueError(f"{name}={shown(number)}: it must be below {_power(high)}")
    return number


def flag(name: str, value: Any) -> bool:
    """`value` as a bool, NumPy's included; nothing else is a flag."""
    if type(value) is bool:
        return value
    if type(value).__name__ in ("bool", "bool_") and type(value).__module__ == "numpy":
        return bool(value)
    raise TypeError(f"{name}={shown(value)}: a flag is True or False, not {_kind(value)}")


def exponent(name: str, value: Any) -> float:
    """The norm of lp: a real number above 0, or inf."""
    if type(value) is bool or not issubclass(type(value), numbers.Real):
        raise TypeError(f"{name}={shown(value)}: the exponent is a real number, not {_kind(value)}")
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(f"{name}={shown(value)}: the exponent does not fit float64 (inf is allowed)") from None
    except Exception as error:
        raise TypeError(f"{name}={shown(value)}: the exponent is a real number, not {_kind(value)}{_because(error)}") from None
    if not number > 0:
        raise ValueError(f"{name}={shown(value)}: the exponent must be above 0 (inf is allowed)")
    return number


def items(name: str, value: Any) -> list[Any] | None:
    """The elements where `value` is a sequence (tuple, list, 1-D array), else None: one value for every axis."""
    kind = type(value)
    for plain in (tuple, list):  # a subclass is read as what it holds, whatever it says of itself
        if issubclass(kind, plain):
            return [*plain.__iter__(value)]
    if hasattr(kind, "ndim") and hasattr(kind, "tolist"):
        try:
            ndim = operator.index(value.ndim)
            elements = list(value.tolist()) if ndim == 1 else None
        except Exception as error:
            raise TypeError(f"{name}={shown(value)}: {_kind(value)} is no int and no sequence of ints{_because(error)}") from None
        if ndim > 1:
            raise TypeError(f"{name}={shown(value)}: an array of {ndim} dimensions; a sequence of ints has 1")
        return elements
    return None


def rank_of(arguments: dict[str, Any], ndim: int, letters: int | None) -> int:
    """The number of pooled axes: given by the layout's letters, else by the sequences, else by the array."""
    lengths = {name: len(found) for name, value in arguments.items() if (found := items(name, value)) is not None}
    if lengths.get("stride") == 0:
        del lengths["stride"]
    if letters is not None:
        rank, source = letters, "the layout pools"
    elif lengths:
        name, rank = next(iter(lengths.items()))
        source = f"{name}={shown(arguments[name])} has"
    else:
        rank, source = max(ndim - 2, 0), f"an array of {ndim} dimensions, less batch and channels, has"
    for name, length in lengths.items():
        if length != rank:
            raise ValueError(
                f"{name}={shown(arguments[name])}: {length} elements, but {source} {rank}; "
                "a sequence has one element per pooled axis"
            )
    if not 1 <= rank <= 3:
        raise ValueError(f"{source} {rank} pooled axes; pooling works on 1 to 3 (a layout of letters can name them)")
    if letters is None and not rank + 1 <= ndim <= rank + 2:
        raise ValueError(
            f"{source} {rank} pooled axes: the array must have {rank + 2} dimensions (batch, channels, pooled) or "
            f"{rank + 1} (channels, pooled), not {ndim}"
        )
    return rank


def per_axis(name: str, value: Any, rank: int, low: int, high: int = LIMIT) -> tuple[int, ...]:
    """One int per pooled axis from an int or a sequence of exactly that length."""
    elements = items(name, value)
    if elements is None:
        return (integer(name, value, low, high),) * rank
    if len(elements) != rank:
        raise ValueError(f"{name}={shown(value)}: {len(elements)} elements for {rank} pooled axes")
    return tuple(integer(f"{name}[{i}]", element, low, high) for i, element in enumerate(elements))


def _pairs(padding: Any, rank: int) -> tuple[tuple[int, int], ...]:
    """(before, after) per axis from an int, ints or pairs."""
    elements = [(element, items("padding", element)) for element in items("padding", padding) or ()]
    if all(pair is None for _, pair in elements):
        return tuple((amount, amount) for amount in per_axis("padding", padding, rank, 0))
    for i, (element, pair) in enumerate(elements):
        if pair is None:
            raise TypeError(f"padding={shown(padding)}: ints and pairs (before, after) do not mix")
        if len(pair) != 2:
            raise ValueError(f"padding[{i}]={shown(element)}: {len(pair)} elements; a pair is (before, after)")
    pairs = [per_axis(f"padding[{i}]", element, 2, 0) for i, (element, _) in enumerate(elements)]
    return tuple((before, after) for before, after in pairs)


@dataclass(frozen=True, slots=True)
class Window:
    """A sliding window: kernel, stride and dilation per pooled axis, and pairs of padding or the rule for them."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...] | str
    dilation: tuple[int, ...]
    ceil_mode: bool

    @classmethod
    def of(cls, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any, rank: int) -> Window:
        """The window of a call's arguments on `rank` pooled axes."""
        kernels = per_axis("kernel", kernel, rank, 1)
        if stride is None or items("stride", stride) == []:
            stride = kernels
        strides = per_axis("stride", stride, rank, 1)
        dilations = per_axis("dilation", dilation, rank, 1)
        if isinstance(padding, str):
            if padding not in PADDINGS:
                raise ValueError(f"padding={shown(padding)}: a word is one of {', '.join(map(repr, PADDINGS))}")
            pairs: tuple[tuple[int, int], ...] | str = ((0, 0),) * rank if padding == "valid" else padding
        else:
            pairs = _pairs(padding, rank)
            for i, pair in enumerate(pairs):
                extent = dilations[i] * (kernels[i] - 1) + 1
                if max(pair) >= min(extent, LIMIT):
                    raise ValueError(
                        f"padding={shown(padding)}: on pooled axis {i} it must be below {min(extent, LIMIT)}, "
                        "the effective kernel dilation * (kernel - 1) + 1, or some window would hold padding only"
                    )
        if math.prod(kernels) >= 2**63:
            raise ValueError(f"kernel={shown(kernel)}: the window's volume must be below 2**63")
        return cls(kernels, strides, pairs, dilations, flag("ceil_mode", ceil_mode))

    def on(self, sizes: tuple[int, ...]) -> Geometry:
        """Where the windows fall on pooled axes of these sizes."""
        return Geometry(tuple(self._axis(i, n) for i, n in enumerate(sizes)))

    def _axis(self, i: int, n: int) -> Axis:
        kernel, stride, dilation = self.kernel[i], self.stride[i], self.dilation[i]
        if isinstance(self.padding, str):
            padding = same_padding(n, kernel, stride, dilation, lower=self.padding == "same_lower")
            return Axis.of(i, n, kernel, stride, dilation, padding, False)
        return Axis.of(i, n, kernel, stride, dilation, self.padding[i], self.ceil_mode)


@dataclass(frozen=True, slots=True)
class AdaptiveWindow:
    """As many windows as asked for, which share out the axis; None keeps the axis as it is."""

    output_size: tuple[int | None, ...]

    @classmethod
    def of(cls, output_size: Any, rank: int) -> AdaptiveWindow:
        """The windows of an `output_size` argument on `rank` pooled axes."""
        elements = items("output_size", output_size)
        if elements is None:
            return cls((integer("output_size", output_size, 0, LIMIT),) * rank)
        return cls(
            tuple(
                None if element is None else integer(f"output_size[{i}]", element, 0, LIMIT) for i, element in enumerate(elements)
            )
        )

    def on(self, sizes: tuple[int, ...]) -> Geometry:
        """Where the windows fall on pooled axes of these sizes."""
        return Geometry(
            tuple(
                Axis.shared(i, n, n if out is None else out)
                for i, (n, out) in enumerate(zip(sizes, self.output_size, strict=True))
            )
        )


@dataclass(frozen=True, slots=True)
class GlobalWindow:
    """One window that covers every pooled axis."""

    def on(self, sizes: tuple[int, ...]) -> Geometry:
        """The one window on pooled axes of these sizes."""
        return Geometry(tuple(Axis.shared(i, n, 1) for i, n in enumerate(sizes)))


def _kind(value: Any) -> str:
    return type(value).__name__


def _because(error: Exception) -> str:
    """What a caller's object raised when it was read; nothing for what is merely of a wrong type."""
    return "" if isinstance(error, TypeError) else f" ({shown(error)})"


def _power(limit: int) -> str:
    return f"2**{limit.bit_length() - 1}" if limit > 1024 and limit & (limit - 1) == 0 else str(limit)
