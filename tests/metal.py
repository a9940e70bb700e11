"""A Metal device made of the CPU: what mx.fast.metal_kernel would run on a Mac, run here, and held to stricter rules.

    metal_kernel(...)     in place of mx.fast.metal_kernel, with the same arguments
    simulate()            puts it under the backend "mlx:kernel" for the rest of the process
    exact_source(...)     the very text that MLX would hand to Apple's compiler

MLX itself writes the source, also on a build without Metal: it prints it while mx.export_function traces the call. g++
compiles that text with the few Metal words in SHIM, and LAUNCH runs it for every thread of every whole block. Each launch
runs twice: on buffers that end at a page that may not be touched, then on buffers that begin at one, in memory filled with
other rubbish, the threads in reverse. An error is an exception that names the line, and the process goes on:

    a cell outside a buffer is read or written, or an input is written       segmentation fault, caught
    a signed overflow, shift, cast or division that C++ leaves undefined     UndefinedBehaviorSanitizer, with our handlers
    an output that nobody writes, or that depends on rubbish or on the       the two runs differ
    order of the threads

What it does not have: threads at the same time, float32 that flushes subnormals, fma, Apple's compiler. Its pow is as far
off as Metal allows. The launch is eager: it runs under grad, jvp and checkpoint, and raises ValueError under mx.compile and
mx.vmap. It needs g++ 12 or later, on Linux.
"""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

BUILD = Path(__file__).parents[1] / "build" / "metal"
COMPILE = ["g++", "-std=c++17", "-O1", "-fPIC", "-shared", "-s", "-ffp-contract=off", "-fexcess-precision=16"]
UNSET = "-ftrivial-auto-var-init=pattern"  # a variable without a value has a bad one
CHECKS = ["-fsanitize=undefined,float-cast-overflow", "-fno-sanitize-recover=all", "-fno-sanitize=vptr", "-nodefaultlibs"]
KERNEL = [
    "-fsingle-precision-constant",
    UNSET,
    "-Wno-attributes",
    "-Werror=return-type",
    "-Werror=uninitialized",
    "-Werror=narrowing",
]
LIBRARIES = ["-lm", "-lgcc", "-lc"]
PAGE = mmap.PAGESIZE

