import json

import pytest

from rcnn_jax.models.channels import ChannelPlan


def test_empty_plan_answers_with_the_published_width():
    assert ChannelPlan().width("conv1", 64) == 64


def test_named_layer_gets_the_width_of_the_plan():
    plan = ChannelPlan({"conv1": 16})
    assert plan.width("conv1", 64) == 16
    assert plan.width("conv2", 128) == 128


def test_plans_are_equal_and_hash_alike_whatever_the_order():
    one, other = ChannelPlan({"a": 1, "b": 2}), ChannelPlan((("b", 2), ("a", 1)))
    assert one == other and hash(one) == hash(other)


def test_json_round_trip_is_the_identity():
    plan = ChannelPlan({"block_1a_conv_1": 24, "conv1": 8})
    assert ChannelPlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


@pytest.mark.parametrize("width", [0, -3, 1.5, True])
def test_impossible_width_is_refused_by_name(width):
    with pytest.raises(ValueError, match=f"layer 'conv1' cannot have {width!r} channels"):
        ChannelPlan({"conv1": width})
