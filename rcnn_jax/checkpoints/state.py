"""Conversion between the state of a run and its bundles; the model described in a bundle."""

import dataclasses
import platform
from pathlib import Path
from typing import Any

import flax
import jax
import numpy as np
from ml_collections import ConfigDict

from rcnn_jax.checkpoints.bundle import Bundle, read_bundle
from rcnn_jax.checkpoints.leaves import flatten, unflatten
from rcnn_jax.checkpoints.origin import Origin, check_classes
from rcnn_jax.data.sources.categories import Categories
from rcnn_jax.errors import CheckpointError, RcnnError, SpecError
from rcnn_jax.models.channels import ChannelPlan
from rcnn_jax.models.quant import QuantPlan
from rcnn_jax.models.variables import layer_widths
from rcnn_jax.spec.load import parse_spec
from rcnn_jax.structures import TrainState
from rcnn_jax.tasks.build import build_experiment
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.tasks.families import family
from rcnn_jax.tasks.task import Variables
from rcnn_jax.version import __version__


def variables_of(state: TrainState) -> Variables:
    """Returns the variables for prediction, with averaged params where the run keeps an average."""
    params = state.params if state.ema is None else state.ema
    return {"params": params, **state.collections}


def training_bundle(experiment: Experiment, state: TrainState, run_state: dict[str, Any]) -> Bundle:
    """Returns a bundle for prediction and for resuming.

    Args:
      experiment: what is trained.
      state: one replica, on the host.
      run_state: JSON of the progress of the run.
    """
    collections = dict(state.collections)
    if not experiment.task.model.quant.sites:
        collections.pop("quant", None)  # a run that calibrates later: its ranges are still empty
    arrays = {
        **flatten(state.params, "params"),
        **{k: v for name, tree in collections.items() for k, v in flatten(tree, name).items()},
        **flatten(state.opt_state, "opt_state"),
        # Beside the params, not in their place: the average predicts, the params go on learning.
        **({} if state.ema is None else flatten(state.ema, "ema")),
        **flatten(state.epoch_sums, "epoch_sums"),
        **flatten(state.key, "key"),
    }
    header = {
        **model_header(experiment),
        "step": int(state.step),
        "run_id": run_state["run_id"],
        "run_state": run_state,
    }
    return Bundle(experiment.kind, header, arrays)


def model_header(experiment: Experiment) -> dict[str, Any]:
    """Returns the header of every bundle: spec without keys, classes, widths, conventions."""
    task = experiment.task
    header = {
        "spec": experiment.spec.text,
        "class_names": list(task.class_names),
        "arch": task.model.arch,
        "channel_plan": task.model.channels.to_json(),
        "convention": dataclasses.asdict(task.model.convention),
        "created_with": versions(),
    }
    if task.model.quant.sites:
        header["quant_plan"] = task.model.quant.to_json()
    if experiment.category_ids is not None:
        header["category_ids"] = list(experiment.category_ids)
    return header


