"""`pooling.testing`'s cases, and check: what is listed, how a function is asked, and that a wrong one is told what is wrong.

The functions that are checked are the oracle's with a mistake put in, or NumPy; the product's kernels have no part in it.
"""

from __future__ import annotations

import doctest
import pickle
import re
import subprocess
import sys
import textwrap
from functools import cache
from importlib import import_module
from pathlib import Path
from unittest import SkipTest

import numpy as np
import pytest

import pooling
from pooling.testing import FEATURES, FUNCTIONS, Mismatch, agree, cases, check, data, draw, golden, mistakes, oracle, relayout

command = import_module("pooling.testing.__main__")
ROOT = Path(__file__).parents[1]


@cache
def everything():
    return cases(function=None)


def one(name, function="pool"):
    (case,) = cases(function=function, name=name)
    return case


def wrong(fn, **options) -> str:
    """The report on a wrong function."""
    with pytest.raises(Mismatch) as raised:
        check(fn, **options)
    return str(raised.value)


def drawn(case, result) -> list[str]:
    """The lines of a drawing without the case, the call and the way to ask again."""
    lines = case.difference(result).split("\n")
    assert lines[0] == f"{case.name}: {case.probes}" and lines[1].startswith("  call ") and lines[-1].startswith("  again ")
    return textwrap.dedent("\n".join(lines[2:-1])).split("\n")


# ---- what is listed ------------------------------------------------------------------------------------------


def test_names_are_unique():
    assert len(everything()) == len({case.name for case in everything()}) > 100_000


def test_every_mode_type_layout_rank_and_feature_is_there():
    def seen(name):
        return {getattr(case, name) for case in everything()}

    assert seen("function") == set(FUNCTIONS)
    assert seen("mode") == set(pooling.MODES) and seen("rank") == {1, 2, 3}
    assert seen("dtype") == set(golden.TYPES) and seen("layout") == set(golden.LAYOUTS)
    assert set().union(*(case.features for case in everything())) == set(FEATURES)
    assert frozenset() in {case.features for case in everything()}


def test_the_questions_of_the_backends_are_the_cases():
    """One list: the command with --backend asks what cases() has."""
    counted = sum(sum(1 for _ in make()) for _, make in golden.questions())
    assert counted == len(everything())


@pytest.mark.parametrize(
    "filters",
    [
        {"mode": "avg"},
        {"mode": ("max", "min"), "rank": 2},
        {"rank": [1, 3], "dtype": "int8"},
        {"layout": "channels_first", "dtype": ("float16", "float32")},
        {"function": "adaptive_pool_backward"},
        {"function": ("max_unpool", "pool_backward"), "layout": "HCWND"},
        {"name": "pool/pad_*/max/*/real/*"},
        {"name": ["*/cube/*/indices", "pool/one_cell/*"]},
        {"feature": "overhang"},
        {"feature": ("gradient", "nan"), "function": None, "dtype": "float64"},
    ],
    ids=str,
)
def test_filters(filters):
    """Each keeps exactly the cases whose own attribute has one of the values."""
    found = cases(**filters)
    filters = {"function": "pool", **filters}

    def kept(case):
        for name, value in filters.items():
            values = {value} if isinstance(value, str | int) else value
            if name == "feature":
                fits = bool(set(values) & case.features)
            elif name == "name":
                fits = any(re.fullmatch(pattern.replace("*", ".*"), case.name) for pattern in values)
            else:
                fits = values is None or getattr(case, name) in values
            if not fits:
                return False
        return True

    assert found == [case for case in everything() if kept(case)]
    assert 0 < len(found) < len(everything())


