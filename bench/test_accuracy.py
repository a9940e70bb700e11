"""`python -m bench accuracy`: that exact arithmetic is exact, that ours never exceed the derived bound, that averages of integers
are the specified roundings, and that other ways of adding are caught and named.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from fractions import Fraction
from importlib import import_module
from math import inf, prod, sqrt
from types import ModuleType

import accuracy
import compare
import numpy as np
import pytest
from accuracy import ASKED, KINDS, OURS, WINDOWS, Row, Survey, adding, curves, drawn, exact_values, folded, held, problem_of
from compare import Progress
from exact import FORMATS, MODES, Errors, root, squares, sums
from orders import UNKNOWN, Search, answers, in_turn, pairwise
from rivals import RIVALS, Library

import pooling

# Not the GPU kernel, which lacks float64, and of which other tests may have put a simulation in this process.
BACKENDS = [name for name, why_not in pooling.backends().items() if why_not is None and name != "mlx:kernel"]
INTEGERS = ("bool", *(f"{sign}int{8 * size}" for sign in ("", "u") for size in (1, 2, 4, 8)))


def words(count, seed):
    """Raw 64-bit words."""
    return np.asarray(np.random.PCG64(seed).random_raw(count), np.uint64)


# ---- exact arithmetic ------------------------------------------------------------------------------------------------------


def any_numbers(count, seed):
    """float64 of all exponents and signs: finite words."""
    numbers = words(count, seed).view(np.float64)
    return numbers[np.isfinite(numbers)]


def test_sums_are_those_of_fractions():
    """Also of zeros, subnormals, and numbers that cancel."""
    x = any_numbers(5000, 1)[:4800].reshape(40, 120)
    x[1, ::2] = -x[1, 1::2]
    x[2] *= 2.0**-1000
    x[3] = 0
    x[4, :] = 5e-324
    assert sums(x) == [sum(map(Fraction, row.tolist())) for row in x]
    assert sums(x)[1] == 0 != sums(x)[0]


def test_squares_and_roots():
    x = any_numbers(20000, 2)
    x = x[(abs(x) > 1e-120) & (abs(x) < 1e120)][:3000].reshape(30, -1)
    exact = [sum(Fraction(cell) ** 2 for cell in row) for row in x.tolist()]
    assert sums(squares(x)) == exact
    for value in exact:
        assert abs(root(value) ** 2 - value) < value / 2**120
        nearest = FORMATS["float64"].nearest(root(value))
        assert abs(nearest - root(value)) <= FORMATS["float64"].ulp(root(value)) / 2
    assert root(Fraction(49, 4)) == Fraction(7, 2)
    tie = (1 + Fraction(1, 2**53)) ** 2  # the root lies halfway between two numbers, or beside that by less than its bits show
    beside = [tie, tie + Fraction(1, 2**400), tie - Fraction(1, 2**400)]
    assert [FORMATS["float64"].nearest(root(value)) for value in beside] == [1, 1 + Fraction(1, 2**52), 1]


@pytest.mark.parametrize("dtype", FORMATS)
def test_rounding_is_that_of_conversions(dtype):
    """From float64, ties, subnormals and overflow among them; NumPy's conversions round once."""
    form = FORMATS[dtype]
    near = np.ldexp(1.0, np.arange(form.least - 3, form.end + 1, 1 + form.bits // 20).clip(-1074, 1023))
    x = np.concatenate([any_numbers(1000, 3), *(near * factor for factor in (1, 1.5, 1.25, 1 + 2.0**-form.bits, 2 - 2.0**-52))])
    x = np.concatenate([x[np.isfinite(x)], -x[np.isfinite(x)]])
    with np.errstate(over="ignore"):
        want = x.astype(dtype).astype(np.float64)
    assert [float(form.nearest(Fraction(cell))) for cell in x.tolist()] == want.tolist()
    if dtype != "bfloat16":  # for which NumPy has no spacing
        own = np.unique(abs(want[np.isfinite(want)])).astype(dtype)
        assert [float(form.ulp(Fraction(float(cell)))) for cell in own[:-1]] == np.spacing(own[:-1]).astype(float).tolist()


def test_errors_are_distances_from_the_exact_value():
    """In ulps of the exact value's binade; a NaN is infinitely far."""
    form, value = FORMATS["float32"], 1 + Fraction(1, 2**25)
    assert Errors.of(np.array([1, 1 + 2.0**-23]), [value] * 2, form) == Errors(0.75, 0.5, 0.5)
    assert Errors.of(np.array([1, 1 - 2.0**-24]), [-value / 2] * 2, form) == Errors(3 * 2.0**23 + 0.25, 3 * 2.0**23 - 0.25, 0.0)
    assert Errors.of(np.array([np.nan]), [value], form) == Errors(inf, inf, 0.0)


# ---- the cells -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", FORMATS)
def test_cells_are_of_their_type_and_kind(kind, dtype):
    x = drawn(kind, (64, 49), dtype)
    assert np.array_equal(x, x.astype(dtype).astype(np.float64)) and np.isfinite(x).all() and len(np.unique(x)) > 100
    assert np.array_equal(x, drawn(kind, (64, 49), dtype))
    low, high = {"uniform": (0, 1), "normal": (-9, 9), "cancelling": (-1, 1), "wide": (2.0**-42, 1)}[kind]
    assert low <= x.min() and x.max() <= high and (kind != "uniform" or x.max() < 1)
    if kind == "cancelling":
        ratios = [float(size / total) for size, total in zip(sums(abs(x)), sums(x), strict=True)]
        assert min(ratios) > 60 and max(ratios) < 260


def test_cells_are_the_same_everywhere():
    digest = hashlib.sha256(b"".join(drawn(kind, (8, 49), "float64").tobytes() for kind in KINDS)).hexdigest()
    assert digest[:16] == "db257daf2905e5d1"


# ---- ours ------------------------------------------------------------------------------------------------------------------


def test_depth_is_that_of_the_order():
    """The additions on the way of a cell, counted by the definition, against ceil(log2 k)."""
    depth = [0, 0]
    for k in range(2, 3000):
        half = max(2**e for e in range(12) if 2**e < k)
        depth.append(1 + max(depth[half], depth[k - half]))
        assert depth[k] == (k - 1).bit_length()


@pytest.mark.parametrize("window", WINDOWS, ids=accuracy.name_of)
@pytest.mark.parametrize("dtype", FORMATS)
def test_ours_never_exceed_the_bound(dtype, window):
    """Sums and averages, of every kind, in both layouts, on every backend that is usable."""
    tiles = 4 if prod(window) < 1000 else 1
    problem = problem_of(window, tiles)
    for kind in KINDS:
        windows = drawn(kind, (prod(problem.result_shape[1:]), prod(window)), dtype)
        x = folded(windows, problem)[None].astype(dtype)
        for mode in ("avg", "sum"):
            exact = exact_values(mode, dtype, window, kind, windows, sums(abs(windows)))
            given = {}
            for backend in BACKENDS:
                for layout in ("channels_first", "channels_last"):
                    cells = x if layout == "channels_first" else np.ascontiguousarray(np.moveaxis(x, 1, -1))
                    y = pooling.pool(cells, mode, problem.kernel, layout=layout, backend=backend)
                    y = y if layout == "channels_first" else np.moveaxis(y, -1, 1)
                    given[np.ascontiguousarray(y).tobytes()] = y
            assert len(given) == 1
            greatest, share = held(y.astype(np.float64).ravel(), exact)
            assert share <= 1, (kind, mode)
            assert 0 < greatest < inf


@pytest.mark.parametrize("add", [in_turn, lambda x: in_turn(x.astype("float16"))], ids=["cell_by_cell", "in_float16"])
def test_the_bound_rejects_other_ways_of_adding(add):
    """1000 cells, one after the other, in float32 or worse."""
    window, dtype = (1000,), "float32"
    windows = drawn("uniform", (256, 1000), dtype)
    exact = exact_values("sum", dtype, window, "uniform", windows, sums(abs(windows)))
    assert held(pairwise(windows.astype(dtype)).astype(np.float64), exact)[1] <= 1
    assert held(add(windows.astype(dtype)).astype(np.float64), exact)[1] > 1


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("window", [(2, 2), (3, 3), (7, 7), (1000,)], ids=accuracy.name_of)
@pytest.mark.parametrize("dtype", INTEGERS)
def test_averages_of_integers_are_the_specified_rounding(dtype, window, backend):
    """Up to 32 bits: the exact sum to float32, divided, whatever the cells. 64 bits: in float64, where small cells have exact
    sums, then to float32. To another type: straight from the quotient, half to even."""
    problem = problem_of(window, 4)
    rows = prod(problem.result_shape[1:])
    bits = words(rows * prod(window), prod(window)) >> (22 if dtype.endswith("64") else 0)
    windows = (bits >> 41 if dtype == "bool" else bits).astype(dtype).reshape(rows, -1)
    if dtype == "bool":
        windows = words(windows.size, 5).reshape(windows.shape) >> 63 == 1
    if dtype == "int64":
        windows = windows - 2**41
    n, working = prod(window), FORMATS["float64" if dtype.endswith("64") else "float32"]
    single, double = FORMATS["float32"], FORMATS["float64"]
    totals = [Fraction(sum(row)) for row in windows.tolist()]
    quotients = [working.nearest(working.nearest(total) / n) for total in totals]
    x = folded(windows, problem)[None]

    def average(**options):
        y = pooling.pool(x, "avg", problem.kernel, layout="channels_first", backend=backend, **options)
        return y.ravel().tolist()

    assert average() == [float(single.nearest(q)) for q in quotients]
    assert average(dtype="float64") == [float(double.nearest(double.nearest(total) / n)) for total in totals]
    if dtype != "bool":
        least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
        assert average(dtype=dtype) == [min(max(round(q), least), most) for q in quotients]
    y = pooling.pool(x, "sum", problem.kernel, layout="channels_first", backend=backend)
    assert y.ravel().tolist() == [int(total) for total in totals]


# ---- how a library adds ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_ways_of_adding_are_found(dtype):
    """Every way that is tried, from its own results; none for results of no way, and where only few windows agree."""
    sides = [(7, 7), (13, 13), (100,)]
    drawings = {side: np.concatenate([drawn(kind, (256, prod(side)), dtype) for kind in KINDS]) for side in sides}
    search = Search()
    for side, windows in drawings.items():
        given = dict(answers(windows, side, dtype))
        odd = next(iter(given.values()))
        search.see(given | {"odd": odd if side == sides[0] else odd + 1}, windows, side, dtype)
    found = search.found()
    assert found.pop("odd") == UNKNOWN and len(found) == len(given)
    for way, told in found.items():
        assert way.working in told and way.end in told and (way.order in told or "any of the orders" in told)
        if dtype == "float32":
            assert told == f"{way.order}, in {way.working}; {way.end}"


# ---- the survey and the page -----------------------------------------------------------------------------------------------

FAKES = """
import numpy as np

def fails(question, way, threads):
    raise NotImplementedError("no such thing\\nand a long story")

def silent(question, way, threads):
    return None

def in_turn(question, way, threads):
    problem = question.problem
    if problem.mode != "avg":
        return None
    x = problem.cells(dtype=question.dtype)
    k, (rows, columns) = problem.kernel, problem.result_shape[2:]
    x = x.reshape(*x.shape[:2], rows, k, columns, k).transpose(0, 1, 2, 4, 3, 5).reshape(*problem.result_shape, k * k)
    def run():
        total = x[..., 0]
        for cell in range(1, k * k):
            total = total + x[..., cell]
        return total / total.dtype.type(k * k)
    return run, lambda y: (y,)
"""


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Two windows in float32: ours, mlx.nn, and three that are made up."""
    folder = tmp_path_factory.mktemp("fakes")
    (folder / "made_up.py").write_text(FAKES)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        made_up = import_module("made_up")
        names = {name: getattr(made_up, name) for name in ("fails", "silent", "in_turn")}
        libraries = [Library(name, ("numpy",), ("",), start) for name, start in names.items()]
        patch.setattr(accuracy, "ASKED", {mode: (*asked, *names) for mode, asked in ASKED.items()})
        survey = Survey([OURS, RIVALS["mlx.nn"], *libraries], 4)
        rows = list(survey.rows(["float32"], [(2, 2), (13, 13)], Progress()))
        sys.modules.pop("made_up")
    return rows, survey.found()


def test_every_library_is_measured_or_says_why_not(measured):
    rows, _ = measured
    assert {row.library for row in rows} == {"pooling", "mlx.nn", "fails", "in_turn"}
    for row in rows:
        assert (row.errors is None) == (row.library == "fails") == bool(row.failure)
        assert (row.of_bound is not None) == (row.library == "pooling" and row.mode != "lp")
    assert {row.failure for row in rows if row.library == "fails"} == {"fails: NotImplementedError: no such thing"}
    ours = [row for row in rows if row.library == "pooling"]
    assert len(ours) == 2 * 2 * len(MODES) * len(KINDS)
    by_way = [[replace(row, way="") for row in ours if row.way == way] for way in OURS.ways]
    assert by_way[0] == by_way[1]


def test_figures_are_those_of_the_results(measured):
    """The greatest error of ours, computed here another way; a sum cell by cell is worse."""
    rows, _ = measured
    about = ("avg", "float32", "13x13", "uniform")
    errors = {row.library: row.errors for row in rows if (row.mode, row.dtype, row.window, row.kind) == about}
    windows = drawn("uniform", (64, 169), "float32")
    exact = [total / 169 for total in sums(windows)]
    y = pooling.pool(windows.astype("float32").reshape(64, 13, 13), "avg", 13, layout="CHW").ravel().tolist()
    found = [float(abs(Fraction(got) - want) / FORMATS["float32"].ulp(want)) for got, want in zip(y, exact, strict=True)]
    assert errors["pooling"].greatest == pytest.approx(max(found), rel=1e-12)
    assert errors["pooling"].mean == pytest.approx(sum(found) / 64, rel=1e-12)
    assert errors["pooling"].share == np.mean(
        [Fraction(got) == FORMATS["float32"].nearest(w) for got, w in zip(y, exact, strict=True)]
    )
    assert errors["in_turn"].greatest > errors["pooling"].greatest and errors["in_turn"].share < errors["pooling"].share


def test_page_says_what_was_measured(measured):
    rows, found = measured
    text = accuracy.page(["On something."], rows, found, 64)
    lines = text.splitlines()
    assert "On something." in lines and "Our sums and averages stay within the bound" in text
    assert "| cells | window | pooling | of bound | mlx.nn | fails | in_turn |" in lines
    assert sum(line.startswith("| float32 | 13x13 | ") for line in lines) == len(MODES) * len(KINDS)
    assert lines.count("<details>") == lines.count("</details>") == len(MODES) * len(KINDS) - 1
    assert "- fails: fails: NotImplementedError: no such thing (avg float32; sum float32; lp float32)" in lines
    assert "| pooling | pairwise, each column, then the columns, in float32; divided |" in lines
    assert "| in_turn | cell by cell, in float32; divided |" in lines
    beyond = [replace(row, of_bound=1.01) if row.library == "pooling" else row for row in rows]
    assert "Our sums and averages **exceed** the bound" in accuracy.page([], beyond, found, 64)


def test_columns_are_apart_where_ways_differ(measured):
    rows, found = measured
    other = [replace(row, errors=Errors(9.0, 1.0, 0.0)) if row.way == "last" and row.kind == "wide" else row for row in rows]
    assert "| cells | window | pooling first | of bound | pooling last | mlx.nn |" in accuracy.page([], other, found, 64)
    ways = found | {("pooling", "last", "float32"): "another"}
    assert "| pooling last | another |" in list(adding(ways))


def test_plot_is_drawn(measured, tmp_path):
    from plots import over_sides

    rows, _ = measured
    panels = curves(rows)
    assert list(panels["float32"]) == ["pooling", "mlx.nn", "in_turn", "pooling's bound"]
    twins = [replace(row, library="twin") for row in rows if row.library == "pooling"]
    far = [replace(row, library="far", errors=Errors(1e8, 1e8, 0.0)) for row in rows if row.library == "in_turn"]
    every = [replace(row, dtype=dtype) for dtype in FORMATS for row in [*rows, *twins, *far]]
    panels = curves(every)
    assert next(iter(panels["float64"])) == "pooling, twin"
    over_sides(panels, accuracy.BOUND, tmp_path / "plot")
    drawing = (tmp_path / "plot.svg").read_text()
    assert (tmp_path / "plot.png").stat().st_size > 10000
    assert all(text in drawing for text in (*FORMATS, "pooling, twin", "far: 1e+08 to 1e+08", "13x13", "in_turn"))


# ---- the command -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def command(monkeypatch, tmp_path):
    """The command on one small window, with a page of its own, and only the libraries that the tests install."""
    monkeypatch.setattr(accuracy, "WINDOWS", ((2, 2),))
    monkeypatch.setattr(accuracy, "PAGE", tmp_path / "accuracy.md")
    monkeypatch.setattr(accuracy, "TILES", 4)
    for module in (accuracy, compare):
        monkeypatch.setattr(module, "installed", lambda library: library.name == "mlx.nn")
    spec = ModuleType("bench_main")
    exec((accuracy.ROOT / "bench" / "__main__.py").read_text().replace("__file__", repr(accuracy.__file__)), spec.__dict__)
    return spec.main


def test_command_prints_and_keeps_figures(command, capsys, tmp_path):
    """And writes no page; libraries that are missing are named."""
    assert command(["accuracy", "--quick", "--json", str(tmp_path / "figures.json")]) == 0
    text = capsys.readouterr().out
    assert "Not installed, so left out: torch, ONNX Runtime, OpenVINO, JAX." in text and "A row is 16 results" in text
    kept = json.loads((tmp_path / "figures.json").read_text())
    assert list(dict.fromkeys(row["dtype"] for row in kept["rows"])) == list(FORMATS)
    row = Row(**kept["rows"][0] | {"errors": Errors(**kept["rows"][0]["errors"])})
    assert (row.library, row.errors.share) == ("pooling", 1.0)
    assert ["pooling", "first", "float32"] in [who[:3] for who in kept["adding"]]
    assert not (tmp_path / "accuracy.md").exists()


def test_command_writes_page_and_plot(command, capsys, monkeypatch, tmp_path):
    """And fails where ours exceed their bound."""
    monkeypatch.setattr(accuracy, "held", lambda results, of: (1.0, 1.5))
    assert command(["accuracy", "--write"]) == 1
    page = (tmp_path / "accuracy.md").read_text()
    assert capsys.readouterr().out == page + "\n" and "A row is 64 results" in page
    assert (tmp_path / "accuracy.png").exists() and (tmp_path / "accuracy.svg").exists()


def test_command_refuses(command, capsys):
    assert command(["accuracy", "--quick", "--write"]) == 2
    assert capsys.readouterr().out == "bench accuracy: --write needs all results\n"


def test_published_page_is_whole():
    """docs/accuracy.md has every window, type, kind and mode of the tables, and its plots lie beside it."""
    page = accuracy.PAGE.read_text(encoding="utf-8")
    for dtype in FORMATS:
        for window in WINDOWS:
            assert page.count(f"| {dtype} | {accuracy.name_of(window)} | ") == len(MODES) * len(KINDS)
    assert f"Written by `{accuracy.COMMAND}`." in page and "stay within the bound" in page
    assert all(accuracy.PAGE.with_suffix(end).exists() for end in (".png", ".svg"))
    assert sqrt(accuracy.TILES) % 1 == 0
