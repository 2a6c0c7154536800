"""One model, every runtime: how far the detections of each are from JAX, as one Markdown table.

    python -m benchmarks.runtimes [--out FILE.md] [--count 8] [--runtimes onnxruntime wasm ...]
                                  [--precisions fp32 fp16]
                                  [--models best.tlt ... --images FOLDER]
                                  [--network resnet:18] [--canvas 256x320] [--factor 1]

Without `--models`: both detectors, made-up scenes one at a time, and random weights that behave like
trained ones (`benchmarks.plausible_weights`): scores and boxes are spread. With it: trained models, the
images of a folder, and all detections that the spec inside each asks for.

The ordinary and the portable graph, in every precision, beside JAX in float32. One tolerance for all: an
edge by 0.05 pixels, a score by 0.001, every detection with a partner of its class. int8 has no rows: its
kernels round on different sides, and what that costs is a matter of average precision (`rcnn-jax
benchmark`).

`wasm` is onnxruntime-web's WebAssembly under Node. What is not on this machine says why. TensorRT for RTX
builds ahead of time without a card: its row says that it builds, which is not that it runs.
Returns 1 where a runtime disagrees.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import onnx

from benchmarks import node_side
from benchmarks.plausible_weights import settled
from benchmarks.tables.parity import Row, detector
from rcnn_jax.benchmark.runners import absent as absent_runtime
from rcnn_jax.checkpoints.atomic import write_file
from rcnn_jax.data.formats.image_folder import find_images
from rcnn_jax.data.loader import images as image_files
from rcnn_jax.data.synthetic import generate
from rcnn_jax.errors import RcnnError
from rcnn_jax.export.contracts import make_header, outputs_of
from rcnn_jax.export.conversion import Precision
from rcnn_jax.export.lowering.dense import NCHW
from rcnn_jax.export.lowering.jaxpr_onnx import trace
from rcnn_jax.export.lowering.portable import to_portable
from rcnn_jax.export.precision.fp16 import to_fp16
from rcnn_jax.export.verification.parity import Parity, Tolerance, compare_detections
from rcnn_jax.reporter import SILENT
from rcnn_jax.runtime import tensorrt_rtx
from rcnn_jax.runtime.backend import predictor_of, preprocess
from rcnn_jax.runtime.bundle import open_bundle
from rcnn_jax.runtime.header import Header
from rcnn_jax.runtime.outputs import check_outputs, read_outputs
from rcnn_jax.runtime.runtimes import RuntimeName, graph_runner
from rcnn_jax.runtime.tensorrt_rtx import RtxSettings, targets_of
from rcnn_jax.structures import Detections
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.tasks.families import family
from rcnn_jax.tasks.task import Variables

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16")
TARGETS = "sm80,sm86,sm89,sm120"
ONE_TOLERANCE = Tolerance(box=0.05, score=1e-3, mask=2e-2, unmatched=0.0)
HEAD = (
    "| Runtime | Graph | Precision | Detector | Detections | Box (px) | Score | Mask "
    "| Agrees with JAX |\n"
    "|---|---|---|---|---:|---:|---:|---:|---|"
)
Run = Callable[[bytes, Header, Sequence[np.ndarray]], list[Detections]]
"""(graph, its header, images u8[1 h w c]) -> the detections of each."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A detector and what JAX sees.

    Attributes:
      graphs: by precision and form, with plain outputs and a free batch.
      header: of the graphs.
      images: u8[1 h w c] each.
      wanted: the detections of JAX in each.
    """

    graphs: Mapping[tuple[Precision, str], onnx.ModelProto]
    header: Header
    images: Sequence[np.ndarray]
    wanted: Sequence[Detections]


@dataclass(frozen=True, kw_only=True)
class Side:
    """A runtime of the table.

    Attributes:
      title: of its rows.
      run: runs a graph over images; None for one that only builds.
      absent: returns why it is not on this machine; "" where it is.
    """

    title: str
    run: Run | None
    absent: Callable[[], str]


def _in(runtime: RuntimeName) -> Run:
    def run(model: bytes, header: Header, images: Sequence[np.ndarray]) -> list[Detections]:
        predict = predictor_of(graph_runner(model, "graph", runtime), header, 1, header.batch)
        return [predict(image)[0] for image in images]

    return run


def in_wasm(model: bytes, header: Header, images: Sequence[np.ndarray]) -> list[Detections]:
    """Runs a graph in onnxruntime-web under Node, all images asked for at once."""
    batches = [preprocess(image, header) for image in images]
    outputs = node_side.run_in_node(model, batches, parallel=True)
    for one in outputs:
        check_outputs(one, 1, header, "wasm")
    return [read_outputs(one, header) for one in outputs]


def _absent_builder() -> str:
    try:
        tensorrt_rtx.library("TensorRT for RTX")
    except RcnnError as error:
        return str(error)
    return ""


SIDES: dict[str, Side] = {
    "onnxruntime": Side(title="ONNX Runtime", run=_in("onnxruntime"), absent=lambda: ""),
    "openvino": Side(
        title="OpenVINO", run=_in("openvino"), absent=lambda: absent_runtime("openvino")
    ),
    "wasm": Side(title="onnxruntime-web, wasm in Node", run=in_wasm, absent=node_side.absent),
    "webgpu": Side(
        title="ONNX Runtime, WebGPU plugin",
        run=_in("webgpu"),
        absent=lambda: absent_runtime("webgpu"),
    ),
    "trt-rtx": Side(
        title="ONNX Runtime, TensorRT for RTX plugin",
        run=_in("trt-rtx"),
        absent=lambda: absent_runtime("trt-rtx"),
    ),
    "rtx": Side(title="TensorRT for RTX, built ahead of time", run=None, absent=_absent_builder),
}


def main(arguments: list[str] | None = None) -> int:
    parser = _parser()
    args = parser.parse_args(arguments)
    if bool(args.models) != bool(args.images):
        parser.error("--models and --images go together")
    lines, bad = [HEAD], 0
    print(HEAD, flush=True)
    for case in cases(args):
        for name in args.runtimes:
            for line, agrees in rows(SIDES[name], case):
                print(line, flush=True)
                lines.append(line)
                bad += not agrees
        jax.clear_caches()
    if args.out:
        write_file(args.out, ["\n".join([*lines, ""]).encode()])
    return 1 if bad else 0


def cases(args: argparse.Namespace) -> Iterator[Case]:
    """Yields the detectors that the command line names."""
    if args.models:
        for path in args.models:
            yield trained(path, args.images, args.count, args.precisions)
        return
    for network in (args.network, f"mask {args.network}"):
        experiment = detector(Row(network=network, canvas=args.canvas, classes=3), args.factor)
        images = scenes(args.count, args.canvas, experiment.task.pixels.channel_order)
        variables, wanted = reference(experiment, images)
        graph, header = traced(experiment, variables)
        graphs = variants(graph, args.precisions)
        yield Case(graphs=graphs, header=header, images=images, wanted=wanted)


def trained(path: Path, folder: Path, count: int, precisions: Sequence[Precision]) -> Case:
    """Returns a trained model and what JAX sees in the first images of a folder.

    Args:
      path: a bundle, `.tlt`, with its spec inside.
      folder: of images.
      count: how many of them.
      precisions: of the graphs.

    Raises:
      RcnnError: the model or an image cannot be used.
    """
    bundle = open_bundle(path, None)
    experiment, variables = bundle.load(bundle.stored_experiment())
    order = experiment.task.pixels.channel_order
    images = []
    for each in find_images(folder, what="--images").paths[:count]:
        image = image_files.read_image(each, order)
        placed = image_files.fit(image.shape[:2], experiment.geometry.on_one_canvas())
        images.append(image_files.apply_image(image, placed)[None])
    predict = jax.jit(lambda v, x: experiment.task.predict(v, x, experiment.inference)[0])
    wanted = [jax.tree.map(np.asarray, predict(variables, image)) for image in images]
    graph, header = traced(experiment, variables)
    graphs = variants(graph, precisions)
    return Case(graphs=graphs, header=header, images=images, wanted=wanted)


def variants(
    graph: onnx.ModelProto, precisions: Sequence[Precision]
) -> dict[tuple[Precision, str], onnx.ModelProto]:
    """Returns an ordinary fp32 graph in each precision, in both forms."""
    graphs = {}
    for precision in precisions:
        lowered = graph if precision == "fp32" else to_fp16(graph)
        # Last, as in the export: the portable form is one of a finished graph.
        graphs |= {(precision, "ordinary"): lowered, (precision, "portable"): to_portable(lowered)}
    return graphs


def scenes(count: int, canvas: tuple[int, int], order: str) -> list[np.ndarray]:
    """Returns made-up scenes, u8[1 h w 3] each, and a black canvas, which is mostly empty."""
    images = [example.image for example in generate(5, count - 1, *canvas)]
    images.append(np.zeros((*canvas, 3), np.uint8))
    return [
        np.ascontiguousarray(each[..., ::-1] if order == "bgr" else each)[None] for each in images
    ]


def reference(
    experiment: Experiment, images: Sequence[np.ndarray]
) -> tuple[Variables, list[Detections]]:
    """Returns variables that behave like trained ones, and the detections of JAX in every image."""
    task, test = experiment.task, experiment.inference
    predict = jax.jit(lambda v, x: task.predict(v, x, test)[0])

    def scores(variables: Variables) -> np.ndarray:
        detections = predict(variables, some)
        return np.where(detections.valid, detections.scores, 0.0)

    some = np.concatenate([images[0], images[1], images[-1]])
    variables, _ = settled(experiment, some, scores)
    return variables, [jax.tree.map(np.asarray, predict(variables, image)) for image in images]


def traced(experiment: Experiment, variables: Variables) -> tuple[onnx.ModelProto, Header]:
    """Returns the FP32 graph of an experiment with plain outputs and a free batch, and its header."""
    header = make_header(experiment, "plain", None)
    shape = (None, *header.canvas, experiment.task.pixels.channels)
    function = outputs_of(experiment, variables, "plain")
    graph = trace(function, family(experiment.kind).input_name, shape, NCHW)
    return graph.to_model("detector", header.to_metadata()), header


def rows(side: Side, case: Case) -> Iterator[tuple[str, bool]]:
    """Yields the rows of a runtime as Markdown, each with whether it is as it should be."""
    kind = {"faster_rcnn": "Faster R-CNN", "mask_rcnn": "Mask R-CNN"}[case.header.kind]
    reason = side.absent()
    if reason:
        yield (
            f"| {side.title} | - | - | {kind} | - | - | - | - | not here: {_one_line(reason)} |",
            True,
        )
        return
    for (precision, form), graph in case.graphs.items():
        first = f"| {side.title} | {form} | {precision} | {kind} |"
        if side.run is None:
            if form == "portable":
                yield f"{first} - | - | - | - | {_built(graph, precision)} |", True
            continue
        results = side.run(graph.SerializeToString(), case.header, case.images)
        parity = worst(case.wanted, results)
        agrees = parity.within(ONE_TOLERANCE)
        mask = f"{parity.mask:.1e}" if case.header.kind == "mask_rcnn" else "-"
        word = "yes" if agrees else f"NO, {parity.unmatched} without a partner"
        numbers = f"{parity.detections} | {parity.box:.1e} | {parity.score:.1e} | {mask}"
        yield f"{first} {numbers} | {word} |", agrees


def worst(wanted: Sequence[Detections], results: Sequence[Detections]) -> Parity:
    """Returns the largest differences over all images."""
    every = [compare_detections(a, b) for a, b in zip(wanted, results, strict=True)]
    return Parity(
        images=len(every),
        detections=sum(one.detections for one in every),
        unmatched=sum(one.unmatched for one in every),
        box=max(one.box for one in every),
        score=max(one.score for one in every),
        mask=max(one.mask for one in every),
    )


def _built(graph: onnx.ModelProto, precision: Precision) -> str:
    """Returns what the builder of TensorRT for RTX makes of a portable graph."""
    trt = tensorrt_rtx.library("TensorRT for RTX")
    settings = RtxSettings(targets=targets_of(TARGETS), batches=(1, 1, 4), precision=precision)
    begin = time.perf_counter()
    plan = tensorrt_rtx.build(trt, graph.SerializeToString(), settings, SILENT)
    seconds = time.perf_counter() - begin
    return f"builds for {TARGETS}: {seconds:.0f} s, {len(plan) / 1e6:.0f} MB; not run on a card"


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _canvas(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    return int(height), int(width)


def _parser() -> argparse.ArgumentParser:
    description: Any = __doc__
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--out", type=Path, metavar="FILE.md", help="also write the table")
    parser.add_argument("--models", type=Path, nargs="*", metavar="FILE.tlt", help="trained ones")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="for --models")
    parser.add_argument("--count", type=int, default=8, help="images, at least 3 (8)")
    parser.add_argument("--precisions", nargs="*", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--network", default="resnet:18", help="backbone (resnet:18)")
    parser.add_argument("--canvas", type=_canvas, default=(256, 320), help="HEIGHTxWIDTH")
    parser.add_argument("--factor", type=float, default=1.0, help="of all widths")
    parser.add_argument("--runtimes", nargs="*", choices=SIDES, default=list(SIDES))
    return parser


if __name__ == "__main__":
    sys.exit(main())
