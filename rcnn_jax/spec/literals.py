"""Python literals inside strings: read without evaluating anything, checked, and written back."""

import ast
import warnings
from typing import Any

from rcnn_jax.spec.schema import LiteralShape


def read_literal(text: str, shape: LiteralShape) -> tuple[Any, ...]:
    """Reads a list or tuple; an empty string is an empty list.

    Raises:
      ValueError: the text is no literal, or not of this shape; the message names the position
        inside the string.
    """
    if not text.strip():
        return _checked((), shape)
    indent = len(text) - len(text.lstrip())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # "1if" and the like: an error anyway
            tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError as error:
        column = indent + (error.offset or 1)
        raise ValueError(f"is not a {shape}: {error.msg} at character {column}") from error
    except ValueError as error:
        raise ValueError(f"is not a {shape}: {error}") from error
    if not isinstance(tree.body, ast.List | ast.Tuple):
        raise ValueError(f"is not a {shape}")
    return _checked(tuple(_item(node, shape, indent) for node in tree.body.elts), shape)


def write_literal(value: tuple[Any, ...], shape: LiteralShape) -> str:
    """Returns the text that `read_literal` turns into the value."""
    items = [_write_tuple(item) if shape.inner else repr(item) for item in value]
    if shape.bracket == "[":
        return f"[{', '.join(items)}]"
    return _write_tuple(value)


def fits(value: Any, shape: LiteralShape) -> bool:
    """Says whether a value that did not come from text has the shape."""
    if not isinstance(value, tuple | list):
        return False
    if shape.length is not None and len(value) != shape.length:
        return False
    if not shape.inner:
        return all(_is_number(item, shape) for item in value)
    return all(
        isinstance(item, tuple | list)
        and len(item) == shape.inner
        and all(_is_number(part, shape) for part in item)
        for item in value
    )


def numbers(value: tuple[Any, ...], shape: LiteralShape) -> list[Any]:
    """Returns all numbers of a literal in order."""
    return [part for item in value for part in item] if shape.inner else list(value)


def _is_number(value: Any, shape: LiteralShape) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int) if shape.item == "int" else isinstance(value, int | float)


def _item(node: ast.expr, shape: LiteralShape, indent: int) -> Any:
    place = f"at character {indent + node.col_offset + 1}"
    try:
        value = ast.literal_eval(node)
    except ValueError as error:
        raise ValueError(f"is not a {shape}: no number {place}") from error
    one = LiteralShape("[", shape.item, length=shape.inner or 1)
    parts = value if shape.inner else (value,)
    if not fits(parts, one):
        kind = "whole number" if shape.item == "int" else "number"
        expected = f"a tuple of {shape.inner} numbers" if shape.inner else f"a {kind}"
        raise ValueError(f"is not a {shape}: {value!r} {place} is not {expected}")
    cast = int if shape.item == "int" else float
    return tuple(cast(part) for part in parts) if shape.inner else cast(value)


def _checked(value: tuple[Any, ...], shape: LiteralShape) -> tuple[Any, ...]:
    if shape.length is not None and len(value) != shape.length:
        raise ValueError(f"is not a {shape}: it has {len(value)} items")
    return value


def _write_tuple(value: tuple[Any, ...]) -> str:
    inside = ", ".join(repr(item) for item in value)
    return f"({inside},)" if len(value) == 1 else f"({inside})"
