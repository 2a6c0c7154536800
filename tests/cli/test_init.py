"""`init` on small sets in every layout: the spec is read without a warning and its data opens."""

import json
import re
import shlex

import numpy as np
import pytest
from PIL import Image

from rcnn_jax.cli.main import main
from rcnn_jax.data.loader.pipeline import training_canvases
from rcnn_jax.data.sources.tiles import tiled
from rcnn_jax.spec.load import load_spec
from rcnn_jax.tasks.build import build_experiment
from tests.checkpoints.mirror import mirror, publish
from tests.configure import copies
from tests.data.layouts.folders import coco, kitti_line, picture, text


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return copies.kitti(tmp_path_factory.mktemp("kitti"))


@pytest.fixture
def init(tmp_path, capsys, monkeypatch):
    """Runs the command; returns the opened spec and everything that was printed."""
    # Weights that the user of this machine has must decide no test.
    monkeypatch.setenv("RCNN_JAX_CACHE", str(tmp_path / "cache"))

    def run(data, flags="", code=0):
        spec = tmp_path / "out" / "spec.txt"
        exit_code = main(
            ["init", str(data), "-o", str(spec), "--threads", "1", *shlex.split(flags)]
        )
        printed = " ".join("".join(capsys.readouterr()).split())
        assert exit_code == code, printed
        if code:
            assert not spec.exists()
            return None, printed
        loaded = load_spec(spec, task="train")
        assert (loaded.notes, loaded.warnings) == ([], [])
        assert loaded.kind != "dataset_convert"
        return build_experiment(loaded.config, loaded.kind), printed

    return run


def boxes_of(source):
    """{stem: boxes sorted} of an opened source."""
    boxes = {}
    for index in range(len(source)):
        stem = source.name(index).rsplit("/", 1)[-1].split(".")[0]
        boxes[stem] = np.sort(source.annotation(index).boxes, axis=0)
    return boxes


@pytest.mark.parametrize("layout", ["kitti", "yolo", "voc", "coco", "cvat", "label_studio"])
@pytest.mark.parametrize("detector", ["faster_rcnn", "mask_rcnn"])
def test_every_layout_reaches_both_detectors_with_the_same_boxes(
    source, tmp_path, init, layout, detector
):
    data = source
    if layout != "kitti":
        data = getattr(copies, layout)(source, tmp_path / layout)
    experiment, printed = init(data, f"--detector {detector}")
    assert f"layout: {layout}" in printed
    assert f"rcnn-jax {detector} train -e" in printed
    train, val = experiment.train_source(), experiment.eval_source()
    assert len(train) + len(val) == copies.COUNT
    assert len(val) == copies.COUNT // 5
    assert sorted(experiment.task.class_names) == sorted(
        f"white_{name}"
        if layout == "voc" and detector == "faster_rcnn"
        else f"white {name}"
        if layout == "voc"
        else name
        for name in copies.names(source)
    )
    by_image = {**boxes_of(train), **boxes_of(val)}
    for image, _, boxes in copies.rows(source):
        expected = np.array([(y1, x1, y2, x2) for _, x1, y1, x2, y2 in boxes]).reshape(-1, 4)
        # Two digits in KITTI's files.
        np.testing.assert_allclose(by_image[image.stem], np.sort(expected, axis=0), atol=0.011)


def test_kitti_and_whole_coco_files_stay_where_they_are(source, tmp_path, init):
    _, printed = init(source, "--detector faster_rcnn")
    assert "the KITTI folders are used where they are" in printed
    data = copies.coco(source, tmp_path / "coco")
    content = json.loads((data / "annotations.json").read_text())
    content["categories"] = content["categories"][1:]
    (data / "annotations.json").unlink()
    for split, keep in (("train", lambda n: n > 6), ("val", lambda n: n <= 6)):
        part = {
            **content,
            "images": [each for each in content["images"] if keep(each["id"])],
            "annotations": [each for each in content["annotations"] if keep(each["image_id"])],
        }
        (data / f"instances_{split}.json").write_text(json.dumps(part))
    experiment, printed = init(data, "--masks --overwrite")
    assert "the COCO files are used where they are" in printed
    assert experiment.category_ids == (2, 5, 8)
    assert experiment.train_gt.mask_size


