"""Checkpoints of torchvision's and detectron2's layouts with random weights, on a ResNet-10.

Neither library builds that depth; its names and shapes follow the same rules, and every residual unit
has a projection as ours have.
"""

import pickle
from pathlib import Path

import numpy as np
import safetensors.numpy

from tests.checkpoints import torch_opcodes

WIDTHS = (64, 128, 256, 512)
HEAD = 32


class _Names:
    """Collects {name: array} with random values."""

    def __init__(self, seed: int):
        self.arrays: dict[str, np.ndarray] = {}
        self._rng = np.random.default_rng(seed)

    def leaf(self, name: str, *shape: int) -> None:
        scale = np.sqrt(2.0 / max(np.prod(shape[1:]), 1)) if len(shape) > 1 else 0.1
        self.arrays[name] = (scale * self._rng.standard_normal(shape)).astype(np.float32)

    def conv(self, name: str, out: int, inside: int, side: int, bias: bool = False) -> None:
        self.leaf(f"{name}.weight", out, inside, side, side)
        if bias:
            self.leaf(f"{name}.bias", out)

    def norm(self, name: str, width: int) -> None:
        for leaf in ("weight", "bias", "running_mean"):
            self.leaf(f"{name}.{leaf}", width)
        # Around 1: factors around 0 let the signal fade, and all scores of a whole network are one.
        self.arrays[f"{name}.weight"] += 1.0
        self.arrays[f"{name}.running_var"] = self._rng.uniform(0.5, 2.0, width).astype(np.float32)

    def dense(self, name: str, out: int, inside: int) -> None:
        self.leaf(f"{name}.weight", out, inside)
        self.leaf(f"{name}.bias", out)


def torchvision(
    classes: int, *, version: int = 1, masks: bool = True, seed: int = 0
) -> dict[str, np.ndarray]:
    """Returns a state dict of `maskrcnn_resnet*_fpn` or its `_v2`; classes without background."""
    made, newer = _Names(seed), version == 2

    def unit(name: str, inside: int, side: int) -> None:
        made.conv(f"{name}.0", 256, inside, side, bias=not newer)
        if newer:
            made.norm(f"{name}.1", 256)

    body, inside = "backbone.body", 64
    made.conv(f"{body}.conv1", 64, 3, 7)
    made.norm(f"{body}.bn1", 64)
    for block, width in enumerate(WIDTHS, start=1):
        name = f"{body}.layer{block}.0"
        for index, before in ((1, inside), (2, width)):
            made.conv(f"{name}.conv{index}", width, before, 3)
            made.norm(f"{name}.bn{index}", width)
        made.conv(f"{name}.downsample.0", width, inside, 1)
        made.norm(f"{name}.downsample.1", width)
        inside = width
        unit(f"backbone.fpn.inner_blocks.{block - 1}", width, 1)
        unit(f"backbone.fpn.layer_blocks.{block - 1}", 256, 3)
    for index in range(version):
        made.conv(f"rpn.head.conv.{index}.0", 256, 256, 3, bias=True)
    made.conv("rpn.head.cls_logits", 3, 256, 1, bias=True)
    made.conv("rpn.head.bbox_pred", 12, 256, 1, bias=True)
    heads = "roi_heads"
    if newer:
        for index in range(4):
            unit(f"{heads}.box_head.{index}", 256, 3)
        made.dense(f"{heads}.box_head.5", HEAD, 256 * 49)
    else:
        made.dense(f"{heads}.box_head.fc6", HEAD, 256 * 49)
        made.dense(f"{heads}.box_head.fc7", HEAD, HEAD)
    made.dense(f"{heads}.box_predictor.cls_score", classes + 1, HEAD)
    made.dense(f"{heads}.box_predictor.bbox_pred", 4 * (classes + 1), HEAD)
    if masks:
        for index in range(4):
            unit(f"{heads}.mask_head.{index}", 256, 3)
        made.conv(f"{heads}.mask_predictor.conv5_mask", 256, 256, 2, bias=True)
        made.conv(f"{heads}.mask_predictor.mask_fcn_logits", classes + 1, 256, 1, bias=True)
    return made.arrays


