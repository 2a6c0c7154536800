"""torchvision as a peer: its operators and its detectors, channels last.

A wheel built for CUDA does not load its library beside a torch without CUDA, and then `import
torchvision` fails at an operator that does not exist. Registering the schemas of `nms` and `qnms`
first makes the import work; NMS and RoIAlign then come from `peer_kernels`.
"""

import contextlib
import functools
import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks.measure import PeerUnavailableError, Side

SUBSTITUTED = "NMS and RoIAlign of torchvision are benchmarks/peer_kernels.cpp: its own do not load"
_DRAWS = 20
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
    # torchvision asks for its library before every call; the substitutes are registered by now.
    torchvision.ops.boxes._assert_has_ops = lambda: None
    # Bound by name where they are used: replacing the function in its own module would change
    # nothing.
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
                # Tried, because nothing else tells whether a wheel fits the torch at hand.
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


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A way to run torchvision.

    Attributes:
      name: of the contestant.
      bf16: under autocast.
      compiled: backbone, pyramid and RPN head through torch.compile.
    """

    name: str
    bf16: bool = False
    compiled: bool = False


def variants(bf16: bool, compiled: bool) -> tuple[Variant, ...]:
    """Returns eager, with `bf16` also under autocast, and with `compiled` the best of both compiled."""
    rows = [Variant(name="torchvision")]
    if bf16:
        rows.append(Variant(name="torchvision bf16", bf16=True))
    if compiled:
        rows.append(Variant(name="torchvision compiled" + " bf16" * bf16, bf16=bf16, compiled=True))
    return tuple(rows)


def detector(
    depth: int,
    num_classes: int,
    canvas: tuple[int, int],
    variant: Variant,
    device: Any,
    *,
    masks: bool,
) -> Any:
    """Returns torchvision's detector on a feature pyramid with fresh weights, all trainable.

    Args:
      depth: 18, 34, 50 or 101 layers; 50 is `fasterrcnn_resnet50_fpn`, `maskrcnn_resnet50_fpn`.
      num_classes: background excluded.
      canvas: (height, width); images of this size are not resized.
      variant: eager or compiled.
      device: where the weights lie.
      masks: with a mask head.
    """
    torchvision = import_torchvision()
    torch = import_torch()
    detection = torchvision.models.detection
    backbone = detection.backbone_utils.resnet_fpn_backbone(
        backbone_name=f"resnet{depth}",
        weights=None,
        trainable_layers=5,
        # torchvision's default is frozen batch norm, which has less to compute than ours.
        norm_layer=torch.nn.BatchNorm2d,
    )
    make = detection.MaskRCNN if masks else detection.FasterRCNN
    model = make(backbone, num_classes=num_classes + 1, min_size=min(canvas), max_size=max(canvas))
    # The order in which both libraries convolve fastest.
    model = model.to(device=device, memory_format=torch.channels_last)
    # Only parts of fixed shape: the rest would be compiled anew for every number of boxes.
    if variant.compiled:
        model.backbone = torch.compile(model.backbone)
        model.rpn.head = torch.compile(model.rpn.head)
    return model


def make_busy(make: Callable[[], Any], images: Any, proposals: int, objects: int) -> Any:
    """Returns a fresh model that has so many proposals and objects in every image.

    rcnn_jax works on as many whatever it sees; torchvision skips the work on what it does not find,
    and random weights may leave it a few hundred proposals. They are drawn until it has enough.

    Args:
      make: draws weights and returns the model in evaluation mode.
      images: what it sees.
      proposals: of its RPN per image, at least.
      objects: found per image, at least.

    Raises:
      PeerUnavailableError: no draw was good.
    """
    torch = import_torch()
    for seed in range(_DRAWS):
        torch.manual_seed(seed)
        model = make()
        if min(_proposals_of(model, images)) >= proposals:
            _make_it_find_objects(model, images, objects)
            return model
    raise PeerUnavailableError(f"no random weights of {_DRAWS} give it {proposals} proposals")


def _proposals_of(model: Any, images: Any) -> list[int]:
    """Returns how many proposals a model has in each image."""
    counts: list[int] = []
    hook = model.rpn.register_forward_hook(
        lambda _module, _inputs, outputs: counts.extend(len(boxes) for boxes in outputs[0])
    )
    with import_torch().inference_mode():
        model(images)
    hook.remove()
    return counts


def _make_it_find_objects(model: Any, images: Any, wanted: int) -> None:
    """Sharpens the classifier of a fresh model in place until it finds `wanted` objects per image.

    Weights without training say nothing above the threshold of 0.05, and torchvision skips the work
    on what it does not find. Masks stay on their boxes: pasting them is no part of the network.

    Raises:
      PeerUnavailableError: it cannot be made to find so many.
    """
    torch = import_torch()
    model.transform.postprocess = lambda result, *_: result
    weight = model.roi_heads.box_predictor.cls_score.weight
    for _ in range(12):
        with torch.inference_mode():
            if min(len(detections["boxes"]) for detections in model(images)) >= wanted:
                return
        with torch.no_grad():
            # Sharper logits and no other order: scores rise above the threshold of 0.05.
            weight.mul_(3.0)
    raise PeerUnavailableError(f"random weights do not make it find {wanted} objects")


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
