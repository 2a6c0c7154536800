"""Costs of a portable graph on a CPU, next to the ordinary one: processor time and file size.

    python -m benchmarks.portable [--size quick] [--forms loop,grid] [--rounds 5] [--json FILE]
    python -m benchmarks.portable --crops         RoiAlign alone, in its forms

ONNX Runtime's own kernels on one thread; the graphs take turns, and the least of the rounds counts.
Weights are random: suppression takes as long as on trained ones in `select`, and as the longest chain
in `loop`.
"""

import argparse
import functools
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from benchmarks.detectors import PREDICTED, detectors, prepare
from benchmarks.export import exported
from benchmarks.options import SIZES, Options
from rcnn_jax.export.lowering.portable import forms_of, to_portable
from rcnn_jax.export.lowering.portable_nodes import Nodes
from rcnn_jax.export.lowering.portable_roi_align import FORMS, Crops, align

AIM = 1.25
"""Largest processor time of the portable graph over that of the ordinary one."""
CROPS = (
    (256, 24, 78, 300, 7),
    (1024, 20, 20, 300, 7),
    (256, 180, 82, 1000, 7),
    (256, 180, 82, 100, 14),
)
"""(channels, height, width, rois, side): Faster R-CNN R18 and R50, the pyramid's boxes and masks."""


def main() -> int:
    args = _parser().parse_args()
    rows = crops(args.rounds) if args.crops else graphs(args.size, args.forms, args.rounds)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")
    return 0


def graphs(size: Any, names: str | None, rounds: int) -> list[dict[str, Any]]:
    """Prints and returns a row for every detector of a size."""
    options, forms = Options(size=size), forms_of(names.split(",")) if names else None
    rows = []
    print(f"{'detector':<40} {'operators':>13} {'portable':>13} {'ratio':>7} {'difference':>11}")
    for detector in detectors(options, PREDICTED):
        if detector.batch != 1:
            continue
        subject = prepare(detector, options)
        content, header = exported(subject, subject.experiment.task.init(jax.random.key(0)))
        portable = to_portable(onnx.ModelProto.FromString(content), forms).SerializeToString()
        sessions = {"ordinary": session(content), "portable": session(portable)}
        (entry,) = sessions["ordinary"].get_inputs()
        shape = (1, len(header.mean), *header.canvas)
        images = np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)
        outputs = {name: each.run(None, {entry.name: images}) for name, each in sessions.items()}
        seconds = least(
            {n: functools.partial(s.run, None, {entry.name: images}) for n, s in sessions.items()},
            rounds,
        )
        boxes, others = outputs["ordinary"][0], outputs["portable"][0]
        row = {
            "detector": subject.name,
            "seconds": seconds,
            "ratio": seconds["portable"] / seconds["ordinary"],
            "difference": float(np.abs(np.asarray(boxes) - np.asarray(others)).max()),
            "bytes": {"ordinary": len(content), "portable": len(portable)},
        }
        rows.append(row)
        times = " ".join(f"{seconds[name] * 1e3:>10.0f} ms" for name in sessions)
        print(
            f"{subject.name:<40} {times} {row['ratio']:>7.3f} {row['difference']:>11.1e}",
            flush=True,
        )
    worst = max(row["ratio"] for row in rows)
    print(f"aim: at most {AIM}, found {worst:.3f}: {'met' if worst <= AIM else 'MISSED'}")
    return rows


def crops(rounds: int) -> list[dict[str, Any]]:
    """Prints and returns milliseconds of RoiAlign and of its forms, for each size of `CROPS`."""
    rows = []
    for channels, height, width, rois, side in CROPS:
        rng = np.random.default_rng(0)
        corners = np.sort(rng.uniform(0, 1, (rois, 2, 2)) * [width, height], axis=1)
        feed = {
            "x": rng.normal(0, 1, (1, channels, height, width)).astype(np.float32),
            "rois": corners.reshape(rois, 4).astype(np.float32),
            "image": np.zeros(rois, np.int64),
        }
        given = Crops(
            feature="x",
            rois="rois",
            image="image",
            shape=(channels, height, width),
            per_image=rois,
            size=side,
            samples=2,
            scale=1.0,
        )
        makers = {"RoiAlign": _operator, **{form: _form(form) for form in FORMS}}
        runs = {}
        for name, make in makers.items():
            nodes = Nodes(name)
            output = make(nodes, given)
            one = session(_model(nodes, output, given).SerializeToString())
            runs[name] = functools.partial(one.run, None, feed)
        seconds = least(runs, rounds)
        rows.append({"crops": [channels, height, width, rois, side], "seconds": seconds})
        shown = ", ".join(f"{name} {value * 1e3:.0f} ms" for name, value in seconds.items())
        print(f"{rois} crops {side}x{side} of {channels}x{height}x{width}: {shown}", flush=True)
    return rows


def session(content: bytes) -> onnxruntime.InferenceSession:
    """Returns a session of one thread: processor time of several depends on how they wait."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def least(runs: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Returns the least processor time of each in turns, in seconds; the first turn is not counted."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            start = time.process_time()
            run()
            times[name].append(time.process_time() - start)
    return {name: min(seconds[1:]) for name, seconds in times.items()}


def _operator(nodes: Nodes, given: Crops) -> str:
    return nodes.add(
        "RoiAlign",
        "x",
        "rois",
        "image",
        coordinate_transformation_mode="half_pixel",
        mode="avg",
        output_height=given.size,
        output_width=given.size,
        sampling_ratio=given.samples,
        spatial_scale=given.scale,
    )


def _form(form: Any) -> Callable[[Nodes, Crops], str]:
    return lambda nodes, given: align(nodes, given, form)


def _model(nodes: Nodes, output: str, given: Crops) -> onnx.ModelProto:
    describe = helper.make_tensor_value_info
    inputs = [
        describe("x", TensorProto.FLOAT, [1, *given.shape]),
        describe("rois", TensorProto.FLOAT, [given.per_image, 4]),
        describe("image", TensorProto.INT64, [given.per_image]),
    ]
    outputs = [describe(output, TensorProto.FLOAT, [None] * 4)]
    graph = helper.make_graph(nodes.nodes, "crops", inputs, outputs, nodes.constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", choices=SIZES, default="quick")
    parser.add_argument("--forms", metavar="FORMS", help="as of export --portable-forms")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--crops", action="store_true", help="RoiAlign alone")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser


if __name__ == "__main__":
    sys.exit(main())
