"""Every hostile call of the table raises what its row says, or gives the right result, and the process lives.

The calls of one backend are made one after the other in a process of its own, with 2 GB of address space (or 2 GB more than its
libraries have mapped, where that is much, as CUDA's do; where an address space cannot be limited, with all). What came of a
call arrives through a pipe within 20 seconds, or the row has hung; where the process dies or hangs, the next row gets a new one.
"""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import tempfile
import time
from ast import literal_eval
from collections import Counter
from pathlib import Path

import hostile
import pytest

import pooling

SECONDS = 20  # for a row
STARTING = 120  # for a process
# Of a process of its own, as the calls are made there: other tests may have put a simulated GPU in this one.
USABLE = "import pooling; print(*[name for name, reason in pooling.backends().items() if reason is None])"
BACKENDS = subprocess.run([sys.executable, "-c", USABLE], capture_output=True, text=True, check=True).stdout.split()


class Process:
    """A process that makes the calls of a table from the `first` on."""

    def __init__(self, table: str, backend: str, first: int) -> None:
        here, package = Path(hostile.__file__).parent, Path(pooling.__file__).parents[1]
        code = f"import sys; sys.path[:0] = {[str(here), str(package)]}; import hostile; hostile.child(*{(table, backend, first)}"
        environment = os.environ | {"POOLING_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "1"}
        self.pipe, end = os.pipe()
        self.told, self.errors = b"", tempfile.TemporaryFile()  # noqa: SIM115  # end() closes it
        self.process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-W", "ignore", "-c", f"{code}, {end})"],
            pass_fds=(end,),
            env=environment,
            stderr=self.errors,
        )
        os.close(end)

    def line(self, seconds: float) -> str | None:
        """The next line that it writes; None where it hangs, and nothing where it has ended."""
        until = time.monotonic() + seconds
        while b"\n" not in self.told:
            if not select.select([self.pipe], [], [], max(0, until - time.monotonic()))[0]:
                return None
            more = os.read(self.pipe, 2**16)
            if not more:
                return ""
            self.told += more
        line, _, self.told = self.told.partition(b"\n")
        return line.decode()

    def end(self) -> str:
        """Ends the process; how it ended if it had, and the end of what it said."""
        if (code := self.process.poll()) is None:
            try:
                code = self.process.wait(1)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        os.close(self.pipe)
        self.errors.seek(0)
        with self.errors:
            return f"exit code {code}: {self.errors.read().decode(errors='replace')[-500:]}"


def faults(table: str, backend: str, count: int, seconds: float = SECONDS) -> list[str]:
    """What is wrong with each of a table's rows; nothing for those that are right."""
    found: list[str] = []
    while len(found) < count:
        process = Process(table, backend, len(found))
        ready = process.line(STARTING)
        if ready != "ready":
            raise AssertionError(f"the process does not start: {process.end()}")
        line: str | None = ready
        while line and len(found) < count:
            line = process.line(seconds)
            if line:
                found.append(literal_eval(line))
        how = process.end()
        if not line:
            found.append(f"no answer in {seconds} s" if line is None else f"the process died, {how}")
    return found


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_row(backend):
    rows = hostile.of(backend, hostile.ROWS)
    wrong = [f"{row.name}: {text}" for row, text in zip(rows, faults("rows", backend, len(rows)), strict=True) if text]
    assert not wrong, f"{len(wrong)} of {len(rows)} rows\n" + "\n".join(wrong)


def test_rows_that_fail_are_told():
    """A row that hangs, dies, takes memory, writes, or comes out otherwise is told from the next one, which is right."""
    rows = hostile.traps()
    said = dict(zip([row.name for row in rows], faults("traps", "cpu", len(rows), 3), strict=True))
    words = {
        "hang": "no answer in 3 s",
        "death": "the process died, exit code -6",
        "exit": "the process died, exit code 0",
        "memory": ", not MemoryError: Unable to allocate" if sys.platform == "linux" else "no MemoryError but a result",
        "kind": "ValueError, not TypeError",
        "word": "the message lacks ['stride']",
        "result": "no ValueError but a result",
        "written": "an array was written before the call failed",
        "cell": ", not (array(",
        "fine": "",
    }
    assert said.keys() == words.keys()
    assert {name: text for name, text in said.items() if (word := words[name]) not in text or bool(word) != bool(text)} == {}


def test_the_table_is_large_and_says_where_it_comes_from():
    rows = hostile.ROWS
    assert len(rows) >= 150
    assert [name for name, count in Counter(row.name for row in rows).items() if count > 1] == []
    assert {row.source for row in rows} == hostile.SOURCES.keys(), "a source without a row, or a row without its source"
    for name, link in hostile.SOURCES.items():
        assert re.fullmatch(r"https://[\w.-]+/\S+", link), name
        number = name.partition("#")[2]
        assert not number or link.endswith(f"/{number}"), name
    for row in rows:
        assert 1 <= row.section <= 6 and row.rule and row.on in (hostile.EVERY, hostile.NUMPY, hostile.MLX, *pooling.backends())
        if not callable(row.expected):
            kind, words = row.expected
            assert issubclass(kind, Exception) and words and all(words), row.name


def test_the_table_calls_everything():
    text = Path(hostile.__file__).read_text()
    called = [name for name in pooling.__all__ if name not in ("MODES", "backends", "cpu_info", "get_num_threads")]
    assert [name for name in called if not re.search(rf"\b{name}\(", text)] == []
