"""Data sets of TensorFlow Datasets, made here with the library itself and read back.

The library is in the environment of `make test-peers`; the rest runs everywhere.
"""

import importlib.util
import json
import shutil
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from rcnn_jax.cli.main import main
from rcnn_jax.data.formats.coco import CocoDataset
from rcnn_jax.data.formats.coco_masks import segmentation_mask
from rcnn_jax.data.formats.tfrecord import RecordFile, write_records
from rcnn_jax.data.sources.annotations import ClassMap
from rcnn_jax.data.sources.masks import CocoFolder
from rcnn_jax.data.sources.tfds import TfdsSource, find_dataset, read_categories
from rcnn_jax.data.sources.tfds_boxes import TfdsBoxes
from rcnn_jax.errors import DataError, MissingDependencyError
from tests.e2e import tiny
from tests.e2e.tiny_mask import write_tiny

INSTALLED = importlib.util.find_spec("tensorflow_datasets") is not None
needs_library = pytest.mark.skipif(
    not INSTALLED, reason="tensorflow-datasets (extra tfds) is not installed"
)
SPLITS = {"train": "train", "validation": "val"}
IDS, NAMES = {1: 0, 2: 1, 3: 2}, ("disc", "star", "rod")


def prepare(folder: Path, data: Path) -> Path:
    """Prepares `cells/boxes` and `cells/masks` from COCO annotations with the library's builder."""
    import tensorflow_datasets as tfds

    class Cells(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        code_path = None  # the library looks for files next to the code of a builder
        VERSION = tfds.core.Version("1.2.0")
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in ("boxes", "masks")]

        def _info(self):
            objects = {
                "area": np.int64,
                "bbox": tfds.features.BBoxFeature(),
                "id": np.int64,
                "is_crowd": np.bool_,
                "label": tfds.features.ClassLabel(names=list(NAMES)),
            }
            if self.builder_config.name == "masks":
                objects["segmentation"] = tfds.features.Image(shape=(None, None, 1))
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(
                    {
                        "image": tfds.features.Image(encoding_format="png"),
                        "image/filename": tfds.features.Text(),
                        "image/id": np.int64,
                        "objects": tfds.features.Sequence(objects),
                    }
                ),
            )

        def _split_generators(self, dl_manager):
            del dl_manager
            return {split: self._generate_examples(part) for split, part in SPLITS.items()}

        def _generate_examples(self, part):
            dataset = CocoDataset.load(data / f"instances_{part}.json", masks=True)
            for image in dataset.images:
                size = (image.height, image.width)
                items = dataset.annotations[image.id]
                objects = [self._object(item, size, tfds.features.BBox) for item in items]
                yield (
                    image.id,
                    {
                        "image": (data / "images" / image.file_name).read_bytes(),
                        "image/filename": image.file_name,
                        "image/id": image.id,
                        "objects": objects,
                    },
                )

        def _object(self, item, size, make_box):
            (x, y, w, h), (height, width) = item.bbox, size
            features = {
                "area": int(item.area),
                "bbox": make_box(y / height, x / width, (y + h) / height, (x + w) / width),
                "id": item.id,
                "is_crowd": item.crowd,
                "label": item.category_id - 1,
            }
            if self.builder_config.name == "masks":
                mask = segmentation_mask(item.segmentation, *size)
                features["segmentation"] = cv2.imencode(".png", mask)[1].tobytes()
            return features

    for config in ("boxes", "masks"):
        builder = Cells(config=config, data_dir=folder, file_format="array_record")
        builder.download_and_prepare()
    return folder


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("tfds"))


@pytest.fixture(scope="module")
def folder(spec):
    with warnings.catch_warnings(action="ignore"):
        return prepare(spec.parent / "tfds", spec.parent / "data")


def open_masks(folder, split="validation"):
    return TfdsSource("cells/masks", split, str(folder), IDS, NAMES, masks=True)


