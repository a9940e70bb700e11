"""The suite has teeth: every backend of saboteurs.py is rejected, by the case whose name says so, and the control is not.

Each is asked as pooling.testing.check asks anyone's function, as `python -m pooling.testing --backend` asks a backend, and by
the tests of test_agreement.py. Its mistake must show in the named case and not in the one beside it; and of all that it is
asked, nothing may fail but where the mistake can be: a case says what it says.
"""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
import saboteurs
import test_agreement as suite
from agreement import label, modes
from saboteurs import CONTROL, SABOTEURS, UNSEEN, backend

import pooling
from pooling.testing import ADAPTIVE_CASES, CASES, FUNCTIONS, UNPOOL_CASES, Mismatch, check
from pooling.testing.call import Function
from pooling.testing.check import selected

command = import_module("pooling.testing.__main__")
every = pytest.mark.parametrize("row", SABOTEURS, ids=lambda row: row.name)


@pytest.fixture(autouse=True)
def quiet():
    """A mistake may overflow, or divide by 0."""
    with np.errstate(all="ignore"):
        yield


@pytest.fixture
def planted(monkeypatch):
    """Puts a saboteur in the place of pooling's functions."""

    def plant(row):
        for name in (*FUNCTIONS, "global_pool"):
            monkeypatch.setattr(pooling, name, getattr(backend(row), name))

    return plant


def beside(row):
    """The case that is spared, written as row.case is."""
    function, _, *rest = row.case.split("/")
    return "/".join([function, row.spared, *rest])


def around(row):
    """What a saboteur is asked: its function, in its mode and another one, in its type, on every problem."""
    function, _, label, dtype, _ = row.case.split("/")
    mode = label.partition("-")[0]
    other = [] if function == "max_unpool" else ["sum" if mode != "sum" else "max"]
    return {"function": function, "mode": [mode, *other], "dtype": dtype, "layout": "channels_last"}


def asked(row, function):
    """The simplest calls first; those of 2**31 cells only where they are named: a mistake there may count up to that."""
    huge = "huge" in row.case
    return [golden for golden in selected(function, around(row)) if huge or "huge" not in golden.features]


def test_there_are_enough():
    rows = (CONTROL, *SABOTEURS, *UNSEEN)
    assert len(SABOTEURS) >= 16
    assert len({row.name for row in rows}) == len({row.edits for row in rows}) == len(rows)
    assert {row.case.split("/")[0] for row in SABOTEURS} == {*FUNCTIONS} - {"adaptive_pool_backward"}


def test_a_text_that_is_gone_is_no_saboteur():
    with pytest.raises(ValueError, match="gone: the oracle has 0 times 'no such words'"):
        backend(saboteurs.Saboteur("gone", (("no such words", "others"),)))


@every
def test_check_rejects(row):
    """By the named case; and all that fails lies where the mistake can be."""
    fn = getattr(backend(row), row.case.partition("/")[0])
    with pytest.raises(Mismatch) as told:
        check(fn, spelled=True, **around(row), name=f"{row.case}/*")
    assert f"{row.case}/channels_last" in str(told.value)
    assert check(fn, spelled=True, **around(row), name=f"{beside(row)}/*")
    function = Function(fn, spelled=True)
    failed = [golden for golden in asked(row, function) if function.fault(golden) is not None]
    elsewhere = [golden.name for golden in failed if not row.within(golden)]
    assert failed and not elsewhere, elsewhere[:20]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_check_passes_the_control(function):
    """Every case by which a saboteur falls, and all that has its type, in two modes."""
    named = [f"{row.case}/*" for row in SABOTEURS if row.case.startswith(f"{function}/")]
    fn = getattr(backend(CONTROL), function)
    assert not named or check(fn, spelled=True, function=function, dtype=None, name=named)
    mode = ["max"] if function == "max_unpool" else ["max", "avg"]
    assert not check(fn, spelled=True, function=function, layout="channels_last", mode=mode, feature=None).skipped


def question(case):
    """The command's name for it: a gradient is asked with what it is the gradient of."""
    return case.replace("_backward", "")


@pytest.fixture
def told(monkeypatch, capsys):
    """Asks as the command does, in this process: the exit code, and what it printed."""
    monkeypatch.setattr(command, "apart", lambda work, *arguments: work(*arguments))

    def told(case):
        code = command.main(["--backend", "cpu", "--only", question(case)])
        return code, capsys.readouterr().out

    return told


@every
def test_the_command_rejects(row, planted, told):
    planted(row)
    code, text = told(row.case)
    assert code == 1 and f"FAULT cpu: {question(row.case)}" in text and f"call  {row.case.partition('/')[0]}(" in text, text
    assert told(beside(row))[0] == 0


def test_the_command_passes_the_control(planted, told):
    planted(CONTROL)
    for case in sorted({question(row.case) for row in SABOTEURS}):
        assert told(case)[0] == 0, case


def suited(case):
    """The test of the suite that asks this case, on the CPU's backend."""
    function, name, mode, *_ = case.split("/")
    if name.startswith("as_"):
        return lambda: suite.test_result_types(mode, name.removeprefix("as_"), "cpu")
    [problem] = [
        problem
        for problem in {"adaptive_pool": ADAPTIVE_CASES, "max_unpool": UNPOOL_CASES}.get(function, CASES)
        if problem.name == name
    ]
    if function == "max_unpool":
        return lambda: suite.test_max_unpool(problem, "cpu")
    [own] = [own for own in modes() if label(own) == mode]
    return lambda: getattr(suite, f"test_{function}")(problem, own, "cpu")


@every
def test_the_suite_rejects(row, planted):
    planted(row)
    with pytest.raises(AssertionError):
        suited(row.case)()


def test_the_suite_passes_the_control(planted):
    planted(CONTROL)
    for case in sorted({row.case for row in SABOTEURS}):
        suited(case)()
