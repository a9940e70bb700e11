"""How long GNU OpenMP's idle threads spin. Its library reads that once, from the environment, so this is imported before it.

By default they spin for milliseconds after every loop, in the way of all other threads on the same cores: those of MLX, which
work between our calls, took twice as long. A hundredth of it still spans the calls of one loop. Who has set OMP_WAIT_POLICY or
GOMP_SPINCOUNT is left alone, and so is a library that something else has loaded before.
"""

from __future__ import annotations

import os

_NAME = "GOMP_SPINCOUNT"
_ours = not {_NAME, "OMP_WAIT_POLICY"} & set(os.environ)

if _ours:
    os.environ[_NAME] = "10000"


def loaded() -> None:
    """To be called once the library has read it: child processes need not inherit it."""
    if _ours:
        os.environ.pop(_NAME, None)
