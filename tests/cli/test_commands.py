"""From flags and a spec to the arguments of the functions that do the work, which are recorded."""

import inspect
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from rcnn_jax.checkpoints.bundle import Bundle, read_bundle, write_bundle
from rcnn_jax.checkpoints.container import encrypt
from rcnn_jax.cli.main import faster_rcnn, main, mask_rcnn
from rcnn_jax.cli.train import slim_models
from rcnn_jax.export.precision.aware import QUANTISER
from rcnn_jax.settings.training import QatSettings
from tests.checkpoints.headers import MODEL_HEADER

FASTER = """
enc_key: "of the spec"
dataset_config { target_class_mapping { key: "car" value: "car" } }
model_config { input_image_config { size_height_width { height: 128 width: 160 } } }
training_config {
  output_model: "OUTPUT/model.tlt"
  learning_rate { step { base_lr: 0.02 } }
  optimizer { sgd { momentum: 0.9 } }
}
"""
MASK = """
total_steps: 10
data_config { num_classes: 2 }
"""


class Recorder:
    """Stands for train, evaluate or inference; remembers the last call."""

    def __init__(self, result=None):
        self.result = result
        self.called = None

    def __call__(self, experiment, *args, **kwargs):
        self.called = {"experiment": experiment, "args": args, **kwargs}
        return self.result


@pytest.fixture(autouse=True)
def _no_key(monkeypatch):
    monkeypatch.delenv("RCNN_JAX_KEY", raising=False)


def replace(monkeypatch, module, name, result=None):
    recorder = Recorder(result)
    fake = types.ModuleType(module)
    setattr(fake, name, recorder)
    monkeypatch.setitem(sys.modules, module, fake)
    return recorder


@pytest.fixture
def train(monkeypatch):
    unfinished = types.SimpleNamespace(finished=False, models=())
    return replace(monkeypatch, "rcnn_jax.train.command", "train", unfinished)


@pytest.fixture
def opened(monkeypatch):
    """Stands for opening a model file and comparing it; remembers what was opened and how."""
    calls = []

    def open_model(path, key, **options):
        calls.append({"path": path, "key": key, **options})
        return path

    monkeypatch.setattr("rcnn_jax.runtime.open.open_model", open_model)
    monkeypatch.setattr("rcnn_jax.runtime.open.experiment_of", lambda model, *_, **__: None)
    return calls


@pytest.fixture
def evaluate(monkeypatch, opened):
    monkeypatch.setattr("rcnn_jax.evaluate.results.kpi", lambda report: report)
    return replace(monkeypatch, "rcnn_jax.evaluate.command", "evaluate", {"mAP": 0.25})


@pytest.fixture
def inference(monkeypatch, opened):
    return replace(monkeypatch, "rcnn_jax.inference.command", "inference", 0)


def write(folder, text, name="spec.txt"):
    path = folder / name
    path.write_text(text.replace("OUTPUT", str(folder / "from_spec")))
    return str(path)


def statuses(folder):
    return [json.loads(line) for line in (folder / "status.json").read_text().splitlines()]


def test_train_works_in_the_folder_of_the_output_model(tmp_path, train):
    assert faster_rcnn(["train", "-e", write(tmp_path, FASTER)]) == 0
    workdir, options, _ = train.called["args"]
    assert workdir == tmp_path / "from_spec"
    assert (train.called["experiment"].kind, options.devices) == ("faster_rcnn", 1)
    assert (options.fresh, options.use_amp) == (False, False)
    assert [line["status"] for line in statuses(tmp_path / "from_spec")] == ["STARTED", "SUCCESS"]


def test_train_prefers_the_folder_and_the_key_of_the_command_line(tmp_path, train):
    out = tmp_path / "mine"
    argv = ["train", "-e", write(tmp_path, FASTER), "-r", str(out), "-k", "mine"]
    flags = ["--gpus", "2", "--fresh", "--use_amp", "--accept-data-changes"]
    assert faster_rcnn([*argv, *flags]) == 0
    workdir, options, _ = train.called["args"]
    assert (workdir, options.key) == (out, "mine")
    assert (options.devices, options.fresh) == (2, True)
    assert options.use_amp and options.accept_data_changes
    assert not (tmp_path / "from_spec").exists()


