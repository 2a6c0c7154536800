"""Engines, with stand-ins for TensorRT and for the driver where the machine has neither."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from rcnn_jax.checkpoints.container import encrypt
from rcnn_jax.cli.main import converter, main
from rcnn_jax.cli.session import Session
from rcnn_jax.errors import MissingDependencyError
from rcnn_jax.export.conversion import precision_of
from rcnn_jax.export.deployment import Deployment, deploy
from rcnn_jax.export.precision.model_view import ModelView
from rcnn_jax.export.precision.placement import place
from rcnn_jax.export.precision.quantize import insert_qdq
from rcnn_jax.export.precision.scales import read_cache, write_cache
from rcnn_jax.export.verification.parity import compare_detections
from rcnn_jax.runtime import cuda
from rcnn_jax.runtime.cuda import Device, DeviceError
from rcnn_jax.runtime.engine import open_engine
from rcnn_jax.runtime.onnx_file import read_header, read_onnx
from rcnn_jax.runtime.onnx_runtime import open_session, predictor
from tests.export.standins import tensorrt_api

DRIVER = Path(tensorrt_api.__file__).with_name("cuda_driver.c")


@pytest.fixture(scope="session")
def driver(tmp_path_factory):
    """The library of a driver whose device memory is the host's."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to build the stand-in for CUDA's driver with")
    path = tmp_path_factory.mktemp("driver") / "libcuda.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", path, DRIVER], check=True)
    return path


@pytest.fixture
def device(driver, monkeypatch):
    monkeypatch.setattr(cuda, "LIBRARY", str(driver))
    return driver


@pytest.fixture
def tensorrt(device, monkeypatch):
    """Installs a TensorRT of a version; returns the module."""

    def install(version="10.8.0.43", **options):
        module = tensorrt_api.make(version, **options)
        monkeypatch.setitem(sys.modules, "tensorrt", module)
        return module

    return install


@pytest.fixture
def graph(boxes_files, tmp_path):
    """A copy of the exported Faster R-CNN."""
    return shutil.copy(boxes_files.graph, tmp_path / "model.onnx")


def fixed(graph, batch):
    """Writes the graph with a fixed batch beside itself."""
    model = onnx.load(graph)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    metadata = json.loads(model.metadata_props[0].value)
    model.metadata_props[0].value = json.dumps({**metadata, "batch": batch})
    path = Path(graph).with_name("fixed.onnx")
    onnx.save(model, path)
    return path


def build(graph, *flags):
    engine = Path(graph).with_name("model.engine")
    return converter(["-e", str(engine), *map(str, flags), str(graph)]), engine


@pytest.mark.parametrize("version", ["10.8.0.43", "11.1.0.106"])
def test_an_engine_is_built_strongly_typed_with_one_profile(graph, tensorrt, version, capsys):
    trt = tensorrt(version)
    flags = ["-d", "3,96,96", "-o", "NMS", "-m", "4", "-w", "1000000"]
    code, engine = build(graph, *flags)
    assert code == 0
    (fact,) = trt.built
    assert fact.strong and fact.flags == set() and fact.workspace == 1000000
    assert fact.profile == {"input_image": [[n, 3, 96, 96] for n in (1, 4, 4)]}
    told = json.loads(engine.with_name("model.engine.json").read_text())
    assert (told["tensorrt"], told["gpu"]) == (version, "Stand-in GPU (8.9)")
    assert (told["precision"], told["batches"], told["dla_core"]) == ("fp32", [1, 4, 4], None)
    assert told["header"]["mean"] == [103.939, 116.779, 123.68]
    out = capsys.readouterr().out
    assert "input_image Nx3x96x96, bgr" in out and "classes  disc, rod, star" in out
    assert "Detected 1 inputs and 2 output network tensors." in out


@pytest.mark.parametrize("kind", ["boxes_files", "masks_files"])
def test_evaluate_and_inference_with_an_engine_give_what_the_graph_gives(
    kind, request, tensorrt, tmp_path
):
    files = request.getfixturevalue(kind)
    tensorrt()
    code, engine = build(shutil.copy(files.graph, tmp_path / "model.onnx"), "-m", "2")
    assert code == 0
    results = []
    for model in (tmp_path / "model.onnx", engine):
        out = tmp_path / model.suffix[1:]
        argv = ["-e", str(files.spec), "-m", str(model), "-r", str(out)]
        assert main([files.kind, "evaluate", *argv]) == 0
        assert main([files.kind, "inference", *argv, "-i", str(files.images)]) == 0
        table = json.loads((out / "eval" / f"{model.name}.json").read_text())
        labels = sorted((out / "labels").iterdir())
        results.append((table, [path.read_text() for path in labels]))
    assert sum(map(len, results[0][1])) > 100
    assert results[0] == results[1]


