"""The golden corpus: the same bytes everywhere, every pair of features, and a verify that believes nothing."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import struct
import subprocess
import sys
import zipfile
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from agreement import backward_bound, numpy_dtype

import pooling
from pooling._dtypes import DTYPES
from pooling.testing import (
    ADAPTIVE_CASES,
    CASES,
    FEATURES,
    FUNCTIONS,
    UNPOOL_CASES,
    agree,
    corpus,
    lp_bound,
    norms,
    oracle,
    schema,
    within,
)

# What it takes to change these: EDITION in pooling/testing/corpus.py, and a line in the changelog.
EDITION, DIGEST = 1, "a434a965e75729f974efe1c21350d2632403ca7d83db3c8281b6a5675968927f"
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def files():
    return dict(corpus.files())


@pytest.fixture(scope="module")
def manifest(files):
    return json.loads(files["manifest.json"])


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus") / "new" / "folder"
    corpus.export(folder)
    return folder


@pytest.fixture
def folder(exported, tmp_path):
    """A copy that a test may spoil."""
    shutil.copytree(exported, tmp_path / "copy", copy_function=os.link)
    return tmp_path / "copy"


def rewrite(path, content):
    """Not in place: the files of a copy are shared with the others."""
    path.unlink()
    path.write_bytes(content)


def arrays_of(case, content):
    """As a reader in any language has them: by place, type and shape."""
    found = {}
    for one in case["arrays"]:
        cells = np.frombuffer(content, one["stored"], math.prod(one["shape"]), one["offset"])
        found[one["name"]] = cells.reshape(one["shape"]).view(numpy_dtype(one["dtype"]))
    return found


# ---- what is in it -------------------------------------------------------------------------------------------


def test_the_digest_is_pinned(exported, files):
    """If this fails without a change of cases or oracle, the corpus is not the same everywhere."""
    assert (corpus.EDITION, sha256(files["manifest.json"]).hexdigest()) == (EDITION, DIGEST)
    there = {path.relative_to(exported).as_posix(): path.read_bytes() for path in exported.rglob("*") if path.is_file()}
    assert there == files


def test_another_process_writes_the_same(tmp_path):
    command = [sys.executable, "-m", "pooling.testing", "export", str(tmp_path / "corpus")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": "7"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == DIGEST
    assert re.search(r"([\d,]+) cases, edition 1, digest", done.stdout)[1] == f"{len(corpus.chosen()):,}"


def test_size(files, manifest):
    assert len(manifest["cases"]) >= 2000
    assert sum(map(len, files.values())) < 20e6


def test_all_that_is_possible_is_covered():
    """Every pair of words that any case has; what is left out are norms that no type can hold exactly."""
    covered = frozenset().union(*(corpus.covers(entry.golden) for entry in corpus.chosen()))
    pairs = [item for item in covered if len(item) == 2]
    assert len(pairs) > 1300
    missing = {}
    for golden in corpus.candidates():
        for item in corpus.covers(golden) - covered:
            missing.setdefault(item, []).append(golden)
    for item, candidates in missing.items():
        assert len(item) > 2, item
        assert {golden.mode for golden in candidates} == {"lp"}, item
        assert not any(map(corpus.entry_of, candidates)), item


def test_registries_are_covered(manifest):
    seen = [(case["function"], *case["name"].split("/")[1:4], case["axes"]) for case in manifest["cases"]]
    for functions, cases in ((FUNCTIONS[:1], CASES), (FUNCTIONS[1:2], ADAPTIVE_CASES), (FUNCTIONS[2:3], UNPOOL_CASES)):
        assert {case.name for case in cases} <= {name for function, name, *_ in seen if function in functions}
    assert {case["mode"] for case in manifest["cases"]} == set(pooling.MODES)
    assert {case["dtype"] for case in manifest["cases"]} == set(DTYPES)
    assert {word for case in manifest["cases"] for word in case["features"]} == set(FEATURES) == set(manifest["features"])
    for function in ("pool", "adaptive_pool"):
        for mode in pooling.MODES:
            own = {(row[3], row[4][-1]) for row in seen if row[0] == function and row[2].partition("-")[0] == mode}
            assert {dtype for dtype, last in own if last == "C"} == {dtype for dtype, last in own if last in "WL"} == set(DTYPES)
    for case in (*CASES, *ADAPTIVE_CASES):
        for mode in pooling.MODES:
            one = {row[4][-1] for row in seen if row[1:4] == (case.name, mode if mode != "lp" else row[2], "float32")}
            assert one or mode == "lp", (case.name, mode)


def bound_of(case, want, given, arrays):
    """How far a norm or its gradient may be from the exact one."""
    family = case["function"].removesuffix("_backward")
    if family == case["function"]:
        return lp_bound(want, given.get("p", 2.0), max(1, arrays["x"].size))
    oracles = getattr(oracle, family), getattr(oracle, f"{family}_backward")
    options = {name: value for name, value in given.items() if name not in ("mode", "p")}
    g, x = arrays["grad_output"], arrays["x"]
    return backward_bound(want, g, x, "lp", given.get("p", 2.0), oracles, **options)


def test_the_product_gives_what_the_corpus_says(files, manifest):
    """From the files alone, with the arguments as they stand there."""
    for case in manifest["cases"]:
        arrays = arrays_of(case, files[case["file"]])
        expected = [arrays.pop(name) for name in ("expected", "expected_indices") if name in arrays]
        given = {name: float(value) if name == "p" else value for name, value in case["arguments"].items()}
        result = getattr(pooling, case["function"])(**arrays, **given)
        for got, want in zip(result if isinstance(result, tuple) else (result,), expected, strict=True):
            if case["mode"] != "lp" or want.dtype.kind in "iu":
                assert agree(got, want), case["name"]
            else:
                assert within(got, want, bound_of(case, want, given, arrays)), case["name"]


def test_geometry_is_the_call_in_plain_numbers(files, manifest):
    for case in manifest["cases"]:
        if case["function"] == "max_unpool" or not case["function"].startswith(("pool", "adaptive")):
            continue
        x = next(one for one in case["arrays"] if one["name"] == "x")
        geometry, letters = dict(case["geometry"]), case["axes"]
        last = next(
            one for one in case["arrays"] if one["name"] == ("grad_output" if "gradient" in case["features"] else "expected")
        )
        if case["function"].startswith("pool"):
            window = {name: geometry[name] for name in ("kernel", "stride", "padding", "dilation", "ceil_mode")}
            assert list(pooling.output_shape(tuple(x["shape"]), layout=letters, **window)) == last["shape"], case["name"]
        else:
            sizes = dict(zip(letters, last["shape"], strict=True))
            assert geometry["output_size"] == [sizes[letter] for letter in "DHWL" if letter in sizes]
        assert ("p" in geometry) == (case["mode"] == "lp")
        assert ("divisor_override" in geometry) == (case["mode"] == "avg" and case["function"].startswith("pool"))


QUIET = {"float16": 0x7E00, "bfloat16": 0x7FC0, "float32": 0x7FC00000, "float64": 0x7FF8000000000000}


def test_nan_and_zero_have_one_form(files, manifest):
    seen = set()
    for case in manifest["cases"]:
        for name, array in arrays_of(case, files[case["file"]]).items():
            dtype = array.dtype.name
            if dtype not in QUIET:
                continue
            bits = array.view(f"u{array.dtype.itemsize}")
            nan = np.unique(bits[np.isnan(array)]).tolist()
            assert nan in ([], [QUIET[dtype]]), case["name"]
            negative = bool((bits[array == 0] != 0).any())
            assert not (negative and name.startswith("expected")), case["name"]
            seen |= {(dtype, "nan")} if nan else set()
            seen |= {(dtype, "-0")} if negative else set()  # in the inputs of special data: a tie with +0
    assert seen == {(dtype, what) for dtype in QUIET for what in ("nan", "-0")}


def test_exact_sums_do_not_depend_on_the_order(files, manifest):
    """Cells turned round in the whole array: the same sums, in the order from the end to the start."""
    turned = 0
    for case in manifest["cases"]:
        if case["function"] != "pool" or case["mode"] not in ("sum", "avg") or not case["exact_sums"]:
            continue
        arrays = arrays_of(case, files[case["file"]])
        kernel, geometry = np.array(case["geometry"]["kernel"]), case["geometry"]
        if geometry["ceil_mode"] or np.prod(kernel, dtype=float) > 1e4 or "stride" in case["features"]:
            continue
        pooled = tuple(case["axes"].index(letter) for letter in "DHWL" if letter in case["axes"])
        given = {name: geometry.get(name) for name in ("kernel", "stride", "dilation")}
        given["padding"] = tuple((after, before) for before, after in geometry["padding"])
        given |= {
            name: value for name, value in case["arguments"].items() if name in ("count_include_pad", "divisor_override", "dtype")
        }
        got = oracle.pool(np.flip(arrays["x"], pooled), case["mode"], layout=case["axes"], **given)
        assert agree(np.flip(got, pooled), arrays["expected"]), case["name"]
        turned += arrays["x"].dtype.kind == "f"
    assert turned > 50
    assert {case["mode"] for case in manifest["cases"] if not case["exact_sums"]} == {"sum", "avg", "max", "min"}


# ---- norms ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", norms.EXPONENTS)
def test_norms_are_integers(p):
    """Against Python's integers, of windows taken from the definition."""
    for shape, window in (((2, 7, 8, 3), {"kernel": 3, "stride": 2, "padding": 1}), ((1, 9, 2), {"kernel": 4, "stride": 1})):
        arrays, (found,) = norms.forward("pool", shape, window, "float64", p)
        plan, _ = oracle._plan(arrays["x"], **{"padding": 0, **window})
        for place in np.ndindex(found.shape):
            taps = [[cell for _, cell in along[o].taps] for along, o in zip(plan.windows, place[1:-1], strict=True)]
            cells = [abs(int(cell)) for cell in arrays["x"][np.ix_([place[0]], *taps, [place[-1]])].flat]
            norm = int(found[place])
            if p == 0.5:
                assert sum(map(math.isqrt, cells)) ** 2 == norm and all(math.isqrt(cell) ** 2 == cell for cell in cells)
            else:
                assert norm == max(cells) if p == np.inf else sum(cell ** int(p) for cell in cells) == norm ** int(p)
        assert (arrays["x"] != 0).mean() > 0.2 and len(np.unique(found)) > 1


