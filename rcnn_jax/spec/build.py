"""From what a spec says to a whole ConfigDict: every field, with its default where it is silent."""

from typing import Any

from ml_collections import ConfigDict, config_dict

from rcnn_jax.spec.literals import read_literal
from rcnn_jax.spec.schema import Field, Message, Node

REDACTED = "<redacted>"
"""What stands in files where a key was; read back as absent."""

PYTHON_TYPES = {"bool": bool, "uint32": int, "double": float, "string": str, "enum": str}


def build(values: dict[str, Any], table: Message) -> ConfigDict:
    """Returns the locked ConfigDict of a message.

    Args:
      values: what the spec says, as `scan` returns it.
      table: the table of the message.

    Raises:
      ValueError: a literal cannot be read; load.py has checked them before.
    """
    config = ConfigDict()
    for field in table.fields:
        config[field.name] = _value(values.get(field.name), field)
    return config.lock()


def copied(config: Node, table: Message) -> ConfigDict:
    """Returns a copy of a config that `build` made; `copy.deepcopy` fails on labels with a dot."""
    new = ConfigDict()
    for field in table.fields:
        value = config[field.name]
        if field.kind == "message" and field.repeated:
            value = [copied(block, field.table) for block in value]
        elif field.kind == "message":
            value = copied(value, field.table)
        elif field.kind == "map":
            value = _map(dict(value))
        elif value is None:
            value = config_dict.placeholder(PYTHON_TYPES[field.kind])
        new[field.name] = value
    if "enabled" in config and table.find("enabled") is None:
        new.enabled = config.enabled
    return new.lock()


def _value(said: Any, field: Field) -> Any:
    """Returns the entry of one field; `said` is None where the spec is silent."""
    if field.kind == "message":
        return _message(said, field)
    if field.kind == "map":
        return _map(field.default if said is None else said)
    if field.kind == "literal":
        assert field.shape is not None
        return field.default if said is None else read_literal(said, field.shape)
    if field.repeated:
        return tuple(field.default if said is None else said)
    if said is None or (field.secret and said == REDACTED):
        said = field.default
    return config_dict.placeholder(PYTHON_TYPES[field.kind]) if said is None else said


def _message(said: Any, field: Field) -> Any:
    if field.repeated:
        return [build(item, field.table) for item in said or []]
    config = build(said or {}, field.table)
    if field.optional:
        with config.unlocked():
            config.enabled = said is not None
    return config


def _map(entries: dict[str, Any]) -> ConfigDict:
    config = ConfigDict(allow_dotted_keys=True)
    for key, value in entries.items():
        config[key] = value
    return config
