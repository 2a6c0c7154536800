from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from rcnn_jax.data.loader import images, mask_crops
from rcnn_jax.data.sources.tiles import TiledSource, windows
from rcnn_jax.errors import UsageError
from rcnn_jax.evaluate import loop, results
from rcnn_jax.evaluate.tiles import merge, merge_rows
from rcnn_jax.inference.predict import detect_files
from rcnn_jax.settings.data import GeometrySettings, TilingSettings
from rcnn_jax.spec.load import parse_spec
from rcnn_jax.structures import Detections
from rcnn_jax.tasks.build import build_experiment
from tests.data.loader.test_batching import Memory
from tests.e2e.tiny_mask import write_tiny
from tests.evaluate.red_squares import RedSquares, red_experiment, write_red
from tests.evaluate.test_loop_coco import CHANGES, SIDE, Oracle

SIZE = (100, 180)
TILING = TilingSettings(size=100, overlap=0.2)
LYING = windows(SIZE, TILING)


def detections(*items, masks=False):
    """Detections of a tile: (box, score, class)."""
    boxes, scores, classes = ([item[i] for item in items] for i in range(3))
    return Detections(
        boxes=np.float32(boxes).reshape(-1, 4),
        scores=np.float32(scores),
        classes=np.int32(classes),
        valid=np.ones(len(items), bool),
        masks=np.float32(scores)[:, None, None] * np.ones((1, 2, 2), np.float32) if masks else None,
    )


def merged(left, right, **more):
    return merge([left, right], LYING, SIZE, **{"nms_threshold": 0.5, "limit": 100, **more})


def test_boxes_move_into_the_image_best_first():
    result = merged(
        detections(([1, 2, 11, 12], 0.4, 0)),
        detections(([1, 40, 11, 52], 0.9, 1), ([50, 60, 61, 72], 0.6, 0)),
    )
    np.testing.assert_array_equal(
        result.boxes, [[1, 120, 11, 132], [50, 140, 61, 152], [1, 2, 11, 12]]
    )
    np.testing.assert_allclose(result.scores, [0.9, 0.6, 0.4])
    assert result.classes.tolist() == [1, 0, 0] and result.valid.all()


def test_an_object_that_two_tiles_saw_whole_is_one():
    result = merged(detections(([10, 83, 24, 96], 0.7, 0)), detections(([10, 4, 24, 16], 0.8, 0)))
    np.testing.assert_array_equal(result.boxes, [[10, 84, 24, 96]])
    others = merged(detections(([10, 83, 24, 96], 0.7, 0)), detections(([10, 4, 24, 16], 0.8, 1)))
    assert len(others.boxes) == 2


@pytest.mark.parametrize("score", [0.3, 0.99])
def test_a_piece_goes_whatever_its_score_where_a_tile_has_the_whole(score):
    # Columns 70 to 99.5 of the image: whole on the left, from 80 on a piece on the right.
    result = merged(detections(([10, 70, 30, 97], 0.6, 0)), detections(([10, 0, 30, 17], score, 0)))
    np.testing.assert_array_equal(result.boxes, [[10, 70, 30, 97]])


def test_pieces_stay_where_no_tile_has_the_whole():
    result = merged(detections(([10, 20, 30, 100], 0.9, 0)), detections(([10, 0, 30, 90], 0.8, 0)))
    assert len(result.boxes) == 2


def test_a_box_at_the_border_of_the_image_is_no_piece():
    # Both end at the right side of the image; the right one is a small object within the left one's box.
    result = merged(detections(([0, 60, 40, 97], 0.9, 0)), detections(([0, 4, 12, 14], 0.8, 0)))
    assert len(result.boxes) == 2


def test_what_overlaps_within_a_tile_was_decided_there():
    crowded = detections(([10, 10, 30, 30], 0.9, 0), ([10, 12, 30, 32], 0.8, 0))
    assert len(merged(crowded, detections()).boxes) == 2


def test_an_image_keeps_so_many_and_masks_follow_their_boxes():
    left = detections(
        *(([y, 2, y + 8, 10], 0.1 + y / 200, 0) for y in range(0, 90, 10)), masks=True
    )
    result = merged(left, detections(([0, 50, 9, 60], 0.3, 0), masks=True), limit=3)
    np.testing.assert_allclose(result.masks[:, 0, 0], result.scores)
    np.testing.assert_allclose(result.scores, [0.5, 0.45, 0.4])


