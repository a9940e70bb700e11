"""What MLX would hand to Apple's and to NVIDIA's compiler, for every kernel, held to the rules of both without a device.

Metal: the exact text, printed by MLX, parsed by libclang with device, constant and threadgroup as address spaces, so that a
pointer that loses its own is an error, as it is on a Mac. What clang allows and Metal does not is asked of the syntax tree.
CUDA: the text that MLX's CUDA backend would build around the body, compiled by NVRTC (or nvcc, where NVRTC is not installed).
The other half, what the kernels compute, is tests/metal.py. Nothing here is Apple's compiler.
"""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib import metadata
from itertools import pairwise, product
from pathlib import Path
from shutil import which
from typing import Any, NamedTuple

import agreement
import metal
import mlx.core as mx
import numpy as np
import pytest

import pooling
from pooling._dtypes import DTYPES
from pooling._mlx import _arrays, _kernel
from pooling._modes import ROWS
from pooling.testing import ADAPTIVE_CASES, CASES

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="CUDA's compilers come for Linux")


def absent(what: str) -> None:
    """What is missing is a failure in CI, and elsewhere a skip that says what to install."""
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(f"{what} is not installed, and CI needs it")
    pytest.skip(f"{what} is not installed")


# ---- Metal ---------------------------------------------------------------------------------------------------

PARSE = ["-x", "c++", "-std=c++17", "-nostdinc", "-target", "x86_64-linux-gnu", "-DADDRESS_SPACES", "-Wno-unknown-attributes"]
PARSE += ["-include", "/metal.h"]
PLACES = {"device", "constant", "threadgroup", "thread", "auto"}  # auto deduces the address space with the type
FORBIDDEN = {"asm", "catch", "delete", "dynamic_cast", "goto", "long long", "new", "noexcept", "register", "std"} | {
    *("fragment", "kernel", "thread_local", "throw", "try", "typeid", "vertex", "virtual")
}


def parsed(source: str) -> tuple[Any, Any, str]:
    """The bindings of libclang, the translation unit of an exact source, and the text that it was made of."""
    try:
        from clang import cindex
    except ImportError:
        absent("libclang")
    text = source.replace("[[kernel]] decltype", "decltype")  # the last line, whose attributes stand where clang has none
    text = re.sub(r'\[\[host_name\(".*?"\)\]\] ', "", text)
    return cindex, cindex.Index.create().parse("kernel.metal", PARSE, [("kernel.metal", text), ("/metal.h", metal.SHIM)]), text


def metal_errors(source: str) -> list[str]:
    """What clang finds wrong with an exact source, and the words that Metal does not have."""
    _, unit, text = parsed(source)
    words = re.findall(r"\w+", re.sub(r"//[^\n]*|\[\[kernel\]\]", "", text))
    return [
        *(f"{note.location.line}: {note.spelling}" for note in unit.diagnostics if note.severity >= note.Error),
        *(f"Metal has no {word!r}" for word in sorted(FORBIDDEN & {*words, *map(" ".join, pairwise(words))})),
        *["a letter beyond ASCII"] * (not text.isascii()),
    ]


def metal_omissions(source: str) -> list[str]:
    """The declarations of an exact source that clang takes and Metal does not."""
    cindex, unit, text = parsed(source)
    kind, found = cindex.CursorKind, []
    pointers = cindex.TypeKind.POINTER, cindex.TypeKind.LVALUEREFERENCE, cindex.TypeKind.RVALUEREFERENCE
    own = [node for node in unit.cursor.get_children() if node.location.file and node.location.file.name == "kernel.metal"]
    for node in (below for top in own for below in top.walk_preorder()):
        if node.kind == kind.LAMBDA_EXPR:
            found.append(f"{node.location.line}: Metal has no lambda")
        if node.kind not in (kind.VAR_DECL, kind.PARM_DECL, kind.FIELD_DECL):
            continue
        where = f"{node.location.line}: {node.spelling}"
        if node.type.kind in pointers and not PLACES & set(written(text, node)):
            found.append(f"{where}: a pointer or reference without an address space")
        outside = node.semantic_parent is not None and node.semantic_parent.kind in (kind.TRANSLATION_UNIT, kind.NAMESPACE)
        if node.kind == kind.VAR_DECL and outside and node.type.get_address_space() != 2:
            found.append(f"{where}: a variable of the program that is not constant")
    return found


