"""The README's commands, tables and links name what exists.

Its Python examples run as doctests, and .ci/run runs its commands.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
from pathlib import Path

import pytest

import pooling
from pooling._dtypes import DTYPES
from pooling._window import PADDINGS

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def section(title: str) -> str:
    return re.split(r"^## ", TEXT.partition(f"## {title}\n")[2], flags=re.MULTILINE)[0]


def table(heading: str) -> list[str]:
    """The rows of the table whose first heading this is."""
    lines = TEXT[TEXT.index(f"| {heading} |") :].split("\n\n")[0].splitlines()
    return lines[2:]


def test_two_commands_do_all():
    """Two lines, one after the other in the file: .ci/run takes them from there."""
    assert [command.count("\n") for command in COMMANDS] == [1, 1]
    assert all(f"```sh\n{command}```" in section("Install and run") for command in COMMANDS)


@pytest.mark.parametrize("i, folder, extra, module", [(0, ".venv", "demo", "pooling"), (1, ".venv-test", "test", "pytest")])
def test_command(i, folder, extra, module):
    """Each makes its own environment, installs an extra that exists there, and runs what that brings."""
    make, install, run = COMMANDS[i].strip().split(" && ")
    assert make == f"python3 -m venv {folder}"
    assert install == f'{folder}/bin/python -m pip install -e ".[{extra}]"'
    assert run.split()[:3] == [f"{folder}/bin/python", "-m", module]
    assert importlib.util.find_spec(module) is not None
    assert re.search(rf"^{extra} = \[", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert ".venv*/" in (ROOT / ".gitignore").read_text(encoding="utf-8").split()


def test_extras_and_modules_in_the_text_exist():
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for extra in re.findall(r"\(extra `(\w+)`\)", TEXT):
        assert re.search(rf"^{extra} = \[", pyproject, re.MULTILINE), extra
    for module in re.findall(r"`(pooling(?:\.\w+)+)`", TEXT):
        found = module.removeprefix("pooling.").split(".")[0]
        assert hasattr(pooling, found) or importlib.util.find_spec(f"pooling.{found}"), module


def test_calls():
    """Every public function stands in the table, with arguments that it has."""
    calls = [re.match(r"(\w+)\((.*)\)", call) for row in table("call") for call in re.findall(r"`(.*?)`", row.split("|")[1])]
    assert {call[1] for call in calls} == {name for name in pooling.__all__ if callable(getattr(pooling, name))}
    for call in calls:
        shown = [part for part in call[2].split(", ") if part not in ("", "...", "*")]
        real = inspect.signature(getattr(pooling, call[1])).parameters
        assert [part.partition("=")[0] for part in shown] == list(real)[: len(shown)], call[0]
        for name, _, value in (part.partition("=") for part in shown):
            default = real[name].default
            assert value == ("" if default is inspect.Parameter.empty else repr(default)), call[0]


def test_tables_are_complete():
    assert set(re.findall(r'"(\w+)"', " ".join(row.split("|")[1] for row in table("mode")))) == set(pooling.MODES)
    assert set(re.findall(r'"(\w+)"', " ".join(table("geometry")))) == set(PADDINGS)
    cells = " ".join(row.split("|")[1] for row in table("cells"))
    for low, high in re.findall(r"`(u?int8)` to `(u?int64)`", cells):
        cells += "".join(f"`{low[:-1]}{bits}`" for bits in (16, 32))
        assert high[:-2] == low[:-1]
    assert set(re.findall(r"`(\w+)`", cells)) == set(DTYPES)


@pytest.mark.parametrize("target", re.findall(r"\]\((?!https?:)([^)#]+)", TEXT))
def test_link(target):
    assert (ROOT / target).is_file()


def test_the_implementations_are_all_there():
    """The table of MLX's implementations has those that backends() names."""
    named = {name for row in table("implementation") for name in re.findall(r"`(mlx:\w+)`", row.split("|")[1])}
    assert named == {name for name in pooling.backends() if ":" in name}
