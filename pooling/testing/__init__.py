"""For anyone who writes a pooling kernel: what the answers are, and problems to ask.

`check` asks a function of yours every case and draws what differs; `cases` lists them, each a `Golden`. Below that,
`oracle` pools NumPy arrays by the definition; `CASES`, `ADAPTIVE_CASES` and `UNPOOL_CASES` are the named problems that
cases are made of; `data` makes arrays for them; `agree` compares.

>>> case = next(case for case in CASES if case.name == "ceil_overhang_divisor")
>>> x = data(case.x_shape, "float32", seed=1)
>>> want = oracle.pool(x, "avg", **case.arguments("avg"))
>>> agree(want.copy(), want)
True
"""

from . import oracle
from .cases import (
    ADAPTIVE_CASES,
    CASES,
    KINDS,
    UNPOOL_CASES,
    AdaptiveCase,
    Case,
    UnpoolCase,
    data,
    relayout,
)
from .check import Report, check
from .compare import agree, first_difference, lp_bound, lp_gradient_bound, within
from .golden import FEATURES, FUNCTIONS, Golden, Mismatch, cases

__all__ = [
    "ADAPTIVE_CASES",
    "CASES",
    "FEATURES",
    "FUNCTIONS",
    "KINDS",
    "UNPOOL_CASES",
    "AdaptiveCase",
    "Case",
    "Golden",
    "Mismatch",
    "Report",
    "UnpoolCase",
    "agree",
    "cases",
    "check",
    "data",
    "first_difference",
    "lp_bound",
    "lp_gradient_bound",
    "oracle",
    "relayout",
    "within",
]
