"""The doctor on planted faults: each is found, named and, where that needs no guess, mended."""

import json

import cv2
import numpy as np
import pytest

from rcnn_jax.cli.main import main
from rcnn_jax.data.layouts.detect import read_collection
from rcnn_jax.data.synthetic import write_coco, write_kitti
from rcnn_jax.diagnose import kinds, pages, records
from rcnn_jax.diagnose.dataset import examine
from rcnn_jax.diagnose.repair import repair
from tests.data.layouts.folders import coco, kitti_line, picture, text
from tests.e2e.tiny import write_tiny

MANY = "".join(kitti_line("cell", 2 + 3 * n, 4, 12 + 3 * n, 20) for n in range(12))


def diagnose(root):
    collection = read_collection(root)
    return examine(str(root), records.of_collection(collection), problems=collection.problems)


def by_kind(diagnosis):
    return {seen.kind: seen for seen in diagnosis.observations}


@pytest.fixture
def clean(tmp_path):
    """Two splits of two images with enough objects of one class."""
    root = tmp_path / "set"
    for split in ("train", "val"):
        for stem in ("a", "b"):
            picture(root / split / "images" / f"{split}_{stem}.png")
            text(root / split / "labels" / f"{split}_{stem}.txt", MANY)
    return root


def labels(root, content, split="train"):
    text(root / split / "labels" / f"{split}_a.txt", content)


def test_a_clean_set_has_no_finding(clean):
    diagnosis = diagnose(clean)
    assert diagnosis.observations == []
    assert diagnosis.exit_code == 0
    assert diagnosis.objects == {"cell": {"train": 24, "val": 24}}


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (kitti_line("cell", 5, 5, 5, 20), kinds.NO_AREA),
        (kitti_line("cell", 70, 5, 90, 20), kinds.OUTSIDE),
        (kitti_line("cell", 30, 5, 64, 20), kinds.BEYOND),
        (kitti_line("cell", 3, 4, 12, 20), kinds.TWICE),
        (kitti_line("cell", 1, 1, 59, 5), kinds.STRETCHED),
        (kitti_line("cell", 1, 1, 2, 2), kinds.SMALL_PART),
        (kitti_line("cell", 20, 20, 40, 38, occluded=2), kinds.DIFFICULT),
        (kitti_line("DontCare", 20, 20, 40, 38), kinds.CROWDED),
        (kitti_line("Cells", 20, 20, 40, 38), kinds.NEAR_NAME),
        (kitti_line("star", 20, 20, 40, 38), kinds.RARE),
        (kitti_line("star", 20, 20, 40, 38), kinds.NOT_VALIDATED),
        ("cell 1 2 3\n", kinds.UNREADABLE_LABEL),
    ],
)
def test_a_label_that_hurts_is_named_with_its_line(clean, line, kind):
    labels(clean, MANY + line)
    seen = by_kind(diagnose(clean))[kind]
    assert seen.count == 1
    sentence = seen.finding.sentence
    assert seen.name or f"{clean}/train/labels/train_a.txt:13" in sentence


def test_labels_without_an_image_and_images_without_labels_are_told_apart(clean, tmp_path):
    (clean / "train" / "images" / "train_a.png").unlink()
    (clean / "val" / "labels" / "val_b.txt").unlink()
    diagnosis = diagnose(clean)
    seen = by_kind(diagnosis)
    assert f"{clean}/train/labels/train_a.txt" in seen[kinds.NO_IMAGE].finding.sentence
    assert f"{clean}/val/images/val_b.png" in seen[kinds.NO_LABELS].finding.sentence
    assert kinds.UNREADABLE_LABEL not in seen and diagnosis.exit_code == 2
    changes = "\n".join(repair(diagnosis, tmp_path / "out", lambda items, *_: iter(items)))
    assert "1 labels without an image" in changes and "1 images without labels" in changes


def test_images_that_no_list_names_need_no_labels(clean):
    (clean / "train.txt").write_text("train_a\n")
    (clean / "val.txt").write_text("val_a\nval_b\n")
    (clean / "train" / "labels" / "train_b.txt").unlink()
    diagnosis = diagnose(clean)
    assert kinds.NO_LABELS not in by_kind(diagnosis)
    line = "1 images have no label file and are in no list: left out"
    assert line in read_collection(clean).choices


