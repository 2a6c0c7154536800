"""Hints for messages: other file formats and networks, and the right block of a field."""

import re

from rcnn_jax.kinds import SpecKind
from rcnn_jax.spec.kinds import TABLES
from rcnn_jax.spec.schema import Message, walk
from rcnn_jax.spec.text.tokens import Token
from rcnn_jax.spec.text.values import did_you_mean, nearest

MOST_PATHS = 3

# Sets, because single names repeat: train_config alone could be anybody's.
_OTHER_NETWORKS = (
    ("detectnet_v2", {"cost_function_config", "postprocessing_config"}),
    ("detectnet_v2", {"bbox_rasterizer_config"}),
    ("ssd", {"ssd_config"}),
    ("dssd", {"dssd_config"}),
    ("retinanet", {"retinanet_config"}),
    ("yolo_v3", {"yolov3_config"}),
    ("yolo_v4", {"yolov4_config"}),
    ("classification", {"train_config", "eval_config"}),
    ("the TensorFlow Object Detection API", {"train_config", "train_input_reader"}),
)
"""(network, top-level fields that only its specs have)."""

_FORMS = (
    (re.compile(r"\s*(?:<!doctype|<html|<\?xml)", re.IGNORECASE), "a web page"),
    (re.compile(r"\s*\[[\w.]+\]\s*\n"), "TOML"),
    (re.compile(r"\s*[{\[]"), "JSON"),
    (re.compile(r"(?:---|%YAML)"), "YAML"),
    (
        re.compile(
            r"(?:[^\n]*\n)*?(?:from [\w.]+ import |import \w[^:{]*\n|def \w+\(|class \w+[(:])"
        ),
        "Python, which `python -m rcnn_jax.main --config=FILE` runs",
    ),
    (re.compile(r"\s*```"), "Markdown: leave out the ```"),
    (re.compile(r"(?:[^\n]*\n)*?<{7} "), "a text with an unfinished merge: <<<<<<<"),
    (re.compile(r"version https://git-lfs"), "a pointer of Git LFS; `git lfs pull` gets the file"),
)


def other_form(text: str, tokens: list[Token]) -> str:
    """Names the format of a text that is no protobuf text; empty if it may be one.

    Args:
      text: the whole text.
      tokens: its tokens.
    """
    # Formats show at the beginning, and some patterns walk over lines.
    head = text[:4096]
    for pattern, name in _FORMS:
        if pattern.match(head):
            return name
    # YAML has no blocks in braces; without this, a spec whose values are indented would pass for
    # it.
    if any(token.is_mark("{", "<") for token in tokens):
        return ""
    for name, colon, inside in zip(tokens, tokens[1:], tokens[2:], strict=False):
        deeper = inside.line > name.line and inside.column > name.column
        if name.kind == "name" and colon.is_mark(":") and deeper and inside.kind == "name":
            return "YAML"
    return ""


def other_network(names: set[str]) -> str:
    """Returns the network of TAO, or of another program, that has these top-level fields."""
    for network, fields in _OTHER_NETWORKS:
        if fields <= names:
            return network
    return ""


def elsewhere(name: str, table: Message, root: Message) -> str:
    """Suggests the block or the spelling of an unknown field; empty without a suggestion.

    Args:
      name: as written.
      table: the fields of its block.
      root: the fields at the top level.
    """
    paths = _blocks_of(root)
    if name in paths:
        return f"; it belongs {_in(paths[name])}"
    near = did_you_mean(name, [field.name for field in table.fields])
    for kind, each in TABLES.items():
        if each is not root and name in _blocks_of(each):
            return f"; specs of {kind} have it{near}"
    if near:
        return near
    # Stricter than within the block: among some hundred names of all blocks something is always
    # near.
    other = nearest(name, tuple(paths), 0.8) if len(name) > 3 else ""
    return f"; did you mean '{other}', which belongs {_in(paths[other])}?" if other else ""


def _in(paths: tuple[str, ...]) -> str:
    if paths == ("",):
        return "to the top level"
    named = [path or "the top level" for path in paths[:MOST_PATHS]]
    if len(paths) > MOST_PATHS:
        return f"into {', '.join(named)}, ..."
    return f"into {' or '.join(named)}"


def _blocks_of(root: Message) -> dict[str, tuple[str, ...]]:
    """Returns {name or alias of a field: paths of the blocks that have it}."""
    blocks: dict[str, tuple[str, ...]] = {}
    for path, field in walk(root):
        block = path.rpartition(".")[0]
        for name in (field.name, *field.aliases):
            blocks[name] = (*blocks.get(name, ()), block)
    return blocks


def described(kind: SpecKind, names: set[str]) -> str:
    """Returns the fields that tell the kind of a spec, for a message."""
    return ", ".join(sorted(name for name in names if TABLES[kind].find(name))[:MOST_PATHS])
