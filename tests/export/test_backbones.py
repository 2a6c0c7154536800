"""Every backbone through the exporter: features and box head, at a small width."""

import jax
import numpy as np
import pytest

from rcnn_jax.models.backbones import BACKBONES
from rcnn_jax.models.builder import BackboneOptions
from tests.export import tiny
from tests.export.run import assert_same, ops_of

NCHW = (0, 3, 1, 2)
QUICK = {
    "resnet:18",
    "resnet:50",
    "vgg:16",
    "vgg16",
    "googlenet",
    "mobilenet_v1",
    "mobilenet_v2",
    "darknet:19",
    "efficientnet:b0",
}
OPTIONS = {
    "pooling": BackboneOptions(use_pooling=True, all_projections=False),
    "biases": BackboneOptions(use_bias=True),
}


def assert_both_halves(arch, options=None):
    experiment = tiny.faster_rcnn(arch, options=options)
    model, variables = experiment.task.model, tiny.lively_variables(experiment)
    rng = np.random.default_rng(3)
    images = rng.normal(0, 1, (2, 32, 48, 3)).astype(np.float32)

    def trunk(x):
        return model.apply(variables, x, train=False, method="extract")[4]

    ops = ops_of(assert_same(trunk, images, perm=NCHW, scale=1e-5))
    assert ops.count("Transpose") == 1, "the one that shows the features as NHWC"
    assert "BatchNormalization" not in ops
    assert not {"Add", "Mul"} & set(ops) or arch not in ("vgg:16", "vgg16")

    side, channels = model.crop_size, jax.eval_shape(trunk, images).shape[-1]
    crops = rng.normal(0, 1, (2, side, side, channels)).astype(np.float32)

    def head(x):
        outputs = model.apply(variables, x[:, None], train=False, method="classify")
        return {"logits": outputs.logits, "deltas": outputs.deltas}

    graph = assert_same(head, crops, perm=NCHW, free_batch=False, scale=1e-5)
    assert not {"Transpose", "BatchNormalization"} & set(ops_of(graph))


@pytest.mark.parametrize(
    "arch",
    [arch if arch in QUICK else pytest.param(arch, marks=pytest.mark.slow) for arch in BACKBONES],
)
def test_every_backbone_exports(arch):
    assert_both_halves(arch)


@pytest.mark.parametrize("name", OPTIONS)
def test_the_options_of_a_backbone_export(name):
    assert_both_halves("resnet:10", OPTIONS[name])