def test_the_profile_of_p_and_batches_beyond_it(graph, tensorrt, boxes_files):
    trt = tensorrt()
    profile = "input_image,2x3x96x96,2x3x96x96,3x3x96x96"
    code, engine = build(graph, "-p", profile)
    assert code == 0
    assert [shape[0] for shape in trt.built[0].profile["input_image"]] == [2, 2, 3]
    predict = open_engine(engine).start()
    pictures = np.random.default_rng(0).integers(0, 256, (7, 96, 96, 3), np.uint8)
    detections = predict(pictures)[0]  # 3, 3 and 1, the last filled up to 2
    alone = [predict(pictures[i : i + 1])[0] for i in range(7)]
    assert detections.boxes.shape[0] == 7 and detections.valid.any()
    np.testing.assert_allclose(
        detections.scores, np.concatenate([one.scores for one in alone]), atol=1e-5
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["-d", "3,96,97"], "-d 3,96,97: the model takes 3,96,96"),
        (["-d", "96x96"], "-d 96x96: expected C,H,W"),
        (["-o", "NMS,NMS_2"], "-o NMS,NMS_2: the model gives NMS,NMS_1"),
        (["-o", "NMS_1"], "-o NMS_1: the model gives NMS,NMS_1"),
        (["-i", "nhwc"], "-i nhwc: the model takes nchw"),
        (["-m", "0"], "-m 0: expected 1 or more"),
        (["-w", "-5"], "-w -5: expected 1 or more"),
        (["-p", "Input,1x3x96x96,1x3x96x96,1x3x96x96"], "the input of the model is input_image"),
        (["-p", "input_image,1x3x96x96"], "expected INPUT,MIN,OPT,MAX"),
        (["-p", "input_image,1x3x96,1,1"], "1x3x96: expected NxCxHxW"),
        (["-p", "input_image,1x3x96x96,1x3x64x96,1x3x96x96"], "the model takes Nx3x96x96, only N"),
        (["-p", "input_image,4x3x96x96,1x3x96x96,2x3x96x96"], "expected MIN <= OPT <= MAX"),
        (["-t", "int8", "-c", "nothing.bin"], "-c nothing.bin: there is no such calibration cache"),
        (["-u", "0", "-t", "fp16"], "-u 0: the DLA runs one batch size, found 1 to 16"),
    ],
)
def test_flags_that_do_not_fit_the_model_are_one_message(graph, tensorrt, flags, message, capsys):
    tensorrt()
    code, engine = build(graph, *flags)
    assert code == 2
    assert message in capsys.readouterr().err
    assert not engine.exists()


def test_a_fixed_batch_needs_no_profile_and_takes_no_other(graph, tensorrt, capsys):
    trt = tensorrt()
    path = fixed(graph, 2)
    code, engine = build(path, "-m", "16")
    assert code == 0 and trt.built[0].profile == {}
    assert json.loads(engine.with_name("model.engine.json").read_text())["batches"] == [2, 2, 2]
    assert build(path, "-p", "input_image,1x3x96x96,1x3x96x96,1x3x96x96")[0] == 2
    assert "the model was exported for a batch of 2" in capsys.readouterr().err


def test_fp16_is_written_into_the_graph_that_is_built(graph, tensorrt, capsys):
    trt = tensorrt("11.1.0.106")
    code, engine = build(graph, "-t", "fp16")
    assert code == 0
    assert precision_of(trt.built[0].model) == "fp16"
    assert json.loads(engine.with_name("model.engine.json").read_text())["precision"] == "fp16"
    half = Path(graph).with_name("half.onnx")
    onnx.save(trt.built[0].model, half)
    assert build(half, "-t", "int8")[0] == 2
    assert "is fp16 already, and that cannot be taken back" in capsys.readouterr().err


