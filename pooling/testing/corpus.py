"""The golden corpus: cases with their inputs and answers as files, for authors of kernels in any language.

`python -m pooling.testing export DIR` writes it, `verify DIR` compares a folder with what the oracle gives now. docs/corpus.md
describes it for its readers. Every byte is decided here: the zip and .npy headers are written by this module, and norms,
the only answers that rest on a power function, are those of norms.py. So the corpus is the same on every machine and under
every version of Python and NumPy, and the SHA-256 of its manifest, which lists that of every file, is its name: the digest.

A case is a file. Any zip or .npy library can read it; but its arrays are stored, not deflated, so that a reader needs
none: the manifest and the table give the place of each array's first byte.

The cases are chosen, in an order that is random but the same everywhere, for what no case before them covers: see `covers`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import stat
import struct
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache, lru_cache
from hashlib import sha256
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import pooling

from . import norms, oracle
from .cases import FLOATS, Array, data, letters_of, relayout
from .golden import FEATURES, LAYOUTS, TYPES, Golden, asked
from .schema import ARRAYS, SCHEMA, VERSION, fault

FORWARD = ("pool", "adaptive_pool")
EDITION = 1  # goes up when a byte of the corpus changes: a case, an array, a word
MANIFEST, TABLE, README, SCHEMA_FILE, MARK = "manifest.json", "cases.tsv", "README.txt", "manifest.schema.json", "incomplete"
ABOUT = f"""\
The golden corpus of pooling: calls of pooling operators, and what each must give.

