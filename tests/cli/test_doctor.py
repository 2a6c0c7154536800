"""`doctor` on specs: what it says of a folder it says of the spec that reads that folder too."""

import io
import json

import cv2
import numpy as np
import pytest
from PIL import Image

from rcnn_jax.cli.main import faster_rcnn, main
from tests.data.layouts.folders import coco, kitti_line, picture, text
from tests.e2e import tiny_mask
from tests.e2e.tiny import write_tiny

DISCS = "".join(kitti_line("disc", 2 + 3 * n, 4, 12 + 3 * n, 20) for n in range(12))


@pytest.fixture
def spec(tmp_path):
    """A spec that trains on train/ and validates on val/, with two clean images in each."""
    path = write_tiny(tmp_path, images=1)
    words = path.read_text().replace(f'"{tmp_path}/data"', f'"{tmp_path}/train"', 1)
    path.write_text(words.replace(f'"{tmp_path}/data"', f'"{tmp_path}/val"', 1))
    for split in ("train", "val"):
        for stem in ("a", "b"):
            picture(tmp_path / split / "images" / f"{split}_{stem}.png")
            text(tmp_path / split / "labels" / f"{split}_{stem}.txt", DISCS)
    return path


def findings(data, capsys):
    """Returns {sentence: severity} of a run that ends without an error of use."""
    report = data.parent / "d.json"
    main(["doctor", str(data), "-o", str(data.parent / "d.html"), "--json", str(report)])
    assert "error:" not in capsys.readouterr().err
    return {one["sentence"]: one["severity"] for one in json.loads(report.read_text())["findings"]}


def has(sentences, words):
    return [sentence for sentence in sentences if words in sentence]


def test_a_photograph_labelled_as_exif_shows_it_is_an_error_of_the_spec(spec, capsys):
    tag = Image.Exif()
    tag[274] = 6
    data = io.BytesIO()
    noise = np.random.default_rng(1).integers(0, 255, (40, 60, 3), np.uint8)
    Image.fromarray(noise).save(data, "JPEG", exif=tag)
    folder = spec.parent / "train"
    (folder / "images" / "turned.jpg").write_bytes(data.getvalue())
    text(folder / "labels" / "turned.txt", kitti_line("disc", 5, 20, 25, 58))
    sentences = findings(spec, capsys)
    assert has(sentences, "1 images are stored turned, and labelled as EXIF shows them")
    assert not has(sentences, "beyond their image")


def test_images_of_12_bits_are_named_through_a_spec(spec, capsys):
    dark = np.linspace(0, 4095, 40 * 60).reshape(40, 60).astype(np.uint16)
    assert cv2.imwrite(str(spec.parent / "train" / "images" / "train_a.png"), dark)
    assert has(findings(spec, capsys), "1 images of 16 bits are nearly black")


def test_films_that_the_sources_of_a_spec_tear_are_named(spec, capsys):
    for number in range(10):
        split = "train" if number % 5 else "val"
        for film in ("street", "yard"):
            picture(spec.parent / split / "images" / f"{film}_{number:04}.png")
            text(spec.parent / split / "labels" / f"{film}_{number:04}.txt", DISCS)
    assert has(findings(spec, capsys), "2 sequences have frames in several splits")


def test_occluded_objects_of_validation_are_difficult_and_no_regions_of_many(spec, capsys):
    line = kitti_line("disc", 20, 20, 40, 38, occluded=2)
    text(spec.parent / "val" / "labels" / "val_a.txt", DISCS + line)
    sentences = findings(spec, capsys)
    assert has(sentences, "1 objects are marked as difficult or occluded")
    assert not has(sentences, "regions of many")


def test_what_the_readers_of_a_spec_leave_out_is_told(spec, capsys):
    labels = spec.parent / "train" / "labels" / "train_a.txt"
    text(labels, DISCS + kitti_line("tree", 20, 20, 40, 38) + kitti_line("disc", 70, 5, 90, 20))
    sentences = findings(spec, capsys)
    assert has(sentences, "1 objects of class 'tree' are left out")
    assert has(sentences, "1 boxes without area or outside their image are left out")


def test_outlines_that_differ_from_their_boxes_are_found_through_a_spec(tmp_path, capsys):
    spec = tiny_mask.write_tiny(tmp_path)
    assert not has(findings(spec, capsys), "outlines and boxes of one object differ")
    path = next((tmp_path / "data").rglob("*train*.json"))
    content = json.loads(path.read_text())
    thing = next(one for one in content["annotations"] if isinstance(one["segmentation"], list))
    thing["segmentation"] = [[0, 0, 4, 0, 4, 4]]
    thing["bbox"] = [30, 30, 20, 20]
    path.write_text(json.dumps(content))
    assert has(findings(spec, capsys), "1 outlines and boxes of one object differ")


