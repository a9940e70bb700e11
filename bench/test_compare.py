"""`python -m bench compare`: the workers with rivals that crash, hang, fail and lie, the order and statistics of the times, what
the lines of the contract select and say, and what is written where. No time is asserted.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from dataclasses import replace
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import compare
import contract
import numpy as np
import pytest
import rivals
import workers
from compare import Options, Progress, between, block, columns, heading, notes, rivals_in, survey, wanted
from contract import LINES, ONE, Row, geometric_mean, over, over_memcpy, over_one_thread, verdict
from problems import PROBLEMS, SMALL_TYPES, Question, questions, windows
from rivals import MEMCPY, POOLING, RIVALS, Library

ROOT = Path(__file__).parents[1]
SMALL = Question(PROBLEMS["vgg"].small())
IN_TEST = ("mlx.nn", "SciPy", "scikit-image", "NumPy")  # what the extra `test` installs


def small(question):
    return replace(question, problem=question.problem.small())


# ---- every library, in its process -----------------------------------------------------------------------------------------


def test_all_questions_to_all_libraries_that_tests_install():
    """Ours answers everything; the rivals answer something, and nothing that differs."""
    libraries = [RIVALS[name] for name in IN_TEST]
    assert all(compare.installed(library) for library in libraries)
    asked = [small(question) for problem in PROBLEMS.values() for question in questions(problem)]
    rows = list(survey(asked, columns(libraries, 2, 60.0), 1, 0.0))
    assert [row.question for row in rows] == asked and not list(notes(rows))
    for row in rows:
        assert row.plain("first") and row.plain("last") and row.seconds("memcpy")
        assert (row.out("first") is None) == (row.question.part == "backward")
    assert set(rivals_in(rows)) == {library.column(way) for library in libraries for way in library.ways}


FAKES = """
import os, signal, time
import numpy as np
import rivals

def honest(question, way, threads):
    return rivals.with_numpy(question, "sliding_window_view", threads)

def crash(question, way, threads):
    if question.dtype == "float32":
        os.kill(os.getpid(), signal.SIGSEGV)
    return honest(question, way, threads)

def leave(question, way, threads):
    os._exit(3)

def hang(question, way, threads):
    return lambda: time.sleep(600), None

def prepare(question, way, threads):
    time.sleep(2.5)
    run, answer = honest(question, way, threads)
    return run, lambda y: time.sleep(2.5) or answer(y)

def refuse(question, way, threads):
    raise NotImplementedError("no such type\\nand a long story")

def silent(question, way, threads):
    return None

def wrong(question, way, threads):
    run, answer = honest(question, way, threads)
    return run, lambda y: (np.where(np.arange(y.size).reshape(y.shape) == 7, y + 1, y),)

def narrow(question, way, threads):
    run, answer = honest(question, way, threads)
    return run, lambda y: (y.astype("float16"),)

def short(question, way, threads):
    run, answer = honest(question, way, threads)
    return run, lambda y: (y[1:],)

def later(question, way, threads):
    run, answer = honest(question, way, threads)
    calls = []
    def tired():
        calls.append(None)
        if len(calls) > 3:
            raise MemoryError("enough")
        return run()
    return tired, answer

