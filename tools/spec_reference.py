"""Writes docs/spec_reference.md from the field tables.

python -m tools.spec_reference            writes it
python -m tools.spec_reference --check    fails when the file is not what would be written
"""

import sys
from pathlib import Path

from rcnn_jax.spec.explain import default_text, effect_text, range_text
from rcnn_jax.spec.kinds import TABLES
from rcnn_jax.spec.schema import Field, Message, messages

OUTPUT = Path(__file__).parents[1] / "docs" / "spec_reference.md"

HEAD = """# Spec reference

Made by `python -m tools.spec_reference` from the tables in `rcnn_jax/spec`; do not edit. On the
command line, `rcnn-jax spec explain FIELD` says the same of one field, and
`rcnn-jax spec check FILE` reports every error of a spec with its line.

A spec is protobuf text. Absent fields take the default below; an explicit 0 or false stays what it
is. Both `block { }` and `block: { }` are read, and `#` begins a comment. Fields marked *extension*
are unknown to the original toolkit; those marked *no effect* are read, checked, and change nothing.
"""

TITLES = {
    "faster_rcnn": "Faster R-CNN",
    "mask_rcnn": "Mask R-CNN",
    "dataset_convert": "`dataset_convert`",
}


def reference() -> str:
    """Returns the whole page."""
    parts = [HEAD]
    for kind, table in TABLES.items():
        parts.append(f"\n## {TITLES[kind]}\n")
        # Per kind and not per table: a table that both detectors share has its section, and its
        # anchor, in each.
        parts += [section(kind, message) for message in messages(table).values()]
    return "".join(parts)


def section(kind: str, table: Message) -> str:
    """Returns the table of one message."""
    lines = [
        f"\n### {anchor(kind, table)}\n",
        f"{table.doc}\n",
        "| Field | Type | Default | Range | Meaning |",
        "|---|---|---|---|---|",
    ]
    lines += [f"| {' | '.join(row(kind, field))} |" for field in table.fields]
    return "\n".join(lines) + "\n"


def row(kind: str, field: Field) -> list[str]:
    """Returns the cells of one field."""
    remark = effect_text(field)
    for word in ("no effect", "extension"):
        remark = remark.replace(word, f"*{word}*", 1)
    meaning = f"{field.doc} ({remark})" if remark else field.doc
    cells = [
        f"`{field.name}`",
        type_text(kind, field),
        default_text(field),
        range_text(field),
        meaning,
    ]
    return [cell.replace("|", "\\|") for cell in cells]


def type_text(kind: str, field: Field) -> str:
    """Returns the type, with a link for messages."""
    if field.kind != "message":
        return field.type_name
    name = anchor(kind, field.table)
    link = f"[{field.table.name}](#{name.lower().replace(' ', '-').replace(':', '')})"
    return f"repeated {link}" if field.repeated else link


def anchor(kind: str, table: Message) -> str:
    """Returns the heading of a message, unique on the page."""
    return f"{kind}: {table.name}"


def main() -> int:
    """Writes or compares the page; returns the exit code."""
    text = reference()
    if "--check" in sys.argv[1:]:
        same = OUTPUT.is_file() and OUTPUT.read_text(encoding="utf-8") == text
        if not same:
            sys.stderr.write(f"{OUTPUT.name} is old: run  python -m tools.spec_reference\n")
        return 0 if same else 1
    OUTPUT.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
