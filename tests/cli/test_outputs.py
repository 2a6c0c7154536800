"""No command writes over its input, or where it cannot: refused before anything is read or made."""

import json
import os
import shlex
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from rcnn_jax.cli.main import converter, main
from rcnn_jax.cli.outputs import CommandPaths, check, spec_inputs
from rcnn_jax.errors import UsageError
from rcnn_jax.spec.load import load_spec
from rcnn_jax.spec.render import redact, render

FASTER = """
dataset_config {
  data_sources {
    kitti_directory_path: "data"
    kitti_image_dir_name: "images"
    kitti_label_dir_name: "labels"
  }
  data_sources { tfrecords_path: "records/set*" image_directory_path: "data" }
  target_class_mapping { key: "car" value: "car" }
}
model_config { input_image_config { size_height_width { height: 128 width: 160 } } }
training_config {
  output_model: "run/model.tlt"
  learning_rate { step { base_lr: 0.02 } }
  optimizer { sgd { momentum: 0.9 } }
}
inference_config { model: "x.tlt" images_dir: "new" labels_dump_dir: "LABELS" }
"""
MASK = """
total_steps: 10
data_config {
  num_classes: 2
  coco_train_image_dir: "data/images"
  coco_train_json: "data/train.json"
}
"""
CONVERT = """
kitti_config {
  root_directory_path: "data"
  image_dir_name: "images"
  label_dir_name: "labels"
  num_partitions: 2
  val_split: 34
}
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with images, annotations, records, models and specs."""
    monkeypatch.chdir(tmp_path)
    for folder in ("data/images", "data/labels", "new", "records", "run"):
        Path(folder).mkdir(parents=True)
    for name in ("data/images/0.png", "new/0.png"):
        cv2.imwrite(name, np.zeros((32, 48, 3), np.uint8))
    Path("data/labels/0.txt").write_text("car 0 0 0 1 2 20 22 0 0 0 0 0 0 0\n")
    Path("data/train.json").write_text(
        json.dumps({"images": [], "annotations": [], "categories": [{"id": 1, "name": "car"}]})
    )
    for name in ("records/set-0", "x.tlt", "x.onnx", "cal.bin"):
        Path(name).write_bytes(b"content")
    Path("f.txt").write_text(FASTER.replace("LABELS", "found"))
    Path("m.txt").write_text(MASK)
    Path("c.txt").write_text(CONVERT)
    Path("class_map.txt").write_text(MASK)
    Path("names.txt").write_text("car\n")
    Path("link").symlink_to("new")
    return tmp_path


