"""The inputs that a config names: files, folders and patterns, by the tables."""

from pathlib import Path

import pytest

from rcnn_jax.spec.inputs import DATA_VARIABLE, data_path, named_inputs
from rcnn_jax.spec.load import parse_spec
from tests.spec.samples import CONVERT, FASTER, MASK


def inputs(text, kind):
    return {item.field: item for item in named_inputs(parse_spec(text, "a.txt", kind).config, kind)}


def test_records_are_a_pattern_and_images_a_folder_named_with_their_index():
    by_field = inputs(FASTER, "faster_rcnn")
    records = by_field["dataset_config.data_sources[0].tfrecords_path"]
    assert (records.reads, records.value, records.parts) == ("glob", "records/*", None)
    images = by_field["dataset_config.data_sources[0].image_directory_path"]
    assert (images.reads, images.value) == ("folder", "images")


def test_of_a_root_the_folders_in_it_are_read_and_not_the_root():
    (root,) = (item for item in inputs(CONVERT, "dataset_convert").values() if item.parts)
    assert root.field == "kitti_config.root_directory_path" and root.value == "kitti"
    assert [(part.field, part.reads, part.value) for part in root.parts] == [
        ("kitti_config.image_dir_name", "folder", "image_2"),
        ("kitti_config.label_dir_name", "folder", "label_2"),
    ]


def test_what_is_not_given_is_no_input():
    assert "pretrained_weights" not in " ".join(inputs(FASTER, "faster_rcnn"))
    given = inputs(MASK.replace("num_classes", 'val_json_file: "v.json" num_classes'), "mask_rcnn")
    assert [item.value for item in given.values()] == ["v.json"]


@pytest.mark.parametrize(("here", "below"), [(True, False), (False, True), (True, True)])
def test_relative_paths_lie_below_the_folder_of_the_variable(tmp_path, monkeypatch, here, below):
    base = tmp_path / "base"
    (base / "data").mkdir(parents=True) if below else base.mkdir()
    monkeypatch.chdir(tmp_path)
    if here:
        (tmp_path / "data").mkdir()
    monkeypatch.setenv(DATA_VARIABLE, str(base))
    assert data_path("data") == (base / "data" if below else Path("data"))
    assert data_path("/absolute") == Path("/absolute")
    monkeypatch.delenv(DATA_VARIABLE)
    assert data_path("data") == Path("data")
