import dataclasses
import functools

import jax
import numpy as np
import pytest

from rcnn_jax.errors import SpecError
from rcnn_jax.export.build import build, check_built
from rcnn_jax.export.comparison import reference_predictor
from rcnn_jax.export.contracts import make_header, outputs_of
from rcnn_jax.export.lowering.jaxpr_onnx import trace
from rcnn_jax.export.verification.parity import compare_detections
from rcnn_jax.ops.anchors import cell_sizes_from_scales
from rcnn_jax.runtime import bundle
from rcnn_jax.runtime.backend import preprocess
from rcnn_jax.runtime.header import DETECTIONS, MASKS, Header
from rcnn_jax.runtime.onnx_runtime import REFERENCE, open_session, predictor
from rcnn_jax.settings.data import GeometrySettings
from rcnn_jax.settings.detection import RpnTargetSettings
from rcnn_jax.tasks.families import family
from tests.export import tiny

CASES = {
    "usual": tiny.test_settings(),
    "nothing found": tiny.test_settings(score=0.999),
    "all places taken": tiny.test_settings(score=0.0, detections=5, nms=0.9),
    "more places than candidates": tiny.test_settings(score=0.0, detections=70),
}
DETECTORS = {"faster_rcnn": tiny.faster_rcnn, "mask_rcnn": tiny.mask_rcnn}


def built(experiment, variables, header):
    """(FP32 graph, result of its check) of an experiment."""
    graph = build(experiment, variables, header)
    reference = reference_predictor(experiment, variables)
    check = check_built(graph, experiment, variables, header, tiny.images(2), reference)
    return graph.model.SerializeToString(), check


@functools.cache
def exported(kind, case="usual", contract="tao", batch=None):
    """(experiment, variables, header, model, check) of a tiny detector."""
    experiment = DETECTORS[kind](test=CASES[case])
    variables = tiny.lively_variables(experiment)
    header = make_header(experiment, contract, batch)
    if (case, contract, batch) != ("usual", "tao", None):  # the check takes most of the time
        shape = (batch, *header.canvas, 3)
        graph = trace(
            outputs_of(experiment, variables, contract),
            family(kind).input_name,
            shape,
            (0, 3, 1, 2),
        )
        model = graph.to_model("test", header.to_metadata())
        return experiment, variables, header, model.SerializeToString(), None
    model, check = built(experiment, variables, header)
    return experiment, variables, header, model, check


def both(kind, count, *args, providers=REFERENCE):
    """(detections of JAX, detections of the graph) in `count` pictures."""
    experiment, variables, header, model, _ = exported(kind, *args)
    pictures = tiny.images(count, seed=7)
    reference = bundle.jax_predictor(experiment, experiment.inference)(variables)
    wanted = jax.tree.map(np.asarray, reference(pictures)[0])
    return wanted, predictor(open_session(model, "test", providers), header)(pictures)[0]


def assert_equal_detections(wanted, detections):
    parity = compare_detections(wanted, detections)
    assert parity.unmatched == 0
    assert parity.box <= 1e-3 and parity.score <= 1e-5 and parity.mask <= 1e-4


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("kind", DETECTORS)
def test_one_graph_gives_the_detections_of_jax_for_any_batch(kind, count):
    wanted, detections = both(kind, count)
    assert wanted.valid.sum() > 3
    assert_equal_detections(wanted, detections)


@pytest.mark.parametrize("case", list(CASES)[1:])
@pytest.mark.parametrize("kind", DETECTORS)
def test_no_detection_and_too_many_are_ordinary(kind, case):
    wanted, detections = both(kind, 2, case)
    slots = wanted.valid.shape[1]
    expected = {"nothing found": 0, "all places taken": 5}.get(case)
    if expected is not None:
        assert wanted.valid.sum(axis=1).tolist() == [expected] * 2
    else:
        assert 0 < wanted.valid.sum(axis=1).max() < slots == 70
    assert_equal_detections(wanted, detections)


