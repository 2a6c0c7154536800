"""Model files of every form with a spec of another model: refused before anything runs."""

import json

import onnx
import pytest

from rcnn_jax.checkpoints.bundle import read_bundle, write_bundle
from rcnn_jax.checkpoints.container import encrypt
from rcnn_jax.cli.main import main

KEY = "the key of this test"
BOXES = {
    "model_config.input_image_config.image_channel_mean": (
        "image_channel_order: 'bgr'",
        "image_channel_order: 'bgr' image_channel_mean { key: 'b' value: 3.5 } "
        "image_channel_mean { key: 'g' value: 116.779 } "
        "image_channel_mean { key: 'r' value: 123.68 }",
    ),
    "model_config.input_image_config.image_channel_order": ("'bgr'", "'rgb'"),
    "model_config.input_image_config.image_scaling_factor": (
        "allow_small: true",
        "allow_small: true image_scaling_factor: 57.0",
    ),
    "model_config.arch": ("resnet:10", "resnet:18"),
    "model_config.anchor_box_config.scale": ("scale: 12 scale: 24", "scale: 24 scale: 12"),
    "model_config.anchor_box_config.ratio": ("ratio: 1.0", "ratio: 2.0"),
    "model_config.roi_pooling_config.pool_size": ("pool_size: 3", "pool_size: 5"),
    "model_config.use_pooling": ("freeze_bn: false", "freeze_bn: false use_pooling: true"),
    "training_config.std_scaling": ("gt_as_roi: true", "gt_as_roi: true std_scaling: 4.0"),
    "training_config.classifier_regr_std": (
        "gt_as_roi: true",
        "gt_as_roi: true classifier_regr_std { key: 'x' value: 20.0 } "
        "classifier_regr_std { key: 'y' value: 10.0 } "
        "classifier_regr_std { key: 'w' value: 5.0 } classifier_regr_std { key: 'h' value: 5.0 }",
    ),
}
MASKS = {
    "data_config.num_classes": ("num_classes: 4", "num_classes: 5"),
    "maskrcnn_config.anchor_scale": ("anchor_scale: 4", "anchor_scale: 8"),
    "maskrcnn_config.aspect_ratios": ("(1.4, 0.7), (0.7, 1.4)", "(0.7, 1.4), (1.4, 0.7)"),
    "maskrcnn_config.bbox_reg_weights": ("10.0, 10.0, 5.0, 5.0", "5.0, 5.0, 5.0, 5.0"),
    "maskrcnn_config.include_mask": ("include_mask: true", "include_mask: false"),
    "maskrcnn_config.nlayers": ("nlayers: 10", "nlayers: 18"),
    "maskrcnn_config.convention": ("nlayers: 10", 'nlayers: 10 convention: "torchvision"'),
}
CASES = [("boxes_files", *case) for case in BOXES.items()]
CASES += [("masks_files", *case) for case in MASKS.items()]


@pytest.fixture(params=[".tlt", ".onnx", ".etlt"])
def form(request):
    return request.param


def model_of(files, form, folder):
    if form == ".tlt":
        return files.model
    if form == ".onnx":
        return files.graph
    path = folder / "model.etlt"
    path.write_bytes(encrypt(files.graph.read_bytes(), KEY))
    return path


def changed(files, folder, old, new):
    text = files.spec.read_text()
    assert text.count(old) == 1, (old, text.count(old))
    path = folder / "other.txt"
    path.write_text(text.replace(old, new))
    return path


def commands(files, spec, model, out):
    argv = [files.kind, "{}", "-e", str(spec), "-m", str(model), "-k", KEY]
    lines = [[*argv, "-i", str(files.images), "-r", str(out)]]
    if files.kind == "faster_rcnn":  # a Mask R-CNN's annotations speak first
        lines.append([*argv, "-r", str(out)])
    if model.suffix == ".tlt":
        lines.append([*argv, "-o", str(out / "a.onnx"), "--gen_ds_config"])
    tasks = ("inference", "evaluate", "export") if len(lines) == 3 else ("inference", "evaluate")
    if files.kind == "mask_rcnn":
        tasks = ("inference", "export")
    for argv, task in zip(lines, tasks, strict=False):
        argv[1] = task
        yield argv


