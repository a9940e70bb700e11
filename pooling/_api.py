"""The public door. Each function reads: arguments -> Window -> Geometry -> Mode -> backend -> array.

Everything is checked here or by the nouns called from here, before anything is allocated, whatever the backend. An
error names the argument, its value and the rule; the door adds the function and the arrays' shapes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature
from math import prod
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

from pooling._backends import BACKENDS, find, plain
from pooling._dtypes import DTYPES, Types, requested, types_of
from pooling._geometry import WHOLE, Geometry, not_empty, unpooled
from pooling._kept import Kept
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
    shown,
)

P = ParamSpec("P")
R = TypeVar("R")
ARRAYS = ("grad_output", "x", "indices")


def _door(function: Callable[P, R]) -> Callable[P, R]:
    """Errors leave with the function's name and what its arrays are."""
    names = tuple(signature(function).parameters)
    kinds = (TypeError, ValueError, IndexError, MemoryError)

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except kinds as error:
            given = dict(zip(names, args, strict=False)) | kwargs
            facts = [f"{name}: {fact}" for name in ARRAYS if (fact := _fact(given.get(name)))]
            if "input_shape" in given:
                facts.append(f"input_shape: {shown(given['input_shape'])}")
            kind = next(kind for kind in kinds if isinstance(error, kind))  # a subclass may not take a message alone
            raise kind(f"{function.__name__}: {error}" + (f" [{'; '.join(facts)}]" if facts else "")) from None

    return wrapped


def _fact(array: Any) -> str:
    """What an array is, for an error; nothing for what is none."""
    try:
        shape = getattr(array, "shape", None)
        return f"shape {tuple(shape)}, {getattr(array, 'dtype', '?')}" if isinstance(shape, tuple) else ""
    except Exception:  # an object whose attributes raise
        return ""


# ---- what the arguments mean ---------------------------------------------------------------------------------------


def _divisor(name: str, value: Any) -> int | None:
    divisor = None if value is None else integer(name, value, -WHOLE + 1, WHOLE)
    if divisor == 0:
        raise ValueError(f"{name}=0: any int but 0")
    return divisor


def _given(name: str, value: Any) -> bool:
    return value is not None


# The keywords that only some modes read: what checks them, and the value at which they stand for all others.
_KEYWORDS: dict[str, tuple[Callable[[str, Any], Any], Any]] = {
    "count_include_pad": (flag, True),
    "divisor_override": (_divisor, None),
    "p": (exponent, 2.0),
    "return_indices": (flag, False),
    "indices": (_given, False),
}


def _reads(row: Mode, name: str, value: Any) -> None:
    """A ValueError where the mode does not read this keyword."""
    if name not in row.keywords:
        readers = " and ".join(repr(mode.name) for mode in MODES.values() if name in mode.keywords)
        raise ValueError(f"{name}={shown(value)}: mode {row.name!r} does not read it; it belongs to {readers}")


def _reduction(row: Mode, **keywords: Any) -> Reduction:
    """The mode with its parameters; a keyword that it does not read must stand at its default."""
    values = {name: default for name, (_, default) in _KEYWORDS.items()}
    for name, value in keywords.items():
        check, default = _KEYWORDS[name]
        values[name] = check(name, value)
        if values[name] != default:
            _reads(row, name, value)
    return Reduction.of(row, values["p"], values["count_include_pad"], values["divisor_override"])


def _laid(ndim: int, layout: Any, **arguments: Any) -> Layout:
    """The layout of an array whose window is given by these arguments."""
    return Layout.of(layout, ndim, rank_of(arguments, ndim, pooled_letters(layout, ndim)))


def _laid_on(shape: tuple[int, ...], window: Any, where: Layout, itemsize: int) -> tuple[Geometry, tuple[int, ...]]:
    """The window on an array of this shape, and the result's shape; a ValueError for one that no machine can count."""
    geometry: Geometry = window.on(where.sizes(shape))
    result = where.resized(shape, geometry.outs)
    if prod(result) * itemsize >= WHOLE:
        raise ValueError(f"{window} gives a result of shape {result}: its bytes must be below 2**63")
    return geometry, result


def _sliding(
    ndim: int, layout: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any
) -> tuple[Layout, Window]:
    where = _laid(ndim, layout, kernel=kernel, stride=stride, padding=padding, dilation=dilation)
    return where, Window.of(kernel, stride, padding, dilation, ceil_mode, len(where.pooled))


