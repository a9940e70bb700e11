"""What state an array is in changes no result: strides, byte order, subclass, alignment, threads, a given `out`."""

from __future__ import annotations

import tempfile
import tracemalloc
from functools import partial
from typing import NamedTuple

import numpy as np
import pytest
from agreement import backward_bound, check, forward_bound, label, layouts, modes, relayout

import pooling
from pooling._dtypes import DTYPES, numpy_dtype
from pooling.testing import agree, data, oracle

SHAPES = {1: (2, 11, 5), 2: (2, 9, 7, 5), 3: (1, 6, 5, 7, 3)}
TYPES = ("bool", "int8", "uint16", "int64", "uint64", "float16", "bfloat16", "float32", "float64")
FLOATS = ("float16", "bfloat16", "float32", "float64")
WINDOW = {"kernel": 3, "stride": 2, "padding": 1}


class Plain(np.ndarray):
    """A subclass with an axis rule of its own, as np.matrix has: whatever indexes it gets a surprise."""

    def __getitem__(self, key):
        raise AssertionError("a subclass is read as a plain array")

    def __array_finalize__(self, parent):
        pass


# ---- states: each takes an array and returns one that is equal and lies otherwise in memory ------------------


def _inside(x, key, shape):
    """x at `key` of a larger array of other cells."""
    around = np.ones(shape, x.dtype)
    around[key] = x
    return around[key]


def _stepped(x):
    return _inside(x, tuple(slice(1, 1 + 3 * n, 3) for n in x.shape), [3 * n + 2 for n in x.shape])


def _cropped(x):
    return _inside(x, tuple(slice(2, 2 + n) for n in x.shape), [n + 5 for n in x.shape])


def _one_axis(x, axis):
    """A slice of one axis alone: of channels, or of rows."""
    key = tuple(slice(1, 1 + n) if i == axis % x.ndim else slice(None) for i, n in enumerate(x.shape))
    return _inside(x, key, [n + 3 * (i == axis % x.ndim) for i, n in enumerate(x.shape)])


def _backwards(x, axes):
    key = tuple(slice(None, None, -1) if i in axes else slice(None) for i in range(x.ndim))
    return np.ascontiguousarray(x[key])[key]


def _order(x, order):
    return np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))


def _shifted(x):
    """Cells whose addresses are one byte past a multiple of their size."""
    memory = np.empty(x.nbytes + 17, np.uint8)
    start = -memory.ctypes.data % 16 + 1
    result = memory[start : start + x.nbytes].view(x.dtype).reshape(x.shape)
    result[...] = x
    assert x.dtype.itemsize == 1 or not result.flags.aligned
    return result


def _field(x):
    """One field of records that begin with a byte, so that strides are no multiple of the size."""
    records = np.zeros(x.shape, [("before", "u1"), ("cell", x.dtype), ("after", "u2")]).view(np.recarray)
    records.cell[...] = x
    return records["cell"]


def _swapped(x):
    return x if x.dtype.name == "bfloat16" else x.astype(x.dtype.newbyteorder("S"))


def _read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def _memmap(x):
    with tempfile.TemporaryFile() as file:
        result = np.memmap(file, x.dtype, "w+", shape=x.shape)
    result[...] = x
    return result