def cache_of(graph, path):
    """Writes a calibration cache with a scale for every tensor that int8 needs."""
    model = onnx.load(graph)
    path.write_text(write_cache({name: 0.05 for name in place(ModelView(model)).readers}))
    return path


@pytest.mark.parametrize("strict", [False, True])
def test_int8_is_written_into_the_graph_from_the_cache(graph, tensorrt, tmp_path, strict):
    trt = tensorrt()
    cache = cache_of(graph, tmp_path / "cal.bin")
    code, _ = build(graph, "-t", "int8", "-c", cache, *["-s"] * strict)
    assert code == 0
    model = trt.built[0].model
    assert precision_of(model) == "int8"
    assert has_halves(model) is not strict
    # an int8 graph from a file is treated alike
    read = Path(graph).with_name("int8.onnx")
    onnx.save(insert_qdq(onnx.load(graph), read_cache(cache.read_text())), read)
    assert build(read, *["-s"] * strict)[0] == 0
    assert has_halves(trt.built[1].model) is not strict
    assert build(read, "-t", "fp16")[0] == 2


def has_halves(model):
    return any(t.data_type == onnx.TensorProto.FLOAT16 for t in model.graph.initializer)


def test_the_dla_of_tensorrt_10_takes_the_plain_graph_and_the_cache(
    graph, tensorrt, tmp_path, capsys
):
    trt = tensorrt("10.3.0", dla_cores=2)
    path, cache = fixed(graph, 1), cache_of(graph, tmp_path / "cal.bin")
    code, engine = build(path, "-u", "1", "-t", "int8", "-c", cache)
    assert code == 0
    (fact,) = trt.built
    assert not fact.strong and fact.flags == {"GPU_FALLBACK", "FP16", "INT8"}
    assert (fact.device, fact.core) == (trt.DeviceType.DLA, 1)
    assert fact.cache == cache.read_text() and precision_of(fact.model) == "fp32"
    assert json.loads(engine.with_name("model.engine.json").read_text())["dla_core"] == 1
    assert build(path, "-u", "0")[0] == 0
    assert trt.built[1].flags == {"GPU_FALLBACK", "FP16"}
    assert build(path, "-u", "0", "-t", "fp32")[0] == 2
    assert "the DLA of TensorRT 10 computes in fp16 or int8" in capsys.readouterr().err
    assert build(path, "-u", "2", "-t", "fp16")[0] == 2
    assert "-u 2: this machine has 2 DLA cores" in capsys.readouterr().err


def test_the_dla_of_tensorrt_11_reads_the_types_of_the_graph(graph, tensorrt):
    trt = tensorrt("11.4.1", dla_cores=2)
    assert build(fixed(graph, 1), "-u", "0", "-t", "fp16")[0] == 0
    (fact,) = trt.built
    assert fact.strong and fact.flags == {"GPU_FALLBACK"}
    assert precision_of(fact.model) == "fp16"


def test_the_timing_cache_is_read_and_written(graph, tensorrt, tmp_path, capsys):
    tensorrt()
    times = tmp_path / "timing.cache"
    assert build(graph, "--timing_cache", times)[0] == 0
    assert times.read_bytes() == b"10.8.0.43+"
    assert build(graph, "--timing_cache", times)[0] == 0
    assert times.read_bytes() == b"10.8.0.43++"
    tensorrt("11.1.0.106")
    assert build(graph, "--timing_cache", times)[0] == 0
    assert "is of another GPU or TensorRT version; kernels are measured" in capsys.readouterr().out
    assert times.read_bytes() == b"11.1.0.106+"


def test_an_etlt_is_opened_with_its_key_and_the_key_goes_no_further(
    graph, tensorrt, tmp_path, capsys
):
    tensorrt()
    key = "a-key-that-must-not-travel"
    encrypted = tmp_path / "encrypted" / "model.etlt"
    encrypted.parent.mkdir()
    encrypted.write_bytes(encrypt(Path(graph).read_bytes(), key))
    assert build(encrypted, "-k", "wrong")[0] == 2
    assert "the key is wrong" in capsys.readouterr().err
    assert build(encrypted, "-k", key)[0] == 0
    captured = capsys.readouterr()
    assert key not in captured.out + captured.err
    for path in encrypted.parent.iterdir():
        assert key.encode() not in path.read_bytes(), path


