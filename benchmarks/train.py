"""The training step on one device: forward, targets, losses, backward, update.

Images and annotations lie on the device already. torchvision's detector does the same work on the
same canvas with as many objects; see `notes` for what differs.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks.aims import training_aims
from benchmarks.case import Case, effort
from benchmarks.detectors import (
    TRAINED,
    Detector,
    Subject,
    detectors,
    notes_of,
    parameters_of,
    prepare,
    random_batch,
    random_boxes,
    random_images,
)
from benchmarks.measure import OURS, PeerUnavailableError, Side, compare
from benchmarks.options import Options
from benchmarks.results import Benchmark
from benchmarks.torchvision_peer import (
    SUBSTITUTED,
    Variant,
    detector,
    import_torch,
    own_kernels,
    precision,
    to_torch,
    torch_device,
    torch_side,
    variants,
)
from benchmarks.train_step import fresh_state, stepping

LEARNING_RATE = 1e-4
POSITIVES = (
    "the weights are random: the mask head of torchvision sees little more than the ground truth, "
    "that of rcnn_jax 32 rois at a time while there is one among them"
)


def cases(options: Options) -> list[Case]:
    """Returns one case per detector of the size."""
    return [_case(detector, options) for detector in detectors(options, TRAINED)]


def _case(detector: Detector, options: Options) -> Case:
    return Case(detector.name, lambda: _measure(detector, options))


def _measure(detector: Detector, options: Options) -> Benchmark:
    subject = prepare(detector, options)
    state = fresh_state(subject)
    batch = random_batch(subject)
    makers: dict[str, Callable[[], Side]] = {OURS: lambda: stepping(subject, state, batch)}
    if options.peers:
        for variant in variants(subject.bf16, options.compiled_peers):
            makers[variant.name] = lambda variant=variant: _peer(subject, variant)
    sides, notes = compare(makers, effort(options))
    if sides[1:]:
        notes = (*notes, *notes_of(subject), *(() if own_kernels() else (SUBSTITUTED,)))
    if subject.masks:
        notes = (*notes, POSITIVES)
    one = Benchmark(
        name=f"train {subject.name}",
        parameters=parameters_of(subject, state.params),
        sides=sides,
        images=subject.batch,
        notes=notes,
    )
    aims = training_aims(one.to_json(), jax.local_devices()[0].platform)
    return dataclasses.replace(one, aims=aims)


def _peer(subject: Subject, variant: Variant) -> Side:
    if subject.depth is None:
        raise PeerUnavailableError(f"torchvision has no detector over {subject.arch}")
    torch, device = import_torch(), torch_device()
    model = detector(
        subject.depth, subject.num_classes, subject.canvas, variant, device, masks=subject.masks
    ).train()
    images = [
        to_torch(image, device).permute(2, 0, 1).float() / 255.0 for image in random_images(subject)
    ]
    targets = [_target(boxes, subject, device) for boxes in random_boxes(subject)]
    optimizer = torch.optim.SGD(
        model.parameters(), lr=LEARNING_RATE, momentum=0.9, weight_decay=1e-4
    )

    def run() -> Any:
        # The backward pass stays outside of autocast, as PyTorch's documentation has it.
        with precision(device, variant.bf16):
            loss = torch.stack(tuple(model(images, targets).values())).sum()
        # No memory traffic for zeros.
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss

    return torch_side(run, device)


def _target(boxes: np.ndarray, subject: Subject, device: Any) -> dict[str, Any]:
    """Returns the annotations of an image as torchvision takes them."""
    torch = import_torch()
    target = {
        "boxes": to_torch(boxes[:, [1, 0, 3, 2]], device),
        "labels": torch.arange(len(boxes), device=device) % subject.num_classes + 1,
    }
    if subject.masks:
        masks = np.zeros((len(boxes), *subject.canvas), np.uint8)
        for mask, (y1, x1, y2, x2) in zip(masks, boxes.round().astype(int), strict=True):
            mask[y1:y2, x1:x2] = 1
        target["masks"] = to_torch(masks, device)
    return target