def coco_folder(spec, part):
    data = spec.parent / "data"
    dataset = CocoDataset.load(data / f"instances_{part}.json", masks=True)
    return CocoFolder(dataset, data / "images", IDS, NAMES)


def spec_of(spec, folder, config, *changes):
    """The tiny spec with the data set by name instead of annotation files."""
    lines = [
        line
        for line in spec.read_text().splitlines()
        if not line.strip().startswith(("coco_", "val_json_file"))
    ]
    text = "\n".join(lines).replace(
        "data_config {",
        f'data_config {{\n  tfds_name: "cells/{config}"\n  tfds_data_dir: "{folder}"',
    )
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    path = folder / f"{config}.txt"
    path.write_text(text)
    return path


def renamed(folder, target, form):
    """A copy of prepared data sets whose description states another format."""
    shutil.copytree(folder, target, dirs_exist_ok=True)
    for about in target.glob("cells/*/*/dataset_info.json"):
        about.write_text(about.read_text().replace("array_record", form))
    for shard in target.glob("cells/*/*/cells-*"):
        shard.rename(shard.with_name(shard.name.replace("array_record", form)))
    return target


def as_tfrecords(folder, target):
    """A copy of prepared data sets in TFRecords, as `tfds build` writes them by default."""
    from array_record.python.array_record_module import ArrayRecordReader

    renamed(folder, target, "tfrecord")
    for shard in target.glob("cells/*/*/cells-*"):
        reader = ArrayRecordReader(str(shard))
        records = [reader.read([index])[0] for index in range(reader.num_records())]
        reader.close()
        write_records(shard, records)
    return target


def test_the_error_for_an_unprepared_data_set_names_the_command(tmp_path):
    with pytest.raises(DataError) as error:
        find_dataset("coco/2017", str(tmp_path))
    assert f"{tmp_path}/coco/2017: holds no prepared version of the data set" in str(error.value)
    assert f"tfds build coco/2017 --data_dir={tmp_path} --file_format=array_record" in str(
        error.value
    )


def test_the_newest_version_is_taken_unless_one_is_named(tmp_path, monkeypatch):
    for version in ("1.2.0", "1.10.0", "incomplete.XY_2.0.0"):
        (tmp_path / "coco" / "2017" / version).mkdir(parents=True)
        (tmp_path / "coco" / "2017" / version / "features.json").write_text("{}")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert find_dataset("coco/2017", None).name == "1.10.0"
    assert find_dataset("coco/2017:1.2.0", None).name == "1.2.0"
    with pytest.raises(DataError, match=r"holds no prepared version 3\.0\.0"):
        find_dataset("coco/2017:3.0.0", None)


@pytest.mark.skipif(INSTALLED, reason="tensorflow-datasets is installed here")
def test_without_the_library_the_message_names_the_extra(tmp_path):
    (tmp_path / "coco" / "2017" / "1.1.0").mkdir(parents=True)
    (tmp_path / "coco" / "2017" / "1.1.0" / "features.json").write_text("{}")
    with pytest.raises(MissingDependencyError, match=r"pip install 'rcnn-jax\[tfds\]'"):
        read_categories("coco/2017", str(tmp_path))


@pytest.mark.peers
@needs_library
def test_examples_hold_what_the_annotation_file_holds(spec, folder):
    source, truth = open_masks(folder, "train"), coco_folder(spec, "train")
    assert len(source) == len(truth) == 6
    dataset = CocoDataset.load(spec.parent / "data" / "instances_train.json", masks=True)
    index_of = {truth.source_id(i): i for i in range(len(truth))}
    objects = 0
    for index in range(len(source)):
        other = index_of[source.source_id(index)]
        assert source.file_name(index) == truth.file_name(other)
        assert source.size(index) == truth.size(other)
        np.testing.assert_array_equal(source.image(index, "rgb"), truth.image(other, "rgb"))
        actual, wanted = source.annotation(index), truth.annotation(other)
        np.testing.assert_allclose(actual.boxes, wanted.boxes, atol=1e-4)
        np.testing.assert_array_equal(actual.classes, wanted.classes)
        np.testing.assert_array_equal(actual.crowd, wanted.crowd)
        items = dataset.annotations[source.source_id(index)]
        for mask, item in zip(actual.masks, items, strict=True):
            shape = segmentation_mask(item.segmentation, *source.size(index))
            np.testing.assert_array_equal(mask.decode(), shape)
            objects += 1
    assert objects > 10


