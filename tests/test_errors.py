"""Bad calls raise the right error at once, and its message names the argument, its value, the shapes and the rule.

ROWS is the table: a name, the call, the exception and what the message must contain, the argument first. LEGAL holds
calls that look as bad and are not.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np
import pytest
from agreement import BACKENDS, check

import pooling
from pooling import functional, nn
from pooling._dtypes import DTYPES
from pooling.testing import data, oracle

HUGE = 2**31 - 1
X = np.arange(2 * 6 * 7 * 3, dtype=np.float32).reshape(2, 6, 7, 3)
X1, X3 = X[:, :, 0], X[:, None]
FIRST = X.transpose(0, 3, 1, 2)  # channels first
G = np.ones((2, 3, 3, 3), np.float32)  # of a 2 by 2 window over X
CHOSEN = pooling.pool(X, "max", 2, return_indices=True)[1]
V = np.array([3.0, 7.0], np.float32)


class Foreign:
    """A tensor of a library that is not known here."""

    ndim, shape, dtype = 4, (2, 6, 7, 3), "foreign.float32"

    def __array__(self, *_):
        raise AssertionError("nothing is converted behind the caller's back")


class Broken:
    """Neither an int nor willing to show itself."""

    def __repr__(self):
        raise RuntimeError("no repr")


class Row(NamedTuple):
    name: str
    call: Callable[[], Any]
    error: type[Exception]
    words: tuple[str, ...]  # the argument first
    shape: str  # of the array in the call


def row(name: str, call: Callable[[], Any], error: type[Exception], *words: str, shape: Any = X.shape) -> Row:
    return Row(name, call, error, words, str(shape))


def pool(name: str, error: type[Exception], *words: str, x: Any = X, mode: Any = "max", kernel: Any = 2, **options: Any) -> Row:
    """A row for pool(), by its arguments."""
    return row(name, lambda: pooling.pool(x, mode, kernel, **options), error, *words, shape=getattr(x, "shape", ""))


def changed(array: Any, where: Any, value: Any, dtype: Any = None) -> Any:
    result = array.astype(dtype or array.dtype)
    result[where] = value
    return result


def frozen(array: Any) -> Any:
    array.flags.writeable = False
    return array


SYNONYMS = {
    "avg": ("mean", "average", "AVG", "Average", "avgpool"),
    "max": ("maximum", "amax", "Max", "maxx", "mx"),
    "min": ("minimum", "amin", "MIN"),
    "sum": ("add", "total", "summ"),
    "lp": ("l1", "l2", "norm", "LP"),
}
# Not an int: what stands for it in a message, and the value.
NOT_INTS = {
    "float": (2.0, "2.0", "float"),
    "numpy float": (np.float32(2), "2.0", "float32"),
    "string": ("2", "'2'", "str"),
    "bool": (True, "True", "bool"),
    "complex": (2j, "2j", "complex"),
    "set": ({2}, "{2}", "set"),
    "dict": ({2: 2}, "{2: 2}", "dict"),
    "range": (range(2), "range(0, 2)", "range"),
    "fraction": (Fraction(2), "Fraction(2, 1)", "Fraction"),
    "numpy bool": (np.True_, "True", "bool"),
    "float in a sequence": ((2, 2.5), "2.5", "float"),
    "bool in a sequence": ((True, 2), "True", "bool"),
    "string in a sequence": (["2", 2], "'2'", "str"),
    "float array": (np.array([2.0, 2.0]), "2.0", "float"),
    "bool array": (np.array([True, True]), "True", "bool"),
    "2-D array": (np.array([[2, 2]]), "array([[2, 2]])", "2 dimensions"),
    "0-d float array": (np.array(2.0), "array(2.)", "ndarray"),
    "broken object": (Broken(), "<Broken>", "Broken"),
}
NOT_CELLS = {
    "longdouble": np.longdouble,
    "complex64": np.complex64,
    "complex128": np.complex128,
    "object": object,
    "datetime": "M8[s]",
    "timedelta": "m8[s]",
    "string": "U3",
    "bytes": "S3",
    "void": "V4",
    "structured": [("a", "f4")],
}

# One row, one line: the formatter would give every argument of a long one its own.
# fmt: off
ROWS = [
    # ---- mode
    *(
        pool(f"mode {word}", ValueError, "mode", repr(word), "'max', 'min', 'avg', 'sum', 'lp'",
            f"did you mean '{mode}'?", mode=word)
        for mode, words in SYNONYMS.items()
        for word in words
    ),
    pool("mode nonsense", ValueError, "mode", "'xyzzy'", "one of", mode="xyzzy"),
    pool("mode empty", ValueError, "mode", "''", mode=""),
    pool("mode inner", ValueError, "mode", "'lp_inf'", mode="lp_inf"),
    pool("mode long", ValueError, "mode", mode="max" * 10**5),
    pool("mode int", TypeError, "mode", "3", mode=3),
    pool("mode None", TypeError, "mode", "None", mode=None),
    pool("mode list", TypeError, "mode", "['max']", mode=["max"]),
    pool("mode bytes", TypeError, "mode", "b'max'", mode=b"max"),
    # ---- kernel, stride, dilation: what is no int, and ints outside the range
    *(
        pool(f"{name} {kind}", TypeError, name, text, why, **{name: value})
        for name in ("kernel", "stride", "padding", "dilation")
        for kind, (value, text, why) in NOT_INTS.items()
        if (name, kind) != ("padding", "string")
    ),
    *(
        pool(f"{name} {value}", ValueError, f"{name}={value}", rule, **{name: value})
        for name in ("kernel", "stride", "dilation")
        for value, rule in ((0, "at least 1"), (-1, "at least 1"), (2**31, "below 2**31"), (2**62, "below 2**31"),
            (2**64, "below"))
    ),
    *(pool(f"{name} with a zero", ValueError, f"{name}[1]=0", "at least 1", **{name: (2, 0)}) for name in ("kernel",
        "stride", "dilation")),
    pool("kernel None", TypeError, "kernel=None", "int", kernel=None),
    pool("dilation None", TypeError, "dilation=None", "int", dilation=None),
    pool("padding None", TypeError, "padding=None", "int", padding=None),
    pool("kernel with None", TypeError, "kernel[0]=None", "int", kernel=(None, 2)),
    pool("kernel of 5000 digits", ValueError, "kernel", "below 2**31", kernel=10**5000),
    pool("kernel of a million", ValueError, "kernel", "1000000", kernel=[2] * 10**6),
    pool("kernel empty", ValueError, "kernel=()", "0", kernel=()),
    pool("dilation empty", ValueError, "dilation=()", "0", dilation=()),
    pool("padding empty", ValueError, "padding=()", "0", padding=()),
    pool("kernel of 1", ValueError, "kernel=(2,)", "not 4", kernel=(2,)),
    pool("kernel of 3", ValueError, "kernel=(2, 2, 2)", "3 ", kernel=(2, 2, 2), x=X[0]),
    pool("kernel of 4", ValueError, "kernel=(2, 2, 2, 2)", "1 to 3", kernel=(2,) * 4),
    pool("kernel and stride", ValueError, "stride=(1, 1, 1)", "kernel=(2, 2)", kernel=(2, 2), stride=(1, 1, 1)),
    pool("dilation too long", ValueError, "dilation=[1, 1, 1]", "kernel=(2, 2)", kernel=(2, 2), dilation=[1, 1, 1]),
    pool("kernel against letters", ValueError, "kernel=(2, 2)", "the layout pools 1", kernel=(2, 2), x=X1,
        layout="NLC"),
    pool("volume", ValueError, "kernel", str(HUGE), "2**63", kernel=HUGE, padding=2**30, x=X3),
    pool("volume by axis", ValueError, "kernel=(2097152, 2097152, 2097152)", "2**63", kernel=(2**21,) * 3,
        padding=2**20, x=X3),
    pool("kernel beyond x", ValueError, "kernel=9", "larger", "6 cells", kernel=9),
    pool("kernel beyond the padded x", ValueError, "kernel=9", "padded size 8", kernel=9, padding=1),
    pool("dilated kernel beyond x", ValueError, "kernel=3", "effective kernel 11", "dilation 5", kernel=3,
        dilation=5),
    pool("huge kernel", ValueError, "kernel", str(HUGE), "larger", kernel=HUGE),
    pool("huge everything", ValueError, "kernel", str(HUGE), str(HUGE * (HUGE - 1) + 1), kernel=HUGE, stride=HUGE,
        dilation=HUGE, padding=HUGE),
    pool("huge dilation", ValueError, "kernel=2", "dilation 2147483647", dilation=HUGE),
    # ---- padding
    pool("padding negative", ValueError, "padding=-1", "at least 0", padding=-1),
    pool("padding e", ValueError, "padding=2", "below 2", "effective kernel", padding=2),
    pool("padding dilated e", ValueError, "padding=5", "below 5", kernel=3, dilation=2, padding=5),
    pool("padding of one axis", ValueError, "padding=(1, 3)", "axis 1", "below 2", kernel=(3, 2), padding=(1, 3)),
    pool("padding after", ValueError, "padding=((0, 0), (0, 2))", "axis 1", padding=((0, 0), (0, 2))),
    pool("padding before", ValueError, "padding=[[2, 0], [0, 0]]", "axis 0", padding=[[2, 0], [0, 0]]),
    pool("padding 2**31", ValueError, "padding=2147483648", "below 2**31", kernel=HUGE, dilation=2, padding=2**31),
    pool("padding 2**62", ValueError, f"padding={2**62}", "below 2**31", padding=2**62),
    pool("padding -2**62", ValueError, f"padding={-(2**62)}", "at least 0", padding=-(2**62)),
    pool("padding mixed", TypeError, "padding=(1, (0, 1))", "do not mix", padding=(1, (0, 1))),
    pool("padding mixed too", TypeError, "padding=((0, 1), 1)", "do not mix", padding=((0, 1), 1)),
    pool("padding triple", ValueError, "padding[1]=(1, 1, 1)", "pair", padding=((0, 1), (1, 1, 1))),
    pool("padding single", ValueError, "padding[0]=(1,)", "pair", padding=((1,), (1,))),
    pool("padding empty pair", ValueError, "padding[0]=()", "pair", padding=((), ())),
    pool("padding of three pairs", ValueError, "padding", "3 elements", kernel=(2, 2), padding=((0, 0),) * 3),
    pool("padding pair of floats", TypeError, "padding[0][1]=1.0", "float", padding=((0, 1.0), (0, 1))),
    pool("padding pair of strings", TypeError, "padding[0]='ab'", "str", padding=("ab", "cd")),
    pool("padding negative pair", ValueError, "padding[1][0]=-1", "at least 0", padding=((0, 1), (-1, 0))),
    pool("padding nested deep", TypeError, "padding[0][0]=(0, 1)", "int", padding=(((0, 1), 0), (0, 0))),
    pool("padding word", ValueError, "padding='full'", "'valid', 'same', 'same_lower'", padding="full"),
    pool("padding SAME", ValueError, "padding='SAME'", "'same'", padding="SAME"),
    pool("padding same_upper", ValueError, "padding='same_upper'", "'same_lower'", padding="same_upper"),
    pool("padding number in a string", ValueError, "padding='1'", "'same'", padding="1"),
    pool("padding words", TypeError, "padding[0]='same'", "str", padding=("same", "same")),
    pool("padding valid and kernel beyond x", ValueError, "kernel=9", "larger", kernel=9, padding="valid"),
    # ---- what only some modes read
    *(
        pool(f"{name} {value} for {mode}", ValueError, name, repr(value), f"mode '{mode}' does not read it", owner,
            mode=mode, **{name: value})
        for name, value, readers, owner in (
            ("p", 3, ("lp",), "'lp'"),
            ("p", float("inf"), ("lp",), "'lp'"),
            ("count_include_pad", False, ("avg",), "'avg'"),
            ("divisor_override", 4, ("avg",), "'avg'"),
            ("return_indices", True, ("max", "min"), "'max' and 'min'"),
        )
        for mode in pooling.MODES
        if mode not in readers
    ),
    *(
        pool(f"p {value!r}", error, "p=", repr(value), mode="lp", p=value)
        for value, error in (
            (0, ValueError),
            (0.0, ValueError),
            (-1, ValueError),
            (float("nan"), ValueError),
            (-float("inf"), ValueError),
            ("2", TypeError),
            (True, TypeError),
            (None, TypeError),
            (2j, TypeError),
            ((2,), TypeError),
        )
    ),
    pool("p beyond float64", ValueError, "p=1000", "float64", mode="lp", p=10**400),
    pool("p array", TypeError, "p=array", "ndarray", mode="lp", p=np.array(2.0)),
    *(
        pool(f"{name} {value!r}", TypeError, f"{name}={value!r}", "True or False", mode=mode, **{name: value})
        for name, mode in (("ceil_mode", "max"), ("count_include_pad", "avg"), ("return_indices", "max"))
        for value in (1, 0, "yes", None, 1.0)
    ),
    pool("flag of an array", TypeError, "ceil_mode", "True or False", ceil_mode=np.array(True)),
    pool("flag that the mode does not read", TypeError, "count_include_pad=1", "True or False", count_include_pad=1),
    pool("divisor_override 0", ValueError, "divisor_override=0", "any int but 0", mode="avg", divisor_override=0),
    pool("divisor_override float", TypeError, "divisor_override=2.0", "float", mode="avg", divisor_override=2.0),
    pool("divisor_override bool", TypeError, "divisor_override=True", "bool", mode="avg", divisor_override=True),
    pool("divisor_override tuple", TypeError, "divisor_override=(2, 2)", "tuple", mode="avg", divisor_override=(2,
        2)),
    pool("divisor_override huge", ValueError, f"divisor_override={2**63}", "2**63", mode="avg",
        divisor_override=2**63),
    # ---- layout
    *(
        pool(f"layout {value!r}", error, "layout", repr(value), *words, layout=value)
        for value, error, words in (
            ("NHWX", ValueError, ("D, H, W, L", "N, B, C, G, T")),
            ("NHHC", ValueError, ("each once",)),
            ("nhwc", ValueError, ("upper-case",)),
            ("NHW", ValueError, ("3 letters", "4 dimensions")),
            ("NHWCT", ValueError, ("5 letters", "4 dimensions")),
            ("NBCG", ValueError, ("0 axes", "1 to 3")),
            ("DHWL", ValueError, ("4 axes", "1 to 3")),
            ("", ValueError, ("0 axes",)),
            ("N H W C", ValueError, ("one upper-case letter",)),
            ("channel_last", ValueError, ("'channels_last'",)),
            ("Channels_First", ValueError, ("'channels_first'",)),
            ("NHWC\n", ValueError, ("letter",)),
            ("NH\u0130C", ValueError, ("letter",)),
            (None, TypeError, ("string",)),
            (4, TypeError, ("string",)),
            (("N", "H", "W", "C"), TypeError, ("string",)),
            (b"NHWC", TypeError, ("string",)),
        )
    ),
    # ---- x
    pool("x 0-d", ValueError, "0 dimensions", "1 to 3", x=np.array(1.0)),
    pool("x 1-d", ValueError, "1 dimensions", "0 pooled axes", x=V),
    pool("x 2-d", ValueError, "2 dimensions", "0 pooled axes", x=X[0, 0]),
    pool("x 6-d", ValueError, "6 dimensions", "4 pooled axes", x=np.ones((1,) * 6)),
    pool("x 7-d", ValueError, "7 dimensions", "5 pooled axes", x=np.ones((1,) * 7)),
    pool("x 32-d", ValueError, "dimensions", "30 pooled axes", x=np.ones((1,) * 32)),
    pool("x list", TypeError, "x is list", "numpy.asarray(x)", x=X.tolist()),
    pool("x tuple", TypeError, "x is tuple", "numpy.asarray(x)", x=(X,)),
    pool("x float", TypeError, "x is float", "numpy.asarray(x)", x=1.0),
    pool("x None", TypeError, "x is NoneType", x=None),
    pool("x string", TypeError, "x is str", x="x"),
    pool("x scalar", TypeError, "x is numpy.float32", "numpy.asarray(x)", x=np.float32(1)),
    pool("x masked", TypeError, "x is numpy.ma.MaskedArray", "numpy.ma.filled(x", x=np.ma.array(X)),
    pool("x memoryview", TypeError, "x is memoryview", "numpy.asarray(x)", x=memoryview(X)),
    row("x class", lambda: pooling.pool(np.ndarray, "max", 2), TypeError, "x is type", shape=""),
    row("x foreign", lambda: pooling.pool(Foreign(), "max", 2), TypeError, "x is", "Foreign", "numpy.asarray(x)"),
    *(
        pool(f"cells of {name}", TypeError, "cells of type", str(np.dtype(dtype)), *DTYPES, x=np.zeros(X.shape,
            dtype))
        for name, dtype in NOT_CELLS.items()
        if np.dtype(dtype) != np.float64  # where longdouble is float64
    ),
    pool("no rows", ValueError, "pooled axis 0", "no cells", x=X[:, :0]),
    pool("no columns", ValueError, "pooled axis 1", "no cells", x=X[:, :, :0]),
    # ---- dtype, backend, out
    *(
        pool(f"dtype {value!r}"[:40], TypeError, "dtype", text, "int8", "float64", dtype=value)
        for value, text in (
            (bool, "bool"),
            ("bool", "bool"),
            (np.complex64, "complex64"),
            (object, "object"),
            ("float33", "float33"),
            ("f4,,", "f4,,"),
            ("", "''"),
            (np.longdouble, "longdouble"),
            ("M8[s]", "M8"),
            ([("a", "f4")], "'a'"),
            (3, "3"),
            (Broken, "Broken"),
            (X, "array("),
        )
        if not (value is np.longdouble and np.dtype(np.longdouble) == np.float64)
    ),
    pool("backend name", ValueError, "backend='gpu'", "'cpu'", "'mlx'", backend="gpu"),
    pool("backend case", ValueError, "backend='CPU'", "'cpu'", backend="CPU"),
    pool("backend empty", ValueError, "backend=''", "'cpu'", backend=""),
    pool("backend int", TypeError, "backend=1", "'cpu'", backend=1),
    pool("backend list", TypeError, "backend=['cpu']", "'cpu'", backend=["cpu"]),
    pool("out string", TypeError, "out is str", out="out"),
    pool("out shape", ValueError, "out has shape (2, 2, 3, 3)", "(2, 3, 3, 3)", out=G[:, :2].copy()),
    pool("out dtype", TypeError, "out has dtype", "float32", out=np.zeros(G.shape)),
    pool("out single", TypeError, "out", "pair", return_indices=True, out=G.copy()),
    pool("out read-only", ValueError, "out", "read-only", out=frozen(G.copy())),
    pool("missing argument", TypeError, "kernel", x=X, kernel=2, kernel_size=2),
    row("nothing but x", lambda: pooling.pool(X, "max"), TypeError, "kernel"),
    row("positional keyword", lambda: pooling.pool(X, "max", 2, 2, 0, 1), TypeError, "positional"),
    # ---- adaptive_pool, global_pool
    *(
        row(f"output_size {value!r}", lambda value=value: pooling.adaptive_pool(X, "max", value), error,
            "output_size", *words)
        for value, error, words in (
            (-1, ValueError, ("-1", "at least 0")),
            ((2, -1), ValueError, ("[1]=-1", "at least 0")),
            (2**31, ValueError, ("below 2**31",)),
            (2.0, TypeError, ("2.0", "float")),
            (True, TypeError, ("True", "bool")),
            ("2", TypeError, ("'2'", "str")),
            (None, TypeError, ("None",)),
            ((), ValueError, ("0 pooled axes",)),
            ((2, 2, 2, 2), ValueError, ("1 to 3",)),
            ((2, "a"), TypeError, ("[1]='a'", "str")),
            ((2,), ValueError, ("not 4",)),
        )
    ),
    row("adaptive too many bytes", lambda: pooling.adaptive_pool(X3, "max", HUGE), ValueError, "output_size",
        str(HUGE), "2**63", shape=X3.shape),
    row("adaptive kernel", lambda: pooling.adaptive_pool(X, "max", kernel=2), TypeError, "kernel"),
    row("adaptive mode", lambda: pooling.adaptive_pool(X, "mean", 2), ValueError, "mode='mean'", "'avg'"),
    row("adaptive empty axis", lambda: pooling.adaptive_pool(X[:, :0], "max", 0), ValueError, "pooled axis 0",
        shape=(2, 0, 7, 3)),
    row("adaptive p", lambda: pooling.adaptive_pool(X, "max", 2, p=1), ValueError, "p=1", "'lp'"),
    row("adaptive indices", lambda: pooling.adaptive_pool(X, "avg", 2, return_indices=True), ValueError,
        "return_indices=True"),
    row("global keepdims", lambda: pooling.global_pool(X, "max", keepdims=1), TypeError, "keepdims=1",
        "True or False"),
    row("global 2-d", lambda: pooling.global_pool(X[0, 0], "max"), ValueError, "2 dimensions", shape=(7, 3)),
    row("global out", lambda: pooling.global_pool(X, "max", keepdims=False, out=G), ValueError, "out has shape",
        "(2, 3)"),
    row("global mode", lambda: pooling.global_pool(X, "average"), ValueError, "mode='average'", "'avg'"),
    # ---- backward
    *(
        row(f"gradient of {name}", lambda name=name: pooling.pool_backward(G.astype(name), X.astype(name), "max", 2),
            TypeError, "x has", name, "floating")
        for name in ("bool", "int8", "int64", "uint32")
    ),
    row("grad_output float64", lambda: pooling.pool_backward(G.astype("f8"), X, "max", 2), TypeError, "grad_output",
        "float64", "float32"),
    row("grad_output int", lambda: pooling.pool_backward(G.astype("i4"), X, "avg", 2), TypeError, "grad_output",
        "int32", "float32"),
    row("grad_output complex", lambda: pooling.pool_backward(G.astype("c8"), X, "avg", 2), TypeError, "complex64"),
    row("grad_output shape", lambda: pooling.pool_backward(G[:, :2], X, "avg", 2), ValueError, "grad_output",
        "(2, 2, 3, 3)", "(2, 3, 3, 3)"),
    row("grad_output like x", lambda: pooling.pool_backward(X, X, "avg", 2), ValueError, "grad_output",
        "(2, 3, 3, 3)"),
    row("grad_output scalar", lambda: pooling.pool_backward(np.array(1, "f4"), X, "avg", 2), ValueError,
        "grad_output has shape ()"),
    row("grad_output list", lambda: pooling.pool_backward(G.tolist(), X, "avg", 2), TypeError, "grad_output is list",
        "numpy.asarray(grad_output)"),
    row("grad_output None", lambda: pooling.pool_backward(None, X, "avg", 2), TypeError, "grad_output is NoneType"),
    row("grad_output foreign", lambda: pooling.pool_backward(Foreign(), X, "avg", 2), TypeError, "grad_output is",
        "Foreign"),
    row("backward x list", lambda: pooling.pool_backward(G, X.tolist(), "avg", 2), TypeError, "x is list",
        shape=G.shape),
    row("backward mode", lambda: pooling.pool_backward(G, X, "mean", 2), ValueError, "mode='mean'", "'avg'"),
    row("backward kernel", lambda: pooling.pool_backward(G, X, "max", 0), ValueError, "kernel=0", "at least 1"),
    row("backward padding", lambda: pooling.pool_backward(G, X, "max", 2, 2, 2), ValueError, "padding=2", "below 2"),
    row("backward layout", lambda: pooling.pool_backward(G, X, "max", 2, layout="NHHC"), ValueError, "layout='NHHC'"),
    row("backward backend", lambda: pooling.pool_backward(G, X, "max", 2, backend="tpu"), ValueError,
        "backend='tpu'"),
    row("backward p", lambda: pooling.pool_backward(G, X, "lp", 2, p=0), ValueError, "p=0", "above 0"),
    row("backward empty axis", lambda: pooling.pool_backward(G, X[:, :0], "max", 2), ValueError, "no cells", shape=(2,
        0, 7, 3)),
    row("backward 16 bits", lambda: pooling.pool_backward(G, X.astype("f2"), "max", 2), TypeError, "grad_output",
        "float32", "float16"),
    row("adaptive grad_output", lambda: pooling.adaptive_pool_backward(G, X, "avg", 2), ValueError, "grad_output",
        "(2, 2, 2, 3)"),
    row("adaptive gradient of ints", lambda: pooling.adaptive_pool_backward(G.astype(int), X.astype(int), "avg", 3),
        TypeError, "x has", "int64"),
    row("indices for avg", lambda: pooling.pool_backward(G, X, "avg", 2, indices=CHOSEN), ValueError, "indices",
        "'max' and 'min'"),
    row("indices list", lambda: pooling.pool_backward(G, X, "max", 2, indices=CHOSEN.tolist()), TypeError,
        "indices is list"),
    row("indices float", lambda: pooling.pool_backward(G, X, "max", 2, indices=CHOSEN.astype("f8")), TypeError,
        "indices", "float64", "integer"),
    row("indices bool", lambda: pooling.pool_backward(G, X, "max", 2, indices=CHOSEN > 0), TypeError, "indices",
        "bool", "integer"),
    row("indices object", lambda: pooling.pool_backward(G, X, "max", 2, indices=CHOSEN.astype(object)), TypeError,
        "object"),
    row("indices shape", lambda: pooling.pool_backward(G, X, "max", 2, indices=CHOSEN[:1]), ValueError, "indices",
        "(1, 3, 3, 3)", "(2, 3, 3, 3)"),
    row("indices masked", lambda: pooling.pool_backward(G, X, "max", 2, indices=np.ma.array(CHOSEN)), TypeError,
        "indices is numpy.ma"),
    *(
        row(
            f"{name} index {value}",
            lambda call=call, value=value, dtype=dtype: call(changed(CHOSEN, (1, 2, 0, 1), value, dtype)),
            IndexError,
            "indices[1, 2, 0, 1]",
            str(value),
            *words,
            shape=X.shape if own else G.shape,
        )
        for name, call, words, own in (
            ("backward", lambda i: pooling.pool_backward(G, X, "max", 2, indices=i),
                ("neither -1 nor a cell of the window at (2, 0)",), True),
            ("adaptive backward", lambda i: pooling.adaptive_pool_backward(G, X, "max", 3, indices=i),
                ("neither -1 nor a cell",), True),
            ("unpool", lambda i: pooling.max_unpool(G, i, 2, output_size=(6, 7)), ("outside [-1, 42)",), False),
        )
        for value, dtype in ((-2, "i8"), (42, "i8"), (2**63 - 1, "i8"), (-(2**63), "i8"), (2**63, "u8"), (2**64 - 1,
            "u8"), (-7, "i1"), (255, "u1"), (0, "i4"), (40, ">i2"))
        if own or not -1 <= value < 42
    ),
    # ---- max_unpool
    row("unpool indices shape", lambda: pooling.max_unpool(G, CHOSEN[:1], 2), ValueError, "indices has shape",
        "(1, 3, 3, 3)", shape=G.shape),
    row("unpool indices float", lambda: pooling.max_unpool(G, CHOSEN.astype("f4"), 2), TypeError, "indices",
        "float32", shape=G.shape),
    row("unpool indices bool", lambda: pooling.max_unpool(G, CHOSEN > 0, 2), TypeError, "indices", "bool",
        shape=G.shape),
    row("unpool indices list", lambda: pooling.max_unpool(G, CHOSEN.tolist(), 2), TypeError, "indices is list",
        shape=G.shape),
    row("unpool indices None", lambda: pooling.max_unpool(G, None, 2), TypeError, "indices is NoneType",
        shape=G.shape),
    row("unpool x list", lambda: pooling.max_unpool(G.tolist(), CHOSEN, 2), TypeError, "x is list",
        shape=CHOSEN.shape),
    row("unpool x complex", lambda: pooling.max_unpool(G.astype("c8"), CHOSEN, 2), TypeError, "complex64",
        shape=G.shape),
    row("unpool empty axis", lambda: pooling.max_unpool(G[:, :0], CHOSEN[:, :0], 2), ValueError, "pooled axis 0",
        "no cells", shape=(2, 0, 3, 3)),
    row("unpool same", lambda: pooling.max_unpool(G, CHOSEN, 3, 2, "same"), ValueError, "padding='same'",
        "output_size is needed", shape=G.shape),
    row("unpool same size", lambda: pooling.max_unpool(G, CHOSEN, 3, 2, "same", output_size=9), ValueError,
        "output_size=9", "(3, 3)", shape=G.shape),
    row("unpool one stride", lambda: pooling.max_unpool(G, CHOSEN, 2, output_size=8), ValueError, "output_size=8",
        "stride (2) from 6", shape=G.shape),
    row("unpool one stride less", lambda: pooling.max_unpool(G, CHOSEN, 2, output_size=(6, 4)), ValueError,
        "output_size=(6, 4)", "from 6", shape=G.shape),
    row("unpool size 0", lambda: pooling.max_unpool(G, CHOSEN, 9, 9, output_size=(0, 27)), ValueError,
        "output_size[0]=0", shape=G.shape),
    row("unpool size length", lambda: pooling.max_unpool(G, CHOSEN, 2, output_size=(6, 6, 6)), ValueError,
        "output_size=(6, 6, 6)", "3 elements", shape=G.shape),
    row("unpool whole shape", lambda: pooling.max_unpool(G, CHOSEN, 2, output_size=(9, 6, 6, 3)), ValueError,
        "output_size=(9, 6, 6, 3)", "batch", shape=G.shape),
    row("unpool size float", lambda: pooling.max_unpool(G, CHOSEN, 2, output_size=(6.0, 6)), TypeError,
        "output_size[0]=6.0", shape=G.shape),
    row("unpool size string", lambda: pooling.max_unpool(G, CHOSEN, 2, output_size="same"), TypeError,
        "output_size='same'", shape=G.shape),
    row("unpool padding", lambda: pooling.max_unpool(G, CHOSEN, 2, 2, 2), ValueError, "padding=2", "below 2",
        shape=G.shape),
    row("unpool all padding", lambda: pooling.max_unpool(G[:, :1, :1], CHOSEN[:, :1, :1], 4, 1, 3), ValueError,
        "padding=((3, 3), (3, 3))", "-2 cells", shape=(2, 1, 1, 3)),
    row("unpool too large", lambda: pooling.max_unpool(X3, X3.astype(int), 2**20, HUGE), ValueError,
        "kernel=(1048576,", str(HUGE), "2**63", shape=X3.shape),
    row("unpool dilation", lambda: pooling.max_unpool(G, CHOSEN, 2, dilation=1), TypeError, "dilation",
        shape=G.shape),
    # ---- output_shape
    *(
        row(f"input_shape {value!r}"[:40], lambda value=value: pooling.output_shape(value, 2), error, "input_shape",
            *words, shape="")
        for value, error, words in (
            (7, TypeError, ("7", "sequence")),
            (None, TypeError, ("None", "sequence")),
            ("2673", TypeError, ("'2673'", "sequence")),
            ((2, 6.0, 7, 3), TypeError, ("[1]=6.0", "float")),
            ((2, True, 7, 3), TypeError, ("[1]=True", "bool")),
            ((2, -6, 7, 3), ValueError, ("[1]=-6", "at least 0")),
            ((2, 2**63, 7, 3), ValueError, ("2**63",)),
            ((2, 6), ValueError, ("2 dimensions",)),
            ((2, 0, 7, 3), ValueError, ("no cells", "(2, 0, 7, 3)")),
            ((2**40, 2**20, 2**20, 3), ValueError, ("2**63", "1048576")),
            (X, TypeError, ("4 dimensions",)),
        )
    ),
    row("output_shape kernel", lambda: pooling.output_shape(X.shape, 0), ValueError, "kernel=0", "input_shape"),
    row("output_shape too large a kernel", lambda: pooling.output_shape(X.shape, 8), ValueError, "kernel=8",
        "larger"),
    # ---- torch's names
    row("max_pool2d kernel", lambda: functional.max_pool2d(FIRST, 0), ValueError, "kernel_size=0", "at least 1",
        shape=FIRST.shape),
    row("max_pool2d list", lambda: functional.max_pool2d(X.tolist(), 2), TypeError, "list", shape=""),
    row("max_pool2d 5-d", lambda: functional.max_pool2d(X3, 2), ValueError, "input has shape", "(N, C, H, W)",
        shape=X3.shape),
    row("max_pool2d kernel of 3", lambda: functional.max_pool2d(FIRST, (2, 2, 2)), ValueError, "kernel_size=(2, 2, 2)",
        "2", shape=FIRST.shape),
    row("max_pool2d padding", lambda: functional.max_pool2d(FIRST, 2, 2, 2), ValueError, "padding=2", "below 2",
        shape=FIRST.shape),
    row("max_pool2d flag", lambda: functional.max_pool2d(FIRST, 2, ceil_mode=1), TypeError, "ceil_mode=1",
        shape=FIRST.shape),
    row("max_pool2d unpack", lambda: functional.max_pool2d_with_indices(FIRST, 2.0), TypeError, "kernel_size=2.0",
        shape=FIRST.shape),
    row("avg_pool1d rank", lambda: functional.avg_pool1d(FIRST, 2), ValueError, "input has shape", shape=FIRST.shape),
    row("avg_pool2d divisor", lambda: functional.avg_pool2d(FIRST, 2, divisor_override=0), ValueError,
        "divisor_override=0", shape=FIRST.shape),
    row("lp_pool2d p", lambda: functional.lp_pool2d(FIRST, 0, 2), ValueError, "norm_type=0", "above 0", shape=FIRST.shape),
    row("lp_pool2d nan", lambda: functional.lp_pool2d(FIRST, float("nan"), 2), ValueError, "norm_type=nan",
        shape=FIRST.shape),
    row("adaptive_avg_pool2d", lambda: functional.adaptive_avg_pool2d(FIRST, -2), ValueError, "output_size=-2",
        shape=FIRST.shape),
    row("adaptive_max_pool3d", lambda: functional.adaptive_max_pool3d(X3, (1, 2.0, 1)), TypeError,
        "output_size[1]=2.0", shape=X3.shape),
    row("max_unpool2d", lambda: functional.max_unpool2d(G, CHOSEN - 2, 2), IndexError, "indices[", "outside",
        shape=G.shape),
    row("max_unpool2d size", lambda: functional.max_unpool2d(G, CHOSEN, 2, output_size=(9, 9)), ValueError,
        "output_size=(9, 9)", shape=G.shape),
    row("functional backend", lambda: functional.max_pool2d(FIRST, 2, backend="x"), ValueError, "backend='x'",
        shape=FIRST.shape),
    row("MaxPool2d", lambda: nn.MaxPool2d(0)(FIRST), ValueError, "kernel_size=0", shape=FIRST.shape),
    row("MaxPool1d of 4-d", lambda: nn.MaxPool1d(2)(FIRST), ValueError, "input has shape", shape=FIRST.shape),
    row("AvgPool2d flag", lambda: nn.AvgPool2d(2, count_include_pad="no")(FIRST), TypeError, "count_include_pad='no'",
        shape=FIRST.shape),
    row("LPPool2d", lambda: nn.LPPool2d(-2, 2)(FIRST), ValueError, "norm_type=-2", shape=FIRST.shape),
    row("AdaptiveAvgPool2d", lambda: nn.AdaptiveAvgPool2d("7")(FIRST), TypeError, "output_size='7'",
        shape=FIRST.shape),
    row("MaxUnpool2d", lambda: nn.MaxUnpool2d(2)(G, CHOSEN.astype("f4")), TypeError, "indices", "float32",
        shape=G.shape),
    row("MaxUnpool2d empty", lambda: nn.MaxUnpool2d(2)(G[..., :0], CHOSEN[..., :0]), ValueError, "no cells", shape=(2,
        3, 3, 0)),
    row("MaxPool2d integer array", lambda: nn.MaxPool2d(np.array([2.5, 2]))(FIRST), TypeError, "kernel", "2.5",
        shape=FIRST.shape),
]
# fmt: on


def as_mlx(value: Any) -> Any:
    """The array of a bad call as an mx.array; what MLX cannot hold stays what it is."""
    if type(value) is not np.ndarray or not (value.dtype.name in DTYPES or value.dtype == np.complex64):
        return value
    return mx.array(value.astype(value.dtype.newbyteorder("=")), getattr(mx, value.dtype.name.replace("bool", "bool_")))


def on_mlx(function: Callable[..., Any]) -> Callable[..., Any]:
    """The public function, given mx.arrays in place of NumPy's: those before the mode, and the keyword indices."""

    def called(*args: Any, **options: Any) -> Any:
        arrays = 0
        while arrays < len(args) and not isinstance(args[arrays], (str, int)):
            arrays += 1
        given = [as_mlx(value) for value in args[:arrays]]
        return function(*given, *args[arrays:], **{k: as_mlx(v) if k == "indices" else v for k, v in options.items()})

    return called


