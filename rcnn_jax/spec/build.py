"""From what a spec says to a whole ConfigDict: every field, with its default where it is silent."""

from typing import Any

from ml_collections import ConfigDict, config_dict

from rcnn_jax.spec.schema import Field, Message, Node
from rcnn_jax.spec.text.literals import read_literal

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


def copy_config(config: Node, table: Message) -> ConfigDict:
    """Returns an equal config that shares nothing with the given one.

    `copy.deepcopy` fails on maps whose keys have a dot, such as the class `st. bernard`.
    """
    copied = build({}, table)
    _fill(copied, config, table)
    return copied


def _fill(target: Node, source: Node, table: Message) -> None:
    for field in table.fields:
        value = source[field.name]
        if field.kind == "message" and field.repeated:
            target[field.name] = [copy_config(block, field.table) for block in value]
        elif field.kind == "message":
            _fill(target[field.name], value, field.table)
            if field.optional:
                target[field.name].enabled = value.enabled
        elif field.kind == "map":
            target[field.name] = _map(value).lock()
        elif value is not None:
            target[field.name] = value


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


def _map(entries: Any) -> ConfigDict:
    config = ConfigDict(allow_dotted_keys=True)
    for key, value in entries.items():
        config[key] = value
    return config