def _adaptive(ndim: int, layout: Any, output_size: Any) -> tuple[Layout, AdaptiveWindow]:
    where = _laid(ndim, layout, output_size=output_size)
    return where, AdaptiveWindow.of(output_size, len(where.pooled))


def _global(ndim: int, layout: Any) -> tuple[Layout, GlobalWindow]:
    return _laid(ndim, layout), GlobalWindow()


def _enter(module: ModuleType, owner: ModuleType, array: Any) -> Any:
    """An array as the backend's own."""
    return array if module is owner else module.from_numpy(owner.to_numpy(array))


def _leave(module: ModuleType, owner: ModuleType, result: Any) -> Any:
    """A result as the kind of array that came in."""
    return result if module is owner else owner.from_numpy(module.to_numpy(result))


# ---- recipes: what the arguments come to on arrays of one shape and element type -----------------------------------

_WINDOWS: dict[str, Callable[..., tuple[Layout, Any]]] = {"sliding": _sliding, "adaptive": _adaptive, "global": _global}


@Kept
def _forward(
    module: Any,
    shape: tuple[int, ...],
    cell: str,
    window: str,
    layout: Any,
    mode: Any,
    count_include_pad: Any,
    divisor_override: Any,
    p: Any,
    return_indices: Any,
    dtype: str | None,
    *arguments: Any,
) -> tuple[Callable[..., tuple[Any, ...]], bool]:
    """The function (x, out) that pools such arrays, and whether it gives indices."""
    row = mode_of(mode)
    reduction = _reduction(
        row, count_include_pad=count_include_pad, divisor_override=divisor_override, p=p, return_indices=return_indices
    )
    where, windows = _WINDOWS[window](len(shape), layout, *arguments)
    indexed = flag("return_indices", return_indices)
    types = types_of(row.arithmetic, cell, dtype)
    geometry, result = _laid_on(shape, windows, where, 8 if indexed else DTYPES[types.result].size)
    return module.pooling(where, geometry, reduction, types, indexed, result), indexed


@Kept
def _backward(
    module: Any,
    shape: tuple[int, ...],
    cell: str,
    window: str,
    layout: Any,
    mode: Any,
    count_include_pad: Any,
    divisor_override: Any,
    p: Any,
    *arguments: Any,
) -> tuple[Layout, Geometry, Reduction, Types, tuple[int, ...]]:
    """What a backend needs for the gradient of such arrays, and the shape of grad_output."""
    row = mode_of(mode)
    reduction = _reduction(row, count_include_pad=count_include_pad, divisor_override=divisor_override, p=p)
    where, windows = _WINDOWS[window](len(shape), layout, *arguments)
    if DTYPES[cell].kind != "f":
        raise TypeError(f"x has cells of type {cell}: gradients exist for floating types only")
    geometry, result = _laid_on(shape, windows, where, 8)
    return where, geometry, reduction, types_of(row.arithmetic, cell, None), result


# ---- what the functions share --------------------------------------------------------------------------------------


def _pooled(x: Any, arguments: tuple[Any, ...], out: Any, backend: Any) -> Any:
    """The forward call of every function, with the arguments of _forward."""
    module, owner = find(backend, "x", x)
    x = owner.plain(x)
    pool, indexed = _forward(module, tuple(x.shape), owner.cell(x), arguments)
    if out is not None:
        if not indexed:
            out = (out,)
        elif not (isinstance(out, (tuple, list)) and len(out) == 2):
            raise TypeError(f"out={shown(out)}: with return_indices=True it is a pair of arrays (values, indices)")
        else:
            out = tuple(items("out", out) or ())
    if module is owner:
        result = pool(x, out)
    else:
        result = tuple(_leave(module, owner, array) for array in pool(_enter(module, owner, x), out))
    return result if indexed else result[0]


