"""How each library is asked: a call of pooling's, as a program of a few lines that runs that library alone.

A program reads x, and grad_output or indices where there are some, and leaves `result`: an array, or several. The text that is
run is the text that the page prints. Where a library has no words for a call, its row raises Cannot with those that are missing.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from ways import FLOATS, Array, Call, letters


class Cannot(Exception):
    """The library has no words for the call; the message says which are missing."""


def spell(function: str, *arguments: Any, **options: Any) -> str:
    """A call as text. Strings among the arguments are text themselves; options that are None are left out."""
    parts = [given if isinstance(given, str) else repr(given) for given in arguments]
    parts += [f"{name}={given!r}" for name, given in options.items() if given is not None]
    return f"{function}({', '.join(parts)})"


def short(values: tuple[Any, ...]) -> Any:
    """One value where all are the same."""
    return values[0] if len(set(values)) == 1 else values


def dilated(call: Call) -> bool:
    return set(call.each("dilation", 1)) != {1}


def even(call: Call) -> tuple[int, ...]:
    """The padding of an axis, where it is the same before and after."""
    if isinstance(call.padding, str):
        raise Cannot(f'padding="{call.padding}"')
    if any(before != after for before, after in call.padding):
        raise Cannot("padding that differs before and after")
    return tuple(before for before, _ in call.padding)


def usual(call: Call, *orders: str) -> None:
    """What no library has."""
    if call.layout not in orders:
        raise Cannot(f"axes in another order than {' or '.join(order.replace('_', ' ') for order in orders)}")
    if call.arguments.get("dtype") is not None:
        raise Cannot("a result of another type (dtype=)")


# ---- PyTorch ---------------------------------------------------------------------------------------------------------


def torch_program(call: Call) -> str:
    usual(call, "channels_first", "channels_last")
    last, rank, mode = call.layout == "channels_last", call.rank, call.mode
    moved = ".movedim(-1, 1)" if last else ""  # a view: memory stays channels last
    x, indexed = f"x{moved}", call.arguments.get("return_indices")
    name = "torch.nn.functional.{}_pool{}d"
    if call.function == "max_unpool":
        size = call.arguments.get("output_size")
        if size is not None and len(size) > rank:
            size = (size[0], size[-1], *size[1:-1]) if last else size
        window = [short(call.each("kernel")), short(call.stride), short(even(call))]
        text = spell(f"torch.nn.functional.max_unpool{rank}d", x, f"indices{moved}", *window, output_size=size)
    elif call.adaptive:
        if mode not in ("max", "avg"):
            raise Cannot(f'mode "{mode}" of adaptive pooling')
        size = call.arguments["output_size"]
        text = spell(name.format(f"adaptive_{mode}", rank), x, size, return_indices=indexed)
    else:
        if mode == "min":
            raise Cannot('mode "min"')
        window = [short(call.each("kernel")), short(call.stride)]
        options: dict[str, Any] = {"ceil_mode": call.arguments.get("ceil_mode") or None}
        if mode == "lp":
            if any(even(call)) or dilated(call):
                raise Cannot('padding or dilation of mode "lp"')
            text = spell(name.format("lp", rank), x, call.arguments.get("p", 2.0), *window, **options)
        elif mode == "max":
            options["dilation"] = short(call.each("dilation", 1)) if dilated(call) else None
            text = spell(name.format("max", rank), x, *window, short(even(call)), **options, return_indices=indexed)
        else:
            if dilated(call):
                raise Cannot(f'dilation of mode "{mode}"')
            divisor = 1 if mode == "sum" else call.arguments.get("divisor_override")
            if divisor is not None and rank == 1:
                raise Cannot('divisor_override, and with it mode "sum", on one axis')
            options["count_include_pad"] = None if call.arguments.get("count_include_pad", True) else False
            text = spell(name.format("avg", rank), x, *window, short(even(call)), **options, divisor_override=divisor)
    if call.backward:
        return f"result = torch.autograd.grad({text}, x, grad_output{moved})[0]"
    if not last:
        return f"result = {text}"
    return f"result = [y.movedim(1, -1) for y in {text}]" if indexed else f"result = {text}.movedim(1, -1)"


def torch_give(array: Array, name: str, call: Call) -> Any:
    import torch

    bits = array.dtype.name == "bfloat16"
    tensor = torch.from_numpy(array.view(np.int16) if bits else array)
    tensor = tensor.view(torch.bfloat16) if bits else tensor
    return tensor.requires_grad_() if name == "x" and call.backward else tensor


def torch_take(result: Any) -> Array:
    import torch

    tensor = result.detach().contiguous()
    return tensor.view(torch.int16).numpy().view("bfloat16") if tensor.dtype == torch.bfloat16 else tensor.numpy()


def torch_literal(name: str, text: str, call: Call) -> str:
    dtype = str(call.arrays[name].dtype.name)
    grad = ", requires_grad=True" if name == "x" and call.backward else ""
    return f"{name} = torch.tensor({text}, dtype=torch.{dtype}{grad})"


# ---- ONNX Runtime ----------------------------------------------------------------------------------------------------


def onnx_node(op: str, inputs: str, outputs: str, **attributes: Any) -> str:
    words = [f"{name} = {list(value) if isinstance(value, tuple) else value}" for name, value in attributes.items() if value]
    return f"{outputs} = {op} <{', '.join(words)}> ({inputs})" if words else f"{outputs} = {op} ({inputs})"


def onnxruntime_program(call: Call) -> str:
    if call.backward:
        raise Cannot("gradients")
    usual(call, "channels_first")
    rank, mode, given = call.rank, call.mode, call.arguments
    kind = {"float32": "float", "float64": "double"}.get(call.dtype, call.dtype)
    feeds, results, declared = "x", "y", [f"{kind}[{','.join(map(str, call.x.shape))}] x"]
    fed = '{"x": x}'
    attributes: dict[str, Any] = {}
    if not call.adaptive:
        attributes = {"kernel_shape": call.each("kernel"), "strides": call.stride}
        if isinstance(call.padding, str):
            attributes["auto_pad"] = {"same": '"SAME_UPPER"', "same_lower": '"SAME_LOWER"'}[call.padding]
        elif any(map(any, call.padding)):
            attributes["pads"] = tuple(pair[side] for side in (0, 1) for pair in call.padding)
    names = {"max": "MaxPool", "avg": "AveragePool", "lp": "LpPool"}
    if call.function == "max_unpool":
        if (call.arrays["indices"] < 0).any():
            raise Cannot("an index of -1")
        if isinstance(call.padding, str):
            raise Cannot(f'padding="{call.padding}" of max_unpool')
        op, plane = "MaxUnpool", prod(call.expected[0].shape[2:])
        declared.append(f"int64[{','.join(map(str, call.x.shape))}] i")
        feeds, count = "x, i", prod(call.x.shape[:2])
        whole = f"indices + {plane} * np.arange({count}).reshape{(*call.x.shape[:2], *[1] * rank)}"
        fed = f'{{"x": x, "i": {whole}}}'
        if given.get("output_size") is not None:
            feeds += ", s"
            declared.append(f"int64[{rank + 2}] s")
            fed = fed[:-1] + f', "s": np.array({list(call.expected[0].shape)})}}'
    elif mode not in names:
        raise Cannot(f'mode "{mode}"')
    elif call.adaptive:
        if set(call.each("output_size")) != {1} or given.get("return_indices"):
            raise Cannot("adaptive pooling, but for one window over all")
        op = {"max": "GlobalMaxPool", "avg": "GlobalAveragePool", "lp": "GlobalLpPool"}[mode]
    else:
        if given.get("divisor_override") is not None:
            raise Cannot("divisor_override")
        op = names[mode]
        attributes["dilations"] = call.each("dilation", 1) if dilated(call) else None
        attributes["ceil_mode"] = int(given.get("ceil_mode", False))
        attributes["count_include_pad"] = int(mode == "avg" and given.get("count_include_pad", True))
    if mode == "lp":
        p = given.get("p", 2.0)
        if not np.isfinite(p) or p != int(p):
            raise Cannot("an exponent that is no integer")
        attributes["p"] = int(p)
    shape = f"[{','.join('abcde'[: rank + 2])}]"
    outputs = [f"{kind}{shape} y"]
    if given.get("return_indices"):
        results, outputs = "y, i", [*outputs, f"int64{shape} i"]
    node = onnx_node(op, feeds, results, **attributes)
    graph = f"g ({', '.join(declared)}) => ({', '.join(outputs)})"
    return (
        f"""model = onnx.parser.parse_model('<ir_version: 10, opset_import: ["": 22]> {graph} {{ {node} }}')\n"""
        f"result = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {fed})"
    )


# ---- OpenVINO --------------------------------------------------------------------------------------------------------


def openvino_program(call: Call) -> str:
    if call.backward:
        raise Cannot("gradients")
    if call.function == "max_unpool":
        raise Cannot("max_unpool")
    usual(call, "channels_first")
    if call.mode not in ("max", "avg"):
        raise Cannot(f'mode "{call.mode}"')
    rank, given = call.rank, call.arguments
    indexed = given.get("return_indices")
    if call.adaptive:
        sizes = [n if own is None else own for n, own in zip(call.sizes, call.each("output_size"), strict=True)]
        node = f"openvino.opset16.adaptive_{call.mode}_pool(p, {sizes})"
    else:
        if given.get("divisor_override") is not None:
            raise Cannot("divisor_override")
        words = isinstance(call.padding, str)
        pads = ((0, 0),) * rank if words else call.padding
        before, after = ([pair[side] for pair in pads] for side in (0, 1))
        kernel, stride, dilation = (list(own) for own in (call.each("kernel"), call.stride, call.each("dilation", 1)))
        options: dict[str, Any] = {
            "rounding_type": "ceil_torch" if given.get("ceil_mode") else None,
            "auto_pad": {"same": "same_upper", "same_lower": "same_lower"}[call.padding] if words else None,
        }
        if call.mode == "max":
            axis = 2 if indexed else None  # indices count from there
            node = spell("openvino.opset16.max_pool", "p", stride, dilation, before, after, kernel, **options, axis=axis)
        else:
            options["dilations"] = dilation
            exclude = not given.get("count_include_pad", True)
            node = spell("openvino.opset16.avg_pool", "p", stride, before, after, kernel, exclude, **options)
    kind = "boolean" if call.dtype == "bool" else re.sub("(u|bf|f|i)[a-z]*(\\d+)", r"\1\2", call.dtype)  # as u8, bf16
    return (
        f"p = openvino.opset16.parameter({list(call.x.shape)}, openvino.Type.{kind})\n"
        f"model = openvino.Model({node}.outputs()[:{2 if indexed else 1}], [p])\n"
        f'result = list(openvino.compile_model(model, "CPU")([x]).values())'
    )


def openvino_give(array: Array, name: str, call: Call) -> Any:
    import openvino

    if array.dtype.name == "bfloat16":
        return openvino.Tensor(array.view(np.int16), array.shape, openvino.Type.bf16)
    return array


def openvino_take(result: Any, call: Call) -> Array:
    """Its bfloat16 comes back under NumPy's name for float16."""
    return result.view("bfloat16") if call.dtype == "bfloat16" and result.dtype == np.float16 else np.asarray(result)