def test_a_class_that_is_validated_but_never_trained_is_an_error(clean):
    labels(clean, MANY + kitti_line("star", 20, 20, 40, 38), split="val")
    diagnosis = diagnose(clean)
    assert (
        "'star' has 1 objects in validation"
        in by_kind(diagnosis)[kinds.NOT_TRAINED].finding.sentence
    )
    assert diagnosis.exit_code == 2


def test_damaged_and_missing_images_are_errors_with_their_reason(clean):
    broken = clean / "train" / "images" / "train_a.png"
    broken.write_bytes(broken.read_bytes()[:200])
    seen = by_kind(diagnose(clean))[kinds.BROKEN_IMAGE]
    assert "ends early" in seen.examples[0].detail
    coco(clean.parent / "c" / "x.json", ["gone.png"], [], {1: "cell"})
    picture(clean.parent / "c" / "other.png")
    assert kinds.BROKEN_IMAGE in by_kind(diagnose(clean.parent / "c"))


def test_labels_of_another_size_are_an_error(tmp_path):
    picture(tmp_path / "a.png", height=60, width=40)  # the file says 40 x 60
    coco(tmp_path / "x.json", ["a.png"], [(0, 1, [1, 1, 9, 9], {})], {1: "cell"})
    seen = by_kind(diagnose(tmp_path))[kinds.OTHER_SIZE]
    assert "height and width swapped" in seen.examples[0].detail


def test_copies_and_leaks_are_found_at_another_size_and_quality(clean):
    source = cv2.imread(str(clean / "train" / "images" / "train_a.png"))
    smooth = cv2.resize(cv2.GaussianBlur(source, (0, 0), 4), (240, 160))
    cv2.imwrite(str(clean / "train" / "images" / "train_a.png"), smooth)
    shrunk = cv2.resize(smooth, (120, 80), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(clean / "val" / "images" / "val_a.png"), shrunk)
    data = (clean / "train" / "images" / "train_b.png").read_bytes()
    (clean / "val" / "images" / "val_b.png").write_bytes(data)
    seen = by_kind(diagnose(clean))
    assert seen[kinds.LEAK].count == 2
    assert (seen[kinds.EQUAL].count, seen[kinds.NEAR].count) == (1, 1)


def test_different_pictures_are_no_copies(tmp_path):
    write_kitti(tmp_path, seed=1, count=40, height=96, width=96)
    seen = by_kind(diagnose(tmp_path))
    assert kinds.NEAR not in seen
    assert kinds.EQUAL not in seen


def test_plain_pictures_of_one_hash_are_no_quadratic_loop_and_no_copies(tmp_path):
    for number in range(300):
        level = np.full((20, 20, 3), number % 250, np.uint8)
        path = tmp_path / "images" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), level)
        text(tmp_path / "labels" / f"{number}.txt", kitti_line("cell", 2, 2, 9, 9))
    assert by_kind(diagnose(tmp_path))[kinds.EQUAL].count == 50


def test_frames_of_one_film_in_two_splits_are_named(clean):
    for number in range(8):
        split = "train" if number < 6 else "val"
        for film in ("street", "yard", "garden"):
            picture(clean / split / "images" / f"{film}_{number:04}.png")
            text(clean / split / "labels" / f"{film}_{number:04}.txt", MANY)
    seen = by_kind(diagnose(clean))[kinds.SCENE_LEAK]
    assert seen.count == 3
    assert {example.where for example in seen.examples} == {"street_*", "yard_*", "garden_*"}


@pytest.mark.parametrize("name", ["{}_{:04}", "{}_000000_{:06}_leftImg8bit"])
def test_two_films_of_the_whole_set_are_named_where_splits_tear_them(tmp_path, name):
    for number in range(10):
        split = "train" if number % 5 else "val"
        for film in ("aachen", "bonn"):
            stem = name.format(film, number)
            picture(tmp_path / split / "images" / f"{stem}.png")
            text(tmp_path / split / "labels" / f"{stem}.txt", MANY)
    seen = by_kind(diagnose(tmp_path))[kinds.SCENE_LEAK]
    assert {example.detail for example in seen.examples} == {"2 in val, 8 in train"}
    assert seen.count == 2


