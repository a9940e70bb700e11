"""Who computes the named problems: pooling, the memcpy, and every library that pools, as the rows of one table.

A row's `start(question, way, threads)` prepares everything that a user of the library would prepare once, and gives two
functions: `run()`, one call as its users make it, with a result that is complete; and `answer(result)`, the arrays of that
result, channels first. It gives None where the library has no words for the question. Libraries are imported inside: each
has a process of its own (see workers.py).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from problems import Array, Problem, Question

import pooling

Started = tuple[Callable[[], Any], Callable[[Any], tuple[Any, ...]]]


@dataclass(frozen=True, slots=True)
class Library:
    """A row: the modules that must be installed, the ways to use them, and how to start."""

    name: str
    needs: tuple[str, ...]
    ways: tuple[str, ...]
    start: Callable[[Question, str, int], Started | None]

    def column(self, way: str) -> str:
        """The name of a way among all."""
        return f"{self.name} {way}".strip()


# ---- ours, and the yardstick -----------------------------------------------------------------------------------------


def with_pooling(question: Question, way: str, threads: int) -> Started | None:
    """As called, and into arrays that exist."""
    pooling.set_num_threads(threads)
    problem, (layout, _, out) = question.problem, way.partition(" ")
    if out and question.part == "backward":
        return None
    options = problem.arguments | {"layout": f"channels_{layout}"}
    if question.part == "backward":
        x, g = problem.cells(options["layout"]), problem.gradient(options["layout"])
        if problem.mode == "max":
            options["indices"] = pooling.pool(x, **options, return_indices=True)[1]
        return lambda: pooling.pool_backward(g, x, **options), first(layout)
    x = problem.cells(options["layout"], question.dtype)
    if question.part == "indices":
        options["return_indices"] = True
    if problem.keeps:
        options["dtype"] = question.dtype
    if out:
        options["out"] = pooling.pool(x, **options)
    return lambda: pooling.pool(x, **options), first(layout)


def first(layout: str) -> Callable[[Any], tuple[Any, ...]]:
    """What turns one array, or several, in this layout into channels first."""
    return lambda result: tuple(
        y if layout == "first" else np.moveaxis(y, -1, 1) for y in (result if isinstance(result, (tuple, list)) else (result,))
    )


def with_memcpy(question: Question, way: str, threads: int) -> Started | None:
    """A copy of the same bytes, which answers nothing."""
    return memcpy(question.moved, threads), lambda result: ()


def beginning_a_page(count: int) -> Array:
    """Bytes that were written, so that none costs a page fault. Zen 3 copies ten times slower where one of two arrays begins a
    few bytes further into its page than the other one."""
    page = 4096
    array = np.ones(count + page, np.uint8)
    return array[-array.ctypes.data % page :][:count]


def memcpy(count: int, threads: int | None = None) -> Callable[[], Any]:
    """The yardstick: moves `count` bytes, half read and half written, with the threads that pooling has."""
    source, target = beginning_a_page(count // 2), beginning_a_page(count // 2)
    threads = threads or pooling.get_num_threads()
    if threads == 1 or count <= 2**20:
        return lambda: np.copyto(target, source)
    pool = ThreadPoolExecutor(threads - 1)
    (mine, *others) = zip(np.array_split(target, threads), np.array_split(source, threads), strict=True)

    def copy() -> None:
        started = [pool.submit(np.copyto, *part) for part in others]
        np.copyto(*mine)
        for part in started:
            part.result()

    return copy


# ---- NumPy alone -----------------------------------------------------------------------------------------------------


def blocks(problem: Problem) -> Callable[[Array], Array] | None:
    """The reshape one-liner: windows side by side, without padding or rest."""
    if not tiled(problem):
        return None
    k, sizes = problem.kernel, problem.shape[2:]
    split = (*problem.shape[:2], *(part for n in sizes for part in (n // k, k)))
    axes = tuple(range(3, 3 + 2 * problem.rank, 2))
    return lambda x: getattr(x.reshape(split), {"avg": "mean"}.get(problem.mode, problem.mode))(axes)


def tiled(problem: Problem) -> bool:
    """Whether the windows cover the array side by side, without padding or rest."""
    return problem.stride == problem.kernel and not problem.padding and not any(n % problem.kernel for n in problem.shape[2:])


def windows(problem: Problem) -> Callable[[Array], Array]:
    """numpy.lib.stride_tricks.sliding_window_view, one axis after the other."""
    k, s, p = problem.kernel, problem.stride, problem.padding

    def run(x: Array) -> Array:
        least = np.iinfo(x.dtype).min if x.dtype.kind in "iu" else -np.inf
        edge = least if problem.mode == "max" else 0
        x = np.pad(x, [(0, 0)] * 2 + [(p, p)] * problem.rank, constant_values=edge) if p else x
        for axis in range(2, x.ndim):
            every = (slice(None),) * axis + (slice(None, None, s),)
            x = getattr(sliding_window_view(x, k, axis)[every], "max" if problem.mode == "max" else "sum")(-1)
        return x / np.float32(k**problem.rank) if problem.mode == "avg" else x

    return run


NUMPY = {"reshape": blocks, "sliding_window_view": windows}


def with_numpy(question: Question, way: str, threads: int) -> Started | None:
    run = NUMPY[way](question.problem)
    if run is None or question.part != "forward":
        return None
    x = question.problem.cells(dtype=question.dtype)
    return lambda: run(x), first("first")


# ---- the rest, by name -------------------------------------------------------------------------------------------------


def with_torch(question: Question, way: str, threads: int) -> Started | None:
    import torch

    torch.set_num_threads(threads)
    problem = question.problem
    if (problem.mode == "sum" and problem.rank == 1) or (problem.mode == "lp" and problem.padding):
        return None  # avg_pool1d has no divisor_override, lp_pool no padding

    def tensor(x: Array) -> Any:
        """In the memory order of the way: `last` is torch.channels_last, which exists by name for two and three axes."""
        t = torch.from_numpy(np.moveaxis(x, 1, -1) if way == "last" else x)
        t = t.contiguous().to(getattr(torch, question.dtype))
        return t.movedim(-1, 1) if way == "last" else t

    def answer(result: Any) -> tuple[Any, ...]:
        results = result if isinstance(result, tuple) else (result,)
        return tuple(y.detach().double().contiguous().numpy() for y in results)

    name = {"sum": "avg"}.get(problem.mode, problem.mode)
    function = getattr(torch.nn.functional, f"{name}_pool{problem.rank}d")
    arguments = (2.0, problem.kernel, problem.stride) if name == "lp" else (problem.kernel, problem.stride, problem.padding)
    extra = {"return_indices": True} if question.part == "indices" else {}
    extra |= {"divisor_override": 1} if problem.mode == "sum" else {}
    x = tensor(as_float(question))
    if question.part == "backward":
        y, g = function(x.requires_grad_(), *arguments, **extra), tensor(problem.gradient())
        return lambda: torch.autograd.grad(y, x, g, retain_graph=True)[0], answer
    return lambda: function(x, *arguments, **extra), answer


def as_float(question: Question) -> Array:
    """The cells in float32 or float64, which holds them exactly: for libraries that do not read every NumPy type."""
    return question.problem.cells(dtype=question.dtype).astype(np.float64 if question.dtype == "float64" else np.float32)


def with_onnxruntime(question: Question, way: str, threads: int) -> Started | None:
    if question.part == "backward":
        return None
    import onnxruntime
    from onnx import helper

    problem = question.problem
    x = problem.cells(dtype=question.dtype)
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    names = ["y", "i"] if question.part == "indices" else ["y"]
    node = helper.make_node(
        {"max": "MaxPool", "avg": "AveragePool", "lp": "LpPool"}[problem.mode],
        ["x"],
        names,
        kernel_shape=[problem.kernel] * problem.rank,
        strides=[problem.stride] * problem.rank,
        pads=[problem.padding] * 2 * problem.rank,
        **({"count_include_pad": 1} if problem.mode == "avg" else {}),
    )
    kinds = {"y": kind, "i": helper.np_dtype_to_tensor_dtype(np.dtype("int64"))}
    results = [helper.make_tensor_value_info(name, kinds[name], problem.result_shape) for name in names]
    graph = helper.make_graph([node], "g", [helper.make_tensor_value_info("x", kind, problem.shape)], results)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    plane = prod(problem.shape[2:])  # its indices count through the whole array
    return lambda: session.run(None, {"x": x}), lambda result: (result[0], *(i % plane for i in result[1:]))


def with_openvino(question: Question, way: str, threads: int) -> Started | None:
    if question.part == "backward":
        return None
    import openvino
    from openvino import opset14

    problem = question.problem
    x = problem.cells(dtype=question.dtype)
    if question.dtype == "bfloat16":  # which it has, but not from NumPy
        kind, fed = openvino.Type.bf16, openvino.Tensor(x.view(np.int16), x.shape, openvino.Type.bf16)
    else:
        kind, fed = openvino.Type(x.dtype), x
    array = opset14.parameter(problem.shape, kind)
    every = [[n] * problem.rank for n in (problem.kernel, problem.stride, problem.padding, 1)]
    kernel, strides, pads, ones = every
    if problem.mode == "max":
        node = opset14.max_pool(array, strides, ones, pads, pads, kernel, axis=2)  # indices count through one plane
    else:
        node = opset14.avg_pool(array, strides, pads, pads, kernel, exclude_pad=False)
    wanted = node.outputs() if question.part == "indices" else [node.output(0)]
    model = openvino.Model([opset14.result(output) for output in wanted], [array])
    options = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(model, "CPU", options)

    def answer(result: Any) -> tuple[Any, ...]:
        values, *indices = (result[i] for i in range(len(wanted)))
        return (values.view(x.dtype) if question.dtype == "bfloat16" else values, *indices)

    return lambda: compiled([fed]), answer


def with_mlx(question: Question, way: str, threads: int) -> Started | None:
    if question.part == "indices":
        return None
    import mlx.core as mx

    mx.set_default_device(mx.Device(mx.cpu))
    problem = question.problem
    x = mx.array(np.moveaxis(as_float(question), 1, -1), getattr(mx, question.dtype))
    function = layer(problem)
    if question.part == "backward":  # which computes the forward pass again: vjp keeps nothing of it
        g = mx.array(problem.gradient("channels_last"))

    def run() -> Any:
        y = function(x) if question.part == "forward" else mx.vjp(function, [x], [g])[1][0]
        mx.eval(y)
        return y

    mx.eval(x)
    return run, lambda y: first("last")(np.array(y.astype(mx.float64)))


def layer(problem: Problem) -> Any:
    """mlx.nn's layer."""
    import mlx.nn as nn

    kind = {"max": "MaxPool", "avg": "AvgPool"}[problem.mode]
    return getattr(nn, f"{kind}{problem.rank}d")(problem.kernel, problem.stride, problem.padding)