def test_norms_that_no_type_holds():
    assert norms.forward("pool", (1, 40, 33, 2), {"kernel": 31, "stride": 1, "padding": 7}, "float16", 0.5) is None
    assert norms.forward("pool", (1, 4, 1), {"kernel": 4}, "float32", 2.0, "int8") is not None


# ---- bytes ---------------------------------------------------------------------------------------------------


def test_any_zip_and_npy_library_reads_it(exported, manifest):
    for case in manifest["cases"][::40]:
        path = exported / case["file"]
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            assert archive.namelist() == [one["member"] for one in case["arrays"]]
            for info in archive.infolist():
                assert (info.compress_type, info.date_time) == (zipfile.ZIP_STORED, (1980, 1, 1, 0, 0, 0))
        with np.load(path, allow_pickle=False) as loaded:
            for one, (name, array) in zip(case["arrays"], arrays_of(case, path.read_bytes()).items(), strict=True):
                assert loaded[name].dtype.str == one["stored"]
                assert loaded[name].tobytes() == array.tobytes() and loaded[name].shape == array.shape
                assert one["offset"] % corpus.ALIGNED == 0


def test_bytes_are_little_endian_wherever_they_come_from():
    for dtype in (">f4", "<f4", ">i8", ">u2"):
        assert corpus.stored(np.array([[1, 2]], dtype), True) == (f"<{dtype[1:]}", np.array([1, 2], f"<{dtype[1:]}").tobytes())
    assert corpus.stored(np.array([-0.0, -np.nan]), True) == ("<f8", struct.pack("<dQ", 0.0, 0x7FF8 << 48))
    assert corpus.stored(np.array([-0.0, np.nan]), False) == ("<f8", struct.pack("<dQ", -0.0, 0x7FF8 << 48))


