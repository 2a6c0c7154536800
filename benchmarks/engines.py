"""Every backbone through the builder of TensorRT for RTX, on this machine's CPU: one table.

    python -m benchmarks.engines [--arch resnet:18 ...] [--kind faster_rcnn mask_rcnn]
                                 [--precision fp32 fp16 int8] [--batch free fixed]
                                 [--rtx sm80,sm86,sm89,sm120] [--canvas 320] [--parity] [--json FILE]

All 22 backbones of Faster R-CNN with a free and a fixed batch, and Mask R-CNN on the ResNets, at
random weights: kernels are chosen by shapes and types. Each engine is built in a process of its own,
whose largest resident memory is the column `memory`. With --parity each portable fp32 graph is checked
against JAX as an export is. Scales of int8 come from one batch of noise; they change no shape.

A built engine has not run on a card.
"""

import argparse
import dataclasses
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import onnx

from rcnn_jax.export.build import build, check_built, check_images
from rcnn_jax.export.comparison import reference_predictor
from rcnn_jax.export.contracts import make_header
from rcnn_jax.export.lowering.portable import to_portable
from rcnn_jax.export.precision.calibration import observe, scales_of
from rcnn_jax.export.precision.fp16 import to_fp16
from rcnn_jax.export.precision.quantize import insert_qdq
from rcnn_jax.kinds import Kind
from rcnn_jax.models.backbones import BACKBONES
from rcnn_jax.reporter import SILENT
from rcnn_jax.runtime import tensorrt_rtx
from rcnn_jax.runtime.backend import preprocess
from rcnn_jax.runtime.tensorrt_rtx import RtxSettings, targets_of
from rcnn_jax.spec.load import load_spec
from rcnn_jax.tasks.build import build_experiment

ROOT = Path(__file__).parents[1]
SPECS: dict[Kind, Path] = {
    "faster_rcnn": ROOT / "benchmarks/specs/resnet50_320.txt",
    "mask_rcnn": ROOT / "benchmarks/specs/mask_resnet50.txt",
}
MASK_DEPTHS = (10, 18, 34, 50, 101)
BATCHES = {"free": None, "fixed": 1}
PRECISIONS = ("fp32", "fp16", "int8")


def main() -> int:
    args = _parser().parse_args()
    if args.build:
        return build_one(args.build, targets_of(args.rtx))
    tensorrt_rtx.library("the table of engines")
    rows = []
    print(
        f"{'detector':<30} {'types':<5} {'batch':<6} {'built':>8} {'engine':>9} {'memory':>9}  parity"
    )
    for kind in args.kind:
        for arch in archs(kind, args.arch):
            for batch in args.batch if kind == "faster_rcnn" else args.batch[:1]:
                for row in subject_rows(kind, arch, batch, args):
                    rows.append(row)
                    print(_line(row), flush=True)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")
    failed = [row for row in rows if row.get("error") or row.get("problems")]
    print(f"{len(rows)} engines for {args.rtx}, {len(failed)} of them refused or not at parity")
    return 1 if failed else 0


def archs(kind: Kind, wanted: list[str]) -> list[str]:
    """Returns the backbones of a detector, those that are wanted where any are."""
    every = list(BACKBONES) if kind == "faster_rcnn" else [f"resnet:{n}" for n in MASK_DEPTHS]
    return [arch for arch in every if not wanted or arch in wanted]


def subject_rows(kind: Kind, arch: str, batch: str, args: argparse.Namespace):
    """Yields a row for every precision of one detector."""
    config: Any = load_spec(SPECS[kind]).config
    if kind == "faster_rcnn":
        config.model_config.arch = arch
    else:
        name, _, layers = arch.partition(":")
        config.maskrcnn_config.arch, config.maskrcnn_config.nlayers = name, int(layers)
        config.maskrcnn_config.convention = "tao"
    experiment = build_experiment(config, kind)
    side = args.canvas
    experiment = dataclasses.replace(
        experiment,
        geometry=dataclasses.replace(experiment.geometry, height=side, width=side),
        eval_source=None,
    )
    variables = experiment.task.init(jax.random.key(0))
    header = make_header(experiment, "tao", BATCHES[batch])
    built = build(experiment, variables, header)
    images = check_images(experiment, header)[0][:2]
    problems: tuple[str, ...] | None = None
    if args.parity:
        portable = dataclasses.replace(
            built, model=to_portable(built.model), showing=to_portable(built.showing)
        )
        reference = reference_predictor(experiment, variables)
        checked = check_built(portable, experiment, variables, header, images, reference)
        problems = tuple(problem.text for problem in checked.problems)
    for precision in args.precision:
        graph = to_portable(lowered(built.model, precision, preprocess(images, header)))
        row = {"kind": kind, "arch": arch, "batch": batch, "precision": precision}
        if precision == "fp32":
            row["problems"] = problems
        yield {**row, **built_apart(graph, args.rtx)}


def lowered(model: onnx.ModelProto, precision: str, images: np.ndarray) -> onnx.ModelProto:
    """Returns the graph in a precision; int8 with float16 around, as `converter` builds it."""
    if precision == "int8":
        return to_fp16(insert_qdq(model, scales_of(observe(model, [images[:1]]), "max")))
    return to_fp16(model) if precision == "fp16" else model


def built_apart(model: onnx.ModelProto, targets: str) -> dict[str, Any]:
    """Builds an engine in a process of its own; returns seconds, megabytes, or the error."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        command = [sys.executable, "-m", "benchmarks.engines", "--build", path, "--rtx", targets]
        run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if run.returncode:
        return {"error": run.stderr.strip().splitlines()[-1] if run.stderr else run.returncode}
    return json.loads(run.stdout.splitlines()[-1])


def build_one(path: Path, targets: tuple[str, ...]) -> int:
    """Builds one file and prints what it took as JSON."""
    trt = tensorrt_rtx.library("building")
    settings = RtxSettings(targets=targets, batches=(1, 1, 4))
    start = time.perf_counter()
    plan = tensorrt_rtx.build(trt, path.read_bytes(), settings, SILENT)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    took = {"seconds": time.perf_counter() - start, "bytes": len(plan), "memory": peak}
    print(json.dumps(took))
    return 0


def _line(row: dict[str, Any]) -> str:
    name = f"{row['kind']} {row['arch']}"
    head = f"{name:<30} {row['precision']:<5} {row['batch']:<6}"
    if row.get("error"):
        return f"{head} refused: {row['error']}"
    problems = row.get("problems")
    parity = "" if problems is None else "; ".join(problems) or "with JAX"
    return (
        f"{head} {row['seconds']:>6.1f} s {row['bytes'] / 1e6:>6.1f} MB {row['memory'] / 1e6:>6.0f} MB"
        f"  {parity}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--arch", nargs="*", default=[], choices=list(BACKBONES))
    parser.add_argument("--kind", nargs="+", default=list(SPECS), choices=list(SPECS))
    parser.add_argument("--precision", nargs="+", default=list(PRECISIONS), choices=PRECISIONS)
    parser.add_argument("--batch", nargs="+", default=list(BATCHES), choices=list(BATCHES))
    parser.add_argument("--rtx", default="sm80,sm86,sm89,sm120", metavar="GENERATIONS")
    parser.add_argument("--canvas", type=int, default=320, metavar="PIXELS", help="side")
    parser.add_argument("--parity", action="store_true", help="also check fp32 against JAX")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
