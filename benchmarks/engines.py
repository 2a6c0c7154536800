"""Every backbone through the builder of TensorRT for RTX, on this machine's CPU: one table.

    python -m benchmarks.engines --out FOLDER [--only PATTERN ...] [--limit N] [--retry]
                                 [--rtx sm80,sm86,sm89,sm120] [--canvas 128x192]
    python -m benchmarks.engines --out FOLDER --table       Markdown of what is there

All 22 backbones of Faster R-CNN and Mask R-CNN on five ResNets, each as two graphs: `free` has the
outputs of the original and any batch (engines take 1 to 4 images), `fixed` has plain outputs and one
image. Each of them in fp32, fp16 and int8 with float16 around, as `converter` builds it.

A case is one JSON file in FOLDER. What is there is not done again, so a killed run goes on where it was;
a case that failed holds its reason and is tried again with --retry. The builder runs in a process of its
own, whose largest resident memory is the column of memory, and whose crash is a row too.

Weights are random ones that behave like trained ones (`benchmarks.plausible_weights`), the images a
made-up scene and its mirror image, of which the scales of int8 are too. Detections of the portable graph
in ONNX Runtime are compared with those of the ordinary graph of the same precision, on the scene alone
where that is not fp32, and in fp32 with the model in JAX.

A built engine has not run on a card.
"""

import argparse
import dataclasses
import fnmatch
import functools
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import onnx

from benchmarks.plausible_weights import plausible
from benchmarks.tables.parity import faster_rcnn, pictures
from rcnn_jax.checkpoints.atomic import write_file
from rcnn_jax.errors import RcnnError
from rcnn_jax.export.build import build
from rcnn_jax.export.comparison import reference_predictor
from rcnn_jax.export.contracts import make_header
from rcnn_jax.export.lowering.portable import to_portable
from rcnn_jax.export.precision.calibration import observe, scales_of
from rcnn_jax.export.precision.fp16 import to_fp16
from rcnn_jax.export.precision.quantize import insert_qdq
from rcnn_jax.export.verification.check import check_model
from rcnn_jax.export.verification.parity import FP32, Tolerance, compare_detections
from rcnn_jax.kinds import Kind
from rcnn_jax.models.backbones import BACKBONES
from rcnn_jax.runtime import tensorrt_rtx
from rcnn_jax.runtime.backend import Predictor, preprocess
from rcnn_jax.runtime.header import Header
from rcnn_jax.runtime.onnx_file import read_header
from rcnn_jax.runtime.onnx_runtime import open_session, predictor
from rcnn_jax.runtime.tensorrt_rtx import targets_of
from rcnn_jax.spec.load import load_spec
from rcnn_jax.structures import Detections
from rcnn_jax.tasks.build import build_experiment
from rcnn_jax.tasks.experiment import Experiment

ROOT = Path(__file__).parents[1]
MASK = ROOT / "benchmarks" / "specs" / "mask_resnet50.txt"
MASK_DEPTHS = (10, 18, 34, 50, 101)
CLASSES = 3
GRAPHS = ("free", "fixed")
PRECISIONS = ("fp16", "fp32", "int8")
"""In the order they are worked on: fp16 is what an engine is built for."""
LARGEST = 4  # images of an engine with a free batch
# A crop that differs in its last bit may round to the next number of float16 or int8, and suppression
# then keeps the other of two near boxes: 3 of 300 for ResNet-10 in fp16, with one number of threads.
LOWERED = Tolerance(box=0.5, score=2e-2, mask=5e-2, unmatched=0.05)
"""Between the portable and the ordinary graph of a lower precision."""
SECONDS = 1800
"""After which a build counts as failed."""
# Kernels are chosen by channels and counts, which are those of a large canvas. Two different sides,
# so that a graph that swaps them is found.
CANVAS = "128x192"


