"""Measures of a trial beside its metrics: size and speed of its model."""

import time
from pathlib import Path

import numpy as np

from rcnn_jax.checkpoints.bundle import read_bundle
from rcnn_jax.errors import RcnnError
from rcnn_jax.runtime.onnx_runtime import open_session

_RUNS = 20


def parameters(model: Path, key: str | None) -> float:
    """Returns the number of weights of a model; NaN where it cannot be read."""
    try:
        bundle = read_bundle(model, key)
    except RcnnError:
        # No trial fails because its size cannot be read; its training is paid for.
        return float("nan")
    return float(
        sum(array.size for name, array in bundle.arrays.items() if name.startswith("params/"))
    )


def latency_ms(model: Path) -> float:
    """Returns the median milliseconds of one image in ONNX Runtime on this machine's CPU.

    The median of twenty runs: a mean would hold what other trials do to the machine meanwhile.
    """
    session = open_session(model.read_bytes(), str(model))
    entry = session.get_inputs()[0]
    shape = [side if isinstance(side, int) else 1 for side in entry.shape]
    images = np.random.default_rng(0).normal(0, 50, shape).astype(np.float32)
    session.run(None, {entry.name: images})
    times = []
    for _ in range(_RUNS):
        start = time.perf_counter()
        session.run(None, {entry.name: images})
        times.append(time.perf_counter() - start)
    return float(1000 * np.median(times))
