"""Runs a model over a source of images and scores what it found.

The model arrives as a function `images u8[b h w c] -> (Detections, Proposals | None)`, so JAX bundles and
exported graphs are scored by the same lines.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import jax
import numpy as np

from rcnn_jax.data.images import boxes_to_source, origin
from rcnn_jax.data.pipeline import evaluation_batches
from rcnn_jax.data.sources import Source
from rcnn_jax.evaluate import report
from rcnn_jax.evaluate.voc import ImageResult, VocReport, evaluate_voc
from rcnn_jax.structures import Array, Batch, Detections, Proposals
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.tasks.task import TestSettings, Variables

Predictor = Callable[[Array], tuple[Detections, Proposals | None]]
Track = Callable[[Iterable, int, str], Iterable]
"""(items, their number, label) -> the same items, shown as progress."""


def jax_predictor(experiment: Experiment, test: TestSettings) -> Callable[..., Predictor]:
    """Returns a function from variables to a predictor; one compilation serves all variables."""
    run = jax.jit(lambda variables, images: experiment.task.predict(variables, images, test))
    return lambda variables: lambda images: run(variables, images)


def bind(make: Callable[..., Predictor], variables: Variables) -> Predictor:
    """Puts the variables on the device once and returns the predictor over them."""
    return make(jax.device_put(variables))


def detections_by_image(
    predictor: Predictor, batches: Iterable[Batch], offset: tuple[float, float]
) -> Iterator[tuple[Batch, int, Detections, np.ndarray | None]]:
    """Yields (batch, row, detections of the image in source pixels, proposals in source pixels).

    The next batch is already on its way while the results of the last one are read. `offset` is what
    the crop of the geometry took off, see `data.images.origin`.
    """
    waiting: tuple[Batch, tuple[Detections, Proposals | None]] | None = None
    for batch in batches:
        running = (batch, predictor(batch.images))
        if waiting is not None:
            yield from _unpack(*waiting, offset)
        waiting = running
    if waiting is not None:
        yield from _unpack(*waiting, offset)


def evaluate_detector(
    experiment: Experiment, predictor: Predictor, source: Source, track: Track
) -> VocReport:
    """Returns the VOC report of a predictor on a source.

    Args:
      experiment: geometry, batch size, metrics.
      predictor: images to detections on the canvas.
      source: images with annotations.
      track: shows progress.
    """
    batches = evaluation_batches(
        source,
        experiment.geometry,
        experiment.eval_gt,
        experiment.task.pixels.channel_order,
        batch=experiment.eval_batch,
        threads=experiment.threads,
        prefetch=experiment.prefetch,
    )
    results: list[ImageResult] = []
    offset = origin(experiment.geometry)
    rows = detections_by_image(predictor, batches, offset)
    for batch, row, found, proposals in track(rows, len(source), "evaluate"):
        assert batch.gt is not None
        keep = np.asarray(batch.gt.valid[row])
        truth = boxes_to_source(
            np.asarray(batch.gt.boxes[row])[keep], batch.scale[row], batch.source_size[row], offset
        )
        results.append(
            ImageResult(
                boxes=found.boxes,
                scores=found.scores,
                classes=found.classes,
                gt_boxes=truth,
                gt_classes=np.asarray(batch.gt.classes[row])[keep],
                gt_crowd=np.asarray(batch.gt.crowd[row])[keep],
                proposals=proposals,
            )
        )
    metrics = experiment.metrics
    return evaluate_voc(
        results,
        experiment.task.class_names,
        metrics.iou_thresholds,
        metrics.score_threshold,
        metrics.method,
    )


def write_report(result: VocReport, folder: Path, name: str, *, plot: bool) -> None:
    """Writes `<name>.json` and, if asked, `<name>_PR_curve.png` into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{name}.json"
    partial = target.with_suffix(".json.partial")
    partial.write_text(json.dumps(report.to_json(result), indent=2) + "\n")
    os.replace(partial, target)
    if plot:
        report.plot_pr_curve(result, folder / f"{name}_PR_curve.png")


def _unpack(
    batch: Batch, outputs: tuple[Detections, Proposals | None], offset: tuple[float, float]
) -> Iterator[tuple[Batch, int, Detections, np.ndarray | None]]:
    found, proposals = jax.tree.map(np.asarray, outputs)
    for row in np.flatnonzero(batch.image_valid):
        scale, size = batch.scale[row], batch.source_size[row]
        one = jax.tree.map(lambda leaf, i=row: leaf[i][found.valid[i]], found)
        yield (
            batch,
            int(row),
            one.replace(boxes=boxes_to_source(one.boxes, scale, size, offset)),
            None
            if proposals is None
            else boxes_to_source(
                proposals.boxes[row][proposals.valid[row]], scale, size, offset
            ),
        )
