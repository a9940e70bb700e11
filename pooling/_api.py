"""The public door. Each function reads: arguments -> Window -> Geometry -> Mode -> backend -> array.

Everything is checked here or by the nouns called from here, before anything is allocated, whatever the backend. An
error names the argument, its value and the rule; the door adds the function and the array's shape.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from math import prod
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

from pooling._backends import BACKENDS, find
from pooling._dtypes import DTYPES, requested, types_of
from pooling._geometry import WHOLE, Geometry, unpooled
from pooling._layout import Layout, pooled_letters
from pooling._modes import MODES, Mode, Reduction, mode_of
from pooling._window import (
    AdaptiveWindow,
    GlobalWindow,
    Window,
    exponent,
    flag,
    integer,
    items,
    rank_of,
)

P = ParamSpec("P")
R = TypeVar("R")


def _door(function: Callable[P, R]) -> Callable[P, R]:
    """Errors leave with the function's name and what the first array is."""

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except (TypeError, ValueError, IndexError) as error:
            first = args[0] if args else next(iter(kwargs.values()), None)
            shape = getattr(first, "shape", None)
            what = f" [input: shape {tuple(shape)}, {getattr(first, 'dtype', '?')}]" if shape is not None else ""
            raise type(error)(f"{function.__name__}: {error}{what}") from None

    return wrapped


# ---- what the functions share --------------------------------------------------------------------------------


def _reduction(row: Mode, **keywords: Any) -> Reduction:
    """The mode with its parameters; a keyword that it does not read must stand at its default."""
    defaults = {"count_include_pad": True, "divisor_override": None, "p": 2.0, "return_indices": False, "indices": None}
    for name, value in keywords.items():
        if name not in row.keywords and value is not defaults[name] and not _equals(value, defaults[name]):
            readers = ", ".join(repr(mode.name) for mode in MODES.values() if name in mode.keywords)
            raise ValueError(f"{name}={value!r}: mode {row.name!r} does not read it; only {readers} does")
    include_pad = flag("count_include_pad", keywords.get("count_include_pad", True))
    divisor = keywords.get("divisor_override")
    if divisor is not None:
        divisor = integer("divisor_override", divisor, -WHOLE + 1, WHOLE)
        if divisor == 0:
            raise ValueError("divisor_override=0: any int but 0")
    return Reduction.of(row, exponent(keywords.get("p", 2.0)), include_pad, divisor)


def _equals(value: Any, default: Any) -> bool:
    return isinstance(value, (bool, int, float)) and type(value) in (type(default), int) and bool(value == default)


def _laid(ndim: int, layout: Any, **arguments: Any) -> Layout:
    """The layout of an array whose window is given by these arguments."""
    return Layout.of(layout, ndim, rank_of(arguments, ndim, pooled_letters(layout, ndim)))


def _limits(shape: tuple[int, ...], geometry: Geometry, where: Layout, itemsize: int) -> tuple[int, ...]:
    """The result's shape; a ValueError for one that no machine could count."""
    result = where.resized(shape, geometry.outs)
    if prod(result) * itemsize >= WHOLE:
        raise ValueError(f"the result would have shape {result}: its bytes must be below 2**63")
    return result


def _enter(arrays: dict[str, Any], backend: Any) -> tuple[ModuleType, str, ModuleType, list[Any]]:
    """The backend of a call, and the arrays as its own."""
    module, implementation, owner = find(arrays, backend)
    if module is owner:
        return module, implementation, owner, list(arrays.values())
    return module, implementation, owner, [module.from_numpy(owner.to_numpy(x)) for x in arrays.values()]


def _leave(module: ModuleType, owner: ModuleType, result: Any) -> Any:
    """A result as the kind of array that came in."""
    return result if module is owner else owner.from_numpy(module.to_numpy(result))


