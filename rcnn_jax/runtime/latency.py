"""Latency of exported graphs on this machine's CPU, measured side by side."""

import time
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import onnx

from rcnn_jax.runtime.backend import RunGraph
from rcnn_jax.runtime.onnx_runtime import open_session, runner
from rcnn_jax.runtime.openvino import openvino_runner

Runtime = Literal["onnxruntime", "openvino"]
RUNS = 20


def latencies(
    graphs: Mapping[str, bytes], runtime: Runtime, *, runs: int = RUNS
) -> dict[str, float]:
    """Returns the seconds that every graph takes for one image.

    The graphs take turns, so that what else the machine does meets all of them, and the least of the
    runs counts: other work only ever adds to it.

    Args:
      graphs: {name: ONNX model}.
      runtime: what runs them.
      runs: of each graph, after one that warms up.

    Raises:
      MissingDependencyError: the runtime is not installed.
      CheckpointError: it cannot load a graph.
    """
    calls = {name: _call(model, name, runtime) for name, model in graphs.items()}
    best = dict.fromkeys(calls, float("inf"))
    for turn in range(runs + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn:
                best[name] = min(best[name], time.perf_counter() - start)
    return best


def _call(model: bytes, name: str, runtime: Runtime) -> Callable[[], object]:
    """Returns a function that runs a graph on one image of noise."""
    entry = onnx.ModelProto.FromString(model).graph.input[0]
    shape = [side.dim_value or 1 for side in entry.type.tensor_type.shape.dim]
    image = np.random.default_rng(0).normal(0, 50, shape).astype(np.float32)
    open_runner = openvino_runner if runtime == "openvino" else _onnx_runtime
    run = open_runner(model, name)
    return lambda: run(image)


def _onnx_runtime(model: bytes, name: str) -> RunGraph:
    return runner(open_session(model, name))
