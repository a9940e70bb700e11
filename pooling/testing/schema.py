"""What a manifest of the golden corpus is: a JSON Schema (draft 2020-12), and as much of a validator as it needs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import pooling

from .cases import FLOATS
from .golden import FEATURES, FUNCTIONS, SIGNED, UNSIGNED

VERSION = 1  # goes up when a reader of the corpus must change
INT64 = 2**63 - 1
DTYPES = ["bool", *SIGNED, *UNSIGNED, *FLOATS]
STORED = ["|b1", "|i1", "<i2", "<i4", "<i8", "|u1", "<u2", "<u4", "<u8", "<f2", "<f4", "<f8"]
ARRAYS = ["x", "grad_output", "indices", "expected", "expected_indices"]
DIGEST = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
COUNT = {"type": "integer", "minimum": 0, "maximum": INT64}
TEXT = {"type": "string", "minLength": 1, "maxLength": 200}
FLAG = {"type": "boolean"}


def _each(item: Mapping[str, Any], most: int, least: int = 1) -> dict[str, Any]:
    return {"type": "array", "items": dict(item), "minItems": least, "maxItems": most}


def _record(description: str, optional: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    """An object with these properties and no others."""
    required = [name for name in properties if name not in optional]
    return {
        "description": description,
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _said(description: str, what: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": description, **what}


POSITIVE = {"type": "integer", "minimum": 1, "maximum": 2**31 - 1}
P = {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"const": "inf"}]}
GEOMETRY = _record(
    "The call's window in plain numbers, one per pooled axis in the order of the axes D, H, W or L; words such as same are "
    "resolved. Which of them there are depends on the function and the mode.",
    (
        *("kernel", "stride", "padding", "dilation", "ceil_mode", "output_size"),
        *("count_include_pad", "divisor_override", "p"),
    ),
    kernel=_each(POSITIVE, 3),
    stride=_each(POSITIVE, 3),
    padding=_said("before and after each axis", _each(_each(COUNT, 2, 2), 3)),
    dilation=_each(POSITIVE, 3),
    ceil_mode=FLAG,
    output_size=_each(COUNT, 3),
    count_include_pad=FLAG,
    divisor_override={"anyOf": [{"type": "integer"}, {"type": "null"}]},
    p=P,
)
ARRAY = _record(
    "An array of the case. Its cells stand in row-major order from byte offset on, little-endian.",
    name=_said(
        "the argument, or expected, or expected_indices",
        {"enum": ["x", "grad_output", "indices", "expected", "expected_indices"]},
    ),
    member=_said("in the zip archive", {"type": "string", "pattern": "^[a-z_]+[.]npy$"}),
    dtype=_said("the element type", {"enum": DTYPES}),
    stored=_said("as NumPy names it; bfloat16 is stored as uint16", {"enum": STORED}),
    shape=_each(COUNT, 5),
    offset=_said("of the first cell, in bytes from the start of the file", COUNT),
    bytes=COUNT,
)
FILE = _record(
    "A file of the corpus that holds no case.",
    file={"type": "string", "pattern": "^[A-Za-z0-9_.-]+$"},
    bytes=COUNT,
    sha256=DIGEST,
)
CASE = _record(
    "One call and what it must give.",
    name=_said("unique: the function, the geometry, the mode, the element type, the data, the layout", TEXT),
    file={"type": "string", "pattern": "^cases/[A-Za-z0-9_.-]+[.]npz$", "maxLength": 200},
    bytes=COUNT,
    sha256=DIGEST,
    probes=_said("the corner, in words", TEXT),
    function={"enum": list(FUNCTIONS)},
    mode={"enum": list(pooling.MODES)},
    rank=_said("how many axes are pooled", {"type": "integer", "minimum": 1, "maximum": 3}),
    axes=_said("a letter per axis of the arrays; D, H, W, L are pooled", {"type": "string", "pattern": "^[NCDHWL]{3,5}$"}),
    dtype=_said("of x", {"enum": DTYPES}),
    data=_said("the kind of cells in x", TEXT),
    features=_each({"enum": sorted(FEATURES)}, len(FEATURES), 0),
    exact_sums=_said("any order of adding gives the same bits; false: the order of the specification may be needed", FLAG),
    geometry=GEOMETRY,
    arguments=_said("as the Python function of this name takes them; an infinite p is the string inf", {"type": "object"}),
    arrays=_each({"$ref": "#/$defs/array"}, 4, 2),
)
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Manifest of the golden corpus of pooling",
    **_record(
        "Every case of the corpus.",
        format={"const": "pooling-corpus"},
        version=_said("of the format", {"const": VERSION}),
        edition=_said("of the cases", {"type": "integer", "minimum": 1}),
        features=_said("what each feature means", {"type": "object", "additionalProperties": TEXT}),
        files=_each({"$ref": "#/$defs/file"}, 16),
        cases=_each({"$ref": "#/$defs/case"}, 1_000_000),
    ),
    "$defs": {"file": FILE, "case": CASE, "array": ARRAY},
}

KINDS = {"object": dict, "array": list, "string": str, "integer": int, "number": int | float, "boolean": bool, "null": type(None)}
Wrong = Callable[[Any, Mapping[str, Any]], bool]


def _kind(value: Any, schema: Mapping[str, Any]) -> bool:
    kind = schema.get("type")
    return kind is not None and (not isinstance(value, KINDS[kind]) or (isinstance(value, bool) and kind != "boolean"))


def _size(value: Any, schema: Mapping[str, Any]) -> bool:
    least, most = ("minLength", "maxLength") if isinstance(value, str) else ("minItems", "maxItems")
    return isinstance(value, str | list) and not schema.get(least, 0) <= len(value) <= schema.get(most, len(value))


def _range(value: Any, schema: Mapping[str, Any]) -> bool:
    if not isinstance(value, int | float):
        return False
    inside = schema.get("minimum", value) <= value <= schema.get("maximum", value)
    return not inside or ("exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"])


def _form(value: Any, schema: Mapping[str, Any]) -> bool:
    return "pattern" in schema and not re.search(schema["pattern"].replace("$", r"\Z"), value)


RULES: tuple[tuple[Wrong, str], ...] = (
    (_kind, "which is no {type}"),
    (lambda value, schema: "const" in schema and (value != schema["const"] or isinstance(value, bool)), "not {const!r}"),
    (lambda value, schema: "enum" in schema and (not isinstance(value, str) or value not in schema["enum"]), "not one of {enum}"),
    (
        lambda value, schema: "anyOf" in schema and all(fault(value, one) for one in schema["anyOf"]),
        "which is nothing of {anyOf}",
    ),
    (_size, "which is too short or too long"),
    (_form, "which is not of the form {pattern}"),
    (_range, "which is out of range"),
)


def fault(value: Any, schema: Mapping[str, Any] = SCHEMA, where: str = "the manifest") -> str | None:
    """The first thing in value that the schema does not allow, or None.

    >>> fault([1, "one"], {"type": "array", "items": {"type": "integer"}}, "row")
    "row[1] is 'one', which is no integer"
    """
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
    for wrong, text in RULES:
        if wrong(value, schema):
            return f"{where} is {repr(value)[:60]}, {text.format(**schema)}"
    if isinstance(value, list):
        items = [(f"{where}[{i}]", item, schema.get("items", {})) for i, item in enumerate(value)]
    elif isinstance(value, dict):
        absent = [name for name in schema.get("required", ()) if name not in value]
        if absent:
            return f"{where} has no {absent[0]!r}"
        properties, others = schema.get("properties", {}), schema.get("additionalProperties", {})
        items = [(f"{where}.{name:.60}", item, properties.get(name, others)) for name, item in value.items()]
    else:
        return None
    found = (f"{place} is unknown" if allowed is False else fault(item, allowed, place) for place, item, allowed in items)
    return next(filter(None, found), None)
