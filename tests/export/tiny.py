"""Tiny experiments of both detectors with random weights that behave like trained ones."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import onnx

from rcnn_jax.export.contracts import make_header, outputs_of
from rcnn_jax.export.lowering.dense import NCHW
from rcnn_jax.export.lowering.jaxpr_onnx import trace
from rcnn_jax.models.builder import BackboneOptions
from rcnn_jax.models.faster_rcnn import FasterRcnn
from rcnn_jax.models.heads import PREDICTORS
from rcnn_jax.models.mask_rcnn import MaskRcnn
from rcnn_jax.models.variables import narrowed
from rcnn_jax.ops.anchors import cell_sizes_from_octaves, cell_sizes_from_scales
from rcnn_jax.ops.box_coder import BoxCoder
from rcnn_jax.settings.data import GeometrySettings
from rcnn_jax.settings.detection import (
    DetectionSettings,
    ProposalSettings,
    RoiSamplingSettings,
    RpnTargetSettings,
)
from rcnn_jax.settings.network import AnchorConvention, PixelSettings
from rcnn_jax.tasks.families import family
from rcnn_jax.tasks.faster_rcnn.task import FasterRcnnTask
from rcnn_jax.tasks.mask_rcnn.task import MaskRcnnTask
from rcnn_jax.tasks.task import TestSettings
from rcnn_jax.tasks.two_stage import LossSettings, TwoStageSettings
from tests.models.tiny import random_variables

NAMES = ("disc", "rod", "star")
CANVAS = (128, 192)
BGR = PixelSettings(channel_order="bgr", mean=(103.939, 116.779, 123.68), std=(57.0,) * 3)
RGB = PixelSettings(channel_order="rgb", mean=(123.675, 116.28, 103.53), std=(57.12,) * 3)


def test_settings(*, score=0.05, detections=12, pre_nms=60, post_nms=20, nms=0.5):
    return TestSettings(
        proposals=ProposalSettings(pre_nms=pre_nms, post_nms=post_nms, min_size=1.0),
        detections=DetectionSettings(
            score_threshold=score, nms_threshold=nms, max_detections=detections
        ),
    )


test_settings.__test__ = False


def faster_rcnn(arch="resnet:10", *, canvas=CANVAS, test=None, width=0.125, options=None):
    """An experiment as far as the exporter reads it."""
    cells = cell_sizes_from_scales((16, 32), (1.0, 0.5))
    model = FasterRcnn(
        arch=arch,
        num_classes=len(NAMES),
        anchors_per_cell=len(cells),
        pool_size=3,
        options=options or BackboneOptions(),
    )
    task = FasterRcnnTask(
        model=narrowed(model, width),
        class_names=NAMES,
        pixels=BGR,
        settings=_settings(((4, cells),), (4,), 3),
        loss_weight_pairs=(),
    )
    return _experiment("faster_rcnn", task, canvas, test, None)


def mask_rcnn(
    arch="resnet:10", *, canvas=CANVAS, test=None, width=0.125, include_mask=True, unused=()
):
    """An experiment as far as the exporter reads it."""
    cells = tuple(
        (level, cell_sizes_from_octaves(8, 2**level, 1, ((1.0, 1.0), (1.4, 0.7))))
        for level in range(2, 7)
    )
    model = MaskRcnn(
        arch=arch,
        num_classes=len(NAMES),
        anchors_per_cell=2,
        mlp_head_dim=64,
        include_mask=include_mask,
    )
    task = MaskRcnnTask(
        model=narrowed(model, width),
        class_names=NAMES,
        unused_classes=unused,
        pixels=RGB,
        settings=_settings(cells, (2, 3, 4, 5), 7),
        loss_weight_pairs=(),
    )
    return _experiment("mask_rcnn", task, canvas, test, (3, 7, 9))


def lively_variables(experiment, seed=0, predictors=0.05):
    """Random weights: batch norm does something, predictors are as calm as freshly drawn ones."""
    rng = np.random.default_rng(seed)
    variables = random_variables(experiment.task.model, seed)

    def fill(path, leaf):
        layer, name = path[-2].key, path[-1].key
        if name == "kernel":
            return leaf * predictors if layer in PREDICTORS else leaf
        if name in ("gamma", "moving_variance"):
            return jnp.asarray(rng.uniform(0.5, 1.0, leaf.shape), jnp.float32)
        return jnp.asarray(rng.normal(0, 0.1, leaf.shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(fill, variables)


def graph(experiment, *, contract="plain", predictors=0.3, batch=None):
    """(FP32 ONNX model, header) of an experiment with lively weights, not checked."""
    variables = lively_variables(experiment, predictors=predictors)
    header = make_header(experiment, contract, batch)
    function = outputs_of(experiment, variables, contract)
    shape = (batch, *header.canvas, experiment.task.pixels.channels)
    traced = trace(function, family(experiment.kind).input_name, shape, NCHW)
    return traced.to_model("detector", header.to_metadata()), header


@functools.cache
def _default_graph(kind):
    model, header = graph({"faster_rcnn": faster_rcnn, "mask_rcnn": mask_rcnn}[kind]())
    return model.SerializeToString(), header


def default_graph(kind):
    """(FP32 ONNX model, header) of a tiny `faster_rcnn` or `mask_rcnn`; the model is the caller's own.

    Tests change what they get, and which ones share a process is chance.
    """
    content, header = _default_graph(kind)
    return onnx.load_model_from_string(content), header


def images(count, canvas=CANVAS, seed=0):
    """Coarse random pictures u8[count h w 3]."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, canvas[0] // 16, canvas[1] // 16, 3), np.uint8)
    return coarse.repeat(16, axis=1).repeat(16, axis=2)


def _settings(cells, roi_levels, roi_size):
    return TwoStageSettings(
        cell_sizes=cells,
        anchor_convention=AnchorConvention(),
        rpn_coder=BoxCoder(),
        box_coder=BoxCoder(weights=(10.0, 10.0, 5.0, 5.0)),
        rpn_targets=RpnTargetSettings(),
        train_proposals=ProposalSettings(pre_nms=60, post_nms=20),
        roi_sampling=RoiSamplingSettings(batch_per_image=8),
        roi_size=roi_size,
        roi_levels=roi_levels,
        losses=LossSettings(),
    )


def _experiment(kind, task, canvas, test, category_ids):
    return SimpleNamespace(
        kind=kind,
        task=task,
        geometry=GeometrySettings(mode="stretch", height=canvas[0], width=canvas[1]),
        inference=test or test_settings(),
        category_ids=category_ids,
        depends={},
    )
