"""The command line, as a user runs it: exit codes, the sentences, the table and the picture."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import pooling
from pooling.__main__ import main
from pooling._demo import GEOMETRIES, QUICK_CROP, QUICK_PICTURE, SMALLEST

FUNCTIONS = ("pool", "adaptive_pool", "global_pool")


@pytest.fixture
def picture(tmp_path):
    """A small photograph: tall, odd, and without two equal rows."""
    cells = np.random.Generator(np.random.PCG64(7)).integers(0, 256, (37, 24, 3), dtype=np.uint8)
    path = tmp_path / "small.png"
    Image.fromarray(cells).save(path)
    return path


EVERY = pooling.backends


@pytest.fixture
def demo(picture, tmp_path, capsys, monkeypatch):
    """Runs the demo on the small photograph, on the CPU; gives the exit code, what was printed and where the sheet is."""
    monkeypatch.setattr(pooling, "backends", lambda: {"cpu": None, "elsewhere": "it is not looked for here."})

    def run(*more):
        sheet = tmp_path / "sheet.png"
        code = main(["demo", "--image", str(picture), "--output", str(sheet), "--quick", *more])
        return code, capsys.readouterr().out, sheet

    return run


def second_backend(monkeypatch, change=lambda cells: None):
    """Adds a usable backend "twin": the CPU's results after `change`; an unusable one stays in the list."""
    for name in FUNCTIONS:
        real = getattr(pooling, name)

        def wrapped(x, mode, *arguments, backend, real=real, **more):
            result = real(x, mode, *arguments, backend="cpu", **more)
            if backend == "twin":
                change(result)
            return result

        monkeypatch.setattr(pooling, name, wrapped)
    monkeypatch.setattr(pooling, "backends", lambda: {"cpu": None, "twin": None, "absent": "there is no such machine."})


def table(text):
    """The lines of the table as lists of words: backend, mode, geometry ..., four numbers, without their commas."""
    return [line.replace(",", "").split() for line in text.splitlines() if re.match(r"(cpu|twin) ", line)]


def test_every_result_is_printed_and_agrees(demo):
    code, text, _ = demo()
    assert code == 0
    rows = table(text)
    assert [row[1] for row in rows] == [mode for mode in pooling.MODES for _ in GEOMETRIES]
    assert all(int(row[-3]) > 0 and row[-2] == "0" for row in rows)
    crop = QUICK_CROP[0] * QUICK_CROP[1] * 3  # what a stride of 1 gives under "same"
    assert [row[-3] for row in rows].count(str(crop)) == 2 * len(pooling.MODES)
    assert sum(int(row[-3]) for row in rows) == int(re.search(r"with the oracle +([\d,]+)", text)[1].replace(",", ""))
    assert all(name in text for name in pooling.backends())
    assert "\x1b" not in text


def test_every_backend_that_is_usable_agrees(demo, monkeypatch):
    monkeypatch.setattr(pooling, "backends", EVERY)
    code, text, _ = demo()
    assert code == 0
    usable = [name for name, reason in EVERY().items() if reason is None]
    assert {"cpu", "mlx", "mlx:ops", "mlx:native"} <= set(usable)
    for name in usable:
        assert len(re.findall(rf"^{name} ", text, re.MULTILINE)) == len(GEOMETRIES) * len(pooling.MODES)
    assert int(re.search(r"between backends +([\d,]+)", text)[1].replace(",", "")) > 0


def test_sheet(demo, picture):
    _, text, path = demo()
    assert str(path) in text
    with Image.open(path) as sheet:
        assert (sheet.format, sheet.mode) == ("PNG", "RGB")
        pixels = np.asarray(sheet)
    # One flat patch per mode, of the greatest, least and mean colours, in the last column.
    cells = np.asarray(Image.open(picture), dtype=np.float32)[None]
    for mode in ("max", "min", "avg"):
        colour = pooling.global_pool(cells, mode).ravel().astype(np.uint8)
        assert np.count_nonzero((pixels[:, -200:] == colour).all(axis=2)) > 100 * 100, mode


@pytest.mark.parametrize("function", FUNCTIONS)
def test_one_wrong_cell_of_a_result_fails(demo, monkeypatch, function):
    real = getattr(pooling, function)

    def broken(x, mode, *arguments, **more):
        result = real(x, mode, *arguments, **more)
        result.flat[0] = np.nextafter(result.flat[0], np.float32(np.inf)) if mode != "lp" else result.flat[0]
        return result

    monkeypatch.setattr(pooling, function, broken)
    code, text, _ = demo()
    geometries = sum(geometry.function == function for geometry in GEOMETRIES)
    assert code == 1
    assert sum(int(row[-2]) for row in table(text)) == geometries * (len(pooling.MODES) - 1)