def test_classes_that_nobody_drew_are_left_out_and_listed(source, tmp_path, init):
    experiment, printed = init(copies.coco(source, tmp_path / "coco"), "--masks")
    assert "no object is called cells: left out" in printed
    assert "cells" not in experiment.task.class_names
    written = json.loads((tmp_path / "out" / "spec_data" / "instances_train.json").read_text())
    assert [each["name"] for each in written["categories"]] == copies.names(source)
    experiment, printed = init(copies.yolo(source, tmp_path / "yolo"), "--overwrite")
    assert "never drawn" in printed
    assert "never drawn" not in experiment.task.class_names


def test_masks_marked_as_crowds_are_named_and_learnt_with_the_switch(source, tmp_path, init):
    data = copies.coco(source, tmp_path / "coco", crowd=1)
    _, printed = init(data, "--masks", code=2)
    assert "`rcnn-jax init --crowds-as-objects` takes them as objects" in printed
    experiment, _ = init(data, "--masks --crowds-as-objects")
    train = experiment.train_source()
    assert sum(len(train.annotation(n).boxes) for n in range(len(train))) > 20
    assert not any(train.annotation(n).crowd.any() for n in range(len(train)))


def test_objects_without_an_outline_are_counted_and_left_out_only_if_that_is_accepted(
    source, tmp_path, init
):
    data = copies.coco(source, tmp_path / "coco")
    (path,) = data.rglob("*.json")
    content = json.loads(path.read_text())
    for number, annotation in enumerate(content["annotations"]):
        if number % 4 == 0:
            annotation["segmentation"] = []
    path.write_text(json.dumps(content))
    count = -(-len(content["annotations"]) // 4)
    _, printed = init(data, "--masks", code=2)
    assert f"{count} of {len(content['annotations'])} objects have a box alone (" in printed
    assert "or give --accept-errors to leave these objects out" in printed
    experiment, printed = init(data, "--masks --accept-errors")
    assert "they are left out" in printed
    sources = experiment.train_source(), experiment.eval_source()
    crowds = sum(int(s.annotation(n).crowd.sum()) for s in sources for n in range(len(s)))
    assert crowds == count
    experiment, _ = init(data, "--overwrite")
    assert not experiment.train_source().annotation(0).crowd.any()


def test_names_with_blanks_and_marks_of_voc_are_said(source, tmp_path, init):
    _, printed = init(copies.voc(source, tmp_path / "voc"))
    assert "coordinates count from 1, as the format says" in printed
    assert "0 objects are marked difficult" in printed
    assert "truncated" in printed


def test_errors_of_the_doctor_stop_before_anything_is_written(tmp_path, init):
    data = copies.kitti(tmp_path / "set")
    broken = sorted((data / "images").iterdir())[3]
    broken.write_bytes(broken.read_bytes()[:100])
    _, printed = init(data, code=2)
    assert "the doctor found errors" in printed
    assert not (tmp_path / "out").exists()
    experiment, _ = init(data, "--accept-errors")
    assert len(experiment.train_source()) + len(experiment.eval_source()) == copies.COUNT - 1


def test_frames_of_one_scene_stay_in_one_split(tmp_path, init):
    for film in ("street", "yard", "garden", "hall", "roof"):
        for number in range(6):
            picture(tmp_path / "set" / "images" / f"{film}_{number:04}.png")
            line = kitti_line("car", 5, 5, 30 + number, 25)
            text(tmp_path / "set" / "labels" / f"{film}_{number:04}.txt", line * 1)
    experiment, printed = init(tmp_path / "set")
    val = {name.split("_")[0] for name in boxes_of(experiment.eval_source())}
    train = {name.split("_")[0] for name in boxes_of(experiment.train_source())}
    assert val
    assert not val & train
    assert "5 groups of images of one scene, film or source stay in one split each" in printed


def test_images_in_both_splits_are_found_and_new_splits_keep_them_together(source, tmp_path, init):
    data = copies.yolo(source, tmp_path / "yolo")
    leaked = sorted((data / "train" / "images").iterdir())[0]
    (data / "valid" / "images" / f"again{leaked.suffix}").write_bytes(leaked.read_bytes())
    labels = (data / "train" / "labels" / f"{leaked.stem}.txt").read_text()
    (data / "valid" / "labels" / "again.txt").write_text(labels)
    _, printed = init(data, code=2)
    assert "│ error │ 1 images of" in printed
    assert "split anew with --new-splits where images are in both splits" in printed
    experiment, printed = init(data, "--new-splits")
    val = set(boxes_of(experiment.eval_source()))
    assert len(val & {leaked.stem, "again"}) in (0, 2)
    assert "1 groups of images of one scene" in printed


def test_the_same_seed_splits_the_same_way(source, init):
    first = set(boxes_of(init(source)[0].eval_source()))
    assert set(boxes_of(init(source, "--overwrite")[0].eval_source())) == first
    assert set(boxes_of(init(source, "--overwrite --seed 7")[0].eval_source())) != first


def test_the_spec_says_why(source, tmp_path, init):
    init(source)
    spec = (tmp_path / "out" / "spec.txt").read_text()
    for words in ("million pixels", "Anchors: ", "objects in an image", "random weights"):
        assert words in spec


def test_inference_writes_where_the_configs_write(source, tmp_path, init):
    init(source, "--detector faster_rcnn")
    spec = (tmp_path / "out" / "spec.txt").read_text()
    assert re.search(r'detection_image_output_dir: ".*/inference/images"', spec)
    assert re.search(r'labels_dump_dir: ".*/inference/labels"', spec)


def test_a_spec_that_is_there_is_not_replaced_unasked(source, tmp_path, init, capsys):
    init(source)
    spec = tmp_path / "out" / "spec.txt"
    spec.write_text("mine")
    assert main(["init", str(source), "-o", str(spec)]) == 2
    assert spec.read_text() == "mine"
    assert "--overwrite" in capsys.readouterr().err
    (tmp_path / "out" / "spec_data" / ".made-by-rcnn-jax-init").unlink()
    assert main(["init", str(source), "-o", str(spec), "--overwrite"]) == 2
    assert "was not written by init" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--minutes 0", "--minutes 0: expected more than 0"),
        ("--minutes nan", "--minutes nan: expected more than 0"),
        ("--canvas 3", "--canvas 3: expected HEIGHTxWIDTH"),
        ("--canvas 8x8", "--canvas 8x8: expected HEIGHTxWIDTH"),
        ("--weights nowhere.npz", "there is no such file"),
        ("--arch resnet:19", "--arch resnet:19: expected one of"),
        ("--seed -1", "--seed -1: expected 0 or more"),
        ("--masks", "--masks needs outlines, and its kitti labels have boxes alone"),
        ("--masks --detector faster_rcnn", "--masks needs outlines"),
    ],
)
def test_a_flag_that_makes_no_sense_is_one_message(source, init, flags, words):
    assert words in init(source, flags, code=2)[1]