@pytest.mark.parametrize("name", ["BloodImage_{:05}", "{:04}"])
def test_a_set_that_is_numbered_through_is_no_film(tmp_path, name):
    for number in range(10):
        split, stem = "train" if number % 5 else "val", name.format(number)
        picture(tmp_path / split / "images" / f"{stem}.png")
        text(tmp_path / split / "labels" / f"{stem}.txt", MANY)
    assert by_kind(diagnose(tmp_path)) == {}


@pytest.mark.parametrize(
    ("stems", "kind"),
    [(["train/a"], kinds.EMPTY_SOME), (["train/a", "train/c", "val/a"], kinds.EMPTY_MANY)],
)
def test_images_without_an_object_are_counted_and_too_many_of_them_are_a_warning(
    clean, stems, kind
):
    for stem in stems:
        split, name = stem.split("/")
        picture(clean / split / "images" / f"{split}_{name}.png")
        text(clean / split / "labels" / f"{split}_{name}.txt", "")
    seen = by_kind(diagnose(clean))
    assert seen[kind].count == len(stems)
    assert not ({kinds.EMPTY_SOME, kinds.EMPTY_MANY} - {kind}) & seen.keys()
    assert kind.severity == ("warning" if len(stems) == 3 else "note")


def test_a_set_without_objects_is_an_error(clean):
    for path in clean.rglob("*.txt"):
        path.write_text("")
    text(clean / "train" / "labels" / "train_a.txt", kitti_line("DontCare", 1, 1, 9, 9))
    diagnosis = diagnose(clean)
    assert kinds.NO_OBJECTS in by_kind(diagnosis)
    assert diagnosis.exit_code == 2


def test_outlines_and_boxes_that_differ_are_found(tmp_path):
    picture(tmp_path / "a.png")
    outline = [[10, 10, 20, 10, 20, 20]]
    objects = [
        (0, 1, [10, 10, 10, 10], {"segmentation": outline}),
        (0, 1, [30, 20, 10, 10], {"segmentation": outline}),
    ]
    coco(tmp_path / "x.json", ["a.png"], objects, {1: "cell"})
    assert by_kind(diagnose(tmp_path))[kinds.OTHER_OUTLINE].count == 1


def test_a_spec_adds_what_canvas_and_anchors_make_of_the_data(tmp_path, capsys):
    spec = write_tiny(tmp_path, images=4)
    small = spec.read_text().replace("height: 96 width: 96", "height: 32 width: 32")
    spec.write_text(small.replace("max_objects_num_per_image: 20", "max_objects_num_per_image: 1"))
    code = main(
        ["doctor", str(spec), "-o", str(tmp_path / "d.html"), "--json", str(tmp_path / "d.json")]
    )
    content = json.loads((tmp_path / "d.json").read_text())
    sentences = " ".join(finding["sentence"] for finding in content["findings"])
    assert "beyond the canvas" in sentences
    assert "more objects than the spec takes" in sentences
    assert code == 2  # validation images are the training images
    assert "also in training" in sentences


def test_the_report_is_one_small_page_with_pictures_and_the_command_says_where(tmp_path, capsys):
    write_kitti(tmp_path / "set", seed=1, count=6, height=96, width=96)
    (tmp_path / "set" / "labels" / "000001.txt").write_text(kitti_line("disc", 5, 5, 5, 9))
    report = tmp_path / "d.html"
    assert main(["doctor", str(tmp_path / "set"), "-o", str(report)]) == 1
    page = report.read_text()
    assert "data:image/jpeg;base64," in page
    assert "http" not in page.replace("http-equiv", "")
    assert len(page) < 5_000_000
    assert str(report) in capsys.readouterr().out


