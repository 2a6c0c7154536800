"""A second reading of specs: protobuf's own text format, over descriptors made from the tables.

The original reads specs with it, so what it accepts, `spec.scan` must read alike. Every scalar has
presence, and `double` replaces the original's `float`, so 0.7 stays 0.7.
"""

import functools
import re
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from rcnn_jax.kinds import SpecKind
from rcnn_jax.spec.kinds import TABLES
from rcnn_jax.spec.schema import Field, Message, messages, walk

_Proto = descriptor_pb2.FieldDescriptorProto

_WIRE_TYPES = {
    "bool": _Proto.TYPE_BOOL,
    "uint32": _Proto.TYPE_UINT32,
    "whole": _Proto.TYPE_DOUBLE,
    "double": _Proto.TYPE_DOUBLE,
    "string": _Proto.TYPE_STRING,
    "literal": _Proto.TYPE_STRING,
    "enum": _Proto.TYPE_ENUM,
    "map": _Proto.TYPE_MESSAGE,
    "message": _Proto.TYPE_MESSAGE,
}


def protobuf_values(text: str, kind: SpecKind) -> dict[str, Any]:
    """Returns what protobuf reads in a text, in the form of `Scan.values`.

    Raises:
      google.protobuf.text_format.ParseError: at the first error.
    """
    message = _message_class(kind)()
    text_format.Merge(_first_names(text, TABLES[kind]), message)
    return _to_dict(message, TABLES[kind])


def _first_names(text: str, table: Message) -> str:
    """Returns the text without aliases, which protobuf does not know."""
    for _, field in walk(table):
        for alias in field.aliases:
            text = re.sub(rf"\b{alias}\b", field.name, text)
    return text


def _to_dict(message: Any, table: Message) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field in table.fields:
        value = getattr(message, field.name)
        if field.kind == "map":
            if value:
                values[field.name] = dict(value)
        elif field.repeated:
            if value:
                values[field.name] = [_to_value(item, field) for item in value]
        elif message.HasField(field.name):
            values[field.name] = _to_value(value, field)
    return values


def _to_value(value: Any, field: Field) -> Any:
    if field.kind == "message":
        return _to_dict(value, field.table)
    if field.kind == "enum":
        return field.values[value]
    if field.kind == "whole":
        return int(value)
    return value


@functools.cache
def _message_class(kind: SpecKind) -> Any:
    package = f"rcnn_jax.{kind}"
    file = descriptor_pb2.FileDescriptorProto(
        name=f"rcnn_jax/{kind}.proto", package=package, syntax="proto2"
    )
    for table in messages(TABLES[kind]).values():
        _describe(file, table)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    name = f"{package}.{TABLES[kind].name}"
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def _describe(file: descriptor_pb2.FileDescriptorProto, table: Message) -> None:
    message = file.message_type.add(name=table.name)
    choices = list(dict.fromkeys(field.oneof for field in table.fields if field.oneof))
    for name in choices:
        message.oneof_decl.add(name=name)
    for field in table.fields:
        row = message.field.add(
            name=field.name,
            number=field.number,
            type=_WIRE_TYPES[field.kind],
            label=_Proto.LABEL_REPEATED
            if field.repeated or field.kind == "map"
            else _Proto.LABEL_OPTIONAL,
        )
        if field.oneof:
            row.oneof_index = choices.index(field.oneof)
        if field.kind == "message":
            row.type_name = f".{file.package}.{field.table.name}"
        elif field.kind == "enum":
            name = f"{field.name.title().replace('_', '')}Enum"
            values = message.enum_type.add(name=name)
            for number, value in enumerate(field.values):
                values.value.add(name=value, number=number)
            row.type_name = f".{file.package}.{table.name}.{name}"
        elif field.kind == "map":
            name = f"{field.name.title().replace('_', '')}Entry"
            entry = message.nested_type.add(name=name)
            entry.options.map_entry = True
            entry.field.add(
                name="key", number=1, type=_Proto.TYPE_STRING, label=_Proto.LABEL_OPTIONAL
            )
            entry.field.add(
                name="value",
                number=2,
                type=_WIRE_TYPES[field.entry],
                label=_Proto.LABEL_OPTIONAL,
            )
            row.type_name = f".{file.package}.{table.name}.{name}"