def written(text: str, node: Any) -> list[str]:
    """The words of a declaration; clang lets it begin after an address space that stands first."""
    before = re.split(r"[(,;{}]", text[: node.extent.start.offset])[-1]
    return re.findall(r"\w+", before + text[node.extent.start.offset : node.extent.end.offset])


# ---- CUDA ----------------------------------------------------------------------------------------------------

# The names that MLX's own utils.cuh and what it includes put beside a kernel; the rest of that file is of no use here.
UTILS = """
#pragma once
#define LIBCUDACXX_ENABLE_SIMPLIFIED_COMPLEX_OPERATIONS
#define MAX_NDIM 10
#define WARP_SIZE 32
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda/std/array>
#include <cuda/std/complex>
#include <cuda/std/limits>
#include <cuda/std/tuple>
#include <cuda/std/type_traits>
namespace mlx::core::cu {
using Shape = cuda::std::array<int32_t, MAX_NDIM>;
using Strides = cuda::std::array<int64_t, MAX_NDIM>;
template <typename T> using complex_t = cuda::std::complex<T>;
using complex64_t = complex_t<float>;
using complex128_t = complex_t<double>;
struct Limits; struct AlignedVector; struct LoopedElemToLoc; struct is_complex; struct is_complex_v;
struct is_aligned; struct load_vector; struct unsafe_load_vector; struct store_vector; struct unsafe_store_vector;
struct elem_to_loc; struct elem_to_loc_nd;
}
"""
HEADER = """
#include "mlx/backend/cuda/device/utils.cuh"

#include <cooperative_groups.h>

#define inf cuda::std::numeric_limits<float>::infinity()
"""
CUDA_TYPES = {"bool": "bool", "float16": "__half", "bfloat16": "__nv_bfloat16", "float32": "float", "float64": "double"}
OLDEST = "compute_75"  # Turing, which MLX names as its oldest


def plain(dtype: Any) -> str:
    return str(dtype).removeprefix("mlx.core.")


def cuda_type(dtype: Any) -> str:
    return CUDA_TYPES.get(plain(dtype), f"{plain(dtype)}_t")


def cuda_name(maker: dict[str, Any], call: dict[str, Any]) -> str:
    """The name under which MLX keeps a compiled kernel: of its template arguments, not of its arrays' types."""
    marks = [
        ("_t" if v else "_f") if isinstance(v, bool) else f"_{v if isinstance(v, int) else plain(v)}" for _, v in call["template"]
    ]
    return f"custom_kernel_{maker['name']}{''.join(marks)}"


def cuda_body(maker: dict[str, Any], call: dict[str, Any]) -> str:
    """The function that MLX builds around a body; the header stands before it, outside of the namespace."""
    types = [f"const {cuda_type(dtype)}* " for _, dtype in call["inputs"]] + [f"{cuda_type(d)}* " for d in call["output_dtypes"]]
    names = [*maker["input_names"], *maker["output_names"]]
    parameters = ", ".join(kind + name for kind, name in zip(types, names, strict=True))
    lines = [
        f"constexpr {'bool' if isinstance(v, bool) else 'int'} {name} = {str(v).lower()};"
        if isinstance(v, int)
        else f"using {name} = {cuda_type(v)};"
        for name, v in call["template"]
    ]
    function = f"__global__ void {cuda_name(maker, call)}({parameters}) {{\n{' '.join(lines)}\n{maker['source']}\n}}"
    return f"namespace mlx::core::cu {{\nnamespace cg = cooperative_groups;\n{function}\n}}\n"


def cuda_ways() -> list[str]:
    """The compilers that are here."""
    return [name for name, found in (("nvrtc", nvrtc()), ("nvcc", which("nvcc"))) if found]


