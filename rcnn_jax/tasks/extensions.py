"""Readers of the blocks that the specs of both detectors share as extensions."""

from typing import Any

from rcnn_jax.settings.training import OptimizerSettings
from rcnn_jax.tasks.named_files import Config


def adamw_settings(block: Config, **rates: Any) -> OptimizerSettings:
    """Returns the optimizer of an `adamw` block.

    Args:
      block: of the spec.
      **rates: further settings, those of no weight penalty among them.
    """
    return OptimizerSettings(
        kind="adamw",
        beta_1=block.beta_1,
        beta_2=block.beta_2,
        epsilon=block.epsilon,
        weight_decay=block.weight_decay,
        **rates,
    )


def stopping_settings(block: Config) -> dict[str, Any]:
    """Arguments of `RunSettings` for early stopping, read from an `early_stopping` block."""
    if not block.enabled:
        return {}
    return {
        "monitor": block.monitor,
        "patience": block.patience,
        "min_delta": block.min_delta,
    }