STATES = {
    "contiguous": lambda x: x.copy(),
    "stepped": _stepped,
    "cropped": _cropped,
    "channel_slice": lambda x: _one_axis(x, -1),
    "row_slice": lambda x: _one_axis(x, 1),
    "batch_slice": lambda x: _one_axis(x, 0),
    "every_second_channel": lambda x: _inside(x, (..., slice(None, None, 2)), (*x.shape[:-1], 2 * x.shape[-1])),
    "all_reversed": lambda x: _backwards(x, range(x.ndim)),
    "pooled_reversed": lambda x: _backwards(x, range(1, x.ndim - 1)),
    "channels_reversed": lambda x: _backwards(x, [x.ndim - 1]),
    "last_pooled_reversed": lambda x: _backwards(x, [x.ndim - 2]),
    "fortran": np.asfortranarray,
    "channels_second_in_memory": lambda x: _order(x, (0, x.ndim - 1, *range(1, x.ndim - 1))),
    "channels_outermost": lambda x: _order(x, (x.ndim - 1, *range(x.ndim - 1))),
    "batch_innermost": lambda x: _order(x, (*range(1, x.ndim), 0)),
    "pooled_transposed": lambda x: _order(x, (0, *range(x.ndim - 2, 0, -1), x.ndim - 1)),
    "unaligned": _shifted,
    "record_field": _field,
    "swapped": _swapped,
    "swapped_stepped": lambda x: _stepped(_swapped(x)),
    "unaligned_fortran": lambda x: _shifted(np.asfortranarray(x).T).T,
    "read_only": _read_only,
    "subclass": lambda x: x.copy().view(Plain),
    "memmap": _memmap,
}
# These change the cells too: an axis of stride 0 repeats one cell.
BROADCAST = {
    "batch_repeated": lambda x: np.broadcast_to(x[:1], x.shape),
    "channels_repeated": lambda x: np.broadcast_to(x[..., :1], x.shape),
    "rows_repeated": lambda x: np.broadcast_to(x[:, :1], x.shape),
    "last_pooled_repeated": lambda x: np.broadcast_to(x[..., :1, :], x.shape),
    "one_cell": lambda x: np.broadcast_to(x[(0,) * x.ndim], x.shape),
    "batch_and_channels_repeated": lambda x: np.broadcast_to(x[:1, ..., :1], x.shape),
}
ALL = STATES | BROADCAST


def unchanged(array):
    """Whether an array holds the bytes it holds now, asked later; and the memory around it, where it is a view."""
    root = array
    while isinstance(root.base, np.ndarray):
        root = root.base
    before = [np.asarray(part).tobytes() for part in (root, array)]
    return lambda: before == [np.asarray(part).tobytes() for part in (root, array)]


def plain(result):
    """Results are native plain arrays that own or view fresh memory, never scalars."""
    for array in result if isinstance(result, tuple) else (result,):
        assert type(array) is np.ndarray and array.dtype.isnative and array.flags.writeable and array.flags.aligned


class Call(NamedTuple):
    """A public call and its twin: functions of x, or of (g, x)."""

    ours: object
    theirs: object
    arguments: tuple
    options: dict

    def run(self, *arrays, **more):
        return self.ours(*arrays, *self.arguments, **self.options, **more)

    def want(self, *arrays):
        return self.theirs(*map(np.asarray, arrays), *self.arguments, **self.options)


def calls(mode, extra):
    """The forward calls of a mode, with indices where it has them."""
    options = extra | ({"return_indices": True} if mode in ("max", "min") else {})
    return [
        (Call(pooling.pool, oracle.pool, (mode, *WINDOW.values()), options), 3),
        (Call(pooling.adaptive_pool, oracle.adaptive_pool, (mode, 4), options), 5),
    ]


@pytest.mark.parametrize("state", ALL)
@pytest.mark.parametrize("row", modes(), ids=label)
def test_forward(row, state):
    for shape in SHAPES.values():
        for dtype in TYPES:
            x = ALL[state](data(shape, dtype, 1, "special"))
            same = unchanged(x)
            for call, kernel in calls(*row):
                want = call.want(x)
                got = call.run(x)
                plain(got)
                bound = None if isinstance(want, tuple) else forward_bound(want, row[0], row[1].get("p", 2), kernel)
                check(got, want, (dtype, shape, call.ours), bound)
            assert same()


