"""Descriptions of fields from the tables, for `spec explain` and docs/spec_reference.md."""

from rcnn_jax.kinds import SpecKind
from rcnn_jax.spec.kinds import TABLES
from rcnn_jax.spec.notes import is_true_though_absent
from rcnn_jax.spec.schema import Field, walk
from rcnn_jax.spec.text.literals import write_literal

FieldRow = tuple[SpecKind, str, Field]
"""(kind of spec, dotted path, table row)."""


def find_fields(name: str, kind: SpecKind | None = None) -> list[FieldRow]:
    """Returns the fields whose path is, or ends with, the name; aliases count.

    Args:
      name: a field, or a path such as `training_config.num_epochs`, or the end of one.
      kind: look in this table only.
    """
    return [row for row in all_fields(kind) if _matches(row, name)]


def all_fields(kind: SpecKind | None = None) -> list[FieldRow]:
    """Returns every field of a kind of spec, or of all kinds, in table order."""
    kinds: list[SpecKind] = [kind] if kind else list(TABLES)
    return [(each, path, field) for each in kinds for path, field in walk(TABLES[each])]


def default_text(field: Field) -> str:
    """Returns the default as written in a spec, or a word for none."""
    if field.kind == "message":
        return "absent" if field.optional or field.repeated else "its fields' defaults"
    if field.default is None:
        return "none; must be given" if field.required else "none"
    if field.shape is not None:
        return f'"{write_literal(field.default, field.shape)}"'
    if field.kind == "map":
        return ", ".join(f"{key}: {value}" for key, value in field.default.items()) or "empty"
    if field.repeated:
        return ", ".join(str(item) for item in field.default) or "empty"
    if field.kind == "bool":
        return str(field.default).lower()
    return f'"{field.default}"' if field.kind == "string" else str(field.default)


def range_text(field: Field) -> str:
    """Returns the allowed values; empty where the type is enough."""
    return "" if field.allowed is None else str(field.allowed)


def effect_text(field: Field) -> str:
    """Describes the effect of a field, and its relation to the original."""
    notes = [f"no effect: {field.no_effect}"] if field.no_effect else []
    notes += ["true where it is absent, reported once"] if is_true_though_absent(field) else []
    notes += ["extension of this project"] if field.extension else []
    notes += [f"also read as {', '.join(field.aliases)}"] if field.aliases else []
    notes += [f"excludes the other members of {field.oneof}"] if field.oneof else []
    return "; ".join(notes)


def describe(row: FieldRow) -> str:
    """Returns a few lines about one field."""
    kind, path, field = row
    lines = [
        f"{path}  ({kind})",
        f"  {field.doc}",
        f"  type     {field.type_name}",
        f"  default  {default_text(field)}",
    ]
    lines += [f"  range    {range_text(field)}"] if range_text(field) else []
    acts = "it is checked, no more" if field.only_checked else "yes"
    acts = "" if field.no_effect else acts
    lines += [f"  effect   {'; '.join(filter(None, (acts, effect_text(field))))}"]
    if field.kind == "message":
        lines.append(f"  fields   {', '.join(row.name for row in field.table.fields)}")
    return "\n".join(lines) + "\n"


def _matches(row: FieldRow, name: str) -> bool:
    _, path, field = row
    head, _, last = name.rpartition(".")
    if last not in (field.name, *field.aliases):
        return False
    parent = path.rpartition(".")[0]
    # The end of a path is enough, since users know a field by the block it stands in.
    return not head or parent == head or parent.endswith(f".{head}")
