"""The absl entry: a config instead of a spec file, the same commands behind it."""

import subprocess
import sys
import types
from pathlib import Path
from unittest import mock

import pytest
from absl.testing import flagsaver

from rcnn_jax import main as entry
from rcnn_jax.cli.main import guarded
from rcnn_jax.errors import SpecError, UsageError

# ml_collections opens config files by a method that Python 3.15 will remove.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")

CONFIG = '''
from rcnn_jax.spec.load import parse_spec

TEXT = """
enc_key: "secret"
dataset_config { target_class_mapping { key: "car" value: "car" } }
model_config { input_image_config { size_height_width { height: 128 width: 160 } } }
training_config {
  learning_rate { step { base_lr: 0.02 } }
  optimizer { sgd { momentum: 0.9 } }
}
"""


def get_config():
    return parse_spec(TEXT, "test", "faster_rcnn").config
'''


@pytest.fixture
def calls(monkeypatch):
    """Every call of the functions that do the work, as (name, experiment, positional, named)."""
    seen = []
    for module, name, result in (
        ("rcnn_jax.train.command", "train", types.SimpleNamespace(finished=False, models=())),
        ("rcnn_jax.evaluate.command", "evaluate", {}),
        ("rcnn_jax.inference.command", "inference", 0),
    ):
        fake = types.ModuleType(module)

        def work(experiment, *args, _name=name, _result=result, **kwargs):
            seen.append((_name, experiment, args, kwargs))
            return _result

        setattr(fake, name, work)
        monkeypatch.setitem(sys.modules, module, fake)
    monkeypatch.setattr("rcnn_jax.runtime.open.open_model", lambda path, key, **_: path)
    monkeypatch.setattr("rcnn_jax.runtime.open.experiment_of", lambda *_, **__: None)
    monkeypatch.setattr("rcnn_jax.evaluate.results.kpi", lambda report: report)
    return seen


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.py"
    path.write_text(CONFIG)
    return path


def start(*argv):
    command = ["main", *argv]
    with (
        flagsaver.flagsaver(),
        mock.patch.object(sys, "argv", command),
    ):  # overrides come from there
        return entry.run(entry.parse(command)[1:])


def test_training_starts_from_a_config_with_overrides(tmp_path, config, calls):
    override = "--config.training_config.num_epochs=3"
    assert start(f"--config={config}", f"--workdir={tmp_path / 'out'}", override) == 0
    ((name, experiment, (workdir, options, _), _),) = calls
    assert (name, workdir, options.key) == ("train", tmp_path / "out", "secret")
    assert experiment.run.num_epochs == 3
    assert "secret" not in str(experiment)


def test_an_override_out_of_range_is_a_spec_error(tmp_path, config, calls):
    override = "--config.training_config.rpn_max_overlap=1.7"
    with pytest.raises(SpecError, match="config.training_config.rpn_max_overlap"):
        start(f"--config={config}", f"--workdir={tmp_path}", override)
    assert calls == []


def test_evaluation_takes_the_best_model_of_the_workdir(tmp_path, config, calls):
    (tmp_path / "best.tlt").touch()
    assert start(f"--config={config}", f"--workdir={tmp_path}", "--mode=evaluate") == 0
    assert calls[0][2] == (tmp_path / "best.tlt",)


def test_inference_takes_images_from_the_flags(tmp_path, config, calls):
    model = tmp_path / "other.tlt"
    model.touch()
    argv = [f"--config={config}", f"--workdir={tmp_path}", "--mode=inference"]
    assert start(*argv, f"--model={model}", "--images=in") == 0
    *_, positional, named = calls[0]
    assert positional == (model, Path("in"))
    assert named["image_output"] == tmp_path / "images_annotated"


def test_a_config_of_another_kind_is_refused(tmp_path, config, calls):
    with pytest.raises(UsageError, match="describes faster_rcnn, dataset_convert needs"):
        start(f"--config={config}", f"--workdir={tmp_path}", "--mode=dataset_convert")


def test_without_a_config_the_flag_is_named(capsys):
    assert guarded(start) == 2
    assert "--config=FILE is needed" in capsys.readouterr().err


def test_every_flag_of_the_task_reaches_its_function(tmp_path, config, calls):
    argv = [f"--config={config}", "--config.training_config.num_epochs", "3"]
    more = ["--gpus", "2", "--fresh", "--use-amp", "-k", "mine", "-r", str(tmp_path / "other")]
    assert start(*argv, f"--workdir={tmp_path / 'out'}", *more) == 0
    ((_, experiment, (workdir, options, _), _),) = calls
    assert (workdir, options.key, options.devices) == (tmp_path / "other", "mine", 2)
    assert (options.fresh, options.use_amp) == (True, True)
    assert experiment.run.num_epochs == 3


