"""A network with torchvision's or detectron2's conventions exports to the same standard operators."""

import dataclasses

import jax
import numpy as np
import onnx
import pytest

from rcnn_jax.errors import UsageError
from rcnn_jax.export.contracts import make_header, outputs_of
from rcnn_jax.export.lowering.jaxpr_onnx import trace
from rcnn_jax.export.lowering.portable import Forms, to_portable
from rcnn_jax.export.plan import ExportOptions, make_plan
from rcnn_jax.export.verification.parity import compare_detections
from rcnn_jax.reporter import SILENT
from rcnn_jax.runtime import bundle
from rcnn_jax.runtime.onnx_runtime import open_session, predictor
from rcnn_jax.tasks.families import family
from rcnn_jax.tasks.mask_rcnn.conventions import CONVENTIONS
from tests.export import tiny


def tiny_experiment(name):
    """An untrained model of a convention."""
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
    return experiment


@pytest.mark.parametrize("name", ["torchvision", "detectron2"])
def test_the_graph_gives_the_detections_of_jax(name):
    experiment, convention = tiny_experiment(name), CONVENTIONS[name]
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
    assert wanted.valid.sum() > 3
    forms = [model]
    if convention.roi_samples:
        forms.append(to_portable(onnx.load_from_string(model)).SerializeToString())
    for form in forms:
        detections = predictor(open_session(form, "test"), header)(pictures)[0]
        parity = compare_detections(wanted, detections)
        assert parity.unmatched == 0
        assert parity.box <= 1e-3 and parity.score <= 1e-5 and parity.mask <= 1e-4


def test_adaptive_samples_have_no_portable_form_and_the_file_is_not_read_for_it(tmp_path):
    class Unread:
        path = tmp_path / "model.tlt"

        def load(self, _):
            raise AssertionError("the file was read")

    options = ExportOptions(output=tmp_path / "model.onnx", portable=Forms())
    with pytest.raises(UsageError, match="weights import FILE --roi_sampling_ratio 2"):
        make_plan(Unread(), tiny_experiment("detectron2"), options, SILENT)
    with pytest.raises(AssertionError, match="the file was read"):
        make_plan(Unread(), tiny_experiment("torchvision"), options, SILENT)
