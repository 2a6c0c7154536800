"""gen_trt_engine of TAO 4 and 5 on a stand-in of TensorRT: what is built, and what is said before."""

import json
import shutil
import sys

import onnx
import pytest

from rcnn_jax.cli.main import main
from rcnn_jax.export.conversion import precision_of
from rcnn_jax.export.precision.fp16 import to_fp16
from rcnn_jax.export.precision.scales import read_cache, read_json, write_json
from tests.runtime.test_engine import device, driver, fixed, graph, tensorrt

__all__ = ["device", "driver", "graph", "tensorrt"]  # fixtures


def build(graph, *flags):
    return main(["faster_rcnn", "gen_trt_engine", "-m", str(graph), *map(str, flags)])


def test_an_engine_is_built_with_the_profile_and_the_gigabytes_of_the_flags(
    graph, tensorrt, tmp_path, boxes_files
):
    trt = tensorrt()
    flags = ["-e", boxes_files.spec, "-r", tmp_path / "out", "--max_workspace_size", "3"]
    flags += ["--opt_batch_size", "2", "--max_batch_size", "4", "-s", "--gpu_index", "0"]
    assert build(graph, *flags, "--log_file", tmp_path / "log.txt") == 0
    (fact,) = trt.built
    assert fact.workspace == 3 << 30
    assert fact.profile == {"input_image": [[n, 3, 96, 96] for n in (1, 2, 4)]}
    assert (tmp_path / "out" / "model.engine").exists()
    last = json.loads((tmp_path / "out" / "status.json").read_text().splitlines()[-1])
    assert last["message"] == "faster_rcnn gen_trt_engine finished successfully."


def test_a_fixed_batch_is_the_profile_and_takes_no_other(graph, tensorrt, tmp_path, capsys):
    trt = tensorrt()
    assert build(fixed(graph, 2), "--engine_file", tmp_path / "a.engine") == 0
    assert json.loads((tmp_path / "a.engine.json").read_text())["batches"] == [2, 2, 2]
    assert len(trt.built) == 1
    assert build(fixed(graph, 2), "-r", tmp_path, "--max_batch_size", "4") == 2
    message = "--max_batch_size 4: the model was exported for a batch of 2; leave them out"
    assert message in capsys.readouterr().err


def test_int8_takes_a_cache_or_makes_one_from_images_or_from_json(
    graph, tensorrt, tmp_path, boxes_files, capsys
):
    trt = tensorrt()
    images = boxes_files.spec.parent / "data" / "images"
    flags = ["-r", tmp_path / "out", "--data_type", "int8", "--batches", "2", "--batch_size", "2"]
    made = tmp_path / "made.bin"
    data = tmp_path / "batches.npz"
    more = ["--cal_image_dir", images, "--cal_cache_file", made, "--cal_data_file", data]
    assert build(graph, *flags, *more) == 0
    assert precision_of(trt.built[-1].model) == "int8"
    assert data.exists()
    assert f"calibrating on {images}" in capsys.readouterr().out
    scales = read_cache(made.read_text())
    again = tmp_path / "again.bin"
    assert build(graph, *flags, "--cal_data_file", data, "--cal_cache_file", again) == 0
    assert read_cache(again.read_text()) == scales
    capsys.readouterr()
    assert build(graph, *flags, "--cal_cache_file", made) == 0
    assert "calibrating" not in capsys.readouterr().out
    written = tmp_path / "scales.json"
    written.write_text(write_json(scales))
    third = tmp_path / "third.bin"
    assert build(graph, *flags, "--cal_json_file", written, "--cal_cache_file", third) == 0
    assert read_cache(third.read_text()) == pytest.approx(scales)
    assert written.read_text() == write_json(scales)


def test_scales_of_json_are_checked_one_by_one():
    assert read_json('{"tensor_scales": {"a": 12.7}}', "x")["a"] == pytest.approx(0.1)
    for text in ("", "[]", '{"tensor_scales": {"a": "b"}}', '{"tensor_scales": {"a": -1}}'):
        with pytest.raises(Exception, match=r"^x: (expected JSON such as|the value of 'a' is no)"):
            read_json(text, "x")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "no file for the engine: give --engine_file FILE or -r DIR"),
        (["-r", "out", "--max_workspace_size", "0"], "--max_workspace_size 0: expected 1 or more"),
        (["-r", "out", "--min_batch_size", "4", "--max_batch_size", "2"], "found 4, 4, 2"),
        (["-r", "out", "--data_type", "int8"], "there is no calibration cache cal.bin: give"),
        (
            ["-r", "out", "--data_type", "int8", "--cal_image_dir", "gone"],
            "gone: the image folder (--cal_image_dir) does not exist",
        ),
        (
            ["-r", "out", "--data_type", "int8", "--cal_json_file", "gone.json"],
            "--cal_json_file gone.json: expected a file, found nothing",
        ),
        (["-r", "out", "-e", "gone.txt"], "-e gone.txt: expected a file, found nothing there"),
        (["-r", "out"], "needs the package 'tensorrt'"),
    ],
)
def test_everything_else_is_checked_before_tensorrt_is_missed(
    graph, flags, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert build(graph, *flags) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.engine*"))


def test_a_model_of_another_precision_spec_or_detector_is_told(
    graph, tensorrt, tmp_path, boxes_files, capsys
):
    tensorrt()
    half = tmp_path / "half.onnx"

    onnx.save(to_fp16(onnx.load(graph)), half)
    assert build(half, "-r", tmp_path, "--data_type", "fp32") == 2
    assert "half.onnx is fp16 already, and that cannot be taken back" in capsys.readouterr().err
    spec = tmp_path / "spec.txt"
    spec.write_text(boxes_files.spec.read_text().replace("height: 96", "height: 112"))
    assert build(graph, "-r", tmp_path, "-e", spec) == 2
    assert "was exported with another input size" in capsys.readouterr().err
    assert main(["mask_rcnn", "gen_trt_engine", "-m", str(graph), "-r", str(tmp_path)]) == 2
    assert "is a model of faster_rcnn: use faster_rcnn gen_trt_engine" in capsys.readouterr().err
    bundle = shutil.copy(boxes_files.model, tmp_path / "a.tlt")
    assert build(bundle, "-r", tmp_path) == 2
    assert "expected a name ending in .onnx or .etlt: engines are built from" in (
        capsys.readouterr().err
    )


def test_flags_without_effect_are_noted(graph, tensorrt, tmp_path, capsys):
    tensorrt()
    assert build(graph, "-r", tmp_path, "-v", "--force_ptq", "--batches", "3") == 0
    output = capsys.readouterr().out
    for note in (
        "--verbose has no effect here: everything is reported already",
        "--force_ptq has no effect here: an fp32 graph is always calibrated after training",
        "--batches has no effect without --data_type int8",
    ):
        assert f"note: {note}" in output