def test_the_key_of_the_spec_is_used_but_leaves_the_config(tmp_path, train):
    assert faster_rcnn(["train", "-e", write(tmp_path, FASTER)]) == 0
    assert train.called["args"][1].key == "of the spec"
    assert "of the spec" not in str(train.called["experiment"])
    assert "<redacted>" in train.called["experiment"].spec.text


def test_the_redacted_key_of_a_written_spec_is_no_key(tmp_path, train):
    spec = write(tmp_path, FASTER.replace("of the spec", "<redacted>"))
    assert faster_rcnn(["train", "-e", spec]) == 0
    assert train.called["args"][1].key is None


def test_mask_rcnn_train_needs_a_folder(tmp_path, train, capsys):
    assert mask_rcnn(["train", "-e", write(tmp_path, MASK)]) == 2
    assert capsys.readouterr().err == (
        "error: mask_rcnn train: no folder for the results: give -d DIR or -r DIR\n"
    )
    assert train.called is None


def test_a_wrong_spec_is_a_failure_in_the_named_folder(tmp_path, train, capsys):
    spec = write(tmp_path, FASTER.replace("momentum: 0.9", "momentun: 0.9"))
    assert faster_rcnn(["train", "-e", spec, "-r", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert f"{spec}:8:" in message
    assert "momentun" in message
    assert statuses(tmp_path / "out")[-1]["status"] == "FAILURE"


def test_evaluate_takes_the_model_of_the_spec_and_reports_its_metrics(tmp_path, evaluate):
    model = tmp_path / "a.tlt"
    model.touch()
    spec = write(tmp_path, FASTER + f'evaluation_config {{ model: "{model}" }}')
    assert faster_rcnn(["evaluate", "-e", spec, "-r", str(tmp_path / "out")]) == 0
    assert (evaluate.called["args"], evaluate.called["workdir"]) == ((model,), tmp_path / "out")
    lines = statuses(tmp_path / "out")
    assert [line["status"] for line in lines] == ["STARTED", "RUNNING", "SUCCESS"]
    assert lines[1]["kpi"] == {"mAP": "0.25"}


def test_evaluate_without_any_model_says_where_to_name_one(tmp_path, evaluate, capsys):
    assert faster_rcnn(["evaluate", "-e", write(tmp_path, FASTER)]) == 2
    assert capsys.readouterr().err == (
        "error: no model: give -m FILE or evaluation_config.model in the spec\n"
    )


@pytest.mark.parametrize(
    ("named", "model"),
    [
        ('trt_engine: "{}/b.trt"', "b.trt"),
        ('etlt_model {{ model: "{}/b.etlt" }}', "b.etlt"),
        ('etlt_model {{ model: "{0}/b.onnx" calibration_cache: "{0}/cal.bin" }}', "b.onnx"),
        ('etlt_model {{ model: "{0}/b.onnx" }} calibration_cache: "{0}/cal.bin"', "b.onnx"),
    ],
)
def test_the_engine_or_exported_model_of_the_spec_comes_before_its_bundle(
    tmp_path, evaluate, inference, opened, named, model
):
    for name in ("a.tlt", "b.trt", "b.etlt", "b.onnx", "cal.bin"):
        (tmp_path / name).touch()
    for section, task, called in (
        ("evaluation", "evaluate", evaluate),
        ("inference", "inference", inference),
    ):
        inner = named.format(tmp_path)
        spec = f'{section}_config {{ model: "{tmp_path}/a.tlt" trt_{section} {{ {inner} }} ' + (
            'images_dir: "in" labels_dump_dir: "out" }' if section == "inference" else "}"
        )
        assert faster_rcnn([task, "-e", write(tmp_path, FASTER + spec)]) == 0
        assert called.called["args"][0] == tmp_path / model
        rewrite = opened[-1]["rewrite"]
        if "cal.bin" in named:
            assert inspect.getclosurevars(rewrite).nonlocals["cache"] == tmp_path / "cal.bin"
        else:
            assert rewrite is None


def test_a_model_that_is_not_there_is_named_with_its_field(tmp_path, evaluate, capsys):
    spec = write(tmp_path, FASTER + 'evaluation_config { trt_evaluation { trt_engine: "b.trt" } }')
    assert faster_rcnn(["evaluate", "-e", spec]) == 2
    message = "evaluation_config.trt_evaluation.trt_engine b.trt: expected a file, found nothing"
    assert message in capsys.readouterr().err
    assert faster_rcnn(["evaluate", "-e", spec, "-m", "c.engine"]) == 2
    assert "-m c.engine: expected a file" in capsys.readouterr().err


def test_faster_rcnn_inference_reads_the_spec(tmp_path, inference):
    model = tmp_path / "a.tlt"
    model.touch()
    section = (
        f'inference_config {{ model: "{model}" images_dir: "in" '
        'detection_image_output_dir: "drawn" labels_dump_dir: "labels" }'
    )
    assert faster_rcnn(["inference", "-e", write(tmp_path, FASTER + section)]) == 0
    called = inference.called
    assert (str(called["args"][1]), str(called["image_output"])) == ("in", "drawn")
    assert (str(called["label_output"]), called["threshold"]) == ("labels", None)
    assert not called["include_mask"]
    spec = write(tmp_path, FASTER + section)
    assert faster_rcnn(["inference", "-e", spec, "-r", str(tmp_path / "out")]) == 0
    assert inference.called["image_output"] == tmp_path / "out" / "images_annotated"
    assert inference.called["label_output"] == tmp_path / "out" / "labels"


def test_mask_rcnn_inference_reads_the_flags(tmp_path, inference):
    model = tmp_path / "a.tlt"
    model.touch()
    argv = ["inference", "-e", write(tmp_path, MASK), "-m", str(model), "-i", "in"]
    names = str(tmp_path / "n.txt")
    Path(names).write_text("car\n")
    assert mask_rcnn([*argv, "-o", "drawn", "-t", "0.3", "--include_mask", "-c", names]) == 0
    called = inference.called
    assert (str(called["image_output"]), called["label_output"]) == ("drawn", None)
    assert (called["threshold"], called["include_mask"]) == (0.3, True)
    assert str(called["class_map"]) == names
    assert mask_rcnn([*argv, "-r", str(tmp_path / "out")]) == 0
    assert inference.called["image_output"] == tmp_path / "out" / "images_annotated"
    assert inference.called["label_output"] == tmp_path / "out" / "labels"


def test_inference_without_a_place_for_results_or_a_score_stops_at_once(
    tmp_path, inference, capsys
):
    argv = ["inference", "-e", write(tmp_path, MASK), "-m", "a.tlt", "-i", "in"]
    assert mask_rcnn(argv) == 2
    assert "no folder for results: give -o DIR, -l DIR or -r DIR" in capsys.readouterr().err
    assert mask_rcnn([*argv, "-o", "out", "-t", "60"]) == 2
    assert "-t 60: expected a score in [0, 1]" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["-l", "--out_label_path"])
def test_a_text_file_after_l_is_the_list_of_classes_and_that_is_said_once(
    tmp_path, inference, flag, capsys
):
    names, model = tmp_path / "coco_labels.txt", tmp_path / "a.tlt"
    names.write_text("car\n")
    model.touch()
    argv = ["inference", "-e", write(tmp_path, MASK), "-m", str(model), "-i", "in", "-o", "drawn"]
    assert mask_rcnn([*argv, flag, str(names)]) == 0
    assert inference.called["class_map"] == names
    assert inference.called["label_output"] is None
    assert capsys.readouterr().out.count("coco_labels.txt is a text file: its lines are the") == 1
    assert mask_rcnn([*argv, flag, str(names), "-c", str(names)]) == 0
    other = tmp_path / "other.txt"
    other.write_text("car\n")
    assert mask_rcnn([*argv, flag, str(names), "-c", str(other)]) == 2
    assert "both name a file of class names" in capsys.readouterr().err
    assert mask_rcnn([*argv[:-2], flag, str(names)]) == 2
    assert "no folder for results: give -o DIR, -l DIR or -r DIR" in capsys.readouterr().err
    for content in (b"[]", b' {"a": 1}', b"\x89PNG\0"):
        other.write_bytes(content)
        assert mask_rcnn([*argv, flag, str(other)]) == 2
        assert f"-l {other}: expected a folder, found a file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "spec_key", "expected"),
    [
        ("", "", "models/a.onnx"),
        ("-k key", "", "a.etlt"),
        ("", "of the spec", "a.etlt"),
        ("", "<redacted>", "models/a.onnx"),
        ("-k key -o out/b", "", "out/b.etlt"),
        ("-o out/b", "", "out/b.onnx"),
        ("-k key -o out/b.onnx", "", "out/b.onnx"),
    ],
)
def test_an_export_is_named_after_its_model_and_its_key(
    tmp_path, monkeypatch, flags, spec_key, expected
):
    from rcnn_jax.cli import export
    from rcnn_jax.cli.main import detector_parser

    monkeypatch.chdir(tmp_path)
    spec = write(tmp_path, FASTER.replace("of the spec", spec_key))
    argv = ["export", "-e", spec, "-m", "models/a.tlt", *flags.split()]
    args = detector_parser("faster_rcnn").parse_args(argv)
    names = [output.path.as_posix() for output in export.paths(args, "faster_rcnn").writes]
    assert names[0] == expected
    assert f"{expected}.check.json" in names


