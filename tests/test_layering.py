"""Who may import whom, what an import loads, what is public, and that the tables meet in the compiled loops.

LAYERS is the rule; the sources are parsed, not imported, so that an import inside a function counts too. What really is
loaded is asked of a fresh interpreter.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
from fnmatch import fnmatchcase
from importlib import import_module, metadata
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pytest

import pooling
from pooling import _cpu
from pooling._cpu import _nest
from pooling._dtypes import ARITHMETIC, DTYPES, types_of
from pooling._modes import COMBINES, MODES, ROWS, Reduction

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it there

ROOT = Path(__file__).parents[1]


# ---- the rule ------------------------------------------------------------------------------------------------


class Layer(NamedTuple):
    """Modules, by patterns, and what they may import beside the standard library and each other."""

    modules: tuple[str, ...]
    may: tuple[str, ...]


FACTS = tuple(f"pooling.{name}" for name in ("_window", "_geometry", "_layout", "_modes", "_dtypes"))
PUBLIC = ("pooling", "pooling.functional", "pooling.nn", "pooling.testing", "pooling.testing.oracle")
BENCH = tuple(path.stem for path in (ROOT / "bench").glob("*.py"))
RIVALS = ("cv2", "jax", "mlx", "onnx", "onnxruntime", "openvino", "scipy", "skimage", "tinybrain", "torch")
CORPUS = (".corpus", ".norms", ".schema")
LAYERS = {
    "facts": Layer(FACTS[:4], FACTS),
    "facts of dtypes": Layer(FACTS[4:], ("pooling._window", "numpy", "ml_dtypes")),
    "finder": Layer(("pooling._backends",), (*FACTS, "pooling._cpu", "pooling._mlx")),  # backends by name: BACKENDS
    "cpu": Layer(("pooling._cpu", "pooling._cpu.*"), (*FACTS, "numpy", "cython", "libc")),
    "mlx": Layer(("pooling._mlx", "pooling._mlx.*"), (*FACTS, "mlx", "numpy")),
    "memory": Layer(("pooling._kept",), ()),
    "door": Layer(
        ("pooling", "pooling._api", "pooling.functional", "pooling.nn", "pooling.mlx_nn"),
        (*FACTS, "pooling._backends", "pooling._kept"),
    ),
    "command line": Layer(("pooling.__main__", "pooling._demo"), (*PUBLIC, "numpy", "PIL")),
    "answers": Layer(tuple(f"pooling.testing.{name}" for name in ("oracle", "cases", "compare")), ("numpy", "ml_dtypes")),
    "testing": Layer(
        tuple(f"pooling.testing{name}" for name in ("", ".golden", ".call", ".draw", ".mistakes", ".check", *CORPUS)),
        ("pooling", "pooling.testing.*", "numpy"),
    ),
    "testing command": Layer(
        tuple(f"pooling.testing.{name}" for name in ("__main__", "ask", "apart")),
        ("pooling", "pooling.testing", "pooling.testing.*", "numpy", "ml_dtypes", "mlx"),  # mlx where it is installed
    ),
    "bench": Layer(("bench.*",), (*PUBLIC, "numpy", "ml_dtypes", "pytest", "matplotlib", *BENCH, *RIVALS)),
}
EXCEPTIONS = {
    # What lies in the host's memory is the CPU backend's, whoever owns the array.
    "pooling._mlx._native": "pooling._cpu",
    "pooling._mlx._memory": "pooling._cpu._views",
    # The layers of mlx.nn are modules of mlx.nn; the package imports this one for nobody.
    "pooling.mlx_nn": "mlx.nn",
}

FILES = [
    (".".join(path.relative_to(ROOT).with_name(path.name.split(".")[0]).parts).removesuffix(".__init__"), path)
    for kind in ("pooling/**/*.py", "pooling/**/*.py[ix]", "pooling/**/*.pxd", "pooling/**/*.pyx.in", "bench/*.py")
    for path in sorted(ROOT.glob(kind))
    if not path.with_name(path.name + ".in").exists()  # made by the build
]
MODULES = {name for name, _ in FILES}
STUBS = {  # of every extension module
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sorted(ROOT.glob("pooling/**/*.pyi"))
}


def layer_of(module: str) -> Layer:
    found = [layer for layer in LAYERS.values() if any(fnmatchcase(module, pattern) for pattern in layer.modules)]
    assert len(found) == 1, f"{module} is in {len(found)} layers"
    return found[0]


def imports(module: str, text: str, cython: bool = False, package: bool = False) -> set[str]:
    """What a source imports, absolutely; a string that is a module's dotted name counts, as it is imported by name."""
    if cython:
        pattern = r"^\s*(?:from\s+([\w.]+)\s+c?import\s+(.*)|c?import\s+([\w., ]+))$"
        lines = [(source, names or plain) for source, names, plain in re.findall(pattern, text, re.MULTILINE)]
        return {source or name for source, names in lines for name in re.split(r"\s*,\s*", names)}
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: len(module.split(".")) - node.level + package] if node.level else []
            source = ".".join([*above, *filter(None, [node.module])])
            for alias in node.names:
                name = f"{source}.{alias.name}"
                private = source == "pooling" and alias.name.startswith("_")
                found.add(name if name in MODULES or private else source)
        elif isinstance(node, ast.Constant) and (match := re.fullmatch(r"(pooling(\.\w+)+)(:\w+)?", str(node.value))):
            found.add(match[1])
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "pooling":
            found |= {f"pooling.{node.attr}"} if re.match(r"_[^_]", node.attr) else set()
    return found