# On MLX these differ on purpose: an mx.array cannot be written to, and some arrays cannot be made of it.
NUMPYS_OWN = ("out ", "indices masked", "global out", "x 32-d", "indices object", "unpool indices None", "divisor_override huge")


@pytest.mark.parametrize("bad", [bad for bad in ROWS if not bad.name.startswith(NUMPYS_OWN)], ids=lambda bad: bad.name)
def test_mlx_raises_the_same(bad, monkeypatch):
    """The same call on mx.arrays raises the same error with the same words."""
    for name in ("pool", "adaptive_pool", "global_pool", "pool_backward", "adaptive_pool_backward", "max_unpool"):
        monkeypatch.setattr(pooling, name, on_mlx(getattr(pooling, name)))
    with pytest.raises(bad.error) as caught:
        bad.call()
    assert type(caught.value) is bad.error
    missing = [word for word in bad.words if word not in str(caught.value)]
    assert not missing, (missing, str(caught.value))


@pytest.mark.parametrize("bad", ROWS, ids=lambda bad: bad.name)
def test_message(bad):
    with pytest.raises(bad.error) as caught:
        bad.call()
    assert type(caught.value) is bad.error
    message = str(caught.value)
    missing = [word for word in bad.words if word not in message]
    assert not missing, (missing, message)
    assert bad.shape in message, message
    assert re.match(r"[a-z_0-9]+: ", message), f"no function's name: {message}"
    assert len(message) < 600 or "max" * 30 in message, message