@pytest.mark.peers
@needs_library
def test_examples_are_read_from_many_threads_in_any_order(folder):
    source = open_masks(folder, "train")
    alone = [source.source_id(i) for i in range(6)]
    with ThreadPoolExecutor(8) as pool:
        wanted = [i % 6 for i in range(240)]
        assert list(pool.map(source.source_id, wanted)) == [alone[i] for i in wanted]


@pytest.mark.peers
@needs_library
def test_reading_imports_no_tensorflow(folder):
    code = (
        "import sys; from rcnn_jax.data.sources.tfds import TfdsSource\n"
        f"s = TfdsSource('cells/masks', 'train', {str(folder)!r}, {IDS}, {NAMES}, masks=True)\n"
        "s.image(0, 'rgb'); [m.decode() for m in s.annotation(0).masks]\n"
        "print('tensorflow' in sys.modules, 'jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"], done.stderr


@pytest.mark.peers
@needs_library
def test_the_language_of_splits_is_understood(folder):
    source = TfdsSource("cells/boxes", "train[:50%]", str(folder), IDS, NAMES, masks=False)
    assert len(source) == 3
    assert source.annotation(0).masks is None
    with pytest.raises(DataError, match=r"has no split 'test'; it has train, validation"):
        TfdsSource("cells/boxes", "test", str(folder), IDS, NAMES, masks=False)


@pytest.mark.peers
@needs_library
def test_another_format_is_refused_with_the_command_for_another(folder, tmp_path):
    copy = renamed(folder, tmp_path, "parquet")
    with pytest.raises(DataError) as error:
        open_masks(copy)
    assert "is prepared as parquet; array_record and tfrecord are read" in str(error.value)
    assert "--file_format=array_record" in str(error.value)


@pytest.mark.peers
@needs_library
def test_the_usual_format_of_the_library_is_read_too(folder, tmp_path):
    copy = as_tfrecords(folder, tmp_path)
    for split in ("train", "validation", "train[2:5]", "train[4:]+validation[:1]"):
        ours, theirs = open_masks(copy, split), open_masks(folder, split)
        assert len(ours) == len(theirs)
        for index in range(len(theirs)):
            assert ours.source_id(index) == theirs.source_id(index)
            np.testing.assert_array_equal(ours.image(index, "rgb"), theirs.image(index, "rgb"))
            actual, wanted = ours.annotation(index), theirs.annotation(index)
            np.testing.assert_array_equal(actual.boxes, wanted.boxes)


@pytest.mark.peers
@needs_library
def test_a_missing_or_short_file_of_a_data_set_is_named(folder, tmp_path):
    copy = as_tfrecords(folder, tmp_path)
    (shard,) = (copy / "cells" / "masks" / "1.2.0").glob("cells-train*")
    write_records(shard, list(RecordFile(shard))[:4])
    with pytest.raises(DataError, match=r"cells-train.*holds 4 examples, the data set states 6"):
        open_masks(copy, "train")
    shard.unlink()
    with pytest.raises(DataError, match=r"cells-train.*this file of 'cells/masks' is missing"):
        open_masks(copy, "train")