def everything(folder):
    """Returns the content of all files below a folder."""
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("mask_rcnn inference -e m.txt -m x.tlt -i new -o new", "-o new: is what -i new reads"),
        ("mask_rcnn inference -e m.txt -m x.tlt -i new -o link", "-o link: is what -i new reads"),
        ("mask_rcnn inference -e m.txt -m x.tlt -i link -o new", "-o new: is what -i link reads"),
        ("mask_rcnn inference -e m.txt -m x.tlt -i new/../new/ -l new", "-l new: is what -i"),
        ("mask_rcnn inference -e m.txt -m x.tlt -i new/0.png -o new", "-o new: is what -i new"),
        ("mask_rcnn inference -e m.txt -m x.tlt -i 'new/*.png' -o new", "-o new: is what -i new"),
        (
            "mask_rcnn inference -e m.txt -m x.tlt -i new -o data/images",
            "-o data/images: is what data_config.coco_train_image_dir data/images reads",
        ),
        (
            "mask_rcnn inference -e m.txt -m x.tlt -i new -l data/train",
            "the results of -l data/train.json: is what data_config.coco_train_json",
        ),
        ("mask_rcnn inference -e m.txt -m x.tlt -i new -o o --log_file m.txt", "is what -e m.txt"),
        ("mask_rcnn inference -e m.txt -m x.tlt -i new -o o --log_file x.tlt", "is what -m x.tlt"),
        (
            "mask_rcnn inference -e m.txt -m x.tlt -i new -o o --log_file new/0.png",
            "--log_file new/0.png: is what -i new reads",
        ),
        (
            "mask_rcnn inference -e m.txt -m x.tlt -i new -o o -c names.txt --log_file names.txt",
            "--log_file names.txt: is what -c names.txt reads",
        ),
        ("faster_rcnn inference -e f.txt -r data", "labels of -r, data/labels: is what dataset"),
        (
            "faster_rcnn train -e f.txt --log_file records/set-0",
            "--log_file records/set-0: is what dataset_config.data_sources[1].tfrecords_path",
        ),
        ("faster_rcnn export -e f.txt -m x.tlt -o x.tlt", "-o x.tlt: is what -m x.tlt reads"),
        (
            "faster_rcnn export -e f.txt -m x.tlt -o y.onnx --engine_file x.tlt",
            "--engine_file x.tlt: is what -m x.tlt reads",
        ),
        (
            "faster_rcnn export -e f.txt -m x.tlt -o y.onnx --engine_file y.onnx",
            "-o y.onnx and --engine_file y.onnx are one file",
        ),
        (
            "faster_rcnn export -e f.txt -m x.tlt -o y.onnx --data_type int8 --cal_cache_file y.onnx",
            "-o y.onnx and --cal_cache_file y.onnx are one file",
        ),
        (
            "faster_rcnn export -e f.txt -m x.tlt -o o.onnx -r o.onnx",
            "-o o.onnx: cannot be a file, -r o.onnx needs a folder there",
        ),
        (
            "faster_rcnn evaluate -e f.txt -m x.tlt --log_file run/status.json -r run",
            "--log_file run/status.json and the status file run/status.json are one file",
        ),
        (
            "faster_rcnn export -e f.txt -m x.tlt --log_file o -r o/x",
            "--log_file o: cannot be a file, -r o/x needs a folder there",
        ),
        ("faster_rcnn gen_trt_engine -m x.onnx --engine_file x.onnx", "is what -m x.onnx reads"),
        (
            "faster_rcnn gen_trt_engine -m x.onnx -r o --timing_cache x.onnx",
            "--timing_cache x.onnx: is what -m x.onnx reads",
        ),
        (
            "faster_rcnn dataset_convert -d c.txt -o data/images/a",
            "the folder of -o data/images: is",
        ),
        (
            "faster_rcnn dataset_convert -d c.txt -o data/labels/a",
            "the folder of -o data/labels: is",
        ),
        ("mask_rcnn dataset_convert -i new -a data/train.json -o new", "-o new: is what -i new"),
        ("spec translate m.txt -o ./m.txt", "-o m.txt: is what SPEC m.txt reads"),
        ("decrypt -m x.tlt -o x.tlt -k key", "-o x.tlt: is what -m x.tlt reads"),
        ("converter x.onnx -e x.onnx", "-e x.onnx: is what MODEL x.onnx reads"),
        ("converter x.onnx -e cal.bin", "-e cal.bin: is what -c cal.bin reads"),
        ("converter x.onnx -e y.engine --timing_cache x.onnx", "is what MODEL x.onnx reads"),
        (
            "converter x.onnx --header cal.bin -c y.bin -e cal.bin",
            "-e cal.bin: is what --header cal.bin reads",
        ),
        (
            "faster_rcnn evaluate -e f.txt -m y.onnx --header x.onnx --log_file x.onnx",
            "--log_file x.onnx: is what --header x.onnx reads",
        ),
        (
            "mask_rcnn inference -e m.txt -m y.onnx -i new -o o --header x.onnx --log_file x.onnx",
            "--log_file x.onnx: is what --header x.onnx reads",
        ),
        (
            "mask_rcnn export -e m.txt -m x.tlt -o y.onnx --gen_ds_config --engine_file labels.txt",
            "the DeepStream file labels.txt and --engine_file labels.txt are one file",
        ),
        (
            "mask_rcnn export -e m.txt -m x.tlt -o y.onnx --gen_ds_config --log_file class_map.txt",
            "--log_file class_map.txt and the DeepStream file class_map.txt are one file",
        ),
        (
            "mask_rcnn export -e class_map.txt -m x.tlt -o y.onnx --gen_ds_config",
            "the DeepStream file class_map.txt: is what -e class_map.txt reads",
        ),
    ],
)
def test_no_command_writes_over_its_input_or_two_outputs_into_one(here, command, message, capsys):
    before = everything(here)
    assert main(shlex.split(command)) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert everything(here) == before


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("mask_rcnn inference -e m.txt -m x.tlt -i new -o x.tlt", "-o x.tlt: expected a folder"),
        ("mask_rcnn inference -e m.txt -m x.tlt -i new -o x.tlt/y", "-o x.tlt/y: x.tlt is not a"),
        (
            "mask_rcnn inference -e m.txt -m x.tlt -i new -o o -l data/train.json",
            "-l data/train.json",
        ),
        ("mask_rcnn inference -e m.txt -m x.tlt -i new -r x.tlt", "-r x.tlt: expected a folder"),
        ("mask_rcnn evaluate -e m.txt -m x.tlt -r x.tlt", "-r x.tlt: expected a folder"),
        ("mask_rcnn evaluate -e m.txt -m x.tlt --log_file new", "--log_file new: expected a file"),
        ("mask_rcnn train -e m.txt -d x.tlt", "-d/-r x.tlt: expected a folder, found a file"),
        ("mask_rcnn train -e m.txt -d gone_link", "-d/-r gone_link: is a link to nowhere, which"),
        ("mask_rcnn train -e m.txt -d loop", "-d/-r loop: cannot be written: Too many levels"),
        (f"mask_rcnn train -e m.txt -d {'x' * 300}", "the name is longer than 255 bytes"),
        (f"mask_rcnn train -e m.txt -d {'x' * 300}/y", "File name too long"),
        ("mask_rcnn train -e m.txt -d /proc/x", "-d/-r /proc/x: /proc/x cannot be made"),
        ("faster_rcnn export -e f.txt -m x.tlt -o new", "-o new: expected a file, found a folder"),
        ("faster_rcnn export -e f.txt -m x.tlt -o dir.onnx", "-o dir.onnx: expected a file, found"),
        (
            "faster_rcnn export -e f.txt -m x.tlt -o y --data_type int8 --cal_image_dir x.tlt",
            "--cal_image_dir x.tlt: expected a folder, found a file there",
        ),
        (
            "mask_rcnn dataset_convert -i new/0.png -a data/train.json -o o",
            "-i new/0.png: expected a folder, found a file there",
        ),
        (
            "mask_rcnn inference -e m.txt -m x.tlt -i new -o o -c name.txt",
            "-c name.txt: expected a file, found nothing there; in . lies names.txt",
        ),
        ("faster_rcnn export -e f.txt -m x.tlt -o y.onnx --engine_file new", "--engine_file new:"),
        ("faster_rcnn export -e f.txt -m x.tlt -o pipe.onnx", "found a device or pipe there"),
        ("faster_rcnn dataset_convert -d c.txt -o x.tlt/a", "the folder of -o x.tlt: expected a"),
        ("mask_rcnn dataset_convert -i new -a data/train.json -o x.tlt", "-o x.tlt: expected a f"),
        ("spec translate m.txt -o new", "-o new: expected a file, found a folder there"),
        ("decrypt -m x.tlt -o new -k key", "-o new: expected a file, found a folder there"),
        ("converter x.onnx -e new", "-e new: expected a file, found a folder there"),
    ],
)
def test_an_output_of_the_wrong_kind_is_one_message(here, command, message, capsys):
    Path("gone_link").symlink_to("nowhere")
    Path("loop").symlink_to("loop")
    Path("dir.onnx").mkdir()
    os.mkfifo("pipe.onnx")
    before = sorted(here.rglob("*"))
    assert main(shlex.split(command)) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("mask_rcnn inference -e m.txt -m x.tlt -i new -o o -l .", "x.tlt: is not a model file"),
        ("mask_rcnn inference -e m.txt -m x.tlt -i new -o o -l ..", "x.tlt: is not a model file"),
        ("faster_rcnn dataset_convert -d c.txt -o .", "-o .: expected a folder and the beginning"),
        ("faster_rcnn export -e f.txt -m x.tlt -o .", "-o .: expected a file, found a folder"),
        (
            "faster_rcnn export -e f.txt -m x.tlt -o y --engine_file .",
            "--engine_file .: expected a",
        ),
        ("converter x.onnx -e .", "-e .: expected a file, found a folder"),
        ("spec translate m.txt -o .", "-o .: expected a file, found a folder"),
        ("decrypt -m x.tlt -o / -k key", "-o /: expected a file, found a folder"),
    ],
)
def test_a_path_without_a_name_is_a_path(here, command, message, capsys):
    assert main(shlex.split(command)) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err


