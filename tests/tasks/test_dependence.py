"""Which fields of a spec trained weights depend on."""

import pytest

from rcnn_jax.spec.kinds import TABLES
from rcnn_jax.spec.load import load_spec, parse_spec
from rcnn_jax.spec.render import render
from rcnn_jax.spec.schema import walk
from rcnn_jax.tasks.dependence import dependence, depends, is_below
from rcnn_jax.tasks.families import FAMILIES

KINDS = sorted(FAMILIES)


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_of_the_network_is_in_one_of_the_two_tables(kind):
    rows = [path for path, field in walk(TABLES[kind]) if field.kind != "message"]
    inside = [path for path in rows if path.startswith(f"{FAMILIES[kind].network}.")]
    effective = {path for path, field in walk(TABLES[kind]) if not field.no_effect}
    undecided = [
        path
        for path in inside
        if path in effective and not depends(path, kind) and not is_below(path, FAMILIES[kind].free)
    ]
    assert undecided == [], "decide whether trained weights depend on these, with a reason"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("table", ["weights_depend_on", "free"])
def test_every_row_names_a_field_and_gives_a_reason(kind, table):
    paths = [path for path, _ in walk(TABLES[kind])]
    for pattern, reason in getattr(FAMILIES[kind], table).items():
        assert any(is_below(path, {pattern: reason}) for path in paths), pattern
        assert reason


@pytest.mark.parametrize("kind", KINDS)
def test_a_spec_that_was_stored_and_read_again_depends_on_the_same(kind):
    config = load_spec(f"configs/{kind}/tiny.txt", kind).config
    again = parse_spec(render(config, kind), "stored", kind).config
    assert dependence(again, kind) == dependence(config, kind)


def test_a_grey_network_has_one_channel_whatever_the_order_says():
    config = load_spec("configs/faster_rcnn/tiny.txt", "faster_rcnn").config
    image = config.model_config.input_image_config
    order = "model_config.input_image_config.image_channel_order"
    values = set()
    for image.image_channel_order in ("bgr", "l"):
        image.image_type = "GRAY_SCALE"
        values.add(dependence(config, "faster_rcnn")[order])
    assert values == {"l"}


def test_models_of_any_rule_by_which_all_anchors_propose_are_the_same():
    def outside(value):
        config = load_spec("configs/faster_rcnn/tiny.txt", "faster_rcnn").config
        config.training_config.outside_anchors = value
        return dependence(config, "faster_rcnn")["training_config.outside_anchors"]

    assert outside("train") == outside("auto")
    assert outside("ignore") != outside("auto")