def forbidden(module: str, found: set[str]) -> set[str]:
    """What of it the module's layer does not allow."""
    layer = layer_of(module)

    def allowed(name: str) -> bool:
        own = any(fnmatchcase(name, pattern) for pattern in layer.modules)
        listed = (
            name in (*layer.may, EXCEPTIONS.get(module))
            or any(fnmatchcase(name, may) for may in layer.may)
            or (not name.startswith("pooling") and name.split(".")[0] in layer.may)
        )
        return own or listed or name.split(".")[0] in sys.stdlib_module_names

    return {name for name in found if not allowed(name)}


@pytest.mark.parametrize("name, path", FILES, ids=lambda value: getattr(value, "name", value))
def test_imports(name, path):
    found = imports(name, path.read_text(encoding="utf-8"), path.suffix not in (".py", ".pyi"), path.stem == "__init__")
    assert not forbidden(name, found)


def test_every_row_of_the_rule_is_used():
    for layer in LAYERS.values():
        for pattern in layer.modules:
            assert any(fnmatchcase(name, pattern.removesuffix(".*") + "*") for name in MODULES), pattern


@pytest.mark.parametrize(
    "module, text, found",
    [
        ("pooling._window", "import numpy", "numpy"),
        ("pooling._window", "def f():\n    from pooling import _cpu", "pooling._cpu"),
        ("pooling._geometry", "from ._api import pool", "pooling._api"),
        ("pooling._backends", "import mlx.core", "mlx.core"),
        ("pooling._cpu._views", "from pooling._api import pool", "pooling._api"),
        ("pooling._cpu._views", "from .._mlx import owns", "pooling._mlx"),
        ("pooling._mlx._ops", "from pooling import _cpu", "pooling._cpu"),
        ("pooling._mlx._native", "from pooling._cpu import _nest", "pooling._cpu._nest"),
        ("pooling._api", "BACKEND = 'pooling._mlx:auto'", "pooling._mlx"),
        ("pooling._api", "import pooling._cpu", "pooling._cpu"),
        ("pooling._api", "import_module('pooling._cpu')", "pooling._cpu"),
        ("pooling.nn", "import torch", "torch"),
        ("pooling.__main__", "from pooling._dtypes import DTYPES", "pooling._dtypes"),
        ("pooling._demo", "import pooling\npooling._api.pool", "pooling._api"),
        ("pooling.testing.oracle", "from .. import output_shape", "pooling"),
        ("pooling.testing.oracle", "from pooling._geometry import Axis", "pooling._geometry"),
        ("bench.problems", "from pooling import _MODES", "pooling._MODES"),
    ],
)
def test_a_breach_is_found(module, text, found):
    assert forbidden(module, imports(module, text)) == {found}