def test_the_manifest_is_what_its_schema_says(manifest, files):
    assert schema.fault(manifest) is None
    assert json.loads(files["manifest.schema.json"]) == schema.SCHEMA
    assert files["cases.tsv"].count(b"\n") == len(manifest["cases"]) + 1
    keywords = {"$schema", "title", "description", "type", "properties", "required", "additionalProperties", "$defs", "$ref"}
    keywords |= {"const", "enum", "anyOf", "items", "minItems", "maxItems", "minLength", "maxLength", "pattern"}
    keywords |= {"minimum", "maximum", "exclusiveMinimum"}

    def check(one):
        assert set(one) <= keywords, "the validator does not know it"
        for inner in (*one.get("properties", {}).values(), *one.get("$defs", {}).values(), *one.get("anyOf", [])):
            check(inner)
        for inner in (one.get("items"), one.get("additionalProperties")):
            if isinstance(inner, dict):
                check(inner)

    check(schema.SCHEMA)


# ---- verify --------------------------------------------------------------------------------------------------


def verified(folder, capsys):
    code = corpus.main(["verify", str(folder)])
    told = capsys.readouterr()
    return code, told.out + told.err


def test_what_was_exported_is_right(exported, capsys):
    code, told = verified(exported, capsys)
    assert code == 0 and "every file is what the oracle gives now" in told