def detectron2(
    classes: int, *, masks: bool = True, bottlenecks: tuple[int, ...] = (), seed: int = 0
) -> dict[str, np.ndarray]:
    """Returns the arrays of a detectron2 model; bottlenecks: units of each block, of a ResNet-50 say."""
    made, bottom, inside = _Names(seed), "backbone.bottom_up", 64

    def conv(name: str, out: int, before: int, side: int) -> None:
        made.conv(name, out, before, side)
        made.norm(f"{name}.norm", out)

    conv(f"{bottom}.stem.conv1", 64, 3, 7)
    for block, width in enumerate(WIDTHS, start=2):
        outside = 4 * width if bottlenecks else width
        for index in range(bottlenecks[block - 2] if bottlenecks else 1):
            name = f"{bottom}.res{block}.{index}"
            plan = (
                ((1, width), (3, width), (1, outside)) if bottlenecks else ((3, width), (3, width))
            )
            before = inside
            for number, (side, after) in enumerate(plan, start=1):
                conv(f"{name}.conv{number}", after, before, side)
                before = after
            if index == 0:
                conv(f"{name}.shortcut", outside, inside, 1)
            inside = outside
        made.conv(f"backbone.fpn_lateral{block}", 256, outside, 1, bias=True)
        made.conv(f"backbone.fpn_output{block}", 256, 256, 3, bias=True)
    made.conv("proposal_generator.rpn_head.conv", 256, 256, 3, bias=True)
    made.conv("proposal_generator.rpn_head.objectness_logits", 3, 256, 1, bias=True)
    made.conv("proposal_generator.rpn_head.anchor_deltas", 12, 256, 1, bias=True)
    made.dense("roi_heads.box_head.fc1", HEAD, 256 * 49)
    made.dense("roi_heads.box_head.fc2", HEAD, HEAD)
    made.dense("roi_heads.box_predictor.cls_score", classes + 1, HEAD)
    made.dense("roi_heads.box_predictor.bbox_pred", 4 * classes, HEAD)
    if masks:
        for index in range(1, 5):
            made.conv(f"roi_heads.mask_head.mask_fcn{index}", 256, 256, 3, bias=True)
        made.conv("roi_heads.mask_head.deconv", 256, 256, 2, bias=True)
        made.conv("roi_heads.mask_head.predictor", classes, 256, 1, bias=True)
    return made.arrays


def resnet18(seed: int = 0) -> dict[str, np.ndarray]:
    """Returns a state dict of torchvision's `resnet18`, a classifier of 1000 classes."""
    made, inside = _Names(seed), 64
    made.conv("conv1", 64, 3, 7)
    made.norm("bn1", 64)
    for block, width in enumerate(WIDTHS, start=1):
        for unit in range(2):
            name = f"layer{block}.{unit}"
            for index, before in ((1, inside), (2, width)):
                made.conv(f"{name}.conv{index}", width, before, 3)
                made.norm(f"{name}.bn{index}", width)
            # The first unit of the first block adds its input as it is.
            if unit == 0 and block > 1:
                made.conv(f"{name}.downsample.0", width, inside, 1)
                made.norm(f"{name}.downsample.1", width)
            inside = width
    made.dense("fc", 1000, 512)
    return made.arrays


def write_safetensors(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    """Writes a state dict as `safetensors.torch.save_file` does."""
    safetensors.numpy.save_file(arrays, path)
    return path


def write_torch(path: Path, arrays: dict[str, np.ndarray], *, stream: bool = False) -> Path:
    """Writes a state dict as torch.save does, as a stream like torch before 1.6."""
    program, storages = torch_opcodes.saved(arrays)
    if stream:
        path.write_bytes(torch_opcodes.stream(program, storages))
        return path
    return torch_opcodes.write_archive(path, program, storages)


def write_pickle(path: Path, arrays: dict[str, np.ndarray], protocol: int = 2) -> Path:
    """Writes arrays as detectron2's model zoo does."""
    model = {"model": arrays, "__author__": "nobody", "matching_heuristics": True}
    path.write_bytes(pickle.dumps(model, protocol))
    return path
