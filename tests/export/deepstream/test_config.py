"""The DeepStream bundle: complete files, and the detections of `inference` from nothing else."""

import configparser
import dataclasses
import json
import re
import shutil

import cv2
import numpy as np
import onnx
import pytest
from pycocotools import mask as coco_mask

from rcnn_jax.cli.main import main
from rcnn_jax.cli.session import Session
from rcnn_jax.errors import ExportError, SpecError, UsageError
from rcnn_jax.evaluate.masks import paste_masks
from rcnn_jax.export.build import build
from rcnn_jax.export.contracts import make_header
from rcnn_jax.export.deepstream.bundle import verify
from rcnn_jax.export.deepstream.config import (
    DeepStreamBundle,
    check_header,
    infer_config,
    labels,
    notes,
)
from rcnn_jax.export.deepstream.readme import readme
from rcnn_jax.export.deployment import Deployment, deploy
from rcnn_jax.export.precision.fp16 import to_fp16
from rcnn_jax.export.precision.model_view import ModelView
from rcnn_jax.export.precision.placement import place
from rcnn_jax.export.precision.quantize import insert_qdq
from rcnn_jax.export.precision.scales import write_cache
from rcnn_jax.runtime.bundle import jax_predictor
from rcnn_jax.runtime.header import DETECTIONS
from rcnn_jax.settings.data import GeometrySettings
from tests.export import tiny
from tests.reference.nvinfer import Nvinfer, Refused

KEY = "the-key-nobody-may-find"
FILES = {"nvinfer_config.txt", "labels.txt", "deepstream_app_config.txt", "deepstream_README.md"}
SIZES = ((75, 120), (120, 80), (96, 96), (60, 64))  # none twice as large as the network input


def pictures(folder, seed):
    """Writes coarse pictures of several sizes and shapes; returns {stem: RGB}."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    written = {}
    for number, (height, width) in enumerate(SIZES, start=1):
        coarse = rng.integers(0, 256, (height // 12 + 1, width // 12 + 1, 3), np.uint8)
        picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"{number}.png"), picture[..., ::-1])
        written[str(number)] = picture
    return written


@pytest.fixture(scope="module")
def boxes(boxes_files, tmp_path_factory):
    """(folder of an encrypted Faster R-CNN and its bundle, spec)."""
    folder = tmp_path_factory.mktemp("deepstream")
    spec = folder / "spec.txt"
    text = boxes_files.spec.read_text()
    auto = "augmentation_config { preprocessing { enable_auto_resize: true }"
    spec.write_text(text.replace("augmentation_config {", auto))
    out = folder / "out"
    argv = ["faster_rcnn", "export", "-e", str(spec), "-m", str(boxes_files.model), "-k", KEY]
    argv += ["-o", str(out / "model.etlt"), "--gen_ds_config", "-r", str(out)]
    argv += ["--log_file", str(out / "log.txt"), "--ds_parser_lib", "/my/parser.so"]
    assert main(argv) == 0
    return out, spec


@pytest.fixture(scope="module")
def masks(masks_files, tmp_path_factory):
    """(folder of a Mask R-CNN and its bundle, spec)."""
    out = tmp_path_factory.mktemp("deepstream_masks")
    model = shutil.copy(masks_files.graph, out / "model.onnx")
    threshold = masks_files.experiment.visualize_threshold
    session = Session("export", status_folder=None)
    deploy(
        Deployment(bundle=True),
        onnx.load(model),
        path=model,
        threshold=threshold,
        reporter=session,
    )
    return out, masks_files.spec


def infer(kind, spec, model, images, out, *flags):
    argv = [kind, "inference", "-e", str(spec), "-m", str(model), "-i", str(images), "-r", str(out)]
    assert main([*argv, *flags]) == 0


def assert_close(ours, theirs, size, canvas):
    """Boxes agree, but for the parsers' cut at the last pixel of the network input."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    cut = np.max(np.asarray(size) / canvas) + 0.02  # a pixel of the network, in the picture
    inside = np.asarray([0, 0, *size]) + np.asarray([cut, cut, -cut, -cut])
    sign = np.asarray([1, 1, -1, -1])
    border = (ours - inside) * sign < 0
    np.testing.assert_array_less(np.abs(ours - theirs), np.where(border, cut, 0.02) + 1e-9)


