"""Whether memory holds a call's arrays, asked before any is made: where it does not, MLX aborts the process."""

from __future__ import annotations

from math import prod

import mlx.core as mx

from pooling._cpu import _views
from pooling._dtypes import DTYPES

LARGE = 2**28  # bytes above which memory is asked for whether it holds them


def total(*arrays: tuple[tuple[int, ...], str]) -> int:
    """The bytes of arrays, given as (shape, element type)."""
    return sum(prod(shape) * DTYPES[name].size for shape, name in arrays)


def fits(*arrays: tuple[tuple[int, ...], str]) -> None:
    """MemoryError for arrays that are more than memory holds."""
    size = total(*arrays)
    if size > LARGE and size > _available():
        listed = ", ".join(f"of shape {tuple(shape)} and type {name}" for shape, name in arrays)
        raise MemoryError(f"arrays {listed} take {size} bytes, more than this machine has free")


def _available() -> int:
    """Bytes that can still be had: of the device, as MLX tells, or of the host."""
    facts = mx.device_info()
    for key in ("max_recommended_working_set_size", "memory_size", "total_memory"):
        if isinstance(facts.get(key), int):
            return int(facts[key]) - mx.get_active_memory()
    return _views._available()