def _values(
    x: Any, where: Layout | None, window: Any, row: Mode, reduction: Reduction, return_indices: Any, dtype: Any, out: Any, backend: Any
) -> Any:
    """The forward call that pool, adaptive_pool and global_pool share, once their window is known."""
    indexed = flag("return_indices", return_indices)
    asked = requested(dtype)
    module, implementation, owner, (x,) = _enter({"x": x}, backend)
    name = module.cell(x)
    types = types_of(row.arithmetic, name, asked)
    assert where is not None
    geometry = window.on(where.sizes(x.shape))
    _limits(tuple(x.shape), geometry, where, 8 if indexed else DTYPES[types.result].size)
    if out is not None and not indexed:
        out = (out,)
    elif out is not None and not (isinstance(out, (tuple, list)) and len(out) == 2):
        raise TypeError("out must be a pair of arrays (values, indices) with return_indices=True")
    result = module.pool(x, where, geometry, reduction, types, indexed, None if out is None else tuple(out))
    result = tuple(_leave(module, owner, array) for array in result)
    return result if indexed else result[0]


def _gradient(
    grad_output: Any, x: Any, where: Layout, window: Any, row: Mode, reduction: Reduction, indices: Any, backend: Any
) -> Any:
    """The backward call that pool_backward and adaptive_pool_backward share."""
    arrays = {"grad_output": grad_output, "x": x} | ({} if indices is None else {"indices": indices})
    module, implementation, owner, (grad_output, x, *chosen) = _enter(arrays, backend)
    name, other = module.cell(x), module.cell(grad_output)
    if DTYPES[name].kind != "f":
        raise TypeError(f"x has cells of type {name}: gradients exist for floating types only")
    if name != other:
        raise TypeError(f"grad_output has cells of type {other}, x of {name}: they must be the same")
    types = types_of(row.arithmetic, name, None)
    geometry = window.on(where.sizes(x.shape))
    shape = _limits(tuple(x.shape), geometry, where, 8)
    for label, array in zip(("grad_output", "indices"), (grad_output, *chosen), strict=False):
        if tuple(array.shape) != shape:
            raise ValueError(f"{label} has shape {tuple(array.shape)}; the result of pooling x {tuple(x.shape)} has {shape}")
    for array in chosen:
        _integers(module, array)
    result = module.pool_backward(grad_output, x, where, geometry, reduction, types, chosen[0] if chosen else None)
    return _leave(module, owner, result)


def _integers(module: ModuleType, indices: Any) -> None:
    if DTYPES[module.cell(indices)].kind not in "iu":
        raise TypeError(f"indices have cells of type {module.cell(indices)}; an integer type is needed")


def _ndim(name: str, x: Any) -> int:
    find({name: x}, None)
    return int(x.ndim)


# ---- the public functions ------------------------------------------------------------------------------------