def test_faster_rcnn_in_deepstream_finds_what_inference_finds(boxes, boxes_files, tmp_path):
    out, spec = boxes
    folder = shutil.copytree(out, tmp_path / "target")
    encrypted, plain = folder / "model.etlt", folder / "model.onnx"
    assert main(["decrypt", "-m", str(encrypted), "-k", KEY, "-o", str(plain)]) == 0
    frames = pictures(tmp_path / "frames", 1)
    infer("faster_rcnn", spec, boxes_files.model, tmp_path / "frames", tmp_path)
    element = Nvinfer(folder)
    assert element.labels == ["disc", "rod", "star", "background"]
    total = 0
    for stem, frame in frames.items():
        lines = (tmp_path / "labels" / f"{stem}.txt").read_text().splitlines()
        rows = [line.split() for line in lines]
        objects = element.detect(frame)
        assert [one.label for one in objects] == [row[0] for row in rows]
        np.testing.assert_allclose(
            [one.score for one in objects], [float(row[-1]) for row in rows], atol=1e-3
        )
        wanted = [[float(row[column]) for column in (5, 4, 7, 6)] for row in rows]
        assert_close(wanted, [one.box for one in objects], frame.shape[:2], (96, 96))
        total += len(objects)
    assert total > 10


def test_mask_rcnn_in_deepstream_finds_what_inference_finds(masks, masks_files, tmp_path):
    out, spec = masks
    folder = shutil.copytree(out, tmp_path / "target")
    # scores of a net that nobody trained are low: the threshold is the first thing a user changes
    config = folder / "nvinfer_config.txt"
    text = config.read_text()
    assert "pre-cluster-threshold=0.6" in text
    config.write_text(text.replace("pre-cluster-threshold=0.6", "pre-cluster-threshold=0.2"))
    frames = pictures(tmp_path / "frames", 2)
    infer("mask_rcnn", spec, masks_files.model, tmp_path / "frames", tmp_path, "-t", "0.2")
    element = Nvinfer(folder)
    names = masks_files.experiment.task.class_names
    assert element.labels == ["BG", *names]
    ids = dict(zip(masks_files.experiment.category_ids, names, strict=True))
    results = json.loads((tmp_path / "labels.json").read_text())
    total = 0
    for stem, frame in frames.items():
        pixel = max(frame.shape[:2]) / 64  # of the network, in the picture
        rows = [row for row in results if row["image_id"] == int(stem)]
        objects = element.detect(frame)
        known = np.asarray([row["score"] for row in rows])
        assert all(np.abs(known - one.score).min() < 1e-4 for one in objects)
        # the parser drops slivers behind the last pixel; what lies in the padding is no object
        rows = [row for row in rows if min(row["bbox"][2:]) > 2 * pixel]
        scores = [row["score"] for row in rows]
        objects = [one for one in objects if np.abs(np.subtract(scores, one.score)).min() < 1e-4]
        assert [one.label for one in objects] == [ids[row["category_id"]] for row in rows]
        np.testing.assert_allclose([one.score for one in objects], scores, atol=1e-4)
        corners = [row["bbox"] for row in rows]
        wanted = [[y, x, y + height, x + width] for x, y, width, height in corners]
        assert_close(wanted, [one.box for one in objects], frame.shape[:2], (64, 64))
        for one, row, box in zip(objects, rows, wanted, strict=True):
            cut = float(element.keys["segmentation-threshold"])
            assert (one.mask > cut).any() and 1 / (1 + np.exp(-cut)) == 0.5
            probability = 1 / (1 + np.exp(-one.mask.astype(np.float64)))
            (pasted,) = paste_masks(
                probability[None].astype(np.float32), np.asarray([box]), frame.shape[:2]
            )
            overlap = coco_mask.iou([pasted], [row["segmentation"]], [0])
            assert overlap[0, 0] > 0.98 or coco_mask.area(pasted) < 20
        total += len(objects)
    assert total > 5