# ---- JAX -------------------------------------------------------------------------------------------------------------


def jax_program(call: Call) -> str:
    """reduce_window as flax.linen.pooling calls it; an average is the sum over the window's cells, or over those in the data."""
    mode, given = call.mode, call.arguments
    if call.function == "max_unpool":
        raise Cannot("max_unpool")
    if call.adaptive:
        raise Cannot("adaptive pooling")
    if given.get("dtype") is not None:
        raise Cannot("a result of another type (dtype=)")
    if given.get("return_indices"):
        raise Cannot("indices")
    if mode == "lp":
        raise Cannot('mode "lp"')
    if given.get("ceil_mode") and not isinstance(call.padding, str):
        raise Cannot("ceil_mode")
    if mode == "avg" and call.dtype not in FLOATS:
        raise Cannot("an average of integers")
    if given.get("divisor_override") is not None:
        raise Cannot("divisor_override")

    def every(values: tuple[Any, ...], other: Any) -> tuple[Any, ...]:
        full = [other] * call.x.ndim
        for axis, value in zip(call.axes, values, strict=True):
            full[axis] = value
        return tuple(full)

    kernel, stride, dilation = every(call.each("kernel"), 1), every(call.stride, 1), every(call.each("dilation", 1), 1)
    if isinstance(call.padding, str):
        padding: Any = {"same": '"SAME"', "same_lower": '"SAME_LOWER"'}[call.padding]
    else:
        padding = every(call.padding, (0, 0))
    if call.dtype in FLOATS:
        start = {"max": "-jax.numpy.inf", "min": "jax.numpy.inf"}.get(mode, "0.0")
    elif call.dtype == "bool":
        start = {"max": "False", "min": "True"}.get(mode, "0")
    else:
        ends = np.iinfo(call.x.dtype)
        start = f"jax.numpy.{call.dtype}({ {'max': ends.min, 'min': ends.max}.get(mode, 0) })"
    op = f"jax.lax.{ {'max': 'max', 'min': 'min'}.get(mode, 'add') }"

    def reduced(x: str) -> str:
        window = [kernel, stride, padding]
        return spell("jax.lax.reduce_window", x, start, op, *window, window_dilation=dilation if dilated(call) else None)

    text = reduced("x")
    if mode == "avg":
        text += (
            f" / {prod(call.each('kernel'))}"
            if given.get("count_include_pad", True)
            else f" / {reduced('jax.numpy.ones_like(x)')}"
        )
    return f"result = jax.vjp(lambda x: {text}, x)[1](grad_output)[0]" if call.backward else f"result = {text}"


