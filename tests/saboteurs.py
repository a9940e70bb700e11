"""Backends with one deliberate mistake each: what the suite must reject, and the case whose name says so.

A saboteur is the oracle's text with a few words changed, so that all else about it is right: `SABOTEURS` is the table, and
`backend(row)` makes a module with the public functions of it. A text that the oracle no longer has is an error, not a
saboteur without a mistake. `CONTROL` changes nothing, and must pass everything.

    python -m pooling.testing --function saboteurs:ties_to_the_last    (from tests/) shows how such a mistake is reported
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from pooling.testing import oracle

# What the oracle leaves out of the public functions: `out`, and the name of a backend.
DOOR = """

from functools import wraps


def _door(function):
    @wraps(function)
    def called(*arguments, out=None, backend=None, **options):
        result = function(*arguments, **options)
        if out is None:
            return result
        for target, part in zip(out, result) if type(result) is tuple else [(out, result)]:
            target[...] = part
        return out

    return called


for _name in ("pool", "pool_backward", "adaptive_pool", "adaptive_pool_backward", "global_pool", "max_unpool"):
    globals()[_name] = _door(globals()[_name])
"""


@dataclass(frozen=True)
class Saboteur:
    """A mistake: what is changed in the oracle's text, which case must be among the failures, and where all of them lie."""

    name: str
    edits: tuple[tuple[str, str], ...]  # (what the oracle says, what the saboteur says), each found once
    case: str = ""  # function/case/mode/dtype/kind, as the golden cases begin, and the suite's parameters
    within: Callable[[Any], bool] = lambda golden: True  # of every case that fails
    spared: str = "one_cell"  # a case beside it, in the same mode and type, that does not fail: no mistake is everywhere


def has(*features: str) -> Callable[[Any], bool]:
    """Whether a golden case has all of these features."""
    return lambda golden: set(features) <= golden.features


def mode(*names: str) -> Callable[[Any], bool]:
    """Whether a golden case is of one of these modes."""
    return lambda golden: golden.mode in names


