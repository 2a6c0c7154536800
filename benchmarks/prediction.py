"""Prediction, ready to be measured: the sides that `predict` and `export` share.

The weights are random: what rcnn_jax does has fixed shapes and costs the same for any image, while
torchvision skips what it does not find. Its weights are therefore drawn and sharpened until it has as
many proposals and objects as rcnn_jax, and neither side pastes masks into the image.
"""

from typing import Any

from benchmarks.detectors import Subject, random_images
from benchmarks.jax_side import jitted
from benchmarks.measure import PeerUnavailableError, Side
from benchmarks.torchvision_peer import (
    Variant,
    detector,
    import_torch,
    make_busy,
    precision,
    to_torch,
    torch_device,
    torch_side,
)


def jax_prediction(subject: Subject, variables: Any) -> Side:
    """Returns the side of jitted JAX: from uint8 images on the device to detections on it."""
    experiment = subject.experiment

    def run(variables: Any, images: Any) -> Any:
        return experiment.task.predict(variables, images, experiment.inference)

    return jitted(run, variables, random_images(subject))


def torchvision_prediction(subject: Subject, variant: Variant) -> Side:
    """Returns the side of torchvision, as busy as rcnn_jax.

    Raises:
      PeerUnavailableError: it is not installed or has no such detector.
    """
    if subject.depth is None:
        raise PeerUnavailableError(f"torchvision has no detector over {subject.arch}")
    torch, device = import_torch(), torch_device()
    depth, inference = subject.depth, subject.experiment.inference
    pixels = [to_torch(image, device) for image in random_images(subject)]

    # Drawn anew by `make_busy` until it has as many proposals and objects as we always compute.
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