def jax_give(array: Array, name: str, call: Call) -> Any:
    import jax.numpy

    return jax.numpy.asarray(array)


# ---- MLX -------------------------------------------------------------------------------------------------------------


def mlx_program(call: Call) -> str:
    if call.function == "max_unpool":
        raise Cannot("max_unpool")
    if call.adaptive:
        raise Cannot("adaptive pooling")
    usual(call, "channels_last")
    if call.arguments.get("return_indices"):
        raise Cannot("indices")
    if call.mode not in ("max", "avg"):
        raise Cannot(f'mode "{call.mode}"')
    if call.arguments.get("ceil_mode") and not isinstance(call.padding, str):
        raise Cannot("ceil_mode")
    if dilated(call):
        raise Cannot("dilation")
    if call.arguments.get("divisor_override") is not None:
        raise Cannot("divisor_override")
    if not call.arguments.get("count_include_pad", True):
        raise Cannot("count_include_pad=False")
    window = [short(call.each("kernel")), short(call.stride), short(even(call))]
    layer = spell(f"mlx.nn.{call.mode.title()}Pool{call.rank}d", *window)
    return f"result = mlx.core.vjp({layer}, [x], [grad_output])[1][0]" if call.backward else f"result = {layer}(x)"


def mlx_give(array: Array, name: str, call: Call) -> Any:
    import mlx.core as mx

    if array.dtype.name == "bfloat16":
        return mx.array(array.view(np.uint16)).view(mx.bfloat16)
    return mx.array(array, getattr(mx, "bool_" if array.dtype == np.bool else array.dtype.name))  # or float64 is read as float32


