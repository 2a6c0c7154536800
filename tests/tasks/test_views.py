"""Test-time augmentation: what comes back from a view lies where it does on the canvas."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.errors import SpecError
from rcnn_jax.settings.detection import DetectionSettings
from rcnn_jax.settings.views import ViewSettings, read_views
from rcnn_jax.spec.load import load_spec, parse_spec
from rcnn_jax.structures import Detections, Proposals
from rcnn_jax.tasks import views as view_ops
from rcnn_jax.tasks.build import build_experiment, with_views
from rcnn_jax.tasks.views import View, merge, predict_views, views_of
from tests.e2e.tiny import write_tiny
from tests.models.tiny import random_variables
from tests.spec.samples import FASTER, MASK
from tests.tasks.mask_rcnn.test_task import experiment_of, on_one_device

CANVAS = (64, 96)
BRIGHT = (16.0, 8.0, 40.0, 32.0)  # y1 x1 y2 x2
TEST = DetectionSettings(score_threshold=0.0, nms_threshold=0.5, max_detections=4)


def scene():
    y1, x1, y2, x2 = map(int, BRIGHT)
    image = np.zeros((1, *CANVAS, 3), np.uint8)
    image[:, y1:y2, x1:x2] = 255
    return image


def test_views_come_in_order_in_whole_cells_and_none_twice():
    views = views_of(ViewSettings(flip=True, scales=(1.0, 0.9, 1.5)), CANVAS, 32)
    assert [(view.size, view.flip) for view in views] == [
        (CANVAS, False),
        (CANVAS, True),  # 0.9 rounds to the canvas: no third look at the same pixels
        ((96, 128), False),
        ((96, 128), True),
    ]
    assert views[0] == View(CANVAS, CANVAS, False)
    assert len(set(views)) == len(views)


@pytest.mark.parametrize("size", [CANVAS, (32, 192), (128, 64)])
@pytest.mark.parametrize("flip", [False, True])
def test_a_box_lies_in_the_view_where_its_pixels_are_and_comes_back(size, flip):
    view = View(size, CANVAS, flip)
    y, x = size[0] / CANVAS[0], size[1] / CANVAS[1]
    y1, x1, y2, x2 = BRIGHT
    left, right = (size[1] - x2 * x, size[1] - x1 * x) if flip else (x1 * x, x2 * x)
    there = np.asarray(view.there(np.asarray([BRIGHT], np.float32)))
    np.testing.assert_allclose(there, [[y1 * y, left, y2 * y, right]], rtol=1e-6)
    np.testing.assert_allclose(view.back(there), [BRIGHT], rtol=1e-6)
    seen = np.asarray(view.of(scene()))[0, :, :, 0] > 127
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    bounds = (rows[0], columns[0], rows[-1] + 1, columns[-1] + 1)
    np.testing.assert_allclose(bounds, there[0], atol=0.51)


def detections(boxes, scores, classes):
    return Detections(
        boxes=jnp.asarray([boxes], jnp.float32),
        scores=jnp.asarray([scores], jnp.float32),
        classes=jnp.asarray([classes], jnp.int32),
        valid=jnp.asarray([[score > 0 for score in scores]]),
    )


def test_lists_are_merged_best_first_and_suppressed_within_a_class_only():
    first = detections([(0, 0, 10, 10), (0, 0, 10, 10)], [0.9, 0.3], [0, 1])
    second = detections([(0, 0, 10, 9), (50, 50, 60, 60)], [0.95, 0.2], [0, 0])
    unused = detections([(0, 0, 99, 99), (0, 0, 1, 1)], [0.0, 0.0], [0, 1])
    merged = merge([first, second, unused], TEST, 2)
    assert merged.valid[0].tolist() == [True, True, True, False]
    np.testing.assert_allclose(merged.scores[0], [0.95, 0.3, 0.2, 0.0])
    assert merged.classes[0, :3].tolist() == [0, 1, 0]
    np.testing.assert_array_equal(merged.boxes[0, 0], (0, 0, 10, 9))


def test_of_equal_scores_the_canvas_itself_wins():
    first = detections([(0, 0, 10, 10)], [0.5], [0])
    second = detections([(0, 0, 10, 9)], [0.5], [0])
    np.testing.assert_array_equal(merge([first, second], TEST, 1).boxes[0, 0], (0, 0, 10, 10))


def test_every_view_of_a_scene_finds_the_same_box_and_masks_are_turned_back(monkeypatch):
    """A detector that is right by construction: the bounds of what is bright, surer in larger views."""

    def look(network, images, pixels, settings, test, heads):
        seen = jnp.asarray(images)[0, :, :, 0] > 127
        height, width = seen.shape
        rows, columns = seen.any(1), seen.any(0)
        box = jnp.stack(
            [
                jnp.argmax(rows),
                jnp.argmax(columns),
                height - jnp.argmax(rows[::-1]),
                width - jnp.argmax(columns[::-1]),
            ]
        ).astype(jnp.float32)
        one = Proposals(
            boxes=box[None, None], scores=jnp.ones((1, 1)), valid=jnp.ones((1, 1), bool)
        )
        return heads({4: jnp.asarray(images, jnp.float32)}, one, jnp.asarray((height, width))), one

    def boxes(maps, proposals, size):
        return Detections(
            boxes=proposals.boxes,
            scores=jnp.full((1, 1), size[1] / 1000.0),
            classes=jnp.zeros((1, 1), jnp.int32),
            valid=jnp.ones((1, 1), bool),
        )

    seen = []

    def masks(maps, merged):
        # Left column of the box lit: on the right in a mirrored view.
        seen.append(np.asarray(merged.boxes)[0, 0])
        lit = jnp.zeros((1, 4, 2, 2)).at[..., 0].set(1.0)
        return lit[..., ::-1] if len(seen) % 2 == 0 else lit

    monkeypatch.setattr(view_ops.recipe, "prediction", look)
    settings = dataclasses.replace(experiment_of().task.settings)
    test = dataclasses.replace(
        experiment_of().evaluation, detections=TEST, views=read_views("flip,2")
    )
    merged, proposals = predict_views(None, scene(), None, settings, test, 1, boxes, masks)
    assert int(merged.valid.sum()) == 1
    np.testing.assert_allclose(merged.boxes[0, 0], BRIGHT, atol=0.51)
    np.testing.assert_allclose(proposals.boxes[0, 0], BRIGHT)
    assert float(merged.scores[0, 0]) == pytest.approx(0.192)  # of the larger view
    assert np.asarray(merged.masks)[0, 0].tolist() == [[1.0, 0.0], [1.0, 0.0]]
    y1, x1, y2, x2 = (float(value) for value in merged.boxes[0, 0])
    np.testing.assert_allclose(seen[1], (y1, 96 - x2, y2, 96 - x1), rtol=1e-6)
    np.testing.assert_allclose(seen[3], (2 * y1, 192 - 2 * x2, 2 * y2, 192 - 2 * x1), rtol=1e-6)


@pytest.fixture(scope="module")
def masked():
    experiment = experiment_of()
    task = on_one_device(experiment.task)
    variables = random_variables(task.model, seed=3)
    # Pixels of some hundred would saturate every score, and of equal ones either may be kept. Up to the
    # logits the network is linear in this factor.
    kernel = variables["params"]["conv1"]["kernel"]
    variables["params"]["conv1"]["kernel"] = 0.01 * kernel
    images = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), np.uint8)

    def predict(views):
        test = dataclasses.replace(experiment.evaluation, views=views)
        run = jax.jit(lambda variables, images: task.predict(variables, images, test)[0])
        return lambda images: jax.tree.map(np.asarray, run(variables, images))

    return images, predict


def test_one_view_is_the_prediction_without_any(masked):
    images, predict = masked
    plain, viewed = predict(None)(images), predict(ViewSettings())(images)
    assert plain.valid.any()
    for one, other in zip(jax.tree.leaves(plain), jax.tree.leaves(viewed), strict=True):
        np.testing.assert_allclose(one[plain.valid], other[plain.valid], rtol=1e-5, atol=1e-5)


def test_with_flips_a_mirrored_picture_gives_the_mirrored_detections(masked):
    """The law of the symmetric: both pictures have the same two views, whatever the network."""
    images, predict = masked
    run = predict(read_views("flip"))
    here, there = run(images), run(images[:, :, ::-1])
    np.testing.assert_array_equal(here.valid, there.valid)
    kept = here.valid
    np.testing.assert_allclose(here.scores, there.scores, rtol=1e-4)
    assert len(np.unique(here.scores[kept])) > kept.sum() / 2  # of equal ones either may come first
    y1, x1, y2, x2 = np.moveaxis(there.boxes, -1, 0)
    flipped = np.stack((y1, 64 - x2, y2, 64 - x1), -1)
    for row in range(len(images)):
        np.testing.assert_allclose(
            here.boxes[row][kept[row]], flipped[row][kept[row]], rtol=1e-3, atol=1e-2
        )
        np.testing.assert_allclose(
            here.masks[row][kept[row]], there.masks[row][kept[row]][..., ::-1], atol=1e-3
        )


def test_the_fields_of_both_specs_reach_the_settings(tmp_path):
    spec = write_tiny(tmp_path, images=2)
    spec.write_text(spec.read_text().replace("batch_size: 4", 'batch_size: 4 tta: "flip,1.5"'))
    experiment = build_experiment(load_spec(spec).config, "faster_rcnn")
    assert experiment.evaluation.views == read_views("flip,1.5")
    assert experiment.inference.views is None
    assert with_views(experiment, None).evaluation.views is None
    masks = experiment_of(("test_nms: 0.5", 'test_nms: 0.5 test_tta: "flip"'))
    assert masks.evaluation.views == masks.inference.views == ViewSettings(flip=True)


def test_views_that_are_none_are_errors_of_the_spec():
    with pytest.raises(SpecError, match=r"inference_config.tta = 'upside': 'upside' is no view"):
        parse_spec(FASTER + 'inference_config { tta: "upside" }')
    with pytest.raises(SpecError, match=r"maskrcnn_config.test_tta = '9': 9 is out of range"):
        parse_spec(MASK + 'maskrcnn_config { test_tta: "9" }')