def test_a_mask_rcnn_without_masks_is_read_by_the_parser_of_boxes(tmp_path):
    experiment = tiny.mask_rcnn(include_mask=False)
    variables = tiny.lively_variables(experiment)
    of_boxes = make_header(experiment, "tao", None)
    graph = build(experiment, variables, of_boxes).model
    onnx.save(graph, tmp_path / "model.onnx")
    session = Session("export", status_folder=None)
    deploy(
        Deployment(bundle=True),
        graph,
        path=tmp_path / "model.onnx",
        threshold=0.3,
        reporter=session,
    )
    element = Nvinfer(tmp_path)
    assert element.labels == [*experiment.task.class_names, "background"]
    assert not (tmp_path / "class_map.txt").exists()
    predict = jax_predictor(experiment, experiment.inference)(variables)
    frame = tiny.images(1, seed=5)
    objects, wanted = element.detect(frame[0]), predict(frame)[0]
    shown = np.asarray(wanted.valid[0]) & (np.asarray(wanted.scores[0]) >= 0.3)
    names = [experiment.task.class_names[number] for number in wanted.classes[0][shown]]
    assert shown.sum() > 3
    assert [one.label for one in objects] == names
    assert_close(wanted.boxes[0][shown], [one.box for one in objects], (128, 192), (128, 192))


@pytest.mark.parametrize("fixture", ["boxes", "masks"])
def test_the_bundle_is_whole_and_its_files_name_each_other(fixture, request):
    out, _ = request.getfixturevalue(fixture)
    assert {path.name for path in out.iterdir()} >= FILES
    app = configparser.ConfigParser(delimiters=("=",))
    app.read(out / "deepstream_app_config.txt")
    assert {"application", "source0", "streammux", "primary-gie", "osd", "sink0"} <= set(app)
    assert (out / app["primary-gie"]["config-file"]).exists()
    assert app["osd"]["display-mask"] == ("1" if fixture == "masks" else "0")
    infer_keys = configparser.ConfigParser(delimiters=("=",))
    infer_keys.read(out / "nvinfer_config.txt")
    keys = infer_keys["property"]
    lines = (out / keys["labelfile-path"]).read_text().splitlines()
    assert len(lines) == int(keys["num-detected-classes"]) and all(lines)
    assert keys["onnx-file"] == "model.onnx"
    assert keys["model-engine-file"] == "model.onnx_b1_gpu0_fp32.engine"
    assert keys["crop-objects-to-roi-boundary"] == "1"
    assert keys["maintain-aspect-ratio"] == ("1" if fixture == "masks" else "0")
    text = (out / "deepstream_README.md").read_text()
    assert "deepstream-app -c deepstream_app_config.txt" in text
    name = "Input" if fixture == "masks" else "input_image"
    side = 64 if fixture == "masks" else 96
    assert f"--optShapes={name}:1x3x{side}x{side}" in text
    assert ("rcnn-jax decrypt -m model.etlt -o model.onnx" in text) is (fixture == "boxes")


def test_the_parser_library_is_the_one_that_was_named(boxes, masks):
    assert "custom-lib-path=/my/parser.so\n" in (boxes[0] / "nvinfer_config.txt").read_text()
    own = "/opt/nvidia/deepstream/deepstream/lib/libnvds_infercustomparser.so"
    assert f"custom-lib-path={own}\n" in (masks[0] / "nvinfer_config.txt").read_text()


