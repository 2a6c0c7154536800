"""From uint8 images on the device to detections on it.

The weights are random: what rcnn_jax does has fixed shapes and costs the same for any image, while
torchvision skips what it does not find. Its weights are therefore drawn and sharpened until it has as
many proposals and objects as rcnn_jax, and neither side pastes masks into the image.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

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
from benchmarks.jax_side import jitted
from benchmarks.measure import OURS, PeerUnavailableError, Side, compare
from benchmarks.options import Options
from benchmarks.results import Aim, Benchmark
from benchmarks.suite import Case, effort
from benchmarks.torchvision_peer import (
    SUBSTITUTED,
    Variant,
    detector,
    import_torch,
    make_busy,
    own_kernels,
    precision,
    to_torch,
    torch_device,
    torch_side,
    variants,
)

CPU_RATIO = 1.0
"""Aim: time of torchvision over ours."""


def cases(options: Options) -> list[Case]:
    """Returns one case per detector of the size."""
    return [_case(detector, options) for detector in detectors(options, PREDICTED)]


def _case(detector: Detector, options: Options) -> Case:
    return Case(detector.name, lambda: _measure(detector, options))


def _measure(detector: Detector, options: Options) -> Benchmark:
    subject = prepare(detector, options)
    variables = subject.experiment.task.init(jax.random.key(0))
    makers: dict[str, Callable[[], Side]] = {OURS: lambda: ours(subject, variables)}
    if options.peers:
        for variant in variants(subject.bf16, options.compiled_peers):
            makers[variant.name] = lambda variant=variant: peer(subject, variant)
    sides, notes = compare(makers, effort(options))
    if sides[1:]:
        notes = (*notes, *notes_of(subject), *(() if own_kernels() else (SUBSTITUTED,)))
    one = Benchmark(
        name=f"predict {subject.name}",
        parameters=parameters_of(subject, variables["params"]),
        sides=sides,
        images=subject.batch,
        notes=notes,
    )
    return dataclasses.replace(one, aims=_aims(one, subject))


def _aims(one: Benchmark, subject: Subject) -> tuple[Aim, ...]:
    if jax.local_devices()[0].platform != "cpu" or subject.experiment.kind != "mask_rcnn":
        return ()
    if not one.ratios:
        return ()
    return (
        Aim(
            what=f"{one.name}: time of torchvision over ours",
            value=min(one.ratios.values()),
            relation="at least",
            limit=CPU_RATIO,
            unit="",
        ),
    )


def ours(subject: Subject, variables: Any) -> Side:
    """Returns the side of jitted JAX."""
    experiment = subject.experiment

    def run(variables: Any, images: Any) -> Any:
        return experiment.task.predict(variables, images, experiment.inference)

    return jitted(run, variables, random_images(subject))


def peer(subject: Subject, variant: Variant) -> Side:
    """Returns the side of torchvision.

    Raises:
      PeerUnavailableError: it is not installed or has no such detector.
    """
    if subject.depth is None:
        raise PeerUnavailableError(f"torchvision has no detector over {subject.arch}")
    torch, device = import_torch(), torch_device()
    depth, inference = subject.depth, subject.experiment.inference
    pixels = [to_torch(image, device) for image in random_images(subject)]

    def fresh() -> Any:
        classes, canvas = subject.num_classes, subject.canvas
        return detector(depth, classes, canvas, variant, device, masks=subject.masks).eval()

    def normal() -> Any:
        return [image.permute(2, 0, 1).float() / 255.0 for image in pixels]

    proposals, objects = inference.proposals.post_nms, inference.detections.max_detections
    model = make_busy(fresh, normal(), proposals, objects)

    def run() -> Any:
        with torch.inference_mode(), precision(device, variant.bf16):
            return model(normal())

    return torch_side(run, device)
