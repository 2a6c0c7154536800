"""Validation during training: the same evaluation as the command, on the weights of the moment."""

from pathlib import Path

import numpy as np

from rcnn_jax.data.sources import Source
from rcnn_jax.evaluate import loop, results
from rcnn_jax.reporter import Reporter
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.tasks.task import Variables


class Validation:
    """Scores weights on the validation images of an experiment; compiles once."""

    def __init__(self, experiment: Experiment, source: Source, workdir: Path, session: Reporter):
        """Takes the opened validation images and where reports go.

        Raises:
          DataError: the images do not match the annotations they are judged by.
        """
        loop.check_images(experiment, source)
        self._experiment = experiment
        self._source = source
        self._workdir = workdir
        self._session = session
        self._predictor = loop.jax_predictor(experiment, experiment.evaluation)

    def __call__(self, variables: Variables, step: int) -> dict[str, float]:
        """Prints the table, writes eval/step-N.json and returns the metrics by name.

        Args:
          variables: one replica on the host.
          step: steps taken so far.
        """
        result = loop.evaluate_detector(
            self._experiment,
            loop.bind(self._predictor, variables),
            self._source,
            self._session.track,
        )
        self._session.console.print(results.text(result), markup=False)
        results.write_report(
            result, self._experiment.metrics, self._workdir / "eval", f"step-{step}"
        )
        metrics = results.numbers(result)
        return {name: float(np.nan_to_num(value)) for name, value in metrics.items()}