@pytest.mark.parametrize("state", ALL)
@pytest.mark.parametrize("row", modes(), ids=label)
def test_backward(row, state):
    mode, extra = row
    for shape in SHAPES.values():
        for dtype in FLOATS:
            x = ALL[state](data(shape, dtype, 1, "real"))
            cells = np.array(x)
            for forward, backward, ours, arguments in (
                (oracle.pool, oracle.pool_backward, pooling.pool_backward, tuple(WINDOW.values())),
                (oracle.adaptive_pool, oracle.adaptive_pool_backward, pooling.adaptive_pool_backward, (4,)),
            ):
                g = ALL[state](data(forward(cells, "sum", *arguments).shape, dtype, 2, "real"))
                flat = np.array(g)
                kept = unchanged(x), unchanged(g)
                want = backward(flat, cells, mode, *arguments, **extra)
                p = extra.get("p", 2)
                bound = backward_bound(want, flat, cells, mode, p, (forward, backward), *arguments)
                for grad, array in ((g, x), (flat, x), (g, cells)):  # both in the state, and each beside a plain one
                    got = ours(grad, array, mode, *arguments, **extra)
                    plain(got)
                    check(got, want, (dtype, shape, ours), bound)
                if mode in ("max", "min"):
                    _, indices = forward(cells, mode, *arguments, return_indices=True)
                    for width in (np.int64, np.int32, np.uint16):
                        chosen = STATES.get(state, np.array)(indices.astype(width))
                        kept = (*kept, unchanged(chosen))
                        check(ours(g, x, mode, *arguments, indices=chosen), want, (dtype, shape, ours, width))
                assert all(same() for same in kept)


@pytest.mark.parametrize("state", ALL)
def test_unpool(state):
    for shape in SHAPES.values():
        for dtype in TYPES:
            whole = data(shape, dtype, 1, "special")
            values, indices = oracle.pool(whole, "max", 2, return_indices=True)
            x = ALL[state](values)
            for width in (np.int64, np.int16, np.uint64):
                chosen = STATES.get(state, np.array)(indices.astype(width))
                kept = unchanged(x), unchanged(chosen)
                got = pooling.max_unpool(x, chosen, 2, output_size=shape)
                plain(got)
                check(got, oracle.max_unpool(np.array(x), indices, 2, output_size=shape), (dtype, shape, width))
                assert all(same() for same in kept)


@pytest.mark.parametrize("state", ["fortran", "stepped", "all_reversed", "swapped", "last_pooled_repeated"])
@pytest.mark.parametrize("mode", pooling.MODES)
def test_states_under_every_layout(state, mode):
    for shape in SHAPES.values():
        x = data(shape, "float32", 1, "special")
        for layout in layouts(x):
            there = ALL[state](relayout(x, layout))
            here = relayout(np.array(there), "channels_last", layout)
            want = oracle.pool(here, mode, *WINDOW.values())
            got = relayout(pooling.pool(there, mode, *WINDOW.values(), layout=layout), "channels_last", layout)
            check(got, want, layout, forward_bound(want, mode, 2, 3))


def test_a_matrix_is_an_array():
    with pytest.warns(PendingDeprecationWarning):
        x = np.matrix([[1.0, 5.0, 2.0], [7.0, 3.0, 4.0]])
    got = pooling.pool(x, "max", 2, 1, layout="HW")
    plain(got)
    check(got, np.array([[7.0, 5.0]]))
    check(pooling.global_pool(x, "sum", layout="CL", keepdims=False), np.array([8.0, 14.0]))


# ---- empty axes, and results of no dimensions ----------------------------------------------------------------


@pytest.mark.parametrize("row", modes(), ids=label)
@pytest.mark.parametrize("shape", [(0, 9, 7, 5), (2, 9, 7, 0), (0, 9, 7, 0)], ids=str)
def test_empty_carried_axes(shape, row):
    mode, extra = row
    for dtype in DTYPES:
        for call, _ in calls(mode, extra):
            x = np.empty(shape, numpy_dtype(dtype))
            got, want = call.run(x), call.want(x)
            plain(got)
            check(got, want, dtype)
        if DTYPES[dtype].kind == "f":
            g = np.empty((shape[0], 5, 4, shape[3]), numpy_dtype(dtype))
            check(pooling.pool_backward(g, x, mode, **WINDOW, **extra), x)
            check(pooling.adaptive_pool_backward(g, x, mode, (5, 4), **extra), x)
            if mode in ("max", "min"):
                check(pooling.pool_backward(g, x, mode, **WINDOW, indices=g.astype(int)), x)
        empty = np.empty(shape, np.int64)
        got = pooling.max_unpool(x, empty, 2)
        assert got.shape == (shape[0], 18, 14, shape[3]) and got.dtype == x.dtype


