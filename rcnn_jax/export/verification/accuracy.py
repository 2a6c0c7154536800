"""Average precision of a model before and after its export, on the same validation images."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from rcnn_jax.data.sources.subset import Subset
from rcnn_jax.errors import DataError
from rcnn_jax.evaluate import results
from rcnn_jax.evaluate.loop import evaluate_detector
from rcnn_jax.reporter import Reporter
from rcnn_jax.runtime.backend import Predictor
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.tasks.families import family

GATED = ("mAP@0.50", "mAP", "AP", "AP50", "mask_AP", "mask_AP50")
"""Metrics whose loss is limited; the rest are reported."""


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Metrics of the model and of its graph.

    Attributes:
      images: evaluated.
      model: {metric: value in [0, 1]} of the model in JAX.
      graph: the same of the graph.
    """

    images: int
    model: dict[str, float]
    graph: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Returns JSON values; null stands for metrics without objects."""

        def plain(metrics: dict[str, float]) -> dict[str, float | None]:
            return {name: v if np.isfinite(v) else None for name, v in metrics.items()}

        return {
            "images": self.images,
            "model": plain(self.model),
            "graph": plain(self.graph),
            "losses": self.losses(),
        }

    def losses(self) -> dict[str, float]:
        """Returns {gated metric: how much the graph loses}; metrics of nothing are left out."""
        return {
            name: self.model[name] - self.graph[name]
            for name in GATED
            # pycocotools gives -1 where there is no object to find, VOC NaN: such a metric loses
            # nothing.
            if name in self.model and np.isfinite(self.model[name]) and self.model[name] >= 0
        }


def validation_images(experiment: Experiment, count: int, session: Reporter) -> Subset:
    """Returns `count` validation images, spread evenly over all of them.

    Raises:
      DataError: the spec names no validation data.
    """
    if experiment.eval_source is None:
        raise DataError(
            f"--eval-images {count}: the spec names no validation data: set "
            f"{family(experiment.kind).validation_fields}"
        )
    source = experiment.eval_source()
    if count > len(source):
        session.note(
            f"--eval-images {count}: there are {len(source)} validation images, all are used"
        )
    # Spread, because neighbours in a data set often show one scene.
    chosen = np.linspace(0, len(source) - 1, min(count, len(source))).astype(int)
    return Subset(source, np.unique(chosen))


def metrics_of(
    experiment: Experiment, predictor: Predictor, source: Subset, session: Reporter
) -> dict[str, float]:
    """Returns {metric: value in [0, 1]} of a predictor on the images."""
    return results.numbers(evaluate_detector(experiment, predictor, source, session.track))
