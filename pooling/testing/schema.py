"""What a manifest of the golden corpus is: a JSON Schema (draft 2020-12), and as much of a validator as it needs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pooling

from .cases import FLOATS
from .golden import FEATURES, FUNCTIONS, SIGNED, UNSIGNED

VERSION = 1  # goes up when a reader of the corpus must change
INT64 = 2**63 - 1
DTYPES = ["bool", *SIGNED, *UNSIGNED, *FLOATS]
STORED = ["|b1", "|i1", "<i2", "<i4", "<i8", "|u1", "<u2", "<u4", "<u8", "<f2", "<f4", "<f8"]
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

KINDS: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def fault(value: Any, schema: Mapping[str, Any] = SCHEMA, where: str = "the manifest") -> str | None:
    """The first thing in value that the schema does not allow, or None.

    >>> fault([1, "one"], {"type": "array", "items": {"type": "integer"}}, "row")
    "row[1] is 'one', which is no integer"
    """
    schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema  # type: ignore[index]
    kind, told = schema.get("type"), f"{where} is {repr(value)[:60]}"
    if kind is not None and (not isinstance(value, KINDS[kind]) or (isinstance(value, bool) and kind != "boolean")):
        return f"{told}, which is no {kind}"
    if "const" in schema and (value != schema["const"] or isinstance(value, bool)):
        return f"{told}, not {schema['const']!r}"
    if "enum" in schema and not (isinstance(value, str) and value in schema["enum"]):
        return f"{told}, not one of {', '.join(schema['enum'])}"
    if "anyOf" in schema and all(fault(value, one, where) for one in schema["anyOf"]):
        return f"{told}, which is none of what it may be"
    if isinstance(value, str):
        if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
            return f"{told}, of {len(value)} characters"
        if "pattern" in schema and not re.search(schema["pattern"].replace("$", r"\Z"), value):
            return f"{told}, which is not of the form {schema['pattern']}"
    if isinstance(value, int | float):
        if not schema.get("minimum", value) <= value <= schema.get("maximum", value) or value <= schema.get(
            "exclusiveMinimum", value - 1
        ):
            return f"{told}, which is out of range"
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            return f"{where} has {len(value)} items"
        faults = (fault(item, schema["items"], f"{where}[{i}]") for i, item in enumerate(value))
        return next((text for text in faults if text), None)
    if isinstance(value, dict):
        properties, others = schema.get("properties", {}), schema.get("additionalProperties", {})
        missing = [name for name in schema.get("required", ()) if name not in value]
        if missing:
            return f"{where} has no {missing[0]!r}"
        for name, item in value.items():
            allowed = properties.get(name, others)
            text = f"{where} has an unknown {name!r}" if allowed is False else fault(item, allowed, f"{where}.{name}")
            if text:
                return text
    return None
