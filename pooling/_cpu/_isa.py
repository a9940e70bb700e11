"""Which build of the row loops runs on this machine: the same source, compiled for several instruction sets.

All give the same bits. POOLING_CPU_ISA forces one, for tests and measurements.
"""

from __future__ import annotations

import os
import platform
from importlib import import_module
from importlib.util import find_spec

from pooling._cpu import _nest

LEVELS = {"baseline": 1, "v3": 3, "v4": 4}  # of x86-64; other machines have the baseline alone


def usable() -> list[str]:
    """The builds that are here and that this machine can run, the best one last."""
    return [name for name, level in LEVELS.items() if level <= _nest.info()["level"] and find_spec(f"pooling._cpu._rows_{name}")]


def chosen() -> str:
    """The best build, or the one that POOLING_CPU_ISA names."""
    name, found = os.environ.get("POOLING_CPU_ISA", ""), usable()
    if name and name not in found:
        raise ImportError(f"POOLING_CPU_ISA={name!r}: this build on this machine ({platform.machine()}) has {', '.join(found)}")
    return name or found[-1]


ISA = chosen()
ROWS: dict[tuple[str, ...], int] = import_module(f"pooling._cpu._rows_{ISA}").ROWS
