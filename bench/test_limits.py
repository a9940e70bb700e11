"""`python -m bench limits`: that a problem is cut to a part of itself, and that the page has a row for every question."""

from __future__ import annotations

import limits
import pytest
from limits import CACHED, cut, least
from problems import PROBLEMS, questions, windows

import pooling

EVERY = [question for problem in PROBLEMS.values() for question in questions(problem)] + windows()


@pytest.mark.parametrize("question", EVERY, ids=str)
def test_the_same_windows_on_fewer_cells(question):
    small = cut(question)
    assert small.problem.window == question.problem.window and (small.dtype, small.part) == (question.dtype, question.part)
    assert all(n <= whole for n, whole in zip(small.problem.shape, question.problem.shape, strict=True))
    assert small.problem.shape[2] >= min(4 * question.problem.kernel, question.problem.shape[2])  # rows that windows share
    assert small.moved <= 8 * CACHED or question.problem.kernel > 5


def test_the_least_time():
    calls = []
    assert least(lambda: calls.append(None), 0) < 1
    assert len(calls) == 4  # the first one is not counted


def test_the_page(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(limits, "PAGE", tmp_path / "limits.md")
    threads = pooling.get_num_threads()
    try:
        assert limits.limits(["spp"], quick=True, write=True) == 0
    finally:
        pooling.set_num_threads(threads)  # it measures one
    text = (tmp_path / "limits.md").read_text()
    assert text in capsys.readouterr().out
    rows = [row for row in text.splitlines() if row.startswith("| spp |")]
    assert len(rows) == 2 and all(row.count("|") == len(limits.COLUMNS) + 1 and "%" in row for row in rows)


def test_an_unknown_problem(capsys):
    assert limits.limits(["box", "boxes"]) == 2
    assert "there is no problem boxes" in capsys.readouterr().err
