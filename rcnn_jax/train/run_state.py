"""Progress of a run: the plain values that are stored as JSON with every checkpoint."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from rcnn_jax.train.time_plan import TimePlan

STORED_NAMES = {"pending": "due"}
"""{attribute: its key in JSON}, where they differ: files of earlier versions must stay readable."""


@dataclass(frozen=True, kw_only=True)
class RunState:
    """The progress of a run; a new value is made whenever something changes.

    Attributes:
      run_id: made once per run, copied by every resume.
      step: steps taken, which is also the position in the stream of batches.
      best_metric: highest validation metric so far, or None.
      best_step: the step it was reached at.
      best_loss: lowest epoch loss so far, or None; early stopping looks at it.
      epochs_without_gain: epochs since best_loss.
      watched_metric: metric of the last validation that was better by min_delta, or None; early stopping
        on average precision looks at it.
      validations_without_gain: validations since watched_metric.
      pending: the milestone after this step (validation, model files) is still to be done.
      finished: the run is over.
      stopped_early: it is over before its length, by early stopping.
      plan: length of a run that is to end after a wanted time; None where the spec states its length.
    """

    run_id: str
    step: int = 0
    best_metric: float | None = None
    best_step: int | None = None
    best_loss: float | None = None
    epochs_without_gain: int = 0
    watched_metric: float | None = None
    validations_without_gain: int = 0
    pending: bool = False
    finished: bool = False
    stopped_early: bool = False
    plan: TimePlan | None = None

    def after_epoch(self, loss: float, min_delta: float) -> "RunState":
        """Returns the progress after an epoch with this mean training loss."""
        # Strictly lower, by more than min_delta: a loss that creeps down by rounding must not
        # postpone an early stop for ever.
        if self.best_loss is None or loss < self.best_loss - min_delta:
            return dataclasses.replace(self, best_loss=loss, epochs_without_gain=0)
        return dataclasses.replace(self, epochs_without_gain=self.epochs_without_gain + 1)

    def after_evaluation(self, metric: float, step: int, min_delta: float = 0.0) -> "RunState":
        """Returns the progress after a validation; the first of equal values stays the best."""
        if math.isnan(metric):  # no class has an object: no gain, and never the best
            return dataclasses.replace(
                self, validations_without_gain=self.validations_without_gain + 1
            )
        progress = self
        # Two bests: the model that is kept is the highest, by however little; what postpones an early
        # stop must be a gain that counts, or noise in the last digit would do.
        if self.watched_metric is None or metric > self.watched_metric + min_delta:
            progress = dataclasses.replace(
                progress, watched_metric=metric, validations_without_gain=0
            )
        else:
            count = self.validations_without_gain + 1
            progress = dataclasses.replace(progress, validations_without_gain=count)
        if self.best_metric is None or metric > self.best_metric:
            return dataclasses.replace(progress, best_metric=metric, best_step=step)
        return progress

    def to_json(self) -> dict[str, Any]:
        """Returns a JSON object."""
        return {
            STORED_NAMES.get(name, name): value for name, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "RunState":
        """Returns the progress that `to_json` wrote; fields of other versions are passed over."""
        keys = {STORED_NAMES.get(f.name, f.name): f.name for f in dataclasses.fields(cls)}
        known = {keys[key]: value for key, value in values.items() if key in keys}
        if known.get("plan") is not None:
            known["plan"] = TimePlan(**known["plan"])
        return cls(**known)
