"""What the property tests draw: legal problems of any rank, and whole calls that JSON can keep."""

from __future__ import annotations

import json
from typing import Any

from agreement import LAYOUTS
from hypothesis import assume
from hypothesis import strategies as st

import pooling
from pooling._dtypes import DTYPES
from pooling.testing import KINDS

CELLS = (300, 40, 12)  # of an axis at most, by the number of pooled axes
FEW = (40, 12, 6)  # the same, for laws that need several calls
EXACT = tuple(mode for mode in pooling.MODES if mode != "lp")


@st.composite
def axes(draw: Any, cells: int, padded: bool = True, dilated: bool = True) -> tuple[Any, ...]:
    """One axis: size, kernel, stride, padding, dilation; the effective kernel fits the padded size."""
    n = draw(st.integers(1, cells))
    dilation = draw(st.integers(1, 4)) if dilated else 1
    if not padded:
        kernel = draw(st.integers(1, (n - 1) // dilation + 1))
        return n, kernel, draw(st.integers(1, kernel + 3)), (0, 0), dilation
    kernel = draw(st.integers(1, max(1, min(2 * n, 70) // dilation)))
    extent = dilation * (kernel - 1) + 1
    before, after = draw(st.integers(0, extent - 1)), draw(st.integers(0, extent - 1))
    if n + before + after < extent:
        after = extent - 1
        before = max(before, min(extent - 1, extent - n - after))
    return n, kernel, draw(st.integers(1, kernel + 3)), (before, after), dilation


@st.composite
def problems(
    draw: Any, cells: tuple[int, ...] = CELLS, ranks: tuple[int, int] = (1, 3), ceil: bool = True, **kind: bool
) -> tuple[tuple[int, ...], dict[str, Any], str]:
    """A shape, the arguments of a window on it, and a layout."""
    rank = draw(st.integers(*ranks))
    columns = zip(*(draw(axes(cells[rank - 1], **kind)) for _ in range(rank)), strict=True)
    sizes, kernel, stride, padding, dilation = columns
    shape = (draw(st.integers(1, 3)), *sizes, draw(st.sampled_from((1, 2, 3, 5, 16, 17))))
    window = {
        "kernel": kernel,
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "ceil_mode": ceil and draw(st.booleans()),
    }
    return shape, window, draw(st.sampled_from(("channels_last", "channels_first", *LAYOUTS[rank])))


@st.composite
def giant_axes(draw: Any) -> tuple[Any, ...]:
    """One axis of few cells under a window of any reach, with few outputs."""
    n, dilation = draw(st.integers(1, 6)), draw(st.sampled_from((1, 2, 3, 7)))
    kernel = draw(st.sampled_from((1, 2, 5, 9, 40, 700, 2**15 + 1, 2**20)))
    extent = dilation * (kernel - 1) + 1
    stride = draw(st.integers(1, extent))
    needed = max(0, (draw(st.integers(1, 5)) - 1) * stride + extent - n)
    assume(needed <= 2 * (extent - 1))
    before = draw(st.integers(max(0, needed - extent + 1), min(extent - 1, needed)))
    after = needed - before
    return n, kernel, stride, (before, after), dilation


COUNTS = st.fixed_dictionaries(
    {"count_include_pad": st.booleans(), "divisor_override": st.sampled_from((None, None, None, 3, -7))}
)


@st.composite
def calls(
    draw: Any, modes: tuple[str, ...] = EXACT, dtypes: Any = tuple(DTYPES), kinds: tuple[str, ...] = KINDS, **problem: Any
) -> dict[str, Any]:
    """A whole call of pool, of what JSON has; `seed` is that of its data, and chooses where a law has a choice."""
    shape, window, layout = draw(problems(FEW, **problem))
    mode = draw(st.sampled_from(modes))
    options = draw(COUNTS) if mode == "avg" else {"p": draw(st.sampled_from((2.0, 1.0, 3.0, 0.5)))} if mode == "lp" else {}
    call = {
        "shape": shape,
        "mode": mode,
        "window": window,
        "options": options,
        "dtype": draw(st.sampled_from(dtypes)),
        "kind": draw(st.sampled_from(kinds)),
        "layout": layout,
        "seed": draw(st.integers(0, 999)),
    }
    return dict(json.loads(json.dumps(call)))