@pytest.mark.parametrize("row", modes(), ids=label)
def test_empty_output(row):
    """No windows: nothing comes out and no gradient comes back."""
    mode, extra = row
    x = data((2, 9, 7, 5), "float32", 1)
    for size in (0, (0, 3), (3, 0)):
        y = pooling.adaptive_pool(x, mode, size, **extra)
        assert y.size == 0 and y.shape == oracle.adaptive_pool(x, "sum", size).shape
        check(pooling.adaptive_pool_backward(y, x, mode, size, **extra), np.zeros_like(x))
        if mode in ("max", "min"):
            none = y.astype(np.int64)
            check(pooling.adaptive_pool_backward(y, x, mode, size, indices=none), np.zeros_like(x))


@pytest.mark.parametrize("shape", [(2, 0, 7, 5), (2, 9, 0, 5), (0, 0, 7, 5), (2, 0, 0, 0)], ids=str)
def test_empty_pooled_axes_are_errors(shape):
    x, few = np.empty(shape, np.float32), np.empty((2, 1, 1, 5), np.float32)
    for call in (
        partial(pooling.pool, x, "max", 1),
        partial(pooling.pool, x, "avg", 3, 1, "same"),
        partial(pooling.pool, x, "sum", 3, 1, 2),
        partial(pooling.adaptive_pool, x, "avg", 1),
        partial(pooling.adaptive_pool, x, "avg", 0),
        partial(pooling.adaptive_pool, x, "avg", (None, 1)),
        partial(pooling.global_pool, x, "lp"),
        partial(pooling.max_unpool, x, x.astype(np.int64), 2),
        partial(pooling.max_unpool, x, x.astype(np.int64), 2, padding="same", output_size=(4, 4)),
        partial(pooling.pool_backward, few, x, "max", 1),
        partial(pooling.adaptive_pool_backward, few, x, "avg", 1),
        partial(pooling.output_shape, shape, 1),
    ):
        with pytest.raises(ValueError, match="has no cells"):
            call()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", pooling.MODES)
def test_results_without_dimensions_are_arrays(mode, dtype):
    x = data((7,), dtype, 1)
    got = pooling.global_pool(x, mode, keepdims=False, layout="L")
    plain(got)
    want = oracle.global_pool(x, mode, keepdims=False, layout="L")
    assert got.shape == ()
    check(got.reshape(1), np.reshape(want, 1), dtype, forward_bound(np.reshape(want, 1), mode, 2, 7))
    if mode in ("max", "min"):
        pair = pooling.global_pool(x, mode, keepdims=False, layout="L", return_indices=True)
        plain(pair)
        assert [part.shape for part in pair] == [(), ()]


# ---- memory --------------------------------------------------------------------------------------------------


def _order_of(x):
    return sorted(range(x.ndim), key=lambda i: -abs(x.strides[i]))


@pytest.mark.parametrize("mode", pooling.MODES)
def test_memory_order_follows_x(mode):
    for shape in ((2, 3, 6, 8), (2, 5, 6, 8), (1, 3, 6, 8)):
        x = data(shape, "float32", 1)
        for order in ((0, 1, 2, 3), (0, 2, 3, 1), (3, 2, 1, 0), (1, 0, 2, 3), (2, 3, 0, 1)):
            view = _order(x, order)
            y = pooling.pool(view, mode, 2, layout="channels_first")
            assert y.transpose(order).flags.c_contiguous, (shape, order)
            if mode in ("max", "min"):
                _, i = pooling.pool(view, mode, 2, layout="channels_first", return_indices=True)
                assert i.transpose(order).flags.c_contiguous
            if order in ((0, 1, 2, 3), (0, 2, 3, 1)):  # the two orders that training uses
                back = pooling.pool_backward(y, view, mode, 2, layout="channels_first")
                assert back.transpose(order).flags.c_contiguous, (shape, order)
    crop = data((2, 9, 9, 4), "float32", 1)[:, 2:3, 1:8, :3].transpose(0, 3, 1, 2)  # one row, of NHWC memory
    y = pooling.pool(crop, mode, 3, 1, 2, layout="channels_first")  # which become three
    assert y.transpose(0, 2, 3, 1).flags.c_contiguous