def _gradient(grad_output: Any, x: Any, arguments: tuple[Any, ...], indices: Any, backend: Any) -> Any:
    """The backward call of every function, with the arguments of _backward."""
    arrays = {"x": x} if indices is None else {"x": x, "indices": indices}
    module, owner = find(backend, "grad_output", grad_output, **arrays)
    arrays = {name: owner.plain(array) for name, array in arrays.items()}
    grad_output, x, indices = owner.plain(grad_output), arrays["x"], arrays.get("indices")
    name, other = owner.cell(x), owner.cell(grad_output)
    where, geometry, reduction, types, shape = _backward(module, tuple(x.shape), name, arguments)
    if name != other:
        raise TypeError(f"grad_output has cells of type {other}, x of {name}: they must be the same")
    if tuple(grad_output.shape) != shape:
        raise ValueError(_misshapen("grad_output", grad_output, x, shape))
    if indices is not None:
        _reads(reduction.row, "indices", indices)
        if tuple(indices.shape) != shape:
            raise ValueError(_misshapen("indices", indices, x, shape))
        _integers(owner, indices)
    grad_output, x, *chosen = (_enter(module, owner, array) for array in (grad_output, *arrays.values()))
    result = module.pool_backward(grad_output, x, where, geometry, reduction, types, chosen[0] if chosen else None)
    return _leave(module, owner, result)


def _misshapen(name: str, array: Any, x: Any, shape: tuple[int, ...]) -> str:
    return f"{name} has shape {tuple(array.shape)}; the result of pooling x {tuple(x.shape)} has {shape}"


def _integers(module: ModuleType, indices: Any) -> None:
    if DTYPES[module.cell(indices)].kind not in "iu":
        raise TypeError(f"indices have cells of type {module.cell(indices)}; an integer type is needed")


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
        number of pooled axes; or one letter per axis: D, H, W, L are pooled (arguments in this order), N, B, C, G, T carried.
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
    arguments = ("sliding", layout, mode, count_include_pad, divisor_override, p, return_indices, requested(dtype))
    return _pooled(x, (*arguments, kernel, stride, padding, dilation, ceil_mode), out, backend)


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
    arguments = ("sliding", layout, mode, count_include_pad, divisor_override, p)
    return _gradient(grad_output, x, (*arguments, kernel, stride, padding, dilation, ceil_mode), indices, backend)


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
    """Pools to a given size: of `out` windows on n cells, window o covers the cells [o*n // out, ceil((o+1)*n / out)).

    The formula is that of torch.nn.AdaptiveMaxPool2d.

    output_size: an int for every pooled axis, or one int or None (the axis' own size) per axis; 0 gives an empty result.
    All other arguments, the result and the errors: as in `pool`; avg divides by the window's cells.

    >>> import numpy as np
    >>> adaptive_pool(np.arange(5.0), "avg", 2, layout="L")
    array([1., 3.])
    """
    arguments = ("adaptive", layout, mode, True, None, p, return_indices, requested(dtype), output_size)
    return _pooled(x, arguments, out, backend)


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
    return _gradient(grad_output, x, ("adaptive", layout, mode, True, None, p, output_size), indices, backend)


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
    arguments = ("global", layout, mode, True, None, p, return_indices, requested(dtype))
    if flag("keepdims", keepdims):
        return _pooled(x, arguments, out, backend)
    x = plain("x", x)
    where = _laid(x.ndim, layout)
    pair = isinstance(out, (tuple, list))
    wide = tuple(_widened(array, x.shape, where) for array in items("out", out) or ()) if pair else _widened(out, x.shape, where)
    result = _pooled(x, arguments, wide, backend)
    if out is not None:
        return tuple(out) if return_indices else out
    return tuple(part.squeeze(where.pooled) for part in result) if return_indices else result.squeeze(where.pooled)


