"""From uint8 images on the device to detections on it.

The weights are random: what rcnn_jax does has fixed shapes and costs the same for any image, while
torchvision skips what it does not find, so its time is that of an image with few detections.
"""

from collections.abc import Callable
from typing import Any

import jax

from benchmarks.detectors import (
    PYRAMID,
    Detector,
    Subject,
    detectors,
    name_of,
    parameters_of,
    peer_name,
    prepare,
    random_images,
)
from benchmarks.jax_side import jitted
from benchmarks.measure import OURS, PeerUnavailableError, Side, compare
from benchmarks.options import Options
from benchmarks.results import Benchmark
from benchmarks.suite import Case, effort
from benchmarks.torchvision_peer import (
    SUBSTITUTED,
    faster_rcnn,
    import_torch,
    own_kernels,
    precision,
    to_torch,
    torch_device,
    torch_side,
)


def cases(options: Options) -> list[Case]:
    """Returns one case per detector of the size."""
    return [_case(detector, options) for detector in detectors(options)]


def _case(detector: Detector, options: Options) -> Case:
    return Case(name_of(detector), lambda: _measure(detector, options))


def _measure(detector: Detector, options: Options) -> Benchmark:
    subject = prepare(detector, options)
    variables = subject.experiment.task.init(jax.random.key(0))
    makers: dict[str, Callable[[], Side]] = {OURS: lambda: _ours(subject, variables)}
    if options.peers:
        makers[peer_name(subject)] = lambda: _peer(subject, options)
    sides, notes = compare(makers, effort(options))
    if sides[1:]:
        notes = (*notes, PYRAMID, *(() if own_kernels() else (SUBSTITUTED,)))
    return Benchmark(
        name=f"predict {name_of(detector)}",
        parameters=parameters_of(subject, variables["params"], options),
        sides=sides,
        images=subject.batch,
        notes=notes,
    )


def _ours(subject: Subject, variables: Any) -> Side:
    experiment = subject.experiment

    def run(variables: Any, images: Any) -> Any:
        return experiment.task.predict(variables, images, experiment.inference)

    return jitted(run, variables, random_images(subject))


def _peer(subject: Subject, options: Options) -> Side:
    if subject.depth is None:
        raise PeerUnavailableError(f"torchvision has no detector over {subject.arch}")
    torch, device = import_torch(), torch_device()
    num_classes = len(subject.experiment.task.class_names)
    model = faster_rcnn(subject.depth, num_classes, subject.canvas, device).eval()
    pixels = [to_torch(image, device) for image in random_images(subject)]

    def run() -> Any:
        with torch.inference_mode(), precision(device, options.bf16):
            return model([image.permute(2, 0, 1).float() / 255.0 for image in pixels])

    return torch_side(run, device)
