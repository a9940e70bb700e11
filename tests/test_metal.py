"""The simulated Metal device refuses what it promises to refuse, and computes what is right."""

from __future__ import annotations

import sys

import metal
import mlx.core as mx
import numpy as np
import pytest

import pooling
from pooling._dtypes import DTYPES

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the simulated device needs Linux and g++")

X = np.arange(-6, 14, dtype=np.float32).reshape(4, 5)
HEAD = "uint i = thread_position_in_grid.x; if (i >= 20) return; "


def run(body, *inputs, dtype=mx.float32, shape=(4, 5), header="", **options):
    """The output of a kernel of 20 threads that is called `y` and whose inputs are a, b, c."""
    names = list("abc"[: len(inputs)])
    kernel = metal.metal_kernel("tried", names, ["y"], body, header)
    where = {"grid": (20, 1, 1), "threadgroup": (16, 1, 1), "output_shapes": [shape], "output_dtypes": [dtype]}
    (y,) = kernel(inputs=[mx.array(x) if isinstance(x, np.ndarray) else x for x in inputs], **where, **options)
    assert y.dtype == dtype and y.shape == shape
    return np.asarray(y.view(mx.uint16) if dtype == mx.bfloat16 else y)


TYPES = [getattr(mx, name.replace("bool", "bool_")) for name in DTYPES if name != "float64"]


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_every_element_type_is_copied(dtype):
    x = mx.array(X).astype(dtype)
    want = np.asarray(x.view(mx.uint16) if dtype == mx.bfloat16 else x)
    assert (run(HEAD + "y[i] = T(a[i]);", x, dtype=dtype, template=[("T", dtype)]) == want).all()


def test_a_small_input_is_a_constant():
    few = mx.arange(3)
    assert "const constant int32_t* b" in source(few) and "const device int32_t* b" in source(mx.arange(8))
    assert (run(HEAD + "auto p = b + 1; y[i] = a[i] + float(p[i % 2]);", X, few) == X + 1 + np.arange(20).reshape(4, 5) % 2).all()


def source(b):
    maker = {"name": "tried", "input_names": ["a", "b"], "output_names": ["y"], "source": "y[0] = a[0];"}
    call = {"grid": (1, 1, 1), "threadgroup": (1, 1, 1), "output_shapes": [(1,)], "output_dtypes": [mx.float32]}
    return metal.exact_source(maker, call | {"inputs": [((2, 4), mx.float32), b], "template": []})


def test_strided_inputs_arrive_in_row_major_order():
    assert (run(HEAD + "y[i] = a[i];", mx.array(X).transpose(1, 0)[::-1], shape=(5, 4)) == X.T[::-1]).all()


def test_template_arguments_and_header():
    body = HEAD + "y[i] = twice(a[i]) + (F ? N : 0);"
    header = "METAL_FUNC float twice(float x) { return 2 * x; }"
    assert (run(body, X, header=header, template=[("N", 3), ("F", True)]) == 2 * X + 3).all()
    assert (run(body, X, header=header, template=[("N", 3), ("F", False)]) == 2 * X).all()


def test_conversions_to_16_bits_round_half_to_even():
    rng = np.random.default_rng(1)
    x = rng.integers(0, 2**32, (4, 5, 100), np.uint32).view(np.float32).reshape(20, 100)
    x[0, :6] = [1 + 2**-8, 1 + 3 * 2**-8, np.inf, -np.inf, np.finfo(np.float32).max, 1e-40]
    x = np.where(np.isnan(x), np.float32(1), x)
    for dtype in (mx.bfloat16, mx.float16):
        body = HEAD + "for (uint k = i * 100; k < i * 100 + 100; ++k) y[k] = T(a[k]);"
        got = run(body, x, dtype=dtype, shape=(20, 100), template=[("T", dtype)])
        want = mx.array(x).astype(dtype)
        assert (got == np.asarray(want.view(mx.uint16) if dtype == mx.bfloat16 else want)).all()


def test_the_initial_value_fills_the_outputs():
    assert (run(HEAD + "if (i % 2) y[i] = a[i];", X, init_value=7) == np.where(np.arange(20).reshape(4, 5) % 2, X, 7)).all()


