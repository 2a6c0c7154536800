"""Back from a config to a spec, and out with the secrets.

`load(render(load(x))) == load(x)`: every value is written, defaults too, and a block with `enabled`
only where it is enabled.
"""

from collections.abc import Iterator
from typing import Any

from google.protobuf import text_encoding
from ml_collections import ConfigDict

from rcnn_jax.spec.build import REDACTED, copy_config
from rcnn_jax.spec.kinds import TABLES, SpecKind, kind_of
from rcnn_jax.spec.literals import write_literal
from rcnn_jax.spec.scan import scan
from rcnn_jax.spec.schema import Field, Kind, Message, Node
from rcnn_jax.spec.tokens import comments


def render(config: ConfigDict, kind: SpecKind) -> str:
    """Returns the spec text of a config; secrets are in it unless `redact` took them out."""
    return "".join(f"{line}\n" for line in _lines(config, TABLES[kind]))


def redact(config: ConfigDict) -> ConfigDict:
    """Returns a copy whose keys read `<redacted>`; unset keys stay unset."""
    kind = config_kind(config)
    hidden = copy_config(config, TABLES[kind])
    _redact(hidden, TABLES[kind])
    return hidden


def redact_text(text: str, kind: SpecKind) -> str:
    """Returns a spec with `<redacted>` for its keys, there and where comments repeat them."""
    form = scan(text, TABLES[kind])
    spans = [(start, end, f'"{REDACTED}"') for start, end in form.secrets]
    for secret in {text[start + 1 : end - 1] for start, end in form.secrets} - {""}:
        for start, end in comments(text):
            if secret in text[start:end]:
                spans.append((start, end, text[start:end].replace(secret, REDACTED)))
    for start, end, replacement in sorted(spans, reverse=True):
        text = f"{text[:start]}{replacement}{text[end:]}"
    return text


def config_kind(config: ConfigDict) -> SpecKind:
    """Returns what a config describes.

    Raises:
      ValueError: it is no config that `load` made.
    """
    kind = kind_of(set(config.keys()))
    if kind is None:
        raise ValueError("not the config of a spec")
    return kind


def _lines(config: Node, table: Message) -> Iterator[str]:
    rivals = {
        field.oneof
        for field in table.fields
        if field.oneof and field.kind == "message" and config[field.name].enabled
    }
    for field in table.fields:
        value = config[field.name]
        if field.kind == "message":
            yield from _blocks(value, field)
        elif value is not None and field.oneof not in rivals - {""}:
            yield from _entries(value, field)


def _blocks(value: Any, field: Field) -> Iterator[str]:
    for config in value if field.repeated else [value]:
        if field.optional and not config.enabled:
            continue
        yield f"{field.name} {{"
        for line in _lines(config, field.table):
            yield f"  {line}"
        yield "}"


def _entries(value: Any, field: Field) -> Iterator[str]:
    if field.kind == "map":
        for key, item in value.items():
            pair = f"key: {_written(key, 'string')} value: {_written(item, field.entry)}"
            yield f"{field.name} {{ {pair} }}"
    elif field.shape is not None:
        yield f"{field.name}: {_written(write_literal(value, field.shape), 'string')}"
    elif field.repeated:
        for item in value:
            yield f"{field.name}: {_written(item, field.kind)}"
    else:
        yield f"{field.name}: {_written(value, field.kind)}"


def _written(value: Any, kind: Kind) -> str:
    if kind == "bool":
        return "true" if value else "false"
    if kind == "string":
        return f'"{text_encoding.CEscape(value, as_utf8=True)}"'
    if kind == "double":
        return repr(float(value))
    return str(value)


def _redact(config: Node, table: Message) -> None:
    for field in table.fields:
        value = config[field.name]
        if field.secret and value:
            config[field.name] = REDACTED
        elif field.kind == "message":
            for block in value if field.repeated else [value]:
                _redact(block, field.table)
