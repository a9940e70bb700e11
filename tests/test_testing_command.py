"""`python -m pooling.testing`: it asks everything, and reports every way in which a backend can be wrong.

Faults are planted in the public functions, which the command looks up at each call; for that, work is not done apart.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from importlib import import_module

import mlx.core as mx
import numpy as np
import pytest

import pooling
from pooling._dtypes import DTYPES
from pooling.testing import ADAPTIVE_CASES, CASES, UNPOOL_CASES, apart, ask, compare, data, golden, relayout

command = import_module("pooling.testing.__main__")
FUNCTIONS = ("pool", "pool_backward", "adaptive_pool", "adaptive_pool_backward", "max_unpool")
SOME = "*/cube*/[ma]*/float32/real"  # some tens of questions that take no time


def table(text: str) -> dict[str, list[int]]:
    """The numbers of each backend's line: cells, differ, calls, refused, failed."""
    rows = [line.replace(",", "").split() for line in text.splitlines() if re.match(r"\S+ +[\d,]+ +[\d,]+ +[\d,]+ ", line)]
    return {row[0]: [int(number) for number in row[1:6]] for row in rows}


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the command in this process; gives the exit code, the table and the text."""
    monkeypatch.setattr(command, "apart", lambda work, *arguments: work(*arguments))

    def run(*arguments, backend="cpu", only=SOME):
        code = command.main(["--backend", backend, "--only", only, *arguments])
        text = capsys.readouterr().out
        return code, table(text), text

    return run


# ---- what is asked -------------------------------------------------------------------------------------------


def test_every_combination_is_asked():
    asked = [name.split("/") for name, _ in golden.questions()]
    assert len(asked) == len({tuple(name) for name in asked})
    assert set(golden.TYPES) == set(DTYPES)
    modes = {name[2].partition("-")[0] for name in asked}
    assert modes == set(pooling.MODES)
    labels = {name[2] for name in asked if name[0] == "adaptive_pool"}
    assert {label for label in labels if label.startswith("lp")} == {f"lp-{p:g}" for p in golden.EXPONENTS}
    for function, cases in (("pool", CASES), ("adaptive_pool", ADAPTIVE_CASES)):
        own = [case.name for case in cases]
        found = [name for name in asked if name[0] == function and name[1] in own]
        assert len(found) == len(cases) * len(labels) * len(DTYPES) * len(golden.KINDS)
    assert len([name for name in asked if name[0] == "max_unpool"]) == len(UNPOOL_CASES) * len(DTYPES)
    assert {name[1] for name in asked if name[1].startswith("as_")} == {f"as_{name}" for name in DTYPES if name != "bool"}
    kinds = [DTYPES[name].kind for name in golden.QUICK]
    assert sorted(kinds) == sorted({row.kind for row in DTYPES.values()})


@pytest.mark.parametrize(
    "name, calls",
    [
        ("pool/cube/max/float32/real", {"pool": 2, "pool_backward": 2}),  # also with indices, which come and go
        ("pool/cube/avg/float32/real", {"pool": 1, "pool_backward": 1}),
        ("pool/cube/min/int8/real", {"pool": 2}),
        ("adaptive_pool/cube/lp-3/float16/real", {"adaptive_pool": 1, "adaptive_pool_backward": 1}),
        ("max_unpool/cube/max/uint64/special", {"max_unpool": 1}),
    ],
)
def test_a_question_is_asked_in_every_way(name, calls):
    rows = list(dict(golden.questions())[name]())
    layouts = ["channels_last", "channels_first", golden.LETTERS[5]]
    assert sorted(row.function for row in rows) == sorted(3 * [f for f, count in calls.items() for _ in range(count)])
    for function in calls:
        assert [row.arguments["layout"] for row in rows if row.function == function] == calls[function] * layouts
    for row in rows:
        assert row.arrays["x"].shape == relayout(np.empty(next(iter(rows)).arrays["x"].shape), row.arguments["layout"]).shape
        assert (row.bound() is None) == ("/lp" not in name)


@pytest.mark.parametrize("backend", ["cpu", "mlx"])
def test_backends_agree(backend):
    """As a user runs it, on one type and kind of data. MLX must be installed: its absence is a failure."""
    arguments = [sys.executable, "-m", "pooling.testing", "--backend", backend, "--quick", "--only", "*/pad*/*/float32/real"]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    family = [name for name in pooling.backends() if name.partition(":")[0] == backend]
    assert list(table(done.stdout)) == [name for name in family if f"not run: {name}: " not in done.stdout]
    assert backend in table(done.stdout)
    for cells, differ, calls, refused, failed in table(done.stdout).values():
        assert cells > 10_000 and calls > 500
        assert differ == refused == failed == 0
    assert "\x1b" not in done.stdout + done.stderr


def test_quick_leaves_out_types_only(run):
    code, rows, text = run("--quick", only="*/p*/avg/*/*")
    assert code == 0 and rows["cpu"][0] > 10_000
    assert len({name.split("/")[3] for name, _ in golden.questions(golden.QUICK)}) == len(golden.QUICK)
    assert f"{len([case for case in CASES if case.name[0] == 'p']) * len(golden.QUICK) * len(golden.KINDS)} questions" in text


# ---- planted faults ------------------------------------------------------------------------------------------


def one_cell(y):
    y = y.copy()
    if y.size:
        y.flat[y.size // 2] = 77 if y.flat[y.size // 2] != 77 else 78
    return y


def raises(y):
    raise MemoryError("no memory is left")


FAULTS = {
    "one cell": (one_cell, "got 77"),
    "NaN": (lambda y: np.where(y == y, y * np.nan, 0).astype(y.dtype), "got nan"),
    "type": (lambda y: y.astype(np.float64), "got float64"),
    "shape": (lambda y: y[..., None], "expected float32 ("),
    "exception": (raises, "raised MemoryError: no memory is left"),
    "no array": (lambda y: y.tolist(), "raised TypeError: the result is a list"),
}


def plant(monkeypatch, function, change, only=lambda keywords: True):
    real = getattr(pooling, function)

    def broken(**keywords):
        result = real(**keywords)
        if not only(keywords):
            return result
        return tuple(map(change, result)) if isinstance(result, tuple) else change(result)

    monkeypatch.setattr(pooling, function, broken)


def in_one_place(keywords):
    return keywords.get("layout") == "channels_first" and keywords["mode"] == "min"


HEALTHY = {}


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_reported(run, monkeypatch, function, fault):
    change, seen = FAULTS[fault]
    only = "max_unpool/*/max/float32/special" if function == "max_unpool" else SOME
    healthy = HEALTHY[only] = HEALTHY.get(only) or run(only=only)
    assert healthy[0] == 0 and healthy[1]["cpu"][1:] == [0, healthy[1]["cpu"][2], 0, 0]
    plant(monkeypatch, function, change)
    code, rows, text = run(only=only)
    _, differ, calls, _, failed = rows["cpu"]
    assert code == 1
    assert (failed if fault in ("exception", "no array") else differ) > 10
    assert calls == healthy[1]["cpu"][2], "the rest goes on"
    assert seen in text and f"call  {function}(" in text
    again = re.findall(r"again  (.*)", text)
    assert 3 <= len(again) <= command.SHOWN
    question = again[0].partition("python -m pooling.testing --backend cpu --only ")[2]
    assert run(only=question)[0] == 1


@pytest.mark.parametrize(
    "function, only",
    [
        ("pool", in_one_place),
        ("pool", lambda keywords: keywords["mode"] == "avg" and keywords.get("count_include_pad") is False),
        ("pool_backward", lambda keywords: "indices" in keywords),
        ("adaptive_pool", lambda keywords: keywords["mode"] == "lp" and keywords["p"] == 2.5),
    ],
)
def test_a_fault_of_few_calls_is_reported(run, monkeypatch, function, only):
    plant(monkeypatch, function, one_cell, only)
    code, rows, _ = run(only="*/[pd]*/*/float32/real")
    assert code == 1 and 0 < rows["cpu"][1] < rows["cpu"][2] / 3 and not rows["cpu"][4]


def test_a_wrong_index_is_reported(run, monkeypatch):
    real = pooling.pool

    def broken(**keywords):
        result = real(**keywords)
        return (result[0], one_cell(result[1])) if keywords.get("return_indices") else result

    monkeypatch.setattr(pooling, "pool", broken)
    code, _, text = run()
    assert code == 1 and "indices  at (" in text


def test_a_missing_index_is_reported(run, monkeypatch):
    real = pooling.pool
    monkeypatch.setattr(pooling, "pool", lambda **keywords: real(**keywords | {"return_indices": False}))
    assert run()[0] == 1


def test_a_norm_beyond_its_bound_is_reported(run, monkeypatch):
    plant(monkeypatch, "pool", lambda y: y * np.float32(1 + 2**-18), lambda keywords: keywords["mode"] == "lp")
    code, rows, _ = run(only="pool/pad_both/*/float32/real")
    assert code == 1 and rows["cpu"][1] > 100


def test_faults_are_counted_where_they_are_most(run, monkeypatch):
    plant(monkeypatch, "pool", one_cell, in_one_place)
    _, _, text = run(only="pool/*/m*/float32/real")
    often = re.search(r"cpu: ([\d,]+) faults; most often in (.*)", text)
    parts = dict(re.findall(r"(\S+) \(([\d,]+)\)", often[2]))
    assert parts["min"] == parts["channels_first"] == parts["float32"] == often[1]
    assert "max" not in parts


def refusing(sentence):
    def refuse(**keywords):
        raise TypeError(f"pool: backend 'x' refuses this call: {sentence} [x: shape (2, 3), float32]")

    return refuse


def test_refusals_are_listed_and_are_no_faults(run, monkeypatch):
    monkeypatch.setattr(pooling, "pool_backward", refusing("gradients take a day."))
    monkeypatch.setattr(pooling, "adaptive_pool", refusing("sizes are too small."))
    code, rows, text = run()
    refused = [int(count.replace(",", "")) for count in re.findall(r"refused ([\d,]+) calls: [gs]\S+ \S+ \S+ \S+\.$", text, re.M)]
    assert code == 0
    assert len(refused) == 2 and sum(refused) == rows["cpu"][3] > 0


def test_refusing_everything_is_no_success(run, monkeypatch):
    for function in FUNCTIONS:
        monkeypatch.setattr(pooling, function, refusing("not today."))
    code, rows, _ = run()
    assert code == 1 and rows["cpu"][0] == 0


def test_a_flushed_subnormal_is_allowed_where_the_device_flushes():
    want = np.array([2.0**-127, -(2.0**-126), 1.0, 0.0], np.float32)
    got = np.zeros(4, np.float32)
    assert compare.differing(got, want, None, True).tolist() == [False, True, True, False]
    assert compare.differing(got, want, None, False).tolist() == [True, True, True, False]


# ---- processes that die --------------------------------------------------------------------------------------


def dying(way):
    yield "first"
    if way == "abort":
        os.abort()
    if way == "hang":
        time.sleep(60)
    if way == "raise":
        raise ValueError("all is lost")
    yield "second"


@pytest.mark.parametrize(
    "way, sentence",
    [("abort", "ended with exit code -"), ("hang", "no answer within 3 s"), ("raise", "it raised ValueError: all is lost")],
)
def test_apart_tells_how_a_process_died(way, sentence):
    got = []
    with pytest.raises(apart.Died, match=sentence):
        got.extend(apart.apart(dying, way, patience=3))
    assert list(apart.apart(dying, "live")) == ["first", "second"]


def test_the_rest_is_asked_after_a_death(monkeypatch, capsys):
    """The second process begins after the question at which the first one died."""
    begun = []

    def deadly(work, *arguments, **options):
        if work is ask.reasons:
            yield {"cpu": None}
            return
        begun.append(arguments[1])
        for number, item in enumerate(work(*arguments)):
            if number == 4 and len(begun) < 3:
                raise apart.Died("the process ended with exit code -6")
            yield item

    monkeypatch.setattr(command, "apart", deadly)
    assert command.main(["--backend", "cpu", "--only", "pool/pad*/avg/float32/real"]) == 1
    text = capsys.readouterr().out
    total = len(begun[0])
    assert [len(names) for names in begun] == [total, total - 4, total - 8]
    assert f"FAULT cpu: {begun[0][3]}\n  the process ended with exit code -6\n  again" in text
    assert table(text)["cpu"][4] == 2


def test_it_gives_up_after_many_deaths(monkeypatch, capsys):
    def deadly(work, *arguments, **options):
        if work is not ask.reasons:
            raise apart.Died("the process ended with exit code -6")
        yield {"cpu": None}

    monkeypatch.setattr(command, "apart", deadly)
    assert command.main(["--backend", "cpu", "--only", "pool/pad*/avg/float32/*"]) == 1
    text = capsys.readouterr().out
    asked = len(golden.KINDS) * sum(case.name.startswith("pad") for case in CASES)
    assert f"{command.DEATHS} processes died; {asked - command.DEATHS} questions were not asked" in text


def test_an_interrupt_tells_what_was_done(monkeypatch, capsys):
    def interrupted(work, *arguments):
        for number, item in enumerate(work(*arguments)):
            if number == 4:
                raise KeyboardInterrupt
            yield item

    monkeypatch.setattr(command, "apart", interrupted)
    assert command.main(["--backend", "cpu", "--only", "pool/cube*/avg/float32/real"]) == 2
    told = capsys.readouterr()
    assert "cpu: interrupted; 2 questions were not asked" in told.out and table(told.out)["cpu"][2] == 18
    assert "interrupted" in told.err


# ---- arguments -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["--backend", "gpu"], "a backend is one of cpu, mlx"),
        (["--backend", "absent"], "nothing of it is usable here"),
        (["--backend", "cpu", "--only", "pool/no_such_case/*"], "no question has such a name"),
        ([], "--backend"),
        (["--backend", "cpu", "--fast"], "--fast"),
    ],
)
def test_what_cannot_run(monkeypatch, capsys, arguments, sentence):
    reasons = {"cpu": None, "mlx": "it is not installed.", "absent": "there is no such machine."}
    monkeypatch.setattr(command, "apart", lambda work, *_: iter([reasons]))
    try:
        code = command.main(arguments)
    except SystemExit as end:
        code = end.code
    told = capsys.readouterr()
    assert code == 2 and sentence in told.err
    assert "absent" not in arguments or "not run: absent: there is no such machine." in told.out


def test_a_family_runs_what_is_usable(run, monkeypatch):
    reasons = {"cpu": None, "cpu:fast": None, "cpu:slow": "it is too slow.", "other": None}
    monkeypatch.setattr(pooling, "backends", lambda: reasons)
    real = pooling.pool
    monkeypatch.setattr(pooling, "pool", lambda **keywords: real(**keywords | {"backend": "cpu"}))
    code, rows, text = run(only="pool/pad_both/avg/int8/real")
    assert code == 0 and list(rows) == ["cpu", "cpu:fast"]
    assert "not run: cpu:slow: it is too slow." in text
    assert list(run(backend="cpu:fast", only="pool/pad_both/avg/int8/real")[1]) == ["cpu:fast"]


def test_progress_on_a_terminal_only(run, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(command.time, "perf_counter", iter(np.arange(0.0, 1e6)).__next__)
    command.main(["--backend", "cpu", "--only", "pool/pad_both/avg/*/real"])
    told = capsys.readouterr()
    assert re.search(rf"\r\x1b\[2Kcpu: 3 of {len(golden.TYPES)} questions, 0 cells differ", told.err)
    assert "\x1b" not in told.out


# ---- MLX's arrays --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", golden.TYPES)
def test_mlx_arrays_are_the_same_cells(dtype):
    kind = ask.kind_of("mlx", "cpu")
    for shape in ((2, 3, 4, 5), (2, 0, 3), (1, 1, 1)):
        x = data(shape, dtype, 1, "special")
        for array in (x, x.T, x[::-1]):
            assert kind.take(kind.give(array)).tobytes() == array.tobytes()
    with pytest.raises(TypeError, match="not an mx"):
        kind.take(np.zeros(3))


def test_what_a_gpu_is_given(monkeypatch):
    """There float64 is refused and not tried, norms have float32's bound, and subnormals may vanish."""
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.gpu))
    kind = ask.kind_of("mlx:ops")
    assert (kind.working, kind.flushes) == (golden.SINGLE, True) and "Device(gpu, 0)" in kind.device
    monkeypatch.undo()
    rows = dict(golden.questions())["pool/cube/max/float64/real"]
    verdict = ask.ask("mlx:ops", kind, "pool/cube/max/float64/real", rows())
    assert verdict.refusals == {"MLX has float64 on its CPU device only.": verdict.calls}
    assert verdict.calls == 12 and not verdict.failed and not verdict.cells
    bounds = [
        next(dict(golden.questions())["pool/cube/lp-3/float32/real"]()).bound(working)
        for working in (golden.DOUBLE, golden.SINGLE)
    ]
    assert (bounds[0] < bounds[1]).all()