# Metal's words, as far as a kernel here may use them. There is no double, and no bfloat without a cast.
SHIM = r"""
#define METAL_FUNC inline __attribute__((always_inline))
#define double metal_has_no_double
typedef signed char int8_t;
typedef unsigned char uint8_t, uchar;
typedef short int16_t;
typedef unsigned short uint16_t, ushort;
typedef int int32_t;
typedef unsigned int uint32_t, uint;
typedef long int64_t, ptrdiff_t;
typedef unsigned long uint64_t, ulong, size_t;
typedef _Float16 half, float16_t;
struct uint3 { uint x, y, z; };
#ifdef ADDRESS_SPACES
#define device __attribute__((address_space(1)))
#define constant __attribute__((address_space(2)))
#define threadgroup __attribute__((address_space(3)))
#define thread
typedef __bf16 bfloat16_t;
#else
#define device
#define constant
#define threadgroup
#define thread
struct bfloat16_t {
  uint16_t bits;
  bfloat16_t() = default;
  explicit bfloat16_t(float v) {
    uint32_t u;
    __builtin_memcpy(&u, &v, 4);
    bits = v != v ? uint16_t(u >> 16 | 64) : uint16_t((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
  }
  operator float() const {
    uint32_t u = uint32_t(bits) << 16;
    float v;
    __builtin_memcpy(&v, &u, 4);
    return v;
  }
};
#define ROUNDED(OP) inline bfloat16_t operator OP(bfloat16_t a, bfloat16_t b) { return bfloat16_t(float(a) OP float(b)); }
ROUNDED(+) ROUNDED(-) ROUNDED(*) ROUNDED(/)
inline bfloat16_t operator-(bfloat16_t a) { return bfloat16_t(-float(a)); }
#endif
typedef bfloat16_t bfloat;
namespace metal {
#define UNARY(NAME) inline float NAME(float x) { return __builtin_##NAME##f(x); }
#define BINARY(NAME) inline float NAME(float x, float y) { return __builtin_##NAME##f(x, y); }
// Metal promises 16 ulps of pow, so it gets no more, where it is not exact.
inline float near(float y) {
  uint32_t u;
  __builtin_memcpy(&u, &y, 4);
  if (y == 0 || y == 1 || (u & 0x7fffffffu) > 0x7f000000u || (u & 0x7fffffffu) < 0x01000000u) return y;
  u = u - 16u + (u * 2654435761u >> 16) % 33u;
  __builtin_memcpy(&y, &u, 4);
  return y;
}
#define MATHS UNARY(sqrt) UNARY(exp) UNARY(exp2) UNARY(log) UNARY(log2) UNARY(log10) UNARY(floor) UNARY(ceil) UNARY(trunc) \
  UNARY(round) UNARY(rint) UNARY(fabs) BINARY(fmin) BINARY(fmax) BINARY(fmod) BINARY(copysign) \
  inline float pow(float x, float y) { return near(__builtin_powf(x, y)); } \
  inline float powr(float x, float y) { return near(__builtin_powf(x, y)); } \
  inline float ldexp(float x, int k) { return __builtin_ldexpf(x, k); } \
  inline float sign(float x) { return x > 0 ? 1 : x < 0 ? -1 : x == 0 ? x : 0; }
MATHS
namespace precise { MATHS }
inline float abs(float x) { return __builtin_fabsf(x); }
inline int abs(int x) { return x < 0 ? -x : x; }
inline long abs(long x) { return x < 0 ? -x : x; }
inline float fma(float x, float y, float z) { return __builtin_fmaf(x, y, z); }
inline bool isnan(float x) { return x != x; }
inline bool isinf(float x) { return __builtin_isinf(x); }
inline bool isfinite(float x) { return __builtin_isfinite(x); }
inline bool signbit(float x) { return __builtin_signbit(x); }
#define ORDERED(T) inline T min(T x, T y) { return y < x ? y : x; } inline T max(T x, T y) { return x < y ? y : x; } \
  inline T clamp(T x, T low, T high) { return min(max(x, low), high); }
ORDERED(char) ORDERED(signed char) ORDERED(uchar) ORDERED(short) ORDERED(ushort) ORDERED(int) ORDERED(uint) ORDERED(long)
ORDERED(ulong)
inline float min(float x, float y) { return __builtin_fminf(x, y); }
inline float max(float x, float y) { return __builtin_fmaxf(x, y); }
inline float clamp(float x, float low, float high) { return min(max(x, low), high); }
template <typename T> inline T select(T no, T yes, bool which) { return which ? yes : no; }
}
template <typename T, typename U> inline T as_type(U x) {
  static_assert(sizeof(T) == sizeof(U), "as_type keeps the size");
  T y;
  __builtin_memcpy(&y, &x, sizeof(T));
  return y;
}
using namespace metal;
#define INFINITY __builtin_inff()
#define HUGE_VALF __builtin_inff()
#define NAN __builtin_nanf("")
"""

GRID = r"""
extern "C" void grid(void** buffers, uint nx, uint ny, uint nz, bool backwards) {
  for (ulong i = 0, n = ulong(nx) * ny * nz; i < n; ++i) {
    ulong at = backwards ? n - 1 - i : i;
    uint x = at % nx, y = at / nx % ny, z = at / nx / ny;
    CALL;
  }
}
"""

# Runs a grid; what goes wrong inside comes back here instead of ending the process.
LAUNCH = r"""
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
static sigjmp_buf back;
static char said[512];
static uintptr_t where;
struct Place { const char* file; uint32_t line, column; };
static void caught(int, siginfo_t* info, void*) { where = uintptr_t(info->si_addr); siglongjmp(back, 2); }
extern "C" {
[[noreturn]] static void undefined(const char* what, Place* at) {
  snprintf(said, sizeof said, "%s:%u:%u: %s", at->file, at->line, at->column, what);
  siglongjmp(back, 1);
}
#define HANDLER(WHAT) void __ubsan_handle_##WHAT##_abort(Place* at) { undefined(#WHAT, at); }
HANDLER(add_overflow) HANDLER(sub_overflow) HANDLER(mul_overflow) HANDLER(negate_overflow) HANDLER(divrem_overflow)
HANDLER(shift_out_of_bounds) HANDLER(out_of_bounds) HANDLER(vla_bound_not_positive) HANDLER(type_mismatch_v1)
HANDLER(load_invalid_value) HANDLER(float_cast_overflow) HANDLER(pointer_overflow) HANDLER(invalid_builtin)
HANDLER(nonnull_arg) HANDLER(nonnull_return_v1) HANDLER(alignment_assumption)
void __ubsan_handle_missing_return(Place* at) { undefined("missing_return", at); }
void __ubsan_handle_builtin_unreachable(Place* at) { undefined("builtin_unreachable", at); }
int launch(void (*grid)(void**, uint32_t, uint32_t, uint32_t, bool), void** buffers, uint32_t x, uint32_t y, uint32_t z,
           bool backwards, char** text, uintptr_t* address) {
  struct sigaction ours = {}, segv, bus;
  ours.sa_sigaction = caught;
  ours.sa_flags = SA_SIGINFO;
  sigaction(SIGSEGV, &ours, &segv);
  sigaction(SIGBUS, &ours, &bus);
  int failed = sigsetjmp(back, 1);
  if (!failed) grid(buffers, x, y, z, backwards);
  sigaction(SIGSEGV, &segv, nullptr);
  sigaction(SIGBUS, &bus, nullptr);
  *text = said;
  *address = where;
  return failed;
}
}
"""