def threads(question, way, threads):
    names = ("OMP_NUM_THREADS", "POOLING_NUM_THREADS")
    raise ValueError(f"{threads} {[os.environ[name] for name in names]} {len(os.sched_getaffinity(0))}")
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Libraries whose functions stand in a module of their own, where the worker finds it too."""
    (tmp_path / "fake_libraries.py").write_text(FAKES, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    fake_libraries = import_module("fake_libraries")
    yield lambda name, needs=(): Library(name, needs, ("",), getattr(fake_libraries, name))
    del sys.modules["fake_libraries"]


def test_what_goes_wrong_has_a_sentence_and_stops_nothing(fake):
    names = ("honest", "crash", "leave", "hang", "refuse", "silent", "wrong", "narrow", "short", "later")
    asked = [SMALL, replace(SMALL, dtype="int32")]
    rows = list(survey(asked, columns([fake(name) for name in names], 1, 2.0), 1, 0.0))
    cells = SMALL.problem.result_shape
    first = {name: found for name, found in rows[0].times.items() if name in names and isinstance(found, str)}
    assert first == {
        "crash": "crashes: SIGSEGV",
        "leave": "crashes: exit status 3",
        "hang": "no answer within 2 s",
        "refuse": "fails: NotImplementedError: no such type",
        "wrong": f"differs: 1 of {np.prod(cells)} cells",
        "narrow": f"differs: float16 {cells}, not float32 {cells}",
        "short": f"differs: float32 {(cells[0] - 1, *cells[1:])}, not float32 {cells}",
    }
    assert rows[0].rivals().keys() == {"honest", "later"} and "silent" not in rows[0].times
    assert rows[1].times["hang"] == f"not asked: no answer in time with a window of {SMALL.problem.kernel}"
    assert rows[1].seconds("crash"), "a process that has crashed is started again"
    assert all(row.plain("first") and row.plain("last") for row in rows)
    text = "\n".join(notes(rows))
    assert f"- leave: crashes: exit status 3 ({rows[0].question}; {rows[1].question})" in text
    shown = dict(
        zip(compare.TITLES + list(names), next(compare.lines_of(rows[0], list(names))).strip("| ").split(" | "), strict=True)
    )
    assert (shown["crash"], shown["hang"], shown["wrong"], shown["silent"]) == ("crashes", "too slow", "differs", "-")


def test_a_rival_that_fails_while_it_is_timed(fake):
    (row,) = survey([SMALL], columns([fake("later"), fake("honest")], 1, 60.0), 3, 0.0)
    assert row.times["later"] == "fails: MemoryError: enough" and row.seconds("honest")


def test_only_calls_are_limited(fake):
    """Not what comes before and after: arrays to make, answers to compare."""
    (row,) = survey([SMALL], columns([fake("prepare")], 1, 2.0), 1, 0.0)
    assert row.seconds("prepare")


def test_a_worker_has_its_threads_before_it_imports(fake):
    (row,) = survey([SMALL], columns([fake("threads")], 1, 60.0), 1, 0.0)
    assert row.times["threads"] == "fails: ValueError: 1 ['1', '1'] 1"


def test_a_library_that_cannot_be_imported(fake):
    (row,) = survey([SMALL], columns([fake("honest", ("no_such_library",))], 1, 60.0), 1, 0.0)
    assert row.times["honest"] == "fails: ModuleNotFoundError: No module named 'no_such_library'"


def test_missing_libraries_are_named(fake, monkeypatch):
    monkeypatch.setitem(RIVALS, "absent", fake("honest", ("no_such_library",)))
    assert not compare.installed(RIVALS["absent"])
    assert re.search(r"left out: .*\babsent\b", "\n".join(heading([], 1)))


def test_where_ours_fails_nothing_is_compared(fake, monkeypatch):
    monkeypatch.setattr(compare, "POOLING", replace(POOLING, start=fake("refuse").start))
    (row,) = survey([SMALL], columns([fake("honest")], 1, 60.0), 1, 0.0)
    assert row.times == {"pooling first": "fails: NotImplementedError: no such type"}


@pytest.mark.parametrize("part, mode", [("forward", "max"), ("forward", "avg"), ("backward", "max"), ("backward", "avg")])
def test_agreement(part, mode):
    """One unit in the last place is forgiven an average, and nothing a maximum."""
    question = Question(replace(PROBLEMS["nasnet"].small(), mode=mode), part=part)
    run, answer = POOLING.start(question, "first", 1)
    (want,) = answer(run())
    workers.compare(question, want.astype("float64"), want)
    near, far = np.nextafter(want, np.float32(np.inf)), want * np.float32(1 + 2**-17) + np.float32(2**-17)
    with pytest.raises(workers.Failed, match="differs: "):
        workers.compare(question, want.astype("float64"), far)
    if mode == "max":
        with pytest.raises(workers.Failed, match="differs: "):
            workers.compare(question, want.astype("float64"), near)
    else:
        workers.compare(question, want.astype("float64"), np.where(want == 0, want, near))


@pytest.mark.parametrize("spinning, patience, asleep", [(0.0, 60, True), (0.3, 60, True), (float("inf"), 0.05, False)])
def test_a_worker_answers_when_its_threads_have_gone_to_sleep(monkeypatch, spinning, patience, asleep):
    """Libraries keep threads spinning for more work, in the way of the next one; and some for so long that nobody waits."""
    monkeypatch.setattr(workers, "SPINNING", patience)
    threads, done = [], threading.Event()

    def spin(end):
        while time.monotonic() < end and not done.is_set():
            pass

    def run():
        threads.append(threading.Thread(target=spin, args=[time.monotonic() + spinning]))
        threads[0].start()

    workers.Subject(lambda *told: (run, None), 2).burst(Question(PROBLEMS["vgg"]), "", 1)
    assert threads[0].is_alive() is not asleep
    done.set()
    threads[0].join()


def test_calls_are_timed_when_the_threads_are_awake(monkeypatch):
    """The first calls after a sleep may have one core for all threads."""
    monkeypatch.setattr(workers, "WARM", 0.2)
    first = []

    def run():
        first.append(time.monotonic())
        time.sleep(0.05 if time.monotonic() < first[0] + 0.1 else 0)

    subject = workers.Subject(lambda *told: (run, None), 2)
    assert subject.burst(Question(PROBLEMS["vgg"]), "", 3) < 0.05 and len(first) > 5
    first.clear()
    assert subject.burst(Question(PROBLEMS["vgg"]), "", 1) >= 0.05 and len(first) == 1, "a long call is made once"


@pytest.mark.parametrize("dtype", [*SMALL_TYPES, "int32", "float32", "float64"])
def test_maxima_of_neighbours_differ(dtype):
    """No library has a choice between equal cells, as far as the type allows; averages are of exact sums."""
    x = PROBLEMS["stem"].cells(dtype=dtype).astype("float64")
    same = np.mean(x[..., 1:] == x[..., :-1])
    assert same == 0
    assert (x.min() < 0) == (dtype != "uint8")
    assert set(np.unique(PROBLEMS["box"].cells(dtype=dtype).astype("float64"))) == set(range(0, 60, 4))


# ---- in turn, and the median -----------------------------------------------------------------------------------------------


class Scripted:
    """A worker that answers from a list, and writes down what it is asked."""

    def __init__(self, name, first, bursts, log, threads=2):
        self.library, self.first, self.bursts, self.log = Library(name, (), ("",), None), first, list(bursts), log

    def agree(self, question, way, answer, keep):
        self.log.append((self.library.name, "agree", keep))
        return self.first

    def burst(self, question, way, calls):
        self.log.append((self.library.name, "burst", calls))
        return self.bursts.pop(0)

    def stop(self):
        self.log.append((self.library.name, "stop"))


def test_in_turn_and_the_median(monkeypatch):
    log, pauses = [], []
    monkeypatch.setattr(compare.time, "sleep", pauses.append)
    scripts = {
        "A": (0.001, [5.0, 1.0, 3.0, 4.0, 1.0]),
        "B": (0.004, [2.0, 9.0, 4.0, 5.0, 6.0]),
        "slow": (0.7, []),
        "heavy": (0.4, [0.1, 0.3, 0.4]),
    }
    all_columns = [compare.Column(name, Scripted(name, *script, log), "") for name, script in scripts.items()]
    (row,) = survey([SMALL], all_columns, 5, 0.02)
    assert row.times == {"A": 3.0, "B": 5.0, "slow": 0.7, "heavy": 0.3}
    assert [entry[0] for entry in log[:4]] == list(scripts)
    assert [entry[2] for entry in log[:4]] == [True, False, False, False], "ours, the first, keeps its answer"
    burst = [entry for entry in log if entry[1] == "burst"]
    turn = [("A", "burst", 20), ("B", "burst", 5), ("heavy", "burst", 1)]
    assert burst == turn * 3 + turn[:2] * 2, "a heavy one has fewer bursts"
    assert pauses == [compare.PAUSE] * len(burst)
    assert [entry[0] for entry in log[-4:]] == list(scripts) and {entry[1] for entry in log[-4:]} == {"stop"}


def test_who_is_too_slow_is_not_asked_about_larger_windows():
    log = []

    class Hangs(Scripted):
        def agree(self, question, way, answer, keep):
            self.log.append(question.problem.kernel)
            if question.problem.kernel >= 21:
                raise workers.Failed("no answer within 5 s")
            return 0.1

    ours = compare.Column("ours", Scripted("ours", 0.1, [0.1] * 99, []), "")
    slow = compare.Column("slow", Hangs("slow", 0.1, [0.1] * 99, log), "")
    rows = list(survey(windows(), [ours, slow], 1, 0.0))
    sizes = [kernel for kernel in log if not isinstance(kernel, tuple)]
    assert sizes == [2, 3, 5, 9, 15, 21] * 2, "of dilate and of box"
    assert rows[-1].times["slow"] == "not asked: no answer in time with a window of 21"


def test_one_thread_is_asked_where_it_is_compared():
    one = [column for column in columns([], 2, 1.0) if column.name.endswith(f"out{ONE}")]
    asked = {str(q) for p in PROBLEMS.values() for q in questions(p) if any(compare.fits(column, q) for column in one)}
    assert "stem max 3 float32 forward" in asked
    assert not asked & {"stem max 3 uint8 forward", "stem max 3 float32 indices", "tiny max 2 float32 forward"}
    assert not {"sequence max 2 float32 forward", "spp max 13 float32 forward"} & asked, "131 MB, and 0.8"
    for name, ours in (("stem", [f"pooling first out{ONE}", f"pooling last out{ONE}"]), ("tiny", [])):
        fitting = [column.name for column in columns([], 2, 1.0) if compare.fits(column, Question(PROBLEMS[name]))]
        assert fitting[5:] == [*ours, f"memcpy{ONE}"]
    assert not [column for column in columns([], 1, 1.0) if column.name.endswith(ONE)]


# ---- what is asked, and the bytes ------------------------------------------------------------------------------------------


def test_bytes():
    x, y = 8 * 64 * 112 * 112, 8 * 64 * 56 * 56
    moved = {(q.dtype, q.part): q.moved for q in questions(PROBLEMS["stem"])}
    assert moved["float32", "forward"] == 4 * (x + y)
    assert moved["uint8", "forward"] == x + y
    assert moved["bfloat16", "forward"] == 2 * (x + y)
    assert moved["float32", "indices"] == 4 * (x + y) + 8 * y
    assert moved["float32", "backward"] == 4 * (x + y) + 8 * y
    mean = {(q.dtype, q.part): q.moved for q in questions(PROBLEMS["transition"])}
    x, y = 8 * 128 * 56 * 56, 8 * 128 * 28 * 28
    assert mean["float32", "backward"] == 4 * (x + y)
    assert mean["uint8", "forward"] == x + 4 * y, "the average of bytes is float32"
    assert Question(PROBLEMS["transition"], "float16").input_bytes == 2 * x
    assert Question(PROBLEMS["pyramid"], "uint8").moved == 3 * (2048**2 + 1024**2), "images stay bytes"


@pytest.mark.parametrize("question", [question for problem in PROBLEMS.values() for question in questions(problem)], ids=str)
def test_the_arrays_are_those_that_are_counted(question):
    asked = small(question)
    run, answer = POOLING.start(asked, "last", 1)
    values, *indices = answer(run())
    result = asked.problem.shape if question.part == "backward" else asked.problem.result_shape
    assert values.shape == result and values.dtype == asked.problem.result_dtype(question.dtype)
    assert [(i.shape, i.dtype) for i in indices] == [(result, np.int64)] * (question.part == "indices")
    assert asked.problem.cells(dtype=question.dtype).dtype == question.dtype
    assert asked.input_bytes == asked.problem.cells(dtype=question.dtype).nbytes


def test_every_question_is_asked_once():
    asked = wanted(list(PROBLEMS.values()), options())
    assert len(asked) == len(set(asked)) == sum(len(questions(p)) for p in PROBLEMS.values()) + len(windows()) - 2
    quick = wanted(list(PROBLEMS.values()), options(quick=True))
    assert [question.problem.name for question in quick] == list(PROBLEMS)
    assert wanted([PROBLEMS["tiny"]], options()) == [Question(PROBLEMS["tiny"])]


def options(**changes):
    given = Options(quick=False, only=None, rivals=None, rounds=1, threads=2, limit=5.0, json=None, load=None, write=False)
    return replace(given, **changes)


# ---- the contract ------------------------------------------------------------------------------------------------------------


def row(question, **times):
    """A row with these seconds; a name's underscores are spaces."""
    return Row(question, {name.replace("_", " "): time for name, time in times.items()})