def _widened(out: Any, shape: tuple[int, ...], where: Layout) -> Any:
    """A view of an `out` without pooled axes that has them, with one cell; what is no array is left for the backend."""
    try:
        out = plain("out", out)
    except TypeError:
        return out
    wanted = tuple(shape[i] for i in where.carried)
    if out.shape != wanted:
        raise ValueError(f"out has shape {out.shape}; the result has shape {wanted}")
    return out[tuple(None if i in where.pooled else slice(None) for i in range(len(shape)))]


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
    layout, backend: as in `pool`.

    Returns an array of x's type. Raises IndexError, saying where, for an index outside the plane, before anything is written.

    >>> import numpy as np
    >>> max_unpool(np.array([3, 7]), np.array([0, 3]), 2, layout="L")
    array([3, 0, 0, 7])
    """
    x = plain("x", x)
    where, window = _sliding(x.ndim, layout, kernel, stride, padding, 1, False)
    module, owner = find(backend, "x", x, indices=indices)
    indices = owner.plain(indices)
    name = owner.cell(x)
    _integers(owner, indices)
    shape = tuple(x.shape)
    if tuple(indices.shape) != shape:
        raise ValueError(f"indices has shape {tuple(indices.shape)}; x has {shape}")
    sizes = _unpooled(shape, where, window, output_size)
    if prod(where.resized(shape, sizes)) * max(8, DTYPES[name].size) >= WHOLE:
        raise ValueError(
            f"kernel={window.kernel}, stride={window.stride}, output_size={shown(output_size)}: "
            f"a result of pooled sizes {sizes}, and its indices, must have bytes below 2**63"
        )
    x, indices = (_enter(module, owner, array) for array in (x, indices))
    return _leave(module, owner, module.unpool(x, indices, where, sizes))


def _unpooled(shape: tuple[int, ...], where: Layout, window: Window, output_size: Any) -> tuple[int, ...]:
    """The pooled sizes of max_unpool's result."""
    rank, cells = len(where.pooled), where.sizes(shape)
    for i, n in enumerate(cells):
        not_empty(i, n)
    wanted: tuple[int, ...] | None = None
    if output_size is not None:
        elements = items("output_size", output_size)
        if elements is None:
            elements = [integer("output_size", output_size, 1, WHOLE)] * rank
        if len(elements) == len(shape) != rank:
            sizes = tuple(integer(f"output_size[{i}]", element, 0, WHOLE) for i, element in enumerate(elements))
            if where.resized(sizes, cells) != shape:
                raise ValueError(f"output_size={shown(output_size)}: its batch and channels differ from those of x")
            elements = list(where.sizes(sizes))
        if len(elements) != rank:
            raise ValueError(
                f"output_size={shown(output_size)}: {len(elements)} elements; the {rank} pooled axes or the whole shape is needed"
            )
        wanted = tuple(integer(f"output_size[{i}]", element, 1, WHOLE) for i, element in enumerate(elements))
    if isinstance(window.padding, str):
        if wanted is None:
            raise ValueError(f"padding={window.padding!r}: many sizes pool to the same one; output_size is needed")
        if window.on(wanted).outs != cells:
            raise ValueError(f"output_size={shown(output_size)}: with padding {window.padding!r} it does not pool to {cells}")
        return wanted
    default = unpooled(cells, window.kernel, window.stride, window.padding)
    for size, near, step in zip(wanted or default, default, window.stride, strict=True):
        if not near - step < size < near + step:
            raise ValueError(
                f"output_size={shown(output_size)}: {size} is not less than one stride ({step}) from {near}, "
                "the size (n-1)*stride - before - after + kernel"
            )
        if size < 1:
            raise ValueError(
                f"kernel={window.kernel}, stride={window.stride}, padding={window.padding}: the result would have a pooled "
                f"axis of {size} cells; output_size can say more"
            )
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
        raise TypeError(f"input_shape={shown(input_shape)}: a sequence of ints is needed")
    shape = tuple(integer(f"input_shape[{i}]", size, 0, WHOLE) for i, size in enumerate(sizes))
    where, window = _sliding(len(shape), layout, kernel, stride, padding, dilation, ceil_mode)
    return _laid_on(shape, window, where, 1)[1]


# ---- threads and facts of the CPU backend --------------------------------------------------------------------


def _cpu() -> ModuleType:
    from importlib import import_module

    return import_module(BACKENDS["cpu"])


@_door
def set_num_threads(n: int) -> None:
    """Lets a CPU call use up to n threads; results never depend on it. POOLING_NUM_THREADS sets the default.

    >>> set_num_threads(get_num_threads())
    """
    _cpu().set_num_threads(integer("n", n, 1, 1025))


def get_num_threads() -> int:
    """How many threads a CPU call may use: by default the processors of this process; 1 in a build without OpenMP.

    >>> get_num_threads() >= 1
    True
    """
    return int(_cpu().get_num_threads())


def cpu_info() -> dict[str, str]:
    """How the CPU backend was built: instruction set, compiler, openmp, debug.

    >>> cpu_info()["openmp"] in ("yes", "no")
    True
    """
    return dict(_cpu().info())