def test_no_detection_at_all_is_an_empty_image():
    assert merged(detections(), detections()).boxes.shape == (0, 4)


def test_many_detections_agree_with_the_plain_reading():
    rng = np.random.default_rng(0)
    size, tiling = (300, 300), TilingSettings(size=100, overlap=0.3)
    lying = windows(size, tiling)
    tiles = []
    for _ in lying:
        low = rng.uniform(0, 80, (40, 2))
        boxes = np.hstack([low, np.minimum(low + rng.uniform(4, 40, (40, 2)), 100)])
        tiles.append(
            detections(*zip(boxes, rng.uniform(size=40), rng.integers(0, 2, 40), strict=True))
        )
    result = merge(tiles, lying, size, nms_threshold=0.4, limit=10**6)
    expected = plain_reading(tiles, lying, size, 0.4)
    np.testing.assert_allclose(result.boxes, expected)
    assert 50 < len(expected) < 40 * len(lying)


def plain_reading(tiles, lying, size, threshold):
    """All pairs, one after the other."""
    every = []
    for number, (one, window) in enumerate(zip(tiles, lying, strict=True)):
        for box, score, label in zip(one.boxes, one.scores, one.classes, strict=True):
            piece = any(
                (window[a] > 0 and box[a] <= 2) or (window[a + 2] < size[a] and box[a + 2] >= 98)
                for a in (0, 1)
            )
            every.append((piece, -score, box + np.float32(window[:2] * 2), number, label))
    kept = []
    for item in sorted(every, key=lambda item: item[:2]):
        piece, _, box, number, label = item
        for _, _, other, other_number, other_label in kept:
            if number == other_number or label != other_label:
                continue
            sides = np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2])
            shared = np.maximum(sides, 0).astype(float).prod()
            areas = [(b[2:] - b[:2]).astype(float).prod() for b in (box, other)]
            if shared > threshold * (sum(areas) - shared) or (
                piece and shared >= 0.5 * areas[0] > 0
            ):
                break
        else:
            kept.append(item)
    return np.array([item[2] for item in sorted(kept, key=lambda item: item[1])])


def test_rows_of_tiles_become_rows_of_images_with_their_ground_truth():
    source = Memory([SIZE, (60, 60)], [[[10, 70, 30, 97]], [[-5, 0, 5, 9]]], [[1], [0]])
    tiles = TiledSource(source, TILING).tiles

    class Tiny:
        def __init__(self, index):
            self.image_id = np.array([index])

    rows = [
        (Tiny(2), 0, detections(([0, 0, 5, 9], 0.5, 0)), np.float32([[1, 1, 2, 2]])),
        (Tiny(1), 0, detections(([10, 0, 30, 17], 0.9, 1)), np.float32([[0, 0, 2, 2]])),
        (Tiny(0), 0, detections(([10, 70, 30, 97], 0.6, 1)), np.float32([[5, 5, 6, 6]])),
    ]
    results = list(merge_rows(rows, source, tiles, nms_threshold=0.5, limit=10, with_truth=True))
    assert [int(batch.image_id[row]) for batch, row, _, _ in results] == [1, 0]
    (small, _, _, _), (large, _, result, proposals) = results
    np.testing.assert_array_equal(small.gt.boxes, [[[0, 0, 5, 9]]])
    np.testing.assert_array_equal(large.source_size, [SIZE])
    np.testing.assert_array_equal(large.scale, [[1, 1]])
    np.testing.assert_array_equal(result.boxes, [[10, 70, 30, 97]])
    np.testing.assert_array_equal(proposals, [[5, 5, 6, 6], [0, 80, 2, 82]])


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """The experiment of a canvas of 96 pixels, and its images: 300 x 260 with squares of 8 pixels."""
    root = tmp_path_factory.mktemp("large")
    spec = write_red(root, images=3)
    rng = np.random.default_rng(4)
    for path in sorted((root / "data" / "images").glob("*.png")):
        image, rows = np.full((300, 260, 3), 128, np.uint8), []
        for cell in rng.permutation(7 * 6)[:10].tolist():
            y, x = np.array(divmod(cell, 6)) * 42 + rng.integers(0, 30, 2)
            image[y : y + 8, x : x + 8] = (40, 40, 250)
            rows.append(f"disc 0 0 0 {x} {y} {x + 8} {y + 8} 0 0 0 0 0 0 0\n")
        cv2.imwrite(str(path), image)
        (root / "data" / "labels" / f"{path.stem}.txt").write_text("".join(rows))
    squeezed = GeometrySettings(mode="stretch", height=96, width=96)
    return replace(red_experiment(spec), geometry=squeezed), root / "data"


