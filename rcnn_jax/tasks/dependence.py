"""Fields of a spec that trained weights depend on, each with its reason.

Weights that learnt with one set of anchors, means or channels run with another one without a
complaint and find little. The rows of `weights_depend_on` are the fields that must stay; what the
detector finds with them elsewhere (thresholds, counts, paths, images, batch sizes, the whole
of training) is free. The classes are not here: a spec does not always name them, so they are
compared by name and id. How images come to the canvas is not here either: convolutions take any
size, and a change of it is worth a warning, no more.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from rcnn_jax.kinds import Kind
from rcnn_jax.spec.kinds import TABLES
from rcnn_jax.spec.schema import walk
from rcnn_jax.tasks.families import family

Dependence = dict[str, Any]
"""{field of the spec: JSON value}."""


def dependence(config: Any, kind: Kind) -> Dependence:
    """Returns the fields that trained weights depend on, as they take effect.

    Args:
      config: a whole config from `spec.load`.
      kind: which detector's names.
    """
    values = {
        path: _json_value(_at(config, path))
        for path, field in walk(TABLES[kind])
        # Only fields that act: a file must not be refused for a field that changes nothing.
        if field.kind != "message" and not field.no_effect and depends(path, kind)
    }
    return family(kind).in_effect(values)


def depends(path: str, kind: Kind) -> bool:
    """Returns whether trained weights depend on a field of the spec."""
    return is_below(path, family(kind).weights_depend_on)


def is_below(path: str, patterns: Mapping[str, str]) -> bool:
    """Returns whether a pattern names the path or a message above it."""
    parts = path.split(".")
    above = [".".join(parts[:length]) for length in range(1, len(parts) + 1)]
    return any(fnmatchcase(name, pattern) for pattern in patterns for name in above)


def _at(config: Any, path: str) -> Any:
    for name in path.split("."):
        config = config[name]
    return config


def _json_value(value: Any) -> Any:
    """Returns a value as a round trip through JSON leaves it."""
    if hasattr(value, "items"):
        # Sorted, with tuples as lists: a model file gives its fields back like that, and unequal
        # ones would be refused as those of another model.
        return {name: _json_value(child) for name, child in sorted(value.items())}
    if isinstance(value, list | tuple):
        return [_json_value(child) for child in value]
    return value
