"""Mask R-CNN as a user meets it, in process: convert, train, evaluate, infer."""

import json
import shutil

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from rcnn_jax.checkpoints.bundle import read_bundle
from rcnn_jax.cli.main import main
from tests.e2e.tiny_mask import write_tiny

KEY = "a-secret-key-of-the-test"
MODEL = "model.step-6.tlt"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("masks")
    spec = write_tiny(root)
    assert main(["mask_rcnn", "train", "-e", str(spec), "-d", str(root / "run"), "-k", KEY]) == 0
    return root, spec


def evaluate(spec, model, *more):
    argv = ["mask_rcnn", "evaluate", "-e", str(spec), "-m", str(model), "-k", KEY, *more]
    return main(argv)


def infer(root, spec, *more):
    argv = ["mask_rcnn", "inference", "-e", str(spec), "-m", str(root / "run" / MODEL), "-k", KEY]
    return main([*argv, "-i", str(root / "data" / "images"), *more])


def test_training_leaves_bundles_logs_and_evaluations(run):
    root, _ = run
    folder = root / "run"
    names = {path.name for path in folder.iterdir()}
    assert {"model.step-4.tlt", MODEL, "best.tlt", "config.json", "spec.txt"} <= names
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    evaluations = [line for line in lines if line["kind"] == "evaluate"]
    assert [line["step"] for line in evaluations] == [4, 6]
    assert {"AP", "AP50", "ARmax100", "mask_AP", "mask_ARl"} <= set(evaluations[0])
    epochs = [line for line in lines if line["kind"] == "epoch"]
    assert all(np.isfinite(line["mask"]) for line in epochs)
    report = json.loads((folder / "eval" / "step-6.json").read_text())
    assert set(report["class_AP"]["mask_AP"]) == {"disc", "star", "rod"}


def test_the_key_reaches_no_file(run):
    root, _ = run
    for path in (root / "run").rglob("*"):
        if path.is_file():
            assert KEY.encode() not in path.read_bytes(), path


def test_the_table_of_trainable_variables_and_the_layers_left_out_are_printed(
    run, capsys, tmp_path
):
    root, spec = run
    frozen = tmp_path / "frozen.txt"
    text = spec.read_text().replace('freeze_blocks: "[]"', 'freeze_blocks: "[0]"')
    start = f'checkpoint: "{root}/run/{MODEL}"\nskip_checkpoint_variables: "head"'
    frozen.write_text(text.replace("num_epochs: 2", f"total_steps: 1\n{start}"))
    argv = ["mask_rcnn", "train", "-e", str(frozen), "-d", str(tmp_path / "run"), "-k", KEY]
    assert main(argv) == 0
    printed = capsys.readouterr().out
    rows = [line for line in printed.splitlines() if "[#" in line]
    assert "[#0001] block_1a_conv_1/kernel:0" in rows[0]
    assert "mask_fcn_logits/bias:0" in rows[-1]
    left_out = " ".join(printed.split()).split("skip_checkpoint_variables 'head' leaves out: ")[1]
    for layer in ("fc6", "class-predict", "box-predict", "mask-conv-l0", "mask_fcn_logits"):
        assert f"{layer}, " in left_out or f", {layer}" in left_out
    assert "100.0% of the backbone comes from" in printed


def test_the_bundle_holds_the_map_of_categories(run):
    root, _ = run
    header = read_bundle(root / "run" / MODEL, KEY).header
    assert header["category_ids"] == [1, 2, 3]
    assert header["class_names"] == ["disc", "star", "rod"]


def test_evaluate_repeats_what_training_found(run, capsys):
    root, spec = run
    assert evaluate(spec, root / "run" / MODEL, "-r", str(root / "judged")) == 0
    assert "mask_AP50: " in capsys.readouterr().out
    own = json.loads((root / "judged" / "eval" / "model.step-6.json").read_text())
    own.pop("diagnosis", None)  # of so low a precision, which training does not look into
    assert own == json.loads((root / "run" / "eval" / "step-6.json").read_text())
    status = (root / "judged" / "status.json").read_text().splitlines()
    assert "mask_AP" in json.loads(status[-2])["kpi"]


def test_inference_writes_pictures_annotations_and_results(run):
    root, spec = run
    out = root / "found"
    flags = ["-o", str(out / "drawn"), "-l", str(out / "labels"), "-t", "0", "--include_mask"]
    assert infer(root, spec, *flags) == 0
    pictures, labels = sorted((out / "drawn").iterdir()), sorted((out / "labels").iterdir())
    assert len(pictures) == len(labels) == 9
    assert cv2.imread(str(pictures[0])).shape == (60, 64, 3)
    annotation = json.loads(labels[0].read_text())[0]
    assert annotation["segmentation"]["size"] == [60, 64]
    assert annotation["category_id"] in (1, 2, 3)
    assert 0 <= annotation["bbox"][0] <= 64
    truth = COCO(str(root / "data" / "instances_val.json"))
    known = set(truth.getImgIds())
    results = [r for r in json.loads((out / "labels.json").read_text()) if r["image_id"] in known]
    assert len(truth.loadRes(results).getAnnIds()) == len(results) > 0