def mlx_take(result: Any) -> Array:
    import mlx.core as mx

    return np.array(result.view(mx.uint16)).view("bfloat16") if result.dtype == mx.bfloat16 else np.array(result)


def mlx_literal(name: str, text: str, call: Call) -> str:
    dtype = str(call.arrays[name].dtype.name)
    return f"{name} = mlx.core.array({text}, mlx.core.{dtype if dtype != 'bool' else 'bool_'})"


# ---- the table -------------------------------------------------------------------------------------------------------


def numpy_literal(name: str, text: str, call: Call) -> str:
    return f'{name} = np.array({text}, "{call.arrays[name].dtype.name}")'


def jax_literal(name: str, text: str, call: Call) -> str:
    return f'{name} = jax.numpy.array({text}, "{call.arrays[name].dtype.name}")'


def openvino_literal(name: str, text: str, call: Call) -> str:
    if call.dtype == "bfloat16":
        return (
            f"x = openvino.Tensor({numpy_literal(name, text, call)[4:]}.view(np.int16), {list(call.x.shape)}, openvino.Type.bf16)"
        )
    return numpy_literal(name, text, call)


@dataclass(frozen=True)
class Library:
    """A row: what must be installed, how its programs begin, what makes one, and how arrays get in and out."""

    name: str
    title: str
    packages: tuple[str, ...]
    first: tuple[str, ...]
    program: Callable[[Call], str]
    give: Callable[[Array, str, Call], Any]
    take: Callable[[Any, Call], Array]
    literal: Callable[[str, str, Call], str]
    quiet: str = ""  # what keeps it from talking, where it is asked thousands of times
    layouts: tuple[str, ...] = ("channels_first",)
    dtypes: tuple[str, ...] = ("float32",)
    compiles: bool = False  # a model for each call, which takes tens of milliseconds

    def missing(self) -> str | None:
        """The first module that cannot be imported."""
        for line in self.first:
            module = line.split()[1]
            try:
                importlib.import_module(module)
            except ImportError as error:
                return f"{module}: {error}"
        return None

    def start(self) -> dict[str, Any]:
        """The names that its programs may use."""
        names: dict[str, Any] = {}
        exec("\n".join((*self.first, self.quiet)), names)
        return names

    def ask(self, names: dict[str, Any], call: Call) -> tuple[Array, ...]:
        """Runs the call's program; what it raises is the library's answer."""
        program = self.program(call)
        given = {name: self.give(array.copy(), name, call) for name, array in call.arrays.items()}
        own = {**names, **given}
        exec(program, own)
        result = own["result"]
        return tuple(np.array(self.take(part, call)) for part in (result if isinstance(result, (tuple, list)) else (result,)))