def versions() -> dict[str, str]:
    """Returns the versions that decide whether a resumed run is bit-exact."""
    return {
        "rcnn_jax": __version__,
        "jax": jax.__version__,
        "flax": flax.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def restore_training(
    bundle: Bundle, template: TrainState, name: str
) -> tuple[TrainState, dict[str, Any]]:
    """Returns the state and the progress (JSON) of the run that wrote a training bundle.

    Args:
      bundle: read from a file.
      template: a state of the experiment that goes on.
      name: of the file, for messages.

    Raises:
      CheckpointError: the bundle was slimmed, or is of another model.
    """
    if "run_state" not in bundle.header:
        raise CheckpointError(
            f"{name}: holds weights only, not the state of a run: name it in pretrained_weights "
            "(one that was pruned in the field for pruned models) instead of resume_from_model"
        )
    # A float model starts a run with fake quantisation, whose ranges are calibrated then.
    stored = {*template.collections} - ({"quant"} if "quant_plan" not in bundle.header else set())
    try:
        state = template.replace(
            step=np.asarray(bundle.header["step"], np.int32),
            params=unflatten(bundle.arrays, template.params, "params"),
            collections={
                group: unflatten(bundle.arrays, tree, group) if group in stored else tree
                for group, tree in template.collections.items()
            },
            opt_state=unflatten(bundle.arrays, template.opt_state, "opt_state"),
            ema=None if template.ema is None else unflatten(bundle.arrays, template.ema, "ema"),
            epoch_sums=unflatten(bundle.arrays, template.epoch_sums, "epoch_sums"),
            key=unflatten(bundle.arrays, template.key, "key"),
        )
    except CheckpointError as error:
        raise CheckpointError(f"{name}: is not of the model in the spec: {error}") from error
    return state, bundle.header["run_state"]


def stored_config(bundle: Bundle, name: str) -> ConfigDict:
    """Returns the config a model was trained with, from the spec inside its file.

    Together with `stored_categories` this is all that a model depends on: anchors, means, channel
    order, canvas, classes and convention are fields of the spec, every field is written with its
    value, and of the data only the categories enter. `build_experiment` of both is the model as it
    was trained. Keys read as absent, paths are those of the machine that trained.

    Args:
      bundle: read from a file.
      name: of the file, for the message.

    Raises:
      CheckpointError: the spec in the file cannot be read by this release.
    """
    try:
        return parse_spec(bundle.header["spec"], "its spec", bundle.kind, "inference").config
    except SpecError as error:
        raise CheckpointError(
            f"{name}: the spec that it stores cannot be read by rcnn-jax {__version__}: {error}"
        ) from error


def stored_categories(bundle: Bundle) -> Categories | None:
    """Returns the classes a model was trained for, None where its spec names them."""
    names, ids = _classes(bundle.header)
    return None if ids is None else Categories(ids, names)


def stored_experiment(bundle: Bundle, name: str) -> Experiment:
    """Returns the experiment a model was trained by, as far as the model depends on it.

    Raises:
      CheckpointError: see `stored_config`.
    """
    config = stored_config(bundle, name)
    return build_experiment(config, bundle.kind, categories=stored_categories(bundle))


def stored_origin(bundle: Bundle) -> Origin:
    """Returns the origin of a bundle.

    Where this release cannot read the spec inside, only kind and classes are known.
    """
    names, ids = _classes(bundle.header)
    origin = Origin(kind=bundle.kind, class_names=names, category_ids=ids)
    try:
        trained = stored_experiment(bundle, "its file")
    except RcnnError:
        # A command with a spec of its own can still compare the classes; one that needs the stored spec
        # reads it again and fails with the reason.
        return origin
    return dataclasses.replace(origin, depends=trained.depends, geometry=trained.geometry)


def _classes(header: dict[str, Any]) -> tuple[tuple[str, ...], tuple[int, ...] | None]:
    """Returns the names and the category ids of a bundle's classes."""
    ids = header.get("category_ids")
    return tuple(header["class_names"]), None if ids is None else tuple(ids)


def with_stored_channels(experiment: Experiment, header: dict[str, Any], name: str) -> Experiment:
    """Returns the experiment with the layer widths and the rounded inputs of a bundle.

    Pruning may have narrowed layers; a model that was trained with fake quantisation runs with it.

    Args:
      experiment: the model the spec describes.
      header: of the bundle.
      name: of the file, for the message.

    Raises:
      CheckpointError: with these widths the layers do not fit together.
    """
    plan = ChannelPlan.from_json(header["channel_plan"])
    quant = QuantPlan.from_json(header.get("quant_plan", {}))
    task: Any = experiment.task
    task = dataclasses.replace(task, model=task.model.clone(channels=plan, quant=quant))
    try:
        # Shapes alone: widths that fit no network end here with the name of the file, and not inside a
        # compilation.
        jax.eval_shape(task.init, jax.random.key(0))
    except (TypeError, ValueError) as error:  # what JAX and Flax make of shapes that do not fit
        raise CheckpointError(
            f"{name}: with the widths of its layers (channel_plan) the network cannot be built; "
            "the file was changed, or is of another architecture than the spec"
        ) from error
    return dataclasses.replace(experiment, task=task)


def check_widths(experiment: Experiment, header: dict[str, Any], name: str) -> None:
    """Stops a run that would start from a file whose layers are wider or narrower than its own.

    Layers of another shape are left to chance where weights are loaded by name: the run would begin at
    random, silently.

    Args:
      experiment: the run, with the widths that it trains.
      header: of the bundle.
      name: of the file, begins the message.

    Raises:
      CheckpointError: the widths differ; the message has the first layer and the field to use.
    """
    model = experiment.task.model
    plan = ChannelPlan.from_json(header["channel_plan"])
    if plan == model.channels or header["arch"] != model.arch:
        return
    channels = experiment.task.pixels.channels
    wanted, stored = (layer_widths(m, channels) for m in (model, model.clone(channels=plan)))
    other = next((layer for layer in wanted if stored.get(layer) != wanted[layer]), None)
    if other is None:
        return
    field = family(experiment.kind).start_fields[1]
    what = "is pruned" if stored[other] < wanted[other] else "is not pruned as the network is"
    raise CheckpointError(
        f"{name}: {what}: its layer {other} has {stored[other]} filters, that of the network to train "
        f"{wanted[other]}. Name the file in {field}, which takes the widths of the file too"
    )


def with_weights(experiment: Experiment, bundle: Bundle, name: str) -> tuple[Experiment, Variables]:
    """Returns the experiment with the widths of a bundle, and its variables for prediction.

    Args:
      experiment: the model the spec describes; the bundle must be of the same.
      bundle: read from a file.
      name: of the file, for messages.

    Raises:
      CheckpointError: the bundle is of another model or has other classes.
    """
    names, ids = _classes(bundle.header)
    check_classes(bundle.kind, names, ids, experiment, name)
    experiment = with_stored_channels(experiment, bundle.header, name)
    template = jax.eval_shape(experiment.task.init, jax.random.key(0))
    # The file decides and not the spec: a spec for deployment need not repeat that an average was
    # kept.
    group = "ema" if any(leaf.startswith("ema/") for leaf in bundle.arrays) else "params"
    try:
        params = unflatten(bundle.arrays, template["params"], group)
        collections = {
            part: unflatten(bundle.arrays, tree, part)
            for part, tree in template.items()
            if part != "params"
        }
    except CheckpointError as error:
        raise CheckpointError(f"{name}: is not of the model in the spec: {error}") from error
    scales = np.asarray(jax.tree.leaves(collections.get("quant", {})))
    if not (np.isfinite(scales) & (scales > 0)).all():
        raise CheckpointError(f"{name}: a range of its fake quantisation is no positive number")
    return experiment, {"params": params, **collections}


def load_model(path: Path, experiment: Experiment, key: str | None) -> tuple[Experiment, Variables]:
    """Returns the experiment with the widths of a model file, and its variables for prediction.

    Args:
      path: a bundle.
      experiment: the model the spec describes; the file must be of the same.
      key: what the file was encrypted with, or None.

    Raises:
      CheckpointError: see `read_bundle`; or the file is of another model or has other classes.
    """
    return with_weights(experiment, read_bundle(path, key), str(path))