class MetalError(AssertionError):
    """The kernel did what a device may not forgive."""


# ---- the source ----------------------------------------------------------------------------------------------


def exact_source(maker: dict[str, Any], call: dict[str, Any]) -> str:
    """What MLX makes of a metal_kernel's and its call's arguments; inputs may be arrays or (shape, dtype)."""
    kernel = mx.fast.metal_kernel(**maker)
    shapes = [(x.shape, x.dtype) if isinstance(x, mx.array) else x for x in call["inputs"]]

    def trace(*inputs: mx.array) -> Any:
        return kernel(**{**call, "inputs": list(inputs), "verbose": True, "stream": None})

    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as printed:
        sys.stdout.flush()
        kept = os.dup(1)
        try:
            os.dup2(printed.fileno(), 1)
            mx.export_function(f"{folder}/kernel", trace, *(mx.zeros(shape, dtype) for shape, dtype in shapes))
        finally:
            os.dup2(kept, 1)
            os.close(kept)
        printed.seek(0)
        text = printed.read().decode()
    found = re.findall(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(found) == 1, f"MLX printed no kernel, or more than one: {text}"
    return str(found[0])


def instance(source: str) -> tuple[str, str]:
    """An exact source without its last line, and the call, for one thread, of the function that this line asks for."""
    last = re.search(r'^template \[\[host_name\(".*?"\)\]\] \[\[kernel\]\] decltype\((.*?)\) .*;\s*$', source, re.MULTILINE)
    signature = re.search(r"\[\[kernel\]\] void (\w+)\((.*?)\) \{$", source, re.MULTILINE | re.DOTALL)
    assert signature, source
    types, rest = [], []
    for parameter in signature[2].split(",\n"):
        buffer = re.fullmatch(r"\s*(?:const )?(?:device|constant) (.*?)\* \w+ \[\[buffer\(\d+\)\]\]", parameter)
        types.append(buffer[1]) if buffer else rest.append(" ".join(parameter.split()))
    thread = "uint3 thread_position_in_grid [[thread_position_in_grid]]"
    if rest not in ([], [thread]):
        raise NotImplementedError(f"the simulated device passes arrays with axes and {thread}, not {rest}")
    name = last[1] if last else signature[1]
    arguments = [f"({kind}*)buffers[{i}]" for i, kind in enumerate(types)] + ["uint3{x, y, z}"] * len(rest)
    return source[: last.start()] if last else source, f"{name}({', '.join(arguments)})"


# ---- the compiler --------------------------------------------------------------------------------------------


def built(text: str, options: Sequence[str]) -> Path:
    """The shared library of a C++ text, compiled unless this or another process has done so already."""
    command = [*COMPILE, *options]
    library = BUILD / f"{hashlib.sha256(f'{command}{text}'.encode()).hexdigest()[:24]}.so"
    if not library.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=BUILD) as folder:
            made = Path(folder, "made.so")
            told = subprocess.run(
                [*command, "-x", "c++", "-", "-o", str(made), *LIBRARIES], input=text, capture_output=True, text=True
            )
            if told.returncode:
                raise MetalError(f"the kernel does not compile:\n{told.stderr}")
            os.replace(made, library)
    return library


