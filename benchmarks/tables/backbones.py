"""Prints the table of all backbones: size, arithmetic, speed on this CPU, and whether they export.

python -m benchmarks.tables.backbones                     all, on 384 x 1248 pixels
python -m benchmarks.tables.backbones resnet:18 vgg16     some
python -m benchmarks.tables.backbones --height 128 --width 192 --factor 0.125    a quick look

Every row is a whole Faster R-CNN of configs/faster_rcnn/kitti_resnet18.txt with another backbone,
from uint8 image to detections, one image at a time:

- parameters: all that training can change, heads included;
- GFLOP: XLA's cost analysis of the prediction, before any optimisation;
- time: over that of resnet:18, the two taking turns, median of the rounds; once compiled by JAX and
  once exported to ONNX Runtime;
- ONNX: the detector is really exported and run, and taken by onnx.checker and the table of TensorRT's
  operators. How near its detections are to those of JAX is the table of `benchmarks.tables.parity`.

Weights are random ones that behave like trained ones (`benchmarks.plausible_weights`), the image is a
made-up scene.
"""

import argparse
import dataclasses
import sys
import time
from dataclasses import dataclass
from statistics import median
from typing import Any

import jax
import numpy as np

from benchmarks.jax_side import jitted
from benchmarks.measure import Side
from benchmarks.plausible_weights import plausible
from benchmarks.tables.parity import faster_rcnn, pictures
from rcnn_jax.export.contracts import make_header, outputs_of
from rcnn_jax.export.lowering.dense import NCHW
from rcnn_jax.export.lowering.jaxpr_onnx import trace
from rcnn_jax.export.verification.check import check_model
from rcnn_jax.models import BACKBONES, narrowed
from rcnn_jax.runtime.backend import preprocess
from rcnn_jax.runtime.onnx_runtime import open_session
from rcnn_jax.structures import Detections
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.tasks.families import family
from rcnn_jax.tasks.task import Variables

BASE = "resnet:18"
CLASSES = 3
MAX_ROUNDS = 9
HEAD = (
    "| backbone | parameters (M) | GFLOP | time in JAX | time in ONNX Runtime | ONNX export |\n"
    "|---|---:|---:|---:|---:|---|"
)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A detector with one backbone, ready to be measured.

    Attributes:
      parameters: how many can be trained.
      gflop: of one prediction.
      jax: runs the prediction compiled by JAX.
      onnx: runs the exported graph.
      problems: what is wrong with the graph; empty where the export is good.
    """

    parameters: int
    gflop: float
    jax: Side
    onnx: Side | None
    problems: tuple[str, ...]


def detector(arch: str, canvas: tuple[int, int], factor: float = 1.0) -> Experiment:
    """Returns the experiment of configs/faster_rcnn/kitti_resnet18.txt with another backbone.

    Args:
      arch: key of `BACKBONES`.
      canvas: (height, width).
      factor: of all widths; 1 for the published ones.
    """
    experiment = faster_rcnn(arch, canvas, CLASSES)
    task: Any = experiment.task
    # No device axis: prediction runs outside of the mapped step.
    model = task.model.clone(bn_axis_name=None)
    model = model if factor == 1.0 else narrowed(model, factor)
    return dataclasses.replace(experiment, task=dataclasses.replace(task, model=model))


def prepare(experiment: Experiment) -> Subject:
    """Compiles the prediction, and exports it."""
    task, test = experiment.task, experiment.inference
    canvas = (experiment.geometry.height, experiment.geometry.width)
    scenes = pictures(None, canvas, task.pixels.channel_order, index=0)
    variables, images = plausible(experiment, scenes), scenes[:1]

    def predict(variables: Variables, images: jax.Array) -> Detections:
        return task.predict(variables, images, test)[0]

    # Before optimisation, so that the figure belongs to the network and not to a version of XLA.
    cost = jax.jit(predict).lower(variables, images).cost_analysis()
    side = jitted(predict, variables, images)
    onnx, problems = _export(experiment, variables, images)
    return Subject(
        parameters=sum(leaf.size for leaf in jax.tree.leaves(variables["params"])),
        gflop=(cost or {}).get("flops", float("nan")) / 1e9,
        jax=side,
        onnx=onnx,
        problems=problems,
    )


def _export(
    experiment: Experiment, variables: Variables, images: np.ndarray
) -> tuple[Side | None, tuple[str, ...]]:
    """Returns the exported graph and what is wrong with it."""
    header = make_header(experiment, "tao", 1)
    shape = (1, *header.canvas, images.shape[-1])
    function = outputs_of(experiment, variables, header.contract)
    graph = trace(function, family("faster_rcnn").input_name, shape, NCHW)
    model = graph.to_model("detector", header.to_metadata())
    problems = check_model(model).problems
    if problems:
        return None, tuple(problem.text for problem in problems)
    session = open_session(model.SerializeToString(), "the exported graph")
    feed = {session.get_inputs()[0].name: preprocess(images, header)}
    return Side(run=lambda: session.run(None, feed)), ()


def ratio(side: Side, base: Side, seconds: float) -> float:
    """Returns the median over rounds of the time of a side over that of the base.

    The two take turns after a call to warm up; a side that needs longer than `seconds` for a call
    has one round.
    """
    if side is base:
        return 1.0
    for one in (base, side):
        one.wait(one.run())
    ratios, begin = [], time.perf_counter()
    while not ratios or (time.perf_counter() - begin < seconds and len(ratios) < MAX_ROUNDS):
        # In turns, as in `measure.compare`; only the ratio to one base is printed, so rows can be
        # compared.
        ratios.append(_seconds(side) / _seconds(base))
    return median(ratios)


def _seconds(side: Side) -> float:
    begin = time.perf_counter()
    side.wait(side.run())
    return time.perf_counter() - begin


def row(arch: str, subject: Subject, base: Subject, seconds: float) -> str:
    """Returns the line of the table."""
    by_jax = ratio(subject.jax, base.jax, seconds)
    by_onnx = "-"
    if subject.onnx is not None and base.onnx is not None:
        by_onnx = f"{ratio(subject.onnx, base.onnx, seconds):.2f}"
    status = "; ".join(subject.problems) or "yes"
    return (
        f"| `{arch}` | {subject.parameters / 1e6:.1f} | {subject.gflop:.0f} "
        f"| {by_jax:.2f} | {by_onnx} | {status} |"
    )


def main(arguments: list[str] | None = None) -> int:
    """Prints the table row by row; returns 1 where an export is not good."""
    parser = argparse.ArgumentParser(description="The table of all backbones.")
    parser.add_argument("archs", nargs="*", metavar="ARCH", help="all when none is named")
    parser.add_argument("--height", type=int, default=384)
    parser.add_argument("--width", type=int, default=1248)
    parser.add_argument("--factor", type=float, default=1.0, help="of all widths")
    parser.add_argument("--seconds", type=float, default=3.0, help="of rounds per ratio")
    options = parser.parse_args(arguments)
    canvas = (options.height, options.width)
    base = prepare(detector(BASE, canvas, options.factor))
    print(HEAD, flush=True)
    bad = 0
    for arch in options.archs or BACKBONES:
        subject = base if arch == BASE else prepare(detector(arch, canvas, options.factor))
        print(row(arch, subject, base, options.seconds), flush=True)
        bad += bool(subject.problems)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
