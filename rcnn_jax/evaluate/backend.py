"""What runs a model file: evaluate and inference take it as a value, the commands choose it.

The one here runs bundles in JAX; exported graphs have theirs on the export floor.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rcnn_jax.checkpoints.state import load_model, stored_categories
from rcnn_jax.data.categories import Categories
from rcnn_jax.evaluate import loop
from rcnn_jax.evaluate.loop import Predictor
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.tasks.task import TestSettings


@dataclass(frozen=True)
class Backend:
    """How model files of one form are run.

    Attributes:
      categories: (file, key) -> the classes the file was trained for, None where its spec names
        them.
      predictor: (file, experiment, test settings, key) -> images to detections. A graph keeps the
        settings it was exported with.
    """

    categories: Callable[[Path, str | None], Categories | None]
    predictor: Callable[[Path, Experiment, TestSettings, str | None], Predictor]


def _bundle_predictor(
    path: Path, experiment: Experiment, test: TestSettings, key: str | None
) -> Predictor:
    experiment, variables = load_model(path, experiment, key)
    return loop.bind(loop.jax_predictor(experiment, test), variables)


BUNDLE = Backend(stored_categories, _bundle_predictor)