def each(*conditions: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Whether a golden case meets all of these."""
    return lambda golden: all(condition(golden) for condition in conditions)


CONTROL = Saboteur("control", ())

SABOTEURS = (
    # where windows are
    Saboteur(
        "padding_off_by_one",
        (("    return index(before), index(after)\n", "    return max(0, index(before) - 1), index(after) + (before > 0)\n"),),
        "pool/pad_before_only/max/float32/real",
        has("padding"),
    ),
    Saboteur(
        "sides_of_the_padding_swapped",
        (("    return index(before), index(after)\n", "    return index(after), index(before)\n"),),
        "pool/pads_differ_by_side/sum/float32/real",
        has("asymmetric"),
        "pad_both",
    ),
    Saboteur(
        "same_lower_taken_for_same",
        (('if padding == "same_lower" else', 'if padding == "" else'),),
        "pool/same_lower/max/float32/real",
        has("same"),
        "same_odd_kernel",
    ),
    Saboteur(
        "last_column_dropped",
        (("range(-before, n + after - reach + 1, s)\n", "range(-before, max(1 - before, n + after - reach), s)\n"),),
        "pool/last_window_ends_at_end/max/float32/real",
        spared="last_cells_dropped",
    ),
    Saboteur(
        "ceil_mode_keeps_the_window_in_the_padding",
        ((" and last + s < n\n", "\n"),),
        "pool/ceil_drops_last_window/max/float32/real",
        has("ceil_mode"),
        "ceil_adds_window",
    ),
    Saboteur(
        "ceil_mode_ignored",
        (("hang = ceil_mode and", "hang = False and"),),
        "pool/ceil_adds_window/max/float32/real",
        has("ceil_mode"),
        "ceil_exact",
    ),
    Saboteur(
        "dilation_ignored_on_one_axis",
        (("_each(dilation, m), strict", "[*_each(dilation, m)[:-1], 1], strict"),),
        "pool/dilated/max/float32/real",
        has("dilation"),
    ),
    Saboteur(
        "kernel_of_the_wrong_axis",
        (
            (
                "enumerate(zip(_each(kernel, m), _each(stride, m), _each(d",
                "enumerate(zip(_each(kernel, m)[::-1], _each(stride, m), _each(d",
            ),
        ),
        "pool/column_only/max/float32/real",
        has("by_axis"),
        "pad_both",
    ),
    Saboteur(
        "stride_of_the_wrong_axis",
        (("_each(stride, m), _each(dilation", "_each(stride, m)[::-1], _each(dilation"),),
        "pool/tall_stride/max/float32/real",
        has("by_axis"),
        "pad_both_strided",
    ),
    Saboteur(
        "channels_last_taken_for_first",
        (("range(ndim - 1 - m, ndim - 1)", "range(ndim - m, ndim)"),),
        "pool/channels_prime/max/float32/real",
        lambda golden: golden.layout == "channels_last",
    ),
    Saboteur(
        "adaptive_windows_by_floor_and_floor",
        (("i * out < (o + 1) * n and", "i < (o + 1) * n // out and"),),
        "adaptive_pool/does_not_divide/max/float32/real",
        has("adaptive"),
        "divides",
    ),
    # divisors
    Saboteur(
        "overhang_counted",
        (("padded = min(k, (n + after - 1 - start) // d + 1)", "padded = k"),),
        "pool/ceil_overhang_divisor/avg/float32/real",
        each(has("overhang"), mode("avg")),
        "pad_both",
    ),
    Saboteur(
        "padding_counted_when_it_must_not_be",
        (("w.padded if include_pad else len(w.taps)", "w.padded"),),
        "pool/pad_not_counted/avg/float32/real",
        each(mode("avg"), lambda golden: not golden.arguments["count_include_pad"]),
        "pad_both",
    ),
    Saboteur(
        "padding_not_counted_when_it_must_be",
        (("w.padded if include_pad else len(w.taps)", "len(w.taps)"),),
        "pool/pad_both/avg/float32/real",
        each(mode("avg"), has("padding")),
        "pad_not_counted",
    ),
    Saboteur(
        "reciprocal_instead_of_division",
        (
            (
                "values = values / _divisor(plan.windows, count_include_pad, divisor_override, values.dtype)",
                "values = values * (1 / _divisor(plan.windows, count_include_pad, divisor_override, values.dtype))",
            ),
        ),
        "pool/kernel_7/avg/float32/real",
        mode("avg"),
        "kernel_16",
    ),
    Saboteur(
        "divisor_in_32_bits",
        (("for w in a], np.int64) for a in windows]", "for w in a]).astype(np.int32) for a in windows]"),),
        "pool/huge_kernel_huge_padding_2d/avg/float32/real",
        each(mode("avg"), has("huge")),
        "huge_kernel_huge_padding",
    ),
    Saboteur(
        "sign_of_the_divisor_lost",
        (("d = index(override)", "d = abs(index(override))"),),
        "pool/divisor_override_negative/avg/float32/real",
        each(mode("avg"), has("divisor_override")),
        "divisor_override",
    ),
    # cells
    Saboteur(
        "nan_ignored",
        (("nan = key != key\n", "key = np.where(key != key, _identity(mode, x.dtype), key)\n    nan = key != key\n"),),
        "pool/pad_both/max/float32/special",
        each(mode("max", "min"), has("nan")),
    ),
    Saboteur(
        "first_nan_instead_of_the_last",
        (("nan.shape[1] - 1 - nan[:, ::-1].argmax(axis=1)", "nan.argmax(axis=1)"),),
        "pool/pad_both/max/float32/special",
        each(mode("max", "min"), has("nan")),
    ),
    Saboteur(
        "ties_to_the_last",
        (
            (
                'slot = key.argmax(axis=1) if mode == "max" else key.argmin(axis=1)',
                'slot = key.shape[1] - 1 - (key[:, ::-1].argmax(axis=1) if mode == "max" else key[:, ::-1].argmin(axis=1))',
            ),
        ),
        "pool/pad_both/max/float32/special",
        each(mode("max", "min"), has("ties")),
    ),
    Saboteur(
        "integers_padded_with_0",
        (('return np.iinfo(dtype).min if mode == "max" else np.iinfo(dtype).max', "return 0"),),
        "pool/pad_both/max/int8/real",
        mode("max", "min"),
        "unit_stride",
    ),
    Saboteur(
        "padded_with_the_lowest_float",
        (
            (
                '        return -np.inf if mode == "max" else np.inf\n',
                "        return np.finfo(dtype if dtype.kind == 'f' else F32).max * (-1 if mode == 'max' else 1)\n",
            ),
        ),
        "pool/dilated_window_with_no_real_cell/max/float32/real",
        each(mode("max", "min")),
        "pad_both",
    ),
    Saboteur(
        "unsigned_compared_as_signed",
        (
            (
                "x.dtype.itemsize == 2 else seen\n",
                'x.dtype.itemsize == 2 else seen\n    key = seen.view(f"i{x.dtype.itemsize}") if x.dtype.kind == "u" else key\n',
            ),
        ),
        "pool/unit_stride/max/uint8/real",
        each(mode("max", "min"), lambda golden: golden.dtype.startswith("u")),
        "kernel_one",
    ),
    Saboteur(
        "empty_window_read",
        (
            (
                "            own[o, : len(window.taps)] = [i for _, i in window.taps]\n",
                "            taps = window.taps or ((0, 0),)\n            own[o, : len(taps)] = [i for _, i in taps]\n",
            ),
        ),
        "pool/dilated_window_with_no_real_cell/max/float32/real",
        has("empty_window"),
        "dilated_padded",
    ),
    Saboteur(
        "rows_swapped",
        (("            total[o] = ", "            total[o ^ 1 if o ^ 1 < len(along) else o] = "),),
        "pool/unit_stride/sum/float32/real",
        mode("avg", "sum"),
    ),
    Saboteur(
        "threads_racing_on_one_plane",
        (
            (
                "    return x.reshape(*x.shape[: len(axes)], prod(x.shape[len(axes) :]))\n",
                "    x = np.array(x.reshape(*x.shape[: len(axes)], prod(x.shape[len(axes) :])))\n"
                "    if x.shape[-1] > 64:  # the second thread begins before its first plane has been written\n"
                "        x[..., 64] = x[..., 63]\n"
                "    return x\n",
            ),
        ),
        "pool/large_batch/max/float32/real",
        lambda golden: golden.question.case.name == "large_batch",
    ),
    Saboteur(
        "tail_of_a_vector_forgotten",
        (
            (
                "        values = _convert(values.reshape(out), result if target is None else target)\n",
                "        values = _convert(values.reshape(out), result if target is None else target)\n"
                "        if out[-2] > 8 and out[-2] % 8 == 1:\n"
                "            values[..., -1, :] = 0\n",
            ),
        ),
        "pool/one_beyond_vector_16/max/float32/real",
        lambda golden: golden.expected[0].shape[-2] % 8 == 1,
        "exactly_vector_16",
    ),
    # arithmetic
    Saboteur(
        "sums_in_float16",
        (("    if _floating(own):\n        return F32\n", "    if _floating(own):\n        return own\n"),),
        "pool/kernel_17/sum/float16/real",
        each(mode("avg", "sum"), lambda golden: golden.dtype.endswith("float16")),
        "kernel_one",
    ),
    Saboteur(
        "sums_in_float64",
        (("    if _floating(own):\n        return F32\n", "    if _floating(own):\n        return F64\n"),),
        "pool/kernel_17/sum/float32/real",
        each(mode("avg", "sum"), lambda golden: "float" in golden.dtype),
        "kernel_one",
    ),
    Saboteur(
        "one_cell_after_the_other",
        (("    half = 1 <<", "    return reduce(np.add, [x[i] for _, i in taps])\n    half = 1 <<"),),
        "pool/kernel_5/sum/float32/real",
        mode("avg", "sum"),
        "kernel_one",
    ),
    Saboteur(
        "integer_sums_in_32_bits",
        (
            (
                "                result = values.dtype\n",
                "                result, values = values.dtype, values.astype(np.int32)\n",
            ),
        ),
        "pool/kernel_17/sum/int32/real",
        each(mode("sum"), lambda golden: "int" in golden.dtype),
        "kernel_one",
    ),
    Saboteur(
        "bfloat16_truncated",
        (
            (
                "        v = np.where((near != v) &",
                "        v = (near.view(np.uint32) & 0xFFFF0000).view(F32)\n        0 and np.where((near != v) &",
            ),
        ),
        "pool/pad_both/avg/bfloat16/real",
        lambda golden: golden.dtype == "bfloat16",
        "kernel_one",
    ),
    Saboteur(
        "rounded_toward_zero",
        (("v = np.rint(v.astype(F64))", "v = np.trunc(v.astype(F64))"),),
        "pool/as_int16/avg/float32/real",
        has("conversion"),
        "as_float64",
    ),
    Saboteur(
        "wrapped_instead_of_saturated",
        (
            (
                "            return np.clip(v, max(low, int(own.min)), min(high, int(own.max))).astype(dtype)\n",
                "            return v.astype(dtype)\n",
            ),
        ),
        "pool/as_int8/sum/int32/real",
        has("conversion"),
        "as_float64",
    ),
    Saboteur(
        "norm_without_abs",
        (
            (
                "values = _norm(np.abs(_gather(front.astype(F64), plan.windows, 0)[1]), float(p))",
                "values = _norm(_gather(front.astype(F64), plan.windows, 0)[1], float(p))",
            ),
        ),
        "pool/pad_both/lp-3/float32/special",
        mode("lp"),
        "kernel_16",
    ),
    # indices and gradients
    Saboteur(
        "index_one_plane_off",
        (("_back(cells.reshape(out), ", "_back(cells.reshape(out) + np.arange(out[-1]) * prod(front.shape[:-1]), "),),
        "pool/channels_prime/max/float32/real",
        has("indices"),
    ),
    Saboteur(
        "gradients_overwritten_where_windows_overlap",
        (("np.add.at(result, flat[cells >= 0], values[cells >= 0])", "result[flat[cells >= 0]] += values[cells >= 0]"),),
        "pool_backward/stride_within_kernel/max/float32/real",
        each(mode("max", "min", "lp"), has("gradient")),
        "stride_equals_kernel",
    ),
    Saboteur(
        "gradient_of_a_tie_split_evenly",
        (
            (
                "            grad = _scatter(front.shape, _flat(cells.astype(np.int64)), _flat(g))\n",
                "            every, seen = _gather(front, plan.windows, _identity(mode, front.dtype))\n"
                "            hit = (every[..., None] >= 0) & (seen == _extreme(front, mode, plan.windows)[0][:, None])\n"
                "            part = np.where(hit, _flat(g)[:, None] / hit.sum(axis=1, keepdims=True), 0).astype(g.dtype)\n"
                "            grad = _scatter(front.shape, _flat(np.broadcast_to(every[..., None], part.shape)), _flat(part))\n",
            ),
        ),
        "pool_backward/pad_both/max/float32/special",
        each(mode("max", "min"), has("gradient")),
        "kernel_one",
    ),
    Saboteur(
        "gradient_of_an_average_not_divided",
        (("                g = g / _divisor(", "                g / _divisor("),),
        "pool_backward/pad_both/avg/float32/real",
        each(mode("avg"), has("gradient")),
        "kernel_one",
    ),
    Saboteur(
        "the_first_of_duplicates_unpooled",
        (("    for window in np.ndindex(*values.shape[:m]):", "    for window in reversed([*np.ndindex(*values.shape[:m])]):"),),
        "max_unpool/repeated/max/float32/special",
        has("unpool"),
        "default_size",
    ),
    Saboteur(
        "minus_one_unpooled_to_the_end",
        (("        real = cells[window] >= 0\n", "        real = cells[window] >= -1\n"),),
        "max_unpool/skipped/max/float32/special",
        has("unpool"),
        "default_size",
    ),
)

# What no case can show: whose arrays are, as they are kept, one block of memory, and which have no `out`.
UNSEEN = (
    Saboteur("out_half_written", (("            target[...] = part\n", "            target[..., ::2] = part[..., ::2]\n"),)),
    Saboteur(
        "strides_ignored",
        (("    x = np.asarray(x)\n", '    x = np.asarray(x)\n    x = x.ravel(order="K").reshape(x.shape)\n'),),
    ),
    Saboteur(
        "threads_change_the_order",
        (
            (
                "    half = 1 <<",
                "    import pooling\n\n    if pooling.get_num_threads() > 1:\n"
                "        return reduce(np.add, [x[i] for _, i in taps])\n    half = 1 <<",
            ),
        ),
    ),
)


@cache
def backend(row: Saboteur) -> ModuleType:
    """The oracle's public functions, with this mistake."""
    text = Path(oracle.__file__).read_text(encoding="utf-8") + DOOR
    for old, new in row.edits:
        if text.count(old) != 1:
            raise ValueError(f"{row.name}: the oracle has {text.count(old)} times {old!r}")
        text = text.replace(old, new)
    module = ModuleType(f"saboteurs.{row.name}")
    exec(compile(text, f"<{row.name}>", "exec"), module.__dict__)
    return module


def __getattr__(name: str) -> Any:
    """The pool of a saboteur by its name, as `--function` asks for it."""
    for row in (CONTROL, *SABOTEURS, *UNSEEN):
        if row.name == name:
            return backend(row).pool
    raise AttributeError(name)
