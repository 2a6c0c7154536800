"""The training step on one device: forward, targets, losses, backward, update.

Images and annotations lie on the device already. torchvision's detector does the same work on the
same canvas with as many objects; see `notes` for what differs.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks.detectors import (
    PYRAMID,
    Detector,
    Subject,
    detectors,
    name_of,
    parameters_of,
    peer_name,
    prepare,
    random_batch,
    random_boxes,
    random_images,
)
from benchmarks.jax_side import compiled, device_peak, temp_bytes
from benchmarks.measure import OURS, PeerUnavailableError, Side, compare
from benchmarks.options import Options
from benchmarks.results import Aim, Benchmark, SideResult
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
from rcnn_jax.structures import TrainState
from rcnn_jax.train import parallel
from rcnn_jax.train.schedules import make_schedule
from rcnn_jax.train.step import init_state, make_step

COMPILE_SECONDS = 15.0
TOTAL_STEPS = 1000  # of the schedule; nothing is trained for so long
LEARNING_RATE = 1e-4


def cases(options: Options) -> list[Case]:
    """Returns one case per detector of the size."""
    return [_case(detector, options) for detector in detectors(options)]


def _case(detector: Detector, options: Options) -> Case:
    return Case(name_of(detector), lambda: _measure(detector, options))


def _measure(detector: Detector, options: Options) -> Benchmark:
    subject = prepare(detector, options)
    state = _fresh_state(subject)
    makers: dict[str, Callable[[], Side]] = {OURS: lambda: _ours(subject, state)}
    if options.peers:
        makers[peer_name(subject)] = lambda: _peer(subject, options)
    sides, notes = compare(makers, effort(options))
    if sides[1:]:
        notes = (*notes, PYRAMID, *(() if own_kernels() else (SUBSTITUTED,)))
    return Benchmark(
        name=f"train {name_of(detector)}",
        parameters=parameters_of(subject, state.params, options),
        sides=sides,
        images=subject.batch,
        aims=_aims(name_of(detector), sides[0]),
        notes=notes,
    )


def _aims(name: str, ours: SideResult) -> tuple[Aim, ...]:
    if jax.local_devices()[0].platform != "cpu" or ours.compile_seconds is None:
        return ()
    return (
        Aim(
            what=f"train {name}: compile time of the step on a CPU",
            value=ours.compile_seconds,
            relation="at most",
            limit=COMPILE_SECONDS,
            unit="s",
        ),
    )


def _schedule(subject: Subject) -> Any:
    return make_schedule(subject.experiment.schedule, TOTAL_STEPS)


def _fresh_state(subject: Subject) -> TrainState:
    """Returns a state on the host, so that every side begins with an empty device."""
    experiment = subject.experiment
    variables = experiment.task.init(jax.random.key(0))
    state = init_state(experiment.task, variables, experiment.optimizer, _schedule(subject), 0)
    return jax.tree.map(np.asarray, state)


def _ours(subject: Subject, state: TrainState) -> Side:
    experiment = subject.experiment
    devices = parallel.choose_devices(1)
    step = make_step(
        experiment.task,
        experiment.optimizer,
        _schedule(subject),
        steps_per_epoch=TOTAL_STEPS,
        axis_name=parallel.AXIS,
    )
    replicas = parallel.replicate(state, devices)
    batch = parallel.shard(random_batch(subject), devices)
    executable, seconds = compiled(parallel.map_step(step, devices), replicas, batch)

    def run() -> Any:
        nonlocal replicas
        replicas, metrics = executable(replicas, batch)
        return replicas, metrics

    return Side(
        run=run,
        wait=jax.block_until_ready,
        compile_seconds=seconds,
        temp_bytes=temp_bytes(executable),
        device_peak=device_peak,
    )


def _peer(subject: Subject, options: Options) -> Side:
    if subject.depth is None:
        raise PeerUnavailableError(f"torchvision has no detector over {subject.arch}")
    torch, device = import_torch(), torch_device()
    num_classes = len(subject.experiment.task.class_names)
    model = faster_rcnn(subject.depth, num_classes, subject.canvas, device).train()
    images = [
        to_torch(image, device).permute(2, 0, 1).float() / 255.0 for image in random_images(subject)
    ]
    targets = [
        {
            "boxes": to_torch(boxes[:, [1, 0, 3, 2]], device),
            "labels": torch.arange(len(boxes), device=device) % num_classes + 1,
        }
        for boxes in random_boxes(subject)
    ]
    optimizer = torch.optim.SGD(
        model.parameters(), lr=LEARNING_RATE, momentum=0.9, weight_decay=1e-4
    )

    def run() -> Any:
        with precision(device, options.bf16):
            loss = torch.stack(tuple(model(images, targets).values())).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss

    return torch_side(run, device)
