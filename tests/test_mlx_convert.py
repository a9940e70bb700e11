"""Conversions on the MLX side against the CPU backend's, for every pair of types that a call can ask for."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from agreement import check

import pooling
from pooling._dtypes import ARITHMETIC, DTYPES, numpy_dtype, types_of
from pooling._mlx._arrays import TYPES  # needs mlx
from pooling._mlx._convert import convert
from pooling.testing import data

ASKED = [None, *(name for name in DTYPES if name != "bool")]
KINDS = [types_of(arithmetic, cell, asked) for arithmetic in ARITHMETIC for cell in DTYPES for asked in ASKED]
PAIRS = sorted({(types.finish, types.result) for types in KINDS} - {("uint8", "bool")})


def cells(source: str, target: str) -> np.ndarray:
    """Numbers of every size, the target's ends and halfway points in the source, and what stands next to them."""
    row, goal = DTYPES[source], DTYPES[target]
    parts = [data((400,), source, 5, kind) for kind in ("real", "special", *(("subnormal",) if row.kind == "f" else ()))]
    if row.kind == "f":
        ends = [float(np.iinfo(target).max), float(np.iinfo(target).min)] if goal.kind in "iu" else []
        halves = [n + 0.5 for n in range(-4, 5)]
        powers = [2.0**e * (1 + m * 2.0**-place) for e in (-133, -126, -25, -24, -14, 0, 15, 16) for place in (8, 9, 11, 12, 24)
                  for m in (1, 3)]  # fmt: skip
        near = np.array([*ends, *halves, *powers, 65504.0, 65519.0, 65520.0, 65535.0, 3.3961775e38], source)
        with np.errstate(over="ignore"):
            around = near, *(np.nextafter(near, end, dtype=source) for end in (np.inf, -np.inf))
        parts += [sign(each) for each in around for sign in (np.positive, np.negative)]
    else:
        limits = np.iinfo(source)
        exact = [sign * (odd * 2**place + near) for sign in (1, -1) for odd in (1, 3, 257, 2049)
                 for place in range(row.size * 8 - 1) for near in (-1, 0, 1)]  # fmt: skip
        parts.append(np.array([int(limits.min), int(limits.max)] + [n for n in exact if limits.min <= n <= limits.max], source))
    return np.concatenate([part.astype(source) for part in parts])


def as_mx(x: np.ndarray):
    return mx.array(x, dtype=TYPES[x.dtype.name])


def as_numpy(y):
    return np.asarray(y.view(mx.uint16)).view(numpy_dtype("bfloat16")) if y.dtype == mx.bfloat16 else np.asarray(y)


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_every_pair_rounds_once(source, target):
    x = cells(source, target)
    with mx.stream(mx.cpu):
        got = convert(as_mx(x), source, target)
        mx.eval(got)
    want = pooling.pool(x, "max", 1, layout="L", dtype=numpy_dtype(target), backend="cpu")
    check(as_numpy(got), want, (source, target))


@pytest.mark.parametrize("target", ["float16", "bfloat16", "int8", "uint64"])
@pytest.mark.parametrize("source", ["int64", "uint64", "float32", "float64"])
def test_conversions_are_traced(source, target):
    x = as_mx(cells(source, target)[:12].reshape(3, 4))
    with mx.stream(mx.cpu):
        want = convert(x, source, target)
        for traced in (mx.vmap(lambda y: convert(y, source, target)), mx.compile(lambda y: convert(y, source, target))):
            check(as_numpy(traced(x)), as_numpy(want), (source, target))