@_door
def pool(
    x: Any,
    mode: str,
    kernel: Any,
    stride: Any = None,
    padding: Any = 0,
    *,
    dilation: Any = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    p: float = 2.0,
    layout: str = "channels_last",
    return_indices: bool = False,
    dtype: Any = None,
    out: Any = None,
    backend: str | None = None,
) -> Any:
    """Reduces every window of x to one cell, on 1 to 3 pooled axes.

    Window o of an axis of n cells covers the cells o*stride - before + j*dilation, j = 0 .. kernel-1, that lie in [0, n),
    and there are (n + before + after - e) // stride + 1 windows, e = dilation*(kernel-1) + 1 (rounded up with ceil_mode,
    without windows that would start after the data), as in torch.nn.MaxPool2d.

    x: array of any shape that `layout` describes; bool, integers, float16, bfloat16, float32 or float64.
    mode: "max", "min", "avg", "sum" or "lp" (the root of the sum of |x|**p).
    kernel, stride, dilation: cells, an int or one per pooled axis, 1 to 2**31-1; stride None means kernel.
    padding: cells below e before and after each axis: an int, one per axis, or a pair (before, after) per axis; or "valid",
        "same" (ceil(n/stride) windows, an odd cell after) or "same_lower" (before). Padding never counts as data.
    count_include_pad, divisor_override: avg only: divide by the taps in the padded axis, in the data, or by any int but 0.
    p: lp only: above 0, or inf.
    layout: "channels_last" (N, pooled, C), "channels_first" (N, C, pooled), both also without N where a sequence gives the
        number of pooled axes; or one letter per axis: D, H, W, L are pooled (arguments come in this order), N, B, C, G, T carried.
    return_indices: max and min only: also give, as int64, where in its plane each value stands (row-major over the pooled
        axes of x, without padding): the first of equals, the last NaN, -1 for a window without cells.
    dtype: the result's type. Default: the cells' own; int64/uint64 for sums of ints, float32 for avg and lp of ints.
        An integer type rounds half to even and saturates, NaN gives 0.
    out: array (or pair, with return_indices) that receives the result; its shape and dtype must be the result's.
    backend: a name of `backends()` in place of the one that x's kind chooses.

    Returns an array of x's kind, NaN in every window that holds one. Raises TypeError, ValueError (before anything is
    allocated), MemoryError, RuntimeError for a backend that is not usable.

    >>> import numpy as np
    >>> x = np.arange(16.0).reshape(1, 4, 4, 1)
    >>> pool(x, "max", 2)[0, :, :, 0]
    array([[ 5.,  7.],
           [13., 15.]])
    >>> pool(x, "avg", (3, 3), 2, padding=1, count_include_pad=False)[0, :, :, 0]
    array([[ 2.5,  4. ],
           [ 8.5, 10. ]])
    >>> values, indices = pool(np.array([3, 1, 2, 7]), "max", 2, layout="L", return_indices=True)
    >>> values, indices
    (array([3, 7]), array([0, 3]))
    """
    row = mode_of(mode)
    reduction = _reduction(
        row, count_include_pad=count_include_pad, divisor_override=divisor_override, p=p, return_indices=return_indices
    )
    where = _laid(_ndim("x", x), layout, kernel=kernel, stride=stride, padding=padding, dilation=dilation)
    window = Window.of(kernel, stride, padding, dilation, ceil_mode, len(where.pooled))
    return _values(x, where, window, row, reduction, return_indices, dtype, out, backend)


@_door
def pool_backward(
    grad_output: Any,
    x: Any,
    mode: str,
    kernel: Any,
    stride: Any = None,
    padding: Any = 0,
    *,
    dilation: Any = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    p: float = 2.0,
    layout: str = "channels_last",
    indices: Any = None,
    backend: str | None = None,
) -> Any:
    """The gradient of `pool` with respect to x, given the gradient of its result.

    grad_output: shaped like pool's result; it and x are of the same floating type, which is the result's type.
    indices: max and min only: those of the forward call; x is then read for its shape and type only.
    All other arguments: as given to `pool`.

    max and min: each window's gradient goes to its cell (the first of equals). sum and avg: to every cell of the window,
    divided by the divisor. lp: g sign(x) (|x|/y)**(p-1), 0 where x or y is 0. Returns an array shaped like x. Raises what
    `pool` raises, and IndexError for an index that is neither -1 nor a cell of its window.

    >>> import numpy as np
    >>> pool_backward(np.array([1.0, 10.0]), np.array([3.0, 1.0, 2.0, 7.0]), "max", 2, layout="L")
    array([ 1.,  0.,  0., 10.])
    >>> pool_backward(np.array([1.0, 10.0]), np.array([3.0, 1.0, 2.0, 7.0]), "avg", 2, layout="L")
    array([0.5, 0.5, 5. , 5. ])
    """
    row = mode_of(mode)
    reduction = _reduction(
        row, count_include_pad=count_include_pad, divisor_override=divisor_override, p=p, indices=indices
    )
    where = _laid(_ndim("x", x), layout, kernel=kernel, stride=stride, padding=padding, dilation=dilation)
    window = Window.of(kernel, stride, padding, dilation, ceil_mode, len(where.pooled))
    return _gradient(grad_output, x, where, window, row, reduction, indices, backend)


