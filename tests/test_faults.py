"""What goes wrong around a call: no memory, a signal, other threads, a fork, arguments that call back. Nothing is lost.

A result is right or there is none; an `out` is whole or untouched; errors keep nothing alive.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import soak
import test_errors

import pooling
from pooling.testing import data

HERE = Path(__file__)
linux = pytest.mark.skipif(sys.platform != "linux", reason="memory cannot be limited, or its allocator replaced, here")


def alone(statement: str, **environment: str) -> None:
    """The statement on this module's names, in a process of its own, with a watchdog."""
    paths = [str(HERE.parent), str(Path(pooling.__file__).parents[1])]
    code = f"import sys\nsys.path[:0] = {paths!r}\nfrom {HERE.stem} import *\n{statement}\n"
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


# ---- an `out` is whole or untouched ----------------------------------------------------------------------------------


def _pair(shape):
    return np.zeros(shape, np.float32), np.zeros(shape, np.int64)


def outs(n):
    """Calls with an `out`: name -> (the arrays that are written, the call)."""
    x = data((2, n, n + 3, 3), "float32", 1)
    shape = (2, (n - 3) // 2 + 1, n // 2 + 1, 3)
    plain, pair, turned, over = np.zeros(shape, np.float32), _pair(shape), np.zeros(shape, np.float32)[:, ::-1], x.copy()
    inside, places = over[:, : shape[1], : shape[2]], np.zeros(shape, np.int64)
    shifted = np.zeros(plain.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(shape)
    whole = np.zeros((2, 3), np.float32)
    return {
        "plain": ((plain,), lambda: pooling.pool(x, "max", 3, 2, out=plain)),
        "a pair": (pair, lambda: pooling.pool(x, "min", 3, 2, return_indices=True, out=pair)),
        "reversed": ((turned,), lambda: pooling.pool(x, "avg", 3, 2, out=turned)),
        "of swapped cells": ((plain,), lambda: pooling.pool(x.astype(">f4"), "sum", 3, 2, out=plain)),
        "unaligned": ((shifted,), lambda: pooling.pool(x, "lp", 3, 2, out=shifted)),
        "inside x": ((inside,), lambda: pooling.pool(over, "max", 3, 2, out=inside)),
        "a pair, inside x": (
            (inside, places),
            lambda: pooling.pool(over, "max", 3, 2, return_indices=True, out=(inside, places)),
        ),
        "adaptive": ((plain,), lambda: pooling.adaptive_pool(x, "max", shape[1:3], out=plain)),
        "global": ((whole,), lambda: pooling.global_pool(x, "max", keepdims=False, out=whole)),
    }


def state(arrays):
    return tuple(array.tobytes() for array in arrays)


def start_again(arrays, cells):
    for array, known in zip(arrays, cells, strict=True):
        array[...] = known


@pytest.mark.parametrize("name", outs(8))
def test_interrupted_anywhere(name):
    """KeyboardInterrupt before each bytecode of the package in turn: signals are handled nowhere else."""
    arrays, call = outs(8)[name]
    before = [array.copy() for array in arrays]
    call()
    states = state(before), state(arrays)
    assert all(a != b for a, b in zip(*states, strict=True))
    seen = set()
    for moment in count(1):
        left = moment

        def trace(frame, event, _):
            nonlocal left
            if "pooling" not in frame.f_code.co_filename:
                return None
            frame.f_trace_opcodes = True
            left -= event == "opcode"
            if left == 0:
                left = -1
                raise KeyboardInterrupt
            return trace

        start_again(arrays, before)
        tracing = sys.gettrace()
        sys.settrace(trace)
        try:
            call()
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(tracing)
        assert state(arrays) in states, f"half written, at bytecode {moment}"
        seen.add(state(arrays))
        if left > 0:
            break
    assert moment > 50 and len(seen) == 2
    start_again(arrays, before)
    call()
    assert state(arrays) == states[1]


def interrupt():
    """SIGINT while a kernel runs: it finishes, and then there is the exception."""
    x = data((1, 700, 700, 8), "float32", 1)
    pair = np.empty_like(x), np.empty(x.shape, np.int64)
    for mode, options, arrays in (("lp", {"p": 2.5}, pair[:1]), ("max", {"return_indices": True}, pair)):
        out = arrays if len(arrays) == 2 else arrays[0]
        begin = time.monotonic()
        pooling.pool(x, mode, 31, 1, 15, **options, out=out)
        passed, want = time.monotonic() - begin, [array.copy() for array in arrays]
        for part in (0.25, 0.5, 0.75):
            start_again(arrays, [-1] * len(arrays))
            timer = threading.Timer(part * passed, os.kill, (os.getpid(), signal.SIGINT))
            raised = False
            try:
                timer.start()
                pooling.pool(x, mode, 31, 1, 15, **options, out=out)
                timer.join()
            except KeyboardInterrupt:
                raised = True
            assert raised
            assert all((array == cells).all() for array, cells in zip(arrays, want, strict=True)), (mode, part)


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot send itself SIGINT there")
def test_interrupted_by_a_signal():
    alone("interrupt()")


# ---- no memory -------------------------------------------------------------------------------------------------------

# Fails the n-th large allocation from now on, and counts those that are alive. Python's own are smaller.
ALLOCATOR = r"""
#include <malloc.h>
#include <stdatomic.h>
#include <stddef.h>
enum { LARGE = 4096 };
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t), __libc_free(void *);
static atomic_long left, live;
static int fails(size_t n) { return n >= LARGE && left > 0 && --left == 0; }
static int large(void *p) { return p && malloc_usable_size(p) >= LARGE; }
static void *counted(void *p) { live += large(p); return p; }
void *malloc(size_t n) { return fails(n) ? NULL : counted(__libc_malloc(n)); }
void *calloc(size_t n, size_t size) { return fails(n * size) ? NULL : counted(__libc_calloc(n, size)); }
void *memalign(size_t a, size_t n) { return fails(n) ? NULL : counted(__libc_memalign(a, n)); }
void *aligned_alloc(size_t a, size_t n) { return memalign(a, n); }
int posix_memalign(void **p, size_t a, size_t n) { *p = memalign(a, n); return *p ? 0 : 12; }
void free(void *p) { live -= large(p); __libc_free(p); }
void *realloc(void *p, size_t n) {
    int before = large(p);
    void *moved;
    if (fails(n)) return NULL;
    moved = __libc_realloc(p, n);
    if (moved || !n) live -= before;
    return counted(moved);
}
void fail_at(long n) { left = n; }
long pending(void) { return left; }
long alive(void) { return live; }
"""


def fail_allocations(library, failures):
    """Each large allocation of each call fails in turn, until so many have: no leak, no half-written `out`."""
    import ctypes

    memory = ctypes.CDLL(library)
    pooling.set_num_threads(1)  # OpenMP's library ends the process when it has no memory
    np.setbufsize(256)  # NumPy 2.4 crashes where it has none for its own buffers: these are smaller than LARGE now
    calls = {name: ((), call) for name, call in soak.calls_on(48, 50).items()} | outs(48)
    for _, call in calls.values():
        call()
    known = {name: [array.copy() for array in arrays] for name, (arrays, _) in calls.items()}

    def one_round():
        failed = 0
        for name, (arrays, call) in calls.items():
            start_again(arrays, known[name])
            call()
            states = state(known[name]), state(arrays)
            for n in count(1):
                start_again(arrays, known[name])
                memory.fail_at(n)
                try:
                    call()
                except MemoryError:
                    assert state(arrays) == states[0], f"{name}: out was written, allocation {n} failed"
                except AssertionError as error:  # a call that is wrong met its error too late
                    assert "no " in str(error) or isinstance(error.__context__, MemoryError), name
                reached = memory.pending() == 0
                memory.fail_at(0)
                if not reached:
                    break
                failed += 1
            assert state(arrays) == states[1], name
        gc.collect()
        return failed

    failed = one_round() + one_round()
    before = memory.alive()
    while failed < failures:
        failed += one_round()
    assert failed >= failures and memory.alive() == before, (failed, before, memory.alive())


@linux
def test_no_memory_at_any_allocation(tmp_path):
    (tmp_path / "allocator.c").write_text(ALLOCATOR)
    library = str(tmp_path / "allocator.so")
    subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-fno-builtin", tmp_path / "allocator.c", "-o", library], check=True)
    alone(f"fail_allocations({library!r}, 1000)", LD_PRELOAD=library, POOLING_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")


def limited(times):
    """Results that a limit of the address space leaves no room for, so many times."""
    import resource

    x = data((1, 1024, 2048, 1), "float32", 1)
    y = pooling.pool(x, "max", 2, 1, 1)[:, :-1, :-1]
    kept, i = x.copy(), np.zeros(1)
    calls = (
        lambda: pooling.pool(x, "max", 3, 1, 1, out=x),
        lambda: pooling.pool(x, "max", 3, 1, 1, return_indices=True),
        lambda: pooling.pool_backward(y, x, "max", 3, 1, 1),
        lambda: pooling.pool_backward(y, x, "lp", 3, 1, 1),
        lambda: pooling.adaptive_pool(x, "avg", (1000, 2000)),
    )

    def used():
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()

    limit = used() + (4 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for n in range(times):
        if n == 20:
            i = used()
        try:
            calls[n % len(calls)]()
        except MemoryError:
            assert n % len(calls) or (x == kept).all(), "out was written"
            continue
        raise AssertionError(f"call {n % len(calls)}: no MemoryError")
    assert used() <= i


@linux
def test_no_memory_within_a_limit():
    freed = {"MALLOC_MMAP_THRESHOLD_": "1000000"}  # what glibc has been given back is the system's again
    alone("limited(1000)", POOLING_NUM_THREADS="2", OPENBLAS_NUM_THREADS="1", **freed)


# ---- errors keep nothing ---------------------------------------------------------------------------------------------


def errors():
    """Calls that are wrong, on arrays of their own: name -> (those arrays, the error, the call)."""
    x = data((2, 9, 9, 3), "float32", 1)
    y, i = pooling.pool(x, "max", 3, 2, return_indices=True)
    wrong, frozen, less = i + 81, y.copy(), y[:1].copy()
    frozen.flags.writeable = False
    return {
        "kernel": ([x], ValueError, lambda: pooling.pool(x, "max", 10)),
        "mode": ([x], ValueError, lambda: pooling.pool(x, "most", 2)),
        "dtype": ([x], TypeError, lambda: pooling.pool(x, "max", 2, dtype=complex)),
        "out": ([x, less], ValueError, lambda: pooling.pool(x, "max", 3, 2, out=less)),
        "out is read-only": ([x, frozen], ValueError, lambda: pooling.pool(x, "max", 3, 2, out=frozen)),
        "grad_output": ([x, less], ValueError, lambda: pooling.pool_backward(less, x, "max", 3, 2)),
        "index": ([x, y, wrong], IndexError, lambda: pooling.pool_backward(y, x, "max", 3, 2, indices=wrong)),
        "index to unpool": ([y, wrong], IndexError, lambda: pooling.max_unpool(y, wrong, 3, 2, output_size=(9, 9))),
        "memory": ([x], MemoryError, lambda: pooling.adaptive_pool(x, "max", 2**22)),
        "list": ([x], TypeError, lambda: pooling.pool([x], "max", 2)),
        "two kinds": ([x, y], TypeError, lambda: pooling.pool_backward(y.tolist(), x, "max", 3, 2)),
    }


@pytest.mark.parametrize("name", errors())
def test_an_error_keeps_no_array(name):
    arrays, kind, call = errors()[name]
    before = [sys.getrefcount(array) for array in arrays]
    for _ in range(3):
        with pytest.raises(kind) as caught:
            call()
        assert caught.value.__cause__ is None
        again = pickle.loads(pickle.dumps(caught.value))
        assert type(again) is type(caught.value) is kind and again.args == caught.value.args
        del caught
    assert [sys.getrefcount(array) for array in arrays] == before
    gone = [weakref.ref(array) for array in arrays]
    del arrays, call
    gc.collect()
    assert [reference() for reference in gone] == [None] * len(gone)


def test_errors_of_every_kind_leave_nothing():
    """Every wrong call of test_errors.py, again and again: Python has no more objects than before."""

    def all_rows():
        for bad in test_errors.ROWS:
            with pytest.raises(bad.error):
                bad.call()
        gc.collect()
        return sys.getallocatedblocks()

    blocks = [all_rows() for _ in range(5)]
    assert blocks[-1] - blocks[-3] < len(test_errors.ROWS), blocks


# ---- calls within calls ----------------------------------------------------------------------------------------------


def test_arguments_that_call_back():
    """An int, an array's attribute and a collector that pool themselves, in the middle of a call."""
    x = data((1, 12, 12, 2), "float32", 1)
    want = pooling.pool(x, "max", 3), pooling.pool_backward(x[:, ::3, ::3], x, "avg", 3)
    calls = []

    def pooled():
        calls.append((pooling.pool(x, "max", 3), pooling.pool_backward(x[:, ::3, ::3], x, "avg", 3)))

    class Three:
        def __index__(self):
            pooled()
            return 3

    class Called(np.ndarray):
        def __array_finalize__(self, _):
            pooled()

    class Cycle:
        def __init__(self):
            self.itself = self

        def __del__(self):
            pooled()

    calls.append((pooling.pool(x, "max", Three()), pooling.pool_backward(x[:, ::3, ::3].view(Called), x, "avg", Three())))
    before = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(20):
            Cycle()
            calls.append((pooling.pool(x, "max", 3), pooling.pool_backward(x[:, ::3, ::3], x, "avg", 3)))
    finally:
        gc.set_threshold(*before)
    assert len(calls) > 40
    for got in calls:
        assert all((a == b).all() for a, b in zip(got, want, strict=True))


def test_generators_interleave():
    def pooled(mode):
        for n in range(2, 9):
            y, i = pooling.pool(data((1, 30, 3), "float32", n), mode, n, return_indices=True)
            yield y, i, pooling.max_unpool(y, i, n, output_size=30)

    alone = {mode: list(pooled(mode)) for mode in ("max", "min")}
    together = list(zip(pooled("max"), pooled("min"), strict=True))
    for k, mode in enumerate(alone):
        for got, want in zip((row[k] for row in together), alone[mode], strict=True):
            assert all((a == b).all() for a, b in zip(got, want, strict=True))


# ---- threads and processes -----------------------------------------------------------------------------------


def work(mode):
    """One result of each kind, of arrays large enough for threads."""
    x, like = data((4, 60, 61, 17), "float32", 1), {"layout": "channels_first"}
    options = {"return_indices": True} if mode in ("max", "min") else {}
    results = [pooling.pool(x, mode, 3, 2, 1, **options), pooling.pool(x, mode, 9, 1, 4, **like)]
    results.append(pooling.adaptive_pool(x, mode, 7))
    y = results[0][0] if options else results[0]
    results.append(pooling.pool_backward(y, x, mode, 3, 2, 1))
    if options:
        results.append(pooling.pool_backward(y, x, mode, 3, 2, 1, indices=results[0][1]))
        results.append(pooling.max_unpool(y, results[0][1], 3, 2, 1, output_size=(60, 61)))
    return [part.tobytes() for result in results for part in (result if isinstance(result, tuple) else (result,))]


@pytest.fixture
def threads():
    before = pooling.get_num_threads()
    yield
    pooling.set_num_threads(before)


@pytest.mark.parametrize("mode", pooling.MODES)
def test_thread_counts_give_the_same_bits(mode, threads):
    results = []
    for n in (1, 2, 7):
        pooling.set_num_threads(n)
        assert pooling.get_num_threads() == (n if pooling.cpu_info()["openmp"] == "yes" else 1)
        results.append(work(mode))
    assert results[0] == results[1] == results[2]


def test_calls_from_many_threads_agree(threads):
    """Eight at once, of every mode, while another changes the number of threads, and others make wrong calls."""
    jobs = [mode for mode in pooling.MODES for _ in range(8)]
    apart = {mode: work(mode) for mode in pooling.MODES}
    over = threading.Event()
    wrong = []

    def disturb():
        for n in count(1):
            pooling.set_num_threads(n % 7 + 1)
            wrong.append([_error(call) is kind for _, kind, call in errors().values()])
            gc.collect(0)
            if over.wait(0.001):
                return

    disturbing = [threading.Thread(target=disturb) for _ in range(2)]
    for thread in disturbing:
        thread.start()
    try:
        with ThreadPoolExecutor(8) as executor:
            for mode, results in zip(jobs, executor.map(work, jobs), strict=True):
                assert results == apart[mode], mode
    finally:
        over.set()
        for thread in disturbing:
            thread.join()
    assert all(map(all, wrong)) and len(wrong) > 2


def _error(call):
    try:
        call()
    except Exception as error:
        return type(error)


def fork():
    """Children of a process whose threads have pooled, and of one whose threads pool at that moment."""
    pooling.set_num_threads(4)
    want, over = {mode: work(mode) for mode in pooling.MODES}, threading.Event()

    def keep_pooling():
        while not over.is_set():
            work("max")

    def children(times):
        for _ in range(times):
            child = os.fork()
            if child == 0:
                signal.alarm(100)  # whatever hangs
                pooling.set_num_threads(4)
                os._exit(0 if {mode: work(mode) for mode in pooling.MODES} == want and pooling.get_num_threads() == 1 else 3)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    children(1)
    busy = [threading.Thread(target=keep_pooling) for _ in range(2)]
    for thread in busy:
        thread.start()
    children(3)
    over.set()
    for thread in busy:
        thread.join()
    assert work("max") == want["max"] and pooling.get_num_threads() == (4 if pooling.cpu_info()["openmp"] == "yes" else 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_does_not_hang():
    alone("fork()")


# ---- many calls ------------------------------------------------------------------------------------------------------


def test_memory_does_not_grow():
    """The short form of `python tests/soak.py`, which makes ten million."""
    command = [sys.executable, str(HERE.with_name("soak.py")), "--calls", "20000"]
    paths = os.environ | {"PYTHONPATH": str(Path(pooling.__file__).parents[1])}
    done = subprocess.run(command, env=paths, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_memory_that_grows_is_seen():
    """In a process of its own: this one may have some to spare."""
    leaking = "kept = []\nassert soak.soak((lambda: kept.append(bytes(1000)) for _ in count()), 20_000) > soak.LIMIT"
    alone(leaking)
