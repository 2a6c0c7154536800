"""An exported graph (`.onnx`, `.etlt`), opened: its header says what it is, a runtime runs it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from rcnn_jax.checkpoints.origin import Origin
from rcnn_jax.errors import CheckpointError
from rcnn_jax.printable import reason
from rcnn_jax.runtime.backend import Predictor, RunGraph, predictor_of, require_one_device
from rcnn_jax.runtime.header import Header
from rcnn_jax.runtime.onnx_file import read_header, read_onnx
from rcnn_jax.runtime.outputs import check_outputs
from rcnn_jax.runtime.runtimes import TITLES, RuntimeName, chosen, graph_runner
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.tasks.task import TestSettings

Rewrite = Callable[[onnx.ModelProto, str], onnx.ModelProto]
"""(graph, name of its file) -> graph."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenGraph:
    """An exported graph in memory.

    Attributes:
      path: the file.
      model: the graph.
      header: what the exporter wrote about it.
      rewrite: changes the graph before it runs, for example to int8.
      runtime: what runs it.
    """

    path: Path
    model: onnx.ModelProto
    header: Header
    rewrite: Rewrite | None = None
    runtime: RuntimeName = "auto"

    @property
    def origin(self) -> Origin:
        """Kind, classes and settings of the model, from the header."""
        return self.header.origin

    @property
    def report_name(self) -> str:
        """The whole name of the file: a graph lies beside its bundle, and so do their reports."""
        return self.path.name

    def predictor(self, experiment: Experiment, test: TestSettings, devices: int = 1) -> Predictor:
        """Returns the predictor, with the settings of the export: see `start`.

        Raises: as `start`.
        """
        # The graph has its canvas, thresholds and NMS inside; the spec at hand can change none of
        # them.
        del experiment, test
        require_one_device(self.path, devices)
        return self.start()

    def start(self) -> Predictor:
        """Returns the predictor of the graph as it was exported.

        Raises:
          CheckpointError: the runtime cannot load the graph.
          RcnnError: the graph cannot be rewritten, or the runtime is not on this machine.
        """
        name = str(self.path)
        model = self.model if self.rewrite is None else self.rewrite(self.model, name)
        run = graph_runner(model.SerializeToString(), name, self.runtime)
        return file_predictor(run, self.header, name, TITLES[chosen(self.runtime)])


def open_graph(
    path: Path,
    key: str | None,
    *,
    header: Path | None = None,
    rewrite: Rewrite | None = None,
    runtime: RuntimeName = "auto",
) -> OpenGraph:
    """Returns the graph of a file.

    Args:
      path: `.onnx` or `.etlt`.
      key: of an encrypted `.etlt`.
      header: file whose header the graph has, where another tool dropped its own.
      rewrite: changes the graph before it runs.
      runtime: what runs it.

    Raises:
      CheckpointError: the file cannot be used.
    """
    model = read_onnx(path, key)
    known = read_header(model, str(path), header, key)
    return OpenGraph(path=path, model=model, header=known, rewrite=rewrite, runtime=runtime)


def file_predictor(run: RunGraph, header: Header, name: str, title: str) -> Predictor:
    """Returns the function of a file's graph, which is not trusted to be an exporter's.

    Args:
      run: the graph in its runtime.
      header: of the graph.
      name: of the file, begins the message when a batch fails.
      title: of the runtime.
    """

    def checked(batch: np.ndarray) -> dict[str, np.ndarray]:
        try:
            outputs = run(batch)
        except Exception as error:  # the runtime raises a dozen unrelated classes
            raise CheckpointError(f"{name}: {title} cannot run it: {reason(error)}") from error
        check_outputs(outputs, len(batch), header, name)
        return outputs

    return predictor_of(checked, header, least=header.batch or 1, most=header.batch)
