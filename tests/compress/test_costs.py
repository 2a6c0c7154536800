"""Predicted costs against those of the network that is really built, and of the file really written."""

import numpy as np
import pytest

from rcnn_jax.compress.costs import costs_of
from rcnn_jax.compress.criteria import PruneSettings, filters_of, kept_classes, score_groups
from rcnn_jax.compress.groups import find_groups, flat, kernel_of
from tests.compress.test_every_network import narrower
from tests.export import tiny

CANVAS = (64, 64)


def everything(network):
    return costs_of(network.channels, network.shapes, np.ones(network.count, bool))


@pytest.mark.parametrize(
    "experiment",
    [
        tiny.faster_rcnn("resnet:10", canvas=CANVAS),
        tiny.faster_rcnn("vgg:16", canvas=CANVAS),
        tiny.faster_rcnn("mobilenet_v2", canvas=CANVAS),
        tiny.mask_rcnn(canvas=CANVAS),
    ],
    ids=["resnet:10", "vgg:16", "mobilenet_v2", "mask"],
)
def test_predicted_parameters_and_flop_are_those_of_the_smaller_network(experiment):
    network = find_groups(experiment, canvas=CANVAS)
    arrays = flat(tiny.lively_variables(experiment))
    filters = {layer: filters_of(arrays[kernel_of(layer)]) for layer in network.widths}
    settings = PruneSettings(granularity=2, min_filters=2)
    kept = kept_classes(network, score_groups(network, filters, settings), 0.9, settings)
    predicted = costs_of(network.channels, network.shapes, kept)
    task = narrower(experiment, network, kept)
    smaller = type(experiment)(**{**vars(experiment), "task": task})
    built = everything(find_groups(smaller, canvas=CANVAS))
    assert predicted.parameters == built.parameters < everything(network).parameters
    assert abs(predicted.flops - built.flops) <= 1e-6 * built.flops
    assert predicted.onnx_bytes == built.onnx_bytes


@pytest.mark.parametrize(("kind", "canvas"), [("boxes", (96, 96)), ("masks", (64, 64))])
def test_the_predicted_file_is_near_the_written_one(request, kind, canvas):
    files = request.getfixturevalue(f"{kind}_files")
    predicted = everything(find_groups(files.experiment, canvas=canvas)).onnx_bytes
    assert abs(predicted / files.graph.stat().st_size - 1) < 0.15
