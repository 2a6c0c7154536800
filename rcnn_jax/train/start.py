"""Where a run begins: its own checkpoint, a bundle to go on from, given weights, or chance.

Precedence: checkpoints of the workdir > resume_from_model > pruned model > pretrained weights.
"""

import uuid
from pathlib import Path
from typing import Any

from rcnn_jax.checkpoints import container
from rcnn_jax.checkpoints.bundle import read_bundle, read_header
from rcnn_jax.checkpoints.data_file import changes
from rcnn_jax.checkpoints.pretrained import (
    apply_weights,
    check_coverage,
    load_weights,
    skip_matching,
    status_table,
)
from rcnn_jax.checkpoints.state import load_model, restore_training, with_stored_channels
from rcnn_jax.checkpoints.store import CheckpointStore
from rcnn_jax.data.sources.digest import DataDigest
from rcnn_jax.errors import CheckpointError
from rcnn_jax.models.variables import layer_order
from rcnn_jax.reporter import Reporter
from rcnn_jax.structures import TrainState
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.tasks.task import Variables
from rcnn_jax.train.run_state import RunState


def begin(
    experiment: Experiment, template: TrainState, *, key: str | None, reporter: Reporter
) -> tuple[TrainState, RunState]:
    """Returns the state and progress of a run whose workdir holds no checkpoint.

    Args:
      experiment: names the weights to start from.
      template: a state with fresh weights.
      key: opens sealed bundles.
      reporter: where the table of loaded layers is printed.

    Raises:
      CheckpointError: a named file is missing, sealed with another key, or does not fit.
    """
    start = experiment.start
    if start.resume_from:
        path = _existing(start.resume_from, "resume_from_model")
        state, saved = restore_training(read_bundle(path, key), template, str(path))
        reporter.note(f"going on from {path}, step {int(state.step)}")
        # The best model so far lies in another folder, or is about to be deleted from this one
        begins = {"finished": False, "best_metric": None, "best_step": None}
        return state, RunState.from_json({**saved, **begins})
    fresh = RunState(run_id=uuid.uuid4().hex)
    if start.pruned:
        path = _existing(start.pruned, "the pruned model of the spec")
        _, variables = load_model(path, experiment, key)
        reporter.note(f"retraining {path}")
        return _with_variables(template, variables), fresh
    if start.pretrained:
        path = _existing(start.pretrained, "pretrained_weights")
        return _with_weights(experiment, template, path, key, reporter), fresh
    return template, fresh


def say_passed_over(
    experiment: Experiment, progress: RunState, *, key: str | None, reporter: Reporter
) -> None:
    """Says that a run goes on from its own checkpoint where the spec names a model to go on from.

    A job that is started again with the same command must not begin at that model each time.

    Args:
      experiment: names the model.
      progress: of the checkpoint.
      key: opens sealed bundles.
      reporter: where it is said.
    """
    if not experiment.start.resume_from:
        return
    try:
        _, header = read_header(Path(experiment.start.resume_from), key)
        step = header["step"]
    except (CheckpointError, KeyError):
        return  # it was good when the run began
    if step != progress.step or header.get("run_id") != progress.run_id:
        reporter.note(
            f"resume_from_model names {experiment.start.resume_from} (step {step}); this run is at "
            f"step {progress.step} already and goes on from there. To go on from step {step} instead, "
            "add --fresh"
        )


