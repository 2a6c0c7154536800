"""Exported graphs in ONNX Runtime against jitted JAX and torchvision, and the time of an export.

All start from uint8 images and end at detections. ONNX Runtime computes on the CPU, whatever the
other two compute on: with its own kernels, and through OpenVINO where its build brings that.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from benchmarks.case import Case, effort
from benchmarks.detectors import (
    PREDICTED,
    Detector,
    Subject,
    detectors,
    notes_of,
    parameters_of,
    prepare,
    random_images,
)
from benchmarks.measure import OURS, Side, compare
from benchmarks.options import Options
from benchmarks.prediction import jax_prediction, torchvision_prediction
from benchmarks.results import Aim, Benchmark
from benchmarks.torchvision_peer import Variant
from rcnn_jax.export.contracts import make_header, outputs_of
from rcnn_jax.export.lowering.dense import NCHW
from rcnn_jax.export.lowering.jaxpr_onnx import trace
from rcnn_jax.export.lowering.passes import drop_unused
from rcnn_jax.runtime.header import Header
from rcnn_jax.runtime.onnx_runtime import (
    REFERENCE,
    Provider,
    open_session,
    predictor,
)
from rcnn_jax.runtime.openvino import fastest_providers
from rcnn_jax.tasks.families import family

GRAPH, OPENVINO = "onnxruntime", "onnxruntime openvino"
PEER = Variant(name="torchvision")
CPU_RATIO = 1.2
"""Aim: time of torchvision over that of ONNX Runtime."""


def cases(options: Options) -> list[Case]:
    """Returns one case per detector of the size; on a GPU those of one image."""
    return [
        _case(detector, options)
        for detector in detectors(options, PREDICTED)
        if detector.batch == 1 or options.spec
    ]


def _case(detector: Detector, options: Options) -> Case:
    return Case(detector.name, lambda: _measure(detector, options))


def _measure(detector: Detector, options: Options) -> Benchmark:
    # Exported graphs are float32 until a lower precision is asked for.
    single = dataclasses.replace(detector, bf16=False), dataclasses.replace(options, bf16=False)
    subject = prepare(*single)  # what the graph computes in
    variables = subject.experiment.task.init(jax.random.key(0))
    start = time.perf_counter()
    content, header = exported(subject, variables)
    seconds = time.perf_counter() - start
    makers: dict[str, Callable[[], Side]] = {
        OURS: lambda: jax_prediction(subject, variables),
        GRAPH: lambda: _graph(subject, content, header, REFERENCE),
    }
    if fastest_providers() != REFERENCE:
        makers[OPENVINO] = lambda: _graph(subject, content, header, fastest_providers())
    if options.peers:
        makers[PEER.name] = lambda: torchvision_prediction(subject, PEER)
    sides, notes = compare(makers, effort(options))
    with_peer = any(side.name == PEER.name for side in sides)
    one = Benchmark(
        name=f"export {subject.name}",
        parameters={
            **parameters_of(subject, variables["params"]),
            "export": f"{seconds:.1f} s",
            "file": f"{len(content) / 1e6:.1f} MB",
        },
        sides=sides,
        images=subject.batch,
        notes=(*notes, *(notes_of(subject) if with_peer else ())),
    )
    return dataclasses.replace(one, aims=_aims(one, subject))


def exported(subject: Subject, variables: Any) -> tuple[bytes, Header]:
    """Returns the ONNX file with the plain outputs, and its header; the self-check is left out."""
    experiment = subject.experiment
    # Plain outputs: JAX and torchvision end at boxes and scores too, not at rows of a parser.
    header = make_header(experiment, "plain", subject.batch)
    shape = (subject.batch, *subject.canvas, experiment.task.pixels.channels)
    function = outputs_of(experiment, variables, "plain")
    graph = trace(function, family(experiment.kind).input_name, shape, NCHW)
    drop_unused(graph)
    model = graph.to_model("detector", header.to_metadata())
    return model.SerializeToString(), header


def _graph(subject: Subject, content: bytes, header: Header, providers: Sequence[Provider]) -> Side:
    run = predictor(open_session(content, GRAPH, providers), header)
    images = random_images(subject)
    return Side(run=lambda: run(images))


def _aims(one: Benchmark, subject: Subject) -> tuple[Aim, ...]:
    times = {side.name: side for side in one.sides}
    if subject.experiment.kind != "mask_rcnn" or not {GRAPH, PEER.name} <= times.keys():
        return ()
    if jax.local_devices()[0].platform != "cpu":
        return ()
    # What a user of the extra gets; without it, the kernels of ONNX Runtime.
    fastest = OPENVINO if OPENVINO in times else GRAPH
    return (
        Aim(
            what=f"{one.name}: time of torchvision over that of {fastest}",
            value=one.ratios[PEER.name] / one.ratios[fastest],
            relation="at least",
            limit=CPU_RATIO,
            unit="",
        ),
    )
