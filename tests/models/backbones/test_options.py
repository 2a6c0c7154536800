"""Which option of the spec changes which backbone, told from the traced programs."""

from functools import cache

import jax
import jax.numpy as jnp
import pytest

from rcnn_jax.errors import SpecError
from rcnn_jax.models import BackboneOptions, FasterRcnn, parameter_order
from tests.models.tiny import variable_shapes

CHANGES = {
    "use_pooling": True,
    "all_projections": False,
    "use_bias": True,
    "freeze_bn": True,
    "bn_momentum": 0.5,
    "dropout_rate": 0.5,
    "drop_connect_rate": 0.5,
    "activation": "relu",
}
# One backbone of each kind, a shallow one. The one unit per block of a ResNet-10 projects in any case;
# for deeper ones see test_layer_names.py.
HAS = {
    "resnet:10": {"use_pooling", "use_bias", "freeze_bn", "bn_momentum"},
    "vgg:16": {"use_pooling", "use_bias", "freeze_bn", "bn_momentum", "dropout_rate"},
    "vgg16": {"dropout_rate"},
    "googlenet": {"use_bias", "freeze_bn", "bn_momentum"},
    "mobilenet_v1": {"use_bias", "freeze_bn", "bn_momentum"},
    "mobilenet_v2": {"all_projections", "use_bias", "freeze_bn", "bn_momentum"},
    "darknet:19": {"use_bias", "freeze_bn", "bn_momentum"},
    "efficientnet:b0": CHANGES.keys() - {"use_pooling", "all_projections"},
}


@cache
def program(arch, train=True, **options):
    """The trunk and the tail in training, as text."""
    model = FasterRcnn(arch, 3, 9, 2, options=BackboneOptions(**options))
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 1))

    def both(variables, images, keys):
        def run(module, images):
            features = module.extract(images, train, keys)[4]
            return module.classify(features[:, None], train, keys)

        return model.apply(variables, images, method=run, mutable=["batch_stats"])

    return str(jax.make_jaxpr(both)(variable_shapes(model), images, keys))


@pytest.mark.parametrize("arch", HAS)
def test_options_of_other_families_change_nothing(arch):
    foreign = {name: value for name, value in CHANGES.items() if name not in HAS[arch]}
    assert program(arch, **foreign) == program(arch)


@pytest.mark.parametrize(
    ("arch", "option"),
    [
        (arch, option)
        for arch, options in HAS.items()
        for option in sorted(options)
        if option not in ("use_bias", "freeze_bn") or arch in ("vgg:16", "mobilenet_v1")
    ],
)
def test_every_option_of_the_family_changes_the_program(arch, option):
    assert program(arch, **{option: CHANGES[option]}) != program(arch)


@pytest.mark.parametrize("arch", ["vgg:16", "efficientnet:b0"])
def test_nothing_drops_in_evaluation(arch):
    dropping = program(arch, train=False, dropout_rate=0.5, drop_connect_rate=0.5)
    assert dropping == program(arch, train=False)


def test_projections_of_efficientnet_never_have_a_bias():
    order = parameter_order(
        FasterRcnn("efficientnet:b0", 3, 9, options=BackboneOptions(use_bias=True))
    )
    biased = {path.removesuffix("/bias") for path, _ in order if path.endswith("/bias")}
    assert {"stem_conv", "block2a_expand_conv", "block2a_dwconv", "top_conv"} <= biased
    assert not any(name.endswith("project_conv") for name in biased)


def test_biases_of_the_keras_resnet_stay_but_for_the_stem():
    def biased(use_bias):
        model = FasterRcnn("resnet101", 3, 9, options=BackboneOptions(use_bias=use_bias))
        paths = (path for path, _ in parameter_order(model) if path.endswith("_conv/bias"))
        return {path.split("/")[0] for path in paths}

    assert biased(True) - biased(False) == {"conv1_conv"}
    assert "conv5_block3_3_conv" in biased(False)


def test_unknown_activation_lists_the_choices():
    with pytest.raises(
        SpecError, match="unknown activation_type 'elu': expected one of swish, relu"
    ):
        program("efficientnet:b0", activation="elu")