@_door
def adaptive_pool(
    x: Any,
    mode: str,
    output_size: Any,
    *,
    p: float = 2.0,
    layout: str = "channels_last",
    return_indices: bool = False,
    dtype: Any = None,
    out: Any = None,
    backend: str | None = None,
) -> Any:
    """Pools to a given size: window o of `out` on n cells covers [o*n // out, ceil((o+1)*n / out)), as in torch.nn.AdaptiveMaxPool2d.

    output_size: an int for every pooled axis, or one int or None (the axis' own size) per axis; 0 gives an empty result.
    All other arguments, the result and the errors: as in `pool`; avg divides by the window's cells.

    >>> import numpy as np
    >>> adaptive_pool(np.arange(5.0), "avg", 2, layout="L")
    array([1., 3.])
    """
    row = mode_of(mode)
    reduction = _reduction(row, p=p, return_indices=return_indices)
    where = _laid(_ndim("x", x), layout, output_size=output_size)
    window = AdaptiveWindow.of(output_size, len(where.pooled))
    return _values(x, where, window, row, reduction, return_indices, dtype, out, backend)


@_door
def adaptive_pool_backward(
    grad_output: Any,
    x: Any,
    mode: str,
    output_size: Any,
    *,
    p: float = 2.0,
    layout: str = "channels_last",
    indices: Any = None,
    backend: str | None = None,
) -> Any:
    """The gradient of `adaptive_pool` with respect to x; arguments and rules as in `pool_backward`.

    >>> import numpy as np
    >>> adaptive_pool_backward(np.array([3.0, 6.0]), np.arange(5.0), "avg", 2, layout="L")
    array([1., 1., 3., 2., 2.])
    """
    row = mode_of(mode)
    reduction = _reduction(row, p=p, indices=indices)
    where = _laid(_ndim("x", x), layout, output_size=output_size)
    window = AdaptiveWindow.of(output_size, len(where.pooled))
    return _gradient(grad_output, x, where, window, row, reduction, indices, backend)


@_door
def global_pool(
    x: Any,
    mode: str,
    *,
    keepdims: bool = True,
    p: float = 2.0,
    layout: str = "channels_last",
    return_indices: bool = False,
    dtype: Any = None,
    out: Any = None,
    backend: str | None = None,
) -> Any:
    """Reduces each plane to one cell; the pooled axes stay with size 1, or go with keepdims=False.

    layout: a named layout pools x.ndim - 2 axes; an unbatched array needs letters. All else: as in `pool`.

    >>> import numpy as np
    >>> global_pool(np.arange(12.0).reshape(1, 2, 3, 2), "avg", keepdims=False)
    array([[5., 6.]])
    """
    row = mode_of(mode)
    reduction = _reduction(row, p=p, return_indices=return_indices)
    where = _laid(_ndim("x", x), layout)
    keep = flag("keepdims", keepdims)
    if not keep and out is not None:
        raise ValueError("out is given with keepdims=False: the pooled axes must be kept")
    result = _values(x, where, GlobalWindow(), row, reduction, return_indices, dtype, out, backend)
    if keep:
        return result
    return tuple(part.squeeze(where.pooled) for part in result) if return_indices else result.squeeze(where.pooled)


@_door
def max_unpool(
    x: Any,
    indices: Any,
    kernel: Any,
    stride: Any = None,
    padding: Any = 0,
    *,
    output_size: Any = None,
    layout: str = "channels_last",
    backend: str | None = None,
) -> Any:
    """Puts each cell of x where its index says, into zeros: the partial inverse of max pooling, as torch.nn.MaxUnpool2d.

    indices: shaped like x, integers: positions in a plane of the result, row-major over its pooled axes; -1 is skipped, and
        of several with one position the last in row-major order stays.
    kernel, stride, padding: of the pooling; they give the size (n-1)*stride - before - after + kernel of each pooled axis.
    output_size: the sizes of the pooled axes, or the whole shape, each less than one stride from that size ("same" padding
        does not tell a size and needs it).

    Returns an array of x's type. Raises IndexError, saying where, for an index outside the plane, before anything is written.

    >>> import numpy as np
    >>> max_unpool(np.array([3, 7]), np.array([0, 3]), 2, layout="L")
    array([3, 0, 0, 7])
    """
    where = _laid(_ndim("x", x), layout, kernel=kernel, stride=stride, padding=padding)
    rank = len(where.pooled)
    window = Window.of(kernel, stride, padding, 1, False, rank)
    module, implementation, owner, (x, indices) = _enter({"x": x, "indices": indices}, backend)
    name = module.cell(x)
    _integers(module, indices)
    shape = tuple(x.shape)
    if tuple(indices.shape) != shape:
        raise ValueError(f"indices has shape {tuple(indices.shape)}; x has {shape}")
    sizes = _unpooled(shape, where, window, output_size)
    if prod(where.resized(shape, sizes)) * max(8, DTYPES[name].size) >= WHOLE:
        raise ValueError(f"output_size={output_size!r}: a result of pooled sizes {sizes} has 2**63 bytes or more")
    return _leave(module, owner, module.unpool(x, indices, where, sizes))