def test_every_kind_of_damage_is_named(folder, manifest, capsys):
    """In one folder, as a whole comparison takes a second."""
    flipped, short, missing, forged, *_ = cases = [case for case in manifest["cases"] if case["arrays"][-1]["bytes"]][100:600:40]
    path = folder / flipped["file"]
    content = bytearray(path.read_bytes())
    last = flipped["arrays"][-1]
    content[last["offset"]] ^= 1
    rewrite(path, bytes(content))
    rewrite(folder / short["file"], (folder / short["file"]).read_bytes()[:-30])
    (folder / missing["file"]).unlink()
    header = bytearray((folder / cases[4]["file"]).read_bytes())
    header[10] ^= 1
    rewrite(folder / cases[4]["file"], bytes(header))
    (folder / "cases" / "more.npz").write_bytes(b"")
    (folder / cases[5]["file"]).unlink()
    (folder / cases[5]["file"]).symlink_to("/dev/zero")
    (folder / "link").symlink_to("/")
    # A case whose answer was changed, with a manifest that agrees with it.
    content = bytearray((folder / forged["file"]).read_bytes())
    content[forged["arrays"][-1]["offset"]] ^= 1
    rewrite(folder / forged["file"], bytes(content))
    told = json.loads((folder / "manifest.json").read_bytes())
    next(one for one in told["cases"] if one["name"] == forged["name"])["sha256"] = sha256(content).hexdigest()
    rewrite(folder / "manifest.json", json.dumps(told).encode())
    code, text = verified(folder, capsys)
    lines = dict(line.split(" ", 1) for line in text.splitlines())
    assert code == 1
    assert "has another SHA-256" in lines[flipped["file"]] and f"in {last['name']}[0, " in lines[flipped["file"]]
    assert "and the manifest says" in lines[short["file"]] and "should have" in lines[short["file"]]
    assert lines[missing["file"]] == "is missing"
    assert "differs at byte 10" in lines[cases[4]["file"]]
    assert lines["cases/more.npz"] == lines["link"] == "is no part of the corpus"
    assert lines[cases[5]["file"]] == "is no plain file"
    assert "where the oracle gives 0x" in lines[forged["file"]] and "SHA" not in lines[forged["file"]]
    assert lines["manifest.json"] == f"says something else of {forged['file']}: sha256"
    assert len(lines) == 10


def test_what_the_manifest_leaves_out_or_adds(folder, manifest, capsys):
    told = json.loads((folder / "manifest.json").read_bytes())
    gone = told["cases"].pop(7)
    told["cases"].append(told["cases"][0] | {"name": "pool/mine", "file": "cases/mine.npz"})
    told["edition"] = 9
    rewrite(folder / "manifest.json", json.dumps(told).encode())
    code, text = verified(folder, capsys)
    assert code == 1
    assert f"{gone['file']} is no part of the corpus" in text and "cases/mine.npz is missing" in text
    assert f"does not list {gone['file']}" in text and "lists cases/mine.npz, which pooling" in text
    assert "is of edition 9; pooling" in text


def test_features_are_compared_too(folder, capsys):
    told = json.loads((folder / "manifest.json").read_bytes())
    told["features"]["nan"] = "something else"
    rewrite(folder / "manifest.json", json.dumps(told).encode())
    assert verified(folder, capsys)[0] == 1


def spoilt(**changes):
    """A manifest with one case, in which something is not as it should be."""

    def change(told):
        told = told | {"cases": told["cases"][:1]}
        for path, value in changes.items():
            *outer, last = path.split("__")
            at = told
            for key in outer:
                at = at[int(key) if key.isdigit() else key]
            at[int(last) if last.isdigit() else last] = value
        return json.dumps(told).encode()

    return change


