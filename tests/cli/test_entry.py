"""The absl entry: a config instead of a spec file, the same commands behind it."""

import sys
import types
from pathlib import Path
from unittest import mock

import pytest
from absl import flags
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
    """Every call of the functions that do the work, as (name, config, positional, named)."""
    seen = []
    for module, name, result in (
        ("rcnn_jax.train.loop", "train", None),
        ("rcnn_jax.evaluate.command", "evaluate", {}),
        ("rcnn_jax.inference.command", "inference", 0),
    ):
        fake = types.ModuleType(module)

        def work(config, kind, *args, _name=name, _result=result, **kwargs):
            seen.append((_name, config, args, kwargs))
            return _result

        setattr(fake, name, work)
        monkeypatch.setitem(sys.modules, module, fake)
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
        flags.FLAGS(command)
        return entry.run()


def test_training_starts_from_a_config_with_overrides(tmp_path, config, calls):
    override = "--config.training_config.num_epochs=3"
    assert start(f"--config={config}", f"--workdir={tmp_path / 'out'}", override) == 0
    ((name, given, (workdir,), named),) = calls
    assert (name, workdir, named["key"]) == ("train", tmp_path / "out", "secret")
    assert given.training_config.num_epochs == 3
    assert "secret" not in str(given)


def test_an_override_out_of_range_is_a_spec_error(tmp_path, config, calls):
    override = "--config.training_config.rpn_max_overlap=1.7"
    with pytest.raises(SpecError, match="config.training_config.rpn_max_overlap"):
        start(f"--config={config}", f"--workdir={tmp_path}", override)
    assert calls == []


def test_evaluation_takes_the_best_model_of_the_workdir(tmp_path, config, calls):
    (tmp_path / "best.tlt").touch()
    assert start(f"--config={config}", f"--workdir={tmp_path}", "--mode=evaluate") == 0
    assert calls[0][3]["model"] == tmp_path / "best.tlt"


def test_inference_takes_images_from_the_flags(tmp_path, config, calls):
    model = tmp_path / "other.tlt"
    model.touch()
    argv = [f"--config={config}", f"--workdir={tmp_path}", "--mode=inference"]
    assert start(*argv, f"--model={model}", "--images=in") == 0
    named = calls[0][3]
    assert (named["model"], named["images"]) == (model, Path("in"))
    assert named["image_output"] == tmp_path / "images_annotated"


def test_a_config_of_another_kind_is_refused(tmp_path, config, calls):
    with pytest.raises(UsageError, match="describes faster_rcnn, dataset_convert needs"):
        start(f"--config={config}", f"--workdir={tmp_path}", "--mode=dataset_convert")


def test_without_config_and_workdir_the_flags_are_named(capsys):
    assert guarded(start) == 2
    assert "both --config=FILE and --workdir=DIR are needed" in capsys.readouterr().err