def test_a_flag_of_the_user_wins_over_what_the_workdir_offers(tmp_path, config, calls):
    (tmp_path / "best.tlt").touch()
    model = tmp_path / "other.tlt"
    model.touch()
    argv = [f"--config={config}", f"--workdir={tmp_path}", "--mode=evaluate"]
    assert start(*argv, "--model_path", str(model)) == 0
    assert calls[0][2] == (model,)


def test_words_are_given_to_absl_or_to_the_task():
    words = "--config=a.py --config.b -1 --noconfig.c -v --mode export -k --config_path x"
    ours, others = entry.split([*words.split(), "--alsologtostderr"])
    assert ours == [
        "--config=a.py",
        "--config.b=-1",
        "--noconfig.c",
        "--mode=export",
        "--alsologtostderr",
    ]
    assert others == ["-v", "-k", "--config_path", "x"]


def test_a_task_in_front_is_the_mode():
    assert entry.split(["gen-trt-engine", "-m", "x"]) == (["--mode=gen_trt_engine"], ["-m", "x"])
    assert entry.split(["-i", "export"]) == ([], ["-i", "export"])


def test_a_spec_in_place_of_a_config_is_told_how_it_is_run(tmp_path, calls, capsys):
    sys.modules.pop("config_config", None)
    path = tmp_path / "spec.txt"
    path.write_text("model_config {\n}\n")
    assert guarded(lambda: start(f"--config={path}", f"--workdir={tmp_path}")) == 2
    errors = capsys.readouterr().err
    assert f"a spec file is run by --config=configs/spec.py:{path}" in errors


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def get_config():\n    return 1 / 0\n", "mine.py:2: ZeroDivisionError: division by"),
        ("def get_config(:\n", "SyntaxError"),
        ("X = 1\n", "the file has no function get_config()"),
        ("def get_config():\n    return 3\n", "get_config() returned 3, expected a ConfigDict"),
    ],
)
def test_a_config_file_at_fault_is_one_message(tmp_path, text, message, calls, capsys):
    sys.modules.pop("config_config", None)  # where ml_collections puts every config file
    path = tmp_path / "mine.py"
    path.write_text(text)
    assert guarded(lambda: start(f"--config={path}", f"--workdir={tmp_path}")) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("flags_", "message"),
    [
        (["--config=gone.py"], "--config gone.py: expected a file, found nothing"),
        (["--config", "gone.py"], "--config gone.py: expected a file, found nothing"),
        (["--mode=foo"], "flag --mode=foo: value should be one of"),
        (
            ["--config.training_config.num_epochz=3"],
            "no field num_epochz; did you mean num_epochs?",
        ),
        (["--config.training_config.num_epochs=a"], "num_epochs=a: invalid literal for int()"),
        (["--fresch"], "there is no flag --fresch; did you mean --fresh?"),
        (["-e", "spec.txt"], "spec.txt: --config takes the place of the spec file"),
        (["--gpus", "0"], "--gpus 0: expected 1 or more"),
    ],
)
def test_flags_at_fault_are_one_message(flags_, message, tmp_path, config, calls, capsys):
    argv = [f"--config={config}", f"--workdir={tmp_path / 'out'}", *flags_]
    assert guarded(lambda: start(*argv)) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert "Traceback" not in errors
    assert calls == []


@pytest.mark.parametrize(
    ("mode", "more", "code", "expected"),
    [
        ("train", ["--multi-node"], 2, "--multi-node: this is the only process"),
        ("export", ["-m", "gone.tlt", "-v"], 2, "-m gone.tlt: expected a file, found nothing"),
        ("export", ["--help"], 0, "--cal_image_dir DIR"),
        ("export", ["--data_type", "int4"], 2, "invalid choice: 'int4'"),
    ],
)
def test_the_program_ends_as_the_command_line_does(mode, more, code, expected, config, tmp_path):
    argv = [f"--config={config}", f"--workdir={tmp_path / 'out'}", f"--mode={mode}", *more]
    done = subprocess.run(
        [sys.executable, "-m", "rcnn_jax.main", *argv],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert (done.returncode, expected in done.stdout + done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stdout + done.stderr