def test_out_counts_above_16_megabytes_and_where_it_exists():
    large, little = Question(PROBLEMS["stem"]), Question(PROBLEMS["spp"])
    times = {"pooling_first": 4.0, "pooling_first_out": 3.0, "memcpy": 2.0, "torch_first": 8.0, "torch_last": 5.0, "JAX": 2.5}
    assert large.moved > contract.LARGE > little.moved
    assert over_memcpy(row(large, **times), "first") == 1.5
    assert over_memcpy(row(little, **times), "first") == 2.0
    backward = row(replace(large, part="backward"), pooling_first=4.0, memcpy=2.0)
    assert over_memcpy(backward, "first") == 2.0
    assert over("torch")(row(large, **times), "first") == 0.8
    assert over("")(row(large, **times), "first") == 1.6
    assert row(large, **times).best() == ("JAX", 2.5)
    assert over_memcpy(row(large, **times), "last") is None, "not measured"
    assert over_memcpy(Row(little, row(little, **times).times | {f"memcpy{ONE}": 1.0}), "first") == 4.0, "the faster memcpy"
    one = Row(large, {"pooling first out": 3.0, f"pooling first out{ONE}": 4.0, f"memcpy{ONE}": 0.1})
    assert over_one_thread(one, "first") == 0.75 and one.best() is None


