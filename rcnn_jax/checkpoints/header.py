"""Header of a bundle: the type and range of every field, checked on reading.

A checksum proves that a file arrived as it was sent, not that this program wrote it. Code that gets a
header from here may rely on its types.
"""

import sys
from collections.abc import Callable
from typing import Any

from rcnn_jax.errors import CheckpointError

# What int32 holds, the type of a step on the device.
_LARGEST = (1 << 31) - 1
_WIDEST = 1 << 16

Test = Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    # Not isinstance: True is an int in Python, and no count.
    return type(value) is int and 0 <= value <= _LARGEST


def _is_number(value: Any) -> bool:
    # Not `isfinite`, which a whole number of 400 digits overflows; NaN compares with nothing.
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _or_none(test: Test) -> Test:
    return lambda value: value is None or test(value)


def _is_list_of(test: Test) -> Test:
    return lambda value: isinstance(value, list) and bool(value) and all(map(test, value))


def _is_map_to(test: Test) -> Test:
    return lambda value: isinstance(value, dict) and all(map(test, value.values()))


_RUN_STATE: dict[str, Test] = {
    "run_id": _is_text,
    "step": _is_count,
    "best_metric": _or_none(_is_number),
    "best_step": _or_none(_is_count),
    "best_loss": _or_none(_is_number),
    "epochs_without_gain": _is_count,
    "watched_metric": _or_none(_is_number),
    "validations_without_gain": _is_count,
    "stopped_early": _is_flag,
    "due": _is_flag,
    "finished": _is_flag,
}


def _is_run_state(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and "run_id" in value
        and all(test(value[name]) for name, test in _RUN_STATE.items() if name in value)
    )


_MODEL: dict[str, Test] = {
    "spec": _is_text,
    "class_names": _is_list_of(_is_text),
    "arch": _is_text,
    "channel_plan": _is_map_to(lambda width: _is_count(width) and 1 <= width <= _WIDEST),
    "convention": lambda value: isinstance(value, dict),
}
"""Required fields."""

_OTHERS: dict[str, Test] = {
    "category_ids": _is_list_of(_is_count),
    "quant_plan": _is_map_to(_is_list_of(_is_count)),
    "created_with": _is_map_to(_is_text),
    "step": _is_count,
    "run_id": _is_text,
    "run_state": _is_run_state,
    "pruning": lambda value: isinstance(value, list) and all(isinstance(v, dict) for v in value),
}
"""Optional fields; unknown ones are ignored, since later releases may add some."""


def check_header(header: Any, name: str) -> dict[str, Any]:
    """Checks the header of a bundle.

    Args:
      header: parsed JSON.
      name: of the file, begins the message.

    Raises:
      CheckpointError: a field that every model has is missing, or a field is of another type or out
        of range; the message names it.
    """
    if not isinstance(header, dict):
        raise _foreign(name, "its header is no list of fields")
    missing = [field for field in _MODEL if field not in header]
    if missing:
        raise _foreign(name, f"its header lacks {', '.join(missing)}")
    for field, test in {**_MODEL, **_OTHERS}.items():
        if field in header and not test(header[field]):
            raise _foreign(name, f"the field {field} of its header is {repr(header[field])[:80]}")
    ids = header.get("category_ids")
    if ids is not None and len(ids) != len(header["class_names"]):
        raise _foreign(name, f"it has {len(header['class_names'])} classes, {len(ids)} ids")
    # A resume looks for the one and then reads the other; a slimmed model has neither.
    if ("run_state" in header) != ("step" in header):
        raise _foreign(name, "it has the state of a run without a step, or a step without one")
    return header


def _foreign(name: str, what: str) -> CheckpointError:
    return CheckpointError(f"{name}: is not as this program writes bundles: {what}")