@pytest.mark.parametrize(
    "filters, words",
    [
        ({"mode": "average"}, "mode='average': it is one of max, min"),
        ({"rank": 4}, "rank=4"),
        ({"layout": "NCHW"}, "layout='NCHW': it is one of channels_last, channels_first, CLN"),
        ({"dtype": "float128"}, "dtype='float128'"),
        ({"function": "global_pool"}, "function='global_pool'"),
        ({"feature": ("padding", "dilated")}, "feature='dilated'"),
    ],
)
def test_a_filter_without_meaning_is_an_error(filters, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        cases(**filters)


def test_nothing_is_computed_for_a_list(monkeypatch):
    def computed(*arguments, **options):
        raise AssertionError("an array was made")

    for name in ("_x", "_forward", "_backward", "_unpooled"):
        monkeypatch.setattr(golden, name, computed)
    for name in ("pool", "adaptive_pool", "max_unpool", "pool_backward", "adaptive_pool_backward"):
        monkeypatch.setattr(oracle, name, computed)
    (case,) = [case for case in cases(feature=tuple(FEATURES), function=None) if case.name == "pool/cube/max/int8/real/HCWND"]
    assert case.plain["kernel"] == (2, 2, 2) and case.features
    with pytest.raises(AssertionError, match="an array was made"):
        _ = case.arrays


@pytest.mark.parametrize(
    "name, features",
    [
        ("pool/kernel_one/max/float32/real/channels_last", ""),
        ("pool/pad_before_only/max/int8/real/channels_last", "stride overlap padding asymmetric"),
        ("pool/same_even_kernel/min/float32/real/channels_last/indices", "overlap padding asymmetric same by_axis indices"),
        ("pool/ceil_overhang_not_counted/avg/int8/real/CLN", None),
        (
            "pool/ceil_overhang_not_counted/avg/int8/real/WCHN",
            "stride overlap padding ceil_mode overhang count_include_pad",
        ),
        ("pool/ceil_overhang_not_counted/max/int8/real/WCHN", "stride overlap padding ceil_mode overhang"),
        ("pool/divisor_override/avg/uint8/real/WCHN", "stride overlap padding divisor_override"),
        ("pool/dilated_window_with_no_real_cell/sum/float32/real/CLN", "padding dilation empty_window"),
        ("pool/huge_kernel_huge_padding/max/float32/real/CLN", "overlap padding huge"),
        ("pool/kernel_16/sum/float32/real/WCHN", "overlap long_window"),
        ("pool/global_window/lp-2/float32/real/WCHN", "stride by_axis global"),
        ("pool/cube/max/float32/special/HCWND", "stride nan ties"),
        ("pool/cube/max/int32/special/HCWND", "stride ties"),
        ("pool/as_int8/avg/float32/real/channels_last", "stride overlap padding conversion"),
        ("pool/batch_empty/max/bool/real/WCHN", "stride overlap padding empty"),
        ("adaptive_pool/does_not_divide/avg/float32/real/WCHN", "overlap adaptive"),
        ("adaptive_pool/to_one/avg/float32/real/WCHN", "adaptive global"),
        ("adaptive_pool_backward/long_windows/sum/float32/real/CLN", "overlap adaptive long_window gradient"),
        ("max_unpool/padded_one_side/max/float32/special/CLN", None),
    ],
)
def test_features(name, features):
    function = name.partition("/")[0]
    found = cases(function=function, name=name)
    if features is None:
        assert len(found) == (function == "max_unpool")  # a layout of another rank has no such case
        assert all({"unpool", "indices", "asymmetric", "ties"} <= case.features for case in found)
    else:
        assert found[0].features == frozenset(features.split())


def test_a_nan_is_where_the_feature_says():
    for case in cases(function=None, dtype="float16", layout="channels_last"):
        assert ("nan" in case.features) == bool(np.isnan(case.arrays["x"]).any()), case.name


# ---- a case --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", FUNCTIONS)
def test_expected_is_the_oracles_answer_to_both_spellings(function):
    """The arrays and arguments of a case, given to the oracle's function in the case's own layout, give what is expected."""
    names = [
        f"*/{name}/*/float32/*" for name in ("same_*", "pads_*", "cube*", "empty_stride", "as_*", "axes_*", "to_*", "[gowrs]*")
    ]
    for case in cases(function=function, name=names):
        for arguments in (case.arguments, case.plain):
            result = getattr(oracle, function)(**case.arrays, **arguments)
            if case.mode == "lp":
                assert case.difference(result) is None, case.name
                continue
            for got, want in zip(result if isinstance(result, tuple) else (result,), case.expected, strict=True):
                assert agree(got, want), case.name


def test_arrays_are_new_and_contiguous():
    case = one("pool_backward/pad_both/max/float32/real/WCHN/indices", "pool_backward")
    first, second = case.arrays, case.arrays
    assert list(first) == ["grad_output", "x", "indices"]
    assert not any(view.flags.writeable for name, view in case.views.items() if name != "indices"), "they are shared"
    for name, array in first.items():
        assert array.flags.c_contiguous and array.flags.writeable and not np.shares_memory(array, second[name])
        array[...] = 0
    assert case.arrays["x"].any() and case.expected[0].flags.writeable
    case.expected[0][...] = 0
    assert case.expected[0].any()


def test_plain_arguments_have_one_form():
    for case in everything()[::17]:
        for name in {"kernel", "stride", "dilation", "output_size"} & set(case.plain):
            value = case.plain[name]
            assert (name == "output_size" and value is None) or (
                len(value) == case.rank and all(type(n) is int for n in value)
            ), (case.name, name)
        if "padding" in case.plain:
            assert len(case.plain["padding"]) == case.rank
            assert all(type(side) is int for sides in case.plain["padding"] for side in sides)


def test_a_case_can_be_pickled():
    case = one("pool/cube/max/int8/real/HCWND")
    assert pickle.loads(pickle.dumps(case)) == case


# ---- how a function is asked ---------------------------------------------------------------------------------


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_oracle_passes(function):
    report = check(getattr(oracle, function), function=function, dtype=("float32", "int8"), layout="channels_first", rank=(1, 3))
    assert report and not report.failed and len(report.asked) > 3
    assert set(report.skipped) <= {import_module("pooling.testing.check").HUGE}


def test_it_gets_what_its_signature_names():
    seen = set()

    def pooled(x, mode, kernel, layout, p=None, **rest):
        seen.update(rest)
        return oracle.pool(x, mode, kernel, layout=layout, **({"p": p} if mode == "lp" else {}), **rest)

    assert check(pooled, name="*/pad_*float32*")
    assert {"stride", "padding", "dilation", "ceil_mode", "return_indices"} <= seen

    def small(x, kernel, stride):
        seen.add((kernel, stride))
        return oracle.pool(x, "max", kernel, stride)

    seen.clear()
    report = check(small, mode="max", layout="channels_last")
    assert all(type(value) is tuple for pair in seen for value in pair)
    assert not any({"padding", "dilation", "ceil_mode", "indices"} & case.features for case in report.asked)
    assert {"small takes no padding", "small takes no return_indices", "small takes no dilation"} <= set(report.skipped)


def test_arguments_that_are_insisted_on_are_at_their_defaults():
    def pooled(x, kernel, stride, padding, dilation, ceil_mode, count_include_pad, divisor_override, p, return_indices, dtype):
        assert (count_include_pad, divisor_override, p, dtype) == (True, None, 2.0, None)
        return oracle.pool(
            x, "max", kernel, stride, padding, dilation=dilation, ceil_mode=ceil_mode, return_indices=return_indices
        )

    assert check(pooled, mode="max", layout="channels_last", rank=2, name="*/pad*/*/float32/*")


def test_spelled_arguments():
    seen = []

    def pooled(x, kernel, stride, padding):
        seen.append((kernel, stride, padding))
        return oracle.pool(x, "max", kernel, stride, padding)

    check(pooled, mode="max", layout="channels_last", spelled=True)
    assert {type(kernel) for kernel, _, _ in seen} == {int, tuple}
    assert any(stride is None for _, stride, _ in seen) and any(padding == "same" for _, _, padding in seen)


@pytest.mark.parametrize(
    "fn, filters, words",
    [
        (lambda x, kernel: x, {"layout": "channels_last"}, "takes no mode: say which one it has, as mode='avg'"),
        (lambda x, kernel, mode: x, {"mode": "max"}, "takes no layout: say which one it has, as layout='CLN'"),
        (lambda array, kernel: array, {"mode": "max"}, "takes no argument 'x'"),
        (lambda x, kernel_size: x, {"mode": "max"}, "requires 'kernel_size'; a case has mode, kernel, stride"),
        (eval("lambda x, groups, /, kernel: x"), {"mode": "max"}, "takes no argument 'x'"),
        (max, {"mode": "max"}, "max: its parameters cannot be read"),
        (3, {}, "a function is checked, not 3"),
    ],
)
def test_a_function_that_cannot_be_asked(fn, filters, words):
    with pytest.raises(TypeError, match=re.escape(words)):
        check(fn, **filters)


def test_a_name_that_no_case_has():
    with pytest.raises(ValueError, match="no case has name='pool/no_such_case/"):
        check(oracle.pool, name="pool/no_such_case/*")


def test_nothing_asked_is_no_success():
    text = wrong(lambda x, kernel, groups=1: x, function="pool_backward", mode="max", layout="channels_last")
    assert "nothing was asked" in text and "takes no grad_output" in text

    def declines(**arguments):
        raise NotImplementedError("not today")

    text = wrong(declines, mode="max", layout="channels_last", rank=1)
    assert re.search(r"not asked: \d+ cases: not today", text)
    with pytest.raises(SkipTest, match="not today"):
        one("pool/cube/max/float32/real/HCWND").check(declines)


def test_huge_arguments_are_asked_by_name_only():
    def pooled(**arguments):
        assert max(arguments["kernel"]) < 2**30, "huge"
        return oracle.pool(**arguments)

    assert check(pooled, mode="max", layout="channels_last").skipped
    assert "AssertionError: huge" in wrong(pooled, mode="max", layout="channels_last", feature="huge")
    assert "AssertionError: huge" in wrong(pooled, mode="max", layout="channels_last", feature=None)


class Tensor:
    """An array of another library."""

    def __init__(self, array):
        self._array = array

    def __array__(self, dtype=None, copy=None):
        return self._array


def test_a_result_may_be_anything_that_asarray_takes():
    def pooled(x, kernel, stride, padding, return_indices):
        result = oracle.pool(x, "max", kernel, stride, padding, return_indices=return_indices)
        return [Tensor(part) for part in result] if return_indices else Tensor(result)

    assert check(pooled, mode="max", layout="channels_last", rank=1)


# ---- wrong answers that are no values ------------------------------------------------------------------------

SMALL = {"mode": "max", "layout": "channels_last", "rank": 1}


def raises(x, kernel):
    raise ZeroDivisionError("no such luck")


def returns_another_type(x, kernel):
    return oracle.pool(x, "max", kernel).astype(np.float64)


def returns_too_much(x, kernel):
    return oracle.pool(x, "max", kernel), 1


def returns_no_array(x, kernel):
    return [[1, 2], [3]]


def modifies(x, kernel):
    result = oracle.pool(x, "max", kernel)
    x[...] = 0
    return result


@pytest.mark.parametrize(
    "fn, words",
    [
        (raises, r"raised    ZeroDivisionError: no such luck \(test_golden.py, line \d+\)"),
        (returns_another_type, r"an array of another type\n  expected  float32 (\(2, 6, 3\))\n  got       float64 \1"),
        (returns_too_much, r"2 arrays came back, not 1"),
        (returns_no_array, r"raised    ValueError: .*, as numpy.asarray read the result"),
        (modifies, r"x was modified"),
    ],
)
def test_other_faults_are_named(fn, words):
    text = wrong(fn, **SMALL)
    assert re.search(words, text), text
    assert f"call      {fn.__name__}(x=float32 (2, 6, 3), kernel=(1,))" in text


# ---- mistakes in values --------------------------------------------------------------------------------------


def numpy_pool(x, kernel, stride, padding, fill, reduce):
    """Channels last, by NumPy."""
    m = len(kernel)
    x = np.pad(x, [(0, 0), *padding, (0, 0)], constant_values=fill)
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel, axis=tuple(range(1, m + 1)))
    picked = windows[(slice(None), *(slice(None, None, s) for s in stride))]
    return reduce(picked, axis=tuple(range(-m, 0)))