def test_weights_decide_backbone_and_pixels(source, tmp_path, init):
    weights = tmp_path / "mobilenet_v2_imagenet.npz"
    np.savez(weights, a=np.zeros(1))
    experiment, printed = init(source, f"--weights {weights}")
    assert experiment.start.pretrained == str(weights)
    assert experiment.task.model.arch == "mobilenet_v2"
    assert experiment.task.pixels.std == (127.5,) * 3
    assert "(mobilenet_v2)" in printed


@pytest.mark.parametrize("detector", ["faster_rcnn", "mask_rcnn"])
def test_published_weights_are_taken_where_they_can_be_had(
    source, tmp_path, init, monkeypatch, detector
):
    flags = f"--detector {detector} --overwrite"
    experiment, printed = init(source, flags)
    assert not experiment.start.pretrained
    assert "from random weights: imagenet/resnet18 cannot be fetched: the network is not" in printed
    with mirror(monkeypatch, str(tmp_path / "cache")) as site:
        publish(monkeypatch, site, "imagenet/resnet18", b"weights", suffix=".pth")
        experiment, printed = init(source, flags)
        assert experiment.start.pretrained == "imagenet/resnet18"
        assert "weights: from imagenet/resnet18 (resnet:18), published weights" in printed
        assert "Weights: from imagenet/resnet18" in (tmp_path / "out" / "spec.txt").read_text()
        experiment, printed = init(source, f"{flags} --weights none")
        assert not experiment.start.pretrained
        assert "--weights FILE|NAME" in printed


def test_weights_of_torch_bring_their_convention(source, tmp_path, init):
    (tmp_path / "resnet18-f37072fd.pth").write_bytes(b"")
    experiment, _ = init(
        source, f"--weights {tmp_path / 'resnet18-f37072fd.pth'} --detector mask_rcnn", code=2
    )
    assert experiment is None  # the file is looked into


