"""One process for each library, driven in turn: thread pools in one process spin in each other's way.

Messages travel through a pipe, so that what a library prints is in nobody's way. A worker is started when it is first
needed, and again after it has crashed or was stopped for taking too long; what it is asked carries all that it needs.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from problems import Array, Question
from rivals import Library

ONCE = 0.5  # seconds: a longer call is measured once
WARM = 0.03  # seconds of calls before those of a burst: threads that have slept may share a core until the scheduler parts them
SPINNING, GLANCE = 1.0, 0.005  # seconds: how long threads are waited for that spin for more work, and looked at
PATIENCE = 120.0  # seconds for all but a first call: imports, preparing, comparing
KNOBS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "POOLING_NUM_THREADS", "NPROC")


class Failed(Exception):
    """A sentence that stands in the place of a time."""


class Worker:
    """A library with so many threads, in a process."""

    def __init__(self, library: Library, threads: int, limit: float) -> None:
        self.library, self.threads, self.limit = library, threads, limit
        self._process: subprocess.Popen[bytes] | None = None

    def agree(self, question: Question, way: str, answer: Path, keep: bool) -> float | None:
        """Seconds of a call whose answer is the file's, or is kept there; None where the library has no words for it."""
        if not self._ask(PATIENCE, "prepare", question, way):
            return None
        seconds: float = self._ask(self.limit, "call", question, way)
        self._ask(PATIENCE, "check", question, way, answer, keep)
        return self.burst(question, way, 1) if seconds < self.limit / 3 else seconds  # the first may have compiled

    def burst(self, question: Question, way: str, calls: int) -> float:
        """The median of so many calls, in seconds; several are warmed up."""
        seconds: float = self._ask(PATIENCE, "burst", question, way, calls)
        return seconds

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._connection.close()
            self._process = None

    def _start(self) -> None:
        self._connection, theirs = Pipe()
        start = self.library.start
        fd = theirs.fileno()
        command = [sys.executable, __file__, str(fd), str(self.threads), start.__module__, start.__name__, *self.library.needs]
        paths = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
        environment = os.environ | dict.fromkeys(KNOBS, str(self.threads)) | {"PYTHONPATH": paths}
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(command, env=environment, pass_fds=[fd], stdin=quiet, stdout=quiet, stderr=quiet)
        theirs.close()

    def _ask(self, limit: float, *message: Any) -> Any:
        if self._process is None:
            self._start()
            self._receive(PATIENCE)
        self._connection.send(message)
        return self._receive(limit)

    def _receive(self, limit: float) -> Any:
        assert self._process is not None
        try:
            if not self._connection.poll(limit):
                self.stop()
                raise Failed(f"no answer within {limit:g} s")
            done, answer = self._connection.recv()
        except (EOFError, OSError):
            code = self._process.wait()
            self.stop()
            raise Failed(f"crashes: {signal.Signals(-code).name if code < 0 else f'exit status {code}'}") from None
        if not done:
            raise Failed(answer)
        return answer


@contextmanager
def running(workers: list[Worker]) -> Iterator[None]:
    """Stops the workers in the end."""
    try:
        yield
    finally:
        for worker in workers:
            worker.stop()


# ---- in the worker's process -----------------------------------------------------------------------------------------------


class Subject:
    """What the process holds: the calls of one question, made when first asked for."""

    def __init__(self, start: Any, threads: int) -> None:
        self._start, self._threads, self._question, self._made = start, threads, None, {}

    def made(self, question: Question, way: str) -> Any:
        if self._question != question:
            self._question, self._made = question, {}
        if way not in self._made:
            self._made[way] = self._start(question, way, self._threads)
        return self._made[way]

    def prepare(self, question: Question, way: str) -> bool:
        return self.made(question, way) is not None

    def call(self, question: Question, way: str) -> float:
        seconds, self._result = timed(self.made(question, way)[0])
        return seconds

    def check(self, question: Question, way: str, kept: Path, keep: bool) -> None:
        """Compares the last call's answer with the one in a file, or keeps it there."""
        with open(kept, "wb" if keep else "rb") as file:
            for array in self.made(question, way)[1](self._result):
                if keep:
                    np.save(file, array.astype(np.float64))
                else:
                    compare(question, np.load(file), np.asarray(array))
        self._result = None

    def burst(self, question: Question, way: str, calls: int) -> float:
        run, _ = self.made(question, way)
        end = time.monotonic() + WARM
        while calls > 1 and time.monotonic() < end:
            run()
        seconds = median(timed(run)[0] for _ in range(calls))
        rest()
        return seconds


def rest() -> None:
    """Returns when no thread of this process works or spins any more, or after a second: the next library wants all cores."""
    end = time.monotonic() + SPINNING
    while time.monotonic() < end:
        before = time.process_time()
        time.sleep(GLANCE)
        if time.process_time() - before < GLANCE / 10:
            return


def timed(run: Any) -> tuple[float, Any]:
    """Seconds, and the result."""
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def compare(question: Question, want: Array, got: Array) -> None:
    """Refuses an answer that is not ours. Its type may be larger; one of fewer bytes is less to write."""
    result = question.problem.result_dtype(question.dtype)
    if got.shape != want.shape or got.itemsize < result.itemsize:
        raise Failed(f"differs: {got.dtype} {got.shape}, not {result} {want.shape}")
    wrong = int((abs(got.astype(np.float64) - want) > question.problem.tolerance(question.part, want, result.name)).sum())
    if wrong:
        raise Failed(f"differs: {wrong} of {want.size} cells")


def outcome(call: Any, *arguments: Any) -> tuple[bool, Any]:
    """Whether it gave a result, and that, or a sentence: a rival may lack a type, an operation or memory."""
    try:
        return True, call(*arguments)
    except Failed as failed:
        return False, str(failed)
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        return False, f"fails: {type(error).__name__}: {first[:100]}"


def prepared(threads: int, module: str, name: str, needs: list[str]) -> Subject:
    """Imports the library, on as many cores as it shall have threads: not every one has a knob for them."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    for need in needs:
        importlib.import_module(need)
    return Subject(getattr(importlib.import_module(module), name), threads)


def serve(fd: int, threads: int, module: str, name: str, *needs: str) -> None:
    """Answers until the pipe is closed; first, whether the library could be imported."""
    connection = Connection(fd)
    done, subject = outcome(prepared, threads, module, name, needs)
    connection.send((done, None if done else subject))
    while done:
        try:
            what, *message = connection.recv()
        except EOFError:
            return
        connection.send(outcome(getattr(subject, what), *message))


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