@dataclass(frozen=True)
class Case:
    """One engine of the table.

    Attributes:
      kind: which detector.
      arch: backbone, key of `BACKBONES`.
      graph: of `GRAPHS`.
      precision: of `PRECISIONS`.
    """

    kind: Kind
    arch: str
    graph: str
    precision: str

    @property
    def name(self) -> str:
        """Stem of its file, and what --only is compared with."""
        return f"{self.kind}-{self.arch.replace(':', '_')}-{self.graph}-{self.precision}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Works on the cases, or prints their table; returns 1 where one has failed."""
    args = _parser().parse_args(arguments)
    if args.table:
        print(table(args.out))
        return 0
    tensorrt_rtx.library("the table of engines")
    targets_of(args.rtx)
    # A backbone comes six times, and its programs are the same each time.
    jax.config.update("jax_compilation_cache_dir", str((args.out / "compiled").absolute()))
    settings = {"targets": args.rtx, "canvas": args.canvas}
    wanted = [case for case in cases() if _is_wanted(case, args.only)]
    pending = [c for c in wanted if not is_done(read(args.out, c), settings, args.retry)]
    print(f"{len(wanted)} cases, {len(pending)} to do", flush=True)
    for case in pending[: args.limit]:
        row = {**dataclasses.asdict(case), **settings, **run_case(case, args)}
        content = json.dumps(row, indent=2) + "\n"
        write_file(args.out / f"{case.name}.json", [content.encode()])
        print(line(row), flush=True)
    rows = [row for case in wanted if (row := read(args.out, case))]
    failed = [row for row in rows if has_failed(row)]
    print(f"{len(rows)} of {len(wanted)} cases done, {len(failed)} of them failed")
    return 1 if failed else 0


def cases() -> list[Case]:
    """Returns all cases in the order they are worked on: one graph of everything first.

    Precisions of a network come one after the other, since they are made of the same graph.
    """
    networks: list[tuple[Kind, str]] = [
        *(("faster_rcnn", arch) for arch in BACKBONES),
        *(("mask_rcnn", f"resnet:{depth}") for depth in MASK_DEPTHS),
    ]
    return [
        Case(kind, arch, graph, precision)
        for graph in GRAPHS
        for kind, arch in networks
        for precision in PRECISIONS
    ]


def is_done(row: dict[str, Any] | None, settings: dict[str, str], retry: bool) -> bool:
    """Returns whether a row need not be made: it is there, of these settings, and good enough."""
    if row is None or any(row.get(name) != value for name, value in settings.items()):
        return False
    return not (retry and has_failed(row))


def has_failed(row: dict[str, Any]) -> bool:
    """Returns whether a row has no engine, or detections that differ."""
    return "error" in row or bool(row.get("problems"))


def read(folder: Path, case: Case) -> dict[str, Any] | None:
    """Returns the row of a case, None where there is none."""
    path = folder / f"{case.name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def run_case(case: Case, args: argparse.Namespace) -> dict[str, Any]:
    """Returns what became of a case: differences, seconds, bytes, memory; or the error."""
    start = time.perf_counter()
    row: dict[str, Any] = {}
    try:
        height, _, width = args.canvas.partition("x")
        graph, differences = portable(case, (int(height), int(width)))
        row |= differences
    # A fault of the exporter is what the table is for: it is a row, and the next case goes on.
    except Exception as error:
        return {"error": f"export: {_message(error)}"}
    row["prepared_seconds"] = time.perf_counter() - start
    return row | built_apart(graph, args.rtx, LARGEST if case.graph == "free" else 1)