def with_jax(question: Question, way: str, threads: int) -> Started | None:
    """reduce_window, as Flax's layers call it; avg of integers in float32, which is what ours returns."""
    if question.part == "indices":
        return None
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)  # or there is no float64
    problem = question.problem

    def axes(inner: Any, outer: Any) -> tuple[Any, ...]:
        return (outer, *[inner] * problem.rank, outer) if way == "last" else (outer, outer, *[inner] * problem.rank)

    def function(x: Any) -> Any:
        whole = jnp.issubdtype(x.dtype, jnp.integer)
        if problem.mode == "max":
            start, reduce = jnp.iinfo(x.dtype).min if whole else -jnp.inf, jax.lax.max
        else:
            x, start, reduce = x.astype(jnp.float32) if whole else x, 0, jax.lax.add
        p = problem.padding
        start = np.array(start, x.dtype)
        y = jax.lax.reduce_window(x, start, reduce, axes(problem.kernel, 1), axes(problem.stride, 1), axes((p, p), (0, 0)))
        return y / np.array(problem.kernel**problem.rank, y.dtype) if problem.mode == "avg" else y

    layout = f"channels_{way}"
    x = jnp.asarray(problem.cells(layout, question.dtype))
    if question.part == "backward":
        g, pull = jnp.asarray(problem.gradient(layout)), jax.jit(lambda x, g: jax.vjp(function, x)[1](g)[0])
        return lambda: pull(x, g).block_until_ready(), lambda y: first(way)(np.asarray(y))
    run = jax.jit(function)
    return lambda: run(x).block_until_ready(), lambda y: first(way)(np.asarray(y))