@pytest.mark.parametrize(("name", "field", "change"), CASES)
def test_a_field_that_the_weights_depend_on_is_named_with_both_values(
    name, field, change, form, request, tmp_path, capsys
):
    files = request.getfixturevalue(name)
    spec = changed(files, tmp_path, *change)
    out = tmp_path / "out"
    for argv in commands(files, spec, model_of(files, form, tmp_path), out):
        assert main(argv) == 2, argv
        message = capsys.readouterr().err
        assert "is of another model than the spec describes" in message, message
        assert f"\n  {field}: trained with " in message and ", the spec says " in message
        assert "Traceback" not in message
    assert {path.name for path in out.rglob("*")} <= {"status.json"}, "nothing was written"


FREE = (
    ("max_objects_num_per_image: 20", "max_objects_num_per_image: 30"),
    ("roi_mini_batch: 8", "roi_mini_batch: 16"),
    ("gt_as_roi: true", "gt_as_roi: false"),
    ("base_lr: 0.01", "base_lr: 0.02"),
    ("bbox_visualize_threshold: 0.05", "bbox_visualize_threshold: 0.5"),
    ("freeze_bn: false", "freeze_bn: true"),
)


def test_training_and_thresholds_are_free(boxes_files, tmp_path, capsys):
    text = boxes_files.spec.read_text()
    for old, new in FREE:
        assert old in text
        text = text.replace(old, new)
    spec = tmp_path / "other.txt"
    spec.write_text(text)
    for model in (boxes_files.model, boxes_files.graph):
        argv = ["-e", str(spec), "-m", str(model), "-r", str(tmp_path / "out")]
        assert main(["faster_rcnn", "evaluate", *argv]) == 0
        # The weights are made up: their average precision of 0 is warned of, nothing else is.
        warnings = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
        assert all("AP50 is" in line for line in warnings)


def test_another_canvas_is_a_warning_for_a_bundle_and_an_error_for_a_graph(
    boxes_files, tmp_path, capsys
):
    spec = changed(boxes_files, tmp_path, "height: 96 width: 96", "height: 96 width: 128")
    argv = ["-e", str(spec), "-r", str(tmp_path / "out"), "-m"]
    assert main(["faster_rcnn", "evaluate", *argv, str(boxes_files.model)]) == 0
    assert "width: trained with 96, the spec says 128" in capsys.readouterr().out
    assert main(["faster_rcnn", "evaluate", *argv, str(boxes_files.graph)]) == 2
    message = capsys.readouterr().err
    assert "another input size (height, width): (96, 96); the spec says (96, 128)" in message


def test_other_classes_and_another_detector_are_named(boxes_files, masks_files, tmp_path, capsys):
    spec = changed(
        boxes_files,
        tmp_path,
        "target_class_mapping { key: 'rod' value: 'rod' }",
        "target_class_mapping { key: 'rod' value: 'disc' }",
    )
    for model in (boxes_files.model, boxes_files.graph):
        assert main(["faster_rcnn", "evaluate", "-e", str(spec), "-m", str(model)]) == 2
        complaint = "was trained for the classes disc, rod, star; the spec maps to disc, star"
        assert complaint in capsys.readouterr().err
    images = ["-i", str(masks_files.images), "-r", str(tmp_path / "out")]
    argv = ["-e", str(masks_files.spec), "-m", str(boxes_files.model), *images]
    assert main(["mask_rcnn", "inference", *argv]) == 2
    complaint = "holds a faster_rcnn model, the spec is of mask_rcnn"
    assert complaint in capsys.readouterr().err