def test_a_sentence_is_no_time():
    found = row(SMALL, pooling_first=1.0, memcpy=1.0, torch_first="crashes: SIGSEGV", JAX=3.0)
    assert found.best() == ("JAX", 3.0) and found.seconds("torch first") is None


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{line.what}, {line.than}")
def test_a_line_selects_and_judges(line):
    """Every line is about something that is measured; it holds at its limit and not above, in either layout."""
    chosen = [question for question in wanted(list(PROBLEMS.values()), options()) if line.of(question)]
    assert chosen

    def rows(worst):
        found = []
        for question in chosen:
            last = line.limit * worst if question == chosen[-1] else line.limit
            ours = {f"pooling {layout}{out}": t for layout, t in (("first", line.limit), ("last", last)) for out in ("", " out")}
            ones = {f"pooling {layout} out{ONE}": 1.0 for layout in ("first", "last")}
            found.append(Row(question, ours | ones | {"memcpy": 1.0, "torch first": 1.0, "OpenCV": 1.0}))
        return found

    held, broken = verdict(line, rows(0.99)), verdict(line, rows(1.01))
    assert held.figure is not None and held.of == 2 * len(chosen)
    assert held.reached
    assert broken.reached is False and broken.holding == broken.of - 1
    assert broken.where.endswith(" last") and chosen[-1].problem.name in broken.where
    nothing = verdict(line, [])
    assert (nothing.reached, nothing.figure, nothing.of) == (None, None, 0)