def with_opencv(question: Question, way: str, threads: int) -> Started | None:
    """dilate and blur at every cell; resize by area where windows of an average lie side by side. `last` is one call an image,
    `first` one a plane, where they are few."""
    problem = question.problem
    if problem.rank != 2 or question.part != "forward" or problem.shape[1] > 4:
        return None
    import cv2

    cv2.setNumThreads(threads)
    k, p = problem.kernel, problem.padding
    edges = {"anchor": (p, p), "borderType": cv2.BORDER_CONSTANT}
    if problem.stride == 1 and problem.mode == "max":
        call = partial(cv2.dilate, kernel=np.ones((k, k), np.uint8), **edges)
    elif problem.stride == 1:
        call = partial(cv2.blur, ksize=(k, k), **edges)
    elif problem.mode == "avg" and tiled(problem):
        call = partial(cv2.resize, dsize=problem.result_shape[:1:-1], interpolation=cv2.INTER_AREA)
    else:
        return None
    heights = tuple(slice(n) for n in problem.result_shape[2:])  # it returns a result for every cell of the input
    x = problem.cells(f"channels_{way}", question.dtype)
    images = list(x.reshape(-1, *x.shape[2:]) if way == "first" else x)

    def answer(results: list[Any]) -> tuple[Any, ...]:
        stacked = np.stack(results)
        whole = stacked.reshape(*x.shape[:2], *stacked.shape[1:]) if way == "first" else np.moveaxis(stacked, -1, 1)
        return (whole[(slice(None), slice(None), *heights)],)

    return lambda: [call(image) for image in images], answer