WRONG = {
    "writes past the end": ("y[i + 1] = a[i];", "byte 80 of 'y', which has 80 bytes"),
    "writes before the start": ("y[int(i) - 1] = a[i];", "'y'"),
    "writes far away": ("if (i == 3) y[100000000] = a[i]; else y[i] = a[i];", "touched"),
    "reads past the end": ("y[i] = a[i + 1];", "byte 80 of 'a', which has 80 bytes"),
    "reads before the start": ("y[i] = a[int(i) - 1];", "byte -4 of 'a'"),
    "writes to an input": ("const_cast<device float*>(a)[i] = 1; y[i] = a[i];", "byte 0 of 'a'"),
    "leaves a cell": ("if (i != 7) y[i] = a[i];", "'y': byte 28 of 80 is not written"),
    "reads what it never wrote": ("y[i] += a[i];", "is not written, or depends on"),
    "reads what another thread wrote": ("y[i] = a[i]; if (i) y[i] = y[i - 1];", "or on the order of the threads"),
    "overflows": ("int k = 2147483647; y[i] = float(k + int(a[19])); ", "kernel.metal:5.*add_overflow: .*int k = 2147483647"),
    "multiplies too far": ("int k = 65536 * int(a[19]); y[i] = k * k; ", "mul_overflow"),
    "shifts too far": ("y[i] = 1 << (int(a[19]) + 20);", "shift_out_of_bounds"),
    "divides by zero": ("y[i] = 1 / int(a[6]);", "divrem_overflow"),
    "casts what does not fit": ("y[i] = char(a[19] * 100);", "float_cast_overflow"),
    "indexes past a local array": ("float t[2] = {1, 2}; y[i] = t[int(a[19])];", "out_of_bounds"),
    "reads a variable without a value": ("bool t[2]; t[1] = true; y[i] = t[int(a[6])];", "load_invalid_value"),
    "has no such name": ("y[i] = no_such(a[i]);", "no_such"),
    "uses double": ("y[i] = double(a[i]);", "metal_has_no_double"),
    "makes bfloat of float by itself": ("bfloat16_t t = a[i]; y[i] = t;", "does not compile"),
    "does not return": ("y[i] = lost(a[i]);", "reaches end of non-void"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_an_error(name):
    body, says = WRONG[name]
    with pytest.raises(metal.MetalError, match=says):
        run(HEAD + body, X, header="METAL_FUNC float lost(float x) { if (x > 1e9) return 1; }" if "lost" in body else "")
    assert (run(HEAD + "y[i] = a[i];", X) == X).all()  # and the process has survived it


def test_a_kernel_without_bounds_check_meets_whole_blocks():
    with pytest.raises(metal.MetalError, match="byte 80 of 'a'"):
        run("uint i = thread_position_in_grid.x; y[i] = a[i];", X)


def test_the_backend_runs_on_it():
    end = metal.simulate()
    try:
        assert pooling.backends()["mlx:kernel"] is None
        y = pooling.pool(mx.array(X[None, ..., None]), "max", 2, backend="mlx:kernel")
        assert (np.asarray(y) == pooling.pool(X[None, ..., None], "max", 2)).all()
    finally:
        end()


def test_tracing_is_refused_and_gradients_are_not():
    with pytest.raises(ValueError, match="simulated Metal device runs at once"):
        mx.compile(lambda x: kernel(x))(mx.array(X))
    with pytest.raises(ValueError, match="simulated Metal device runs at once"):
        mx.vmap(lambda x: kernel(x))(mx.zeros((2, 4, 5)))

    @mx.custom_function
    def twice(x):
        return 2 * kernel(mx.stop_gradient(x))

    @twice.vjp
    def _(_, g, __):
        return kernel(g)

    assert (np.asarray(mx.grad(lambda x: twice(x).sum())(mx.array(X))) == 1).all()


def kernel(x):
    made = metal.metal_kernel("copied", ["a"], ["y"], HEAD + "y[i] = a[i];")
    return made(inputs=[x], grid=(20, 1, 1), threadgroup=(256, 1, 1), output_shapes=[x.shape], output_dtypes=[x.dtype])[0]


def test_other_thread_attributes_are_refused():
    with pytest.raises(NotImplementedError, match="thread_index_in_simdgroup"):
        run(HEAD + "y[i] = thread_index_in_simdgroup;", X)


def test_pow_is_as_far_off_as_metal_allows():
    x = np.linspace(0.1, 3, 20).astype(np.float32).reshape(4, 5)
    far = run(HEAD + "y[i] = pow(a[i], 2.5);", x).view(np.int32) - (x.astype(np.float64) ** 2.5).astype(np.float32).view(np.int32)
    assert 8 < abs(far).max() <= 17