def test_images_that_could_not_be_read_make_the_end_a_failure(tmp_path, inference, capsys):
    inference.result = 3
    model = tmp_path / "a.tlt"
    model.touch()
    argv = ["inference", "-e", write(tmp_path, MASK), "-m", str(model), "-i", "in"]
    assert mask_rcnn([*argv, "-r", str(tmp_path)]) == 2
    message = "3 images could not be used (named above); the others are done"
    assert capsys.readouterr().err == f"error: {message}\n"
    assert (statuses(tmp_path)[-1]["status"], statuses(tmp_path)[-1]["message"]) == (
        "FAILURE",
        message,
    )


def test_no_task_but_training_asks_for_a_schedule(tmp_path, evaluate, inference, capsys):
    (tmp_path / "a.tlt").touch()
    model = ["-m", str(tmp_path / "a.tlt")]
    faster = FASTER[: FASTER.index("training_config")]
    mask = MASK.replace("total_steps: 10", "")
    for command, text in ((faster_rcnn, faster), (mask_rcnn, mask)):
        spec = write(tmp_path, text)
        assert command(["evaluate", "-e", spec, *model]) == 0
        folders = ["-i", str(tmp_path / "in"), "-r", str(tmp_path / "out")]
        assert command(["inference", "-e", spec, *model, *folders]) == 0
        assert command(["train", "-e", spec, "-r", str(tmp_path / "out")]) == 2
    assert "total_steps or num_epochs must be given" in capsys.readouterr().err


