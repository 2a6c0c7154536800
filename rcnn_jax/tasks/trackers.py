"""Experiment trackers of a spec: the same blocks in both detectors."""

from typing import Any

from rcnn_jax.settings.training import TrackerName, TrackerSettings
from rcnn_jax.tasks.named_files import Config

_BLOCKS: dict[str, TrackerName] = {
    "wandb_config": "wandb",
    "clearml_config": "clearml",
    "mlflow_config": "mlflow",
}


def trackers(parent: Config) -> tuple[TrackerSettings, ...]:
    """Returns the trackers that a spec switches on.

    Args:
      parent: the message that has the blocks `wandb_config`, `clearml_config` and `mlflow_config`; the
        first has a switch of its own, the others are on where the spec has them.
    """
    return tuple(
        _tracker(name, parent[block]) for block, name in _BLOCKS.items() if parent[block].enabled
    )


def _tracker(name: TrackerName, block: Any) -> TrackerSettings:
    # Kept under the names of the spec: each client takes what its package calls by that name.
    values = {field: block[field] for field in block if field != "enabled"}
    options = {field: value for field, value in values.items() if value not in (None, "")}
    secrets = tuple(str(options[field]) for field in ("key",) if field in options)
    return TrackerSettings(name=name, options=options, secrets=secrets)
