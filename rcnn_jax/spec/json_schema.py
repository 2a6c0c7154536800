"""JSON Schema of a spec, with hints for searches.

Types, ranges, defaults and sentences come from the tables. The keys `automl_enabled`, `valid_min`,
`valid_max` and `valid_options` are those that NVIDIA's AutoML runner reads of an external schema; other
tools read `minimum`, `maximum` and `enum`.
"""

from typing import Any

from rcnn_jax.kinds import SpecKind
from rcnn_jax.spec.kinds import TABLES
from rcnn_jax.spec.schema import Choice, Field, Interval, Message
from rcnn_jax.spec.text.literals import write_literal

_TYPES = {"bool": "boolean", "uint32": "integer", "whole": "integer", "double": "number"}
_SEARCHED = ("uint32", "whole", "double", "bool", "enum")
_DRAFT = "https://json-schema.org/draft/2020-12/schema"


def json_schema(kind: SpecKind) -> dict[str, Any]:
    """Returns the schema of a kind of spec.

    Args:
      kind: which table.
    """
    table = TABLES[kind]
    return {
        "$schema": _DRAFT,
        "title": f"{kind} spec",
        "description": table.doc,
        **_message(table),
        "automl_default_parameters": _searched(table),
    }


def _message(table: Message) -> dict[str, Any]:
    properties = {field.name: _field(field) for field in table.fields if not field.secret}
    required = [field.name for field in table.fields if field.required and not field.secret]
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    schema["additionalProperties"] = False
    return schema | ({"required": required} if required else {})


def _field(field: Field) -> dict[str, Any]:
    one = _one(field)
    schema = {"type": "array", "items": one} if field.repeated else one
    schema = {"description": field.doc, **schema}
    if field.kind != "message" and field.default is not None:
        schema["default"] = _default(field)
    if is_searched(field):
        schema |= {"automl_enabled": "TRUE", **_search_range(field)}
    if field.no_effect:
        schema["description"] = f"{field.doc} (no effect: {field.no_effect})"
    return schema


def is_searched(field: Field) -> bool:
    """Returns whether a search may change a field: a number, switch or choice with an effect."""
    # Paths and names are no values to search; a field without effect would waste trials.
    return field.kind in _SEARCHED and not (
        field.repeated or field.secret or field.no_effect or field.only_checked
    )


def _one(field: Field) -> dict[str, Any]:
    """Returns the schema of one value."""
    match field.kind:
        case "message":
            return _message(field.table)
        case "map":
            return {
                "type": "object",
                "additionalProperties": {"type": _TYPES.get(field.entry, "string")},
            }
        case "enum":
            return {"type": "string", "enum": list(field.values)}
        case "literal" | "string":
            schema: dict[str, Any] = {"type": "string"}
        case _:
            schema = {"type": _TYPES[field.kind]}
    if isinstance(field.allowed, Choice):
        schema["enum"] = list(field.allowed.values)
    if isinstance(field.allowed, Interval):
        schema |= _bounds(field.allowed)
    return schema


def _bounds(interval: Interval) -> dict[str, float]:
    """Returns the bounds of an interval; infinity is no number of JSON and is left out."""
    bounds = {}
    if interval.low != -float("inf"):
        bounds["exclusiveMinimum" if interval.open_low else "minimum"] = interval.low
    if interval.high != float("inf"):
        bounds["exclusiveMaximum" if interval.open_high else "maximum"] = interval.high
    return bounds


def _search_range(field: Field) -> dict[str, Any]:
    if field.kind == "enum":
        return {"valid_options": list(field.values)}
    if field.kind == "bool":
        return {"valid_options": [True, False]}
    if isinstance(field.allowed, Choice):
        return {"valid_options": list(field.allowed.values)}
    hints: dict[str, Any] = {}
    if isinstance(field.allowed, Interval):
        if field.allowed.low != -float("inf"):
            hints["valid_min"] = field.allowed.low
        if field.allowed.high != float("inf"):
            hints["valid_max"] = field.allowed.high
    return hints


def _default(field: Field) -> Any:
    if field.shape is not None:
        return write_literal(field.default, field.shape)
    if field.kind == "map":
        return dict(field.default)
    return list(field.default) if field.repeated else field.default


def _searched(table: Message, prefix: str = "") -> list[str]:
    """Returns the dotted paths of the fields that a search may change."""
    paths = []
    for field in table.fields:
        if field.kind == "message" and not field.repeated:
            paths += _searched(field.table, f"{prefix}{field.name}.")
        elif is_searched(field):
            paths.append(f"{prefix}{field.name}")
    return paths
