"""Every config of the repository loads, and can be overridden from the command line."""

import importlib.util
from pathlib import Path

import pytest
from absl import flags
from ml_collections import config_flags

from rcnn_jax.errors import SpecError
from rcnn_jax.spec import load_spec, parse_spec, render, validate
from tests.spec.samples import FASTER
from tools.config_files import rewritten, sources

pytestmark = pytest.mark.filterwarnings("ignore:the load_module.*:DeprecationWarning")

CONFIGS = Path(__file__).parents[2] / "configs"
SPECS = sorted(CONFIGS.rglob("*.txt"))
DOCUMENTS = sorted(path for path in CONFIGS.rglob("*.py") if path.name != "spec.py")


def relative(path: Path) -> str:
    return str(path.relative_to(CONFIGS))


def from_flags(*arguments: str) -> flags.FlagValues:
    values = flags.FlagValues()
    command = ["test", *arguments]
    config_flags.DEFINE_config_file("config", None, "", flag_values=values, sys_argv=command)
    values(command)
    return values


@pytest.mark.parametrize("path", SPECS, ids=relative)
def test_every_spec_loads_and_renders_to_itself(path: Path) -> None:
    spec = load_spec(path)
    assert spec.kind == path.parent.name
    assert parse_spec(render(spec.config, spec.kind)).config == spec.config


@pytest.mark.parametrize("path", DOCUMENTS, ids=relative)
def test_every_document_returns_its_config_and_names_its_command(path: Path) -> None:
    module_spec = importlib.util.spec_from_file_location(path.stem, path)
    assert module_spec is not None and module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    assert f"--config=configs/{relative(path)} " in module.__doc__
    config, spec = module.get_config(), load_spec(sources()[path])
    assert config.is_locked
    assert config.to_json(sort_keys=True) == spec.config.to_json(sort_keys=True)


@pytest.mark.parametrize("path", DOCUMENTS, ids=relative)
def test_every_document_is_written_as_its_spec_says(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == rewritten(path, sources()[path]), (
        f"{relative(path)} is old: run  python -m tools.config_files"
    )


def test_a_document_is_overridden_field_by_field() -> None:
    values = from_flags(
        f"--config={CONFIGS / 'faster_rcnn' / 'tiny.py'}",
        "--config.training_config.num_epochs=3",
        "--config.dataset_config.data_sources[0].kitti_directory_path=other",
        "--config.dataset_config.target_class_mapping.disc=star",
    )
    config = values.config
    validate(config, "faster_rcnn", "train")
    assert config.training_config.num_epochs == 3
    assert config.dataset_config.data_sources[0].kitti_directory_path == "other"
    assert dict(config.dataset_config.target_class_mapping)["disc"] == "star"


def test_a_spec_is_named_behind_a_colon_and_overridden(tmp_path: Path) -> None:
    spec = tmp_path / "spec.txt"
    spec.write_text(FASTER, encoding="utf-8")
    values = from_flags(
        f"--config={CONFIGS / 'spec.py'}:{spec}",
        "--config.training_config.num_epochs=3",
        "--config.training_config.output_model=out/x.tlt",
        "--config.training_config.optimizer.sgd.enabled=false",
        "--config.training_config.optimizer.adam.enabled=true",
        "--config.model_config.freeze_blocks=(0, 1)",
        "--config.dataset_config.data_sources[0].tfrecords_path=b/*",
    )
    config = values.config
    validate(config, "faster_rcnn")
    assert config.training_config.num_epochs == 3
    assert config.training_config.output_model == "out/x.tlt"
    assert config.training_config.optimizer.adam.enabled
    assert config.model_config.freeze_blocks == (0, 1)
    assert config.dataset_config.data_sources[0].tfrecords_path == "b/*"


def test_an_unknown_override_is_refused() -> None:
    with pytest.raises((flags.Error, AttributeError, KeyError)):
        from_flags(
            f"--config={CONFIGS / 'faster_rcnn' / 'tiny.py'}", "--config.training_config.epochs=3"
        )


def test_the_spec_document_needs_a_file() -> None:
    module_spec = importlib.util.spec_from_file_location("spec_document", CONFIGS / "spec.py")
    assert module_spec is not None and module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    with pytest.raises(SpecError, match="needs a spec"):
        module.get_config()