@pytest.mark.parametrize(
    "line, names",
    [
        (0, {"stem", "vgg", "transition", "shuffle", "gap", "rgb", "pyramid", "volume", "sequence"}),
        (1, {"inception", "nasnet", "dilate", "box"}),
        (7, {"spp"}),
        (8, {"stem", "vgg", "transition", "shuffle", "rgb", "pyramid"}),
        (9, {"stem", "vgg", "volume", "sequence"}),
        (11, {"stem", "vgg", "transition", "shuffle", "inception", "nasnet", "yolo", "stagger"}),
        (14, set(PROBLEMS)),
    ],
)
def test_problems_of_a_line(line, names):
    asked = wanted(list(PROBLEMS.values()), options())
    assert {question.problem.name for question in asked if LINES[line].of(question)} == names


def test_backward_covers_both_modes_and_windows():
    found = {(p.mode, p.kernel, p.stride) for p in PROBLEMS.values() if "backward" in p.parts}
    assert found == {(mode, kernel, stride) for mode in ("max", "avg") for kernel in (2, 3) for stride in (1, 2)}


def test_geometric_mean():
    assert geometric_mean([1.0, 4.0]) == pytest.approx(2.0) and geometric_mean([0.5]) == pytest.approx(0.5)


# ---- the pages -------------------------------------------------------------------------------------------------------------