def _plain(array: Array, name: str, call: Call) -> Any:
    return array


LIBRARIES = (
    Library(
        "torch",
        "PyTorch",
        ("torch",),
        ("import torch",),
        torch_program,
        torch_give,
        lambda result, call: torch_take(result),
        torch_literal,
        "torch.set_num_threads(1)",
        ("channels_first", "channels_last"),
        ("float32", "float64", "float16", "bfloat16", "int8", "uint8", "int32", "int64", "bool"),
    ),
    Library(
        "onnxruntime",
        "ONNX Runtime",
        ("onnxruntime", "onnx"),
        ("import numpy as np", "import onnx.parser", "import onnxruntime"),
        onnxruntime_program,
        _plain,
        lambda result, call: np.asarray(result),
        numpy_literal,
        "onnxruntime.set_default_logger_severity(4)",
        dtypes=("float32", "float64", "float16", "bfloat16", "int8", "uint8", "int32"),
    ),
    Library(
        "openvino",
        "OpenVINO",
        ("openvino",),
        ("import numpy as np", "import openvino", "import openvino.opset16"),
        openvino_program,
        openvino_give,
        openvino_take,
        openvino_literal,
        dtypes=("float32", "float64", "float16", "bfloat16", "int8", "uint8", "int32", "int64", "bool"),
        compiles=True,
    ),
    Library(
        "jax",
        "JAX",
        ("jax", "jaxlib"),
        ("import jax",),
        jax_program,
        jax_give,
        lambda result, call: np.asarray(result),
        jax_literal,
        'jax.config.update("jax_enable_x64", True)',
        ("channels_last",),
        ("float32", "bfloat16", "int8", "bool"),
        True,
    ),
    Library(
        "mlx",
        "mlx.nn",
        ("mlx",),
        ("import mlx.core", "import mlx.nn"),
        mlx_program,
        mlx_give,
        lambda result, call: mlx_take(result),
        mlx_literal,
        layouts=("channels_last",),
        dtypes=("float32", "float64", "float16", "bfloat16", "int8", "uint8", "int32", "int64", "bool"),
    ),
)

__all__ = ["LIBRARIES", "Cannot", "Library", "letters", "spell"]