def padding_is_0(x, kernel, stride, padding):
    return numpy_pool(x, kernel, stride, padding, 0, np.max)


def nan_ignored(x, kernel, stride, padding):
    return numpy_pool(x, kernel, stride, padding, -np.inf, np.fmax.reduce)


def with_change(change):
    """The oracle's pool, its arguments changed."""

    def pooled(x, mode, kernel, stride, padding, dilation, ceil_mode, layout, **rest):
        given = {"x": x, "kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation, "ceil_mode": ceil_mode}
        return oracle.pool(**{"mode": mode, "layout": layout, **given, **rest, **change(**given, **rest)})

    return pooled


def after(change):
    """The oracle's pool, its result changed."""

    def pooled(**arguments):
        return change(oracle.pool(**arguments), **arguments)

    return pooled


def divisor_counts_overhang(x, kernel, stride, padding, dilation, ceil_mode, layout):
    total = oracle.pool(x, "sum", kernel, stride, padding, dilation=dilation, ceil_mode=ceil_mode, layout=layout)
    return total / np.float32(np.prod(kernel))


def reciprocal(x, kernel, stride, padding, dilation, ceil_mode, layout):
    given = {
        "kernel": kernel,
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "ceil_mode": ceil_mode,
        "layout": layout,
    }
    return oracle.pool(x, "sum", **given) * (1 / (oracle.pool(x * 0 + 1, "sum", **given)))


def one_window_more(x, kernel, stride, padding, ceil_mode, layout):
    """Without the rule that no window starts in the padding after the data."""
    pads, n = [], x.shape[1:-1]
    for size, k, s, (before, end) in zip(n, kernel, stride, padding, strict=True):
        windows = -((size + before + end - k) // -s) + 1 if ceil_mode else (size + before + end - k) // s + 1
        pads.append((before, max(end, (windows - 1) * s + k - size - before)))
    return numpy_pool(x, kernel, stride, pads, -np.inf, np.max)


def indices(change):
    """The right values, and other indices."""
    return after(lambda result, **given: (result[0], np.where(result[1] >= 0, change(result[1], **given), result[1])))


AVG = {"mode": "avg", "layout": "channels_last"}
MISTAKES = {
    # name of the mistake: function, filters, the case that is drawn first, the phrase
    "padding is 0": (padding_is_0, {"mode": "max", "layout": "channels_last"}, "one_cell_padded", "padding that counts as 0"),
    "NaN": (nan_ignored, {"mode": "max", "layout": "channels_last"}, "kernel_4", "ignoring NaN"),
    "overhang counted": (
        divisor_counts_overhang, AVG, "ceil_adds_window", "dividing by the whole kernel, overhang too (9, not 6)",
    ),
    "reciprocal": (reciprocal, {**AVG, "name": "*/stride_equals_kernel/*/float32/real/*"}, "stride_equals_kernel",
                   "multiplying by 1 / divisor"),
    "padding not counted": (
        after(lambda y, **given: oracle.pool(**{**given, "count_include_pad": False})),
        {**AVG, "name": "*/pad_both/*/float32/*"}, "pad_both", "dividing by the cells in the data alone (4, not 9)",
    ),
    "override": (
        with_change(lambda **given: {"divisor_override": None}), {**AVG, "feature": "divisor_override", "rank": 2},
        "divisor_override", "dividing by the cells in the data and in the padding (9, not 5)",
    ),
    "float64": (
        after(lambda y, **given: oracle.pool(**{**given, "x": given["x"].astype("f8")}).astype("f4")), {**AVG, "rank": 1},
        "kernel_4", "adding in float64",
    ),
    "float16": (
        lambda x, kernel, stride: np.add.accumulate(
            np.lib.stride_tricks.sliding_window_view(x, kernel[0], 1)[:, :: stride[0]], axis=-1, dtype=np.float16
        )[..., -1],
        {"mode": "sum", "layout": "channels_last", "dtype": "float16", "rank": 1}, "kernel_4", "adding in float16",
    ),
    "dilation": (with_change(lambda **given: {"dilation": 1, "padding": [
        (before, end - (d - 1) * (k - 1)) for (before, end), d, k in
        zip(given["padding"], given["dilation"], given["kernel"], strict=True)]}),
        {"mode": "min", "layout": "channels_last", "name": "pool/dilated/*/float32/*"}, "dilated", "a dilation of 1"),
    "sides": (
        with_change(lambda **given: {"padding": [sides[::-1] for sides in given["padding"]]}),
        {"mode": "sum", "layout": "channels_first", "rank": 1}, "pad_not_counted_one_side", "the padding's sides swapped",
    ),
    "shift": (
        with_change(lambda **given: {"padding": [(before - 1, end + 1) for before, end in given["padding"]]}),
        {"mode": "sum", "layout": "channels_first", "name": "*/pad_before_only/*/float32/*"}, "pad_before_only",
        "windows one cell too far along L",
    ),
    "mode": (with_change(lambda **given: {"mode": "min"}), {"mode": "max", "rank": 2, "layout": "channels_last"},
             None, "mode 'min'"),
    "ceil": (one_window_more, {"mode": "max", "layout": "channels_last"}, "ceil_drops_last_window",
             "one window more, which starts in the padding after the data"),
    "plane off": (
        indices(lambda i, x, **given: i + x.shape[2] * x.shape[3]), {"mode": "max", "layout": "channels_first", "rank": 2,
        "feature": "indices"}, None, "indices one plane too far",
    ),
    "index of the window": (
        indices(lambda i, kernel, **given: i * 0), {"mode": "max", "layout": "channels_first", "name":
        "*/kernel_equals_axis/*/float32/*/indices"}, "kernel_equals_axis", None,
    ),
    "TensorFlow's index": (
        indices(lambda i, x, **given: i * x.shape[-1] + np.arange(x.shape[-1])),
        {"mode": "min", "layout": "channels_last", "name": "*/pad_both/*/float32/real/*/indices"}, "pad_both",
        "indices that count C too, in the order H, W, C",
    ),
    "abs": (
        lambda x, kernel, stride, p: np.cbrt(oracle.pool(x.astype("f8") ** 3, "sum", kernel, stride)).astype("f4"),
        {"mode": "lp", "layout": "channels_last", "name": "pool/stride_within_kernel/lp-3/float32/real/*"},
        "stride_within_kernel", "powers without abs",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named(mistake):
    fn, filters, case, phrase = MISTAKES[mistake]
    with np.errstate(all="ignore"):
        text = wrong(fn, limit=1, **filters)
    found = re.findall(r"got is what (.*) would give", text)
    assert found == ([] if phrase is None else [phrase]), text
    if case is not None:
        assert re.search(rf"^pool/{case}/", text, re.MULTILINE), text


@pytest.mark.parametrize(
    "name, changes, phrase",
    [
        ("pad_both", {"count_include_pad": False}, "dividing by the cells in the data alone"),
        ("divisor_override", {"divisor_override": None}, "dividing by the cells in the data and in the padding"),
        ("pad_both", {"mode": "sum", "count_include_pad": True}, "mode 'sum'"),
    ],
)
def test_a_mistake_in_a_gradient_is_named(name, changes, phrase):
    def backward(**given):
        return oracle.pool_backward(**{**given, **changes})

    text = wrong(backward, name=f"pool_backward/{name}/avg/float32/real/channels_first", function="pool_backward")
    assert f"got is what {phrase} would give" in text, text
    assert (" / 5" if name == "divisor_override" else " / 9") in text


@pytest.mark.parametrize(
    "name, change, phrase",
    [
        ("max/float32/special/channels_first", lambda call: mistakes._scattered(call, True), "splitting among equal cells"),
        ("max/float32/special/channels_first", lambda call: mistakes._scattered(call, False), "giving to all equal cells alike"),
        (
            "min/float32/real/channels_last",
            lambda call: mistakes._assigned(call),
            "the gradient of the last window alone, not the sum",
        ),
        (
            "max/float32/special/channels_last",
            lambda call: call.again(indices=mistakes._chosen(call, True, True)),
            "giving to the last of equal cells",
        ),
    ],
)
def test_whom_a_gradient_of_a_maximum_goes_to(name, change, phrase):
    """The mistakes are told from each other, and from what is right."""
    case = one(f"pool_backward/pad_both/{name}", "pool_backward")
    with np.errstate(all="ignore"):
        result = relayout(change(mistakes.Call(case, "gradient")), case.layout)
    assert f"got is what {phrase} would give" in case.difference(result)


def test_splitting_by_hand():
    """As MLX does: both cells of a tie get half."""
    x = np.array([1, 1, 0, 5, 5, 5], np.float32).reshape(1, 6, 1)
    call = mistakes.Call(one("pool_backward/pad_before_only/max/float32/real/channels_last", "pool_backward"), "gradient")
    call.x, call.windows, call.axes = x, oracle._plan(x, 3, 3, 0)[0].windows, ()
    call.arguments = {"mode": "max", "kernel": 3, "stride": 3}
    call.arrays = {"x": x, "grad_output": np.array([6, 9], np.float32).reshape(1, 2, 1)}
    assert mistakes._scattered(call, True).ravel().tolist() == [3, 3, 0, 3, 3, 3]
    assert mistakes._scattered(call, False).ravel().tolist() == [6, 6, 0, 9, 9, 9]
    assert mistakes._assigned(call).ravel().tolist() == [6, 0, 0, 9, 0, 0]
    assert mistakes._chosen(call, True, True).ravel().tolist() == [1, 5]


def test_no_phrase_where_no_mistake_is_known():
    case = one("pool/pad_both/max/float32/real/channels_last")
    result = case.expected[0]
    result[0, 3, 4, 1] += 1
    assert "would give" not in case.difference(result)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_mistakes_can_be_looked_for_in_every_case(function):
    """The table computes on all problems; where a mistake makes no sense it says so by an error that is caught."""
    found = cases(function=function, name=["*/special/CLN*", "*/[chp]*/int8/special/*last*"], dtype=("float32", "int8"))[::3]
    for case in found:
        result = tuple(part + 1 for part in case.expected)
        with np.errstate(all="ignore"):
            text = case.difference(result if len(result) > 1 else result[0])
        assert text is not None or not any(part.size for part in result) or case.dtype == "float32"
    assert len(found) > 3


# ---- drawings ------------------------------------------------------------------------------------------------


def test_a_window_of_two_axes():
    case = one("pool/ceil_overhang_divisor/avg/int8/real/channels_first")
    result = case.expected[0]
    result[1, 2, 3, 4] = 0
    assert drawn(case, result) == textwrap.dedent("""\
          differ    1 of 120 values; the first one at (1, 2, 3, 4): N 1, C 2, H 3, W 4
          window         W 7  W 8  W 9
                    H 5   67  pad  out
                    H 6  pad  pad  out
                    H 7  out  out  out
          mode      avg, divided by 4: the cells in the data and in the padding
          expected  16.75
          got       0.0 (1,099,300,864 ulps away)""").split("\n")


def test_a_window_of_one_axis():
    case = one("pool/pad_before_only/max/float32/real/channels_first")
    result = case.expected[0]
    result[0, 1, 0] = np.nextafter(result[0, 1, 0], np.float32(9))
    assert drawn(case, result) == textwrap.dedent("""\
          differ    1 of 30 values; the first one at (0, 1, 0): N 0, C 1, L 0
          window    L -2  L -1            L 0
                     pad   pad  [-0.46736684]
          mode      max
          expected  [-0.46736684]
          got       -0.4673668 (1 ulp away)""").split("\n")


def test_a_window_of_three_axes():
    case = one("pool/cube_dilated/min/int8/real/channels_last/indices")
    values, found = case.expected
    found[0, 0, 1, 0, 1] = 1
    assert drawn(case, (values, found)) == textwrap.dedent("""\
          differ    1 of 72 indices; the first one at (0, 0, 1, 0, 1): N 0, D 0, H 1, W 0, C 1
          window    D -1: pad
                    D 1:
                         W -1    W 3
                    H 1   pad   116
                    H 4   pad  [-66]
          mode      min
          expected  91, the cell at D 1, H 4, W 3: [-66]
          got       1, the cell at D 0, H 0, W 1: <-3>""").split("\n")


def test_a_long_window():
    case = one("pool/kernel_101_over_short_axis/max/int8/real/channels_last")
    result = case.expected[0]
    result[0, 3, 0] = 3
    assert drawn(case, result) == textwrap.dedent("""\
          differ    1 of 60 values; the first one at (0, 3, 0): N 0, L 3, C 0
          window    L -47  ...  L -1    L 0   L 1    L 2  ...    L 4  ...  L 27  L 28  L 29  L 30  ...  L 53
                      pad  ...   pad   -63    30    -43   ...  [109]  ...   63    -4    63    pad  ...   pad
          mode      max
          expected  [109]
          got       3""").split("\n")


def test_a_huge_window():
    case = one("pool/huge_kernel_huge_padding/sum/int8/real/channels_last")
    result = case.expected[0] + 1
    assert drawn(case, result) == textwrap.dedent("""\
          differ    14 of 14 values; the first one at (0, 0, 0): N 0, L 0, C 0
          window    L -1073741824  ...  L -1  L 0  L 1  L 2  L 3  L 4  L 5  ...  L 1073741822
                              pad  ...   pad  -63   30  -43   17  109  pad  ...           pad
          mode      sum
          expected  50
          got       51""").split("\n")


def test_a_window_without_a_cell():
    case = one("pool/dilated_window_with_no_real_cell/max/float32/real/channels_last/indices")
    values, found = case.expected
    assert (found == -1).any()
    assert drawn(case, (values, np.maximum(found, 0))) == textwrap.dedent("""\
          differ    12 of 24 indices; the first one at (0, 1, 0): N 0, L 1, C 0
          window    L -2  L 2
                     pad  pad
          mode      max
          expected  -1, which is no cell
          got       0, the cell at L 0: <-1.0825428>
          got is what 0 for a window without a cell would give""").split("\n")


def test_an_adaptive_window():
    case = one("adaptive_pool/does_not_divide/avg/int8/real/channels_last", "adaptive_pool")
    result = case.expected[0]
    result[0, 1, 2, 0] += 1
    assert drawn(case, result) == textwrap.dedent("""\
          differ    1 of 72 values; the first one at (0, 1, 2, 0): N 0, H 1, W 2, C 0
          window          W 5   W 6  W 7  W 8
                    H 2    25    54  117   96
                    H 3  -124     4   66    9
                    H 4    17  -114   85   74
          mode      avg, divided by 12: the window's cells
          expected  25.75
          got       26.75 (524,288 ulps away)""").split("\n")


def test_a_gradient():
    case = one("pool_backward/pad_both_strided/max/float32/real/channels_last", "pool_backward")
    result = case.expected[0]
    at = tuple(np.argwhere(result)[5])
    result[at] *= 2
    assert drawn(case, result) == textwrap.dedent("""\
          differ    1 of 528 gradients; the first one at (0, 0, 9, 1): N 0, H 0, W 9, C 1
          x         1.1769533 at this cell
          windows   grad_output of the windows over the cell; [those] that chose it:
                                    W 4          W 5
                    H 0   -0.033416245   [2.0121768]
          expected  2.0121768
          got       4.0243535 (8,388,608 ulps away)""").split("\n")


def test_what_goes_back():
    case = one("max_unpool/repeated/max/int8/special/channels_last", "max_unpool")
    result = case.expected[0]
    result[0, 0, 1, 0] += 1
    assert drawn(case, result) == textwrap.dedent("""\
          differ    1 of 288 values; the first one at (0, 0, 1, 0): N 0, H 0, W 1, C 0
          cells     of x with the index 1:
                    H 0, W 1: -3
                    H 0, W 3: -53
                    H 1, W 0: 22
                    H 1, W 3: -128
                    H 2, W 0: 0
                    H 2, W 2: 0
                    H 2, W 3: 41
                    of which the last one stays
          expected  41
          got       42""").split("\n")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_ulps(dtype):
    one_, three = data((0,), dtype, 1).dtype.type(1), data((0,), dtype, 1).dtype.type(3)
    bits = {"float16": 10, "bfloat16": 7, "float32": 23, "float64": 52}[dtype]
    assert draw.ulps(one_, three) == 3 << bits - 1
    assert draw.ulps(-one_, one_) == 2 * draw.ulps(one_, one_ * 0)
    assert draw.ulps(one_, one_) == 0
    assert draw.ulps(one_, one_ * np.array(np.nan).astype(dtype)) is None
    assert draw.ulps(np.int8(1), np.int8(2)) is None


def test_a_norm_is_held_to_its_bound():
    case = one("pool/stride_within_kernel/lp-2/float32/real/channels_last")
    near = np.nextafter(case.expected[0], np.float32(9))
    assert case.difference(near) is None
    assert re.search(r"\([\d,]+ ulps away; they may be \S+ apart and are \S+\)", case.difference(near * np.float32(1.001)))


# ---- the report ----------------------------------------------------------------------------------------------


def test_the_table_counts_features():
    def no_dilation(x, kernel, stride, padding, dilation, ceil_mode):
        result = oracle.pool(x, "sum", kernel, stride, padding, dilation=dilation, ceil_mode=ceil_mode)
        return result + 1 if max(dilation) > 1 else result

    with pytest.raises(Mismatch) as raised:
        check(no_dilation, mode="sum", layout="channels_last", limit=2)
    text = str(raised.value)
    rows = dict(re.findall(r"^  (\w+) +[\d,]+ +([\d,]+)", text, re.MULTILINE))
    assert rows["dilation"] == re.search(r"calls; (\d+) answers are wrong", text)[1] != "0"
    assert 0 < int(rows["padding"]) < int(rows["dilation"]) and rows["global"] == "0"
    assert "every wrong answer has: dilation\n" in text
    assert text.count("\n  again ") == 2 and text.count("\n  window ") == 2


def test_a_report_can_be_read():
    report = check(oracle.pool, mode="avg", layout="channels_last", rank=1)
    assert bool(report) and report.skipped.total() and str(report).startswith("pool: ")
    assert "every answer is right" in str(report) and "again" not in str(report)


def test_a_right_answer_from_pytest():
    for case in cases(mode="max", rank=3, dtype="float32"):
        case.check(oracle.pool)
    with pytest.raises(Mismatch, match="padding that counts as 0"):
        one("pool/pad_both/max/float32/real/channels_last").check(padding_is_0)


# ---- the command ---------------------------------------------------------------------------------------------

MINE = """
import os
import numpy as np
from pooling.testing import oracle

def right(x, mode, kernel, stride, padding, dilation, ceil_mode, layout):
    return oracle.pool(x, mode, kernel, stride, padding, dilation=dilation, ceil_mode=ceil_mode, layout=layout)

def off(x, mode, kernel, stride, padding, layout):
    return oracle.pool(x, mode, kernel, stride, padding, layout=layout) + 1

def dies(x, kernel, stride, padding):
    if kernel == (7,):
        os.abort()
    return oracle.pool(x, "max", kernel, stride, padding)

def one_mode(x, kernel):
    return x

class Kernels:
    right = staticmethod(right)
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Runs the command in a folder with a module of somebody's; gives the exit code and the texts."""
    (tmp_path / "golden_mine.py").write_text(MINE)

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "pooling.testing", *arguments],
            cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT), "PATH": ""},
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    return run


def test_a_right_function(mine):
    code, text, _ = mine("--function", "golden_mine:right", "--mode", "max", "--mode", "avg", "--rank", "1", "--quick")
    assert code == 0 and "every answer is right" in text
    assert mine("--function", "golden_mine:Kernels.right", "--name", "pool/cube/sum/int8/real/HCWND")[0] == 0


def test_a_wrong_function_and_its_reproducer(mine):
    code, text, _ = mine("--function", "golden_mine:off", "--mode", "min", "--rank", "1", "--limit", "1", "--dtype", "int16")
    assert code == 1 and text.count("  window ") == 1 and "int16" in text
    again = re.search(r"again +python -m pooling.testing (.*)", text)[1].split()
    code, text, _ = mine(*again)
    assert code == 1 and "off: 1 calls; 1 answers are wrong" in text


def test_a_function_that_ends_the_process(mine):
    """It costs the cases that did it, which are reported, and the rest is asked."""
    code, text, _ = mine("--function", "golden_mine:dies", "--mode", "max", "--layout", "channels_last", "--rank", "1")
    assert code == 1
    assert "pool/kernel_equals_axis/max/float32/real/channels_last" in text and "the process ended with exit code -6" in text
    asked, failed = map(int, re.search(r"dies: (\d+) calls; (\d+) answers are wrong", text).groups())
    assert asked > 30 and failed == 4  # two problems, real and special


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--function", "golden_mine"], "a function is named as package.module:function"),
        (["--function", "golden_mine:absent"], "AttributeError: module 'golden_mine' has no attribute 'absent'"),
        (["--function", "no_such_module:f"], "ModuleNotFoundError"),
        (["--function", "golden_mine:one_mode"], "takes no mode: say which one it has"),
        (["--function", "golden_mine:right", "--mode", "mean"], "mode='mean': it is one of max"),
        (["--function", "golden_mine:right", "--name", "pool/absent/*"], "no case has name="),
        (["--function", "golden_mine:right", "--backend", "cpu"], "not allowed with argument"),
        (["--mode", "max"], "one of the arguments --backend --function is required"),
    ],
)
def test_what_cannot_run(mine, arguments, words):
    code, _, errors = mine(*arguments)
    assert code == 2 and words in errors


