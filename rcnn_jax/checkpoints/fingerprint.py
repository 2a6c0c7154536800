"""Fingerprint of a run: the settings that must agree when it is resumed.

A resumed run must go on as if it had never stopped. The fingerprint of a config is everything that
affects the weights or the order of the data; `may_change` of a detector's row (`tasks.families`) lists
the rest, with reasons. Fields without effect by the spec's tables, secrets, and extensions at their
default are left out too: a run that began before an extension existed can be resumed after it.
Names: docs/reference/specs.md.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from rcnn_jax.errors import CheckpointError
from rcnn_jax.kinds import Kind
from rcnn_jax.spec.kinds import TABLES
from rcnn_jax.spec.schema import FIRST_EXTENSION, walk
from rcnn_jax.tasks.families import family

_ABSENT = object()


def fingerprint(config: Any, kind: Kind) -> dict[str, Any]:
    """Returns {path: value} of all settings that affect weights or data order, as JSON values.

    Args:
      config: ConfigDict or nested dictionaries with the names of the spec.
      kind: which detector's names.

    Example:
      >>> fingerprint({"random_seed": 42, "verbose": True}, "faster_rcnn")
      {'random_seed': 42}
    """
    # A list of exceptions, not of members: a field that nobody thought of stops a resume, and the
    # opposite would let a run go on with other settings.
    patterns = (*family(kind).may_change, *_without_effect(kind))
    flat: dict[str, Any] = {}
    _flatten(config, "", flat)
    # An extension at its default changes nothing, and runs of releases before it lack it.
    defaults = {}
    for path, field in walk(TABLES[kind]):
        if field.number >= FIRST_EXTENSION:
            defaults[path] = _json_value(field.default)
            # Presence of a block is an entry of the config that is no row of the table.
            if field.kind == "message" and field.optional:
                defaults[f"{path}.enabled"] = False
    return {
        path: value
        for path, value in sorted(flat.items())
        if not _matches(path, patterns)
        and not (_name(path) in defaults and value == defaults[_name(path)])
    }


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Returns one line for every path whose value differs, sorted by path.

    Example:
      >>> differences({"random_seed": 42}, {"random_seed": 7})
      ['random_seed: 42 -> 7']
    """
    lines = []
    for path in sorted({*old, *new}):
        before, after = old.get(path, _ABSENT), new.get(path, _ABSENT)
        # 1 == True in Python; a changed type is a change.
        if before != after or type(before) is not type(after):
            lines.append(f"{path}: {_shown(before)} -> {_shown(after)}")
    return lines


def check_resume(old: Mapping[str, Any], new: Mapping[str, Any], where: Any) -> None:
    """Checks that a run is resumed with the settings it began with.

    Args:
      old: fingerprint stored with the run.
      new: fingerprint of the config given now.
      where: the workdir, for the message.

    Raises:
      CheckpointError: they differ; the message lists every difference.
    """
    lines = differences(old, new)
    if lines:
        raise CheckpointError(
            f"{where}: the run there was started with other settings (old -> new):\n  "
            + "\n  ".join(lines)
            + "\nPut the old values back to go on with it, choose another workdir, or give --fresh "
            "to start anew there"
        )


def _without_effect(kind: Kind) -> Iterator[str]:
    """Yields the paths of fields without effect and of secrets."""
    for path, field in walk(TABLES[kind]):
        if field.no_effect or field.secret:
            yield path


def _matches(path: str, patterns: Iterable[str]) -> bool:
    """True when a pattern names the path or something above it; positions in lists do not count."""
    parts = _name(path).split(".")
    above = [".".join(parts[:length]) for length in range(1, len(parts) + 1)]
    return any(fnmatchcase(name, pattern) for pattern in patterns for name in above)


def _name(path: str) -> str:
    """Returns a path as in the spec's tables, without positions in lists."""
    return re.sub(r"\[\d+\]", "", path)


def _flatten(value: Any, path: str, flat: dict[str, Any]) -> None:
    if hasattr(value, "items"):
        for name, child in value.items():
            _flatten(child, f"{path}.{name}" if path else str(name), flat)
    elif isinstance(value, (list, tuple)) and any(hasattr(child, "items") for child in value):
        for index, child in enumerate(value):
            _flatten(child, f"{path}[{index}]", flat)
    else:
        flat[path] = _json_value(value)


def _json_value(value: Any) -> Any:
    """Returns the value after a round trip through JSON."""
    if isinstance(value, (list, tuple)):
        return [_json_value(child) for child in value]
    return value


def _shown(value: Any) -> str:
    return "absent" if value is _ABSENT else repr(value)
