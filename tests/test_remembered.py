"""What the door and the CPU backend remember between calls never shows: not in results, not in errors, not in memory."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor

import mlx.core as mx
import numpy as np
import pytest

import pooling
from pooling import _api, _cpu
from pooling.testing import data, oracle

X = data((2, 8, 8, 3), "float32", 1)
G = data((2, 4, 4, 3), "float32", 2)


def gc_plans():
    """How many plans are alive."""
    gc.collect()
    return sum(type(thing) is _cpu._nest.Plan for thing in gc.get_objects())


@pytest.fixture
def threads():
    before = pooling.get_num_threads()
    yield
    pooling.set_num_threads(before)


# ---- arguments -------------------------------------------------------------------------------------------------------

AVG = {"mode": "avg", "kernel": 2}
# Equal to an argument that is legal and was remembered, and itself illegal.
ALIKE = {
    "kernel True": ({"kernel": 1}, {"kernel": True}),
    "kernel 2.0": ({"kernel": 2}, {"kernel": 2.0}),
    "kernel in a tuple": ({"kernel": (2, 1)}, {"kernel": (2, True)}),
    "kernel float in a tuple": ({"kernel": (2, 2)}, {"kernel": (2.0, 2)}),
    "kernel numpy float in a tuple": ({"kernel": (2, 2)}, {"kernel": (np.float64(2), 2)}),
    "kernel numpy float": ({"kernel": 2}, {"kernel": np.float64(2)}),
    "stride": ({"kernel": 2, "stride": 1}, {"kernel": 2, "stride": True}),
    "padding": ({"kernel": 2, "padding": 1}, {"kernel": 2, "padding": True}),
    "padding in pairs": ({"kernel": 2, "padding": ((0, 1), (1, 0))}, {"kernel": 2, "padding": ((0, True), (1, 0))}),
    "dilation": ({"kernel": 2, "dilation": 1}, {"kernel": 2, "dilation": 1.0}),
    "ceil_mode": ({"kernel": 2, "ceil_mode": False}, {"kernel": 2, "ceil_mode": 0}),
    "return_indices": ({"kernel": 2, "return_indices": True}, {"kernel": 2, "return_indices": 1}),
    "count_include_pad": (AVG | {"count_include_pad": True}, AVG | {"count_include_pad": 1}),
    "divisor_override": (AVG | {"divisor_override": 1}, AVG | {"divisor_override": True}),
    "p": ({"mode": "lp", "kernel": 2, "p": 1}, {"mode": "lp", "kernel": 2, "p": True}),
}


@pytest.mark.parametrize("name", ALIKE)
def test_equal_is_not_alike(name):
    legal, illegal = ({"mode": "max"} | options for options in ALIKE[name])
    want = pooling.pool(X, **legal)
    before = len(_api._forward.known)
    for _ in range(2):
        with pytest.raises(TypeError):
            pooling.pool(X, **illegal)
        again = pooling.pool(X, **legal)
        assert all((np.asarray(a) == np.asarray(b)).all() for a, b in zip(again, want, strict=True))
    assert len(_api._forward.known) == before


class Changing:
    """An int that is another one each time, but compares and hashes by identity."""

    def __init__(self):
        self.values = [1, 2, 4]

    def __index__(self):
        return self.values[0]


def test_what_can_change_is_read_anew():
    sizes, array, number = [2, 2], np.array([2, 2]), Changing()
    for n in (1, 2, 4):
        sizes[:] = [n, n]
        array[:] = n
        number.values[0] = n
        want = pooling.pool(X, "max", n)
        for kernel in (sizes, array, number, (number, n), np.int64(n), (np.int64(n), n)):
            assert (pooling.pool(X, "max", kernel) == want).all()
            assert (pooling.pool_backward(want, X, "max", kernel) == pooling.pool_backward(want, X, "max", n)).all()


@pytest.mark.parametrize("backend", [None, "mlx:ops"])
def test_errors_are_the_same_each_time(backend):
    calls = (
        lambda: pooling.pool(X, "max", 9, backend=backend),
        lambda: pooling.pool(X, "max", 0, backend=backend),
        lambda: pooling.pool(X, "avg", 2, return_indices=True, backend=backend),
        lambda: pooling.pool(X.astype(complex), "max", 2, backend=backend),
        lambda: pooling.pool(X, "max", 2, out=np.empty((2, 4, 4, 2), np.float32)),
        lambda: pooling.pool_backward(G[:1], X, "max", 2, backend=backend),
        lambda: pooling.pool_backward(G, X, "avg", 2, indices=G.astype(int), backend=backend),
        lambda: pooling.adaptive_pool(X, "max", -1, backend=backend),
        lambda: pooling.global_pool(X[0, 0], "max", backend=backend),
    )
    for call in calls:
        messages = set()
        for _ in range(3):
            with pytest.raises((TypeError, ValueError)) as caught:
                call()
            messages.add((type(caught.value), str(caught.value)))
        assert len(messages) == 1


def test_a_deep_tuple_is_an_error():
    """Its hash would overflow the stack."""
    deep = ()
    for _ in range(10**6):
        deep = (deep,)
    with pytest.raises(ValueError, match="kernel"):
        pooling.pool(X, "max", deep)


# ---- arrays ----------------------------------------------------------------------------------------------------------


def test_other_arrays_after_a_remembered_call():
    """The same arguments on arrays that differ in one thing each, twice in turn."""
    backed = np.zeros((2, 8, 8, 6), np.float32)
    swapped = X.astype(X.dtype.newbyteorder())
    shifted = np.zeros(X.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(X.shape)
    frozen = X.copy()
    frozen.flags.writeable = False
    arrays = [X, X[::-1], X[:, ::-1], np.asfortranarray(X), backed[..., ::2], swapped, shifted, frozen, X.view(np.memmap)]
    arrays += [X.astype(dtype) for dtype in ("float64", "float16", "int32", "uint8", "bool")]
    arrays += [X[:1], X[:, :5], X[..., :1], X[:0], X.transpose(0, 3, 1, 2)[..., None][..., 0]]
    backed[..., ::2], shifted[...] = X, X
    for _ in range(2):
        for x in arrays:
            for options in ({}, {"layout": "channels_first"}, {"layout": "NHCW"}, {"dtype": "float64"}, {"return_indices": True}):
                try:
                    want = oracle.pool(np.ascontiguousarray(x), "max", 2, 1, 1, **options)
                except ValueError:  # too few cells for the window
                    continue
                got = pooling.pool(x, "max", 2, 1, 1, **options)
                for a, b in zip(*(part if isinstance(part, tuple) else (part,) for part in (got, want)), strict=True):
                    assert a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes(), (x.strides, options)


def test_out_after_a_remembered_call():
    want = pooling.pool(X, "max", 2)
    good, strided = np.empty_like(want), np.empty((*want.shape[:-1], 6), np.float32)[..., ::2]
    large = data((4, 64, 64, 16), "float32", 1)  # more than one block
    reduced, inside = pooling.pool(large, "max", 2), large.copy()
    over = [inside.reshape(-1)[cells].reshape(reduced.shape) for cells in (slice(reduced.size), slice(-reduced.size, None))]
    for _ in range(2):
        for out in (good, strided, np.asfortranarray(want), good.view(np.memmap)):
            out[...] = 0
            assert pooling.pool(X, "max", 2, out=out) is out and (out == want).all()
        for out in over:
            inside[...] = large
            assert (pooling.pool(inside, "max", 2, out=out) == reduced).all()
        frozen = np.empty_like(want)
        frozen.flags.writeable = False
        for bad in (
            frozen,
            np.empty(want.shape),
            np.empty((2, 4, 4, 4), np.float32),
            want.tolist(),
            want.astype(">f4"),
            good[:1],
        ):
            with pytest.raises((TypeError, ValueError), match="out"):
                pooling.pool(X, "max", 2, out=bad)


def test_threads_after_a_remembered_call(threads):
    x = data((4, 64, 64, 16), "float32", 1)
    want = pooling.pool(x, "avg", 3, 2, 1)
    for n in (1, 2, 7, 2, 1):
        pooling.set_num_threads(n)
        assert pooling.pool(x, "avg", 3, 2, 1).tobytes() == want.tobytes()


def test_eight_threads_on_one_recipe(threads):
    """One plan, and as many arrays as callers at once."""
    pooling.set_num_threads(2)
    arrays = [data((3, 40, 41, 8), "float32", seed) for seed in range(8)]
    small = [x[:1, :8, :8].copy() for x in arrays]
    wanted = [(oracle.pool(x, "avg", 3, 2, 1), oracle.pool(y, "max", 2)) for x, y in zip(arrays, small, strict=True)]

    def work(k):
        outs = np.empty_like(wanted[k][0]), np.empty_like(wanted[k][1])
        return all(
            (pooling.pool(arrays[k], "avg", 3, 2, 1) == wanted[k][0]).all()
            and (pooling.pool(small[k], "max", 2) == wanted[k][1]).all()
            and (pooling.pool(arrays[k], "avg", 3, 2, 1, out=outs[0]) == wanted[k][0]).all()
            and (pooling.pool(small[k], "max", 2, out=outs[1]) == wanted[k][1]).all()
            for _ in range(50)
        )

    _api._forward.known.clear()
    with ThreadPoolExecutor(8) as executor:
        assert all(executor.map(work, range(8)))


# ---- backends --------------------------------------------------------------------------------------------------------


def test_backends_after_a_remembered_call():
    """The choice is made at each call: who computes, and for what kind of array."""
    called = []

    class Watched:
        def __init__(self, name):
            self.backend = pooling._backends._backend(name)
            self.name = name

        def __getattr__(self, name):
            found = getattr(self.backend, name)
            if name == "pooling":
                return lambda *a: (lambda run: lambda *b: called.append(self.name) or run(*b))(found(*a))
            return found

    watched = {name: Watched(name) for name in ("mlx:ops", "mlx:native")}
    plain = pooling._backends._backend
    try:
        pooling._backends._backend = lambda name: watched.get(name) or plain(name)
        want = pooling.pool(X, "max", 2)
        for _ in range(2):
            for name in watched:
                with pooling.use_backend(name):
                    assert (pooling.pool(X, "max", 2) == want).all()
                assert (pooling.pool(X, "max", 2, backend=name) == want).all()
                pooling.use_backend(name)
                assert (pooling.pool(X, "max", 2) == want).all()
                pooling.use_backend(None)
                assert called == [name] * 3
                called.clear()
            assert (pooling.pool(X, "max", 2) == want).all()
            assert isinstance(pooling.pool(mx.array(X), "max", 2), mx.array) and isinstance(want, np.ndarray)
            assert not called
    finally:
        pooling.use_backend(None)
        pooling._backends._backend = plain


def test_a_device_is_asked_at_each_call(monkeypatch):
    from pooling._mlx import _ops

    x = mx.array(X.astype(np.float32)).astype(mx.float64)
    for on_cpu in (True, False, True):
        monkeypatch.setattr(_ops, "on_cpu", lambda on_cpu=on_cpu: on_cpu)
        if on_cpu:
            assert pooling.pool(x, "max", 2, backend="mlx:ops").dtype == mx.float64
        else:
            with pytest.raises(TypeError, match="float64"):
                pooling.pool(x, "max", 2, backend="mlx:ops")


@pytest.mark.parametrize("backend", ["mlx:ops", "mlx:native"])
def test_gradients_after_a_call_without(backend):
    """Outside of a transformation the rules of grad are left out; inside they are not, nor in another thread."""
    x, g = mx.array(X), mx.array(G)

    def loss(x):
        return (pooling.pool(x, "max", 2, backend=backend) * g).sum()

    want = pooling.pool_backward(G, X, "max", 2)
    for _ in range(2):
        mx.eval(pooling.pool(x, "max", 2, backend=backend))
        assert (np.asarray(mx.grad(loss)(x)) == want).all()
    with ThreadPoolExecutor(1) as executor:
        assert (executor.submit(lambda: np.asarray(mx.grad(loss)(mx.array(X)))).result() == want).all()


# ---- memory ----------------------------------------------------------------------------------------------------------


def test_what_is_remembered_is_bounded():
    for n in range(1, 1200):
        pooling.pool(np.zeros((n, 1), np.float32), "sum", 1, layout="LC")
        pooling.pool_backward(np.zeros((n, 1), np.float32), np.zeros((n, 1), np.float32), "sum", 1, layout="LC")
    for recipe in (_api._forward, _api._backward):
        assert len(recipe.known) == recipe.limit <= 1024
    for cache in (_cpu._planning, _cpu._tables):
        info = cache.cache_info()
        assert info.maxsize is not None and info.currsize <= info.maxsize <= 1024


def test_long_tables_are_not_remembered():
    """A plan for many windows keeps a number for each of them."""
    x = np.zeros((1, 3, 1), np.int8)
    _api._forward.known.clear()
    _cpu._planning.cache_clear()
    for out, plans in ((2, 1), (2**17, 0)):
        before = gc_plans()
        for _ in range(3):
            pooling.adaptive_pool(x, "min", out)
        assert gc_plans() - before == plans