def with_scipy(question: Question, way: str, threads: int) -> Started | None:
    problem = question.problem
    if problem.stride != 1 or question.part != "forward":
        return None
    from scipy import ndimage

    x = problem.cells(dtype=question.dtype)
    size = (1, 1, *[problem.kernel] * problem.rank)
    origin = (0, 0, *[problem.padding - problem.kernel // 2] * problem.rank)
    cells = tuple(slice(n) for n in problem.result_shape)
    function, edge = (ndimage.maximum_filter, -np.inf) if problem.mode == "max" else (ndimage.uniform_filter, 0.0)
    return lambda: function(x, size, mode="constant", cval=edge, origin=origin), lambda y: (y[cells],)


def with_skimage(question: Question, way: str, threads: int) -> Started | None:
    problem = question.problem
    if not tiled(problem) or question.part != "forward":
        return None
    from skimage.measure import block_reduce

    x = problem.cells(dtype=question.dtype)
    block, function = (1, 1, *[problem.kernel] * problem.rank), {"max": np.max, "avg": np.mean}[problem.mode]
    return lambda: block_reduce(x, block, function), first("first")


def with_tinybrain(question: Question, way: str, threads: int) -> Started | None:
    """Its arrays are (x, y, z, channels) in Fortran's order: the reverse of channels first."""
    problem = question.problem
    if not tiled(problem) or question.part != "forward" or (problem.rank, problem.kernel) != (2, 2):
        return None
    import tinybrain

    x = problem.cells(dtype=question.dtype).T
    function = {"max": tinybrain.downsample_with_max_pooling, "avg": tinybrain.downsample_with_averaging}[problem.mode]
    return lambda: function(x, (2, 2, 1, 1)[: x.ndim]), lambda results: (results[0].T,)


RIVALS = {
    library.name: library
    for library in (
        Library("torch", ("torch",), ("first", "last"), with_torch),
        Library("ONNX Runtime", ("onnxruntime", "onnx"), ("",), with_onnxruntime),
        Library("OpenVINO", ("openvino",), ("",), with_openvino),
        Library("mlx.nn", ("mlx",), ("",), with_mlx),
        Library("JAX", ("jax",), ("first", "last"), with_jax),
        Library("OpenCV", ("cv2",), ("first", "last"), with_opencv),
        Library("SciPy", ("scipy",), ("",), with_scipy),
        Library("scikit-image", ("skimage",), ("",), with_skimage),
        Library("NumPy", ("numpy",), tuple(NUMPY), with_numpy),
        Library("tinybrain", ("tinybrain",), ("",), with_tinybrain),
    )
}
POOLING = Library("pooling", ("pooling",), ("first", "first out", "last", "last out"), with_pooling)
MEMCPY = Library("memcpy", (), ("",), with_memcpy)