def test_the_key_is_in_no_file_of_the_export(boxes):
    out, _ = boxes
    files = [path for path in out.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= FILES | {"model.etlt", "log.txt", "status.json"}
    for path in files:
        assert KEY.encode() not in path.read_bytes(), path


def header(kind="faster_rcnn", **changes):
    experiment = tiny.faster_rcnn() if kind == "faster_rcnn" else tiny.mask_rcnn()
    return dataclasses.replace(make_header(experiment, "tao", None), **changes)


def bundle(tmp_path, **changes):
    fields = {"header": header(), "precision": "fp32", "threshold": 0.6, **changes}
    return DeepStreamBundle(model=tmp_path / "a.onnx", **fields)


def keys_of(text):
    return dict(re.findall(r"^([^#\[=]+)=(.*)$", text, re.MULTILINE))


def test_preprocessing_follows_from_the_header(tmp_path):
    keys = keys_of(infer_config(bundle(tmp_path)))
    assert keys["offsets"] == "103.939;116.779;123.68" and keys["model-color-format"] == "1"
    assert float(keys["net-scale-factor"]) == 1 / 57
    assert keys["infer-dims"] == "3;128;192"
    keys = keys_of(infer_config(bundle(tmp_path, header=header("mask_rcnn"))))
    assert keys["offsets"] == "123.675;116.28;103.53" and keys["model-color-format"] == "0"
    assert float(keys["net-scale-factor"]) == pytest.approx(0.017507, abs=1e-6)
    grey = header(channel_order="l", mean=(117.4,), std=(1.0,))
    keys = keys_of(infer_config(bundle(tmp_path, header=grey)))
    assert (keys["model-color-format"], keys["infer-dims"]) == ("2", "1;128;192")


@pytest.mark.parametrize("precision", ["fp32", "int8", "fp16"])
def test_precision_and_engine_are_named(tmp_path, precision):
    keys = keys_of(infer_config(bundle(tmp_path, precision=precision, header=header(batch=4))))
    assert (keys["network-mode"], keys["strongly-typed"], keys["batch-size"]) == ("0", "1", "4")
    assert keys["model-engine-file"] == "a.onnx_b4_gpu0_fp32.engine", "as nvinfer itself calls it"
    text = readme(bundle(tmp_path, precision=precision, header=header(batch=4)))
    assert ("Nothing to build with DeepStream 9.1 and later" in text) is (precision != "fp32")
    assert "optShapes" not in text, "a fixed batch has no profile"
    built = bundle(tmp_path, engine=tmp_path / "engines" / "b.engine")
    assert keys_of(infer_config(built))["model-engine-file"] == "engines/b.engine"


def test_what_deepstream_cannot_run_is_refused_with_the_reason():
    with pytest.raises(SpecError, match=r"one net-scale-factor, .* by 58\.395, 57\.12, 57\.375"):
        check_header(header(std=(58.395, 57.12, 57.375)))
    with pytest.raises(UsageError, match="no DeepStream parser reads the contract 'plain'"):
        check_header(header(contract="plain"))
    with pytest.raises(UsageError, match="needs the output mask_fcn_logits/BiasAdd.* export the"):
        check_header(header("mask_rcnn"), (DETECTIONS,))
    with pytest.raises(UsageError, match="'a;b' cannot stand in labels.txt"):
        check_header(header(class_names=("a;b",)))
    check_header(header("mask_rcnn"))


def test_what_nvinfer_does_otherwise_is_noted():
    canvas = {"height": 128, "width": 192}
    padded = header(geometry=GeometrySettings(mode="pad_crop", **canvas))
    (note,) = notes(padded)
    assert "results agree for frames of 192x128 pixels alone" in note
    scaled = GeometrySettings(mode="pad_crop", prescale=(128, 192), **canvas)
    assert notes(header(geometry=scaled)) == notes(header()) == []


LOWERED = {"fp16": lambda graph: to_fp16(graph), "int8": lambda graph: quantised(graph)}


def quantised(graph):
    return insert_qdq(graph, dict.fromkeys(place(ModelView(graph)).readers, 0.05))


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_nvinfer_builds_the_precision_of_the_graph_itself(boxes_files, tmp_path, precision):
    graph = onnx.load(boxes_files.graph)
    lowered = LOWERED[precision](graph) if precision in LOWERED else graph
    onnx.save(lowered, tmp_path / "model.onnx")
    session = Session("export", status_folder=None)
    path = tmp_path / "model.onnx"
    wanted = Deployment(bundle=True)
    deploy(wanted, onnx.load(path), path=path, threshold=0.3, reporter=session)
    element = Nvinfer(tmp_path)
    assert element.precision == precision
    assert element.engine == element.keys["model-engine-file"], "found again at the next start"
    if precision == "fp32":
        assert Nvinfer(tmp_path, knows_strong_types=False).precision == "fp32"
        return
    with pytest.raises(Refused, match="weakly typed fp32"):
        Nvinfer(tmp_path, knows_strong_types=False)


def test_an_older_nvinfer_builds_int8_from_the_cache_as_the_readme_says(boxes_files, tmp_path):
    graph = onnx.load(boxes_files.graph)
    onnx.save(quantised(graph), tmp_path / "model.onnx")
    onnx.save(graph, tmp_path / "model.fp32.onnx")
    cache = tmp_path / "scales" / "cal.bin"
    cache.parent.mkdir()
    cache.write_text(write_cache(dict.fromkeys(place(ModelView(graph)).readers, 0.05)))
    session = Session("export", status_folder=None)
    path = tmp_path / "model.onnx"
    wanted = Deployment(bundle=True)
    deploy(wanted, onnx.load(path), path=path, threshold=0.3, cache=cache, reporter=session)
    text = (tmp_path / "deepstream_README.md").read_text()
    properties = re.findall(r"^ {7}([a-z0-9-]+)=(\S+)$", text, re.MULTILINE)
    config = tmp_path / "nvinfer_config.txt"
    lines = config.read_text().replace("strongly-typed=1\n", "").splitlines()
    lines = [line for line in lines if line.split("=")[0] not in dict(properties)]
    place_of = lines.index("[property]") + 1
    lines[place_of:place_of] = [f"{key}={value}" for key, value in properties]
    config.write_text("\n".join(lines))
    element = Nvinfer(tmp_path, knows_strong_types=False)
    assert (element.precision, element.keys["onnx-file"]) == ("int8", "model.fp32.onnx")
    assert element.engine == element.keys["model-engine-file"]
    cache.unlink()
    assert Nvinfer(tmp_path, knows_strong_types=False).precision == "fp16"


def test_objects_that_end_below_the_frame_are_cut_and_not_dropped(masks, tmp_path):
    folder = shutil.copytree(masks[0], tmp_path / "target")
    element = Nvinfer(folder)
    size, ratios = (60, 64), (0.5, 0.5)
    assert element.attach((4, 25, 10, 6), ratios, size).tolist() == [50, 8, 60, 28]
    assert element.attach((30, 1, 10, 6), ratios, size).tolist() == [2, 60, 14, 64]
    config = folder / "nvinfer_config.txt"
    key = "crop-objects-to-roi-boundary="
    config.write_text(config.read_text().replace(f"{key}1", f"{key}0"))
    element = Nvinfer(folder)
    assert element.attach((4, 25, 10, 6), ratios, size) is None
    assert element.attach((4, 24, 10, 6), ratios, size).tolist() == [48, 8, 60, 28]


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("offsets=103.939", "offsets=3.939", "net-scale-factor and offsets"),
        ("offsets=103.939;", "offsets=", "net-scale-factor and offsets"),
        ("net-scale-factor=", "net-scale-factor=2", "net-scale-factor and offsets"),
        ("model-color-format=1", "model-color-format=0", "model-color-format"),
        ("infer-dims=3;128;192", "infer-dims=3;192;128", "infer-dims"),
        ("num-detected-classes=4", "num-detected-classes=3", "num-detected-classes"),
    ],
)
def test_a_bundle_that_says_something_else_than_its_graph_is_not_written(tmp_path, old, new, what):
    made = bundle(tmp_path)
    files = {
        "nvinfer_config.txt": infer_config(made),
        "labels.txt": "disc\nrod\nstar\nbackground\n",
    }
    verify(files, made.header)
    assert old in files["nvinfer_config.txt"]
    files["nvinfer_config.txt"] = files["nvinfer_config.txt"].replace(old, new)
    with pytest.raises(ExportError, match=f"{what} are not the model's"):
        verify(files, made.header)


def test_a_mask_rcnn_has_a_class_map_for_the_other_tool(masks, boxes):
    lines = (masks[0] / "class_map.txt").read_text().splitlines()
    assert ["BG", *lines] == (masks[0] / "labels.txt").read_text().splitlines()
    assert "wants no line for the background" in (masks[0] / "deepstream_README.md").read_text()
    assert not (boxes[0] / "class_map.txt").exists()


def test_labels_follow_the_ids_of_the_parsers():
    assert labels(header()) == ["disc", "rod", "star", "background"]
    assert labels(header("mask_rcnn")) == ["BG", "disc", "rod", "star"]


def test_a_spec_deepstream_cannot_run_stops_before_the_export(boxes_files, tmp_path, capsys):
    argv = ["faster_rcnn", "export", "-e", str(boxes_files.spec), "-m", str(boxes_files.model)]
    argv += ["-o", str(tmp_path / "a.onnx"), "--gen_ds_config", "--contract", "plain"]
    assert main(argv) == 2
    assert "no DeepStream parser reads the contract 'plain'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
