"""The comparison with other libraries: that wrong results are told apart, and that the page says what was found.

The libraries are asked in processes of their own, those that are installed; mlx always is.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pooling.testing import agree, cases, data, oracle

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "examples"))

import departures  # noqa: E402
import libraries  # noqa: E402
import ways  # noqa: E402

FIRST = "channels_first"
PAGE = ROOT / "docs" / "departures.md"
NAN, INF = np.nan, np.inf


def call(x, mode, kernel, g=None, dtype="float32", function="pool", **given):
    """A call on one row of cells."""
    x = np.array(x, dtype)
    x = x.reshape(1, 1, -1) if x.ndim == 1 else x
    arguments = {"mode": mode, "kernel": kernel, "layout": FIRST, **given}
    if function.startswith("adaptive"):
        del arguments["kernel"]
    arrays = {"x": x} if g is None else {"grad_output": np.array(g, dtype).reshape(1, 1, -1), "x": x}
    return ways.Call("of a test", function if g is None else f"{function}_backward", FIRST, arrays, arguments)


def answer(*arrays, dtype="float32"):
    return tuple(np.array(array, dtype if i == 0 else "int64").reshape(1, 1, -1) for i, array in enumerate(arrays))


# ---- the other ways to pool ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["max", "min", "avg", "sum"])
@pytest.mark.parametrize("function", ["pool", "adaptive_pool", "pool_backward", "adaptive_pool_backward"])
def test_without_a_way_it_is_the_oracle(function, mode):
    """On integers, where every order of additions gives the same: a second definition, against the first one."""
    compared, kind = 0, "special" if mode in ("max", "min") else "small_integers"
    for golden in cases(
        function=function, mode=mode, dtype="float32", layout=("channels_last", FIRST, "WCHN"), name="*/special/*"
    ):
        asked, backward = ways.Call.of(golden), function.endswith("_backward")
        if golden.question.result is not None or (backward and golden.indices) or "huge" in golden.features:
            continue
        if backward and mode == "avg" and (asked.adaptive or "padding" in golden.features):
            continue  # its quotients are not exact
        kinds = {"x": kind, "grad_output": "small_integers"}
        arrays = {name: data(array.shape, "float32", 3, kinds[name]) for name, array in asked.arrays.items()}
        if backward and mode == "avg":
            arrays["grad_output"] = arrays["grad_output"] * np.float32(np.prod(asked.each("kernel")))
        asked = replace(asked, arrays=arrays, answer=None)
        if asked.arguments.get("divisor_override") == 2**24 + 1:
            continue  # which float32 rounds
        for got, want in zip(ways.as_if(asked, {}), asked.expected, strict=True):
            assert agree(got, want), golden.name
        compared += 1
    assert compared > 10 or (function, mode) == ("adaptive_pool_backward", "avg")


WRONG = {
    "nan_ignored": (call([1, NAN, 2, NAN, NAN], "max", 2, stride=1), answer([1, 2, 2, -INF])),
    "nan_forgotten": (call([3, NAN, 2], "max", 3), answer([2])),
    "nan_padded": (call([2, NAN], "max", 2, g=[1, 3, 5], stride=1, padding=1), answer([1, 3])),
    "nan_compared": (call([1, NAN, 2], "max", 2, stride=1), answer([1, NAN])),
    "finite_start": (call([-INF, 1], "max", 1), answer([-3.4028235e38, 1])),
    "unmoved": (call([5, 0, 0], "max", 1, dtype="uint8", return_indices=True), answer([5, 0, 0], [0, 0, 0], dtype="uint8")),
    "ties_last": (call([1, 1], "max", 2, return_indices=True), answer([1], [1])),
    "ties_split": (call([1, 1, 0], "max", 3, g=[3]), answer([1.5, 1.5, 0])),
    "pad_zero": (call([-5, -6], "max", 2, padding=1, dtype="int8"), answer([0, 0], dtype="int8")),
    "stop_float32": (call([2**24 + 1], "max", 1, dtype="int32"), answer([2**24], dtype="int32")),
    "stop_int32": (call([2**32 + 5], "max", 1, dtype="int64"), answer([5], dtype="int64")),
    "same_undilated": (call([1, 2, 3, 4, 5], "max", 2, stride=1, padding="same", dilation=2), answer([3, 4, 5, 4])),
    "overhang": (call([1, 3, 5], "avg", 2, ceil_mode=True), answer([2, 2.5])),
    "uncounted": (call([2, 4], "avg", 2, stride=1, padding=1), answer([2, 3, 4])),
    "truncated": (call([-1, -2, 2**61 + 1, 2**61 + 2], "avg", 2, dtype="int64"), answer([-1, 2**61 + 1], dtype="int64")),
    "halved": (call([3, 4], "avg", 2, dtype="uint8"), answer([4], dtype="uint8")),
    "wraps": (call([100, 100], "sum", 2, dtype="int8"), answer([-56], dtype="int8")),
    "saturates": (call([100, 100], "avg", 2, dtype="int8"), answer([63], dtype="int8")),
    "flush": (call([2**-130], "sum", 1), answer([0])),
    "plain powers": (call([1e30], "lp", 1), answer([INF])),
    "signed": (call([-3, 2, 3, -2], "lp", 2, p=3.0), answer([NAN, np.cbrt(19)])),
    "mean": (call([3, 4, 4], "lp", 2, ceil_mode=True), answer([5, np.sqrt(32)])),
    "rows": (call([1, 2**-24, 2**-24, 2**-24], "sum", 4), answer([1])),
    "float64": (call([1, 2**-24, 2**-24], "sum", 3), answer([1 + 2**-23])),
    "any": (call([5], "avg", 3, padding=1, stride=3), answer([5 * np.float32(1 / 3)])),
    "own": (call([1024, 0.5, 0.5], "sum", 3, dtype="float16"), answer([1024], dtype="float16")),
}


@pytest.mark.parametrize("key", WRONG)
def test_a_wrong_result_is_explained(key):
    """Results that were worked out by hand."""
    asked, got = WRONG[key]
    assert not all(map(agree, got, asked.expected)), "it is right"
    assert (key,) in departures.explanations(got, asked)


def test_every_way_is_tested():
    other = {"depth", "whole", "nan_open", "rounded powers"}  # below
    assert set(WRONG) | other == set(departures.WAY)


def test_an_index_without_its_depth():
    x = np.full((1, 1, 2, 1, 2), -INF, "float32")
    asked = ways.Call("of a test", "pool", FIRST, {"x": x}, {"mode": "max", "kernel": 1, "layout": FIRST, "return_indices": True})
    got = x, np.array([0, 1, 0, 1]).reshape(x.shape)
    assert departures.explanations(got, asked) == [("depth",)]


def test_indices_through_the_whole_array():
    asked = call(np.arange(6).reshape(1, 2, 3), "max", 3, return_indices=True)
    got = np.array([[[2], [5]]], "float32"), np.array([[[2], [5]]])
    assert departures.explanations(got, asked) == [("whole",)]


@pytest.mark.parametrize("got", [NAN, 1, 4])
def test_a_nan_that_comes_and_goes(got):
    found = departures.explanations(answer([got, 5]), call([4, NAN, 1, 5, 5, 5], "max", 3))
    assert np.isnan(got) or ("nan_open",) in found
    assert not departures.explanations(answer([got, 6]), call([4, NAN, 1, 5, 5, 5], "max", 3))


def test_a_norm_of_another_rounding():
    asked = call([3, 5, 7], "lp", 3)
    near = np.nextafter(asked.expected[0], np.float32(INF))
    assert ("rounded powers",) in departures.explanations((near,), asked)
    assert not departures.explanations((asked.expected[0] * np.float32(1.01),), asked)


def test_two_ways_at_once():
    asked = call([1, NAN, 1, 1], "max", 2, stride=1, return_indices=True)
    assert departures.explanations(answer([1, 1, 1], [0, 2, 3]), asked) == [("nan_ignored", "ties_last")]


@pytest.mark.parametrize(
    "asked, got",
    [
        (call([1, 2, 3], "max", 2, stride=1), answer([2, 2.5])),
        (call([1, 2, 3], "max", 2, stride=1), answer([2, 3, 3])),
        (call([1, 2, 3], "avg", 2, stride=1), answer([1.5, 2.6])),
        (call([1, 2, 3], "max", 2, stride=1), answer([2, 3], dtype="float64")),
        (call([1, 2, 3], "sum", 3), answer([6.00001])),
    ],
)
def test_what_no_way_gives_is_not_explained(asked, got):
    assert departures.explanations(got, asked) == []


def test_few_ways_explain_many_calls():
    found = {
        "a": [("nan_ignored",), ("nan_compared",)],
        "b": [("nan_compared",)],
        "c": [("rows",), ("any",)],
        "d": [("any", "overhang"), ("rows", "overhang")],
        "e": [("any",), ("rows",)],
    }
    assert departures.cover(found) == {
        "a": ("nan_compared",),
        "b": ("nan_compared",),
        "c": ("rows",),
        "d": ("rows", "overhang"),
        "e": ("rows",),
    }


# ---- programs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", libraries.LIBRARIES, ids=lambda library: library.name)
def test_a_program_is_text_that_compiles(library):
    """Of every call that has words, without the library; and of those that have none, why."""
    told = set()
    for golden in cases(function=None, dtype=("float32", "int8", "bool", "bfloat16"), layout=library.layouts, name="*/special/*"):
        asked = ways.Call.of(golden)
        try:
            compile(library.program(asked), golden.name, "exec")
        except libraries.Cannot as error:
            told.add(str(error))
    assert told and all(re.match(r"[a-z]", reason) for reason in told)


def test_a_literal_is_read_back():
    for dtype in ("float32", "float16", "float64", "bfloat16", "int8", "bool"):
        x = data((2, 3), dtype, 1, "special")
        text = departures.listed(x)
        assert agree(np.array(eval(text, {"nan": NAN, "inf": INF})).astype(dtype), x)


@pytest.mark.parametrize("library", libraries.LIBRARIES, ids=lambda library: library.name)
def test_a_library_gives_what_the_oracle_gives(library):
    """In its own process, as the command asks it: maxima, which all of them have."""
    if library.missing():
        pytest.skip(f"{library.title} is not installed: {library.missing()}")
    (golden,) = cases(name=f"pool/stride_equals_kernel/max/float32/real/{library.layouts[0]}")
    asked = replace(ways.Call.of(golden), answer=None)
    ((what, got),) = departures.apart(departures.answers, library.name, [asked], 60)
    assert what == "gave", got
    assert agree(got[0], golden.expected[0])


# ---- a run, and its page ---------------------------------------------------------------------------------------------

NAMES = [
    "pool/pad_both/max/float32/real/channels_last",
    "pool/pad_both/max/int8/special/channels_last",
    "pool/pad_both/avg/float32/real/channels_last",
    "pool/dilated/max/float32/real/channels_last",
    "pool_backward/pad_both/max/float32/special/channels_last",
    "pool_backward/batch_empty/max/float32/real/channels_last",
]


@pytest.fixture(scope="module")
def report():
    mlx = departures.BY_NAME["mlx"]
    return departures.examine(mlx, print, [case for case in departures.everything(mlx) if case.name in NAMES])


def test_a_run_tells_what_came_of_each_call(report):
    assert [report.status[name] for name in NAMES] == ["agree", "departs", "rounding", "cannot", "departs", "refused"]
    assert report.words[NAMES[3]] == "dilation"
    assert not report.unexplained
    assert [one.title for one in report.departures if not one.rounding] == [
        departures.WAY[key].title for key in ("ties_split", "pad_zero")
    ]


def test_a_reproducer_is_small_and_runs_alone(report):
    for departure in report.departures:
        program, got, expected = departure.smallest
        assert got[0].size <= 16 and not agree(got[0], expected[0])
        done = subprocess.run([sys.executable, "-c", f"{program}\nprint(result.tolist())"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        values = np.array(eval(done.stdout, {"nan": NAN, "inf": INF}))
        assert agree(values.astype(got[0].dtype), got[0])


def test_the_page_says_it(report):
    absent = departures.Report(replace(departures.BY_NAME["torch"], title="Absent"), missing="absent: no such module")
    text = departures.page([absent, report], "the command")
    assert "## Absent\n\nNot run: absent: no such module.\n" in text
    assert "| [mlx.nn](#mlxnn) | 6 | 1 | 1 | 2 |  |  | 1 | 1 |\n" in text
    assert re.search(r"mlx 0\.\d+\.\d+", text) and "the command" in text
    for departure in report.departures:
        assert f"### mlx.nn: {departure.title}\n" in text and departure.smallest.program in text
    follow(text)


def test_what_is_unexplained_is_shown():
    mlx = departures.BY_NAME["mlx"]
    (golden,) = cases(name="pool/last_cells_dropped/max/float32/real/channels_last")
    asked, wrong = ways.Call.of(golden), golden.expected[0] + 1
    made = departures.Report(mlx, features={golden.name: golden.features})
    departures.explain(made, {golden.name: asked}, {golden.name: (wrong,)})
    text = departures.page([made], "the command")
    assert made.status == {golden.name: "unexplained"}
    assert f"- `{golden.name}` at (0, 0, 0, 0) gives " in text


def test_a_death_is_told():
    assert departures.told(departures.Died("the process ended with exit code -11")) == "the process dies: SIGSEGV"
    assert departures.told(departures.Died("the process ended with exit code -27")) == "no answer within 3 s"


def follow(text):
    """Every link within a page leads to a heading, every program compiles, every row of a table has all of its cells."""
    headings = {departures.slug(line.lstrip("# ")) for line in text.splitlines() if line.startswith("#")}
    assert set(re.findall(r"\]\(#([^)]*)\)", text)) <= headings
    for program in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        compile(program, "page", "exec")
    widths = [line.replace("\\|", "").count("|") for line in text.splitlines() if line.startswith("|")]
    rows = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert rows and all(len({line.replace("\\|", "").count("|") for line in row.splitlines()}) == 1 for row in rows), widths


def test_the_published_page_is_whole():
    text = PAGE.read_text(encoding="utf-8")
    follow(text)
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == [library.title for library in libraries.LIBRARIES]
    assert "Not run" not in text
    assert text.count("```python") >= text.count("\n### ") - text.count(": unexplained\n")


def test_the_oracle_is_not_changed_by_ways():
    """as_if's inputs are shared with the oracle's: nothing is written to them."""
    asked = call([1, NAN, 2], "max", 2)
    before = asked.x.copy()
    for way in departures.WAYS:
        knobs = way.knobs(asked)
        if knobs is not None:
            ways.as_if(asked, knobs)
    assert agree(asked.x, before) and agree(oracle.pool(before, "max", 2, layout=FIRST), asked.expected[0])
