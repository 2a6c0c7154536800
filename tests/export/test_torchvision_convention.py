"""A network with torchvision's or detectron2's conventions exports to the same standard operators."""

import dataclasses

import jax
import numpy as np
import onnx
import pytest

from rcnn_jax.export.contracts import make_header, outputs_of
from rcnn_jax.export.lowering.jaxpr_onnx import trace
from rcnn_jax.export.verification.parity import compare_detections
from rcnn_jax.runtime import bundle
from rcnn_jax.runtime.onnx_runtime import open_session, predictor
from rcnn_jax.tasks.families import family
from rcnn_jax.tasks.mask_rcnn.conventions import CONVENTIONS
from tests.export import tiny


@pytest.mark.parametrize("name", ["torchvision", "detectron2"])
def test_the_graph_gives_the_detections_of_jax(name):
    convention = CONVENTIONS[name]
    experiment = tiny.mask_rcnn()
    task = experiment.task
    experiment.task = dataclasses.replace(
        task,
        model=task.model.clone(convention=convention.convolution),
        pixels=convention.pixels,
        settings=dataclasses.replace(
            task.settings,
            anchor_convention=convention.anchors,
            roi_aligned=convention.roi_aligned,
            roi_samples=convention.roi_samples,
        ),
    )
    variables = tiny.lively_variables(experiment)
    header = make_header(experiment, "tao", None)
    outputs = outputs_of(experiment, variables, "tao")
    graph = trace(outputs, family("mask_rcnn").input_name, (None, *header.canvas, 3), (0, 3, 1, 2))
    model = graph.to_model("test", header.to_metadata()).SerializeToString()

    nodes = [n for n in onnx.load_from_string(model).graph.node if n.op_type == "RoiAlign"]
    ratios = {a.i for n in nodes for a in n.attribute if a.name == "sampling_ratio"}
    assert ratios == {convention.roi_samples}

    pictures = tiny.images(2, seed=7)
    reference = bundle.jax_predictor(experiment, experiment.inference)(variables)
    wanted = jax.tree.map(np.asarray, reference(pictures)[0])
    found = predictor(open_session(model, "test"), header)(pictures)[0]
    assert wanted.valid.sum() > 3
    parity = compare_detections(wanted, found)
    assert parity.unmatched == 0
    assert parity.box <= 1e-3 and parity.score <= 1e-5 and parity.mask <= 1e-4