HOSTILE = {
    "empty": (lambda told: b"", "is no JSON"),
    "binary": (lambda told: bytes(range(256)), "is no JSON"),
    "cut short": (lambda told: json.dumps(told).encode()[:-100], "is no JSON"),
    "a list": (lambda told: b"[]", "is no manifest of a corpus"),
    "another program's": (lambda told: b'{"name": "my app", "version": 1}', "is no manifest of a corpus"),
    "nested": (lambda told: b"[" * 100_000, "is nested too deeply"),
    "nested inside": (
        lambda told: b'{"format": "pooling-corpus", "version": 1, "features": ' + b'{"a":' * 900 + b"1" + b"}" * 901,
        "",
    ),
    "long number": (lambda told: b'{"format": ' + b"9" * 10_000 + b"}", "is no JSON"),
    "NaN": (lambda told: b'{"format": NaN}', "NaN is no JSON"),
    "a later version": (spoilt(version=2), "is of format version 2; this is pooling"),
    "version as a word": (spoilt(version="1" * 1000), "is of format version '1111"),
    "version true": (spoilt(version=True), "the manifest.version is True, not 1"),
    "path up": (spoilt(cases__0__file="cases/../../etc/passwd.npz"), "which is not of the form"),
    "path from the root": (spoilt(cases__0__file="/etc/passwd"), "which is not of the form"),
    "path with a line end": (spoilt(cases__0__file="cases/a.npz\n"), "which is not of the form"),
    "path with a backslash": (spoilt(cases__0__file="cases\\a.npz"), "which is not of the form"),
    "file up": (spoilt(files__0__file="../README.txt"), "which is not of the form"),
    "shape too large": (spoilt(cases__0__arrays__0__shape=[2**63, 2**63]), "out of range"),
    "shape negative": (spoilt(cases__0__arrays__0__shape=[-1]), "out of range"),
    "shape of floats": (spoilt(cases__0__arrays__0__shape=[2.5]), "no integer"),
    "shape of bools": (spoilt(cases__0__arrays__0__shape=[True]), "no integer"),
    "too many axes": (spoilt(cases__0__arrays__0__shape=[1] * 1000), "too short or too long"),
    "offset as a word": (spoilt(cases__0__arrays__0__offset="128"), "no integer"),
    "unknown type": (spoilt(cases__0__arrays__0__dtype="object"), "not one of"),
    "a list for a type": (spoilt(cases__0__arrays__0__dtype=["float32"]), "not one of"),
    "a number for a case": (spoilt(cases=[7]), "no object"),
    "null for cases": (spoilt(cases=None), "no array"),
    "no cases": (spoilt(cases=[]), "too short or too long"),
    "unknown key": (spoilt(cases__0__more=1), "is unknown"),
    "digest": (spoilt(cases__0__sha256="0" * 63), "not of the form"),
    "kernel 0": (spoilt(cases__0__geometry={"kernel": [0]}), "out of range"),
    "p 0": (spoilt(cases__0__geometry={"p": 0}), "nothing of"),
    "p as inf": (spoilt(cases__0__geometry={"p": "nan"}), "nothing of"),
}


@pytest.mark.parametrize("row", HOSTILE)
def test_hostile_manifests(tmp_path, manifest, capsys, row):
    """One sentence and exit code 1, whatever stands there."""
    spoil, sentence = HOSTILE[row]
    (tmp_path / "manifest.json").write_bytes(spoil(json.loads(json.dumps(manifest))))
    code, told = verified(tmp_path, capsys)
    first, *rest = told.splitlines()
    assert code == 1 and first.startswith("manifest.json ") and sentence in first and len(first) < 2100
    assert len(rest) == 1 and rest[0].endswith("1 files are wrong")


def test_files_of_absurd_size_are_not_read(folder, manifest, capsys):
    path = folder / manifest["cases"][0]["file"]
    path.unlink()
    with path.open("wb") as file:
        file.truncate(2**40)  # sparse
    code, told = verified(folder, capsys)
    assert code == 1 and "no file of a corpus is that large" in told


def test_a_manifest_that_is_no_file(tmp_path, capsys):
    os.mkfifo(tmp_path / "manifest.json")
    assert verified(tmp_path, capsys) == (1, f"manifest.json is no plain file\n{tmp_path}: 1 files are wrong\n")


# ---- export --------------------------------------------------------------------------------------------------


def test_export_repeats_itself(folder, capsys):
    for path in folder.rglob("*.npz"):
        rewrite(path, b"half of")
        break
    assert corpus.main(["export", str(folder)]) == 0
    assert DIGEST in capsys.readouterr().out
    assert corpus.verify(folder) == []


