"""Explanation with the model at hand: it runs again, and what restores AP is named.

The model is a detector of red squares, exact in what it does: its channel order, normalisation and
threshold can be planted without training anything.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from rcnn_jax.evaluate import hypotheses, loop
from rcnn_jax.evaluate.explain import KNOWN_PIXELS, as_if, explain
from rcnn_jax.settings.network import PixelSettings
from rcnn_jax.spec.load import parse_spec
from rcnn_jax.structures import Detections
from rcnn_jax.tasks.build import build_experiment
from tests.e2e.tiny import write_tiny

MOST = 8


@dataclass(frozen=True)
class RedSquares:
    """Finds squares whose channel 0, normalised, is above a limit while channel 2 is below it.

    Attributes:
      trained: how its pixels were normalised in training.
      spec: how the spec says they are.
      score: of everything it finds.
    """

    trained: PixelSettings
    spec: PixelSettings
    score: float = 0.9
    path: Path = Path("red.onnx")
    report_name: str = "red"

    def predictor(self, experiment, test):
        del experiment

        def predict(images):
            shape = (len(images), MOST)
            out = Detections(
                boxes=np.zeros((*shape, 4), np.float32),
                scores=np.full(shape, self.score, np.float32),
                classes=np.zeros(shape, np.int32),
                valid=np.zeros(shape, bool),
            )
            for number, image in enumerate(np.asarray(images, np.float32)):
                seen = (image - self.spec.mean) / self.spec.std
                high, low = (
                    (np.array((200, 90)) - self.trained.mean[0]) / self.trained.std[0]
                ).tolist()
                top = (255 - self.trained.mean[0]) / self.trained.std[0]
                mask = (seen[..., 0] > high) & (seen[..., 0] <= top + 1e-3) & (seen[..., 2] < low)
                mask &= seen[..., 2] >= -self.trained.mean[2] / self.trained.std[2] - 1e-3
                count, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
                for place, (x, y, w, h, _) in enumerate(stats[1 : min(count, MOST + 1)]):
                    out.boxes[number, place] = (y, x, y + h, x + w)
                    out.valid[number, place] = self.score > test.detections.score_threshold
            return out, None

        return predict


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """Images of red squares on grey, in the KITTI layout of the tiny spec."""
    root = tmp_path_factory.mktemp("red")
    text = write_tiny(root, images=6).read_text().replace("'bgr'", "'rgb'")
    rng = np.random.default_rng(0)
    for path in sorted((root / "data" / "images").glob("*.png")):
        image = np.full((96, 96, 3), 128, np.uint8)
        rows = []
        # All above the diagonal: swapped boxes must not meet each other.
        for corner in ((2, 30), (2, 64), (34, 64)):
            y, x = np.array(corner) + rng.integers(0, 8, 2)
            side = int(rng.integers(14, 26))
            image[y : y + side, x : x + side] = (40, 40, 250)  # BGR, as OpenCV writes it
            rows.append(f"disc 0 0 0 {x} {y} {x + side} {y + side} 0 0 0 0 0 0 0\n")
        cv2.imwrite(str(path), image)
        (root / "data" / "labels" / f"{path.stem}.txt").write_text("".join(rows))
    return build_experiment(parse_spec(text, "spec.txt", "faster_rcnn").config, "faster_rcnn")


def explained(experiment, model):
    source = experiment.eval_source()
    predictor = model.predictor(experiment, experiment.evaluation)
    evaluation = loop.evaluate_images(experiment, predictor, source, lambda items, *_: items)
    return evaluation, explain(experiment, model, source, evaluation, lambda items, *_: items)


def test_a_model_that_fits_its_spec_is_left_alone(experiment):
    pixels = experiment.task.pixels
    evaluation, found = explained(experiment, RedSquares(pixels, pixels))
    assert evaluation.report.mean_ap == pytest.approx(1.0) and found is None


def test_swapped_channels_are_named(experiment):
    pixels = experiment.task.pixels

    class Backwards(RedSquares):
        def predictor(self, experiment, test):
            run = RedSquares.predictor(self, experiment, test)
            return lambda images: run(np.asarray(images)[..., ::-1])

    _, found = explained(experiment, Backwards(pixels, pixels))
    assert found is not None and found.best is not None
    assert found.best.cause.startswith("red and blue are swapped: the model was trained on bgr")
    assert found.best.ap50 > 0.95


@pytest.mark.parametrize("name", [name for name in KNOWN_PIXELS if name.startswith("rgb")])
def test_another_normalisation_is_named(experiment, name):
    spec = experiment.task.pixels
    if KNOWN_PIXELS[name] == spec:
        pytest.skip("the spec's own")
    _, found = explained(experiment, RedSquares(KNOWN_PIXELS[name], spec))
    assert found is not None and found.best is not None
    assert (
        found.best.cause == f"pixels are normalised otherwise than in training, which was: {name}"
    )


def test_a_threshold_above_all_scores_is_named(experiment):
    pixels = experiment.task.pixels
    strict = replace(experiment.evaluation.detections, score_threshold=0.7)
    experiment = replace(experiment, evaluation=replace(experiment.evaluation, detections=strict))
    evaluation, found = explained(experiment, RedSquares(pixels, pixels, score=0.6))
    assert evaluation.report.mean_ap == 0.0
    assert found is not None and found.best is not None
    assert found.best.cause == "the threshold of 0.7 is above the scores of the model"


def test_labels_are_looked_at_before_the_model_runs_again(experiment):
    """Boxes of the labels come from the source: on the canvas they were clipped."""
    pixels = experiment.task.pixels
    source = experiment.eval_source()
    turned = [
        replace(one, boxes=one.boxes[:, [1, 0, 3, 2]])
        for one in (source.annotation(number) for number in range(len(source)))
    ]

    class Swapped:
        def __getattr__(self, name):
            return getattr(source, name)

        def __len__(self):
            return len(source)

        def annotation(self, index):
            return turned[index]

    _, found = explained(replace(experiment, eval_source=Swapped), RedSquares(pixels, pixels))
    assert found is not None and found.best is not None
    assert found.best.cause == "x and y of the labels are swapped"


def test_images_become_what_the_other_normalisation_would_have_made_of_them():
    spec = PixelSettings(channel_order="rgb", mean=(127.5,) * 3, std=(127.5,) * 3)
    caffe = next(value for name, value in KNOWN_PIXELS.items() if "Caffe" in name)
    image = np.array([[[[10, 20, 30]]]], np.uint8)
    seen = (as_if(image, spec, caffe) - 127.5) / 127.5
    expected = np.array([30, 20, 10]) - np.array([103.939, 116.779, 123.68])
    np.testing.assert_allclose(seen[0, 0, 0], expected, rtol=1e-4)


def test_no_image_with_objects_means_no_diagnosis():
    assert hypotheses.diagnose([], [], ("a",)) is None