def red(experiment):
    pixels = experiment.task.pixels
    return RedSquares(pixels, pixels).predictor(experiment, experiment.evaluation)


CUT = TilingSettings(size=96, overlap=0.25)


def test_evaluation_by_tiles_sees_what_a_canvas_does_not(large):
    experiment, _ = large
    source = experiment.eval_source()
    reports = [
        loop.evaluate_detector(each, red(each), source, lambda items, *_: items)
        for each in (experiment, replace(experiment, tiling=CUT))
    ]
    whole, cut = (results.numbers(report)["mAP"] for report in reports)
    assert whole < 0.7 and cut == 1.0


def test_evaluations_keep_whole_images(large):
    experiment = replace(large[0], tiling=CUT)
    source = experiment.eval_source()
    evaluation = loop.evaluate_images(experiment, red(experiment), source, lambda items, *_: items)
    assert sorted(evaluation.records) == [0, 1, 2] and set(evaluation.sizes) == {(300, 260)}
    assert [len(image.boxes) for image in evaluation.images] == [10] * 3


def test_inference_by_tiles_finds_every_object_of_a_file(large):
    experiment, data = large
    experiment = replace(experiment, tiling=CUT)
    paths = [*sorted((data / "images").glob("*.png")), data / "absent.png"]
    items = list(detect_files(paths, experiment, red(experiment)))
    assert [item.path for item, _ in items] == paths
    assert items[-1][1] is None and "absent.png" in items[-1][0].error
    source = experiment.eval_source()
    for record, (item, one) in enumerate(items[:-1]):
        assert item.source_size == (300, 260)
        order, truth = np.lexsort(one.boxes.T), source.annotation(record).boxes
        np.testing.assert_array_equal(one.boxes[order], truth[np.lexsort(truth.T)])


def test_several_processes_are_told_that_one_must_join_the_tiles(large):
    experiment = replace(large[0], tiling=CUT)
    two = SimpleNamespace(is_many=True, index=0, count=2)
    with pytest.raises(UsageError, match="joined by one process"):
        loop.rows_of(experiment, red(experiment), experiment.eval_source(), batch=2, together=two)
    # Before the first step of a training, too.
    with pytest.raises(UsageError, match="leave validation data out of a training"):
        loop.check_images(experiment, experiment.eval_source(), two)


class Pieces(Oracle):
    """Gives back what a tile shows of its objects."""

    def _detect(self, index):
        out = super()._detect(index)
        if index < len(self.source):
            truth, count = self.source.annotation(index), out["valid"].sum()
            placed = images.fit(self.source.size(index), self.experiment.geometry)
            boxes = images.clip_boxes(out["boxes"][:count], (0, 0, *placed.image_size))
            out["boxes"][:count] = boxes
            for row, mask in enumerate(truth.masks):
                out["masks"][row] = mask_crops.crop_mask(mask, placed.matrix, boxes[row], SIDE)
        return out


def test_masks_of_tiles_lie_on_the_image(tmp_path):
    spec = write_tiny(tmp_path, *CHANGES)
    config = parse_spec(spec.read_text(), "spec.txt", "mask_rcnn").config
    experiment = build_experiment(config, "mask_rcnn")
    source = experiment.eval_source()
    tiling = TilingSettings(size=min(source.size(0)) - 8, overlap=0.7)
    experiment = replace(experiment, tiling=tiling)
    tiles = TiledSource(source, tiling)
    assert len(tiles) > 2 * len(source)
    report = loop.evaluate_detector(
        experiment, Pieces(experiment, tiles), source, lambda items, *_: items
    )
    # An object that is larger than the overlap stays in pieces; there is none here.
    assert report.metrics["AP"] > 0.95 and report.metrics["mask_AP"] > 0.95