def test_a_spec_without_a_schedule_has_its_inputs_spared_too(here, capsys):
    schedule = ("learning_rate { step { base_lr: 0.02 } }", "optimizer { sgd { momentum: 0.9 } }")
    text = Path("f.txt").read_text()
    for block in schedule:
        text = text.replace(block, "")
    Path("f.txt").write_text(text)
    Path("m.txt").write_text(MASK.replace("total_steps: 10", ""))
    before = everything(here)
    assert main(shlex.split("faster_rcnn inference -e f.txt -r data")) == 2
    assert "labels of -r, data/labels: is what dataset_config" in capsys.readouterr().err
    assert main(shlex.split("mask_rcnn inference -e m.txt -m x.tlt -i new -o data/images")) == 2
    assert "is what data_config.coco_train_image_dir data/images" in capsys.readouterr().err
    assert everything(here) == before


def test_the_label_folder_of_the_spec_is_spared_whoever_names_it(here, capsys):
    Path("f.txt").write_text(FASTER.replace("LABELS", "data/labels"))
    before = everything(here)
    assert main(["faster_rcnn", "inference", "-e", "f.txt"]) == 2
    assert (
        "inference_config.labels_dump_dir data/labels: is what "
        "dataset_config.data_sources[0].kitti_label_dir_name data/labels reads"
    ) in capsys.readouterr().err
    assert everything(here) == before