def test_what_tensorrt_cannot_read_or_build_ends_in_its_own_words(graph, tensorrt, capsys):
    trt = tensorrt()
    model = onnx.load(graph)
    node = onnx.helper.make_node("Unique", [model.graph.input[0].name], ["u"])
    model.graph.node.append(node)
    strange = Path(graph).with_name("strange.onnx")
    onnx.save(model, strange)
    code, engine = build(strange)
    assert code == 1 and not engine.exists()
    message = capsys.readouterr().err
    assert "TensorRT cannot read the graph:\n  No importer registered for op: Unique" in message

    def refuse(self, network, config):
        return self._refuse("out of workspace")

    trt.Builder.build_serialized_network = refuse
    assert build(graph)[0] == 1
    assert "cannot build an engine:\n  out of workspace" in capsys.readouterr().err


def test_without_tensorrt_the_extra_is_named_and_the_graph_is_complete(graph, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    code, engine = build(graph)
    assert code == 2 and not engine.exists()
    message = capsys.readouterr().err
    assert "(the ONNX model is complete without it) needs the package 'tensorrt'" in message
    assert "pip install 'rcnn-jax[tensorrt]'" in message


def test_export_builds_an_engine_and_the_key_stays_out_of_every_file(
    boxes_files, tensorrt, tmp_path, capsys
):
    trt = tensorrt()
    key = "a-key-that-must-stay-out"
    argv = ["faster_rcnn", "export", "-e", str(boxes_files.spec), "-m", str(boxes_files.model)]
    argv += ["-k", key, "-o", str(tmp_path / "model.etlt"), "-r", str(tmp_path)]
    argv += ["--engine_file", str(tmp_path / "model.engine"), "--gen_ds_config"]
    argv += ["--max_batch_size", "4", "--opt_batch_size", "2", "--max_workspace_size", "123456"]
    argv += ["--log_file", str(tmp_path / "log.txt"), "--timing_cache", str(tmp_path / "times")]
    assert main(argv) == 0
    (fact,) = trt.built
    assert fact.workspace == 123456
    assert [shape[0] for shape in fact.profile["input_image"]] == [1, 2, 4]
    assert "model-engine-file=model.engine\n" in (tmp_path / "nvinfer_config.txt").read_text()
    encrypted = str(tmp_path / "model.etlt")
    assert converter(["-k", key, "-e", str(tmp_path / "b.engine"), "-t", "fp16", encrypted]) == 0
    captured = capsys.readouterr()
    assert key not in captured.out + captured.err
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 13
    for path in files:
        assert key.encode() not in path.read_bytes(), path


def test_an_export_without_tensorrt_leaves_the_graph_whole(graph, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    before = Path(graph).read_bytes()
    wanted = Deployment(engine=tmp_path / "model.engine", bundle=True)
    with pytest.raises(
        MissingDependencyError, match=r"the ONNX model is complete without it\) need"
    ):
        session = Session("export", status_folder=None)
        deploy(wanted, onnx.load(graph), path=Path(graph), threshold=0.6, reporter=session)
    assert Path(graph).read_bytes() == before and (tmp_path / "nvinfer_config.txt").exists()


def test_another_tensorrt_or_no_driver_is_said(graph, tensorrt, monkeypatch, capsys):
    tensorrt("8.6.1")
    assert build(graph)[0] == 2
    assert "needs TensorRT 10 or 11, found 8.6.1" in capsys.readouterr().err
    tensorrt()
    monkeypatch.setattr(cuda, "LIBRARY", "libcuda-of-nobody.so")
    assert build(graph)[0] == 2
    assert "its driver (libcuda-of-nobody.so) is not installed here" in capsys.readouterr().err


class TestMismatches:
    """Everything that is wrong with an engine on this machine is said before it is loaded."""

    @pytest.fixture
    def evaluate(self, graph, tensorrt, boxes_files, capsys):
        tensorrt()
        code, engine = build(graph, "-m", "1")
        assert code == 0
        capsys.readouterr()

        def run():
            argv = ["faster_rcnn", "evaluate", "-e", str(boxes_files.spec), "-m", str(engine)]
            assert main(argv) == 2
            return capsys.readouterr().err

        return run, engine

    def test_no_description(self, evaluate):
        run, engine = evaluate
        engine.with_name("model.engine.json").unlink()
        assert "the description model.engine.json is not beside it" in run()

    def test_a_damaged_description(self, evaluate):
        run, engine = evaluate
        engine.with_name("model.engine.json").write_text("{}")
        assert "model.engine.json: is damaged or of another version of rcnn-jax" in run()
        engine.with_name("model.engine.json").write_text("{")
        assert "model.engine.json: is damaged or of another version of rcnn-jax" in run()

    def test_another_engine_under_the_name(self, evaluate):
        run, engine = evaluate
        engine.write_bytes(engine.read_bytes()[:-1])
        assert "is not the engine that model.engine.json describes" in run()

    def test_another_tensorrt(self, evaluate, tensorrt):
        run, _ = evaluate
        tensorrt("11.1.0.106")
        assert "was built for TensorRT 10.8.0.43, this machine has 11.1.0.106" in run()

    def test_another_gpu(self, evaluate):
        run, engine = evaluate
        path = engine.with_name("model.engine.json")
        path.write_text(path.read_text().replace("Stand-in GPU (8.9)", "NVIDIA L4 (8.9)"))
        message = run()
        assert "was built for GPU NVIDIA L4 (8.9), this machine has Stand-in GPU (8.9)" in message
        assert "an engine belongs to one machine" in message

    def test_another_preprocessing(self, evaluate):
        run, engine = evaluate
        path = engine.with_name("model.engine.json")
        path.write_text(path.read_text().replace("103.939", "104.0"))
        assert "is of another model than the spec" in run()

    def test_no_engine(self, evaluate):
        run, engine = evaluate
        engine.unlink()
        assert "expected a file, found nothing there" in run()

    def test_a_plan_tensorrt_refuses(self, evaluate):
        run, engine = evaluate
        engine.write_bytes(b"no plan at all")
        path = engine.with_name("model.engine.json")
        told = json.loads(path.read_text())
        told["sha256"] = hashlib.sha256(b"no plan at all").hexdigest()
        path.write_text(json.dumps(told))
        assert "TensorRT cannot load the engine:\n  Serialization assertion failed" in run()


def test_bytes_go_to_the_device_and_come_back(device):
    gpu = Device()
    assert gpu.name == "Stand-in GPU (8.9)"
    sent = np.random.default_rng(1).normal(size=1000).astype(np.float32)
    address = gpu.buffer("x", sent.nbytes)
    assert gpu.buffer("x", 10) == address, "a smaller need keeps the memory"
    gpu.to_device(sent, address)
    back = np.zeros_like(sent)
    gpu.to_host(address, back)
    gpu.wait()
    np.testing.assert_array_equal(sent, back)
    with pytest.raises(DeviceError, match="cuMemcpyHtoDAsync_v2: invalid argument"):
        gpu.to_device(np.zeros(1001, np.float32), address)
    with pytest.raises(DeviceError, match="cuMemAlloc_v2: out of memory"):
        gpu.buffer("y", 1 << 41)
    gpu.close()
    with pytest.raises(DeviceError):
        gpu.to_device(sent, address)


@pytest.mark.gpu
def test_bytes_go_to_a_real_gpu_and_come_back():
    try:
        gpu = Device()
    except MissingDependencyError as error:
        pytest.skip(str(error))
    sent = np.arange(1 << 20, dtype=np.float32)
    address = gpu.buffer("x", sent.nbytes)
    gpu.to_device(sent, address)
    back = np.zeros_like(sent)
    gpu.to_host(address, back)
    gpu.wait()
    np.testing.assert_array_equal(sent, back)
    gpu.close()


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("kind", ["boxes_files", "masks_files"])
def test_a_real_engine_finds_what_the_graph_finds(kind, precision, request, tmp_path):
    pytest.importorskip("tensorrt", reason="TensorRT is not installed (extra tensorrt)")
    files = request.getfixturevalue(kind)
    code, engine = build(
        shutil.copy(files.graph, tmp_path / "model.onnx"), "-m", "4", "-t", precision
    )
    assert code == 0
    model = read_onnx(files.graph, None)
    header = read_header(model, "graph")
    reference = predictor(open_session(model.SerializeToString(), "graph"), header)
    pictures = np.random.default_rng(0).integers(0, 256, (3, *header.canvas, 3), np.uint8)
    parity = compare_detections(reference(pictures)[0], open_engine(engine).start()(pictures)[0])
    assert parity.detections > 0
    assert parity.unmatched <= (0 if precision == "fp32" else parity.detections // 10)