@pytest.mark.parametrize("detector", ["faster_rcnn", "mask_rcnn"])
def test_photographs_that_were_labelled_as_exif_shows_them_are_turned_in_a_copy(
    tmp_path, init, detector
):
    random, folder = np.random.default_rng(0), tmp_path / "set"
    folder.mkdir()
    for number in range(10):
        pixels = random.integers(0, 100, (120, 200, 3)).astype(np.uint8)
        pixels[30:50, 140:180] = 255  # columns 30 to 50 and rows 20 to 60, as it is shown
        tag = Image.Exif()
        tag[274] = 8
        Image.fromarray(pixels).save(folder / f"{number}.png", exif=tag)
    boxes = [(number, 1, [30, 20, 20, 40], {}) for number in range(10)]
    names = [f"{number}.png" for number in range(10)]
    coco(folder / "x.json", names, boxes, {1: "sign"})
    content = json.loads((folder / "x.json").read_text())
    for entry in content["images"]:
        entry |= {"height": 200, "width": 120}
    (folder / "x.json").write_text(json.dumps(content))
    experiment, printed = init(folder, f"--detector {detector}")
    assert "of which 10 stand as EXIF shows them" in printed
    source = experiment.train_source()
    assert source.size(0) == (200, 120)
    (box,) = source.annotation(0).boxes
    top, left, bottom, right = box.astype(int).tolist()
    assert (source.image(0, "rgb")[top:bottom, left:right] == 255).all()
    assert (source.image(0, "rgb") == 255).all(axis=2).sum() == (bottom - top) * (right - left)


@pytest.mark.parametrize("detector", ["faster_rcnn", "mask_rcnn"])
def test_nothing_is_mirrored_where_that_would_be_another_class(tmp_path, init, detector):
    for number in range(6):
        picture(tmp_path / "set" / "images" / f"{number}.png", height=120, width=160)
        lines = [kitti_line(name, 5, 5, 65, 65) for name in ("turn_left", "turn_right", "stop")]
        text(tmp_path / "set" / "labels" / f"{number}.txt", "".join(lines))
    experiment, _ = init(tmp_path / "set", f"--detector {detector}")
    flips = experiment.augment.hflip_probability, experiment.augment.vflip_probability
    assert flips == (0, 0)
    spec = (tmp_path / "out" / "spec.txt").read_text()
    assert "In a mirror turn_left, turn_right would be another class: no flips." in spec


@pytest.fixture
def mites(tmp_path):
    """Pictures of 900 x 1200 pixels with objects of 6."""
    for number in range(12):
        picture(tmp_path / "set" / "images" / f"{number}.png", height=900, width=1200)
        lines = [kitti_line("mite", x, 40 * number, x + 6, 40 * number + 6) for x in (9, 99, 500)]
        text(tmp_path / "set" / "labels" / f"{number}.txt", "".join(lines))
    return tmp_path / "set"


def test_large_photographs_of_small_objects_are_warned_of_with_what_would_help(
    mites, tmp_path, init
):
    experiment, printed = init(mites, "--no-tiles")
    assert experiment.tiling is None
    assert "100% of the objects are smaller than 8 pixels on this canvas" in printed
    assert "times the time of a step (--canvas HEIGHTxWIDTH" in printed
    assert "tiles of the original (--tiles, of" in printed
    assert "of an image with a fifth of overlap" in printed
    spec = (tmp_path / "out" / "spec.txt").read_text()
    assert "100% of the objects are smaller than 8 pixels on this canvas" in spec


@pytest.mark.parametrize("detector", ["faster_rcnn", "mask_rcnn"])
def test_tiles_are_cut_where_the_flag_asks_for_them(mites, tmp_path, init, detector):
    experiment, printed = init(mites, f"--tiles --detector {detector}")
    assert "little is learnt of them" not in printed
    tiling = experiment.tiling
    assert tiling is not None and tiling.overlap == 0.2
    train = tiled(experiment.train_source(), tiling)
    assert len(train) > 3 * len(experiment.train_source())
    # as the canvas shows a tile: no object is smaller than the finest cell that sees it
    side = min(training_canvases(train, experiment.geometry)[-1])
    least = 16 if detector == "faster_rcnn" else 8
    assert 6 * side / tiling.size >= least
    spec = (tmp_path / "out" / "spec.txt").read_text()
    assert f"tile_size: {tiling.size}" in spec
    assert f" tiles of {tiling.size} pixels with an overlap of 20%, of 12 images" in spec


