"""Validation during training: the evaluation of the command, on the current weights."""

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import jax
import numpy as np

from rcnn_jax.data.loader.pipeline import evaluation_batches
from rcnn_jax.data.sources.boxes import Source
from rcnn_jax.data.sources.tiles import tiled
from rcnn_jax.evaluate import loop, results
from rcnn_jax.hosts.team import team
from rcnn_jax.reporter import Reporter
from rcnn_jax.runtime import bundle
from rcnn_jax.structures import Detections
from rcnn_jax.tasks.build import with_views
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.tasks.task import Variables

_METRICS = 1.1
"""Matching and pasting masks run beside the prediction; what is left of them at the end is a tenth."""


class Drawer(Protocol):
    """Draws detections on a picture u8[h w 3]; see `inference.draw.draw_detections`."""

    def __call__(
        self,
        image: np.ndarray,
        detections: Detections,
        class_names: tuple[str, ...],
        *,
        captions: bool,
        masks: bool,
    ) -> np.ndarray:
        """Returns the picture."""
        ...


class Validation:
    """Scores weights on the validation images of an experiment; compiles once."""

    def __init__(
        self,
        experiment: Experiment,
        source: Source,
        workdir: Path,
        reporter: Reporter,
        devices: int = 1,
    ):
        """Takes the opened validation images, where reports go, and how many local devices to use.

        Raises:
          DataError: the images do not match the annotations of the evaluation.
          UsageError: several processes were to share tiles.
        """
        loop.check_images(experiment, source, team())
        # One view: models are compared with each other here, and the others would multiply what a
        # validation takes. `evaluate` looks at all that the spec asks for.
        experiment = with_views(experiment, None)
        self._experiment = experiment
        self._source = source
        self._workdir = workdir
        self._reporter = reporter
        # Made once for the run: a function of the variables, so every validation runs the same
        # program.
        self._devices = devices
        self._predictor = bundle.jax_predictor(experiment, experiment.evaluation, devices)

    def of(self, experiment: Experiment) -> "Validation":
        """Returns the same for another network of the experiment."""
        return Validation(experiment, self._source, self._workdir, self._reporter, self._devices)

    def __call__(self, variables: Variables, step: int) -> dict[str, float]:
        """Prints the table, writes eval/step-N.json and returns the metrics by name.

        Args:
          variables: one replica on the host.
          step: steps taken so far.
        """
        result = loop.evaluate_detector(
            self._experiment,
            self._predictor(variables),
            self._source,
            self._reporter.track,
            self._devices,
        )
        self._reporter.console.print(results.text(result), markup=False)
        if team().is_chief:
            results.write_report(
                result, self._experiment.metrics, self._workdir / "eval", f"step-{step}"
            )
        # NaN (nothing to score) becomes 0: no later value is greater than NaN, so a first
        # validation without objects would stay the best of the run.
        metrics = results.numbers(result)
        return {name: float(np.nan_to_num(value)) for name, value in metrics.items()}

    def seconds(self, variables: Variables) -> float:
        """Compiles the prediction and returns how long a validation will take, from two batches.

        Args:
          variables: one replica on the host.
        """
        experiment = self._experiment
        predict, batch = self._predictor(variables), experiment.eval_batch * self._devices
        tiles = tiled(self._source, experiment.tiling)
        batches = evaluation_batches(
            tiles,
            experiment.geometry,
            experiment.eval_gt if tiles is self._source else None,
            experiment.task.pixels.channel_order,
            batch=batch,
            threads=experiment.threads,
            prefetch=experiment.prefetch,
        )
        first = next(iter(batches))
        jax.block_until_ready(predict(first.images))
        timed = [first, *itertools.islice(batches, 1)]
        begun = time.monotonic()
        for each in timed:
            jax.block_until_ready(predict(each.images))
        spent = time.monotonic() - begun
        return _METRICS * spent / len(timed) * -(-len(tiles) // batch)

    def pictures(self, variables: Variables, count: int, draw: Drawer) -> Iterator[np.ndarray]:
        """Yields the first validation images, u8[h w 3] RGB, with their detections.

        Args:
          variables: one replica on the host.
          count: number of images.
          draw: draws detections.
        """
        experiment = self._experiment
        rows = loop.rows_of(
            experiment,
            self._predictor(variables),
            self._source,
            batch=experiment.eval_batch * self._devices,
        )
        for batch, row, detections, _ in itertools.islice(rows, count):
            # Read again: the canvas is cropped, scaled and in the network's channel order.
            image = self._source.image(int(batch.image_id[row]), "rgb")
            shown = detections.scores >= experiment.visualize_threshold
            kept = jax.tree.map(lambda leaf, shown=shown: leaf[shown], detections)
            yield draw(
                image,
                kept,
                experiment.task.class_names,
                captions=experiment.captions,
                masks=True,
            )
