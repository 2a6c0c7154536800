"""The command lines of NVIDIA's notebooks, in their order and their spelling, on tiny data.

Of TLT 3 as its manuals have them, of TAO 5 with the words of its launchers. The last step needs
TensorRT; where it is absent that is the one message.
"""

import importlib.util
import json
import shlex

import pytest

from rcnn_jax.cli.main import converter, main
from tests.e2e import tiny, tiny_mask

KEY = "a-key-of-the-test"
WITHOUT_TENSORRT = importlib.util.find_spec("tensorrt") is None
CONVERT = """
kitti_config {
  root_directory_path: "ROOT/data"
  image_dir_name: "images"
  label_dir_name: "labels"
  image_extension: ".png"
  partition_mode: "random"
  num_partitions: 2
  val_split: 34
  num_shards: 2
}
"""
KITTI = """data_sources {
    kitti_directory_path: "ROOT/data"
    kitti_image_dir_name: "images"
    kitti_label_dir_name: "labels"
  }"""
RECORDS = """data_sources {
    tfrecords_path: "ROOT/tfrecords/cells*"
    image_directory_path: "ROOT/data"
  }
  validation_fold: 0"""
VALIDATION = KITTI.replace("data_sources", "validation_data_source")


def tao(command, **names):
    """Runs a command line of a notebook; names stand for its variables."""
    return main(shlex.split(command.format(**names)), program="tao")


def ends_at_tensorrt(code, capsys):
    """Says whether an engine was built, or only the library was missing."""
    errors = capsys.readouterr().err
    return code == 0 if not WITHOUT_TENSORRT else code == 2 and "rcnn-jax[tensorrt]" in errors


@pytest.fixture(scope="module")
def kitti(tmp_path_factory):
    """A folder with KITTI data, a dataset spec and an experiment spec on its records."""
    root = tmp_path_factory.mktemp("kitti")
    spec = tiny.write_tiny(root)
    text = spec.read_text()
    for old, new in ((KITTI, RECORDS), (VALIDATION, "")):
        old, new = (part.replace("ROOT", str(root)) for part in (old, new))
        assert old in text
        text = text.replace(old, new)
    spec.write_text(text)
    (root / "convert.txt").write_text(CONVERT.replace("ROOT", str(root)))
    return root


def test_faster_rcnn_as_in_the_notebook_of_tlt_3(kitti, monkeypatch, capsys):
    monkeypatch.chdir(kitti)
    for line in (
        "tlt faster_rcnn dataset_convert --gpu_index 0 -d convert.txt -o tfrecords/cells",
        "tlt faster_rcnn train --gpu_index 0 -e spec.txt -k {key}",
        "tlt faster_rcnn evaluate --gpu_index 0 -e spec.txt -k {key}",
        "tlt faster_rcnn inference --gpu_index 0 -e spec.txt --enc_key {key}",
        "tlt faster_rcnn export --gpu_index 0 -m run/tiny.epoch2.tlt -k {key} "
        "--experiment_spec spec.txt",
    ):
        assert tao(line, key=KEY) == 0, line
    assert len(list((kitti / "found" / "labels").iterdir())) == 6
    encrypted = kitti / "tiny.epoch2.etlt"
    assert encrypted.read_bytes()[:32] != (kitti / "run" / "tiny.epoch2.tlt").read_bytes()[:32]
    assert b"input_image" not in encrypted.read_bytes()
    capsys.readouterr()
    line = f"-k {KEY} -d 3,96,96 -o NMS -e trt.fp16.engine -t fp16 -m 8 tiny.epoch2.etlt"
    assert ends_at_tensorrt(converter(shlex.split(line)), capsys)
    assert ends_at_tensorrt(tao(f"converter {line}"), capsys)
    # a second export meets the first one
    again = "faster_rcnn export -m run/tiny.epoch2.tlt -k {key} -e spec.txt"
    assert tao(again, key=KEY) == 2
    assert "tiny.epoch2.etlt: exists already" in capsys.readouterr().err


