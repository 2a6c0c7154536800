"""Every promise of SECURITY.md names a test that is there."""

import ast
import re
from pathlib import Path

import pytest

from rcnn_jax.checkpoints.container import DEFAULT_KDF
from rcnn_jax.data.formats.image_decoder import MAX_PIXELS, MAX_PIXELS_VARIABLE

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_promise_is_held_by_a_test(file, name):
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_promises_and_tests_are_found_at_all():
    promises = re.findall(r"^- \*\*", TEXT, re.MULTILINE)
    assert len(promises) == 6 and len(NAMED) > 15


def test_numbers_are_those_of_the_program():
    memory = 128 * DEFAULT_KDF.r << DEFAULT_KDF.log2_n
    assert f"{memory >> 20} MiB" in TEXT
    assert f"{MAX_PIXELS:,} pixels (`{MAX_PIXELS_VARIABLE}`" in TEXT