@cache
def nvrtc() -> tuple[Any, list[Path]] | None:
    """NVRTC and the folders of CUDA's headers, from PyPI."""
    try:
        packages = [metadata.files(f"nvidia-cuda-{name}") or [] for name in ("nvrtc", "runtime", "cccl")]
    except metadata.PackageNotFoundError:
        return None
    files = [Path(str(file.locate())) for package in packages for file in package]
    library = next(file for file in files if file.name.startswith("libnvrtc.so"))
    heads = {"cuda_fp16.h": 0, "cuda/std/array": 2}
    return ctypes.CDLL(str(library)), [
        next(file.parents[up] for file in files if file.as_posix().endswith(f"/{name}")) for name, up in heads.items()
    ]


def cuda_errors(text: str, way: str, folder: Path) -> tuple[str, str]:
    """What the compiler says of a text (nothing, if it compiles), and the PTX."""
    if way == "nvcc":
        own = folder / "mlx" / "backend" / "cuda" / "device"
        own.mkdir(parents=True, exist_ok=True)
        (own / "utils.cuh").write_text(UTILS, encoding="utf-8")
        (folder / "kernel.cu").write_text(text, encoding="utf-8")
        options = ["-ptx", "-std=c++17", f"-arch={OLDEST}", f"-I{folder}", "-o", str(folder / "kernel.ptx")]
        told = subprocess.run(["nvcc", *options, str(folder / "kernel.cu")], capture_output=True, text=True)
        return (
            (told.stderr or "nvcc failed", "") if told.returncode else ("", (folder / "kernel.ptx").read_text(encoding="utf-8"))
        )
    library, heads = nvrtc()
    program = ctypes.c_void_p()
    own = (ctypes.c_char_p * 1)(UTILS.encode()), (ctypes.c_char_p * 1)(b"mlx/backend/cuda/device/utils.cuh")
    assert not library.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernel.cu", 1, *own)
    options = [f"--gpu-architecture={OLDEST}", *(f"--include-path={head}" for head in heads)]
    failed = library.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*map(str.encode, options)))
    said = _text(library.nvrtcGetProgramLogSize, library.nvrtcGetProgramLog, program)
    ptx = "" if failed else _text(library.nvrtcGetPTXSize, library.nvrtcGetPTX, program)
    library.nvrtcDestroyProgram(ctypes.byref(program))
    return (said or f"NVRTC failed: {failed}", "") if failed else ("", ptx)


