"""Prints what fp16 and int8 cost a trained model: the table of docs and README.

    python -m benchmarks.tables.precisions faster_rcnn -e SPEC -m MODEL.tlt [-k KEY] [--images N]

Exports the model once in fp32, calibrates once, and evaluates fp32, fp16 and int8 by the three
methods in ONNX Runtime on validation images; nothing is kept in float and nothing is written.
float16 is rounded as a GPU rounds it. Latency is the least of interleaved runs of one image, as a
share of fp32 with the kernels of ONNX Runtime, which has none for float16 and few for int8 on a
CPU; where its build brings OpenVINO, that is timed too. Neither says anything of TensorRT.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import onnx
from onnxruntime import InferenceSession

from rcnn_jax.cli.flags import KEY_VARIABLE
from rcnn_jax.cli.main import guarded
from rcnn_jax.cli.session import Session
from rcnn_jax.export.build import build, check_built, check_images
from rcnn_jax.export.comparison import reference_predictor
from rcnn_jax.export.contracts import make_header
from rcnn_jax.export.precision.bias_correction import rounding_offsets
from rcnn_jax.export.precision.calibration import observe, scales_of
from rcnn_jax.export.precision.calibration_data import CalibrationSettings, calibration_batches
from rcnn_jax.export.precision.fp16 import to_fp16, truly_half
from rcnn_jax.export.precision.quantize import insert_qdq
from rcnn_jax.export.precision.ranges import METHODS
from rcnn_jax.export.verification.accuracy import GATED, metrics_of, validation_images
from rcnn_jax.export.verification.agreement import agreement
from rcnn_jax.runtime.backend import preprocess
from rcnn_jax.runtime.bundle import open_bundle
from rcnn_jax.runtime.onnx_runtime import (
    REFERENCE,
    Provider,
    open_session,
    predictor,
)
from rcnn_jax.runtime.openvino import fastest_providers
from rcnn_jax.spec.load import load_spec
from rcnn_jax.tasks.build import build_experiment

OWN_KERNELS = "Latency / fp32"
"""Head of the column of ONNX Runtime's own kernels; theirs is the fp32 of all columns."""


def main() -> int:
    args = _parser().parse_args()
    session = Session("precision table", status_folder=None)
    config = load_spec(args.spec, args.kind).config
    opened = open_bundle(args.model, args.key)
    experiment = build_experiment(config, args.kind, categories=opened.origin.categories)
    header = make_header(experiment, "tao", None)
    experiment, variables = opened.load(experiment)
    images, origin = check_images(experiment, header)
    reference = reference_predictor(experiment, variables)
    built = build(experiment, variables, header)
    check = check_built(built, experiment, variables, header, images[:2], reference)
    if check.problems:
        print("\n".join(problem.text for problem in check.problems), file=sys.stderr)
        return 1
    single = built.model
    subset = validation_images(experiment, args.images, session)

    settings = CalibrationSettings(
        cache_file=Path(), batches=args.batches, batch_size=args.batch_size
    )
    # Once: the three methods read different thresholds off the same histograms.
    histograms = observe(single, calibration_batches(experiment, header, settings, session))
    graphs = {"fp32": single, "fp16": to_fp16(single)}
    sample = preprocess(images, header)
    for method in METHODS:
        scales = scales_of(histograms, method)
        offsets = rounding_offsets(single, scales, [sample])
        graphs[f"int8, {method}"] = insert_qdq(single, scales, offsets=offsets)

    wanted = reference(images)[0]
    rows = [("JAX", metrics_of(experiment, reference, subset, session), 1.0, 0)]
    for name, graph in graphs.items():
        # Accuracy with real rounding, size and latency below with the graph as it is written.
        content = truly_half(graph).SerializeToString()
        run = predictor(open_session(content, name), header)
        agreed = agreement(wanted, run(images)[0]).score
        metrics = metrics_of(experiment, run, subset, session)
        rows.append((name, metrics, agreed, len(graph.SerializeToString())))
    runtimes = {OWN_KERNELS: REFERENCE}
    if fastest_providers() != REFERENCE:
        runtimes["in OpenVINO"] = fastest_providers()
    times = _latencies(graphs, runtimes, preprocess(images[:1], header), args.runs)
    unit = times[OWN_KERNELS, "fp32"]
    names = [name for name in GATED if name in rows[0][1]]

    print(f"{len(subset)} validation images, calibrated on {args.batches * args.batch_size}\n")
    heads = ["Precision", *names, "Agreement", "Size (MB)", *runtimes]
    print("| " + " | ".join(heads) + " |")
    print("|---" + "|---:" * (len(heads) - 1) + "|")
    for name, metrics, score, size in rows:
        cells = [f"{100 * metrics[metric]:.2f}" for metric in names]
        file = f"{size / 1e6:.1f}" if size else "-"
        ratios = [
            f"{times[runtime, name] / unit:.2f}" if name in graphs else "-" for runtime in runtimes
        ]
        print("| " + " | ".join([name, *cells, f"{score:.3f}", file, *ratios]) + " |")
    return 0


def _latencies(
    graphs: dict[str, onnx.ModelProto],
    runtimes: dict[str, tuple[Provider, ...]],
    image: np.ndarray,
    runs: int,
) -> dict[tuple[str, str], float]:
    """Returns the least seconds of (runtime, graph); interleaved, so that all share the noise."""
    sessions: dict[tuple[str, str], InferenceSession] = {
        (runtime, name): open_session(graph.SerializeToString(), name, providers)
        for runtime, providers in runtimes.items()
        for name, graph in graphs.items()
    }
    best = dict.fromkeys(sessions, float("inf"))
    for _ in range(runs + 1):  # the first warms up
        # Interleaved, so that all graphs share the noise of the machine.
        for which, session in sessions.items():
            start = time.perf_counter()
            session.run(None, {session.get_inputs()[0].name: image})
            best[which] = min(best[which], time.perf_counter() - start)
    return best


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="What fp16 and int8 cost a model")
    parser.add_argument("kind", choices=("faster_rcnn", "mask_rcnn"))
    parser.add_argument("-e", dest="spec", type=Path, required=True, help="experiment spec")
    parser.add_argument("-m", dest="model", type=Path, required=True, help="trained model")
    parser.add_argument("-k", dest="key", help=f"key (default: ${KEY_VARIABLE})")
    parser.add_argument("--images", type=int, default=10**6, help="validation images (all)")
    parser.add_argument("--batches", type=int, default=10, help="calibration batches (10)")
    parser.add_argument("--batch_size", type=int, default=8, help="images of each (8)")
    parser.add_argument("--runs", type=int, default=10, help="timed runs of each graph (10)")
    return parser


if __name__ == "__main__":
    sys.exit(guarded(main))