def test_wrong_norm_shape_or_type_fails(demo, monkeypatch):
    real = pooling.pool
    for wrong in (lambda y: y * np.float32(1.00001), lambda y: y[:-1], lambda y: y.astype(np.float64)):
        with monkeypatch.context() as patch:
            patch.setattr(pooling, "MODES", ("lp",))
            patch.setattr(pooling, "pool", lambda x, mode, wrong=wrong, **more: wrong(real(x, mode, **more)))
            assert demo()[0] == 1


def test_backends_are_compared_in_every_cell(demo, monkeypatch):
    second_backend(monkeypatch)
    code, text, _ = demo()
    assert code == 0
    assert "not run: absent: there is no such machine." in text
    first, second = ([row for row in table(text) if row[0] == name] for name in ("cpu", "twin"))
    assert len(first) == len(second) == len(pooling.MODES) * len(GEOMETRIES)
    assert {row[-4] for row in first} == {"-"}
    whole = 37 * 24 * 3  # the result of a stride of 1: "same"
    assert [row[-4] for row in second].count(str(whole)) == 2 * len(pooling.MODES)


def test_a_backend_that_differs_outside_the_crop_fails(demo, monkeypatch):
    def change(result):
        if result.shape == (37, 24, 3):
            result[0, 0, 0] += 1

    second_backend(monkeypatch, change)
    code, text, _ = demo()
    assert code == 1
    assert sum(int(row[-2]) for row in table(text)) == 2 * len(pooling.MODES)


def test_colour_only_on_a_terminal(demo, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert "\x1b[1m" in demo()[1]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in demo()[1]


def test_the_photograph_needs_no_download(tmp_path):
    """A fresh interpreter: nothing of skimage but the file is used."""
    program = (
        "import sys, pooling._demo as d; name, x = d.photograph(None);"
        "assert x.shape == (300, 451, 3) and x.dtype == 'float32' and x.max() > 200;"
        "assert not {'scipy', 'pooch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    "name, content",
    [("missing.png", None), ("text.png", b"not a picture"), ("cut.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")],
)
def test_unreadable_picture(tmp_path, capsys, name, content):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    assert main(["demo", "--image", str(path)]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert str(path) in shown.err and shown.err.count("\n") == 1 and "Traceback" not in shown.err


def test_small_picture(tmp_path, capsys):
    for side, code in ((SMALLEST - 1, 2), (SMALLEST, 0)):
        path = tmp_path / f"{side}.png"
        Image.new("L", (side, 40)).save(path)
        assert main(["demo", "--image", str(path), "--output", str(tmp_path / "sheet.png")]) == code
    assert "too small" in capsys.readouterr().err


def test_quick_takes_the_middle(tmp_path, capsys):
    path = tmp_path / "large.png"
    Image.new("RGB", (QUICK_PICTURE[1] + 9, QUICK_PICTURE[0] + 8)).save(path)
    assert main(["demo", "--image", str(path), "--output", str(tmp_path / "sheet.png"), "--quick"]) == 0
    assert f"large.png: {QUICK_PICTURE[0]} x {QUICK_PICTURE[1]} pixels" in capsys.readouterr().out


def test_no_folder_for_the_sheet(picture, tmp_path, capsys):
    assert main(["demo", "--image", str(picture), "--output", str(tmp_path / "absent" / "sheet.png")]) == 2
    assert "there is no folder" in capsys.readouterr().err


@pytest.mark.parametrize("absent", ["PIL", "skimage"])
def test_without_the_extra(absent):
    """The sentence names what is missing and the line that installs it."""
    program = f"import sys; sys.modules[{absent!r}] = None; from pooling.__main__ import main; sys.exit(main(['demo']))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert absent in run.stderr and 'pip install "pooling[demo]"' in run.stderr and run.stderr.count("\n") == 1


def test_info(capsys):
    assert main(["info"]) == 0
    lines = dict(re.split(r"  +", line, maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["pooling"] == pooling.__version__ and lines["NumPy"] == np.__version__
    assert lines["threads"] == str(pooling.get_num_threads())
    assert pooling.cpu_info().items() <= lines.items()
    for name, reason in pooling.backends().items():
        assert lines[f"backend {name}"] == ("usable" if reason is None else f"not usable: {reason}")


def test_help(capsys):
    assert main([]) == 0
    assert {"demo", "info"} <= set(capsys.readouterr().out.split())


def test_as_a_module(picture, tmp_path):
    """`python -m pooling` hands main's result to the shell."""
    run = [sys.executable, "-m", "pooling", "demo", "--image"]
    assert subprocess.run([*run, "missing.png"], capture_output=True, check=False).returncode == 2
    arguments = [str(picture), "--quick", "--output", str(tmp_path / "sheet.png")]
    assert subprocess.run([*run, *arguments], capture_output=True, check=False).returncode == 0
