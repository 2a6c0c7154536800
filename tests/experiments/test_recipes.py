"""The ablation of recipes: every ingredient is a field that a spec may have."""

import re
from pathlib import Path

import pytest

from experiments.recipes.run import INGREDIENTS, SETS, Row

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("data", sorted(SETS))
@pytest.mark.parametrize("name", sorted(INGREDIENTS))
def test_an_ingredient_is_of_fields_that_exist(tmp_path, name, data):
    if INGREDIENTS[name].text(SETS[data].kind) is not None:
        assert Row(name, data, 0, tmp_path).spec(steps=1200) is not None


def test_converted_labels_lie_beside_the_rows(tmp_path):
    spec = Row("base", "bccd_pyramid", 0, tmp_path / "bccd_pyramid" / "base" / "seed-0").spec(100)
    assert f'"{tmp_path}/coco_data/instances_train.json"' in spec


def test_every_field_of_an_ingredient_is_explained():
    reference = (DOCS / "spec_reference.md").read_text()
    extensions = set(re.findall(r"^\| `(\w+)` \|.*\(\*extension\*", reference, re.MULTILINE))
    page = (DOCS / "recipes.md").read_text()
    text = page.partition("## Ingredients")[2].partition("## What was measured")[0]
    used = {
        field
        for ingredient in INGREDIENTS.values()
        for field in re.findall(
            r"(\w+)(?=: | \{)", f"{ingredient.faster_rcnn} {ingredient.mask_rcnn}"
        )
    }
    assert used & extensions - set(re.findall(r"\w+", text)) == set()
    # Also what is for runs from trained weights, which the experiment has none of.
    assert {"outside_anchors", "rpn_conv_depth", "box_head", "heads_only_steps"} <= extensions
    assert "heads_only_steps" in text


def test_every_box_loss_and_rule_for_outside_anchors_is_measured():
    texts = " ".join(f"{one.faster_rcnn} {one.mask_rcnn}" for one in INGREDIENTS.values())
    for value in ("giou", "diou", "ciou", "auto", "ignore"):
        assert f'"{value}"' in texts