VIEWS = {
    "crop": lambda big: big[:, 3:-3, 3:-3, :],
    "channel_slice": lambda big: big[..., 2:-2],
    "every_second_channel": lambda big: big[..., ::2],
    "every_second_row": lambda big: big[:, ::2],
    "reversed": lambda big: big[:, ::-1, ::-1],
    "channels_first": lambda big: big.transpose(0, 3, 1, 2).swapaxes(1, 2).swapaxes(2, 3),
    "subclass": lambda big: big.view(Plain),
    "read_only": lambda big: np.broadcast_to(big, big.shape),
    "broadcast": lambda big: np.broadcast_to(big[:, :1], big.shape),
}


@pytest.mark.parametrize("state", VIEWS)
@pytest.mark.parametrize("mode", pooling.MODES)
def test_views_are_not_copied(mode, state):
    """Nothing near the size of x is allocated, forward with and without out, and backward only the gradient."""
    x = VIEWS[state](np.ones((2, 192, 192, 16), np.float32))
    indexed = {"return_indices": True} if mode in ("max", "min") else {}
    pooling.pool(x, mode, 8, **indexed)  # modules and caches
    y = pooling.pool(x, mode, 8)
    out = (y, y.astype(np.int64)) if indexed else y

    def peak(call):
        tracemalloc.start()
        try:
            call()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    # A result has 1/64 of the cells, with indices three times as many bytes; row buffers are not NumPy's.
    assert peak(lambda: pooling.pool(x, mode, 8, **indexed)) < x.nbytes // 16
    assert peak(lambda: pooling.pool(x, mode, 8, **indexed, out=out)) < x.nbytes // 128
    if mode != "lp":  # its gradient works in float64
        assert peak(lambda: pooling.pool_backward(y, x, mode, 8)) < x.nbytes + x.nbytes // 16 + y.nbytes * 4


# ---- out -----------------------------------------------------------------------------------------------------


def _cells(shape, dtype, fill=7):
    return np.full(shape, fill, dtype)


OUTS = {
    "contiguous": _cells,
    "reversed": lambda shape, dtype: _cells(shape, dtype)[tuple(slice(None, None, -1) for _ in shape)],
    "fortran": lambda shape, dtype: np.asfortranarray(_cells(shape, dtype)),
    "every_second": lambda shape, dtype: _cells([2 * n for n in shape], dtype)[tuple(slice(1, None, 2) for _ in shape)],
    "every_second_channel": lambda shape, dtype: _cells((*shape[:-1], 2 * shape[-1]), dtype)[..., ::2],
    "transposed": lambda shape, dtype: _cells(shape[::-1], dtype).T,
    "unaligned": lambda shape, dtype: _shifted(_cells(shape, dtype)),
    "record_field": lambda shape, dtype: _field(_cells(shape, dtype)),
    "subclass": lambda shape, dtype: _cells(shape, dtype).view(Silent),
    "memmap": lambda shape, dtype: _memmap(_cells(shape, dtype)),
}


class Silent(np.ndarray):
    """A subclass whose assignments go nowhere: out is written as the memory that it is."""

    def __setitem__(self, key, value):
        pass


@pytest.mark.parametrize("state", OUTS)
@pytest.mark.parametrize("row", modes(), ids=label)
def test_out(row, state):
    mode, extra = row
    for shape in SHAPES.values():
        for dtype in TYPES:
            x = data(shape, dtype, 1, "special")
            same = unchanged(x)
            for call, _ in calls(mode, extra):
                plain_result = call.run(x)
                values = plain_result[0] if isinstance(plain_result, tuple) else plain_result
                out = OUTS[state](values.shape, values.dtype)
                around = _rest(out)
                if isinstance(plain_result, tuple):
                    indices = OUTS[state](values.shape, np.dtype(np.int64))
                    got = call.run(x, out=(out, indices))
                    assert got[0] is out and got[1] is indices
                    check(np.array(indices), plain_result[1])
                    single = call._replace(options=extra)
                    assert single.run(x, out=out) is out
                else:
                    assert call.run(x, out=out) is out
                check(np.array(out), values, (dtype, shape))
                assert around()
            assert same()


