"""ConfigDict of a spec: every field of the table, with its default where it is absent."""

from typing import Any

from ml_collections import ConfigDict, config_dict

from rcnn_jax.spec.schema import Field, Message, Node
from rcnn_jax.spec.text.literals import read_literal

REDACTED = "<redacted>"
"""Replaces keys in files; read back as absent."""

PYTHON_TYPES = {"bool": bool, "uint32": int, "double": float, "string": str, "enum": str}


def build(values: dict[str, Any], table: Message) -> ConfigDict:
    """Returns the locked ConfigDict of a message.

    Args:
      values: the given fields, from `scan`.
      table: the table of the message.

    Raises:
      ValueError: a literal cannot be read; load.py has checked them before.
    """
    config = ConfigDict()
    for field in table.fields:
        config[field.name] = _value(values.get(field.name), field)
    # Locked: a mistyped field of a config file is an error at its line, not a new field that nobody
    # reads.
    return config.lock()


def copy_config(config: Node, table: Message) -> ConfigDict:
    """Returns a deep copy of a config.

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
            # `enabled` is set behind the fields, because it is no row of the table that they are
            # copied by.
            if field.optional:
                target[field.name].enabled = value.enabled
        elif field.kind == "map":
            target[field.name] = _map(value).lock()
        elif value is not None:
            target[field.name] = value


def _value(given: Any, field: Field) -> Any:
    """Returns the entry of one field; `given` is None where it is absent."""
    if field.kind == "message":
        return _message(given, field)
    if field.kind == "map":
        return _map(field.default if given is None else given)
    if field.kind == "literal":
        # Read twice, here and by the parser, which needs the error with its position; here there is
        # none any more.
        assert field.shape is not None
        return field.default if given is None else read_literal(given, field.shape)
    if field.repeated:
        return tuple(field.default if given is None else given)
    if given is None or (field.secret and given == REDACTED):
        given = field.default
    # A typed placeholder: an override of another type is refused although there is no value yet.
    return config_dict.placeholder(PYTHON_TYPES[field.kind]) if given is None else given


def _message(given: Any, field: Field) -> Any:
    if field.repeated:
        return [build(item, field.table) for item in given or []]
    # Always there, given or not: readers need no test for None, and overrides have a target.
    config = build(given or {}, field.table)
    if field.optional:
        with config.unlocked():
            config.enabled = given is not None
    return config


def _map(entries: Any) -> ConfigDict:
    config = ConfigDict(allow_dotted_keys=True)  # class names such as "st. bernard"
    for key, value in entries.items():
        config[key] = value
    return config