@pytest.mark.peers
@needs_library
def test_masks_are_trained_and_evaluated_by_name_alone(spec, folder, tmp_path):
    """And the numbers are those of the annotation files the data set was made from."""
    named = spec_of(spec, folder, "masks", ("num_epochs: 2", "total_steps: 2"))
    run = tmp_path / "run"
    assert main(["mask_rcnn", "train", "-e", str(named), "-d", str(run), "--gpus", "1"]) == 0
    model = str(run / "model.step-2.tlt")
    results = []
    for document in (named, spec):
        out = tmp_path / document.stem
        argv = ["mask_rcnn", "evaluate", "-e", str(document), "-m", model, "-r", str(out)]
        assert main(argv) == 0
        results.append(json.loads((out / "eval" / "model.step-2.json").read_text()))
    assert results[0] == results[1]
    assert {"AP", "mask_AP"} <= set(results[0]["metrics"])


@pytest.mark.peers
@needs_library
def test_a_set_of_boxes_trains_without_masks_and_is_an_error_with_them(
    spec, folder, tmp_path, capsys
):
    flags = ["-d", str(tmp_path / "run"), "--gpus", "1"]
    named = spec_of(spec, folder, "boxes", ("num_epochs: 2", "total_steps: 1"))
    assert main(["mask_rcnn", "train", "-e", str(named), *flags]) == 2
    error = capsys.readouterr().err
    assert "cells/boxes: this data set of TensorFlow Datasets has no instance masks" in error
    assert "include_mask: False" in error and "Traceback" not in error
    assert not list((tmp_path / "run").glob("*.tlt"))
    boxes = spec_of(
        spec,
        folder,
        "boxes",
        ("num_epochs: 2", "total_steps: 1"),
        ("include_mask: true", "include_mask: false"),
    )
    assert main(["mask_rcnn", "train", "-e", str(boxes), *flags]) == 0
    report = json.loads((tmp_path / "run" / "eval" / "step-1.json").read_text())
    assert set(report["class_AP"]) == {"AP"}


@pytest.mark.peers
@needs_library
@pytest.mark.parametrize("form", ["array_record", "tfrecord"])
def test_boxes_are_those_of_the_annotation_file_by_class_name(spec, folder, tmp_path, form):
    data_dir = folder if form == "array_record" else as_tfrecords(folder, tmp_path)
    mapping = ClassMap({"Disc": "round", "rod": "long"})
    source = TfdsBoxes("cells/boxes", "train", str(data_dir), mapping)
    masks = TfdsSource("cells/boxes", "train", str(folder), IDS, NAMES, masks=False)
    assert source.class_names == ("long", "round") and len(source) == len(masks) == 6
    stars = 0
    for index in range(6):
        wanted = masks.annotation(index)
        names = np.array(NAMES)[wanted.classes]
        stars += (names == "star").sum()
        kept = names != "star"
        actual = source.annotation(index)
        np.testing.assert_array_equal(actual.boxes, wanted.boxes[kept])
        assert actual.classes.tolist() == [int(name == "disc") for name in names[kept]]
        assert not actual.crowd.any()
        assert source.size(index) == masks.size(index)
    (left_out,) = source.findings
    assert left_out.count == stars and "star" in left_out.row


@pytest.mark.peers
@needs_library
def test_boxes_are_trained_and_evaluated_by_name_alone(folder, tmp_path, capsys):
    path = tiny.write_tiny(tmp_path, epochs=1)
    text = path.read_text()
    start, end = text.index("  data_sources {"), text.index("  image_extension")
    text = text[:start] + f"  tfds_name: 'cells/boxes' tfds_data_dir: '{folder}'\n" + text[end:]
    start = text.index("  validation_data_source {")
    path.write_text(text[:start] + text[text.index("}\naugmentation_config") :])
    flags = ["-e", str(path), "-d", str(tmp_path / "run"), "--gpus", "1"]
    assert main(["faster_rcnn", "train", *flags]) == 0
    assert "6 training images" in capsys.readouterr().out
    model = str(tmp_path / "run" / "tiny.epoch1.tlt")
    assert main(["faster_rcnn", "evaluate", "-e", str(path), "-m", model]) == 0
