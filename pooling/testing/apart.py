"""Work in a process of its own: what aborts or hangs there ends that process alone, and is told."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

PATIENCE = 300.0  # seconds without an answer; compiling a kernel takes a few


class Died(Exception):
    """The process ended, or stopped answering, before its work was done; the message says how."""


def apart(work: Callable[..., Iterator[Any]], *arguments: Any, patience: float = PATIENCE) -> Iterator[Any]:
    """What the generator work(*arguments) yields in a new process; Died where that does not come to its end."""
    context = multiprocessing.get_context("spawn")  # a fork would inherit locks and devices that are in use
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_serve, args=(theirs, work, arguments), daemon=True)
    child.start()
    theirs.close()
    try:
        while True:
            if not ours.poll(patience):
                raise Died(f"there was no answer within {patience:g} s")
            item = ours.recv()
            if item is None:
                return
            if isinstance(item, str):
                raise Died(item)
            yield item[0]
    except EOFError:
        child.join()
        raise Died(f"the process ended with exit code {child.exitcode}") from None
    finally:
        child.kill()
        child.join()
        ours.close()


def _serve(pipe: Connection, work: Callable[..., Iterator[Any]], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is for the one who waits
    try:
        for item in work(*arguments):
            pipe.send((item,))
        pipe.send(None)
    except Exception as error:
        pipe.send(f"it raised {type(error).__name__}: {error}")
