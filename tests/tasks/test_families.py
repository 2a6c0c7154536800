"""The rows of the two detectors, and what their specs name for commands."""

import re
from pathlib import Path

import pytest

from rcnn_jax.data.sources.categories import Categories
from rcnn_jax.errors import UsageError
from rcnn_jax.spec.kinds import TABLES
from rcnn_jax.spec.load import load_spec
from rcnn_jax.spec.schema import walk
from rcnn_jax.tasks.build import build_experiment
from rcnn_jax.tasks.families import FAMILIES, family
from rcnn_jax.tasks.named_files import NamedFiles, NamedModel, NamedPath

CATEGORIES = Categories((1, 2, 3), ("a", "b", "c"))


def fields_of(kind):
    """Returns {path: field} of a spec; `enabled` blocks and leaves alike."""
    return dict(walk(TABLES[kind]))


def faster():
    """Returns the config of a Faster R-CNN that names no files but data."""
    return load_spec("configs/faster_rcnn/tiny.txt", "faster_rcnn").config


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_field_that_a_row_names_is_one_of_the_spec(kind):
    row, known = FAMILIES[kind], fields_of(kind)
    named = [*row.file_fields.values(), *row.start_fields, row.network]
    assert [field for field in named if field not in known] == []
    references = re.findall(r"\w+_config\.\w+", row.validation_fields)
    assert references and [field for field in references if field not in known] == []
    assert all(known[field].reads for field in row.start_fields)


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_log_has_a_name_for_every_loss_of_the_task(kind):
    config = load_spec(f"configs/{kind}/tiny.txt", kind).config
    experiment = build_experiment(config, kind, categories=CATEGORIES)
    assert set(FAMILIES[kind].log.terms) == set(experiment.task.loss_weights)


@pytest.mark.parametrize("kind", FAMILIES)
def test_ids_of_categories_are_where_the_row_says(kind):
    config = load_spec(f"configs/{kind}/tiny.txt", kind).config
    experiment = build_experiment(config, kind, categories=CATEGORIES)
    assert (experiment.category_ids is not None) == FAMILIES[kind].has_category_ids


def test_a_spec_that_names_nothing_has_no_files():
    config = faster()
    config.training_config.output_model = None
    for section in (config.evaluation_config, config.inference_config):
        section.model = None
    inference = config.inference_config
    inference.images_dir = inference.detection_image_output_dir = inference.labels_dump_dir = None
    assert family("faster_rcnn").named_files(config) == NamedFiles()


def test_files_and_folders_come_with_the_fields_that_name_them():
    config = faster()
    config.training_config.output_model = "out/tiny.tlt"
    config.evaluation_config.model = "e.tlt"
    config.inference_config.images_dir = "new"
    files = family("faster_rcnn").named_files(config)
    assert files.output_model == NamedPath("training_config.output_model", Path("out/tiny.tlt"))
    assert files.models["evaluate"] == NamedModel("evaluation_config.model", Path("e.tlt"))
    assert files.images == NamedPath("inference_config.images_dir", Path("new"))


def test_an_engine_is_run_before_an_exported_model_and_that_before_a_bundle():
    config = faster()
    inference = config.inference_config
    inference.model = "i.tlt"
    trt = inference.trt_inference

    def model():
        return family("faster_rcnn").named_files(config).models["inference"]

    assert model() == NamedModel("inference_config.model", Path("i.tlt"))
    trt.enabled = trt.etlt_model.enabled = True
    trt.etlt_model.model, trt.calibration_cache = "i.etlt", "cal.bin"
    field = "inference_config.trt_inference.etlt_model.model"
    assert model() == NamedModel(field, Path("i.etlt"), Path("cal.bin"))
    trt.trt_engine = "i.engine"
    assert model().path == Path("i.engine") and model().cache is None


@pytest.mark.parametrize(
    ("given", "name"), [("out/resnet18.tlt", "resnet18"), ("a.b", "a.b"), (None, "model")]
)
def test_a_run_is_called_after_its_output_model(given, name):
    fields = {"training_config": {"output_model": given}}
    assert family("faster_rcnn").model_name(fields) == name


def test_an_output_model_without_a_name_is_one_message():
    with pytest.raises(UsageError, match="'out/..' names no file; write FOLDER/NAME.tlt"):
        family("faster_rcnn").model_name({"training_config": {"output_model": "out/.."}})