def test_the_repaired_copy_has_no_finding_that_can_be_mended(clean, tmp_path, capsys):
    bad = [
        kitti_line("cell", 5, 5, 5, 20),
        kitti_line("cell", 70, 5, 90, 20),
        kitti_line("cell", 30, 5, 64, 20),
        kitti_line("cell", 3, 4, 12, 20),
        "cell 1 2 3\n",
    ]
    labels(clean, MANY + "".join(bad))
    data = (clean / "train" / "images" / "train_b.png").read_bytes()
    (clean / "val" / "images" / "val_b.png").write_bytes(data)
    copy = tmp_path / "copy"
    assert main(["doctor", str(clean), "-o", str(tmp_path / "d.html"), "--fix", str(copy)]) == 2
    printed = capsys.readouterr().out
    for words in ("copies of other images", "boxes without area", "clipped", "second labels"):
        assert words in printed
    assert diagnose(copy).observations == []
    assert main(["doctor", str(clean), "-o", str(tmp_path / "d.html"), "--fix", str(copy)]) == 2
    assert "expected a new or an empty folder" in capsys.readouterr().err


def test_the_repaired_copy_of_masks_is_coco_with_the_same_outlines(tmp_path):
    write_coco(tmp_path / "set", seed=1, train_count=3, val_count=2, height=64, width=64)
    before = read_collection(tmp_path / "set")
    main(
        [
            "doctor",
            str(tmp_path / "set"),
            "-o",
            str(tmp_path / "d.html"),
            "--fix",
            str(tmp_path / "c"),
        ]
    )
    after = read_collection(tmp_path / "c")
    assert after.layout == "coco"
    assert after.splits == before.splits
    assert [len(item.objects) for item in after.items] == [len(i.objects) for i in before.items]


def test_a_turned_photograph_is_turned_where_its_labels_say_so(tmp_path):
    image = np.zeros((40, 60, 3), np.uint8)
    image[:10, :10] = 255
    ok, data = cv2.imencode(".jpg", image)
    exif = (
        b"\xff\xe1\x00\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    )
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.jpg").write_bytes(data[:2].tobytes() + exif + data[2:].tobytes())
    coco(tmp_path / "set" / "x.json", ["a.jpg"], [(0, 1, [1, 1, 9, 9], {})], {1: "cell"})
    content = json.loads((tmp_path / "set" / "x.json").read_text())
    content["images"][0] |= {"height": 60, "width": 40}
    (tmp_path / "set" / "x.json").write_text(json.dumps(content))
    seen = by_kind(diagnose(tmp_path / "set"))
    assert "stored as 40 x 60, shown as 60 x 40" in seen[kinds.DRAWN_TURNED].examples[0].detail
    assert not {kinds.OTHER_SIZE, kinds.TURNED, kinds.BEYOND} & seen.keys()
    main(
        [
            "doctor",
            str(tmp_path / "set"),
            "-o",
            str(tmp_path / "d.html"),
            "--fix",
            str(tmp_path / "c"),
        ]
    )
    rotated = by_kind(diagnose(tmp_path / "c"))
    assert not {kinds.OTHER_SIZE, kinds.TURNED, kinds.DRAWN_TURNED} & rotated.keys()


def test_images_of_12_bits_in_16_are_named(tmp_path):
    depth = np.linspace(0, 4095, 40 * 60).reshape(40, 60).astype(np.uint16)
    (tmp_path / "images").mkdir()
    for name, pixels in (("dark.png", depth), ("full.png", depth * 16)):
        assert cv2.imwrite(str(tmp_path / "images" / name), pixels)
        text(tmp_path / "labels" / f"{name[:-4]}.txt", kitti_line("cell", 6, 4, 36, 24))
    seen = by_kind(diagnose(tmp_path))[kinds.LOW_RANGE]
    assert [example.where.rpartition("/")[2] for example in seen.examples] == ["dark.png"]


@pytest.mark.parametrize("name", ["nothing", "empty"])
def test_a_folder_without_labels_is_one_message(tmp_path, capsys, name):
    (tmp_path / "empty").mkdir()
    assert main(["doctor", str(tmp_path / name), "-o", str(tmp_path / "d.html")]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "d.html").exists()


def test_json_and_page_tell_the_same_findings(clean):
    labels(clean, MANY + kitti_line("cell", 5, 5, 5, 20))
    diagnosis = diagnose(clean)
    page, content = pages.page(diagnosis), pages.as_json(diagnosis)
    for finding in content["findings"]:
        assert finding["advice"][:20] in page
