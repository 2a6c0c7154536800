"""Fingerprint of a run: the settings that must agree when it is resumed.

A resumed run must go on as if it had never stopped. The fingerprint of a config is everything that
affects the weights or the order of the data; `MAY_CHANGE` lists the rest, with reasons. Fields without
effect by the spec's tables, secrets, and extensions at their default are left out too: a run that began
before an extension existed can be resumed after it.
Names: docs/reference/specs.md.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from rcnn_jax.errors import CheckpointError
from rcnn_jax.kinds import Kind
from rcnn_jax.spec.kinds import TABLES
from rcnn_jax.spec.schema import FIRST_EXTENSION, walk

MAY_CHANGE: dict[Kind, dict[str, str]] = {
    "faster_rcnn": {
        "verbose": "logging",
        "inference_config": "inference and export only",
        "evaluation_config": "evaluation only",
        "export": "export only",
        "prune": "pruning only",
        "training_config.num_epochs": "schedule length",
        "training_config.early_stopping": "schedule length",
        "training_config.output_model": "where files go",
        "training_config.checkpoint_interval": "how often files are written",
        "training_config.keep_checkpoints": "how many files stay",
        "training_config.resume_from_model": "start of the run; the workdir comes first",
        "training_config.visualizer": "logging",
        "training_config.n_workers": "speed of loading",
        "training_config.prefetch_buffer_size": "speed of loading",
        "training_config.min_pretrained_coverage": "a check at the start of a run",
        "model_config.input_image_config.allow_small": "a check of the spec",
        "dataset_config.validation_data_source": "evaluation only",
        "dataset_config.tfds_data_dir": "where the same data lie",
        "dataset_config.tfds_val_split": "evaluation only",
    },
    "mask_rcnn": {
        "export": "export only",
        "prune": "pruning only",
        "num_epochs": "schedule length",
        "total_steps": "schedule length",
        "num_examples_per_epoch": "turns epochs into schedule length, nothing else",
        "learning_rate_steps": "schedule length",
        "learning_rate_decay_levels": "schedule length: one per boundary",
        "num_steps_per_eval": "how often files are written and evaluation runs",
        "keep_checkpoints": "how many files stay",
        "logging_frequency": "logging",
        "visualize_images_summary": "logging",
        "wandb_config": "logging",
        "clearml_config": "logging",
        "eval_batch_size": "evaluation only",
        "data_config.eval_samples": "evaluation only",
        "data_config.validation_file_pattern": "evaluation only",
        "data_config.val_json_file": "evaluation only",
        "data_config.coco_val_image_dir": "evaluation only",
        "data_config.tfds_val_split": "evaluation only",
        "data_config.allow_small": "a check of the spec",
        "min_pretrained_coverage": "a check at the start of a run",
        "data_config.n_workers": "speed of loading",
        "data_config.prefetch_buffer_size": "speed of loading",
        "maskrcnn_config.test_*": "evaluation, inference and export only",
    },
}
"""{kind: {path or pattern: why it may change}}; a path includes everything below it."""

_ABSENT = object()


def fingerprint(config: Any, kind: Kind) -> dict[str, Any]:
    """Returns {path: value} of all settings that affect weights or data order, as JSON values.

    Args:
      config: ConfigDict or nested dictionaries with the names of the spec.
      kind: which detector's names.

    Example:
      >>> fingerprint({"random_seed": 42, "verbose": True}, "faster_rcnn")
      {'random_seed': 42}
    """
    # A list of exceptions, not of members: a field that nobody thought of stops a resume, and the
    # opposite would let a run go on with other settings.
    patterns = (*MAY_CHANGE[kind], *_without_effect(kind))
    flat: dict[str, Any] = {}
    _flatten(config, "", flat)
    defaults = {
        path: _json_value(field.default)
        for path, field in walk(TABLES[kind])
        if field.number >= FIRST_EXTENSION
    }
    return {
        path: value
        for path, value in sorted(flat.items())
        if not _matches(path, patterns)
        and not (_name(path) in defaults and value == defaults[_name(path)])
    }


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Returns one line for every path whose value differs, sorted by path.

    Example:
      >>> differences({"random_seed": 42}, {"random_seed": 7})
      ['random_seed: 42 -> 7']
    """
    lines = []
    for path in sorted({*old, *new}):
        before, after = old.get(path, _ABSENT), new.get(path, _ABSENT)
        # 1 == True in Python; a changed type is a change.
        if before != after or type(before) is not type(after):
            lines.append(f"{path}: {_shown(before)} -> {_shown(after)}")
    return lines


def check_resume(old: Mapping[str, Any], new: Mapping[str, Any], where: Any) -> None:
    """Checks that a run is resumed with the settings it began with.

    Args:
      old: fingerprint stored with the run.
      new: fingerprint of the config given now.
      where: the workdir, for the message.

    Raises:
      CheckpointError: they differ; the message lists every difference.
    """
    lines = differences(old, new)
    if lines:
        raise CheckpointError(
            f"{where}: the run there was started with other settings (old -> new):\n  "
            + "\n  ".join(lines)
            + "\nPut the old values back to go on with it, choose another workdir, or give --fresh "
            "to start anew there"
        )


def _without_effect(kind: Kind) -> Iterator[str]:
    """Yields the paths of fields without effect and of secrets."""
    for path, field in walk(TABLES[kind]):
        if field.no_effect or field.secret:
            yield path


def _matches(path: str, patterns: Iterable[str]) -> bool:
    """True when a pattern names the path or something above it; positions in lists do not count."""
    parts = _name(path).split(".")
    above = [".".join(parts[:length]) for length in range(1, len(parts) + 1)]
    return any(fnmatchcase(name, pattern) for pattern in patterns for name in above)


def _name(path: str) -> str:
    """Returns a path as in the spec's tables, without positions in lists."""
    return re.sub(r"\[\d+\]", "", path)


def _flatten(value: Any, path: str, flat: dict[str, Any]) -> None:
    if hasattr(value, "items"):
        for name, child in value.items():
            _flatten(child, f"{path}.{name}" if path else str(name), flat)
    elif isinstance(value, (list, tuple)) and any(hasattr(child, "items") for child in value):
        for index, child in enumerate(value):
            _flatten(child, f"{path}[{index}]", flat)
    else:
        flat[path] = _json_value(value)


def _json_value(value: Any) -> Any:
    """Returns the value after a round trip through JSON."""
    if isinstance(value, (list, tuple)):
        return [_json_value(child) for child in value]
    return value


def _shown(value: Any) -> str:
    return "absent" if value is _ABSENT else repr(value)