def _text(size_of: Any, read: Any, program: Any) -> str:
    size = ctypes.c_size_t()
    assert not size_of(program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    assert not read(program, text)
    return text.value.decode()


def entries(ptx: str) -> dict[str, str]:
    """The instructions of every kernel, by (mangled) name."""
    parts = re.split(r"^\.visible \.entry (\w+)\(", ptx, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


# ---- the kernels ---------------------------------------------------------------------------------------------

DTYPE_CASES = ("pad_both", "kernel_beyond_axis")  # of all element types; float32 meets every case


class Call(NamedTuple):
    """The arguments of metal_kernel or cuda_kernel, those of its call, inputs as (shape, type), and what was asked for."""

    maker: dict[str, Any]
    call: dict[str, Any]
    asked: str


@cache
def recorded(dialect: str) -> list[Call]:
    """Every kernel that the backend makes for all cases, modes, element types and gradients, once each."""
    found: dict[str, Call] = {}
    asked = ""

    def device_kernel(name: str, input_names: Any, output_names: Any, source: str, header: str) -> Any:
        maker = {"name": name, "input_names": input_names, "output_names": output_names, "source": source, "header": header}

        def kernel(*, inputs: Any, output_shapes: Any, output_dtypes: Any, template: Any, grid: Any, threadgroup: Any) -> Any:
            call = {"output_shapes": output_shapes, "output_dtypes": output_dtypes, "template": template}
            call |= {"grid": grid, "threadgroup": threadgroup, "inputs": [(x.shape, x.dtype) for x in inputs]}
            kinds = [(plain(x.dtype), x.size < 8) for x in inputs]
            found.setdefault(f"{maker}{kinds}{output_dtypes}{template}", Call(maker, call, asked))
            return [mx.zeros(shape, dtype) for shape, dtype in zip(output_shapes, output_dtypes, strict=True)]

        return kernel

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_kernel, "device_kernel", device_kernel)
        patch.setattr(_kernel, "dialect", lambda: dialect)
        patch.setattr(_kernel, "why_not", lambda: None)
        patch.setattr(_kernel, "FULL", 1)  # threads have several cells where they can
        patch.setattr(_kernel, "SECTOR", 0)  # and windows write the gradients of their cells
        for name, run in calls():
            asked = name
            run()
    return list(found.values())


def calls() -> Iterator[tuple[str, Callable[[], Any]]]:
    """What to ask of the backend, with a name that begins with the mode."""
    on = {"backend": "mlx:kernel"}
    for (mode, p), case in product(agreement.modes(), CASES):
        indexed = ROWS[mode].indexed
        for dtype in DTYPES if case.name in DTYPE_CASES else ["float32"]:
            x = mx.zeros(case.x_shape, _arrays.TYPES[dtype])
            arguments = case.arguments(mode) | p | on
            results = (None, *DTYPES) if case.name == DTYPE_CASES[0] else (None,)
            for result in results:
                if result == "bool" or agreement.refused("mlx:kernel", mode, dtype, result):
                    continue
                for indices in {False, indexed}:
                    options = arguments | {"dtype": result} | ({"return_indices": True} if indices else {})
                    yield f"{mode} {dtype}", lambda x=x, mode=mode, options=options: pooling.pool(x, mode, **options)
            if DTYPES[dtype].kind == "f" and dtype != "float64":
                shape = pooling.output_shape(case.x_shape, **case.geometry)
                g = mx.zeros(shape, x.dtype)
                yield f"{mode} {dtype} gradient", lambda g=g, x=x, mode=mode, a=arguments: pooling.pool_backward(g, x, mode, **a)
    for (mode, p), case in product(agreement.modes(), ADAPTIVE_CASES):
        x = mx.zeros(case.x_shape)
        arguments = {"output_size": case.output_size, "p": p.get("p", 2.0)} | on
        yield mode, lambda x=x, mode=mode, a=arguments: pooling.adaptive_pool(x, mode, **a)
        g = mx.zeros(pooling.adaptive_pool(np.zeros(case.x_shape), mode, case.output_size).shape)
        yield f"{mode} gradient", lambda g=g, x=x, mode=mode, a=arguments: pooling.adaptive_pool_backward(g, x, mode, **a)


def test_every_mode_and_type_is_recorded():
    found = {" ".join(call.asked.split()[:2]) for call in recorded("metal")}
    types = [dtype for dtype in DTYPES if dtype != "float64"]
    assert found >= {
        f"{mode} {dtype}" for mode in pooling.MODES for dtype in types if not agreement.refused("mlx:kernel", mode, dtype)
    }


def objections(check: Callable[[str], list[str]], calls: Sequence[Call]) -> dict[str, list[str]]:
    """What a check says of the calls' exact sources, by what was asked for."""
    return {call.asked: errors for call in calls if (errors := check(metal.exact_source(call.maker, call.call)))}


def test_metal_has_no_objection():
    assert objections(metal_errors, recorded("metal")) == {}
    assert objections(metal_omissions, covering(recorded("metal"))) == {}


def test_names_of_mlx_are_left_alone():
    """MLX puts its own functions and macros before a kernel on a Mac; the headers come with every build of it."""
    folder = Path(mx.__file__).parent / "include/mlx/backend/metal/kernels"
    text = "".join(
        (folder / f"{name}.h").read_text(encoding="utf-8") for name in ("utils", "bf16", "bf16_math", "complex", "defines")
    )
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.DOTALL)
    macros = set(re.findall(r"^\s*#\s*define (\w+)", text, re.MULTILINE))
    names = set(re.findall(r"^(?![#\s}])[^\n(;{=]*?(?:\n[^\n(;{=]*?)?\b(\w+)(?:<[^\n]*>)?\s*[({;=]", text, re.MULTILINE))
    names |= set(re.findall(r"METAL_FUNC otype (\w+)\(", text))
    assert {"Limits", "ceildiv", "elem_to_loc", "simd_sum", "pow"} <= names and "MTL_CONST" in macros
    for call in recorded("metal"):
        ours = re.sub(r"//[^\n]*", "", call.maker["header"] + call.maker["source"])
        assert not macros & set(re.findall(r"\w+", ours))
        assert not (macros | names) & set(re.findall(r"^\s*#\s*define (\w+)", ours, re.MULTILINE))