@cache
def launcher() -> Any:
    """The function launch; its library also has what the sanitizer calls, so it is loaded for all to see."""
    library = ctypes.PyDLL(str(built(LAUNCH, [])), mode=ctypes.RTLD_GLOBAL)
    pointer = ctypes.c_void_p
    library.launch.argtypes = [pointer, pointer, *[ctypes.c_uint32] * 3, ctypes.c_bool, pointer, pointer]
    return library.launch


def translation_unit(source: str) -> str:
    """The C++ of an exact source, with a function that runs a grid of it."""
    text, call = instance(source)
    return f'{SHIM}\n#line 1 "kernel.metal"\n{text}\n#line 1 "grid"\n{GRID.replace("CALL", call)}\n'


@cache
def compiled(source: str) -> tuple[Any, ctypes.c_void_p]:
    """The grid function of an exact source, and its library, which must outlive it."""
    launcher()
    library = ctypes.PyDLL(str(built(translation_unit(source), [*CHECKS, *KERNEL])))
    return library, ctypes.cast(library.grid, ctypes.c_void_p)


# ---- the device ----------------------------------------------------------------------------------------------

_mprotect = ctypes.PyDLL(None, use_errno=True).mprotect
_mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class Buffer:
    """Memory between two pages that may not be touched: at the end of its pages, or at their beginning."""

    def __init__(self, name: str, size: int, at_end: bool, rubbish: int) -> None:
        self.name, self.size = name, size
        self._room = -(-max(size, 1) // PAGE) * PAGE
        self._map = mmap.mmap(-1, self._room + 2 * PAGE)
        self._all = np.frombuffer(self._map, np.uint8)
        self._base = self._all.ctypes.data
        self._protect(0, PAGE, 0)
        self._protect(PAGE + self._room, PAGE, 0)
        self._pages = self._all[PAGE : PAGE + self._room]
        self._pages.fill(rubbish)
        self._rubbish = rubbish
        self._start = self._room - size if at_end else 0
        self.bytes = self._pages[self._start : self._start + size]
        self.address = self._base + PAGE + self._start

    def _protect(self, start: int, size: int, rights: int) -> None:
        if _mprotect(self._base + start, size, rights):
            raise OSError(ctypes.get_errno(), "mprotect")

    def seal(self) -> None:
        """From now on the buffer can only be read."""
        self._protect(PAGE, self._room, mmap.PROT_READ)

    def check(self) -> None:
        """The rest of the pages is still rubbish."""
        rest = np.concatenate([self._pages[: self._start], self._pages[self._start + self.size :]])
        if (rest != self._rubbish).any():
            raise MetalError(f"the kernel wrote outside {self.name!r}, which has {self.size} bytes")

    def near(self, address: int) -> str | None:
        """Where an address is, in words, if it is one of the buffer's own pages."""
        if not self._base <= address < self._base + self._room + 2 * PAGE:
            return None
        return f"byte {address - self.address} of {self.name!r}, which has {self.size} bytes"


def _run(source: str, names: Sequence[str], inputs: list[Any], outputs: list[Any], grid: list[int], first: bool) -> list[Any]:
    """One run of the grid. inputs: NumPy arrays; outputs: (bytes, initial cells or None). Returns the outputs' bytes."""
    sizes = [x.nbytes for x in inputs] + [size for size, _ in outputs]
    buffers = [Buffer(name, size, first, 0xFF if first else 0x55) for name, size in zip(names, sizes, strict=True)]
    for buffer, x in zip(buffers, inputs, strict=False):
        buffer.bytes[:] = x.reshape(-1).view(np.uint8)
        buffer.seal()
    for buffer, (_, initial) in zip(buffers[len(inputs) :], outputs, strict=True):
        if initial is not None:
            buffer.bytes[:] = initial
    _, function = compiled(source)
    addresses = (ctypes.c_void_p * len(buffers))(*(buffer.address for buffer in buffers))
    said, address = ctypes.c_char_p(), ctypes.c_size_t()
    failed = launcher()(function, addresses, *grid, not first, ctypes.byref(said), ctypes.byref(address))
    if failed == 1:
        text = (said.value or b"").decode()
        raise MetalError(f"undefined behaviour at {text}: {_line(source, text)}")
    if failed == 2:
        places = [place for buffer in buffers if (place := buffer.near(address.value))]
        raise MetalError(f"the kernel touched what it may not: {''.join(places) or hex(address.value)}")
    for buffer in buffers:
        buffer.check()
    return [buffer.bytes.copy() for buffer in buffers[len(inputs) :]]


def _line(source: str, place: str) -> str:
    """The line of the source that a place names, as file:line:column: what."""
    number, lines = re.match(r"kernel\.metal:(\d+):", place), source.splitlines()
    return lines[int(number[1]) - 1].strip() if number else ""


def _numpy(x: mx.array) -> Any:
    """A copy or view of the array's cells in row-major order, bfloat16 as uint16."""
    try:
        return np.ascontiguousarray(np.asarray(x.view(mx.uint16) if x.dtype == mx.bfloat16 else x))
    except ValueError as error:
        raise ValueError(f"the simulated Metal device runs at once, so not under mx.compile or mx.vmap: {error}") from error


def _cells(raw: Any, shape: Sequence[int], dtype: mx.Dtype) -> mx.array:
    """The array of these bytes."""
    if dtype == mx.bfloat16:
        return mx.array(raw.view(np.uint16).reshape(shape)).view(mx.bfloat16)
    return mx.array(raw.view(str(dtype).removeprefix("mlx.core.")).reshape(shape), dtype)


def metal_kernel(
    name: str,
    input_names: Sequence[str],
    output_names: Sequence[str],
    source: str,
    header: str = "",
    ensure_row_contiguous: bool = True,
    **options: Any,
) -> Callable[..., list[mx.array]]:
    """As mx.fast.metal_kernel; what it returns runs at once, on the CPU."""
    maker = {"name": name, "input_names": input_names, "output_names": output_names, "source": source, "header": header} | options
    if not ensure_row_contiguous:
        raise NotImplementedError("the simulated device has row contiguous inputs only")
    sources: dict[Any, str] = {}

    def kernel(
        *,
        inputs: Sequence[mx.array],
        output_shapes: Sequence[Sequence[int]],
        output_dtypes: Sequence[mx.Dtype],
        grid: tuple[int, int, int],
        threadgroup: tuple[int, int, int],
        template: Sequence[tuple[str, Any]] | None = None,
        init_value: float | None = None,
        verbose: bool = False,
        stream: Any = None,
    ) -> list[mx.array]:
        call = {"inputs": inputs, "output_shapes": output_shapes, "output_dtypes": output_dtypes, "template": template or []}
        call |= {"grid": grid, "threadgroup": threadgroup}
        # All that the text depends on: an array of fewer than 8 elements is a constant, and one without axes a reference.
        kinds = tuple((x.dtype, x.size < 8, x.ndim > 0) for x in inputs)
        key = (kinds, tuple(output_dtypes), tuple(map(tuple, template or [])))
        if key not in sources:
            sources[key] = exact_source(maker, call)
        exact = sources[key]
        if verbose:
            print(exact)
        cells = [_numpy(x) for x in inputs]
        blanks: list[tuple[int, Any]] = []
        for shape, dtype in zip(output_shapes, output_dtypes, strict=True):
            initial = None if init_value is None else _numpy(mx.full(shape, init_value, dtype)).reshape(-1).view(np.uint8)
            blanks.append((prod(shape) * dtype.size, initial))
        whole = [-(-n // block) * block for n, block in zip(grid, threadgroup, strict=True)]  # as CUDA does
        names = [*input_names, *output_names]
        runs = [_run(exact, names, cells, blanks, whole, first) for first in (True, False)]
        for output, first, second in zip(output_names, *runs, strict=True):
            if (first != second).any():
                byte = int(np.argmax(first != second))
                why = "is not written, or depends on rubbish or on the order of the threads"
                raise MetalError(f"{output!r}: byte {byte} of {first.size} {why}")
        return [_cells(raw, shape, dtype) for raw, shape, dtype in zip(runs[0], output_shapes, output_dtypes, strict=True)]

    return kernel


def simulate() -> Callable[[], None]:
    """Makes the backend "mlx:kernel" run its kernels on the simulated device; returns what ends it."""
    from pooling._mlx import _kernel

    def put(**functions: Any) -> None:
        for name, function in functions.items():
            setattr(_kernel, name, function)
        for value in list(vars(_kernel).values()):
            getattr(value, "cache_clear", lambda: None)()

    kept = {"dialect": _kernel.dialect, "device_kernel": _kernel.device_kernel}
    put(dialect=lambda: "metal", device_kernel=metal_kernel)
    return lambda: put(**kept)