def test_a_broken_export_does_not_look_whole(tmp_path, monkeypatch, capsys):
    whole = dict(corpus.files())

    def failing():
        yield from list(whole.items())[:10]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(corpus, "files", failing)
    assert corpus.main(["export", str(tmp_path)]) == 2
    assert "No space left" in capsys.readouterr().err
    assert not (tmp_path / "manifest.json").exists()
    code, told = verified(tmp_path, capsys)
    assert code == 1 and "its export was not completed" in told
    monkeypatch.setattr(corpus, "files", lambda: iter(whole.items()))
    assert corpus.main(["export", str(tmp_path)]) == 0, "it can be taken up again"
    assert corpus.verify(tmp_path) == []


@pytest.mark.parametrize("name", ["notes.txt", "cases/mine.npz", "README.txt", "manifest.json", "cases.tsv", "sub/manifest.json"])
def test_a_users_files_are_left_alone(tmp_path, capsys, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text('{"name": "mine"}')
    assert corpus.main(["export", str(tmp_path)]) == 2
    assert f"holds {name}, no part of this corpus: name an empty folder" in capsys.readouterr().err
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / name]
    assert (tmp_path / name).read_text() == '{"name": "mine"}'


def test_links_are_not_written_through(folder, tmp_path, capsys):
    shutil.rmtree(folder / "cases")
    (tmp_path / "elsewhere").mkdir()
    (folder / "cases").symlink_to(tmp_path / "elsewhere")
    assert corpus.main(["export", str(folder)]) == 2
    assert "holds cases, no part" in capsys.readouterr().err
    assert not list((tmp_path / "elsewhere").iterdir())


def test_what_cannot_be_done(tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("")
    for arguments, sentence in (
        (["export", str(tmp_path / "file")], "is no folder"),
        (["verify", str(tmp_path / "file")], "is no folder"),
        (["verify", str(tmp_path / "nothing")], "is no folder"),
    ):
        assert corpus.main(arguments) == 2 and sentence in capsys.readouterr().err
    for arguments in (["export"], ["verify"], ["export", "a", "b"], []):
        with pytest.raises(SystemExit) as end:
            corpus.main(arguments)
        assert end.value.code == 2
    capsys.readouterr()
    (tmp_path / "empty").mkdir()
    assert verified(tmp_path / "empty", capsys)[0] == 1
    monkeypatch.setattr(corpus, "TYPES", ("float32",))
    corpus.chosen.cache_clear()
    assert corpus.main(["export", str(tmp_path / "new")]) == 2
    assert "pip install ml_dtypes" in capsys.readouterr().err and not (tmp_path / "new").exists()


# ---- other languages -----------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_c(exported, tmp_path):
    source = (ROOT / "examples" / "corpus_reader.c").read_text()
    build = ["cc", "-O1", "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]

    def ask(text):
        (tmp_path / "reader.c").write_text(text)
        subprocess.run([*build, "-o", tmp_path / "reader", tmp_path / "reader.c"], check=True)
        return subprocess.run([tmp_path / "reader", exported], capture_output=True, text=True)

    done = ask(source)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.fullmatch(r"(\d+) cases, 0 of them wrong\n", done.stdout)[1]) > 100
    broken = ask(source.replace("|| v != v", ""))
    assert broken.returncode == 1 and re.search(r"/special/.* is .*, not nan", broken.stdout)
    assert subprocess.run([tmp_path / "reader", tmp_path], capture_output=True).returncode == 2


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no Node")
def test_javascript(exported, tmp_path):
    """The example of the page, as it stands there."""
    page = (ROOT / "docs" / "corpus.md").read_text()
    (tmp_path / "reader.mjs").write_text(re.search(r"```js\n(.*?)```", page, re.DOTALL)[1])
    done = subprocess.run(["node", tmp_path / "reader.mjs", exported], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.fullmatch(r"(\d+) cases agree\n", done.stdout)[1]) > 20


def test_the_page_says_what_is_true(manifest, files):
    page = (ROOT / "docs" / "corpus.md").read_text()
    size = sum(map(len, files.values())) / 1e6
    assert f"{len(manifest['cases']):,} cases" in page and f"{size:.1f} MB" in page and DIGEST in page
    shown = json.loads(re.search(r"```json\n(.*?)```", page, re.DOTALL)[1])
    assert shown == next(case for case in manifest["cases"] if case["name"] == shown["name"])
