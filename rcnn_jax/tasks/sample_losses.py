"""Reader of the fields on losses of boxes and weights of samples, which both detectors have."""

from typing import Any

from rcnn_jax.settings.detection import DynamicSettings
from rcnn_jax.tasks.named_files import Config


def sample_losses(message: Config) -> dict[str, Any]:
    """Returns the arguments of `LossSettings` that a message of the spec sets."""
    return {
        "box_loss": message.box_loss,
        "rpn_box_loss": message.rpn_box_loss,
        "prime_samples": message.prime_samples,
        "carl": message.carl_weight > 0,
    }


def dynamic_settings(
    message: Config, accumulate_steps: int, axis_name: str
) -> DynamicSettings | None:
    """Returns how thresholds follow the proposals, or None where they do not.

    Args:
      message: of the spec.
      accumulate_steps: parts of a step.
      axis_name: of the devices.
    """
    settings = DynamicSettings(
        overlap_rank=message.dynamic_overlap_rank,
        error_rank=message.dynamic_error_rank,
        # In passes: a change between two parts of a step would give one loss two thresholds.
        interval=message.dynamic_interval * accumulate_steps,
        axis_name=axis_name,
    )
    return settings if message.dynamic_rcnn else None