def test_images_that_hide_their_objects_are_cut_unasked_and_that_is_said(mites, tmp_path, init):
    experiment, printed = init(mites)
    assert experiment.tiling is not None
    assert "100% of the objects would be smaller than 8 pixels on a canvas for whole" in printed
    assert "times as long (--no-tiles keeps them whole)" in printed
    assert "little is learnt of them" not in printed
    # a canvas that was asked for is one for whole images
    experiment, printed = init(mites, "--overwrite --canvas 256x320")
    assert experiment.tiling is None
    assert "little is learnt of them" in printed


@pytest.mark.parametrize("detector", ["faster_rcnn", "mask_rcnn"])
def test_an_image_of_many_tiles_may_have_as_many_detections_as_it_has_objects(
    tmp_path, init, detector
):
    rows = range(20, 880, 40)
    lines = [kitti_line("mite", x, y, x + 6, y + 6) for y in rows for x in range(20, 1180, 60)]
    for number in range(6):
        picture(tmp_path / "set" / "images" / f"{number}.png", height=900, width=1200)
        text(tmp_path / "set" / "labels" / f"{number}.txt", "".join(lines))
    experiment, _ = init(tmp_path / "set", f"--tiles --detector {detector} --accept-errors")
    assert experiment.tiling is not None
    assert experiment.evaluation.detections.max_detections == len(lines) * 3 // 2
    # The doctor judges objects by the tile that shows them, not by the whole image.
    spec, page, table = tmp_path / "out" / "spec.txt", tmp_path / "d.html", tmp_path / "d.json"
    main(["doctor", str(spec), "-o", str(page), "--json", str(table)])
    findings = table.read_text()
    assert "are smaller than a fortieth" in findings
    assert "smaller than a cell" not in findings
    assert "more objects than" not in findings


def test_tiles_are_not_cut_where_whole_images_show_the_objects(tmp_path, init):
    for number in range(12):
        picture(tmp_path / "set" / "images" / f"{number}.png", height=120, width=160)
        line = kitti_line("car", 5, 5, 65 + number, 65)
        text(tmp_path / "set" / "labels" / f"{number}.txt", line)
    experiment, printed = init(tmp_path / "set", "--tiles")
    assert experiment.tiling is None
    assert "--tiles: the objects are large enough in whole images" in printed


@pytest.mark.parametrize("detector", ["faster_rcnn", "mask_rcnn"])
def test_a_recipe_is_named_only_where_the_flag_asks_for_it(source, tmp_path, capsys, detector):
    spec = tmp_path / "out" / "spec.txt"
    line = ["init", str(source), "-o", str(spec), "--threads", "1", "--detector", detector]
    assert main([*line, "--recipe", "small_data"]) == 0
    assert 'note: recipe "small_data" sets' in capsys.readouterr().out
    config = load_spec(spec, task="train").config
    assert config.recipe == "small_data"
    # What init chooses by the length of the run is given, and wins.
    training = config.training_config if detector == "faster_rcnn" else config
    assert not any(path.endswith("ema_decay") for path in config.recipe_fields)
    assert training.early_stopping.monitor == "map"
    assert main([*line, "--overwrite"]) == 0
    assert load_spec(spec, task="train").config.recipe is None


@pytest.mark.parametrize(
    ("flags", "overlaps"),
    [
        ("--minutes 600", (0.5, 0.6)),
        ("--minutes 1", ()),
        ("--minutes 600 --weights coco/faster_rcnn_resnet50_fpn --arch resnet:50", ()),
    ],
)
def test_boxes_are_refined_by_a_second_head_where_there_is_time_to_learn_it(
    source, init, flags, overlaps
):
    experiment, _ = init(source, f"--detector mask_rcnn {flags}")
    assert experiment.task.settings.cascade_overlaps == overlaps
    # Without masks twice as much foreground costs no time.
    assert experiment.task.settings.roi_sampling.foreground_fraction == 0.5


def test_a_second_head_comes_with_masks_too(source, tmp_path, init):
    experiment, _ = init(copies.coco(source, tmp_path / "coco"), "--masks --minutes 600")
    assert experiment.task.settings.cascade_overlaps == (0.5, 0.6)
    # A mask head on twice as many rois would take twice the time.
    assert experiment.task.settings.roi_sampling.foreground_fraction == 0.25
