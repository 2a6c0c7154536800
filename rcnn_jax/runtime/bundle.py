"""A bundle (`.tlt`), opened: the model in JAX, and the experiment it was trained by."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from rcnn_jax.checkpoints.bundle import Bundle, read_bundle, slim
from rcnn_jax.checkpoints.origin import Origin
from rcnn_jax.checkpoints.state import stored_config, stored_experiment, stored_origin, with_weights
from rcnn_jax.errors import UsageError
from rcnn_jax.runtime.backend import Predictor
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.tasks.task import TestSettings, Variables


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenBundle:
    """A bundle in memory.

    Attributes:
      path: the file.
      bundle: its header and weights, without the state of its training.
    """

    path: Path
    bundle: Bundle

    @property
    def origin(self) -> Origin:
        """Kind, classes and settings of the model; of an unreadable spec inside only the first two."""
        return self._origin

    @cached_property
    def _origin(self) -> Origin:
        # A spec is parsed for it; behind a property, because a protocol knows no cached one.
        return stored_origin(self.bundle)

    @property
    def report_name(self) -> str:
        """The name of the file without its suffix."""
        return self.path.stem

    def stored_config(self) -> ConfigDict:
        """Returns the config of the spec inside the file; see `checkpoints.state.stored_config`.

        Raises:
          CheckpointError: this release cannot read the spec.
        """
        return stored_config(self.bundle, str(self.path))

    def stored_experiment(self) -> Experiment:
        """Returns the experiment of the spec inside the file: the model as it was trained.

        Raises:
          CheckpointError: this release cannot read the spec.
        """
        return stored_experiment(self.bundle, str(self.path))

    def load(self, experiment: Experiment) -> tuple[Experiment, Variables]:
        """Returns an experiment with the layer widths of the file, and the variables of the file.

        Raises:
          CheckpointError: the file is of another model or has other classes.
        """
        return with_weights(experiment, self.bundle, str(self.path))

    def predictor(self, experiment: Experiment, test: TestSettings, devices: int = 1) -> Predictor:
        """Returns the predictor on the devices of JAX.

        Args:
          experiment: the model the spec describes; the file must be of the same.
          test: counts and thresholds.
          devices: local devices that share a batch.

        Raises:
          CheckpointError: the file is of another model.
          UsageError: there are not so many devices.
        """
        experiment, variables = self.load(experiment)
        return jax_predictor(experiment, test, devices)(variables)


def open_bundle(path: Path, key: str | None) -> OpenBundle:
    """Returns the bundle of a file.

    Raises:
      CheckpointError: see `read_bundle`.
    """
    # The state of an optimizer may be twice the weights: it is not kept while a command runs.
    return OpenBundle(path=path, bundle=slim(read_bundle(path, key)))


def jax_predictor(
    experiment: Experiment, test: TestSettings, devices: int = 1
) -> Callable[..., Predictor]:
    """Returns a function from variables to a predictor; one compilation serves all variables.

    The variables are put on the devices once, when a predictor is made of them.

    Args:
      experiment: the model.
      test: counts and thresholds.
      devices: local devices that share a batch, which must be a multiple of them. Each computes what
        one alone would: nothing is exchanged.

    Raises:
      UsageError: there are not so many devices.
    """

    def predict(variables: Variables, images: Any) -> Any:
        return experiment.task.predict(variables, images, test)

    # Weights are arguments and never constants: what is compiled is kept on disk by
    # `cli.compilations`, and the weights of an encrypted model would lie there in plain.
    if devices == 1:
        run = jax.jit(predict)
        return lambda variables: functools.partial(run, jax.device_put(variables))
    here = jax.local_devices()
    if devices > len(here):
        raise UsageError(
            f"--gpus {devices} asks for more devices than there are: found {len(here)} "
            f"({here[0].platform}); lower --gpus or set CUDA_VISIBLE_DEVICES"
        )
    mesh = Mesh(np.asarray(here[:devices]), ("data",))
    whole, rows = PartitionSpec(), PartitionSpec("data")
    run = jax.jit(
        jax.shard_map(predict, mesh=mesh, in_specs=(whole, rows), out_specs=rows, check_vma=False)
    )
    return lambda variables: functools.partial(
        run, jax.device_put(variables, NamedSharding(mesh, whole))
    )