# ---- the page ------------------------------------------------------------------------------------------------

PAGE = ROOT / "docs" / "testing.md"


def test_the_page_shows_a_true_report(tmp_path, monkeypatch):
    """Its kernel, asked in its three lines, gives the report that it shows; repaired as it says, none."""
    text = PAGE.read_text(encoding="utf-8")
    kernel, three = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[:2]
    (tmp_path / "mine.py").write_text(kernel)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        with pytest.raises(Mismatch) as raised:
            exec(three, {})
        shown = re.search(r"<!-- report: begin -->\n```text\n(.*?)\n```\n<!-- report: end -->", text, re.DOTALL)[1]
        assert str(raised.value) == shown
        repaired = kernel.replace("*padding])", "*padding], constant_values=-np.inf)")
        (tmp_path / "mine.py").write_text(repaired)
        del sys.modules["mine"]
        exec(repaired, own := {})
        assert check(own["max_pool"], mode="max", layout="channels_first")
    finally:
        sys.modules.pop("mine", None)


def test_the_examples_of_the_page():
    assert doctest.testfile(str(PAGE), module_relative=False).failed == 0


def test_the_page_names_every_feature_function_and_option():
    text = PAGE.read_text(encoding="utf-8")
    options = {"--function", "--mode", "--layout", "--quick", "--call", "--dtype", "--spelled"}
    assert all(f'"{function}"' in text for function in FUNCTIONS) and all(option in text for option in options)
