"""The fields of headers and engine descriptions, checked where they are read.

A header travels in the metadata of a file that anybody may have written, and what is read from it
becomes shapes, divisors and indices. Every field is held against its type and its range here, so
that nothing behind this file meets a value that the exporter cannot have written.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from rcnn_jax.settings.data import GeometrySettings
from rcnn_jax.tasks.families import FAMILIES, family

LARGEST_SIDE = 1 << 15
"""Pixels of a canvas: far beyond any detector, and still a size that arithmetic survives."""
LARGEST_COUNT = 1 << 31
_CONTRACTS = ("tao", "nms", "plain")
_ORDERS = ("rgb", "bgr", "l")
_MODES = ("pad_crop", "stretch", "keep_aspect")
_PRECISIONS = ("fp32", "fp16", "int8")

Check = Callable[[Any], bool]


def parse_json(text: str | bytes) -> Any:
    """Returns the value of a JSON text.

    Raises:
      ValueError: it is none.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def header_values(fields: Any) -> dict[str, Any]:
    """Returns the arguments of a `Header` from its JSON values.

    Raises:
      ValueError: a field is missing, unknown, of another type or out of range.
    """
    _check(fields, _HEADER, optional=("nms_names", "depends", "portable", "version"))
    _check(fields["geometry"], _GEOMETRY, optional=tuple(_GEOMETRY.keys() - {"mode"}))
    values = {name: _tuple(value) for name, value in fields.items()}
    geometry = {name: _tuple(value) for name, value in fields["geometry"].items()}
    values["geometry"] = GeometrySettings(**geometry)
    _together(values)
    return values


def engine_values(fields: Any) -> dict[str, Any]:
    """Returns the arguments of an `EngineInfo` from its JSON values, the header still as JSON.

    Raises:
      ValueError: a field is missing, unknown, of another type or out of range.
    """
    _check(fields, _ENGINE, optional=("targets",))
    targets = tuple(fields.get("targets", ()))
    return {**fields, "batches": tuple(fields["batches"]), "targets": targets}


def _together(values: Mapping[str, Any]) -> None:
    """Checks that the fields agree with each other."""
    channels = len(values["channel_order"])
    if not len(values["mean"]) == len(values["std"]) == channels:
        raise ValueError("mean, std and channel_order are not of the same channels")
    ids = values["category_ids"]
    if (ids is not None) != family(values["kind"]).has_category_ids:
        raise ValueError("category_ids are for a Mask R-CNN, and for it alone")
    if ids is not None and len(ids) != len(values["class_names"]):
        raise ValueError("category_ids and class_names are not of the same number")
    geometry = values["geometry"]
    if not geometry.height or not geometry.width:
        raise ValueError("geometry has no height or width")


def _check(fields: Any, checks: Mapping[str, Check], optional: tuple[str, ...] = ()) -> None:
    if not isinstance(fields, dict):
        raise ValueError(f"found {_shown(fields)} where named fields are expected")
    missing = sorted(checks.keys() - fields.keys() - set(optional))
    if missing:
        raise ValueError(f"the field {missing[0]} is missing")
    for name, value in fields.items():
        if name not in checks:
            # Refused, unlike in a bundle: it may say how the input is made, and passed over it
            # would be made wrong.
            raise ValueError(f"the field {_shown(name)} is unknown")
        if not checks[name](value):
            raise ValueError(f"{name} is {_shown(value)}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _one_of(*values: str) -> Check:
    return lambda value: isinstance(value, str) and value in values


def _text(value: Any) -> bool:
    if not isinstance(value, str) or len(value) >= 1 << 16:
        return False
    # a lone surrogate, which JSON can spell, can be written to no file
    return not any("\ud800" <= letter <= "\udfff" for letter in value)


def _whole(low: int, high: int) -> Check:
    # bool is an int in Python and no number in JSON
    return lambda value: type(value) is int and low <= value <= high


def _number(value: Any) -> bool:
    # The bound before `float`: an integer of a thousand digits has none.
    return (
        type(value) in (int, float) and abs(value) < LARGEST_COUNT and math.isfinite(float(value))
    )


def _divisor(value: Any) -> bool:
    # 255 / 1e-30 is still a float32.
    return _number(value) and value > 1e-30


def _all(check: Check, low: int, high: int) -> Check:
    return lambda value: (
        isinstance(value, list) and low <= len(value) <= high and all(map(check, value))
    )


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _different(check: Check) -> Check:
    return lambda value: check(value) and len(set(value)) == len(value)


def _in_order(check: Check) -> Check:
    return lambda value: check(value) and value == sorted(value)


def _target(value: Any) -> bool:
    return _text(value) and re.fullmatch(r"sm\d{2,3}", value) is not None


def _named_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(_text(name) and _text(value[name]) for name in value)


def _described(value: Any) -> bool:
    return isinstance(value, dict)


_side = _whole(0, LARGEST_SIDE)
_count = _whole(1, LARGEST_COUNT)
_HEADER: dict[str, Check] = {
    "kind": _one_of(*FAMILIES),
    "contract": _one_of(*_CONTRACTS),
    "class_names": _all(_text, 1, 1 << 16),
    "category_ids": _or_none(_all(_whole(-LARGEST_COUNT, LARGEST_COUNT), 1, 1 << 16)),
    "geometry": _described,
    "channel_order": _one_of(*_ORDERS),
    "mean": _all(_number, 1, 3),
    "std": _all(_divisor, 1, 3),
    "batch": _or_none(_whole(1, 1 << 16)),
    "nms_names": _different(_all(_text, 2, 2)),
    "depends": _or_none(_described),
    "portable": _or_none(_named_texts),
    "version": _text,
}
_GEOMETRY: dict[str, Check] = {
    "mode": _one_of(*_MODES),
    "height": _side,
    "width": _side,
    "crop": _or_none(_all(_whole(0, LARGEST_COUNT), 4, 4)),
    "prescale": _or_none(_all(_whole(1, LARGEST_SIDE), 2, 2)),
    "short_side": _side,
    "long_side": _side,
    "multiple": _whole(1, LARGEST_SIDE),
}
_ENGINE: dict[str, Check] = {
    "header": _described,
    "precision": _one_of(*_PRECISIONS),
    "batches": _in_order(_all(_count, 3, 3)),
    "tensorrt": _text,
    "gpu": _text,
    "dla_core": _or_none(_whole(0, 64)),
    "sha256": _text,
    "targets": _all(_target, 0, 16),
}