{MANIFEST}  every case; {SCHEMA_FILE} describes it. Its SHA-256 is the digest of the corpus.
{TABLE}      the same as a table, tab-separated, for readers without a JSON parser.
cases/*.npz    the arrays of one case each: a zip archive of .npy files, not compressed. The manifest and the
               table say where in its file each array begins: cells in row-major order, little-endian.

bfloat16 is stored as uint16, its upper half of a float32. A NaN agrees with every NaN, and zeros of both signs agree.
"""


class Refusal(Exception):
    """The command cannot do what it was asked; the message says why."""


# ---- cases ---------------------------------------------------------------------------------------------------


class Entry(NamedTuple):
    """A case, with the arrays that the corpus has for it, in the layout of the case."""

    golden: Golden
    inputs: Mapping[str, Array]
    expected: tuple[Array, ...]

    @property
    def name(self) -> str:
        """As the case's, but that norms have data of their own: "exact", with NaN and infinities "exact_special"."""
        name = self.golden.name
        return name.replace("/real/", "/exact/").replace("/special/", "/exact_special/") if self.golden.mode == "lp" else name

    @property
    def file(self) -> str:
        return f"cases/{self.name.replace('/', '.')}.npz"


def candidates() -> Iterator[Golden]:
    """All that a case of the corpus may be: the cases of `pooling.testing.cases`, and sums of small integers."""
    for question in asked():
        kinds = [question.kind]
        if question.mode == "lp" and (question.p == 2.5 or (question.kind != "real" and question.dtype not in FLOATS)):
            kinds = []  # no norm that is exact, or no NaN in it
        elif question.mode != "lp" and question.kind == "real":
            kinds.append("small_integers")
        for kind in kinds:
            for golden in replace(question, kind=kind).goldens():
                backward = golden.function.endswith("_backward")
                if not (backward and question.mode == "lp" and (question.p == 0.5 or kind != "real")):
                    yield golden


def covers(golden: Golden) -> frozenset[Any]:
    """What it is in the corpus for, unless another case is.

    Every function under every named geometry in every mode, in some element type and in float32, whose max
    and avg have both named layouts; every function in every mode (and every p), element type and layout; and
    every two words together of: function, mode, rank, layout, element type, data, features.
    """
    question = golden.question
    power = question.mode if question.p is None else f"{question.mode}-{question.p:g}"
    layout = golden.layout if golden.layout in LAYOUTS[:2] else "letters"
    call = (golden.function, golden.indices)
    words = (golden.function, f"mode {power}", f"rank {golden.rank}", layout, golden.dtype, f"data {question.kind}")
    problem = (golden.function, question.case.name, question.mode)
    wholes: list[Any] = [(*problem, golden.indices), (*call, power, golden.dtype, layout)]
    if golden.dtype == "float32" and layout != "letters":  # what most kernels are written for first
        wholes += [problem, (*problem, layout)] if question.mode in ("max", "avg") and call[0] in FORWARD else [problem]
    return _pairs(words, golden.features).union(wholes)


@cache
def _pairs(words: tuple[str, ...], features: frozenset[str]) -> frozenset[Any]:
    return frozenset(combinations(sorted({*words, *features}), 2))


@lru_cache(maxsize=1)
def chosen() -> tuple[Entry, ...]:
    """The cases of the corpus, by name; their arrays are made when they are read."""
    if "bfloat16" not in TYPES:
        raise Refusal("the corpus has cases in bfloat16, which needs the package ml_dtypes: pip install ml_dtypes")
    covered: set[Any] = set()
    found: list[Entry] = []
    for golden in sorted(candidates(), key=lambda golden: sha256(golden.name.encode()).digest()):
        own = covers(golden)
        if not own <= covered:
            entry = entry_of(golden)
            if entry is not None:
                covered |= own
                found.append(entry)
    return tuple(sorted(found, key=lambda entry: entry.name))


def entry_of(golden: Golden) -> Entry | None:
    """The case with its arrays; None for a norm of which the element type has no exact one."""
    question = golden.question
    if question.mode == "lp":
        return _norm(golden)
    if question.kind == "small_integers" and golden.function.endswith("_backward"):
        arrays = golden.arrays
        arrays["grad_output"] = data(arrays["grad_output"].shape, golden.dtype, 2, "small_integers")
        given = {name: value for name, value in golden.arguments.items() if name != "return_indices"}
        return Entry(golden, arrays, (getattr(oracle, golden.function)(**arrays, **given),))
    return Entry(golden, golden.arrays, golden.expected)


def _norm(golden: Golden) -> Entry | None:
    question = golden.question
    assert question.family != "max_unpool"
    window = {name: value for name, value in question.arguments.items() if name not in ("mode", "p", "dtype")}
    p = 2.0 if question.p is None else question.p
    problem = (question.family, question.case.x_shape, window, question.dtype, p)
    backward = golden.function.endswith("_backward")
    found = norms.backward(*problem) if backward else norms.forward(*problem, question.result)
    if found is None:
        return None
    arrays, (expected,) = found
    if question.kind == "special":
        special = data(question.case.x_shape, question.dtype, 1, "special")
        with np.errstate(invalid="ignore"):
            wild = np.abs(special.astype(np.float64))
        call = getattr(oracle, question.family)
        worst = call(np.where(np.isfinite(wild), 0, wild), "max", **window)  # NaN before infinity before 0
        arrays = {"x": np.where(np.isfinite(wild), arrays["x"], special)}
        seen = oracle._convert(worst, expected.dtype)
        expected = np.where(worst > 0, seen, np.where(worst != worst, seen, expected))
    return Entry(
        golden,
        {name: np.ascontiguousarray(relayout(array, golden.layout)) for name, array in arrays.items()},
        (np.ascontiguousarray(relayout(expected, golden.layout)),),
    )


def exact_sums(golden: Golden, inputs: Mapping[str, Array]) -> bool:
    """Whether every order of adding gives the same bits, for certain: sums of few bits, or nothing to add.

    Cells that are multiples of a quantum have exact sums, partial ones too, while the sum of their sizes is below
    2**bits quanta; NaN and infinities have the same sum in every order.
    """
    backward, mode, own = golden.function.endswith("_backward"), golden.mode, golden.dtype
    if mode == "lp" or golden.function == "max_unpool" or (mode in ("max", "min") and not backward):
        return True
    if own not in FLOATS and (mode == "sum" or own not in ("int64", "uint64")):
        return True  # integers, modulo 2**64
    added = inputs["grad_output" if backward else "x"].astype(np.float64)
    if backward and mode == "avg":
        case = golden.question.case
        include, override = getattr(case, "count_include_pad", True), getattr(case, "divisor_override", None)
        divisors = oracle._divisor(golden.windows, include, override, np.dtype(np.float64))
        with np.errstate(all="ignore"):
            added = relayout(added, "channels_last", golden.layout) / divisors
    added = np.abs(added[np.isfinite(added)])
    mantissas, exponents = np.frexp(added[added > 0])
    whole = np.ldexp(mantissas, 53).astype(np.int64)
    lowest = whole & -whole  # the last bit that is set
    quantum = np.ldexp(lowest.astype(np.float64), exponents - 53).min(initial=np.inf)
    bits = 52 if own in ("float64", "int64", "uint64") or golden.question.result == "float64" else 24  # 52: this sum too is exact
    with np.errstate(over="ignore"):
        return bool(added.sum() < 2.0**bits * quantum)


# ---- bytes ---------------------------------------------------------------------------------------------------

NAN = {"float16": 0x7E00, "bfloat16": 0x7FC0, "float32": 0x7FC00000, "float64": 0x7FF8 << 48}  # quiet, positive, no payload
ALIGNED = 64
EPOCH = (1980 - 1980) << 9 | 1 << 5 | 1  # the first day that a zip archive can name


def stored(array: Array, positive_zeros: bool) -> tuple[str, bytes]:
    """NumPy's name of the type in the file, and the cells: row-major, little-endian, every NaN the same."""
    name = array.dtype.name
    if name in NAN:
        array = array.astype(array.dtype.newbyteorder("="), order="C")
        bits = array.view(f"u{array.dtype.itemsize}").copy()
        bits[np.isnan(array)] = NAN[name]
        if positive_zeros:
            bits[array == 0] = 0
        array = bits
    little = array.astype(array.dtype.newbyteorder("<"))
    kind = "f" if name in NAN and name != "bfloat16" else little.dtype.kind
    order = "|" if little.dtype.itemsize == 1 else "<"
    return f"{order}{kind}{little.dtype.itemsize}", little.tobytes()


def npy(descr: str, shape: tuple[int, ...], cells: bytes) -> bytes:
    """A .npy file, version 1.0.

    >>> npy("<f4", (1,), bytes(4))[:6], len(npy("<f4", (1,), bytes(4)))
    (b'\\x93NUMPY', 132)
    """
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape!r}, }}"
    header = header.ljust(-(-(len(header) + 11) // ALIGNED) * ALIGNED - 11) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode("ascii") + cells


def archive(members: Iterable[tuple[str, bytes]]) -> tuple[bytes, dict[str, int]]:
    """A zip archive of stored members, in this order; and where each one's first byte is: at a multiple of 64."""
    body, directory, places = b"", b"", {}
    for name, content in members:
        pad = -(len(body) + 30 + len(name) + 6) % ALIGNED
        extra = struct.pack("<HHH", 0xD935, 2 + pad, ALIGNED) + bytes(pad)  # Android's zipalign: readers skip it
        facts = (20, 0, 0, 0, EPOCH, zlib.crc32(content), len(content), len(content), len(name))  # version, flags, method, time
        directory += struct.pack("<4sH5H3I5H2I", b"PK\1\2", 20, *facts, 0, 0, 0, 0, 0, len(body)) + name.encode("ascii")
        body += struct.pack("<4s5H3I2H", b"PK\3\4", *facts, len(extra)) + name.encode("ascii") + extra
        places[name] = len(body)
        body += content
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, len(places), len(places), len(directory), len(body), 0)
    return body + directory + end, places


def packed(entry: Entry) -> tuple[bytes, list[dict[str, Any]]]:
    """The file of a case, and the manifest's records of its arrays."""
    arrays = {**entry.inputs, **dict(zip(("expected", "expected_indices"), entry.expected, strict=False))}
    cells = {name: stored(array, name.startswith("expected")) for name, array in arrays.items()}
    members = {name: npy(descr, arrays[name].shape, raw) for name, (descr, raw) in cells.items()}
    content, places = archive((f"{name}.npy", member) for name, member in members.items())
    return content, [
        {
            "name": name,
            "member": f"{name}.npy",
            "dtype": arrays[name].dtype.name,
            "stored": descr,
            "shape": list(arrays[name].shape),
            "offset": places[f"{name}.npy"] + len(members[name]) - len(raw),
            "bytes": len(raw),
        }
        for name, (descr, raw) in cells.items()
    ]


def _plain(value: Any) -> Any:
    """As JSON has it: no tuples, types or infinities."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return "inf" if value == math.inf else int(value) if value == int(value) else value
    return value.name if isinstance(value, np.dtype) else value


GEOMETRY = tuple(SCHEMA["$defs"]["case"]["properties"]["geometry"]["properties"])


def record(entry: Entry, content: bytes, arrays: list[dict[str, Any]]) -> dict[str, Any]:
    """The manifest's record of a case."""
    golden, plain = entry.golden, entry.golden.plain
    if golden.mode == "lp":
        plain.setdefault("p", 2.0)
    if golden.function == "max_unpool":
        size = relayout(entry.expected[0], "channels_last", golden.layout).shape[1:-1]
        plain = {"output_size": size}
    return {
        "name": entry.name,
        "file": entry.file,
        "bytes": len(content),
        "sha256": sha256(content).hexdigest(),
        "probes": golden.probes,
        "function": golden.function,
        "mode": golden.mode,
        "rank": golden.rank,
        "axes": letters_of(golden.layout, golden.rank + 2),
        "dtype": golden.dtype,
        "data": entry.name.split("/")[4],
        "features": sorted(golden.features),
        "exact_sums": exact_sums(golden, entry.inputs),
        "geometry": {name: _plain(plain[name]) for name in GEOMETRY if name in plain},
        "arguments": {name: _plain(value) for name, value in golden.arguments.items()},
        "arrays": arrays,
    }


COLUMNS = ("name", "file", "function", "mode", "axes", "dtype", "data", "exact_sums")


def table(records: Iterable[Mapping[str, Any]]) -> str:
    """The cases as tab-separated lines: a cell is empty where a case has no such thing, lists are joined by commas."""

    def cell(value: Any) -> str:
        if isinstance(value, list):
            return ",".join(map(cell, value))
        return "" if value is None else str(int(value) if isinstance(value, bool) else value)

    lines = ["\t".join([*COLUMNS, *GEOMETRY, *ARRAYS])]
    for one in records:
        places = {array["name"]: f"{array['dtype']}@{array['offset']}:{cell(array['shape'])}" for array in one["arrays"]}
        own = [*(one[name] for name in COLUMNS), *(one["geometry"].get(name) for name in GEOMETRY)]
        lines.append("\t".join([*map(cell, own), *(places.get(name, "") for name in ARRAYS)]))
    return "\n".join(lines) + "\n"


def files() -> Iterator[tuple[str, bytes]]:
    """Every file of the corpus and its content; the manifest comes last."""
    records = []
    for entry in chosen():
        content, arrays = packed(entry)
        records.append(record(entry, content, arrays))
        yield entry.file, content
    schema = json.dumps(SCHEMA, indent=1, ensure_ascii=True) + "\n"
    texts = {SCHEMA_FILE: schema, TABLE: table(records), README: ABOUT}
    listed = []
    for name, text in texts.items():
        content = text.encode("ascii")
        listed.append({"file": name, "bytes": len(content), "sha256": sha256(content).hexdigest()})
        yield name, content
    head = {"format": "pooling-corpus", "version": VERSION, "edition": EDITION}
    parts = {**head, "features": {word: text for word, (text, _) in sorted(FEATURES.items())}, "files": listed}
    lines = ",\n".join(json.dumps(one, ensure_ascii=True) for one in records)  # a case is a line, for diff
    yield MANIFEST, (json.dumps(parts, ensure_ascii=True)[:-1] + f', "cases": [\n{lines}\n]}}\n').encode("ascii")


# ---- folders -------------------------------------------------------------------------------------------------

LARGEST = 2**26  # bytes; no file of a corpus comes near
SHOWN = 20  # things wrong that are printed


def _entries(folder: Path) -> dict[str, os.stat_result]:
    """What lies in a folder and below, but folders: by path with slashes. Links are not followed."""
    found = {}
    for where, folders, names in os.walk(folder):
        linked = [name for name in folders if (Path(where) / name).is_symlink()]
        for name in (*names, *linked):
            path = Path(where) / name
            found[path.relative_to(folder).as_posix()] = path.lstat()
    return found


def _read(folder: Path, name: str, status: os.stat_result) -> bytes | str:
    """The content, or why it is not read."""
    if not stat.S_ISREG(status.st_mode):
        return "is no plain file"
    if status.st_size > LARGEST:
        return f"has {status.st_size:,} bytes; no file of a corpus is that large"
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _manifest(content: bytes) -> dict[str, Any] | str:
    """What a manifest says, or why it cannot be one."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no JSON")

    try:
        value = json.loads(content, parse_constant=refuse)
        if not isinstance(value, dict) or value.get("format") != "pooling-corpus":
            return "is no manifest of a corpus of pooling"
        if value.get("version") != VERSION:
            return (
                f"is of format version {value.get('version')!r:.40}; this is pooling {pooling.__version__}, which reads {VERSION}"
            )
        wrong = fault(value)
    except RecursionError:
        return "is nested too deeply"
    except ValueError as error:  # of json, of int() and of UTF-8
        return f"is no JSON: {error}"
    return f"is not as {SCHEMA_FILE} has it: {wrong}" if wrong else value


def verify(folder: str | os.PathLike[str]) -> list[str]:
    """What is wrong with the corpus in a folder, a sentence each; nothing where it is, byte for byte, what export writes now.

    Nothing in the folder is trusted: a file is read if it is a plain one of moderate size, and then only compared.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise Refusal(f"{folder} is no folder")
    if not (folder / MANIFEST).exists():
        unfinished = "; its export was not completed" if (folder / MARK).exists() else ""
        return [f"{MANIFEST} is missing{unfinished}"]
    content = _read(folder, MANIFEST, (folder / MANIFEST).lstat())
    told = _manifest(content) if isinstance(content, bytes) else content
    if isinstance(told, str):
        return [f"{MANIFEST} {told}"]
    listed = {one["file"]: one for one in (*told["files"], *told["cases"])}
    here = _entries(folder)
    wrong: dict[str, list[str]] = {MANIFEST: []}
    if len(listed) < len(told["files"]) + len(told["cases"]):
        wrong[MANIFEST].append("lists a file twice")
    if told["edition"] != EDITION:
        wrong[MANIFEST].append(f"is of edition {told['edition']}; pooling {pooling.__version__} has edition {EDITION}")
    contents = {}
    for name in sorted({*here, *listed} - {MANIFEST}):
        say = wrong.setdefault(name, []).append
        if name not in here:
            say("is missing")
        elif name not in listed:
            say("is no part of the corpus")
        elif isinstance(content := _read(folder, name, here[name]), str):
            say(content)
        else:
            contents[name] = content
            if len(content) != listed[name]["bytes"]:
                say(f"has {len(content):,} bytes, and the manifest says {listed[name]['bytes']:,}")
            elif sha256(content).hexdigest() != listed[name]["sha256"]:
                say("has another SHA-256 than the manifest says")
    _compare(contents, told, wrong)
    return [f"{name} {'; '.join(sentences)}" for name, sentences in wrong.items() if sentences]


def _compare(contents: Mapping[str, bytes], told: Mapping[str, Any], wrong: dict[str, list[str]]) -> None:
    """Says where contents and manifest are not what export would write now."""
    ours = dict(files())
    manifest = json.loads(ours[MANIFEST])
    records, theirs = ({one["file"]: one for one in (*of["files"], *of["cases"])} for of in (manifest, told))
    for name in sorted({*records} | {*theirs}):
        if name not in theirs:
            wrong[MANIFEST].append(f"does not list {name}")
        elif name not in records:
            wrong[MANIFEST].append(f"lists {name}, which pooling {pooling.__version__} has not")
        elif theirs[name] != records[name]:
            fields = [field for field in records[name] if theirs[name].get(field) != records[name][field]]
            wrong[MANIFEST].append(f"says something else of {name}: {', '.join(fields)}")
        if name in records and name in contents and contents[name] != ours[name]:
            wrong[name].append(_difference(contents[name], ours[name], records[name]))
    if not wrong[MANIFEST] and manifest != told:
        wrong[MANIFEST].append("says something else of features or the format")


def _difference(got: bytes, want: bytes, record: Mapping[str, Any]) -> str:
    """The first place where a file is not what it must be, in words."""
    if len(got) != len(want):
        return f"should have {len(want):,} bytes"
    place = next(i for i, (a, b) in enumerate(zip(got, want, strict=True)) if a != b)
    for array in record.get("arrays", ()):
        if array["offset"] <= place < array["offset"] + array["bytes"]:
            size = array["bytes"] // math.prod(array["shape"])
            cell = (place - array["offset"]) // size
            where = tuple(map(int, np.unravel_index(cell, array["shape"])))
            start = array["offset"] + cell * size
            held, due = (content[start : start + size][::-1].hex() for content in (got, want))
            return f"has 0x{held} in {array['name']}{list(where)}, where the oracle gives 0x{due}"
    return f"differs at byte {place:,}"


def export(folder: str | os.PathLike[str]) -> str:
    """Writes the corpus to a folder, which is made; the result is the digest.

    A folder that holds anything but this corpus, or what an interrupted export left of it, is refused. The
    manifest is written last, so that what has one is whole.
    """
    folder = Path(folder)
    names = {*(entry.file for entry in chosen()), MANIFEST, TABLE, README, SCHEMA_FILE, MARK}
    if folder.exists() and not folder.is_dir():
        raise Refusal(f"{folder} is no folder")
    here = _entries(folder) if folder.exists() else {}
    foreign = [name for name, status in here.items() if name not in names or not stat.S_ISREG(status.st_mode)]
    if MANIFEST in here and MANIFEST not in foreign:
        content = _read(folder, MANIFEST, here[MANIFEST])
        foreign += [MANIFEST] if isinstance(content, str) or isinstance(_manifest(content), str) else []
    elif here and MARK not in here:
        foreign = foreign or sorted(here)
    if foreign:
        more = f" and {len(foreign) - 1:,} more" if foreign[1:] else ""
        raise Refusal(f"{folder} holds {foreign[0]}{more}, no part of this corpus: name an empty folder, or a new one")
    (folder / "cases").mkdir(parents=True, exist_ok=True)
    (folder / MARK).write_bytes(b"An export of the corpus was begun here and has not come to its end.\n")
    (folder / MANIFEST).unlink(missing_ok=True)
    content = b""
    for name, content in files():
        if name != MANIFEST:
            (folder / name).write_bytes(content)
    (folder / MARK).write_bytes(content)
    os.replace(folder / MARK, folder / MANIFEST)
    return sha256(content).hexdigest()


def main(arguments: list[str]) -> int:
    """`export DIR` and `verify DIR`; the result is the exit code.

    0: done, and all is well. 1: the folder is not what export would write. 2: it cannot be done.
    """
    parser = argparse.ArgumentParser(prog="python -m pooling.testing", description="The golden corpus.")
    words = parser.add_subparsers(dest="word", required=True, metavar="export | verify")
    words.add_parser("export", help="write the corpus").add_argument("folder", metavar="DIR", help="an empty folder or a new one")
    words.add_parser("verify", help="compare one with what the oracle gives now").add_argument("folder", metavar="DIR")
    given = parser.parse_args(arguments)
    try:
        if given.word == "export":
            digest = export(given.folder)
            print(f"{given.folder}: {len(chosen()):,} cases, edition {EDITION}, digest {digest}")
            return 0
        wrong = verify(given.folder)
    except (Refusal, OSError) as error:
        print(f"pooling.testing: {error}", file=sys.stderr)
        return 2
    for sentence in wrong[:SHOWN]:
        print(f"{sentence:.2000}")
    if wrong:
        print(f"{given.folder}: {len(wrong):,} files are wrong" + (f"; {SHOWN} are shown" if len(wrong) > SHOWN else ""))
        return 1
    print(f"{given.folder}: {len(chosen()):,} cases, every file is what the oracle gives now")
    return 0