def portable(case: Case, canvas: tuple[int, int]) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Returns the portable graph of a case, and how far it is from the ordinary one and from JAX."""
    network = exported(case.kind, case.arch, case.graph, canvas)
    header, scenes = network.header, network.scenes
    ordinary = lowered(network.model, case.precision, preprocess(scenes, header))
    if case.precision != "fp32":
        # Float16 is slow on a CPU, and that a batch comes out as its images do is seen in fp32.
        scenes = scenes[:1]
    graph = to_portable(ordinary)
    forms = read_header(graph, case.name).portable or {}
    row: dict[str, Any] = {
        "forms": sorted(set(forms.values())),
        "problems": [problem.text for problem in check_model(graph).problems],
    }
    ours = detections(graph, header, scenes)
    same = compare_detections(detections(ordinary, header, scenes), ours)
    row["ordinary"] = dataclasses.asdict(same)
    if not same.within(FP32 if case.precision == "fp32" else LOWERED):
        row["problems"].append(f"differs from the ordinary graph: {same}")
    # The dense stages are those of the ordinary graph, which every export compares; what a portable
    # graph has of its own shows in its detections.
    if case.precision == "fp32":
        parity = compare_detections(network.reference(scenes)[0], ours)
        row["jax"] = dataclasses.asdict(parity)
        if not parity.within(FP32):
            row["problems"].append(f"differs from JAX: {parity}")
    return graph, row


@dataclass(frozen=True)
class Network:
    """The ordinary graph of a network with weights, in fp32.

    Attributes:
      scenes: images that the detections are compared on.
      reference: the model in JAX, compiled when it is first asked.
      header: of the graph.
      model: the graph.
    """

    scenes: np.ndarray
    reference: Predictor
    header: Header
    model: onnx.ModelProto


# Half of the time of a case, and the same for its three precisions.
@functools.lru_cache(maxsize=1)
def exported(kind: Kind, arch: str, graph: str, canvas: tuple[int, int]) -> Network:
    """Returns a network and its graph; the last one is kept."""
    # Programs of one backbone are of no use to the next, and hold its memory; sessions in cycles do too:
    # 13 GB after twelve networks, with hardly an object that would make Python look for cycles.
    jax.clear_caches()
    gc.collect()
    experiment = detector(kind, arch, canvas)
    scenes = pictures(None, canvas, experiment.task.pixels.channel_order, index=0)
    variables = plausible(experiment, scenes)
    # A black canvas that is not empty is full of equal windows, of which the last bit chooses: 18 of
    # 300 detections of ResNet-10. To empty it takes up to 24 predictions.
    scenes = scenes[:-1]
    contract, batch = ("plain", 1) if graph == "fixed" else ("tao", None)
    header = make_header(experiment, contract, batch)
    model = build(experiment, variables, header).model
    return Network(scenes, reference_predictor(experiment, variables), header, model)


def detector(kind: Kind, arch: str, canvas: tuple[int, int]) -> Experiment:
    """Returns the experiment of a network as published, with the counts of its spec."""
    if kind == "faster_rcnn":
        return _alone(faster_rcnn(arch, canvas, CLASSES))
    config: Any = load_spec(MASK).config
    config.maskrcnn_config.nlayers = int(arch.partition(":")[2])
    config.maskrcnn_config.convention = "tao"
    config.data_config.image_size = canvas
    config.data_config.num_classes = CLASSES + 1
    return _alone(build_experiment(config, "mask_rcnn"))


def _alone(experiment: Experiment) -> Experiment:
    """Returns the experiment without the device axis, which exists in a training step alone."""
    task: Any = experiment.task
    model = task.model.clone(bn_axis_name=None)
    return dataclasses.replace(experiment, task=dataclasses.replace(task, model=model))


def lowered(model: onnx.ModelProto, precision: str, images: np.ndarray) -> onnx.ModelProto:
    """Returns the graph in a precision; int8 with float16 around, as `converter` builds it."""
    if precision == "int8":
        batches = [images[index : index + 1] for index in range(len(images))]
        return to_fp16(insert_qdq(model, scales_of(observe(model, batches), "max")))
    return to_fp16(model) if precision == "fp16" else model


def detections(model: onnx.ModelProto, header: Header, images: np.ndarray) -> Detections:
    """Returns the detections of a graph in ONNX Runtime."""
    session = open_session(model.SerializeToString(), "the exported graph")
    return predictor(session, header)(images)[0]


def built_apart(model: onnx.ModelProto, targets: str, largest: int) -> dict[str, Any]:
    """Builds an engine in a process of its own; returns seconds, bytes, memory, or the error."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        command = [sys.executable, "-m", "benchmarks.engine_build", path, targets, str(largest)]
        try:
            run = subprocess.run(
                command, capture_output=True, text=True, cwd=ROOT, timeout=SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            return {"error": f"build: not done after {SECONDS} s"}
    if run.returncode:
        # A builder that crashes says nothing: then the signal is what is known.
        last = run.stderr.strip().splitlines()[-1:] or [f"exit status {run.returncode}"]
        return {"error": f"build: {last[0]}"}
    return json.loads(run.stdout.splitlines()[-1])


def line(row: dict[str, Any]) -> str:
    """Returns a case as a line of text."""
    head = f"{row['kind']:<12} {row['arch']:<16} {row['graph']:<6} {row['precision']:<5}"
    problems = "".join(f"; {text}" for text in row.get("problems", ()))
    if "error" in row:
        return f"{head} FAILED {row['error']}{problems}"
    return f"{head} {_cost(row)}, prepared in {row['prepared_seconds']:.0f} s{problems}"


def table(folder: Path) -> str:
    """Returns the rows of a folder as Markdown: a line for each graph, a column for each precision."""
    rows = {case: row for case in cases() if (row := read(folder, case))}
    lines = [
        "| network | graph | fp32 | fp16 | int8 | from JAX (px, score) | from ordinary (px, score) |",
        "|---|---|---|---|---|---|---|",
    ]
    for case in [case for case in cases() if case.precision == PRECISIONS[0]]:
        by_precision = {
            precision: rows.get(dataclasses.replace(case, precision=precision))
            for precision in ("fp32", "fp16", "int8")
        }
        if not any(by_precision.values()):
            continue
        masks = "Mask R-CNN " if case.kind == "mask_rcnn" else ""
        cells = [_cell(row) for row in by_precision.values()]
        single = by_precision["fp32"] or {}
        present = [row["ordinary"] for row in by_precision.values() if row and "ordinary" in row]
        lines.append(
            f"| {masks}`{case.arch}` | {case.graph} | {' | '.join(cells)} | "
            f"{_difference([single['jax']] if single.get('jax') else [])} | {_difference(present)} |"
        )
    return "\n".join(lines)


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "-"
    if "error" in row:
        return "failed: " + row["error"].replace("|", "/")
    return _cost(row)


def _cost(row: dict[str, Any]) -> str:
    return f"{row['seconds']:.0f} s, {row['bytes'] / 1e6:.0f} MB, {row['memory'] / 1e9:.1f} GB"


def _difference(parities: Sequence[dict[str, Any]]) -> str:
    """Returns the largest differences of boxes and scores; what has no partner is named."""
    if not parities:
        return "-"
    box, score = (max(one[name] for one in parities) for name in ("box", "score"))
    alone = sum(one["unmatched"] for one in parities)
    text = f"{box:.0e}, {score:.0e}"
    total = sum(one["detections"] for one in parities)
    return text + (f"; {alone} of {total} without a partner" if alone else "")


def _message(error: Exception) -> str:
    """Returns an error on one line; its class where it is none of ours."""
    text = " ".join(str(error).split())
    return text if isinstance(error, RcnnError) else f"{type(error).__name__}: {text}"


def _is_wanted(case: Case, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatch.fnmatch(case.name, pattern) for pattern in patterns)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("out/engines"), metavar="FOLDER")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="PATTERN", help="such as '*-resnet_18-*-fp16'"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="do N cases and stop")
    parser.add_argument("--retry", action="store_true", help="do failed cases again")
    parser.add_argument("--table", action="store_true", help="print Markdown of what is there")
    parser.add_argument("--rtx", default="sm80,sm86,sm89,sm120", metavar="GENERATIONS")
    parser.add_argument("--canvas", default=CANVAS, metavar="HEIGHTxWIDTH")
    return parser


if __name__ == "__main__":
    sys.exit(main())
