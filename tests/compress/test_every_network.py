"""Filters that do nothing, removed from every network: its outputs stay what they were."""

import dataclasses

import flax.linen as nn
import jax
import numpy as np
import pytest

from rcnn_jax.compress.criteria import PruneSettings, filters_of, kept_classes, score_groups
from rcnn_jax.compress.groups import Network, find_groups, flat, kept_leaves, kernel_of
from rcnn_jax.compress.report import widths_at
from rcnn_jax.models.backbones import BACKBONES
from rcnn_jax.models.builder import BackboneOptions
from rcnn_jax.models.channels import ChannelPlan
from rcnn_jax.models.heads import PREDICTORS
from rcnn_jax.tasks import recipe
from tests.export import tiny

QUICK = {"vgg16", "mobilenet_v2", "darknet:19"}
"""A ResNet is among the tests of options; joins (GoogLeNet) and gates (EfficientNet) take longer."""
SIDE = 64
BOXES = np.array([[[4, 8, 40, 60], [0, 0, 30, 33]]], np.float32)


def with_dead_channels(network: Network, arrays, seed=0):
    """Zeroes every leaf of half the channels of each group; returns the leaves and what is alive."""
    rng = np.random.default_rng(seed)
    alive = np.ones(network.count, bool)
    for group in network.groups:
        if group.pin is None and len(group.classes) > 1:
            dead = rng.permutation(group.classes)[: len(group.classes) // 2]
            alive[dead] = False
    dead_leaves = {}
    for name, array in arrays.items():
        array = np.array(array)
        classes = network.channels.leaves[name]
        last = classes[-1]
        if last is not None and not name.endswith("moving_variance"):
            array[..., ~alive[last]] = 0.0
        dead_leaves[name] = array
    return dead_leaves, alive


def narrower(experiment, network, kept):
    plan = {**experiment.task.model.channels.to_json()}
    plan |= {k: w for k, w in widths_at(network, kept).items() if k not in PREDICTORS}
    task = experiment.task
    model = task.model.clone(channels=ChannelPlan.from_json(plan))
    return dataclasses.replace(task, model=model)


def stages(task, leaves, images):
    """Leaves of what the stages compute: RPN, box head and masks of boxes that stay the same."""
    variables: dict = {}
    for name, array in leaves.items():
        group, layer, leaf = name.split("/")
        variables.setdefault(group, {}).setdefault(layer, {})[leaf] = array

    def run(model, images):
        features = model.extract(images, train=False)
        crops = recipe.roi_crops(features, BOXES, task.settings.roi_size, task.settings)
        outputs = [model.rpn(features), model.classify(crops, train=False)]
        if hasattr(model, "segment"):
            crops = recipe.roi_crops(features, BOXES, model.mask_crop_size, task.settings)
            outputs.append(model.segment(crops))
        return outputs

    return jax.tree.leaves(jax.jit(nn.apply(run, task.model))(variables, images))


def assert_dead_channels_leave_unseen(experiment):
    network = find_groups(experiment, canvas=(SIDE, SIDE), spare_pyramid=False)
    arrays = flat(tiny.lively_variables(experiment, predictors=1.0))
    leaves, alive = with_dead_channels(network, arrays)
    filters = {layer: filters_of(leaves[kernel_of(layer)]) for layer in network.widths}
    settings = PruneSettings(granularity=1, min_filters=1)
    kept = kept_classes(network, score_groups(network, filters, settings), 1e-12, settings)
    free = np.concatenate([g.classes for g in network.groups if g.pin is None])
    np.testing.assert_array_equal(kept[free], alive[free])  # the dead are found, and nobody else
    assert not kept.all()

    images = np.random.default_rng(2).normal(0, 1, (1, SIDE, SIDE, 3)).astype(np.float32)
    before = stages(experiment.task, leaves, images)
    after = stages(
        narrower(experiment, network, kept), kept_leaves(network.channels, leaves, kept), images
    )
    for one, other in zip(before, after, strict=True):
        scale = max(1.0, float(np.abs(one).max()))
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-5 * scale)
        assert np.abs(one).max() > 1e-3, "an output that is zero anyway proves nothing"


@pytest.mark.parametrize(
    "arch",
    [arch if arch in QUICK else pytest.param(arch, marks=pytest.mark.long) for arch in BACKBONES],
)
def test_dead_filters_of_every_backbone_are_removed_without_a_trace(arch):
    assert_dead_channels_leave_unseen(tiny.faster_rcnn(arch, canvas=(SIDE, SIDE)))


def test_dead_filters_of_mask_rcnn_are_removed_without_a_trace():
    assert_dead_channels_leave_unseen(tiny.mask_rcnn(canvas=(SIDE, SIDE)))


@pytest.mark.parametrize("norm", ["bn", "group"])
def test_dead_filters_of_the_newer_architecture_are_removed_without_a_trace(norm):
    experiment = tiny.mask_rcnn(canvas=(SIDE, SIDE))
    model = experiment.task.model.clone(rpn_depth=2, box_convs=4, fpn_norm=norm, head_norm=norm)
    plan = {**model.channels.to_json(), "rpn-conv-l1": 32}
    plan |= {f"box-conv-l{index}": 16 + 8 * index for index in range(4)}
    model = model.clone(channels=ChannelPlan.from_json(plan))
    experiment.task = dataclasses.replace(experiment.task, model=model)
    assert_dead_channels_leave_unseen(experiment)


def test_a_mask_rcnn_of_one_class_is_prunable():
    experiment = tiny.mask_rcnn(canvas=(SIDE, SIDE))
    task = experiment.task
    model = task.model.clone(num_classes=1)
    experiment.task = dataclasses.replace(task, model=model, class_names=task.class_names[:1])
    groups = find_groups(experiment, canvas=(SIDE, SIDE)).groups
    free = {layer for group in groups if group.pin is None for layer in group.layers}
    assert {"conv1", "fc6", "mask-conv-l0", "conv5-mask"} <= free


@pytest.mark.parametrize(
    "options",
    [
        BackboneOptions(use_pooling=True, all_projections=False),
        BackboneOptions(use_bias=True),
        pytest.param(BackboneOptions(activation="relu"), marks=pytest.mark.long),
    ],
    ids=["one chain of sums", "biases", "relu"],
)
def test_options_of_a_backbone_change_its_groups_and_not_the_law(options):
    arch = "efficientnet:b0" if options.activation == "relu" else "resnet:18"
    assert_dead_channels_leave_unseen(tiny.faster_rcnn(arch, canvas=(SIDE, SIDE), options=options))