def test_objects_that_cells_and_anchors_of_a_spec_miss_are_counted(spec, capsys):
    # Cells of 16 pixels, square anchors of 12 and 24.
    sentences = findings(spec, capsys)
    assert not has(sentences, "smaller than a cell") and not has(sentences, "no anchor overlaps")
    tiny, long = kitti_line("disc", 20, 20, 28, 28), kitti_line("disc", 2, 30, 58, 36)
    text(spec.parent / "train" / "labels" / "train_a.txt", DISCS + tiny + tiny + long)
    sentences = findings(spec, capsys)
    assert has(sentences, "2 objects are smaller than a cell of the finest map")
    assert has(sentences, "no anchor overlaps 1 objects by half")


def converted(spec):
    """Makes TFRecords of both folders; returns their folder and a spec that reads them."""
    root = spec.parent
    for split in ("train", "val"):
        convert = text(
            root / f"{split}.convert.txt",
            f'kitti_config {{ root_directory_path: "{root}/{split}" image_dir_name: "images" '
            'label_dir_name: "labels" image_extension: ".png" num_partitions: 2 num_shards: 1 '
            "val_split: 50 }\n",
        )
        argv = ["dataset_convert", "-d", str(convert), "-o", str(root / "records" / split)]
        assert faster_rcnn([*argv, "-r", str(root / "out")]) == 0
    words = spec.read_text()
    for split in ("train", "val"):
        old = f'kitti_directory_path: "{root}/{split}"\n    kitti_image_dir_name: "images"\n    '
        old += 'kitti_label_dir_name: "labels"'
        assert old in words
        words = words.replace(
            old,
            f'tfrecords_path: "{root}/records/{split}*" image_directory_path: "{root}/{split}"',
        )
    return root / "records", text(root / "records.txt", words)


def test_a_spec_of_tfrecords_is_looked_at_as_the_files_of_its_images(spec, capsys):
    line = kitti_line("disc", 20, 20, 40, 38, occluded=1)
    text(spec.parent / "val" / "labels" / "val_a.txt", DISCS + line)
    dark = np.linspace(0, 4095, 40 * 60).reshape(40, 60).astype(np.uint16)
    assert cv2.imwrite(str(spec.parent / "train" / "images" / "train_a.png"), dark)
    _, reading = converted(spec)
    sentences = findings(reading, capsys)
    assert has(sentences, "1 images of 16 bits are nearly black")
    assert has(sentences, "1 objects are marked as difficult or occluded")
    # Changed after the conversion: the labels of the records are for another size.
    picture(spec.parent / "train" / "images" / "train_b.png", height=20, width=30)
    assert has(findings(reading, capsys), "1 images have another size than their labels")


def test_tfrecords_alone_are_answered_with_what_reads_them(spec, capsys):
    folder, _ = converted(spec)
    shard = sorted(folder.iterdir())[0]
    for given in (folder, shard):
        capsys.readouterr()
        assert main(["doctor", str(given), "-o", str(spec.parent / "d.html")]) == 2
        message = " ".join(capsys.readouterr().err.split())
        assert "a TFRecord file" in message and "give the spec that reads it" in message


@pytest.mark.parametrize(("ids", "missing"), [((2, 90), 88), ((1, 2), 0), ((0, 1), 0)])
def test_gaps_between_category_ids_are_a_note(tmp_path, capsys, ids, missing):
    root = tmp_path / "set"
    picture(root / "a.png")
    objects = [(0, number, [2 + number / 9, 4, 10, 16], {}) for number in ids]
    path = coco(root / "x.json", ["a.png"], objects, {n: f"class {n}" for n in ids})
    sentences = findings(root, capsys)
    expected = [f"the category ids of {path} leave out {missing} numbers"] if missing else []
    assert has(sentences, "category ids") == expected
    assert all(sentences[sentence] == "note" for sentence in expected)


def test_how_the_class_numbers_of_yolo_are_read_is_told(tmp_path, capsys):
    picture(tmp_path / "set" / "a.png")
    text(tmp_path / "set" / "a.txt", "1 0.5 0.5 0.2 0.2\n2 0.3 0.3 0.2 0.2\n")
    text(tmp_path / "set" / "data.yaml", "names: [cat, dog]\n")
    main(["doctor", str(tmp_path / "set"), "-o", str(tmp_path / "d.html")])
    assert "class numbers count from 1" in " ".join(capsys.readouterr().out.split())
    assert "class numbers count from 1" in (tmp_path / "d.html").read_text()
