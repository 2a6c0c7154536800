"""Whatever is wrong with the input: one message, exit code 2, nothing half-written."""

import numpy as np
import pytest

from rcnn_jax.cli.main import main
from rcnn_jax.data.formats.tfrecord import encode_example, write_records
from tests.e2e.tiny import write_tiny

LABEL = "disc 0.00 0 0.00 {box} 0.00 0.00 0.00 0.00 0.00 0.00 0.00\n"


@pytest.fixture
def spec(tmp_path):
    return write_tiny(tmp_path, images=3)


def train(spec, capsys, *flags):
    """Returns (exit code, what stood on standard error)."""
    code = main(["faster_rcnn", "train", "-e", str(spec), "--gpus", "1", *flags])
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert not list(spec.parent.rglob("*.tlt"))
    assert not (spec.parent / "run" / "checkpoints").exists() or not list(
        (spec.parent / "run" / "checkpoints").iterdir()
    )
    return code, error


def edit(spec, old, new):
    text = spec.read_text()
    assert old in text
    spec.write_text(text.replace(old, new))


def test_a_missing_spec(tmp_path, capsys):
    assert main(["faster_rcnn", "train", "-e", str(tmp_path / "no.txt")]) == 2
    assert "no.txt: expected a file, found nothing there" in capsys.readouterr().err


def test_a_misspelt_field_names_line_and_neighbour(spec, capsys):
    edit(spec, "batch_size_per_gpu", "batch_size_per_gpuu")
    code, error = train(spec, capsys)
    assert code == 2
    assert "spec.txt:" in error and "batch_size_per_gpuu" in error
    assert "did you mean" in error.lower() and "batch_size_per_gpu" in error


def test_a_value_out_of_range_names_the_range(spec, capsys):
    edit(spec, "rpn_mini_batch: 32", "rpn_mini_batch: 32 rpn_max_overlap: 1.7")
    code, error = train(spec, capsys)
    assert code == 2
    assert "training_config.rpn_max_overlap = 1.7 is not in (0, 1]" in error


def test_two_errors_are_told_together(spec, capsys):
    edit(spec, "rpn_mini_batch: 32", "rpn_mini_batch: 0 rpn_max_overlap: 1.7")
    _, error = train(spec, capsys)
    assert "rpn_max_overlap" in error and "rpn_mini_batch" in error


def test_a_missing_image_folder(spec, capsys):
    edit(spec, 'kitti_image_dir_name: "images"', 'kitti_image_dir_name: "pictures"')
    code, error = train(spec, capsys)
    assert code == 2
    assert "pictures: the image folder does not exist" in error


def test_a_missing_label_file_is_named(spec, capsys):
    (spec.parent / "data" / "labels" / "000001.txt").unlink()
    code, error = train(spec, capsys)
    assert code == 2
    assert "000001.txt" in error


def test_an_empty_folder(spec, capsys):
    for image in (spec.parent / "data" / "images").iterdir():
        image.unlink()
    code, error = train(spec, capsys)
    assert code == 2
    assert "no image (.jpg, .jpeg, .png, .bmp, .tif, .tiff, .webp) in this folder" in error


def test_a_box_that_is_not_a_number(spec, capsys):
    label = spec.parent / "data" / "labels" / "000001.txt"
    label.write_text(LABEL.format(box="10 nan 30 40"))
    code, error = train(spec, capsys)
    assert code == 2
    assert "000001.txt" in error and "finite" in error


def test_a_label_with_too_few_columns_names_the_line(spec, capsys):
    label = spec.parent / "data" / "labels" / "000001.txt"
    label.write_text(LABEL.format(box="10 10 30 40") + "disc 0.00 0\n")
    code, error = train(spec, capsys)
    assert code == 2
    assert "000001.txt:2" in error and "15" in error


def test_more_objects_than_the_limit(spec, capsys):
    label = spec.parent / "data" / "labels" / "000001.txt"
    label.write_text(LABEL.format(box="10 10 30 40") * 21)
    code, error = train(spec, capsys)
    assert code == 2
    assert "000001" in error and "21" in error and "max_objects_num_per_image" in error


def test_keys_that_match_no_object_end_with_the_nearest_names(spec, capsys):
    text = spec.read_text()
    for name in ("disc", "star", "rod"):
        text = text.replace(f"key: '{name}' value", f"key: '{name}z' value")
    spec.write_text(text)
    code, error = train(spec, capsys)
    assert code == 2
    assert "the training data has no object to learn from in 3 images: not mapped: " in error
    assert "no object is called 'starz'; did you mean 'star'?" in error


