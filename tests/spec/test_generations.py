"""Specs that carry every field of their generation are read, whatever of it has an effect here."""

from pathlib import Path

import pytest

from rcnn_jax.spec import load_spec, parse_spec, render
from rcnn_jax.spec.explain import all_fields
from tests.spec.samples import EVERY_BLOCK

GENERATIONS = ("tlt_3_0_dp", "tlt_3_0", "tao_3_21", "tao_4", "tao_5")
FILES = sorted((Path(__file__).parent / "generations").glob("*.txt"))


def test_every_generation_has_a_spec_of_every_kind() -> None:
    kinds = ("faster_rcnn", "mask_rcnn", "dataset_convert")
    assert {path.stem for path in FILES} == {f"{g}_{kind}" for g in GENERATIONS for kind in kinds}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_spec_of_its_generation_is_read_and_renders_to_itself(path: Path) -> None:
    spec = load_spec(path)
    assert path.stem.endswith(spec.kind)
    assert parse_spec(render(spec.config, spec.kind), kind=spec.kind).config == spec.config


def test_together_they_carry_every_field_of_the_original() -> None:
    """A field that no generation carries is an extension, numbered from 1000 on."""
    carried = {
        (spec.kind, EVERY_BLOCK.sub("", path))
        for spec in map(load_spec, FILES)
        for path in spec.positions
    }
    blocks = {(kind, path[:end]) for kind, path in carried for end in _ends(path)}
    known = {(kind, path) for kind, path, field in all_fields() if not field.extension}
    extensions = {(kind, path) for kind, path, field in all_fields() if field.extension}
    inside = {row for row in known if any(_within(row, outer) for outer in extensions)}
    assert known - inside - carried - blocks == set()


def _ends(path: str) -> list[int]:
    return [index for index, letter in enumerate(path) if letter == "."]


def _within(row: tuple[str, str], outer: tuple[str, str]) -> bool:
    return row[0] == outer[0] and row[1].startswith(f"{outer[1]}.")