def test_annotations_that_the_spec_does_not_name_are_told_from_detections(here, capsys):
    Path("other").mkdir()
    Path("other/0.txt").write_text(Path("data/labels/0.txt").read_text())
    Path("f.txt").write_text(FASTER.replace("LABELS", "other"))
    before = everything(here)
    assert main(["faster_rcnn", "inference", "-e", "f.txt"]) == 2
    assert "other/0.txt holds annotations without scores" in capsys.readouterr().err
    assert everything(here) == before
    Path("other/0.txt").write_text("car 0 0 0 1 2 20 22 0 0 0 0 0 0 0 0.9\n")
    assert main(["faster_rcnn", "inference", "-e", "f.txt"]) == 2
    assert "x.tlt: is not a model file" in capsys.readouterr().err  # our own dumps may be replaced
    Path("masks").mkdir()
    for path in ("masks.json", "masks/0.json"):
        Path(path).write_text('{"images": []}')
        argv = ["mask_rcnn", "inference", "-e", "m.txt", "-m", "x.tlt", "-i", "new", "-l", "masks"]
        assert main(argv) == 2
        assert f"{path} holds annotations without scores" in capsys.readouterr().err
        Path(path).write_text("[]")


def test_weights_to_start_from_are_not_where_the_run_writes_its_models(here, capsys):
    for name, refused in (
        ("run/best.tlt", True),
        ("run/model.epoch12.tlt", True),
        ("run/other.epoch12.tlt", False),
        ("x.tlt", False),
    ):
        Path("f.txt").write_text(
            FASTER.replace("output_model", f'pretrained_weights: "{name}"\n  output_model')
        )
        main(["faster_rcnn", "train", "-e", "f.txt", "--gpus", "0"])
        errors = capsys.readouterr().err
        assert (f"a model of this run, {name}: is what training_config" in errors) == refused, name


