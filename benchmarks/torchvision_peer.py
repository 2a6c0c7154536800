"""torchvision as a peer: its operators and its detectors, eager, channels last.

A wheel built for CUDA does not load its library beside a torch without CUDA, and then `import
torchvision` fails at an operator that does not exist. Registering the schemas of `nms` and `qnms`
first makes the import work; NMS and RoIAlign then come from `peer_kernels`.
"""

import contextlib
import functools
import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks.measure import PeerUnavailableError, Side

SUBSTITUTED = "NMS and RoIAlign of torchvision are benchmarks/peer_kernels.cpp: its own do not load"
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def import_torch() -> Any:
    """Returns torch.

    Raises:
      PeerUnavailableError: it is not installed.
    """
    if importlib.util.find_spec("torch") is None:
        raise PeerUnavailableError("torch is not installed")
    return importlib.import_module("torch")


@functools.cache
def import_torchvision() -> ModuleType:
    """Returns torchvision in a state in which it works.

    Raises:
      PeerUnavailableError: torch or torchvision is not installed, or cannot be made to work.
    """
    import_torch()
    if importlib.util.find_spec("torchvision") is None:
        raise PeerUnavailableError("torchvision is not installed")
    if own_kernels():
        return importlib.import_module("torchvision")
    from benchmarks import peer_kernels

    _register_schemas()
    torchvision = importlib.import_module("torchvision")
    torchvision.ops.boxes._assert_has_ops = lambda: None
    for module in (torchvision.ops.poolers, torchvision.models.detection.roi_heads):
        module.roi_align = peer_kernels.roi_align
    return torchvision


@functools.cache
def own_kernels() -> bool:
    """Says whether torchvision, which must be installed, can load its own library beside torch."""
    torch = import_torch()
    spec = importlib.util.find_spec("torchvision")
    assert spec is not None and spec.submodule_search_locations
    for folder in spec.submodule_search_locations:
        for file in Path(folder).glob("_C*.so"):
            try:
                torch.ops.load_library(str(file))
            except OSError:
                return False
            return True
    return False


def torch_device() -> Any:
    """Returns the accelerator of torch if JAX computes on one, the CPU otherwise.

    An accelerator is set to what suits images of one size: cuDNN searches its algorithms.

    Raises:
      PeerUnavailableError: JAX has an accelerator that torch has not.
    """
    import jax

    torch = import_torch()
    if jax.local_devices()[0].platform == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise PeerUnavailableError("torch has no access to the accelerator that JAX computes on")
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")  # TF32, the default of JAX
    return torch.device("cuda")


def torch_side(run: Callable[[], Any], device: Any) -> Side:
    """Returns the side of a torch function whose arguments lie on the device."""
    torch = import_torch()
    if device.type == "cpu":
        return Side(run=run)
    torch.cuda.reset_peak_memory_stats()
    return Side(
        run=run,
        wait=lambda _: torch.cuda.synchronize(),
        device_peak=lambda: int(torch.cuda.max_memory_allocated()),
    )


def to_torch(array: Any, device: Any) -> Any:
    """Returns a copy of a NumPy array on the device."""
    torch = import_torch()
    return torch.from_numpy(np.array(array)).to(device)


def faster_rcnn(depth: int, num_classes: int, canvas: tuple[int, int], device: Any) -> Any:
    """Returns torchvision's Faster R-CNN with a feature pyramid and fresh weights, all trainable.

    Args:
      depth: 18, 34, 50 or 101 layers; 50 is `fasterrcnn_resnet50_fpn`.
      num_classes: background excluded.
      canvas: (height, width); images of this size are not resized.
      device: where the weights lie.
    """
    torchvision = import_torchvision()
    torch = import_torch()
    detection = torchvision.models.detection
    backbone = detection.backbone_utils.resnet_fpn_backbone(
        backbone_name=f"resnet{depth}",
        weights=None,
        trainable_layers=5,
        norm_layer=torch.nn.BatchNorm2d,
    )
    model = detection.FasterRCNN(
        backbone, num_classes=num_classes + 1, min_size=min(canvas), max_size=max(canvas)
    )
    return model.to(device=device, memory_format=torch.channels_last)


def precision(device: Any, bf16: bool) -> contextlib.AbstractContextManager:
    """Returns the context in which convolutions compute in bfloat16, or one that does nothing."""
    torch = import_torch()
    if not bf16:
        return contextlib.nullcontext()
    return torch.autocast(device_type=device.type, dtype=torch.bfloat16)


@functools.cache  # the schemas vanish with the object that registered them
def _register_schemas() -> Any:
    from benchmarks import peer_kernels

    peer_kernels.library()
    schemas = import_torch().library.Library("torchvision", "DEF")
    schemas.define("nms" + _SCHEMA)
    schemas.define("qnms" + _SCHEMA)
    schemas.impl("nms", peer_kernels.nms, "CPU")
    return schemas