def test_a_file_that_does_not_say_what_it_depends_on_is_noted_once(boxes_files, tmp_path, capsys):
    bundle = read_bundle(boxes_files.model)
    old = tmp_path / "old.tlt"
    header = {name: value for name, value in bundle.header.items() if name != "spec"}
    write_bundle(
        old, type(bundle)(bundle.kind, {**header, "spec": "of: another time"}, bundle.arrays)
    )
    graph = onnx.load(boxes_files.graph)
    fields = json.loads(graph.metadata_props[0].value)
    del fields["depends"]
    graph.metadata_props[0].value = json.dumps(fields)
    onnx.save(graph, tmp_path / "old.onnx")
    for model, compared in (
        (old, "only classes were compared"),
        (tmp_path / "old.onnx", "only classes, input size and preprocessing were compared"),
    ):
        argv = ["-e", str(boxes_files.spec), "-m", str(model), "-r", str(tmp_path / "out")]
        assert main(["faster_rcnn", "evaluate", *argv]) == 0
        assert capsys.readouterr().out.count(compared) == 1
    spec = changed(boxes_files, tmp_path, "'bgr'", "'rgb'")
    assert main(["faster_rcnn", "evaluate", "-e", str(spec), "-m", str(tmp_path / "old.onnx")]) == 2
    assert "channel_order: trained with 'bgr', the spec says 'rgb'" in capsys.readouterr().err


@pytest.fixture
def stripped(boxes_files, tmp_path):
    """The graph as another tool leaves it: without metadata, with a fixed batch."""
    graph = onnx.load(boxes_files.graph)
    del graph.metadata_props[:]
    for value in (*graph.graph.input, *graph.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 2
    path = tmp_path / "stripped.onnx"
    onnx.save(graph, path)
    return path


def test_a_lost_header_is_taken_from_the_file_it_was_made_from(
    boxes_files, stripped, tmp_path, capsys
):
    argv = ["-e", str(boxes_files.spec), "-m", str(stripped), "-r", str(tmp_path / "out")]
    assert main(["faster_rcnn", "evaluate", *argv]) == 2
    assert "--header FROM.onnx" in capsys.readouterr().err
    fields = json.loads(onnx.load(boxes_files.graph).metadata_props[0].value)
    written = {"header.json": fields, "engine.json": {"header": fields, "gpu": "any"}}
    for name, content in written.items():
        (tmp_path / name).write_text(json.dumps(content))
    for source in (boxes_files.graph, *(tmp_path / name for name in written)):
        assert main(["faster_rcnn", "evaluate", *argv, "--header", str(source)]) == 0
    plain = ["-e", str(boxes_files.spec), "-m", str(boxes_files.graph), "-r", str(tmp_path / "own")]
    assert main(["faster_rcnn", "evaluate", *plain]) == 0
    reports = (tmp_path / "out/eval/stripped.onnx.json", tmp_path / "own/eval/model.onnx.json")
    assert reports[0].read_text() == reports[1].read_text()


def test_a_header_that_is_none_or_not_of_the_graph_is_one_message(
    boxes_files, masks_files, stripped, tmp_path, capsys
):
    (tmp_path / "a.json").write_text("{}")
    argv = ["-e", str(boxes_files.spec), "-r", str(tmp_path / "out"), "-m"]
    for model, source, message in (
        (stripped, tmp_path / "a.json", "holds no header (the field batch is missing)"),
        (stripped, tmp_path / "none.json", "no such file with a header"),
        (stripped, stripped, "has no header; give the file `export` wrote"),
        (stripped, masks_files.graph, "its header is of another graph"),
        (boxes_files.model, boxes_files.graph, "is for .onnx and .etlt files"),
    ):
        assert main(["faster_rcnn", "evaluate", *argv, str(model), "--header", str(source)]) == 2
        assert message in capsys.readouterr().err