def _unpooled(shape: tuple[int, ...], where: Layout, window: Window, output_size: Any) -> tuple[int, ...]:
    """The pooled sizes of max_unpool's result."""
    rank, cells = len(where.pooled), where.sizes(shape)
    wanted: tuple[int, ...] | None = None
    if output_size is not None:
        elements = items("output_size", output_size)
        if elements is None:
            elements = [output_size] * rank
        if len(elements) == len(shape) != rank:
            sizes = tuple(integer("output_size", element, 0, WHOLE) for element in elements)
            if where.resized(sizes, cells) != shape:
                raise ValueError(f"output_size={output_size!r}: its batch and channels differ from those of x")
            elements = list(where.sizes(sizes))
        if len(elements) != rank:
            raise ValueError(f"output_size={output_size!r}: {len(elements)} elements; the {rank} pooled axes or the whole shape is needed")
        wanted = tuple(integer("output_size", element, 1, WHOLE) for element in elements)
    if isinstance(window.padding, str):
        if wanted is None:
            raise ValueError(f"padding={window.padding!r}: many sizes pool to the same one; output_size is needed")
        if window.on(wanted).outs != cells:
            raise ValueError(f"output_size={output_size!r}: with padding {window.padding!r} it does not pool to {cells}")
        return wanted
    default = unpooled(cells, window.kernel, window.stride, window.padding)
    for size, near, step in zip(wanted or default, default, window.stride, strict=True):
        if not near - step < size < near + step:
            raise ValueError(f"output_size={output_size!r}: {size} is not less than one stride ({step}) from {near}")
        if size < 1:
            raise ValueError(f"padding: the result would have a pooled axis of {size} cells")
    return wanted or default


@_door
def output_shape(
    input_shape: Any,
    kernel: Any,
    stride: Any = None,
    padding: Any = 0,
    *,
    dilation: Any = 1,
    ceil_mode: bool = False,
    layout: str = "channels_last",
) -> tuple[int, ...]:
    """The shape that `pool` gives for an array of `input_shape`, without any array.

    >>> output_shape((8, 112, 112, 64), 3, 2, 1)
    (8, 56, 56, 64)
    """
    sizes = items("input_shape", input_shape)
    if sizes is None:
        raise TypeError(f"input_shape={input_shape!r}: a sequence of ints is needed")
    shape = tuple(integer("input_shape", size, 0, WHOLE) for size in sizes)
    where = _laid(len(shape), layout, kernel=kernel, stride=stride, padding=padding, dilation=dilation)
    window = Window.of(kernel, stride, padding, dilation, ceil_mode, len(where.pooled))
    return _limits(shape, window.on(where.sizes(shape)), where, 1)


# ---- threads and facts of the CPU backend --------------------------------------------------------------------


def _cpu() -> ModuleType:
    from importlib import import_module

    return import_module(BACKENDS["cpu"])


@_door
def set_num_threads(n: int) -> None:
    """How many threads a CPU call may use, at most; results never depend on it. POOLING_NUM_THREADS sets the default.

    >>> set_num_threads(get_num_threads())
    """
    _cpu().set_num_threads(integer("n", n, 1, 1025))


def get_num_threads() -> int:
    """How many threads a CPU call may use: by default the processors of this process; 1 in a build without OpenMP."""
    return int(_cpu().get_num_threads())


def cpu_info() -> dict[str, str]:
    """How the CPU backend was built: instruction set, compiler, openmp, debug."""
    return dict(_cpu().info())