def test_quantisation_aware_training_gets_what_calibrates_it(tmp_path, train):
    spec = write(tmp_path, FASTER.replace("optimizer {", "enable_qat: True optimizer {"))
    assert faster_rcnn(["train", "-e", spec]) == 0
    experiment, options = train.called["experiment"], train.called["args"][1]
    assert experiment.qat == QatSettings() and options.quantiser is QUANTISER


def test_fields_and_flags_without_effect_are_noted(tmp_path, train, capsys):
    spec = write(tmp_path, FASTER + "verbose: true")
    assert faster_rcnn(["train", "-e", spec, "--launch_cuda_blocking"]) == 0
    out = capsys.readouterr().out
    assert "note: --launch_cuda_blocking has no effect here" in out


def test_several_machines_need_several_processes(tmp_path, train, capsys):
    assert faster_rcnn(["train", "-e", write(tmp_path, FASTER), "--multi-node"]) == 2
    assert "--multi-node: this is the only process" in capsys.readouterr().err
    assert train.called is None


def test_slimming_takes_out_the_optimizer_once_and_stays_encrypted(tmp_path):
    path = tmp_path / "a.tlt"
    arrays = {name: np.ones(3, np.float32) for name in ("params/conv1/kernel", "opt_state/0")}
    write_bundle(path, Bundle("faster_rcnn", MODEL_HEADER, arrays), "key")
    slim_models([path], "key")
    once = path.read_bytes()
    assert list(read_bundle(path, "key").arrays) == ["params/conv1/kernel"]
    slim_models([path], "key")
    assert path.read_bytes() == once


def test_decrypt_writes_what_was_encrypted_and_nothing_over_a_file(tmp_path, monkeypatch, capsys):
    encrypted, plain = tmp_path / "a.etlt", tmp_path / "new" / "a.onnx"
    encrypted.write_bytes(encrypt(b"a graph", "key"))
    argv = ["decrypt", "-m", str(encrypted), "-o", str(plain)]
    assert main(argv) == 2
    assert "decrypt needs the key" in capsys.readouterr().err
    assert main([*argv, "-k", "wrong"]) == 2
    assert str(encrypted) in capsys.readouterr().err
    assert not plain.exists()
    monkeypatch.setenv("RCNN_JAX_KEY", "key")
    assert main(argv) == 0
    assert plain.read_bytes() == b"a graph"
    assert main(argv) == 2
    assert "exists already" in capsys.readouterr().err