def some_rows():
    """Made-up times for every question."""
    made = []
    for n, question in enumerate(wanted(list(PROBLEMS.values()), options())):
        ours = {f"pooling {layout}{out}": 0.002 for layout in ("first", "last") for out in ("", " out")}
        others = {"memcpy": 0.001, "torch first": 0.01 * (1 + n % 7), "OpenCV first": 0.004, "SciPy": "crashes: SIGSEGV"}
        made.append(Row(question, ours | others))
    return made


def test_rows_survive_a_file():
    rows = some_rows()
    assert [Row.from_json(json.loads(json.dumps(row.to_json()))) for row in rows] == rows


def test_markers_of_the_readme():
    """They stand there once, around what the command writes: a note, or tables under its titles."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    inside = text.partition(compare.MARKERS[0])[2].partition(compare.MARKERS[1])[0].strip()
    assert between(text, inside) == text
    assert inside == block([], []) or all(head in inside for head in (compare.ROWS, compare.CONTRACT))


@pytest.mark.parametrize("text", ["", "{0}", "{1} {0}", "{0} {1} {1}", "{0} {0} {1}"])
def test_a_page_without_its_markers(text):
    with pytest.raises(LookupError, match="once each"):
        between(text.format(*compare.MARKERS), "")


def test_write(tmp_path, monkeypatch):
    """The README between its markers, the page, and the plots that both show; again, and nothing changes."""
    readme, page = tmp_path / "README.md", tmp_path / "docs" / "benchmarks.md"
    monkeypatch.setattr(compare, "README", readme)
    monkeypatch.setattr(compare, "PAGE", page)
    readme.write_text("before {} old {} after".format(*compare.MARKERS), encoding="utf-8")
    (tmp_path / "rows.json").write_text(json.dumps({"heading": ["A machine."], "rows": [row.to_json() for row in some_rows()]}))
    assert compare.compare(options(load=[tmp_path / "rows.json"], write=True)) == 0
    text = readme.read_text(encoding="utf-8")
    assert text.startswith("before ") and text.endswith(" after") and " old " not in text and "A machine." in text
    for linked in re.findall(r"\]\((.*?)\)", text):
        assert (tmp_path / linked).stat().st_size > 1000, linked
    assert {path.name for path in page.parent.iterdir()} == {
        page.name,
        *(f"benchmarks-{kind}.{end}" for kind in ("problems", "windows") for end in ("png", "svg")),
    }
    forward = [line for line in text.splitlines() if re.match(r"\| \w+ \| (max|avg) ", line)]
    assert len(forward) == 2 * len(PROBLEMS), "every problem, in both layouts"
    assert "torch first" in page.read_text(encoding="utf-8") and "crashes: SIGSEGV" in page.read_text(encoding="utf-8")
    before = {path: path.read_bytes() for path in [readme, *page.parent.iterdir()] if path.suffix != ".png"}
    assert compare.compare(options(load=[tmp_path / "rows.json"], write=True)) == 0
    assert {path: path.read_bytes() for path in before} == before


def test_of_several_runs_the_least_times(tmp_path):
    first = [row(SMALL, pooling_first=2.0, memcpy=1.0, torch_first="fails"), row(Question(PROBLEMS["gap"]), pooling_first=5.0)]
    second = [row(SMALL, pooling_first=3.0, memcpy=0.5, torch_first=1.0)]
    files = [tmp_path / "first.json", tmp_path / "second.json"]
    for file, rows, head in zip(files, (first, second), ("One.", "Other."), strict=True):
        file.write_text(json.dumps({"heading": [head], "rows": [row.to_json() for row in rows]}))
    assert compare.kept(files[:1]) == (["One."], first)
    head, rows = compare.kept(files)
    assert head == ["One.", "The least times of 2 runs."]
    assert [row.times for row in rows] == [{"pooling first": 2.0, "memcpy": 0.5, "torch first": "fails"}, {"pooling first": 5.0}]


def test_names_stand_apart():
    from plots import apart

    placed = apart([0.0, 0.1, 5.0, 0.05, 5.2], 1.0)
    order = sorted(range(5), key=lambda i: placed[i])
    assert order == [0, 3, 1, 2, 4]
    assert all(placed[b] - placed[a] > 1.0 - 1e-9 for a, b in pairwise(order))
    assert apart([3.0, 1.0], 1.0) == [3.0, 1.0], "what is apart is not moved"


# ---- the command -----------------------------------------------------------------------------------------------------------


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "bench", "compare", *map(str, arguments)], capture_output=True, text=True, cwd=ROOT
    )


def test_the_command(tmp_path):
    kept = tmp_path / "rows.json"
    done = command("--quick", "--only", "tiny", "--rivals", "NumPy,scikit-image", "--threads", 1, "--limit", 60, "--json", kept)
    assert (done.returncode, done.stderr) == (0, ""), "no progress where nobody looks"
    (first, last) = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| tiny ")]
    titles = [*compare.TITLES, "scikit-image", "NumPy reshape", "NumPy sliding_window_view"]
    assert f"| {' | '.join(titles)} |" in done.stdout and len(first) == len(last) == len(titles)
    assert (first[4], last[4]) == ("first", "last")
    assert all(float(number) > 0 for number in [*first[5:10], *first[11:], *last[5:10], *last[11:]])
    assert first[10] in titles
    assert "## The contract" in done.stdout and "not measured" in done.stdout and "NumPy 2" in done.stdout
    again = command("--load", kept)
    assert again.returncode == 0 and again.stdout == done.stdout


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (("--only", "stems"), "there is no problem stems; there are stem, vgg, "),
        (("--rivals", "torch,tortch"), "there is no rival tortch; there are torch, "),
        (("--write", "--quick"), "--write needs all problems and all rivals"),
        (("--write", "--only", "stem"), "--write needs all problems and all rivals"),
    ],
)
def test_refusals(arguments, sentence):
    done = command(*arguments)
    assert done.returncode == 2 and done.stdout.startswith(f"bench compare: {sentence}")


def test_ours_that_differs_is_exit_code_1(tmp_path, capsys):
    rows = [Row(SMALL, {"pooling first": 1.0, "pooling last": "differs: 1 of 9 cells"})]
    (tmp_path / "rows.json").write_text(json.dumps({"heading": [], "rows": [row.to_json() for row in rows]}))
    assert compare.compare(options(load=[tmp_path / "rows.json"])) == 1
    assert "differs" in capsys.readouterr().out


def test_progress_is_shown_where_somebody_looks(monkeypatch, capsys):
    monkeypatch.setattr(compare.sys.stderr, "isatty", lambda: True)
    say = Progress()
    say("torch")
    assert "torch" in capsys.readouterr().err


def test_the_memcpy_copies_all(monkeypatch):
    """Every part, by every thread."""
    made = []
    monkeypatch.setattr(rivals.np, "copyto", lambda target, source: made.append(target.size))
    rivals.memcpy(2**22 + 6, 3)()
    assert sum(made) == 2**21 + 3 and len(made) == 3


def test_names_of_the_columns():
    """Ours and the memcpy are told from the rivals by their names."""
    assert (POOLING.name, MEMCPY.name) == (contract.OURS, contract.YARDSTICK)
    assert not any(name.startswith((POOLING.name, MEMCPY.name)) for name in RIVALS)