def test_a_spec_in_the_folder_of_the_run_is_kept_unless_the_run_wrote_it(here, capsys):
    Path("run/spec.txt").write_text(FASTER)
    argv = ["faster_rcnn", "train", "-e", "run/spec.txt", "--gpus", "0"]
    assert main(argv) == 2
    assert "the run's own spec, run/spec.txt: is what -e run/spec.txt" in capsys.readouterr().err
    written = render(redact(load_spec("f.txt", "faster_rcnn").config), "faster_rcnn")
    Path("run/spec.txt").write_text(written)
    assert main(argv) == 2
    assert "--gpus 0: expected 1 or more" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["config.json", "data.json", "metrics.jsonl", "status.json"])
def test_annotations_in_the_folder_of_the_run_are_none_of_its_files(name, here, capsys):
    Path("m.txt").write_text(MASK.replace("data/train.json", f"data/{name}"))
    Path("data", name).write_text("{}")
    assert main(["mask_rcnn", "train", "-e", "m.txt", "-d", "data", "--gpus", "0"]) == 2
    errors = capsys.readouterr().err
    assert f"data/{name}: is what data_config.coco_train_json data/{name} reads" in errors


def test_devices_serve_as_log_files_and_folders_are_shared(here):
    paths = CommandPaths()
    paths.write("--log_file", "/dev/null", "log")
    paths.write("-o", "out", "folder")
    paths.write("-l", "out", "folder")
    paths.write("-r", "out", "workdir")
    paths.write("the report", "out/report.json")
    paths.read("-i", "new", "folder")
    paths.read("-c", None)
    check(paths)
    assert not Path("out").exists()
    paths.write("-o", "/dev/null")
    with pytest.raises(UsageError, match="-o /dev/null: expected a file, found a device or pipe"):
        check(paths)


def test_processes_that_try_the_same_folder_at_once_do_not_refuse_each_other(tmp_path):
    paths = CommandPaths()
    paths.write("-d", tmp_path / "new" / "run", "workdir")

    def tries(_):
        for _ in range(300):
            check(paths)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(tries, range(8)))
    assert not (tmp_path / "new").exists()


def test_a_folder_without_permission_is_named(here, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # tests may run as root
    paths = CommandPaths()
    paths.write("-o", "new", "folder")
    with pytest.raises(UsageError, match="-o new: new is not writable"):
        check(paths)


def test_the_inputs_of_a_spec_are_the_folders_that_are_read_not_their_root(here, monkeypatch):
    config = load_spec("f.txt", "faster_rcnn").config
    inputs = {(entry.path.as_posix(), entry.kind) for entry in spec_inputs(config, "faster_rcnn")}
    assert inputs == {
        ("data/images", "folder"),
        ("data/labels", "folder"),
        ("records/set*", "file"),
        ("data", "folder"),
    }
    (here / "base").mkdir()
    (here / "data").rename(here / "base" / "data")
    monkeypatch.setenv("DATA_BASE_PATH", str(here / "base"))
    config = load_spec("c.txt", "dataset_convert").config
    paths = [entry.path for entry in spec_inputs(config, "dataset_convert")]
    assert paths == [here / "base/data/images", here / "base/data/labels"]


def test_the_converter_as_a_program_of_its_own_is_held_to_the_rule(here, capsys):
    assert converter(["x.onnx", "-e", "x.onnx"]) == 2
    assert "-e x.onnx: is what MODEL x.onnx reads" in capsys.readouterr().err
