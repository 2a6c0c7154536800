"""What a spec asks for and is likely to regret, said before the run starts."""

from rcnn_jax.settings import WarmupSchedule
from rcnn_jax.tasks.experiment import Experiment

USUAL_RATE = 0.02 / 16
"""Learning rate per image of a step that Mask R-CNN is trained with (Detectron's 0.02 for 16)."""

STEEP = 4.0
SHORT_WARMUP = 100


def steep_start(experiment: Experiment, global_batch: int, scale: float = 1.0) -> str | None:
    """Returns a warning for a rate that the first steps will hardly survive, else None.

    The published samples set 0.02 without warm-up, which suits eight devices with two images each:
    on one, fresh heads reach a loss that is not finite within ten steps.

    Args:
      experiment: of either detector; one that warms up or clips gradients is not warned.
      global_batch: images per step.
      scale: factor on every rate, as for `make_schedule`.
    """
    schedule = experiment.schedule
    if (
        not isinstance(schedule, WarmupSchedule)
        or schedule.warmup_steps >= SHORT_WARMUP
        or experiment.optimizer.clip_norm
        or schedule.init_lr * scale <= STEEP * USUAL_RATE * global_batch
    ):
        return None
    usual = USUAL_RATE * global_batch / scale
    return (
        f"init_learning_rate: {schedule.init_lr:g} without a warm-up is much for {global_batch} "
        f"image(s) per step: usual is {usual:g}, after a warm-up. If the loss stops being finite, "
        f"set init_learning_rate: {usual:g} and warmup_steps: 1000"
    )
