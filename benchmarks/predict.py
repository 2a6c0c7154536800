"""Prediction against torchvision: from uint8 images on the device to detections on it."""

import dataclasses
from collections.abc import Callable

import jax

from benchmarks.aims import prediction_aims
from benchmarks.case import Case, effort
from benchmarks.detectors import (
    PREDICTED,
    Detector,
    detectors,
    notes_of,
    parameters_of,
    prepare,
)
from benchmarks.measure import OURS, Side, compare
from benchmarks.options import Options
from benchmarks.prediction import jax_prediction, torchvision_prediction
from benchmarks.results import Benchmark
from benchmarks.torchvision_peer import (
    SUBSTITUTED,
    own_kernels,
    variants,
)


def cases(options: Options) -> list[Case]:
    """Returns one case per detector of the size."""
    return [_case(detector, options) for detector in detectors(options, PREDICTED)]


def _case(detector: Detector, options: Options) -> Case:
    return Case(detector.name, lambda: _measure(detector, options))


def _measure(detector: Detector, options: Options) -> Benchmark:
    subject = prepare(detector, options)
    variables = subject.experiment.task.init(jax.random.key(0))
    makers: dict[str, Callable[[], Side]] = {OURS: lambda: jax_prediction(subject, variables)}
    if options.peers:
        for variant in variants(subject.bf16, options.compiled_peers):
            makers[variant.name] = lambda variant=variant: torchvision_prediction(subject, variant)
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
    aims = prediction_aims(one.to_json(), jax.local_devices()[0].platform)
    return dataclasses.replace(one, aims=aims)
