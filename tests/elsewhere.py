"""Other libraries as laws, on what they define as we do: torch, ONNX Runtime and JAX give the same cells.

What a library lacks, refuses, or means otherwise is not drawn, or is made into what it has; docs/departures.md lists it. Sums
are of small integers, so that no order of additions shows. Each imports its library when it is first called.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from hypothesis.errors import UnsatisfiedAssumption
from laws import EXTREMES, FINITE, WIDE, Call, Law, cells, floating, geometry, values
from strategies import calls

from pooling.testing import agree, oracle

FIRST = "channels_first"


def agreed(got: Any, want: Any, note: Any) -> None:
    """The same cells."""
    assert agree(np.asarray(got), want), (note, np.asarray(got), want)


def suppose(meant: bool) -> None:
    """Where it is false the library means something else, and another call is drawn."""
    if not meant:
        raise UnsatisfiedAssumption


def planes(call: Call, **changes: Any) -> Any:
    """The array of a call, channels first; for sums of small integers."""
    exact = {} if call["mode"] in EXTREMES else {"kind": "small_integers"}
    return np.ascontiguousarray(np.moveaxis(cells(call | exact, **changes), -1, 1))


def torch_agrees(ours: Any, call: Call) -> None:
    """max with indices and gradients, and avg. Padding is the same on both sides, and half of the kernel at most."""
    import torch

    rank, mode, window = len(call["shape"]) - 2, call["mode"], dict(call["window"])
    window["padding"] = [min(before, k // 2) for _, k, _, (before, _), _ in geometry(call)]
    options = dict(call["options"])
    if mode == "avg":
        window["dilation"] = [1] * rank
        if rank == 1:
            options["divisor_override"] = None
    rows = list(zip(geometry(call | {"window": window | {"padding": [[p, p] for p in window["padding"]]}}), strict=True))
    suppose(all(n + before + after > d * (k - 1) for ((n, k, _, (before, after), d),) in rows))
    suppose(mode != "avg" or rank < 3 or all(n >= k for ((n, k, _, _, _),) in rows))  # it counts no padding then
    x = planes(call)
    leaf = torch.from_numpy(x).requires_grad_()
    theirs = {"kernel_size" if name == "kernel" else name: value for name, value in window.items()}
    function = getattr(torch.nn.functional, f"{mode}_pool{rank}d")
    if mode == "max":
        got, where = ours.pool(x, "max", **window, layout=FIRST, return_indices=True)
        suppose((where >= 0).all())  # it writes out of bounds for a window without cells
        suppose(rank < 3 or not np.isneginf(got).any())  # of all -inf it forgets the depth, in channels_last_3d memory
        want, indices = function(leaf, **theirs, return_indices=True)
        agreed(indices.numpy(), where, call)
    else:
        del theirs["dilation"]
        own = {name: value for name, value in options.items() if name != "divisor_override" or value is not None}
        got, want = ours.pool(x, "avg", **window, **options, layout=FIRST), function(leaf, **theirs, **own)
    agreed(want.detach().numpy(), got, call)
    if mode == "max":
        g = planes(call, shape=[x.shape[0], *got.shape[2:], x.shape[1]], kind="real")
        want.backward(torch.from_numpy(g))
        agreed(leaf.grad.numpy(), ours.pool_backward(g, x, "max", **window, layout=FIRST), call)


@cache
def _session(operator: str, kind: int, rank: int, attributes: tuple[tuple[str, Any], ...]) -> Any:
    import onnxruntime
    from onnx import TensorProto, helper

    names = ["y", "i"] if operator == "MaxPool" else ["y"]
    node = helper.make_node(operator, ["x"], names, **dict(attributes))
    shape = [None] * (rank + 2)
    kinds = {"y": kind, "i": TensorProto.INT64}
    results = [helper.make_tensor_value_info(name, kinds[name], shape) for name in names]
    graph = helper.make_graph([node], "g", [helper.make_tensor_value_info("x", kind, shape)], results)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def onnxruntime_agrees(ours: Any, call: Call) -> None:
    """MaxPool and AveragePool of finite cells (it passes over NaN), padding below the kernel, every window with a cell."""
    from onnx import helper

    rank, mode, window = len(call["shape"]) - 2, call["mode"], dict(call["window"])
    window["padding"] = [[min(p, k - 1) for p in pair] for _, k, _, pair, _ in geometry(call)]
    options = call["options"] | {"divisor_override": None} if mode == "avg" else {}
    own = call | {"window": window}
    suppose(all(n + before + after > d * (k - 1) for n, k, _, (before, after), d in geometry(own)))
    suppose((oracle.pool(np.ones(call["shape"]), "sum", **window) > 0).all())
    x = planes(call)
    attributes: dict[str, Any] = {
        "kernel_shape": tuple(window["kernel"]),
        "strides": tuple(window["stride"]),
        "dilations": tuple(window["dilation"]),
        "pads": tuple(side for sides in zip(*window["padding"], strict=True) for side in sides),
        "ceil_mode": int(window["ceil_mode"]),
    }
    if mode == "avg":
        attributes["count_include_pad"] = int(options["count_include_pad"])
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    session = _session({"max": "MaxPool", "avg": "AveragePool"}[mode], kind, rank, tuple(attributes.items()))
    want, *_ = session.run(None, {"x": x})
    got = ours.pool(x, mode, **window, **options, layout=FIRST)
    agreed(want, got, call)


def jax_agrees(ours: Any, call: Call) -> None:
    """reduce_window of max, min and sum: with any padding and dilation, empty windows, NaN and all."""
    import jax

    jax.config.update("jax_enable_x64", True)  # or there is no float64
    mode, window = call["mode"], call["window"] | {"ceil_mode": False}
    x = planes(call)
    lowest, highest = (-np.inf, np.inf) if floating(call) else (np.iinfo(x.dtype).min, np.iinfo(x.dtype).max)
    start, reduce = {"max": (lowest, jax.lax.max), "min": (highest, jax.lax.min), "sum": (0, jax.lax.add)}[mode]
    sizes, strides, dilations = ((1, 1, *window[name]) for name in ("kernel", "stride", "dilation"))
    padding = ((0, 0), (0, 0), *map(tuple, window["padding"]))
    want = jax.lax.reduce_window(x, np.array(start, x.dtype), reduce, sizes, strides, padding, window_dilation=dilations)
    got = values(ours.pool(x, mode, **window, layout=FIRST))
    agreed(want, got.astype(x.dtype), call)


LIBRARIES = {
    "torch": Law(torch_agrees, calls(("max", "avg"), WIDE), "ties_to_the_last"),
    "onnxruntime": Law(
        onnxruntime_agrees,
        calls(("max",), ("float16", *WIDE, "int8", "uint8"), FINITE) | calls(("avg",), ("float32",)),
        "overhang_counted",
    ),
    "jax": Law(  # which flushes subnormals
        jax_agrees, calls(("max", "min", "sum"), (*WIDE, "int32", "uint8"), (*FINITE, "special")), "padding_off_by_one"
    ),
}
EXTRAS = {"torch": "torch", "onnxruntime": "bench", "jax": "bench"}  # the extra that brings it