def test_a_name_stands_for_one_cuda_kernel():
    """MLX compiles a name once per process, and keeps it on disk."""
    bodies: dict[str, set[str]] = {}
    for maker, call, _ in recorded("cuda"):
        bodies.setdefault(cuda_name(maker, call), set()).add(maker["header"] + cuda_body(maker, call))
    assert {name: len(texts) for name, texts in bodies.items() if len(texts) > 1} == {}


@LINUX
def test_cuda_compiles(tmp_path):
    """And NVIDIA's compiler, which fuses where it can, finds nothing to fuse where a sum must be exact."""
    ways = cuda_ways() or absent("a compiler for CUDA (nvidia-cuda-nvrtc, or nvcc)")
    calls = [numbered(call, number) for number, call in enumerate(covering(recorded("cuda")))]
    errors, ptx = cuda_errors(one_unit(calls), ways[0], tmp_path)
    assert not errors, errors
    made = entries(ptx)
    assert len(made) == len(calls)
    for call in calls:
        (text,) = (text for name, text in made.items() if cuda_name(call.maker, call.call) in name)
        fused = re.findall(FUSED, text)
        assert not fused or call.asked.startswith("lp"), (call.asked, fused)
        assert not re.search(r"\.(ftz|approx)\b", text) or call.asked.startswith("lp"), call.asked


FUSED = r"\b(?:fma|mad|mul)\S*\.b?f(?:16|32)\b"  # a product of floats is one that may be fused with a sum


def numbered(call: Call, number: int) -> Call:
    """The call with a name of its own."""
    return call._replace(maker=call.maker | {"name": f"{call.maker['name']}_{number}"})


def covering(calls: Sequence[Call]) -> list[Call]:
    """Some of the calls, in which every setting of a flag or a type is met in each mode that has it."""
    seen: set[tuple[str, str]] = set()
    chosen = []
    for maker, call, asked in calls:
        settings = [*re.findall(r"^#define .*", maker["header"], re.MULTILINE), *map(str, call["template"])]
        settings += [f"{name} {kind}" for name, (_, kind) in zip(maker["input_names"], call["inputs"], strict=True)]
        new = set(product([" ".join(asked.split()[::2])], settings)) - seen
        if new:
            chosen.append(Call(maker, call, asked))
            seen |= new
    return chosen


def one_unit(calls: Sequence[Call]) -> str:
    """Kernels as one translation unit, as the headers take a second: each with its own namespace, and macros undone."""
    parts = [HEADER]
    for number, (maker, call, _) in enumerate(calls):
        text = maker["header"] + cuda_body(maker, call)
        own = set(re.findall(r"^namespace (\w+) {", maker["header"], re.MULTILINE))
        parts += [f"#define {name} {name}_{number}\n" for name in own]
        parts += [text, *(f"#undef {name}\n" for name in own | set(re.findall(r"^\s*#\s*define (\w+)", text, re.MULTILINE)))]
    return "".join(parts)


# ---- what these checks catch ---------------------------------------------------------------------------------

HELPERS = {
    "metal": "template <typename P> METAL_FUNC float at(P p, int i) { return float(p[i]); }\n",
    "cuda": "template <typename P> __device__ float at(P p, int i) { return float(p[i]); }\n",
}
THREAD = {
    "metal": "uint i = thread_position_in_grid.x;\n",
    "cuda": "unsigned i = blockIdx.x * blockDim.x + threadIdx.x;\n",
}


