"""Pace of training: what a step will take on this machine, before anything is compiled.

An estimate for the spec alone: `train --minutes` measures the step itself and plans by that.
"""

import dataclasses
import math
import os
from dataclasses import dataclass

CORE_GFLOPS = 50.0
"""Of a convolution of 64 channels on one core with AVX-512, measured with JAX 0.10 beside other work."""

ACCELERATOR_GFLOPS = 2500.0
"""Fraction of a GPU's peak that a training step reaches; the rest waits for small kernels."""

REFERENCE_GFLOPS = 100.0
"""Two such cores, on which the seconds of `SECONDS_PER_MEGAPIXEL` were measured."""

SECONDS_PER_MEGAPIXEL = 2.4
"""Of a training step, per million pixels of the batch, at the reference speed (experiments/)."""

COSTS = {
    "resnet:10": 0.5,
    "resnet:34": 1.7,
    "resnet:50": 1.6,
    "resnet:101": 2.1,
    "resnet101": 1.8,
    "vgg:16": 0.9,
    "vgg:19": 1.2,
    "googlenet": 0.6,
    "mobilenet_v1": 0.3,
    "mobilenet_v2": 0.4,
    "darknet:19": 1.8,
    "darknet:53": 3.1,
    "efficientnet:b0": 0.5,
    "efficientnet:b1": 0.8,
    "efficientnet:b2": 0.7,
    "efficientnet:b4": 1.6,
    "efficientnet:b5": 2.5,
    "efficientnet:b6": 3.2,
    "efficientnet:b7": 5.7,
}
"""{backbone: time beside that of ResNet-18}, from docs/backbones.md; 1 for those that are not here."""

START_SECONDS = 60.0
"""Opening data, compiling the step and the evaluation."""

_MOST_EPOCHS, _FEWEST_STEPS = 300, 20
_MOST_VALIDATIONS, _VALIDATING = 4, 0.1
_BASE_PIXELS, _BASE_MINUTES = 170_000, 20.0


@dataclass(frozen=True)
class Pace:
    """Training speed of a machine.

    Attributes:
      gflops: of a typical convolution, forward.
      accelerated: there is a GPU or TPU.
    """

    gflops: float
    accelerated: bool

    def seconds(self, pixels: int) -> float:
        """Returns the estimated time of a step on so many pixels."""
        return SECONDS_PER_MEGAPIXEL * pixels / 1e6 * REFERENCE_GFLOPS / self.gflops


def pace_here() -> Pace:
    """Returns the pace of this machine: by its cores, or of an accelerator by its kind.

    Not measured: a canvas that depends on what else a machine is doing would be another one every time,
    and `train --minutes` measures the step itself.
    """
    import jax

    if jax.default_backend() != "cpu":
        return Pace(ACCELERATOR_GFLOPS * jax.local_device_count(), accelerated=True)
    return Pace(CORE_GFLOPS * len(os.sched_getaffinity(0)), accelerated=False)


def with_backbone(pace: Pace, arch: str) -> Pace:
    """Returns the pace of a machine that trains this backbone: a lighter one is a faster machine."""
    return dataclasses.replace(pace, gflops=pace.gflops / COSTS.get(arch, 1.0))


def pixel_budget(pace: Pace, minutes: float) -> int:
    """Returns how many pixels a canvas may have for a run of so many minutes.

    Twice the time or twice the machine is worth about a fifth more on each side: the rest goes into
    more steps. Between 448 x 336 in 20 minutes and 256 x 320 in 5, on two cores, lie the measured runs.
    """
    power = minutes / _BASE_MINUTES * pace.gflops / REFERENCE_GFLOPS
    return int(min(max(_BASE_PIXELS * power**0.5, 60_000), 1_100_000))


def planned_steps(
    pace: Pace, minutes: float, pixels: int, batch: int, train_images: int, val_images: int
) -> tuple[int, int]:
    """Returns how many steps and validations fit into so many minutes, by the estimate.

    Steps are those of whole epochs, unless not even one fits.

    Args:
      pace: of the machine.
      minutes: of the run, with its start and its validations.
      pixels: of the canvas.
      batch: images per step.
      train_images: of an epoch.
      val_images: of a validation.
    """
    validation = validation_seconds(pace, pixels, val_images)
    # As `train --minutes` does: a tenth of the time at most, and one at the end.
    validations = int(min(max(_VALIDATING * minutes * 60 / validation, 1), _MOST_VALIDATIONS))
    left = max(minutes * 60 - START_SECONDS - validations * validation, minutes * 60 * 0.3)
    steps = max(math.floor(left / pace.seconds(pixels * batch)), _FEWEST_STEPS)
    epoch = max(train_images // batch, 1)
    return (min(steps // epoch, _MOST_EPOCHS) * epoch or steps), validations


def validation_seconds(pace: Pace, pixels: int, images: int) -> float:
    """Returns the estimated time of a validation, where an image costs a third of its training."""
    return max(images, 1) * pace.seconds(pixels) / 3
