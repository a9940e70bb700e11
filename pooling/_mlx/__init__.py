"""The MLX side: not part of this version; `backends()` says so."""

from __future__ import annotations

from typing import Any


def owns(x: Any) -> bool:
    """Whether x is an mx.array."""
    return type(x).__module__ == "mlx.core"


def why_not() -> str | None:
    """Why MLX cannot run a call."""
    return "this version of pooling has no MLX backend; convert with numpy.asarray(x) and use the CPU."