def test_faster_rcnn_as_in_the_notebook_of_tao_5(kitti, monkeypatch, capsys):
    monkeypatch.chdir(kitti)
    for line in (
        "model faster-rcnn dataset-convert --gpu_index 0 -d convert.txt -o tfrecords5/cells",
        "model faster_rcnn train --gpu_index 0 -e spec.txt -r run5 -k ''",
        "model faster_rcnn evaluate --gpu_index 0 -e spec.txt -m run5/tiny.epoch2.tlt -r run5/eval",
        "model faster_rcnn inference --gpu_index 0 -e spec.txt -m run5/tiny.epoch2.tlt -r run5/out",
        "model faster_rcnn export --gpu_index 0 -m run5/tiny.epoch2.tlt -o run5/tiny.onnx "
        "-e spec.txt --gen_ds_config",
        "deploy faster_rcnn inference -m run5/tiny.onnx -e spec.txt -i data/images/000000.png "
        "-r run5/one",
    ):
        assert tao(line) == 0, line
    assert len(list((kitti / "run5" / "out" / "images_annotated").iterdir())) == 6
    assert [p.name for p in (kitti / "run5/one/images_annotated").iterdir()] == ["000000.png"]
    capsys.readouterr()
    engine = (
        "deploy faster_rcnn gen_trt_engine -m run5/tiny.onnx -e spec.txt --data_type {precision} "
        "--batches 2 --batch_size 2 --min_batch_size 1 --opt_batch_size 2 --max_batch_size 4 "
        "--max_workspace_size 2 --engine_file run5/tiny.engine -r run5 {more}"
    )
    for precision, more in (
        ("fp32", ""),
        ("int8", "--cal_image_dir data/images --cal_cache_file run5/cal.bin"),
    ):
        assert ends_at_tensorrt(tao(engine, precision=precision, more=more), capsys)
    last = json.loads((kitti / "run5" / "status.json").read_text().splitlines()[-1])
    assert last["status"] == ("FAILURE" if WITHOUT_TENSORRT else "SUCCESS")


def test_mask_rcnn_as_in_its_notebooks(tmp_path, monkeypatch, capsys):
    tiny_mask.write_tiny(tmp_path)
    (tmp_path / "labels.txt").write_text("plate\nsun\nstick\n")
    monkeypatch.chdir(tmp_path)
    model = "run/model.step-6.tlt"
    for line in (
        "model mask_rcnn dataset_convert -i data/images -a data/instances_val.json -o records "
        "--include_masks -t val -s 2",
        "mask_rcnn dataset_convert -i data/images -a data/instances_train.json -o records2 "
        "--include_mask -s 2",
        "mask_rcnn train -e spec.txt -d run -k {key} --gpus 1",
        "mask_rcnn evaluate -e spec.txt -m {model} -k {key}",
        "mask_rcnn inference -i data/images -o found -e spec.txt -m {model} -l labels.txt "
        "-t 0.5 -k {key} --include_mask",
        "mask_rcnn inference -i 'data/images/00000[01].png' -o two -l two_labels -e spec.txt "
        "-m {model} -k {key}",
        "mask_rcnn export -m {model} -k {key} -e spec.txt --batch_size 1 --data_type fp32",
        "deploy mask_rcnn inference_trt -m model.step-6.etlt -k {key} -i data/images -e spec.txt "
        "-r deployed -c labels.txt",
    ):
        assert tao(line, key=KEY, model=model) == 0, line
        output = capsys.readouterr().out
        assert output.count("labels.txt is a text file") == ("-l labels.txt" in line)
    assert len(list((tmp_path / "found").iterdir())) == 9
    assert not (tmp_path / "labels.json").exists()
    assert len(list((tmp_path / "two_labels").iterdir())) == 2
    assert (tmp_path / "labels.txt").read_text() == "plate\nsun\nstick\n"
    engine = "deploy mask_rcnn gen_trt_engine -m model.step-6.etlt -k {key} --engine_file m.engine"
    assert ends_at_tensorrt(tao(f"{engine} -r out", key=KEY), capsys)
    assert tao(engine.replace("mask", "faster"), key=KEY) == 2
    assert "is a model of mask_rcnn: use mask_rcnn gen_trt_engine" in capsys.readouterr().err
    line = f"-k {KEY} -d 3,64,64 -o generate_detections,mask_fcn_logits/BiasAdd model.step-6.etlt"
    assert ends_at_tensorrt(converter(shlex.split(line)), capsys)
