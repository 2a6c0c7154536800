"""Prints what the number of samples in a cell of RoIAlign is worth, as a Markdown table.

python -m benchmarks.tables.roi_samples MODEL.tlt -e SPEC [--samples 0 2 1 4]

One trained Mask R-CNN runs with each number on the validation images of its spec; 0 is the adaptive
count of detectron2. Shown are the average precision, and how far boxes and scores are from those of the
first number, in detections that both give.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rcnn_jax.evaluate.command import full_evaluation
from rcnn_jax.evaluate.matching import iou_matrix
from rcnn_jax.evaluate.results import numbers
from rcnn_jax.kinds import Kind
from rcnn_jax.runtime.open import open_weights
from rcnn_jax.spec import load_spec
from rcnn_jax.structures import Detections
from rcnn_jax.tasks.build import build_experiment

KIND: Kind = "mask_rcnn"
OVERLAP = 0.5
"""Least IoU of two detections of one class that are taken for the same object."""


@dataclass(frozen=True)
class Result:
    """What a model gave with one number of samples.

    Attributes:
      metrics: {name: value}.
      images: detections of each image that was run, in pixels of the network input.
    """

    metrics: dict[str, float]
    images: list[Detections]


@dataclass(frozen=True)
class _Recorded:
    """A model that keeps what its predictor gives."""

    model: Any
    batches: list[Detections]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def predictor(self, experiment: Any, test: Any, devices: int = 1) -> Any:
        """Returns the predictor of the model, recorded."""
        predict = self.model.predictor(experiment, test, devices)

        def recorded(images: Any) -> Any:
            detections, proposals = predict(images)
            self.batches.append(detections)
            return detections, proposals

        return recorded


def main() -> None:
    """Runs the model with every number of samples and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("-e", "--spec", type=Path, required=True)
    parser.add_argument("--samples", type=int, nargs="+", default=[0, 2, 1, 4])
    args = parser.parse_args()
    results = {count: _run(args.model, args.spec, count) for count in args.samples}
    first = results[args.samples[0]]
    print(
        "| samples | box AP | mask AP | matched | box (px): median, largest | score: median, largest |"
    )
    print("|---|---:|---:|---:|---:|---:|")
    for count, result in results.items():
        boxes, scores, total = _differences(first.images, result.images)
        spread = " | ".join(
            f"{np.median(each):.3f}, {each.max():.3f}" if each.size else "-"
            for each in (boxes, scores)
        )
        name = f"{count} x {count}" if count else "adaptive"
        precision = " | ".join(f"{result.metrics[key]:.4f}" for key in ("AP", "mask_AP"))
        print(f"| {name} | {precision} | {boxes.size} of {total} | {spread} |")


def _run(path: Path, spec: Path, samples: int) -> Result:
    config: Any = load_spec(spec, KIND, "evaluate").config
    config.maskrcnn_config.roi_sampling_ratio = samples
    # Not `experiment_of`: it refuses a model with another number than it was trained with, the very
    # thing that is measured.
    experiment = build_experiment(config, KIND)
    recorded = _Recorded(open_weights(path, None), [])
    evaluation, _ = full_evaluation(experiment, recorded)  # pyright: ignore[reportArgumentType]
    images = [_single(batch, i) for batch in recorded.batches for i in range(len(batch.scores))]
    return Result(numbers(evaluation.report), images)


def _single(batch: Detections, index: int) -> Detections:
    valid = np.asarray(batch.valid[index])
    boxes, scores, classes = (
        np.asarray(part[index])[valid] for part in (batch.boxes, batch.scores, batch.classes)
    )
    return Detections(boxes, scores, classes, np.ones(len(boxes), bool))


def _differences(
    first: list[Detections], second: list[Detections]
) -> tuple[np.ndarray, np.ndarray, int]:
    """Returns the differences of boxes and scores of the matched, and how many there were first."""
    boxes, scores, total = [], [], 0
    for one, other in zip(first, second, strict=True):
        total += len(one.scores)
        for box, score, label in zip(one.boxes, one.scores, one.classes, strict=True):
            same = np.flatnonzero(np.asarray(other.classes) == label)
            overlaps = iou_matrix(np.asarray(box)[None], np.asarray(other.boxes)[same])[0]
            if overlaps.size and overlaps.max() >= OVERLAP:
                match = same[overlaps.argmax()]
                boxes.append(np.abs(np.asarray(box) - other.boxes[match]).max())
                scores.append(abs(float(score) - float(other.scores[match])))
    return np.asarray(boxes), np.asarray(scores), total


if __name__ == "__main__":
    main()
