"""Builds the extension modules: writes the row loops from the tables, then compiles them.

POOLING_DEBUG=1    bounds checks in the nest, no optimisation
POOLING_SANITIZE=1 the address and the undefined behaviour sanitizer, which end the process at their first finding
POOLING_BUILD_ISA  the instruction sets to build the row loops for, as "baseline,v3" (all that the compiler knows)
POOLING_OPENMP=0   no threads inside the kernels (also what happens where the compiler has no OpenMP)
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from itertools import product
from pathlib import Path
from types import ModuleType

import numpy
from Cython import Tempita
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools._distutils.ccompiler import new_compiler
from setuptools._distutils.errors import CompileError, LinkError
from setuptools._distutils.sysconfig import customize_compiler
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
# The instruction sets that the row loops are compiled for: those that _build.h tells apart, named as levels of x86-64.
LEVELS = {
    "baseline": [],
    "v3": ["-mavx2", "-mf16c"],
    "v4": ["-mf16c", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512"],
}
CPU = Path("pooling/_cpu")
DEBUG = os.environ.get("POOLING_DEBUG", "0") == "1"
SANITIZE = os.environ.get("POOLING_SANITIZE", "0") == "1"
OPENMP = os.environ.get("POOLING_OPENMP", "1") == "1"


def table(name: str) -> ModuleType:
    """One of the package's tables, imported by path: the package itself is not built yet."""
    spec = importlib.util.spec_from_file_location(f"pooling{name}", HERE / "pooling" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def row_loops() -> str:
    """The source of _rows.pyx: one template in six parts, filled with exactly the combinations that a call can reach."""
    modes, dtypes = table("_modes"), table("_dtypes")
    rows = dtypes.DTYPES
    asked = [None, *(name for name in rows if name != "bool")]
    reached = {
        (mode, dtypes.types_of(mode.arithmetic, cell, result)) for mode, cell, result in product(modes.ROWS.values(), rows, asked)
    }
    # Small ints are also summed in fewer bits, and 16-bit floats compared as ints.
    reached |= {
        (mode, dtypes.narrowed(types, 1 << bits)) for mode, types in reached if mode.combine == "add" for bits in range(32)
    }
    keys = {(modes.COMBINES[mode.combine].key, dtypes.keyed(types)) for mode, types in reached if mode.cell == "x"}
    keys = {(key, types) for key, types in keys if key and types.accumulate == "int16" and types.cell != "int16"}
    word: dict[str, str] = {}  # what an expression's loops are called: after the first mode that has it
    for mode in modes.ROWS.values():
        word.setdefault(mode.cell, "plain" if mode.cell == "x" else mode.name)
        word.setdefault(mode.finish, mode.name)
    c = {name: row.c for name, row in rows.items()}
    read = dict.fromkeys(rows, "%s") | {"bool": "(%s.bits != 0)"}
    read |= {"float16": "half_to_float(%s)", "bfloat16": "brain_to_float(%s)"}

    def reading(t: str, name: str) -> str:
        return f"{c[t]}_{name}(cell)" if (t, name) in {(types.cell, key) for key, types in keys} else read[t] % "cell"

    def write(finish: str, result: str) -> str:
        if finish == "int16" and rows[result].kind == "f" and rows[result].size == 2:
            return f"{c[result]}_of_key(%s)"
        same = rows[result].cell == finish and rows[result].size == rows[finish].size
        return "%s" if same else f"{c[result]}_from_{c[finish]}(%s)"

    def wrapping(combine: str, accumulate: str) -> str:
        return f"u{c[accumulate]}" if modes.COMBINES[combine].wraps and rows[accumulate].kind == "i" else str(c[accumulate])

    def indices(accumulate: str) -> tuple[str, ...]:
        return ("uint64",) if rows[accumulate].size == 8 else ("uint32", "uint64")

    picks = sorted({(mode.combine, types.accumulate) for mode, types in reached})
    stores = sorted({(types.finish, types.result) for _, types in {*reached, *keys}})
    # Small cells are converted and combined at once.
    key_of = {modes.COMBINES[name].key: name for name in modes.COMBINES}
    merges = sorted(
        {(key_of[key], key, key, types.cell, "int16") for key, types in keys}
        | {
            ("add", "plain", "x", types.cell, types.accumulate)
            for mode, types in reached
            if (mode.cell, mode.combine) == ("x", "add") and 2 * rows[types.cell].size == rows[types.accumulate].size <= 4
        }
    )
    sizes = ("uint8", "uint16", "uint32", "uint64")
    floats = [(name, row.sum) for name, row in rows.items() if row.kind == "f"]
    scatters = [("add", g, a, f"+= {read[g] % 'g'}") for g, a in floats] + [("set", size, size, "= g") for size in sizes]
    parts = ("_rows", "_fused", "_takes", "_cells", "_gradients", "_share")
    return Tempita.sub(
        "".join((HERE / CPU / f"{part}.pyx.in").read_text() for part in parts),
        combines=modes.COMBINES,
        wholes=("float32", "float64"),  # what networks pool to one cell: for all types it would be a third of the code
        fuses=[
            *((combine, "plain", "x", a, a, a) for combine, a in picks if a in ("float32", "float64", "uint8")),
            *((*merge, merge[-1] if merge[1] == "plain" else "uint16") for merge in merges),
        ],
        takes=sorted(name for name, row in modes.COMBINES.items() if row.second),  # of float32, with their indices
        picks=picks,
        loads=sorted(
            {(word[mode.cell], mode.cell, mode.cell, types.cell, types.accumulate) for mode, types in reached}
            | {(key, key, "x", types.cell, types.accumulate) for key, types in keys}
        ),
        merges=merges,
        rounds=sorted(
            {
                (mode.finish, types.accumulate, types.result)
                for mode, types in reached
                if (mode.finish, types.accumulate, types.finish) == ("s / n", "int16", "float32")
                and types.result in ("int8", "uint8")
            }
        ),
        finishes=sorted(
            {(word[mode.finish], mode.finish, types.accumulate, types.finish) for mode, types in reached if mode.finish != "s"}
        ),
        stores=stores,
        converts=[(v, r) for v, r in stores if write(v, r) != "%s"],
        scatters=scatters,
        floats=floats,
        c=c,
        choices=[(combine, a, u) for combine, a in picks if modes.COMBINES[combine].second for u in indices(a)],
        wide=lambda a, index: rows[a].size < 8 or index == "uint64",
        infinite={"float16": "0x7c00", "bfloat16": "0x7f80"},
        splits=lambda t, a: 2 * rows[t].size == rows[a].size and t != "float16",
        product=product,
        read=read,
        reading=reading,
        stored={name: "uint8_t" if name == "bool" else row.c for name, row in rows.items()},
        write=write,
        wrapping=wrapping,
        sizes={name: row.size for name, row in rows.items()},
    )


def compiles(flags: list[str]) -> bool:
    """Whether the compiler takes these flags, for compiling and linking."""
    compiler = new_compiler()
    customize_compiler(compiler)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "probe.c"
        source.write_text("#ifdef _OPENMP\n#include <omp.h>\n#endif\nint main(void) { return 0; }\n")
        try:
            objects = compiler.compile([str(source)], output_dir=folder, extra_postargs=flags)
            compiler.link_shared_object(objects, str(Path(folder) / "probe.so"), extra_postargs=flags)
        except (CompileError, LinkError):
            return False
    return True


class Python(build_py):
    """No source of the extensions: a wheel needs none. The GPU kernel's text stays, as MLX compiles it when it runs."""

    def find_data_files(self, package: str, src_dir: str) -> list[str]:
        found: list[str] = super().find_data_files(package, src_dir)
        sources = (".pyx", ".pxd", ".pxi", ".in", ".h", ".c")
        return [name for name in found if Path(name).parent.name == "_mlx" or not name.endswith(sources)]


def extension(name: str, *flags: str, source: Path | None = None, **macros: str) -> Extension:
    return Extension(
        f"pooling.{name}",
        [str(source or Path("pooling", *name.split(".")).with_suffix(".pyx"))],
        include_dirs=[str(CPU), numpy.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"), *macros.items()],
        extra_compile_args=[*exact, *sanitizers, *flags],
        extra_link_args=[*openmp, *sanitizers],
    )


def translated(*names: str) -> list[Extension]:
    """Cython's extensions, their sources translated to C."""
    return cythonize(
        [extension(name, *openmp) for name in names],
        build_dir="build/c-debug" if DEBUG else "build/c",
        language_level=3,
        compiler_directives={"boundscheck": DEBUG},
    )


def levels(rows: Extension) -> list[Extension]:
    """The row loops for every instruction set that the compiler knows: one C file, compiled again under another name."""
    found, wanted = [], os.environ.get("POOLING_BUILD_ISA") or ",".join(LEVELS)
    if not set(wanted.split(",")) <= set(LEVELS):
        raise SystemExit(f"POOLING_BUILD_ISA={wanted!r}: some of {','.join(LEVELS)}")
    for level in wanted.split(","):
        flags = LEVELS[level]
        if compiles(flags):
            source = Path(rows.sources[0]).with_name(f"_rows_{level}.c")
            source.write_bytes(Path(rows.sources[0]).read_bytes())
            found.append(extension(f"_cpu._rows_{level}", *flags, source=source, PyInit__rows=f"PyInit__rows_{level}"))
    if not found:
        raise SystemExit(f"POOLING_BUILD_ISA={wanted!r}: this compiler has none of them")
    return found


exact = ["-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-Wno-tautological-compare"]
exact = [flag for flag in (*(["-O1", "-g", "-DPOOLING_DEBUG"] if DEBUG else ["-O3", "-g0"]), *exact) if compiles([flag])]
sanitizers = ["-g1", "-fno-omit-frame-pointer", "-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all"]
sanitizers = sanitizers if SANITIZE else []
openmp = ["-fopenmp"] if OPENMP and compiles(["-fopenmp"]) else []
(HERE / CPU / "_rows.pyx").write_text(row_loops())
rows, *others = translated("_cpu._rows", "_cpu._nest", "_cpu._back", "_kept")
setup(
    cmdclass={"build_py": Python},
    ext_modules=[*others, *levels(rows)],
    options={"build_ext": {"parallel": os.cpu_count()}},  # a file takes minutes, and there are three of them
)