def test_inference_needs_the_model_alone_not_the_data_it_was_trained_on(run, tmp_path):
    root, spec = run
    alone = tmp_path / "spec.txt"
    alone.write_text(spec.read_text().replace(str(root / "data"), "/nowhere"))
    assert infer(root, alone, "-l", str(tmp_path / "labels")) == 0
    assert len(list((tmp_path / "labels").iterdir())) == 9


def test_a_class_map_of_another_length_is_refused(run, tmp_path, capsys):
    root, spec = run
    names = tmp_path / "names.txt"
    names.write_text("BG\ndisc\nstar\nrod\n")
    assert infer(root, spec, "-o", str(tmp_path), "-c", str(names)) == 2
    assert "names 4 classes, the model has 3" in capsys.readouterr().err
    names.write_text("plate\nsun\nstick\n")
    assert infer(root, spec, "-o", str(tmp_path / "o"), "-c", str(names)) == 0


def test_records_hold_what_the_folder_holds(run, tmp_path):
    """Evaluation of converted validation data gives the very numbers of the annotation file."""
    root, spec = run
    data = root / "data"
    convert = ["mask_rcnn", "dataset_convert", "-i", str(data / "images"), "-s", "2"]
    for part in ("train", "val"):
        out = ["-a", str(data / f"instances_{part}.json"), "-o", str(tmp_path / "records")]
        assert main([*convert, *out, "-t", part]) == 0
    text = spec.read_text()
    for old, new in (
        (f'coco_train_image_dir: "{data}/images"', ""),
        (f'coco_val_image_dir: "{data}/images"', ""),
        (
            f'coco_train_json: "{data}/instances_train.json"',
            f'training_file_pattern: "{tmp_path}/records/train*.tfrecord"\n'
            f'  validation_file_pattern: "{tmp_path}/records/val*.tfrecord"',
        ),
    ):
        assert old in text
        text = text.replace(old, new)
    records = tmp_path / "records.txt"
    records.write_text(text)
    assert evaluate(records, root / "run" / MODEL, "-r", str(tmp_path / "judged")) == 0
    metrics = json.loads((tmp_path / "judged" / "eval" / "model.step-6.json").read_text())
    metrics.pop("diagnosis", None)
    assert metrics == json.loads((root / "run" / "eval" / "step-6.json").read_text())
    short = tmp_path / "short.txt"
    short.write_text(text.replace("num_epochs: 2", "total_steps: 2"))
    assert main(["mask_rcnn", "train", "-e", str(short), "-d", str(tmp_path / "run")]) == 0


def test_without_masks_everything_works_on_boxes(tmp_path):
    """And the pyramid may end where the backbone does."""
    changes = (("include_mask: true", "include_mask: false"), ("max_level: 6", "max_level: 5"))
    spec = write_tiny(tmp_path, *changes, ("num_epochs: 2", "total_steps: 2"))
    folder = tmp_path / "run"
    assert main(["mask_rcnn", "train", "-e", str(spec), "-d", str(folder)]) == 0
    report = json.loads((folder / "eval" / "step-2.json").read_text())
    assert set(report["class_AP"]) == {"AP"}
    assert evaluate(spec, folder / "model.step-2.tlt") == 0
    model, graph = folder / "model.step-2.tlt", tmp_path / "model.onnx"
    assert main(["mask_rcnn", "export", "-e", str(spec), "-m", str(model), "-o", str(graph)]) == 0
    labels = []
    for path in (model, graph):
        out = tmp_path / path.suffix[1:]
        argv = ["mask_rcnn", "inference", "-e", str(spec), "-m", str(path), "-t", "0"]
        images = ["-i", str(tmp_path / "data" / "images"), "--include_mask"]
        assert main([*argv, *images, "-o", str(out / "drawn"), "-l", str(out / "labels")]) == 0
        labels.append([json.loads(file.read_text()) for file in sorted((out / "labels").iterdir())])
    assert [len(rows) for rows in labels[0]] == [len(rows) for rows in labels[1]]
    assert labels[0][0] and not any("segmentation" in row for rows in labels[0] for row in rows)


def test_a_model_of_other_categories_is_refused(run, capsys, tmp_path):
    root, spec = run
    data = tmp_path / "data"
    shutil.copytree(root / "data", data)
    for name in ("instances_train.json", "instances_val.json"):
        content = json.loads((data / name).read_text())
        for item in [*content["categories"], *content["annotations"]]:
            key = "category_id" if "category_id" in item else "id"
            item[key] += 10
        (data / name).write_text(json.dumps(content))
    other = tmp_path / "spec.txt"
    other.write_text(spec.read_text().replace(str(root / "data"), str(data)))
    assert evaluate(other, root / "run" / MODEL) == 2
    message = capsys.readouterr().err
    assert "was trained for the category ids [1, 2, 3]" in message
    assert "have [11, 12, 13]" in message
