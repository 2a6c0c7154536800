"""Prints what a plain session of ONNX Runtime makes of an int8 graph, beside ours and JAX.

    python -m benchmarks.tables.sessions faster_rcnn -e SPEC -m MODEL.tlt GRAPH.onnx [-k KEY] [--images N]

`plain` is `onnxruntime.InferenceSession(GRAPH)` with no option set, as a user's own program opens it: the
runtime then fuses Q/DQ with layers and rounds biases to int32. `as written` computes Q/DQ as they stand,
which `evaluate`, `inference` and `rcnn_jax.load` do. Latency is the least of interleaved runs of one
image, as a share of the graph as written.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime

from rcnn_jax.cli.flags import KEY_VARIABLE
from rcnn_jax.cli.main import guarded
from rcnn_jax.cli.session import Session
from rcnn_jax.export.build import check_images
from rcnn_jax.export.comparison import reference_predictor
from rcnn_jax.export.verification.accuracy import GATED, metrics_of, validation_images
from rcnn_jax.export.verification.agreement import agreement
from rcnn_jax.runtime.backend import preprocess
from rcnn_jax.runtime.bundle import open_bundle
from rcnn_jax.runtime.graph import open_graph
from rcnn_jax.runtime.onnx_runtime import open_session, predictor
from rcnn_jax.spec.load import load_spec
from rcnn_jax.tasks.build import build_experiment


def main() -> int:
    args = _parser().parse_args()
    session = Session("session table", status_folder=None)
    config = load_spec(args.spec, args.kind).config
    opened = open_bundle(args.model, args.key)
    experiment = build_experiment(config, args.kind, categories=opened.origin.categories)
    experiment, variables = opened.load(experiment)
    graph = open_graph(args.graph, args.key)
    content, header = graph.model.SerializeToString(), graph.header
    images, _ = check_images(experiment, header)
    subset = validation_images(experiment, args.images, session)

    sessions = {
        "as written": open_session(content, str(args.graph)),
        "plain": onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]),
    }
    predictors = {"JAX": reference_predictor(experiment, variables)}
    predictors |= {name: predictor(started, header) for name, started in sessions.items()}
    wanted = predictors["JAX"](images)[0]
    times = _latencies(sessions, preprocess(images[:1], header), args.runs)
    rows = []
    for name, run in predictors.items():
        metrics = metrics_of(experiment, run, subset, session)
        latency = f"{times[name] / times['as written']:.2f}" if name in times else "-"
        rows.append((name, metrics, agreement(wanted, run(images)[0]).score, latency))

    names = [name for name in GATED if name in rows[0][1]]
    print(f"{len(subset)} validation images, agreement with JAX on {len(images)}\n")
    heads = ["Session", *names, "Agreement", "Latency"]
    print("| " + " | ".join(heads) + " |")
    print("|---" + "|---:" * (len(heads) - 1) + "|")
    for name, metrics, score, latency in rows:
        cells = [f"{100 * metrics[metric]:.2f}" for metric in names]
        print("| " + " | ".join([name, *cells, f"{score:.3f}", latency]) + " |")
    return 0


def _latencies(
    sessions: dict[str, onnxruntime.InferenceSession], image: np.ndarray, runs: int
) -> dict[str, float]:
    """Returns the least seconds of every session; interleaved, so that all share the noise."""
    best = dict.fromkeys(sessions, float("inf"))
    for _ in range(runs + 1):  # the first warms up
        for name, session in sessions.items():
            start = time.perf_counter()
            session.run(None, {session.get_inputs()[0].name: image})
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="What a plain session makes of an int8 graph")
    parser.add_argument("kind", choices=("faster_rcnn", "mask_rcnn"))
    parser.add_argument("graph", type=Path, help="exported .onnx")
    parser.add_argument("-e", dest="spec", type=Path, required=True, help="experiment spec")
    parser.add_argument("-m", dest="model", type=Path, required=True, help="its model file")
    parser.add_argument("-k", dest="key", help=f"key (default: ${KEY_VARIABLE})")
    parser.add_argument("--images", type=int, default=10**6, help="validation images (all)")
    parser.add_argument("--runs", type=int, default=10, help="timed runs of each session (10)")
    return parser


if __name__ == "__main__":
    sys.exit(guarded(main))