@pytest.mark.parametrize("kind", DETECTORS)
def test_plain_outputs_are_the_detections_themselves(kind):
    experiment, _, _, model, _ = exported(kind, "usual", "plain")
    names = [output.name for output in open_session(model, "test").get_outputs()]
    masks = ["masks"] if kind == "mask_rcnn" else []
    assert names == ["boxes", "scores", "classes", "valid", *masks]
    assert_equal_detections(*both(kind, 2, "usual", "plain"))


def test_a_fixed_batch_is_filled_up():
    experiment, _, _, model, _ = exported("faster_rcnn", "usual", "tao", 2)
    (given,) = open_session(model, "test").get_inputs()
    assert given.shape == [2, 3, *tiny.CANVAS]
    assert_equal_detections(*both("faster_rcnn", 3, "usual", "tao", 2))


def test_faster_rcnn_speaks_as_the_deepstream_parser_listens():
    experiment, variables, header, model, _ = exported("faster_rcnn")
    session = open_session(model, "test")
    (given,) = session.get_inputs()
    assert (given.name, given.type, given.shape) == (
        "input_image",
        "tensor(float)",
        ["batch", 3, 128, 192],
    )
    outputs = [(o.name, o.type, o.shape) for o in session.get_outputs()]
    assert outputs == [
        ("NMS", "tensor(float)", ["batch", 1, 12, 7]),
        ("NMS_1", "tensor(int32)", ["batch", 1, 1, 1]),
    ]
    pictures = tiny.images(3, seed=7)
    rows, count = session.run(None, {"input_image": preprocess(pictures, header)})
    reference = bundle.jax_predictor(experiment, experiment.inference)(variables)
    wanted = reference(pictures)[0]
    for image in range(3):
        kept = int(count[image, 0, 0, 0])
        assert kept == np.asarray(wanted.valid)[image].sum()
        assert (rows[image, 0, :, 0] == image).all()
        labels = rows[image, 0, :, 1]
        assert set(labels[:kept]) <= {0.0, 1.0, 2.0} and (labels[kept:] == -1).all()
        assert (rows[image, 0, kept:, 2:] == 0).all()
        x1, y1, x2, y2 = rows[image, 0, :kept, 3:].T
        assert (x1 >= 0).all() and (x1 <= x2).all() and (x2 <= 1).all() and (y2 <= 1).all()
        boxes = np.stack([y1 * 128, x1 * 192, y2 * 128, x2 * 192], axis=1)
        np.testing.assert_allclose(boxes, np.asarray(wanted.boxes)[image, :kept], atol=1e-3)


def test_mask_rcnn_speaks_as_the_deepstream_parser_listens():
    experiment, variables, header, model, _ = exported("mask_rcnn")
    session = open_session(model, "test")
    (given,) = session.get_inputs()
    assert (given.name, given.shape) == ("Input", ["batch", 3, 128, 192])
    outputs = [(o.name, o.type, o.shape) for o in session.get_outputs()]
    assert outputs == [
        (DETECTIONS, "tensor(float)", ["batch", 12, 6]),
        (MASKS, "tensor(float)", ["batch", 12, 4, 28, 28]),
    ]
    pictures = tiny.images(2, seed=7)
    rows, logits = session.run(None, {"Input": preprocess(pictures, header)})
    reference = bundle.jax_predictor(experiment, experiment.inference)(variables)
    wanted = jax.tree.map(np.asarray, reference(pictures)[0])
    assert (logits[:, :, 0] == 0).all(), "nobody reads the plane of the background"
    for image, row in zip(*np.nonzero(wanted.valid), strict=True):
        label = int(rows[image, row, 4])
        assert label == wanted.classes[image, row] + 1
        np.testing.assert_allclose(rows[image, row, :4], wanted.boxes[image, row], atol=1e-3)
        probability = 1 / (1 + np.exp(-logits[image, row, label]))
        np.testing.assert_allclose(probability, wanted.masks[image, row], atol=1e-4)
    free = rows[~wanted.valid]
    assert (free[:, 4] == -1).all() and (free[:, 5] == 0).all()


