"""Where a result differs from what is expected, as text: the first cell, its window, and what may have happened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .call import Function, parts
from .compare import differing

if TYPE_CHECKING:
    from .golden import Golden


def difference(golden: Golden, result: Any, fn: Function | None = None) -> str | None:
    """None, or the text; fn, where it is known, for the line that asks again."""
    want = golden.expected
    try:
        got = parts(result, len(want))
    except Exception as error:
        return failure(golden, f"the result cannot be read as an array: {type(error).__name__}: {error}", fn)
    if len(got) != len(want):
        return failure(golden, f"{len(got)} arrays came back, not {len(want)}", fn)
    for name, one, two in zip(("values", "indices"), got, want, strict=False):
        if one.shape != two.shape or one.dtype != two.dtype:
            return failure(golden, f"{name}: expected {two.dtype} {two.shape}, got {one.dtype} {one.shape}", fn)
        wrong = differing(one, two, golden.bound())
        if wrong.any():
            at = tuple(int(i) for i in np.argwhere(wrong)[0])
            text = f"{name} at {at}: expected {two[at]}, got {one[at]}; {np.count_nonzero(wrong)} of {wrong.size} cells differ"
            return failure(golden, text, fn)
    return None


def failure(golden: Golden, text: str, fn: Function | None = None) -> str:
    """The case, the call, the text, and a line that asks it again."""
    arguments = golden.plain if fn is None else fn.arguments(golden)
    arrays = [f"{name}: {array.dtype} {array.shape}" for name, array in golden.views.items()]
    call = ", ".join([*arrays, *(f"{name}={value!r}" for name, value in arguments.items())])
    return f"{golden.name}: {golden.probes}\n  call  {golden.function}({call})\n  {text}\n  again  {again(golden, fn)}"


def again(golden: Golden, fn: Function | None = None) -> str:
    """One line that asks the case again."""
    if fn is not None and fn.target is not None:
        other = "" if golden.function == "pool" else f" --call {golden.function}"
        return f"python -m pooling.testing --function {fn.target}{other} --name {golden.name}"
    other = "" if golden.function == "pool" else f"function={golden.function!r}, "
    return f"cases({other}name={golden.name!r})[0].check(fn)"
