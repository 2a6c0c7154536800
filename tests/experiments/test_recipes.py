"""The ablation of recipes: every ingredient is a field that a spec may have."""

import json
import re
from pathlib import Path

import pytest

from experiments.recipes.ingredients import INGREDIENTS
from experiments.recipes.run import SETS, Row, table

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


def test_a_row_that_diverged_says_so_and_does_not_enter_the_mean(tmp_path):
    def write(name, seed, value):
        folder = tmp_path / "nuclei" / name / f"seed-{seed}"
        folder.mkdir(parents=True)
        metrics = None if value is None else dict.fromkeys(("mask_AP", "AP", "mask_AP50"), value)
        result = {"metrics": metrics, "steps": 40 if value is None else 450, "seconds": 100.0}
        (folder / "result.json").write_text(json.dumps(result))

    for seed in (0, 1, 2):
        write("base", seed, 0.40 + 0.01 * seed)
        write("adamw", seed, None if seed == 0 else 0.43 + 0.01 * seed)
        write("no_clip", seed, None)
    cells = {
        line.split("|")[2].strip(): [cell.strip() for cell in line.split("|")[3:-1]]
        for line in table(tmp_path).splitlines()
    }
    assert cells["base"][:2] == ["3", "41.0"]
    assert cells["adamw"][:2] == ["3", "1 of 3 diverged; 44.5 (+3.0 ± 0.0)"]
    assert cells["no_clip"][:3] == ["3", "diverged", ""]
