"""Whatever is wrong with COCO data: one message, exit code 2, no model."""

import json
import re

import pytest

from rcnn_jax.cli.main import main
from tests.e2e.tiny_mask import write_tiny


@pytest.fixture
def spec(tmp_path):
    return write_tiny(tmp_path)


def train(spec, capsys):
    """Returns what stood on standard error of a run that must fail before its first model."""
    folder = spec.parent / "run"
    assert main(["mask_rcnn", "train", "-e", str(spec), "-d", str(folder), "--gpus", "1"]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert not list(folder.glob("*.tlt"))
    return error


def edit(spec, old, new):
    text = spec.read_text()
    assert old in text
    spec.write_text(text.replace(old, new))


def change(spec, part, alter):
    """Alters the content of one of the annotation files."""
    path = spec.parent / "data" / f"instances_{part}.json"
    content = json.loads(path.read_text())
    alter(content)
    path.write_text(json.dumps(content))


def test_a_missing_image(spec, capsys):
    train_names = json.loads((spec.parent / "data" / "instances_train.json").read_text())["images"]
    for image in train_names:
        (spec.parent / "data" / "images" / image["file_name"]).unlink()
    error = train(spec, capsys)
    assert re.search(r"data/images/\d+\.png", error)


def test_a_missing_image_folder(spec, capsys):
    folder = f"{spec.parent}/data/images"
    edit(spec, f'coco_train_image_dir: "{folder}"', 'coco_train_image_dir: "/no/where"')
    assert "/no/where" in train(spec, capsys)


def test_a_missing_segmentation(spec, capsys):
    def alter(content):
        for item in content["annotations"]:
            del item["segmentation"]

    change(spec, "train", alter)
    error = train(spec, capsys)
    assert "annotation 1 of image" in error and "has no segmentation" in error
    assert "include_mask: False" in error


def test_what_is_wrong_with_the_validation_file_is_said_before_the_first_step(spec, capsys):
    def alter(content):
        content["annotations"][0]["segmentation"] = [1, 2, 3, 4, 5, 6]
        content["annotations"][1]["segmentation"] = [[1, 2, 1e9, 4, 5, 6]]

    change(spec, "val", alter)
    error = train(spec, capsys)
    assert "instances_val.json: 2 problems in the annotations:" in error
    assert "is one flat list of numbers" in error and "far outside the image" in error


def test_parts_of_two_points_are_left_out_of_training_and_validation(spec, capsys):
    for part in ("train", "val"):
        change(spec, part, lambda c: c["annotations"][0]["segmentation"].insert(0, [1, 2, 3, 4]))
    edit(spec, "num_epochs: 2", "total_steps: 1")
    flags = ["-e", str(spec), "-d", str(spec.parent / "run"), "--gpus", "1"]
    assert main(["mask_rcnn", "train", *flags]) == 0
    output = capsys.readouterr().out
    row = next(line for line in output.splitlines() if "part of fewer than 3 points" in line)
    assert [cell.strip() for cell in row.split("│")[2:-1]] == ["1", "1"]
    assert output.count("1 polygon parts of fewer than three points are left out") == 2


def test_a_training_set_of_crowds_alone_is_refused(spec, capsys):
    def alter(content):
        for item in content["annotations"]:
            item["iscrowd"] = 1

    change(spec, "train", alter)
    error = train(spec, capsys)
    assert "the training data has no object to learn from in 6 images: crowd: " in error


def test_surplus_objects_are_said_once(spec, capsys):
    edit(spec, "max_num_instances: 16", "max_num_instances: 1")
    edit(spec, "num_epochs: 2", "total_steps: 1")
    flags = ["-e", str(spec), "-d", str(spec.parent / "run"), "--gpus", "1"]
    assert main(["mask_rcnn", "train", *flags]) == 0
    captured = capsys.readouterr()
    assert captured.out.count("their images have more than max_num_instances") == 1
    assert "WARNING" not in captured.out + captured.err


def test_category_zero(spec, capsys):
    def alter(content):
        for item in content["categories"]:
            item["id"] -= 1
        for item in content["annotations"]:
            item["category_id"] -= 1
        content["annotations"][0]["category_id"] = 0  # without objects it would be left out

    change(spec, "val", alter)
    assert "category id 0 ('disc'): ids of categories begin with 1" in train(spec, capsys)


def test_an_unknown_category(spec, capsys):
    change(spec, "train", lambda content: content["annotations"][0].update(category_id=77))
    assert "there is no category 77" in train(spec, capsys)


def test_a_category_that_only_the_training_file_has(spec, capsys):
    def alter(content):
        content["categories"].append({"id": 8, "name": "ring"})
        content["annotations"][0]["category_id"] = 8

    change(spec, "train", alter)
    assert "category id 8 is unknown; the classes are made from 1, 2, 3" in train(spec, capsys)


def test_run_lengths_of_another_size(spec, capsys):
    def alter(content):
        for item in content["annotations"]:
            item["segmentation"] = {"size": [10, 10], "counts": [50, 50]}

    change(spec, "train", alter)
    error = train(spec, capsys)
    assert "its RLE is made for size [10, 10], the image has [height, width] = [60, 64]" in error


def test_boxes_outside_their_image_are_left_out_with_a_note(spec, capsys):
    change(spec, "train", lambda content: content["annotations"][0].update(bbox=[900, 900, 5, 5]))
    edit(spec, "num_epochs: 2", "total_steps: 1")
    flags = ["-e", str(spec), "-d", str(spec.parent / "run"), "--gpus", "1"]
    assert main(["mask_rcnn", "train", *flags]) == 0
    assert "1 boxes without area or outside their image are left out" in capsys.readouterr().out


def test_duplicate_ids(spec, capsys):
    change(spec, "train", lambda content: content["images"].append(content["images"][0]))
    assert "this id occurs more than once" in train(spec, capsys)


def test_validation_annotations_that_do_not_match_the_records(spec, capsys, tmp_path):
    data, records = spec.parent / "data", tmp_path / "records"
    convert = ["mask_rcnn", "dataset_convert", "-i", str(data / "images"), "-o", str(records)]
    assert main([*convert, "-a", str(data / "instances_train.json"), "-s", "1"]) == 0
    edit(
        spec,
        f'coco_val_image_dir: "{data}/images"',
        f'validation_file_pattern: "{records}/*.tfrecord"',
    )
    error = train(spec, capsys)
    assert not (spec.parent / "run" / "checkpoints").exists()
    assert re.search(r"image \d+ \('\d+\.png'\) is not in .*instances_val\.json", error)


def test_too_few_classes(spec, capsys):
    edit(spec, "num_classes: 4", "num_classes: 3")
    error = train(spec, capsys)
    assert "data_config.num_classes = 3 does not fit" in error and "set it to 4" in error


def test_an_image_size_that_no_pyramid_fits(spec, capsys):
    edit(spec, '"(64, 64)"', '"(64, 96)"')
    assert "96 is not a multiple of 2^max_level = 64" in train(spec, capsys)


def test_a_literal_shows_where_it_breaks(spec, capsys):
    edit(spec, '"(64, 64)"', '"(64, sixty)"')
    error = train(spec, capsys)
    assert "image_size" in error and "sixty" in error


def test_no_annotations_for_the_validation(spec, capsys):
    edit(spec, "instances_val.json", "absent.json")
    assert "absent.json: there is no such annotation file" in train(spec, capsys)
