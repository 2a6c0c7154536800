"""Spec text of a config, and redaction of secrets.

`load(render(load(x))) == load(x)`: every value is written, defaults too, and a block with `enabled`
only where it is enabled.
"""

from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from rcnn_jax.kinds import SpecKind
from rcnn_jax.spec.build import REDACTED, copy_config
from rcnn_jax.spec.kinds import TABLES, kind_of
from rcnn_jax.spec.schema import Field, FieldKind, Message, Node
from rcnn_jax.spec.text.literals import write_literal
from rcnn_jax.spec.text.secrets import commented_keys, hide
from rcnn_jax.spec.text.tokens import comments, quote, tokenize


def render(config: ConfigDict, kind: SpecKind) -> str:
    """Returns the spec text of a config, secrets included unless `redact` removed them."""
    return "".join(f"{line}\n" for line in _lines(config, TABLES[kind]))


def redact(config: ConfigDict) -> ConfigDict:
    """Returns a copy whose keys read `<redacted>`; unset keys stay unset."""
    kind = config_kind(config)
    # A copy: the config at hand goes on to be used with its key.
    hidden = copy_config(config, TABLES[kind])
    _redact(hidden, TABLES[kind])
    return hidden


def written_key(config: ConfigDict) -> str | None:
    """Returns the key that a config holds, None where it holds none or `redact` took it out."""
    key: Any = config.get("enc_key")
    return key if key != REDACTED else None


def redact_text(text: str) -> str:
    """Redacts the keys of a spec text, valid or not, in comments too."""
    tokens = hide(tokenize(text))
    # What `hide` is sure of, widened to whole words: a key without quotes may hold a mark in the
    # middle.
    spans = [(start, _unspaced(text, end), f'"{REDACTED}"') for start, end in tokens.spans]
    secrets = {text[start:end].strip("\"'") for start, end in tokens.spans} - {""}
    secrets |= {token.text.strip("\"'") for token in tokens.originals.values()} - {""}
    # A key that is repeated in a comment, and the keys of fields that are commented out.
    for start, end in comments(text):
        comment = text[start:end]
        # Longest first: a piece of a key must not leave the rest of it readable.
        for secret in sorted(secrets, key=len, reverse=True):
            comment = comment.replace(secret, REDACTED)
        for begin, stop in reversed([*commented_keys(comment)]):
            comment = f"{comment[:begin]}{REDACTED}{comment[stop:]}"
        if comment != text[start:end]:
            spans.append((start, end, comment))
    pieces, reached = [], 0
    for start, end, replacement in sorted(spans):
        # Spans overlap where a comment repeats a key: the first one has replaced both.
        if start >= reached:
            pieces += [text[reached:start], replacement]
            reached = end
    return "".join([*pieces, text[reached:]])


def _unspaced(text: str, end: int) -> int:
    """Returns the end of the word around `end`, for keys without quotes: a # may be part of one."""
    if text[end - 1 : end] in ("'", '"'):
        return end
    while end < len(text) and not text[end].isspace() and text[end] not in "}],;":
        end += 1
    return end


def config_kind(config: ConfigDict) -> SpecKind:
    """Returns the kind of a config.

    Raises:
      ValueError: it is no config of a spec.
    """
    kind = kind_of(set(config.keys()))
    if kind is None:
        raise ValueError("not the config of a spec")
    return kind


def _lines(config: Node, table: Message) -> Iterator[str]:
    # Oneofs that a block has won: a scalar of the same oneof, written behind it, would win on reading.
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
        # Without `enabled` the block is not in the spec, whatever defaults it holds.
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


def _written(value: Any, kind: FieldKind) -> str:
    if kind == "bool":
        return "true" if value else "false"
    if kind == "string":
        return quote(value)
    if kind == "double":
        # repr reads back to the same bits.
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
