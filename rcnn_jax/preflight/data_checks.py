"""What the data and the numbers of a spec tell without a program being compiled."""

import contextlib

import numpy as np

from rcnn_jax.data.loader.images import apply_boxes, fit
from rcnn_jax.data.sources.boxes import Source
from rcnn_jax.diagnose import edges, preflight
from rcnn_jax.diagnose.preflight import Check
from rcnn_jax.errors import DataError
from rcnn_jax.reporter import Reporter
from rcnn_jax.tasks.anchor_advice import anchor_advice
from rcnn_jax.tasks.experiment import Experiment

LOOKED_AT = 80
"""Images whose edges are compared with their boxes."""


def check_data(experiment: Experiment, source: Source, reporter: Reporter) -> list[Check]:
    """Returns answers about anchors, pixels and labels.

    Args:
      experiment: of the spec.
      source: its training images, as tiles where it has them.
      reporter: for progress.

    Raises:
      DataError: an image or its labels cannot be read.
    """
    settings = experiment.task.settings
    sides = []
    for record in range(len(source)):
        labels = source.annotation(record)
        with contextlib.suppress(DataError):  # a crop that leaves nothing: training says so
            # Sizes from headers, labels from files: no image is decoded for the anchors.
            matrix = fit(source.size(record), experiment.geometry).matrix
            boxes = apply_boxes(labels.boxes[~labels.crowd], matrix)
            sides.append(boxes[:, 2:] - boxes[:, :2])
    every = np.concatenate(sides) if sides else np.zeros((0, 2), np.float32)
    every = every[(every > 0).all(axis=1)]
    advice = ""
    if len(every):
        advice = anchor_advice(experiment.spec.fields, experiment.kind, settings, every).text
    cells = {2**level: sizes for level, sizes in settings.cell_sizes}
    checks = [
        preflight.check_anchors(every, cells, advice),
        preflight.check_pixels(experiment.task.pixels),
    ]
    # Evenly over the set: the first images may be of one source.
    chosen = np.unique(np.linspace(0, len(source) - 1, min(LOOKED_AT, len(source))).astype(int))
    images, boxes = [], []
    for record in reporter.track(chosen.tolist(), len(chosen), "compare boxes with edges"):
        labels = source.annotation(record)
        images.append(source.image(record, "rgb"))
        boxes.append(labels.boxes[~labels.crowd])
    checks.append(preflight.check_labels(edges.placement(images, boxes)))
    return checks
