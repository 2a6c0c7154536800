"""Prints the table of all backbones: size, arithmetic, speed on this CPU, and whether they export.

python -m tools.backbone_table                     all, on 384 x 1248 pixels
python -m tools.backbone_table resnet:18 vgg16     some
python -m tools.backbone_table --height 128 --width 192 --factor 0.125    a quick look

Every row is a whole Faster R-CNN of configs/faster_rcnn/kitti_resnet18.txt with another backbone,
from uint8 image to detections, one image at a time:

- parameters: all that training can change, heads included;
- GFLOP: XLA's cost analysis of the prediction, before any optimisation;
- time: over that of resnet:18, the two taking turns, median of the rounds; once compiled by JAX and
  once exported to ONNX Runtime;
- ONNX: the detector is really exported, taken by onnx.checker and the table of TensorRT's operators,
  and its detections agree with those of JAX.
"""

import argparse
import dataclasses
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import jax
import numpy as np

from benchmarks.jax_side import jitted
from benchmarks.measure import Side
from rcnn_jax.export.check import Report, check_model
from rcnn_jax.export.contracts import INPUT_NAMES, make_header, outputs_of
from rcnn_jax.export.dense import NCHW
from rcnn_jax.export.jaxpr_onnx import trace
from rcnn_jax.export.parity import FP32, compare_detections
from rcnn_jax.export.predictor import open_session, predictor, preprocess
from rcnn_jax.models import BACKBONES, narrowed
from rcnn_jax.spec import load_spec
from rcnn_jax.structures import Detections
from rcnn_jax.tasks.build import build_experiment
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.tasks.task import Variables

SPEC = Path(__file__).parents[1] / "configs" / "faster_rcnn" / "kitti_resnet18.txt"
BASE = "resnet:18"
MAX_ROUNDS = 9
PREDICTORS = {
    "rpn_out_class": 0.1,
    "rpn_out_regress": 0.05,
    "dense_class_td": 0.03,
    "dense_regress_td": 0.05,
}
"""Share of the usual random weights: no score may be so near to 1 that others are equal to it."""
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
    """Returns the experiment of the spec with another backbone.

    Args:
      arch: key of `BACKBONES`.
      canvas: (height, width).
      factor: of all widths; 1 for the published ones.
    """
    config: Any = load_spec(SPEC).config
    config.model_config.arch = arch
    config.model_config.freeze_blocks = ()
    experiment = build_experiment(config, "faster_rcnn")
    height, width = canvas
    task: Any = experiment.task
    model = task.model.clone(bn_axis_name=None)
    model = model if factor == 1.0 else narrowed(model, factor)
    return dataclasses.replace(
        experiment,
        task=dataclasses.replace(task, model=model),
        geometry=dataclasses.replace(experiment.geometry, height=height, width=width),
    )


def settled_variables(experiment: Experiment) -> Variables:
    """Returns random weights with the batch statistics of what they do to noise.

    Like those of a trained network, activations keep their scale through a hundred layers, and
    scores differ, so that a comparison of detections means something.
    """
    model = experiment.task.model
    options = dataclasses.replace(model.options, freeze_bn=False)
    model = model.clone(options=options)  # so that batch norm looks at the batch
    rng = np.random.default_rng(0)

    def draw(path: Any, leaf: Any) -> np.ndarray:
        name = path[-1].key
        if name != "kernel":
            kind = np.ones if name in ("gamma", "moving_variance") else np.zeros
            return kind(leaf.shape, np.float32)
        scale = (2 / np.prod(leaf.shape[:-1])) ** 0.5
        return rng.standard_normal(leaf.shape, np.float32) * np.float32(scale)

    shapes = jax.eval_shape(experiment.task.init, jax.random.key(0))
    variables: Variables = jax.tree_util.tree_map_with_path(draw, shapes)
    for layer, calm in PREDICTORS.items():
        variables["params"][layer]["kernel"] *= np.float32(calm)
    if "batch_stats" not in variables:
        return variables

    @jax.jit
    def statistics(variables: Variables, noise: jax.Array) -> Any:
        def both(module: Any, noise: jax.Array) -> None:
            features = module.extract(noise, True)[4]
            side = module.crop_size
            repeats = (1, -(-side // features.shape[1]), -(-side // features.shape[2]), 1)
            crops = jax.numpy.tile(features, repeats)[:, None, :side, :side]
            module.classify(crops, True)

        return model.apply(variables, noise, method=both, mutable=["batch_stats"])[1]

    noise = rng.normal(0, 60, (2, 128, 128, experiment.task.pixels.channels)).astype(np.float32)
    # Moving averages that come from 0 and from 1 tell the share they keep, and the batch's own.
    zeros, ones = (
        statistics(
            {**variables, "batch_stats": jax.tree.map(fill, variables["batch_stats"])}, noise
        )["batch_stats"]
        for fill in (np.zeros_like, np.ones_like)
    )
    own = jax.tree.map(lambda a, b: np.asarray(a / (1 - (b - a))), zeros, ones)
    return {**variables, "batch_stats": own}


def prepare(experiment: Experiment) -> Subject:
    """Compiles the prediction, exports it, and compares the two."""
    task, test = experiment.task, experiment.inference
    variables = settled_variables(experiment)
    canvas = (experiment.geometry.height, experiment.geometry.width)
    # Noise in every pixel: on even areas many cells would have the same score.
    noise = np.random.default_rng(1).normal(128, 60, (1, *canvas, task.pixels.channels))
    images = noise.clip(0, 255).astype(np.uint8)

    def predict(variables: Variables, images: jax.Array) -> Detections:
        return task.predict(variables, images, test)[0]

    cost = jax.jit(predict).lower(variables, images).cost_analysis()
    side = jitted(predict, variables, images)
    onnx, problems = _export(experiment, variables, images, side.run())
    return Subject(
        parameters=sum(leaf.size for leaf in jax.tree.leaves(variables["params"])),
        gflop=(cost or {}).get("flops", float("nan")) / 1e9,
        jax=side,
        onnx=onnx,
        problems=problems,
    )


def _export(
    experiment: Experiment, variables: Variables, images: np.ndarray, wanted: Detections
) -> tuple[Side | None, tuple[str, ...]]:
    """Returns the exported graph and what is wrong with it."""
    header = make_header(experiment, "tao", 1)
    shape = (1, *header.canvas, images.shape[-1])
    function = outputs_of(experiment, variables, "tao")
    graph = trace(function, INPUT_NAMES["faster_rcnn"], shape, NCHW)
    model = graph.to_model("detector", header.to_metadata())
    report = Report(images="noise")
    check_model(model, report)
    if report.problems:
        return None, tuple(report.problems)
    session = open_session(model.SerializeToString(), "the exported graph")
    found, _ = predictor(session, header)(images)
    parity = compare_detections(jax.tree.map(np.asarray, wanted), found)
    if not parity.detections or not parity.within(FP32):
        report.problems.append(f"detections differ: {parity}")
    feed = {session.get_inputs()[0].name: preprocess(images, header)}
    return Side(run=lambda: session.run(None, feed)), tuple(report.problems)


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
    status = "; ".join(subject.problems) or "agrees with JAX"
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