def test_the_table_is_large_and_has_no_doubles():
    names = [bad.name for bad in ROWS]
    assert len(names) >= 150 and len(set(names)) == len(names), {name for name in names if names.count(name) > 1}
    called = {
        name for name in pooling.__all__ if any(f"pooling.{name}(" in line for line in Path(__file__).read_text().splitlines())
    }
    assert called >= {
        "pool",
        "pool_backward",
        "adaptive_pool",
        "adaptive_pool_backward",
        "global_pool",
        "max_unpool",
        "output_shape",
    }


def test_errors_write_nothing():
    """Arrays that come with a bad call are what they were, and so is an `out` that would fit."""
    before = X.tobytes(), G.tobytes(), CHOSEN.tobytes()
    for bad in ROWS:
        with pytest.raises(bad.error):
            bad.call()
    assert before == (X.tobytes(), G.tobytes(), CHOSEN.tobytes())
    for options in (
        {"kernel": 0},
        {"kernel": 2, "dtype": "f8"},
        {"kernel": 2, "backend": "x"},
        {"kernel": 2, "padding": 2},
    ):
        out = np.full(G.shape, 7, np.float32)
        with pytest.raises((TypeError, ValueError)):
            pooling.pool(X, "max", **options, out=out)
        assert (out == 7).all()