def test_sizes_that_were_never_trained_propose_in_no_graph():
    cells = cell_sizes_from_scales((16, 256), (1.0, 0.5))  # 256 lies inside of 128 x 192 nowhere
    experiment = tiny.faster_rcnn()
    settings = dataclasses.replace(
        experiment.task.settings,
        cell_sizes=((4, cells),),
        rpn_targets=RpnTargetSettings(outside="ignore", anchors_per_cell=4),
    )
    experiment.task = dataclasses.replace(experiment.task, settings=settings)
    variables = tiny.lively_variables(experiment)
    header = make_header(experiment, "plain", None)
    _, report = built(experiment, variables, header)
    assert report.problems == ()
    _, proposals = experiment.task.predict(variables, tiny.images(2), experiment.inference)
    boxes = np.asarray(proposals.boxes)[np.asarray(proposals.valid)]
    assert len(boxes) and (boxes[:, 2:] - boxes[:, :2]).max() < 100


def test_a_mask_rcnn_without_masks_speaks_as_a_faster_rcnn():
    experiment = tiny.mask_rcnn(include_mask=False, unused=(1,))
    variables = tiny.lively_variables(experiment)
    header = make_header(experiment, "tao", None)
    assert (header.contract, header.form) == ("nms", "nms_rows")
    model, report = built(experiment, variables, header)
    assert report.problems == ()
    session = open_session(model, "test")
    assert [output.name for output in session.get_outputs()] == ["NMS", "NMS_1"]
    rows, _ = session.run(None, {"Input": preprocess(tiny.images(2), header)})
    assert 1.0 not in rows[..., 1] and 0.0 in rows[..., 1], "class 1 stands for no category"


def test_a_graph_without_masks_of_an_earlier_version_is_read():
    experiment = tiny.mask_rcnn(include_mask=False, unused=(1,))
    variables = tiny.lively_variables(experiment)
    header = dataclasses.replace(make_header(experiment, "tao", None), contract="tao")
    model, report = built(experiment, variables, header)
    assert report.problems == ()
    session = open_session(model, "test")
    assert [output.name for output in session.get_outputs()] == [DETECTIONS]
    (rows,) = session.run(None, {"Input": preprocess(tiny.images(2), header)})
    assert 2.0 not in rows[..., 4] and 1.0 in rows[..., 4], "class 1 stands for no category"


@pytest.mark.parametrize("kind", DETECTORS)
def test_the_dense_part_has_neither_transposes_nor_batch_norm(kind):
    *_, report = exported(kind)
    assert report.operators.get("BatchNormalization", 0) == 0
    # two per level behind the last convolution of the RPN, and three small ones behind the heads
    levels = 1 if kind == "faster_rcnn" else 5
    assert report.operators["Transpose"] <= 2 * levels + 3
    assert report.problems == ()


@pytest.mark.parametrize("kind", DETECTORS)
def test_the_header_survives_the_file(kind):
    _, _, header, model, _ = exported(kind)
    metadata = open_session(model, "test").get_modelmeta().custom_metadata_map
    assert Header.from_metadata(metadata) == header
    assert header.category_ids == (None if kind == "faster_rcnn" else (3, 7, 9))


def test_a_dynamic_input_is_refused_with_the_reason():
    experiment = tiny.faster_rcnn()
    experiment.geometry = GeometrySettings(mode="short_side", short_side=600)
    with pytest.raises(SpecError, match="one input size, because DeepStream allocates"):
        make_header(experiment, "tao", None)


def test_a_model_that_computes_in_bfloat16_is_exported_in_float32():
    experiment, variables, header, _, _ = exported("faster_rcnn")
    half = experiment.task.model.clone(dtype="bfloat16")
    experiment = tiny.faster_rcnn(test=CASES["usual"])
    experiment.task = dataclasses.replace(experiment.task, model=half)
    _, report = built(experiment, variables, header)
    assert not report.problems