def test_a_breach_in_cython_is_found():
    text = "from pooling._api cimport a, b\n    from pooling._mlx import c\ncimport torch\nimport os, mlx\nimported = 1\n"
    found = imports("pooling._cpu._nest", text, cython=True)
    assert forbidden("pooling._cpu._nest", found) == {"pooling._api", "pooling._mlx", "torch", "mlx"}


# ---- what is loaded ------------------------------------------------------------------------------------------


def fresh(program: str, *arguments: str) -> list[list[str]]:
    """What a program in a fresh interpreter leaves in its list `added`."""
    program = f"import json, sys; added = []\n{program}\nprint(json.dumps(added))"
    folder = Path(pooling.__file__).parents[1]
    run = subprocess.run([sys.executable, "-c", program, *arguments], cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def loaded(*statements: str) -> list[set[str]]:
    """The modules that each statement adds."""
    program = (
        "seen = set(sys.modules)\n"
        "for statement in sys.argv[1:]:\n"
        "    exec(statement)\n"
        "    added.append(sorted(set(sys.modules) - seen))\n"
        "    seen = set(sys.modules)"
    )
    return [set(names) for names in fresh(program, *statements)]


def test_what_is_loaded_and_when():
    """The import: facts, finder and door. The first call: the CPU backend. Never: another backend, or a framework."""
    _, first, call, names = loaded(
        "import numpy",
        "import pooling",
        "pooling.pool(numpy.ones((1, 4, 4, 1)), 'max', 2)",
        "import pooling.nn, pooling.functional",
    )
    assert {name for name in first if name.startswith("pooling")} == {
        "pooling", "pooling._api", "pooling._backends", "pooling._kept", *FACTS
    }  # fmt: skip
    first = {name for name in first if "cython" not in name}  # what the compiled part brings itself
    assert not {name for name in first if name.split(".")[0] not in ("pooling", *sys.stdlib_module_names)}
    rows = {name for name in call if name.startswith("pooling._cpu._rows")}
    assert len(rows - {"pooling._cpu._rows"}) == 1  # one build of the row loops; Cython enters the name of their source too
    compiled = {name for name in STUBS if name.startswith("pooling._cpu")} | rows
    assert {name for name in call if name.startswith("pooling")} == {
        "pooling._cpu", "pooling._cpu._gomp", "pooling._cpu._isa", "pooling._cpu._views", *compiled
    }  # fmt: skip
    heavy = ("mlx", "torch", "ml_dtypes", "scipy", "PIL", "numpy.testing")
    assert not {name for name in first | call | names if name.startswith(heavy)}
    assert {name for name in names if name.startswith("pooling")} == {"pooling.nn", "pooling.functional"}


# ---- what is public ------------------------------------------------------------------------------------------

SIGNATURES = {
    "pool": "x, mode, kernel, stride=None, padding=0, *, dilation=1, ceil_mode=False, count_include_pad=True, "
    "divisor_override=None, p=2.0, layout='channels_last', return_indices=False, dtype=None, out=None, backend=None",
    "pool_backward": "grad_output, x, mode, kernel, stride=None, padding=0, *, dilation=1, ceil_mode=False, "
    "count_include_pad=True, divisor_override=None, p=2.0, layout='channels_last', indices=None, backend=None",
    "adaptive_pool": "x, mode, output_size, *, p=2.0, layout='channels_last', return_indices=False, dtype=None, "
    "out=None, backend=None",
    "adaptive_pool_backward": "grad_output, x, mode, output_size, *, p=2.0, layout='channels_last', indices=None, backend=None",
    "global_pool": "x, mode, *, keepdims=True, p=2.0, layout='channels_last', return_indices=False, dtype=None, "
    "out=None, backend=None",
    "max_unpool": "x, indices, kernel, stride=None, padding=0, *, output_size=None, layout='channels_last', backend=None",
    "output_shape": "input_shape, kernel, stride=None, padding=0, *, dilation=1, ceil_mode=False, layout='channels_last'",
    "backends": "",
    "use_backend": "name",
    "set_num_threads": "n",
    "get_num_threads": "",
    "cpu_info": "",
}


def test_public_names():
    assert sorted(pooling.__all__) == sorted([*SIGNATURES, "MODES"])
    assert tuple(MODES) == pooling.MODES
    assert set(MODES) >= {"max", "min", "avg", "sum", "lp"}
    (visible,) = fresh("import pooling; added.append([name for name in dir(pooling) if name[0] != '_'])")
    assert sorted(visible) == sorted(pooling.__all__)


@pytest.mark.parametrize("name", SIGNATURES)
def test_signature(name):
    signature = inspect.signature(getattr(pooling, name))
    plain = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    assert str(inspect.Signature(plain)) == f"({SIGNATURES[name]})"
    assert all(parameter.annotation is not inspect.Parameter.empty for parameter in signature.parameters.values())


def documentation(name: str) -> str:
    """A docstring without its example, and those of the functions that it refers to: `pool`."""
    text = (inspect.getdoc(getattr(pooling, name)) or "").split(">>>")[0]
    return text + "".join(documentation(other) for other in re.findall(r"`(\w+)`", text) if other in SIGNATURES)


@pytest.mark.parametrize("name", SIGNATURES)
def test_documentation(name):
    function = getattr(pooling, name)
    assert ">>>" in (inspect.getdoc(function) or ""), "no example"
    for parameter in inspect.signature(function).parameters:
        assert re.search(rf"\b{parameter}\b", documentation(name)), parameter


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_version():
    """In the package, in the metadata to come, in the metadata installed (where it is), and in the changelog."""
    assert project()["version"] == pooling.__version__
    assert all(found.version == pooling.__version__ for found in metadata.distributions(name="pooling"))
    assert f"## {pooling.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_extras():
    """Every extra that a page or a message names exists, and every one that exists is named."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("pooling/**/*.py")]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    groups = re.findall(r'"(?:\.|pooling)\[([\w,]+)\]"', text)
    named = {extra for group in groups for extra in group.split(",")} | set(re.findall(r"extra `(\w+)`", text))
    assert named == set(project()["optional-dependencies"])


# ---- the tables ----------------------------------------------------------------------------------------------


def test_the_words_of_a_mode_exist():
    for row in ROWS.values():
        assert row.combine in COMBINES
        assert row.arithmetic in ARITHMETIC
        assert row.identity in ("lowest", "highest", "zero")
        assert row.gradient in ("choice", "share", "slope")
        assert not row.limit or row.limit in ROWS
        assert not row.indexed or COMBINES[row.combine].second, "an index needs to know which cell comes second"


@pytest.mark.parametrize("mode", ROWS)
def test_every_reachable_combination_has_its_loops(mode):
    """Every mode x cells x result that a call can ask for finds all its compiled loops."""
    row = ROWS[mode]
    asked = [None, *(name for name in DTYPES if name != "bool")]
    for (cell, result), indexed in product(product(DTYPES, asked), {"", "uint64"} if row.indexed else {""}):
        loops = _cpu._loops(Reduction(row), types_of(row.arithmetic, cell, result), indexed)
        assert isinstance(loops, _nest.Loops), (cell, result, indexed)


@pytest.mark.parametrize("name", STUBS)
def test_stubs_say_what_is_compiled(name):
    """The functions of the stub have the parameters of the extension's."""
    module = import_module(name)
    tree = ast.parse(STUBS[name].read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            written = [argument.arg for argument in node.args.args]
            assert written == list(inspect.signature(getattr(module, node.name)).parameters), node.name
        elif isinstance(node, ast.ClassDef | ast.AnnAssign):
            assert hasattr(module, node.name if isinstance(node, ast.ClassDef) else node.target.id)