# ---- calls that look wrong and are not -----------------------------------------------------------------------

TINY = data((1, 3, 2), "float32", 1)
LEGAL = {
    "kernel 2**31-1": (TINY, (HUGE, HUGE, 2**30), {}),
    "kernel 2**31-1 all places": (TINY, (HUGE, 2**28, ((HUGE - 1, HUGE - 1),)), {}),
    "kernel 2**31-1 ceil_mode": (TINY, (HUGE, 2**29, 2**30), {"ceil_mode": True}),
    "kernel 2**31-1 same": (TINY, (HUGE, 1, "same"), {}),
    "kernel 2**31-1 same_lower": (TINY, (HUGE, 2, "same_lower"), {}),
    "stride 2**31-1": (TINY, (1, HUGE), {}),
    "stride 2**31-1 of dilated": (data((1, 9, 2), "float32", 1), (3, HUGE, 3), {"dilation": 4}),
    "dilation 2**31-1": (TINY, (3, 2**29, HUGE), {"dilation": HUGE}),
    "dilation and padding": (TINY, (5, 3, HUGE), {"dilation": 2**30 - 1}),
    "dilated taps that miss": (data((1, 9, 2), "float32", 1), (2, 1, 9), {"dilation": 10}),
    "two giant axes": (data((1, 3, 2, 2), "float32", 1), ((HUGE, HUGE), HUGE, 2**30), {}),
    "three giant axes": (data((1, 3, 2, 4, 1), "float32", 1), (2**20, 2**20, 2**19), {}),
    "one giant axis of three": (data((1, 3, 2, 4, 1), "float32", 1), ((1, HUGE, 2), HUGE, (0, 2**30, 1)), {}),
    "empty stride": (TINY, (2, ()), {}),
    "integer arrays": (
        data((1, 6, 7, 2), "float32", 1),
        (np.array([2, 3]), np.array([1, 2], "u1"), np.array([1, 1])),
        {},
    ),
    "numpy ints": (TINY, (np.int8(2), np.uint64(1), np.int16(1)), {"dilation": np.array(2)}),
    "lists": (data((1, 6, 7, 2), "float32", 1), ([2, 3], [1, 2], [[0, 1], (1, 2)]), {}),
    "unused at its default": (TINY, (2,), {"ceil_mode": np.False_}),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mode", ["max", "min", "avg", "sum"])
@pytest.mark.parametrize("name", LEGAL)
def test_legal(name, mode, backend):
    x, arguments, options = LEGAL[name]
    for dtype in ("float32", "int32", "uint8"):
        cells = np.abs(x * 20).astype(dtype)
        want = oracle.pool(cells, mode, *arguments, **options)
        check(pooling.pool(cells, mode, *arguments, **options, backend=backend), want, (name, dtype))
        assert pooling.output_shape(x.shape, *arguments, **options) == want.shape
    g = data(oracle.pool(x, mode, *arguments, **options).shape, "float32", 2)
    check(
        pooling.pool_backward(g, x, mode, *arguments, **options, backend=backend),
        oracle.pool_backward(g, x, mode, *arguments, **options),
    )


def test_unused_keywords_may_be_spelled_otherwise():
    """At its default means equal to it, whatever type says so."""
    want = pooling.pool(X, "max", 2)
    options = {"p": np.float64(2), "count_include_pad": np.True_, "divisor_override": None, "return_indices": np.False_}
    check(pooling.pool(X, "max", 2, **options), want)
    check(pooling.pool(X, "max", 2, p=2, return_indices=False), want)
    check(pooling.pool_backward(G, X, "sum", 2, p=Fraction(2), indices=None), pooling.pool_backward(G, X, "sum", 2))


@pytest.mark.parametrize("n, reach", [(200_000, 100_000), (200_000, 200_000), (30_000, 29_999)])
def test_many_giant_windows(n, reach):
    """A window that reaches `reach` cells to both sides of every cell: as many outputs as cells, each of most cells."""
    x = np.random.default_rng(1).integers(-9, 9, (1, n, 1)).astype(np.float32)
    window, flat = (2 * reach + 1, 1, reach), x.ravel()
    first, stop = np.maximum(np.arange(n) - reach, 0), np.minimum(np.arange(n) + reach + 1, n)
    assert ((first == 0) | (stop == n)).all()
    sums = np.append(0, np.cumsum(flat, dtype=np.int64))
    want = (sums[stop] - sums[first]).astype(np.float32)  # small ints: every partial sum is exact
    assert np.abs(sums).max() < 2**24
    check(pooling.pool(x, "sum", *window).ravel(), want)
    check(pooling.pool(x, "avg", *window).ravel(), want / np.float32(2 * reach + 1))
    check(pooling.pool(x, "avg", *window, count_include_pad=False).ravel(), want / (stop - first).astype(np.float32))
    fore, back = np.maximum.accumulate(flat)[stop - 1], np.maximum.accumulate(flat[::-1])[::-1][first]
    values, indices = pooling.pool(x, "max", *window, return_indices=True)
    check(values.ravel(), np.where(first == 0, fore, back))
    assert (flat[indices.ravel()] == values.ravel()).all()
    assert ((indices.ravel() >= first) & (indices.ravel() < stop)).all()
    ones = np.ones_like(x)  # back along a sum: how many windows cover a cell, which is the same count
    check(pooling.pool_backward(ones, x, "sum", *window).ravel(), (stop - first).astype(np.float32))
    total = np.bincount(indices.ravel(), minlength=n).astype(np.float32)
    check(pooling.pool_backward(ones, x, "max", *window).ravel(), total)


# ---- results that memory cannot hold -------------------------------------------------------------------------


def _repeated(cells: Any, shape: tuple[int, ...]) -> Any:
    return np.broadcast_to(cells, shape)


TOO_LARGE: dict[str, Callable[[], Any]] = {
    "by padding": lambda: pooling.pool(np.ones((1, 3, 3, 3, 1), "f4"), "avg", 2**20, 1, 2**20 - 1),
    "by padding, max": lambda: pooling.pool(np.ones((1, 3, 3, 3, 1), "f4"), "max", 2**19, 1, 2**19 - 1, return_indices=True),
    "by output_size": lambda: pooling.adaptive_pool(np.ones((1, 3, 3, 1), "f4"), "max", 2**26),
    "by output_size, avg": lambda: pooling.adaptive_pool(np.ones((1, 3, 3, 1), "u1"), "avg", 2**29),
    "by repetition": lambda: pooling.pool(_repeated(np.ones(1, "f4"), (2**40, 3, 3, 64)), "sum", 3),
    "by repetition of channels": lambda: pooling.pool(_repeated(np.ones(1, "i1"), (1, 3, 2**50)), "lp", 3),
    "gradient": lambda: pooling.pool_backward(
        _repeated(np.ones(1, "f4"), (2**40, 1, 64)), _repeated(np.ones(1, "f4"), (2**40, 3, 64)), "max", 3
    ),
    "gradient of avg": lambda: pooling.pool_backward(
        _repeated(np.ones(1, "f2"), (2**44, 1, 1)), _repeated(np.ones(1, "f2"), (2**44, 3, 1)), "avg", 3
    ),
    "gradient of lp": lambda: pooling.adaptive_pool_backward(
        _repeated(np.ones(1, "f8"), (2**44, 1, 1)), _repeated(np.ones(1, "f8"), (2**44, 3, 1)), "lp", 1
    ),
    "unpool": lambda: pooling.max_unpool(np.ones((1, 3, 3, 1), "f4"), np.zeros((1, 3, 3, 1), int), 2**25, 2**26),
}


def too_large() -> None:
    for name, call in TOO_LARGE.items():
        try:
            call()
        except MemoryError:
            continue
        raise AssertionError(f"{name}: no MemoryError")


def all_rows() -> None:
    """Every row and every legal call, for a process with little memory and little time."""
    for bad in ROWS:
        try:
            bad.call()
        except bad.error:
            continue
        raise AssertionError(f"{bad.name}: no {bad.error.__name__}")
    for x, arguments, options in LEGAL.values():
        for mode in pooling.MODES:
            y = pooling.pool(x, mode, *arguments, **options)
            pooling.pool_backward(y, x, mode, *arguments, **options)


def _run(limit: int, statement: str, timeout: float = 60) -> None:
    """The statement in a process of its own; limit: GiB of address space, 0 for none."""
    here = Path(__file__)
    code = (
        f"import resource, sys\nsys.path[:0] = [{str(here.parent)!r}, {str(Path(pooling.__file__).parents[1])!r}]\n"
        + (f"resource.setrlimit(resource.RLIMIT_AS, ({limit} << 30,) * 2)\n" if limit else "")
        + f"import {here.stem} as table\n{statement}\n"
    )
    environment = os.environ | {"POOLING_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stderr[-2000:]


linux = pytest.mark.skipif(sys.platform != "linux", reason="an address space cannot be limited, or memory asked for, here")


@linux
def test_the_table_needs_little_memory_and_time():
    _run(2, "table.all_rows()")


@linux
def test_too_large_without_a_limit():
    _run(0, "table.too_large()")


def test_memory_errors_name_the_shape():
    for name in ("by padding", "by output_size", "unpool"):
        with pytest.raises(MemoryError, match=r"^[a-z_]+: .*shape \(1, .*bytes.*x: shape \(1, 3"):
            TOO_LARGE[name]()


@pytest.mark.parametrize("mode", ["max", "min"])
def test_every_index(mode):
    """Each index of a plane, and those around it, is taken exactly where it is a cell of the window (or -1)."""
    sizes, window = (5, 6), {"kernel": 2, "stride": (2, 3), "padding": 1, "dilation": (2, 3), "layout": "HW"}
    x = np.zeros(sizes, np.float32)
    shape = pooling.pool(x, mode, **window).shape
    for place in np.ndindex(*shape):
        own = {-1}
        for taps in np.ndindex(2, 2):
            cell = [o * s - 1 + j * d for o, s, j, d in zip(place, (2, 3), taps, (2, 3), strict=True)]
            if all(0 <= at < n for at, n in zip(cell, sizes, strict=True)):
                own.add(cell[0] * sizes[1] + cell[1])
        for index in range(-2, x.size + 2):
            indices = np.full(shape, -1)
            indices[place] = index
            call = lambda: pooling.pool_backward(np.ones(shape, np.float32), x, mode, **window, indices=indices)  # noqa: B023, E731
            if index in own:
                assert call().sum() == (index >= 0)
            else:
                with pytest.raises(IndexError, match=r"neither -1 nor a cell of the window"):
                    call()


def test_mlx_was_given_its_own_arrays(monkeypatch):
    """Most messages of test_mlx_raises_the_same name an mx.array's type: the calls were not made on NumPy's arrays."""
    for name in ("pool", "adaptive_pool", "global_pool", "pool_backward", "adaptive_pool_backward", "max_unpool"):
        monkeypatch.setattr(pooling, name, on_mlx(getattr(pooling, name)))
    named = 0
    for bad in ROWS:
        try:
            bad.call()
        except Exception as error:
            named += "mlx.core" in str(error)
    assert named > len(ROWS) // 2
