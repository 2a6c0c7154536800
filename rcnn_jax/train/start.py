"""Initial weights of a run: a bundle to go on from, a pruned model, pretrained weights, or chance.

Also the checks before a run goes on from its own checkpoint. Precedence: checkpoints of the workdir >
resume_from_model > pruned model > pretrained weights.
"""

import uuid
from pathlib import Path
from typing import Any

from rcnn_jax.checkpoints import container
from rcnn_jax.checkpoints.bundle import read_bundle, read_header
from rcnn_jax.checkpoints.class_rows import match_rows
from rcnn_jax.checkpoints.data_file import changes
from rcnn_jax.checkpoints.pretrained import (
    apply_weights,
    check_coverage,
    load_pretrained,
    skip_matching,
    status_table,
)
from rcnn_jax.checkpoints.published import local_file
from rcnn_jax.checkpoints.state import (
    check_widths,
    restore_training,
    with_stored_channels,
    with_weights,
)
from rcnn_jax.checkpoints.store import CheckpointStore
from rcnn_jax.compress.qat import in_float
from rcnn_jax.data.sources.digest import DataDigest
from rcnn_jax.errors import CheckpointError
from rcnn_jax.models.variables import layer_order
from rcnn_jax.reporter import Reporter
from rcnn_jax.structures import TrainState
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.tasks.task import Variables
from rcnn_jax.train.retrain import retrain_notes, retrain_warnings
from rcnn_jax.train.run_state import RunState


def begin(
    experiment: Experiment, template: TrainState, *, key: str | None, reporter: Reporter
) -> tuple[TrainState, RunState]:
    """Returns the state and progress of a run whose workdir holds no checkpoint.

    Args:
      experiment: names the weights to start from.
      template: a state with fresh weights.
      key: decrypts bundles.
      reporter: where the table of loaded layers is printed.

    Raises:
      CheckpointError: a named file is missing, encrypted with another key, or does not fit.
    """
    start = experiment.start
    if start.resume_from:
        path = _existing(start.resume_from, "resume_from_model")
        bundle = read_bundle(path, key)
        check_widths(experiment, bundle.header, str(path))
        state, saved = restore_training(bundle, template, str(path))
        reporter.note(f"going on from {path}, step {int(state.step)}")
        # The best model so far lies in another folder, or is about to be deleted from this one
        # and how long that run was to be is no matter of this one.
        begins = {"finished": False, "best_metric": None, "best_step": None, "plan": None}
        return state, RunState.from_json({**saved, **begins})
    # The id, not the folder or the name, tells the run itself from another one: a model that is
    # copied elsewhere still belongs to it.
    fresh = RunState(run_id=uuid.uuid4().hex)
    if start.pruned:
        path = _existing(start.pruned, "the pruned model of the spec")
        bundle = read_bundle(path, key)
        _, variables = with_weights(experiment, bundle, str(path))
        for note in retrain_notes(experiment, bundle, str(path)):
            reporter.note(note)
        for warning in retrain_warnings(experiment, bundle):
            reporter.warn(warning)
        return _with_variables(template, variables), fresh
    if start.pretrained:
        path = local_file(start.pretrained, reporter=reporter)
        _existing(str(path), "pretrained_weights")
        return _with_weights(experiment, template, path, key, reporter), fresh
    return template, fresh