def _rest(view):
    """Whether the cells of view's memory that it does not show are what they were, asked later."""
    root = view
    while isinstance(root.base, np.ndarray):
        root = root.base
    assert root.flags.c_contiguous or root.flags.f_contiguous
    shown = np.zeros(root.nbytes, bool)
    offsets = np.zeros(1, np.int64) + view.ctypes.data - root.ctypes.data
    for stride, n in zip((*view.strides, 1), (*view.shape, view.itemsize), strict=True):
        offsets = (offsets[:, None] + stride * np.arange(n)).ravel()
    shown[offsets] = True
    memory = root.view(np.ndarray).reshape(-1, order="A").view(np.uint8)
    before = memory[~shown].copy()
    return lambda: bool((memory[~shown] == before).all())


def test_out_without_the_pooled_axes():
    x = data((2, 4, 5, 3), "float32", 1)
    for layout in ("channels_last", "CNWH"):
        there = relayout(x, layout)
        want = pooling.global_pool(there, "max", layout=layout, keepdims=False, return_indices=True)
        out = np.zeros(want[0].shape[::-1], np.float32).T, np.zeros(want[1].shape, np.int64)
        got = pooling.global_pool(there, "max", layout=layout, keepdims=False, return_indices=True, out=out)
        assert got[0] is out[0] and got[1] is out[1]
        check(got, want)
        assert pooling.global_pool(there, "max", layout=layout, keepdims=False, out=out[0]) is out[0]
        for wrong in (np.zeros((2, 1, 1, 3), np.float32), np.zeros(3, np.float32), np.zeros((4, 3), np.float32)):
            with pytest.raises(ValueError, match="out has shape"):
                pooling.global_pool(there, "max", layout=layout, keepdims=False, out=wrong)
    with pytest.raises(TypeError, match="out"):
        pooling.global_pool(x, "max", keepdims=False, out=[[0.0] * 3] * 2)


@pytest.mark.parametrize("mode", pooling.MODES)
def test_out_that_overlaps_x(mode):
    """The right answer, as if out lay elsewhere."""
    for kernel, stride, padding in ((1, 1, 0), (3, 1, 1), (2, 2, 0), (3, 2, 1)):
        for step in (1, -1):
            for shift in (0, 1, 7):
                memory = data((100_000,), "float32", 1, "special")  # blocks of several rows and channels
                x = memory[:98_304].reshape(1, 96, 64, 16)
                want = pooling.pool(x.copy(), mode, kernel, stride, padding)
                out = memory[shift : shift + want.size].reshape(want.shape)[:, ::step].view(Silent)
                assert pooling.pool(x, mode, kernel, stride, padding, out=out) is out
                check(out.view(np.ndarray), want, (kernel, step, shift))
    x = data((1, 8, 8, 1), "int64", 1)
    if mode in ("max", "min"):  # indices over the cells
        want = pooling.pool(x.copy(), mode, 1, return_indices=True)
        values = np.empty_like(x)
        pooling.pool(x, mode, 1, return_indices=True, out=(values, x))
        check((values, x), want)


def test_out_of_cells_that_interlock_without_overlap():
    """Strides that are not nested, but whose cells are apart; and a pair in the two fields of records."""
    x = data((1, 2, 3, 1), "float32", 1)
    out = np.lib.stride_tricks.as_strided(np.zeros(64, np.float32), (1, 2, 3, 1), (4, 12, 8, 4))  # 0 8 16, 12 20 28
    check(np.array(pooling.pool(x, "max", 1, out=out)), x)
    x = data((2, 8, 6, 5), "float32", 1)
    for dtype in ([("value", "f4"), ("index", "i8")], [("pad", "V4"), ("value", "f4"), ("index", "i8")]):
        records = np.zeros((2, 4, 3, 5), dtype)
        pooling.pool(x, "max", 2, return_indices=True, out=(records["value"], records["index"]))
        check((records["value"].copy(), records["index"].copy()), pooling.pool(x, "max", 2, return_indices=True))


def test_agree_sees_a_difference():
    """The comparison that all of the above rests on can fail."""
    x = data((2, 9, 7, 5), "float32", 1)
    assert not agree(pooling.pool(x, "max", 2), oracle.pool(x, "max", 2) + np.float32(1))
    with pytest.raises(AssertionError):
        check(pooling.pool(x, "max", 2), oracle.pool(x, "min", 2))
