"""Retraining: the run that takes up a finished model, pruned or about to be quantised. No jax here.

Every detector writes it into the fields of its own spec: `Family.retrain`.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How long and how fast a kind of retraining runs, as fractions of the first training.

    Attributes:
      length: of its epochs or steps.
      rate: of its learning rates.
    """

    length: float
    rate: float


# Half the run left Mask R-CNN of nuclei 3.3 points of mask AP50 below its first model, see
# experiments/compression.
PRUNED = Recipe(length=1.0, rate=1.0)
"""After pruning: the run once more at the base rate; small steps hardly bring the filters back."""
QUANTISED = Recipe(length=1 / 3, rate=0.1)
"""With fake quantisation: weights move by steps of their grid, not to another minimum."""


@dataclass(frozen=True, kw_only=True)
class Retraining:
    """What a run of retraining begins with and how it goes on; penalties are off.

    Attributes:
      model: that it begins with, pruned or not.
      recipe: length and rate.
      qat: with fake quantisation.
      teacher: model that it imitates, or None.
    """

    model: Path
    recipe: Recipe
    qat: bool = False
    teacher: Path | None = None


def shortened(count: int, fraction: float) -> int:
    """Returns a fraction of a number of epochs or steps, at least 1."""
    return max(1, round(count * fraction))
