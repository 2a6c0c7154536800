"""Every row of the table: parameter counts, names of blocks, alignment, a tiny forward pass."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.errors import SpecError
from rcnn_jax.models import (
    BACKBONES,
    BackboneOptions,
    FasterRcnn,
    find_backbone,
    frozen_layers,
    narrowed,
    parameter_order,
)
from tests.models.tiny import initial_leaves, random_variables, variable_shapes

HEADS = {"rpn_conv1", "rpn_out_class", "rpn_out_regress", "dense_class_td", "dense_regress_td"}
FAMILIES = (
    "resnet:10",
    "resnet101",
    "vgg:16",
    "vgg16",
    "googlenet",
    "mobilenet_v1",
    "mobilenet_v2",
    "darknet:19",
    "darknet:53",
    "efficientnet:b0",
)
PAPER = BackboneOptions(use_pooling=True, all_projections=False)
VGG_DENSE = (7 * 7 * 512 * 4096 + 4096) + (4096 * 4096 + 4096)
# Trainable parameters of the published classifier without its last dense layer.
PUBLISHED = {
    # 11,689,512 - 513,000 of the usual ResNet-18, and 64*64 + 2*64 of the projection in block 1a,
    # which the template has and the paper has not; ResNet-34 likewise.
    "resnet:18": 11_176_512 + 4_224,
    "resnet:34": 21_284_672 + 4_224,
    "resnet:50": 23_508_032,
    "resnet:101": 42_500_160,
    # The biases of Keras: 42,552,832 of the "notop" model.
    "resnet101": 42_552_832,
    # Keras "notop" 14,714,688 has 4,224 biases; batch norm has twice as many numbers instead.
    "vgg:16": 14_714_688 + 4_224 + VGG_DENSE,
    "vgg:19": 20_024_384 + 5_504 + VGG_DENSE,
    "vgg16": 14_714_688 + VGG_DENSE,
    # 6,998,552 - 1,025,000 with 7,280 biases; batch norm has twice as many numbers instead.
    "googlenet": 5_973_552 + 7_280,
    "mobilenet_v1": 3_206_976,
    "mobilenet_v2": 2_223_872,
    "darknet:19": 20_842_376 - 1_025_000,
    "darknet:53": 41_609_928 - 1_025_000,
    "efficientnet:b0": 4_007_548,
    "efficientnet:b1": 6_513_184,
    "efficientnet:b2": 7_700_994,
    "efficientnet:b3": 10_696_232,
    "efficientnet:b4": 17_548_616,
    "efficientnet:b5": 28_340_784,
    "efficientnet:b6": 40_735_704,
    "efficientnet:b7": 63_786_960,
}


def backbone_parameters(arch, options):
    order = parameter_order(FasterRcnn(arch, 3, 9, options=options))
    return {name: shape for name, shape in order if name.split("/")[0] not in HEADS}


@pytest.mark.parametrize("arch", PUBLISHED)
def test_published_widths_have_the_published_number_of_parameters(arch):
    options = BackboneOptions(use_pooling=True, all_projections=False, use_bias=arch == "resnet101")
    shapes = backbone_parameters(arch, options).values()
    assert sum(math.prod(shape) for shape in shapes) == PUBLISHED[arch]


def test_resnet_10_counted_by_hand():
    def block(inputs, width):
        first, second = 9 * inputs * width, 9 * width * width
        return first + second + inputs * width + 3 * 2 * width

    stem = 7 * 7 * 3 * 64 + 2 * 64
    expected = stem + block(64, 64) + block(64, 128) + block(128, 256) + block(256, 512)
    shapes = backbone_parameters("resnet:10", PAPER).values()
    assert sum(math.prod(shape) for shape in shapes) == expected


def test_projection_of_every_shortcut_is_an_option():
    few = backbone_parameters("resnet:18", PAPER)
    many = backbone_parameters("resnet:18", BackboneOptions(all_projections=True))
    assert "block_2b_conv_shortcut/kernel" not in few
    assert many["block_2b_conv_shortcut/kernel"] == (1, 1, 128, 128)
    assert "block_2a_conv_shortcut/kernel" in few


def test_biases_are_an_option():
    without = backbone_parameters("resnet:10", BackboneOptions())
    assert not any(name.endswith("/bias") for name in without)
    assert "conv1/bias" in backbone_parameters("resnet:10", BackboneOptions(use_bias=True))


def test_last_unit_of_block_three_of_resnet_101_is_lettered_w():
    names = backbone_parameters("resnet:101", PAPER)
    assert "block_3w_conv_3/kernel" in names and "block_3x_conv_3/kernel" not in names


def test_unknown_arch_lists_all_and_the_nearest():
    with pytest.raises(SpecError) as error:
        find_backbone("resnet18")
    message = str(error.value)
    assert message.startswith("unknown arch 'resnet18': expected one of resnet:10, resnet:18,")
    assert message.endswith("Did you mean 'resnet:18'?")


@pytest.mark.parametrize("arch", BACKBONES)
def test_every_freezable_block_of_the_trunk_has_layers_and_heads_have_none(arch):
    layers = {name.split("/")[0] for name, _ in parameter_order(FasterRcnn(arch, 3, 9))}
    ids = {find_backbone(arch).block_of(layer) for layer in layers - HEADS}
    assert set(find_backbone(arch).freeze_ids) <= ids
    assert {find_backbone(arch).block_of(layer) for layer in HEADS} == {None}


@pytest.mark.parametrize(
    ("arch", "block", "inside", "outside"),
    [
        ("resnet:18", 0, "bn_conv1", "block_1a_conv_1"),
        ("resnet:18", 1, "block_1b_bn_2", "block_2a_conv_1"),
        ("resnet101", 1, "conv2_block3_0_bn", "conv1_conv"),
        ("vgg:16", 5, "block_5c_bn_1", "block_4a_conv_1"),
        ("vgg16", 1, "block1_conv2", "block2_conv1"),
        ("googlenet", 0, "bn_conv2_reduce", "inception_3a_1x1"),
        ("googlenet", 7, "inception_4e_pool_proj_bn", "inception_5a_1x1"),
        ("mobilenet_v1", 11, "conv_pw_11_bn", "conv_dw_1"),
        ("mobilenet_v2", 1, "expanded_conv_project", "block_1_expand"),
        ("mobilenet_v2", 13, "block_12_project_bn", "block_13_expand"),
        ("darknet:19", 4, "b4_conv5_bn", "b5_conv1"),
        ("darknet:53", 1, "conv2", "conv1"),
        ("darknet:53", 2, "b2_conv1_2", "conv2"),
        ("efficientnet:b0", 0, "stem_bn", "block1a_dwconv"),
        ("efficientnet:b0", 2, "block2b_se_expand", "block1a_dwconv"),
    ],
)
def test_freezing_a_block_freezes_its_layers_only(arch, block, inside, outside):
    frozen = frozen_layers(arch, [block])
    assert frozen(inside) and not frozen(outside) and not frozen("rpn_conv1")


def test_nothing_is_frozen_without_blocks():
    frozen = frozen_layers("resnet:18", [])
    assert not frozen("conv1") and not frozen("rpn_conv1")


def test_block_that_does_not_exist_cannot_be_frozen():
    with pytest.raises(SpecError, match=r"freeze_blocks = \[0, 6\] does not exist in 'vgg:16'"):
        frozen_layers("vgg:16", [6, 0, 1])


def centred(path, leaf):
    """Weights with which a convolution reads only the pixel under the centre of its kernel."""
    if path[-1].key in ("gamma", "moving_variance"):
        return np.ones(leaf.shape, np.float32)
    value = np.zeros(leaf.shape, np.float32)
    if path[-1].key == "kernel" and value.ndim == 4 and "pool_proj" not in path[-2].key:
        value[value.shape[0] // 2, value.shape[1] // 2] = 1 / value.shape[2]
    return value


# Where a cell looks, in pixels from the corner of its 16 x 16 patch, on an image that grows to the
# bottom right: symmetric convolutions look at pixel 0; a 2x2 pool of stride s adds s/2, the 3x3
# pool at stride 4 adds 2; TensorFlow's padding of four strided convolutions adds 1 + 2 + 4 + 8.
@pytest.mark.parametrize(
    ("arch", "options", "offset"),
    [
        ("resnet:18", PAPER, 2),
        ("resnet:18", BackboneOptions(), 0),
        ("resnet101", PAPER, 2),
        ("vgg:16", PAPER, 15),
        ("vgg:16", BackboneOptions(), 0),
        ("vgg16", PAPER, 15),
        ("googlenet", PAPER, 14),
        ("mobilenet_v1", PAPER, 0),
        ("mobilenet_v2", PAPER, 0),
        ("darknet:19", PAPER, 15),
        ("darknet:53", PAPER, 0),
        ("efficientnet:b0", PAPER, 15),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_cell_of_stride_sixteen_looks_at_its_own_patch(arch, options, offset):
    model = narrowed(FasterRcnn(arch, 3, 9, options=options), 1 / 64)
    variables = jax.tree_util.tree_map_with_path(centred, variable_shapes(model))
    ramp = jnp.arange(1.0, 129.0)[:, None] + jnp.arange(112.0)[None, :]
    images = jnp.tile(ramp[None, :, :, None], (1, 1, 1, 3))

    @jax.jit
    @jax.grad
    def response(images):
        features = model.apply(variables, images, False, method=model.extract)
        assert features[4].shape[:3] == (1, 8, 7)
        return features[4][0, 3, 5].sum()

    seen = np.abs(response(images)).sum((0, 3))
    assert np.unravel_index(seen.argmax(), seen.shape) == (3 * 16 + offset, 5 * 16 + offset)


@pytest.mark.parametrize("pool_size_2x", [False, True], ids=["1x", "2x"])
@pytest.mark.parametrize("arch", FAMILIES)
def test_tail_turns_a_crop_of_its_size_into_a_vector(arch, pool_size_2x):
    model = FasterRcnn(arch, 3, 9, pool_size=3, pool_size_2x=pool_size_2x)
    side = 6 if pool_size_2x else 3
    assert model.crop_size == side
    shapes = variable_shapes(model)
    channels = shapes["params"]["rpn_conv1"]["kernel"].shape[2]
    crops = jax.ShapeDtypeStruct((2, 5, side, side, channels), jnp.float32)
    outputs = jax.eval_shape(
        lambda v, c: model.apply(v, c, False, method=model.classify), shapes, crops
    )
    assert outputs.logits.shape == (2, 5, 4) and outputs.deltas.shape == (2, 5, 3, 4)


# Compiling the 101 layers takes long, and their kind is among the others.
@pytest.mark.parametrize("arch", [arch for arch in FAMILIES if arch != "resnet101"])
def test_tiny_network_trains_on_the_batch_and_stays_finite(arch):
    rates = {"dropout_rate": 0.5, "drop_connect_rate": 0.2}
    model = narrowed(FasterRcnn(arch, 3, 9, 3, options=BackboneOptions(**rates)), 1 / 64)
    variables = random_variables(model)
    images = 50 * jax.random.normal(jax.random.key(1), (2, 48, 32, 3))
    keys = jax.random.split(jax.random.key(2), 2)

    @jax.jit
    def run(variables, images, keys):
        features, updated = model.apply(
            variables, images, True, keys, method=model.extract, mutable=["batch_stats"]
        )
        crops = jnp.stack([features[4][:, :3, :2], features[4][:, :3, :2]], axis=1)
        crops = jnp.pad(crops, ((0, 0), (0, 0), (0, 0), (0, 1), (0, 0)))
        outputs, tail = model.apply(
            variables, crops, True, keys, method=model.classify, mutable=["batch_stats"]
        )
        return features, outputs, updated, tail

    features, outputs, updated, tail_updated = run(variables, images, keys)
    assert features[4].shape[:3] == (2, 3, 2)
    for leaf in jax.tree.leaves((features, outputs)):
        assert leaf.dtype == jnp.float32 and np.isfinite(leaf).all()
    if arch == "vgg16":  # it has no batch norm
        return
    trunk, tail = moved_layers(variables, updated), moved_layers(variables, tail_updated)
    assert trunk and not trunk & tail
    has_norm_in_tail = not arch.startswith("vgg")
    assert bool(tail) == has_norm_in_tail


def moved_layers(variables, updated):
    """Names of the batch norms whose moving averages a stage has changed."""
    old, new = variables["batch_stats"], updated["batch_stats"]
    return {
        layer for layer in old if (old[layer]["moving_mean"] != new[layer]["moving_mean"]).any()
    }


def test_convolutions_of_a_backbone_start_as_he_normal_by_fan_out():
    model = narrowed(FasterRcnn("resnet:10", 3, 9, pool_size=2), 1 / 2)
    stem, inner = initial_leaves(model, "conv1/kernel", "block_2a_conv_2/kernel")
    assert abs(float(stem.std()) / (2 / (7 * 7 * 32)) ** 0.5 - 1) < 0.05
    assert abs(float(inner.std()) / (2 / (3 * 3 * 64)) ** 0.5 - 1) < 0.05


# vgg16 has no batch norm; the 101 layers take long to compile, and their kind is among the others.
@pytest.mark.parametrize("arch", [a for a in FAMILIES if a not in ("vgg16", "resnet101")])
def test_a_step_with_frozen_statistics_computes_what_prediction_does(arch):
    """The step folds batch norm into kernels, prediction does not."""
    model = narrowed(FasterRcnn(arch, 3, 9, 3, options=BackboneOptions(freeze_bn=True)), 1 / 64)
    variables = random_variables(model)
    images = 50 * jax.random.normal(jax.random.key(1), (1, 32, 32, 3))

    @jax.jit
    def both(variables, images):
        def run(train):
            features = model.apply(variables, images, train, method=model.extract)
            crops = jnp.pad(features[4][:, None], ((0, 0), (0, 0), (0, 1), (0, 1), (0, 0)))
            return features, model.apply(variables, crops, train, method=model.classify)

        return run(True), run(False)

    step, prediction = both(variables, images)
    for one, other in zip(jax.tree.leaves(step), jax.tree.leaves(prediction), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