def tried(dialect: str, line: str, header: str = "") -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments of a small kernel with this line in it: a and y on the device, b a constant, T bfloat16."""
    body = f"{THREAD[dialect]}if (i >= 20) return;\nauto p = a + 1;\ny[i] = at(a, i) + at(b, i % 2) + (F ? N : 0);\n{line}\n"
    maker = {
        "name": "tried",
        "input_names": ["a", "b"],
        "output_names": ["y"],
        "source": body,
        "header": HELPERS[dialect] + header,
    }
    call = {"grid": (20, 1, 1), "threadgroup": (256, 1, 1), "output_shapes": [(20,)], "output_dtypes": [mx.float32]}
    inputs = [((20,), mx.bfloat16), ((2,), mx.int64)]
    return maker, call | {"inputs": inputs, "template": [("T", mx.bfloat16), ("F", True), ("N", 3)]}


@pytest.mark.parametrize(
    "line, header, says",
    [
        ("auto q = b; q = b + 1; p = a; T t = T(y[i]); y[i] = t;", "constant int SIZES[2] = {1, 2};", ""),
        ("y[i] = lost(a);", "METAL_FUNC float lost(thread const bfloat16_t* p) { return p[0]; }", "no matching function"),
        ("const thread bfloat16_t* q = a;", "", "cannot initialize"),
        ("device const int64_t* q = b;", "", "cannot initialize"),
        ("device const int64_t* q; q = b;", "", "changes address space"),
        ("auto k = F ? a : b;", "", "different address spaces|incompatible"),
        ("float t = 0; float* q = &t; y[i] = *q;", "", "q: a pointer or reference without an address space"),
        ("float t = 0; thread float* q = &t; y[i] = *q;", "", ""),
        ("", "METAL_FUNC float first(float& x) { return x; }", "x: a pointer or reference without"),
        ("", "METAL_FUNC float first(const device float& x) { return x; }", ""),
        ("", "int SIZES[2] = {1, 2};", "SIZES: a variable of the program that is not constant"),
        ("", "constexpr int SIZE = 2;", "SIZE: a variable of the program that is not constant"),
        ("b[0] = 1;", "", "not assignable"),
        ("y[i] = double(a[i]);", "", "metal_has_no_double"),
        ("long long k = 3;", "", "Metal has no 'long long'"),
        ("auto f = [](float x) { return x; };", "", "Metal has no lambda"),
        ("int kernel = 3;", "", "Metal has no 'kernel'"),
        ("// \u00fc", "", "beyond ASCII"),
        ("y[i] = no_such(a);", "", "undeclared identifier"),
    ],
)
def test_errors_of_address_spaces_are_caught(line, header, says):
    source = metal.exact_source(*tried("metal", line, header))
    errors = metal_errors(source) + metal_omissions(source)
    assert re.search(says, "\n".join(errors)) if says else not errors, errors


@LINUX
def test_errors_of_cuda_are_caught(tmp_path):
    """In one translation unit, as the headers take a second."""
    ways = cuda_ways() or absent("a compiler for CUDA (nvidia-cuda-nvrtc, or nvcc)")
    wrong = {
        "y[i] = no_such(a);": 'identifier "no_such" is undefined',
        "device float* q = y;": 'identifier "device" is undefined',
        "a[0] = T(1);": 'no operator "=" matches',
        "y[i] = F ? T(1) : b;": "incompatible|operand types",
        "float inf = 0;": "expected a",
        "y[i] = load_vector(y[i]);": "load_vector",
        "y[i] = host(2);": r"host(?:__)? function",
    }
    maker, call = tried("cuda", "y[i] = y[i] * float(T(a[i])) + int64_t(3);")
    taken = "__device__ float load_vector(float x) { return x; }\n"
    texts = [HEADER, maker["header"], taken, cuda_body(maker, call)]
    errors, ptx = cuda_errors("".join(texts), ways[0], tmp_path)
    assert not errors and len(entries(ptx)) == 1 and re.search(FUSED, ptx), errors
    for number, line in enumerate(wrong):
        maker, call = tried("cuda", line)
        texts.append(cuda_body(maker | {"name": f"wrong{number}"}, call))
    errors, _ = cuda_errors("".join([texts[0], "float host(float x) { return x; }\n", *texts[1:]]), ways[0], tmp_path)
    assert [says for says in wrong.values() if not re.search(says, errors)] == [], errors
