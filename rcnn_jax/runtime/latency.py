"""Latency on this machine, measured side by side: of graphs, or of anything that can be called."""

import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Literal, TypeVar

import numpy as np
import onnx

from rcnn_jax.runtime.runtimes import graph_runner

Runtime = Literal["onnxruntime", "openvino"]
RUNS = 20
Name = TypeVar("Name", bound=Hashable)


def latencies(
    graphs: Mapping[str, bytes], runtime: Runtime, *, runs: int = RUNS
) -> dict[str, float]:
    """Returns the seconds that every graph takes for one image; see `least_seconds`.

    Args:
      graphs: {name: ONNX model}.
      runtime: what runs them.
      runs: of each graph, after one that warms up.

    Raises:
      MissingDependencyError: the runtime is not installed.
      CheckpointError: it cannot load a graph.
    """
    calls = {name: _call(model, name, runtime) for name, model in graphs.items()}
    return least_seconds(calls, range(runs + 1))


def least_seconds(
    calls: Mapping[Name, Callable[[], object]], turns: Iterable[int], *, pause: float = 0.0
) -> dict[Name, float]:
    """Returns the least seconds of every call.

    The calls take turns, so that what else the machine does meets all of them, and the least of the
    runs counts: other work only ever adds to it.

    Args:
      calls: what is timed; each ends when its results are there.
      turns: 0, 1, ...; turn 0 warms up and does not count. Shown as progress by whoever makes them.
      pause: seconds before every call.
    """
    best = dict.fromkeys(calls, float("inf"))
    for turn in turns:
        for name, call in calls.items():
            if pause:
                time.sleep(pause)
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
    run = graph_runner(model, name, runtime)
    return lambda: run(image)
