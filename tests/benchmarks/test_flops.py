"""The count against what can be counted by hand."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from benchmarks.flops import flops_by_stage
from benchmarks.stages import BACKWARD, FORWARD, direction_of, stage_of


def test_product_counts_two_per_multiplication():
    counts = flops_by_stage(lambda a, b: a @ b, jnp.ones((3, 5)), jnp.ones((5, 7)))
    assert counts == {("other", FORWARD): 2 * 3 * 5 * 7}


def test_convolution_counts_its_taps_but_not_those_on_padding():
    def conv(x, kernel, padding):
        return lax.conv(x, kernel, (1, 1), padding)

    x, kernel = jnp.ones((2, 3, 8, 6)), jnp.ones((5, 3, 3, 3))
    channels = 2 * 2 * 3 * 5  # FLOP of an output, images, channels in and out
    valid = flops_by_stage(lambda x, k: conv(x, k, "VALID"), x, kernel)
    assert valid == {("other", FORWARD): channels * (6 * 3) * (4 * 3)}
    same = flops_by_stage(lambda x, k: conv(x, k, "SAME"), x, kernel)
    assert same == {("other", FORWARD): channels * (8 * 3 - 2) * (6 * 3 - 2)}


@pytest.mark.parametrize("strides", [1, 2])
def test_both_gradients_of_a_convolution_take_as_much_as_itself(strides):
    def conv(x, kernel):
        return lax.conv(x, kernel, (strides, strides), "SAME")

    x, kernel = jnp.ones((2, 3, 8, 6)), jnp.ones((5, 3, 3, 3))
    one = flops_by_stage(conv, x, kernel)["other", FORWARD]
    both = flops_by_stage(jax.grad(lambda x, k: conv(x, k).sum(), (0, 1)), x, kernel)
    assert both["other", BACKWARD] == 2 * one


def test_loop_counts_its_rounds_and_condition_its_dearer_branch():
    def function(a):
        a = lax.scan(lambda x, _: (x @ x, None), a, length=4)[0]
        return lax.cond(a[0, 0] > 0, lambda x: x @ x @ x, lambda x: x, a)

    assert sum(flops_by_stage(function, jnp.ones((3, 3))).values()) == (4 + 2) * 2 * 27


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("jit(f)/jvp(MaskRcnn.extract)/trunk/block_1a_conv_1/conv_general_dilated", "backbone"),
        ("jit(f)/jvp(MaskRcnn.extract)/fpn/l2/conv_general_dilated", "FPN"),
        ("jit(f)/jvp(MaskRcnn.rpn)/rpn_head/rpn/conv_general_dilated", "RPN head"),
        ("jit(f)/stage(propose)/vmap(jit(rcnn.ranked_nms{}))/while", "proposals"),
        ("jit(f)/transpose(jvp(stage(pool)))/jit(rcnn.roi_align{})/scatter-add", "RoIAlign"),
        ("jit(f)/jvp(MaskRcnn.segment)/mask_head/mask-conv-l0/add", "mask head"),
        ("jit(f)/jvp(FasterRcnn.classify)/tail/block_4a_conv_1/add", "box head"),
        ("jit(f)/stage(update)/mul", "optimizer"),
        ("jit(f)/mul", "other"),
    ],
)
def test_stage_is_told_from_the_name(name, stage):
    assert stage_of(name) == stage
    assert direction_of(name) == (BACKWARD if "transpose" in name else FORWARD)
