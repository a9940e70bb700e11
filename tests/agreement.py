"""How a result is held against the oracle's: == in every cell; lp within the bound that the oracle derives.

BACKENDS are all that can run here: mlx:kernel runs on the simulated device of metal.py where there is no GPU. ("mlx" alone
chooses among its implementations; test_mlx.py has that.)
"""

from __future__ import annotations

from math import prod
from typing import Any

import metal
import numpy as np

import pooling
from pooling._dtypes import DTYPES, numpy_dtype
from pooling.testing import agree, first_difference, lp_bound, lp_gradient_bound, oracle, relayout, within

if pooling.backends()["mlx:kernel"] is not None:
    metal.simulate()
BACKENDS = [name for name, reason in pooling.backends().items() if reason is None and name != "mlx"]
FLOATS = [name for name, row in DTYPES.items() if row.kind == "f"]
EXPONENTS = (2.0, 1.0, 3.0, 0.5, 2.5, float("inf"))
# Channels last and first, and letters that put every axis elsewhere.
LAYOUTS = {1: ("NCL", "CLN", "LNC"), 2: ("NCHW", "CNWH", "HNWC"), 3: ("NCDHW", "HCWND", "WHDCN")}


def modes() -> list[tuple[str, dict[str, Any]]]:
    """Every mode, lp with each exponent."""
    return [(mode, {"p": p}) for mode in pooling.MODES if mode == "lp" for p in EXPONENTS] + [
        (mode, {}) for mode in pooling.MODES if mode != "lp"
    ]


def label(row: tuple[str, dict[str, Any]]) -> str:
    return row[0] + "".join(f"-{value:g}" for value in row[1].values())


def check(got: Any, want: Any, note: Any = "", bound: Any = None) -> None:
    """Every cell == (or both NaN), or within a bound; the same shape and type."""
    for ours, theirs in zip(_tuple(got), _tuple(want), strict=True):
        if bound is not None:
            assert within(ours, theirs, bound), (note, ours, theirs)
        elif not agree(ours, theirs):
            where = first_difference(ours, theirs)
            cells = (ours[where], theirs[where]) if where else (ours.dtype, theirs.dtype, ours.shape, theirs.shape)
            raise AssertionError(f"{note}: at {where} got {cells[0]}, want {cells[1]} {cells[2:]}")


def powers(backend: str) -> dict[str, Any]:
    """In what a backend takes powers and sums for lp, and the error of its power function in ulps: Metal promises 16."""
    return {"working": np.float32, "ulps": 16} if backend == "mlx:kernel" else {}


def refused(backend: str, mode: str, dtype: str, result: str | None = None) -> bool:
    """Whether a backend has no type for this call: GPUs have no float64."""
    wide = "float64" in (dtype, result) or (mode == "avg" and dtype in ("int64", "uint64"))
    return backend == "mlx:kernel" and wide


def forward_bound(want: Any, mode: str, p: float, kernel: Any, backend: str = "cpu") -> Any:
    """The bound for a forward result, or None where it is exact."""
    return lp_bound(want, p, _terms(kernel, want.ndim - 2 if want.ndim > 2 else 3), **powers(backend)) if mode == "lp" else None


def backward_bound(
    want: Any, g: Any, x: Any, mode: str, p: float, oracles: Any, *arguments: Any, backend: str = "cpu", **options: Any
) -> Any:
    """The bound for a gradient, or None where it is exact. oracles: the oracle's forward and backward functions."""
    if mode != "lp":
        return None
    forward, backward = oracles
    norms = forward(x, "lp", *arguments, p=p, dtype="float64", **options)
    sizes = np.abs(g.astype(np.float64)), np.abs(x.astype(np.float64))
    magnitude = backward(*sizes, "lp", *arguments, p=p, **options)
    return lp_gradient_bound(want, g, norms, magnitude, p, max(1, min(x.size, 10**6)), **powers(backend))


def _terms(kernel: Any, rank: int) -> int:
    """The cells of a window; no array here has a million."""
    return int(min(prod(kernel) if isinstance(kernel, tuple) else int(kernel) ** rank, 10**6))


def _tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def layouts(x: Any) -> list[str]:
    """The layouts under which a channels_last array is tried."""
    return ["channels_last", "channels_first", *LAYOUTS[x.ndim - 2]]


__all__ = ["numpy_dtype", "oracle", "relayout"]