def test_hidden_files_are_no_images(spec):
    from rcnn_jax.spec.load import load_spec
    from rcnn_jax.tasks.build import build_experiment

    for name in ("._000001.png", ".DS_Store"):
        (spec.parent / "data" / "images" / name).write_bytes(b"x")
    source = build_experiment(load_spec(spec).config, "faster_rcnn").train_source()
    assert any("1 hidden files are no images" in item.sentence for item in source.findings)


def test_more_devices_than_there_are(spec, capsys):
    code, error = train(spec, capsys, "--gpus", "9")
    assert code == 2
    assert "--gpus 9" in error or "9" in error


def records_spec(spec, image_dir, pattern):
    text = spec.read_text()
    old = text[text.index("  data_sources {") : text.index("  image_extension")]
    new = f'  data_sources {{ tfrecords_path: "{pattern}" image_directory_path: "{image_dir}" }}\n'
    spec.write_text(text.replace(old, new))


def write_record(path, box=(10.0, 10.0, 30.0, 40.0)):
    x1, y1, x2, y2 = (np.array([v], np.float32) for v in box)
    features = {
        "frame/id": [b"images/000000"],
        "frame/height": [96],
        "frame/width": [96],
        "target/object_class": [b"disc"],
        "target/occlusion": [0],
        "target/coordinates_x1": x1,
        "target/coordinates_y1": y1,
        "target/coordinates_x2": x2,
        "target/coordinates_y2": y2,
    }
    write_records(path, [encode_example(features)])


def test_a_missing_image_of_a_record_is_found_before_the_first_step(spec, capsys):
    write_record(spec.parent / "cells-fold-001-of-002-shard-00000-of-00001")
    records_spec(spec, spec.parent / "elsewhere", spec.parent / "cells*")
    code, error = train(spec, capsys)
    assert code == 2
    assert (
        "1 image cannot be used" in error and "elsewhere/images/000000.png: No such file" in error
    )


def test_a_truncated_tfrecord_names_file_and_place(spec, capsys):
    shard = spec.parent / "cells-fold-001-of-002-shard-00000-of-00001"
    write_record(shard)
    shard.write_bytes(shard.read_bytes()[:-7])
    records_spec(spec, spec.parent / "data", spec.parent / "cells*")
    code, error = train(spec, capsys)
    assert code == 2
    assert shard.name in error and "truncated" in error


def test_a_flipped_byte_in_a_tfrecord_is_found(spec, capsys):
    shard = spec.parent / "cells-fold-001-of-002-shard-00000-of-00001"
    write_record(shard)
    data = bytearray(shard.read_bytes())
    data[40] ^= 0x10
    shard.write_bytes(data)
    records_spec(spec, spec.parent / "data", spec.parent / "cells*")
    code, error = train(spec, capsys)
    assert code == 2
    assert shard.name in error and "does not fit its checksum" in error


def test_a_pattern_without_files(spec, capsys):
    records_spec(spec, spec.parent / "data", spec.parent / "nothing*")
    code, error = train(spec, capsys)
    assert code == 2
    assert "no file matches tfrecords_path" in error


def test_boxes_without_area_or_outside_are_left_out_and_counted(spec):
    from rcnn_jax.spec.load import load_spec
    from rcnn_jax.tasks.build import build_experiment

    label = spec.parent / "data" / "labels" / "000001.txt"
    boxes = ("10 10 30 40", "10 10 10 40", "200 200 240 240")
    label.write_text("".join(LABEL.format(box=box) for box in boxes))
    source = build_experiment(load_spec(spec).config, "faster_rcnn").train_source()
    assert len(source.annotation(1).boxes) == 1
    assert any("2 boxes without area or outside" in item.sentence for item in source.findings)


def test_a_model_file_that_does_not_exist(spec, capsys):
    assert main(["faster_rcnn", "evaluate", "-e", str(spec), "-m", "no.tlt"]) == 2
    assert "no.tlt" in capsys.readouterr().err


def test_a_file_that_is_no_model(spec, capsys):
    bogus = spec.parent / "bogus.tlt"
    bogus.write_bytes(b"PK\x03\x04 something else")
    assert main(["faster_rcnn", "evaluate", "-e", str(spec), "-m", str(bogus)]) == 2
    error = capsys.readouterr().err
    assert "bogus.tlt" in error and "Traceback" not in error
    bogus.unlink()