def report_skipped_start(
    experiment: Experiment, progress: RunState, *, key: str | None, reporter: Reporter
) -> None:
    """Reports that a run goes on from its own checkpoint although the spec names a model.

    A job that is started again with the same command must not begin at that model each time.

    Args:
      experiment: names the model.
      progress: of the checkpoint.
      key: decrypts bundles.
      reporter: where it is reported.
    """
    if not experiment.start.resume_from:
        return
    try:
        _, header = read_header(Path(experiment.start.resume_from), key)
        # A KeyError is a slimmed model, which holds no step.
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
    """Refuses to resume a run on other images or labels than those it began with.

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
    # Runs of releases before the digest go on, once with a note: their next checkpoint has it.
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


def keep_encrypted(store: CheckpointStore, newest: Path | None, reporter: Reporter) -> None:
    """Keeps an encrypted run encrypted when it is resumed, and encrypts its plain checkpoints.

    The store itself refuses encrypted checkpoints without a key. This covers earlier releases, whose
    checkpoints were plain even where the models were encrypted.

    Args:
      store: of the run, with the key given now.
      newest: the last model file that the run wrote, or None.
      reporter: told what was encrypted.

    Raises:
      CheckpointError: the models of the run are encrypted and no key is given.
    """
    if store.key is None:
        # The newest model decides, by its first bytes: of such a run only the models are encrypted,
        # and nothing in a checkpoint says so.
        if newest is not None and container.is_encrypted(_beginning(newest)):
            raise container.KeyMistakeError(
                f"{newest}: is encrypted, so this run has a key, and none was given: its next files "
                f"would be plain. Give the key {container.HINT}, or choose another folder for the "
                "results"
            )
        return
    steps = store.encrypt_plain_steps()
    if steps:
        reporter.note(
            f"the checkpoints of step {', '.join(map(str, steps))} were plain; they are "
            "encrypted now. Model files that were written without the key stay as they are"
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
    if path.suffix.lower() == ".tlt":
        check_widths(experiment, read_header(path, key)[1], str(path))
    weights, names = load_pretrained(path, key, task.model.convention.bn_eps)
    kept = skip_matching(weights, pattern)
    skipped = [name for name in weights if name not in kept]
    if skipped:
        reporter.note(f"skip_checkpoint_variables '{pattern}' leaves out: {', '.join(skipped)}")
    elif pattern:
        reporter.warn(f"skip_checkpoint_variables '{pattern}' matches no layer of {path}")
    matches = None
    if names is not None and names != task.class_names:
        kept, matches = match_rows(kept, template.params, names, task.class_names)
    # Only the backbone is expected, and of it only what the user did not leave out: a classifier's file
    # has no heads, and must not look like the file of another network.
    backbone = {name: {} for name in template.params if task.is_backbone(name)}
    loaded = apply_weights(
        template.params,
        statistics,
        kept,
        layers=layer_order(task.model, task.pixels.channels),
        expected=skip_matching(backbone, pattern),
        partial=matches.layers if matches is not None and matches.fresh else (),
    )
    reporter.console.print(status_table(loaded), markup=False)
    for sentence in matches.sentences() if matches is not None and matches.layers else ():
        reporter.console.print(sentence, markup=False)
    reporter.console.print(f"{loaded.coverage:.1%} of the backbone comes from {path}", markup=False)
    check_coverage(loaded, path, experiment.start.min_coverage)
    filled = {"params": loaded.params}
    if statistics:
        filled["batch_stats"] = loaded.batch_stats
    return _with_variables(template, filled)


def _with_variables(template: TrainState, variables: Variables) -> TrainState:
    params = variables["params"]
    # Ranges of a model that was trained with fake quantisation stay behind: they are calibrated anew for
    # the plan of this run.
    collections = {name: variables[name] for name in variables if name not in ("params", "quant")}
    return template.replace(
        params=params,
        collections={**template.collections, **collections},
        # The average starts where the weights start; that of the template is of random weights.
        ema=None if template.ema is None else params,
    )


def widths_to_train(experiment: Experiment, key: str | None) -> Experiment:
    """Returns the experiment with the layer widths of the pruned model it starts from, if any.

    Raises:
      CheckpointError: the pruned model is missing or encrypted with another key.
    """
    if not experiment.start.pruned:
        return experiment
    path = _existing(experiment.start.pruned, "the pruned model of the spec")
    header = read_header(path, key)[1]
    return in_float(with_stored_channels(experiment, header, str(path)))


def _existing(name: str, field: str) -> Path:
    path = Path(name)
    if not path.is_file():
        raise CheckpointError(f"{path}: the file that {field} names does not exist")
    return path