def check_data(
    stored: dict[str, Any], data: DataDigest, workdir: Path, accept: bool, reporter: Reporter
) -> None:
    """Stops a run that would go on with other images or labels than it began with.

    Args:
      stored: what the newest checkpoint remembers.
      data: of today.
      workdir: of the run.
      accept: go on all the same, and say so.
      reporter: where that is said.

    Raises:
      CheckpointError: the data differs and nobody has accepted that; the message lists how.
    """
    step = stored["run"]["step"]
    if "data" not in stored:
        reporter.note("this run began before its data was written down; from here on it is")
        return
    lines = changes(stored["data"], data, workdir)
    if not lines:
        return
    listed = "\n  ".join(lines)
    if not accept:
        raise CheckpointError(
            f"{workdir}: the run there was trained on other data up to step {step}:\n  {listed}\n"
            "Put the old data back to go on with it, choose another folder for the results, or give "
            "--accept-data-changes to go on with the data as it is now"
        )
    reporter.warn(f"from step {step} on this run goes on with other data:\n  {listed}")


def keep_sealed(store: CheckpointStore, newest: Path | None, reporter: Reporter) -> None:
    """Sees to it that a run which goes on has a key as it had before, or is sealed from here on.

    Sealed checkpoints without a key are refused by the store. Here are those of earlier releases,
    which were plain even where the models were sealed.

    Args:
      store: of the run, with the key given now.
      newest: the last model file that the run wrote, or None.
      reporter: told what was sealed.

    Raises:
      CheckpointError: the models of the run are sealed and no key is given.
    """
    if store.key is None:
        if newest is not None and container.is_sealed(_beginning(newest)):
            raise container.KeyMistakeError(
                f"{newest}: is sealed, so this run has a key, and none was given: its next files "
                f"would be plain. Give the key {container.HINT}, or choose another folder for the "
                "results"
            )
        return
    steps = store.seal_plain_steps()
    if steps:
        reporter.note(
            f"the checkpoints of step {', '.join(map(str, steps))} were plain; they are sealed "
            "now. Model files that were written without the key stay as they are"
        )


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(container.MAGIC))


def _with_weights(
    experiment: Experiment, template: TrainState, path: Path, key: str | None, reporter: Reporter
) -> TrainState:
    """Returns the template with every layer that the file holds in the right shape."""
    task, pattern = experiment.task, experiment.start.skip
    statistics = template.collections.get("batch_stats", {})  # a plain VGG has none
    weights = load_weights(path, key, task.model.convention.bn_eps)
    kept = skip_matching(weights, pattern)
    skipped = [name for name in weights if name not in kept]
    if skipped:
        reporter.note(f"skip_checkpoint_variables '{pattern}' leaves out: {', '.join(skipped)}")
    elif pattern:
        reporter.warn(f"skip_checkpoint_variables '{pattern}' matches no layer of {path}")
    backbone = {name: {} for name in template.params if task.is_backbone(name)}
    loaded = apply_weights(
        template.params,
        statistics,
        kept,
        layers=layer_order(task.model, task.pixels.channels),
        expected=skip_matching(backbone, pattern),
    )
    reporter.console.print(status_table(loaded), markup=False)
    reporter.console.print(f"{loaded.coverage:.1%} of the backbone comes from {path}", markup=False)
    check_coverage(loaded, path, experiment.start.min_coverage)
    filled = {"params": loaded.params}
    if statistics:
        filled["batch_stats"] = loaded.batch_stats
    return _with_variables(template, filled)


def _with_variables(template: TrainState, variables: Variables) -> TrainState:
    params = variables["params"]
    collections = {name: tree for name, tree in variables.items() if name != "params"}
    return template.replace(
        params=params,
        collections={**template.collections, **collections},
        ema=None if template.ema is None else params,
    )


def widths_to_train(experiment: Experiment, key: str | None) -> Experiment:
    """Returns the experiment with the layer widths of the pruned model it starts from, if any.

    Raises:
      CheckpointError: the pruned model is missing or sealed with another key.
    """
    if not experiment.start.pruned:
        return experiment
    path = _existing(experiment.start.pruned, "the pruned model of the spec")
    return with_stored_channels(experiment, read_header(path, key)[1], str(path))


def _existing(name: str, field: str) -> Path:
    path = Path(name)
    if not path.is_file():
        raise CheckpointError(f"{path}: the file that {field} names does not exist")
    return path
