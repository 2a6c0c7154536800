"""Weights of torchvision's `maskrcnn_resnet50_fpn` and its `_v2` from a seed, made without torch.

Every leaf has a generator of its own, keyed by the seed and the leaf's name, so that both networks
can be filled with the same numbers wherever they are.
"""

import math
import zlib

import numpy as np

REPEATS = (3, 4, 6, 3)
WIDTHS = (64, 128, 256, 512)
SCALES = {
    # Residual branches are calm, so that sixteen of them do not drown the first.
    "bn3.weight": 0.4,
    # Features and predictions have the range of trained ones: scores are neither all 0 nor all 1.
    "inner_blocks.0.0.weight": 0.1,
    "inner_blocks.1.0.weight": 0.1,
    "inner_blocks.2.0.weight": 0.1,
    "inner_blocks.3.0.weight": 0.1,
    "bbox_pred.weight": 0.3,
    "box_predictor.bbox_pred.weight": 1.0,
}
"""{end of a name: factor on what its kind of leaf has otherwise}."""

CENTRED = ("cls_logits.weight", "cls_score.weight", "bbox_pred.weight", "fcn_logits.weight")
"""Kernels that sum to 0: features are mostly positive, and no class should win everywhere."""


def shapes(num_classes: int, version: int = 1) -> dict[str, tuple[int, ...]]:
    """Returns {name: shape} of the state dict, `num_batches_tracked` left out.

    Args:
      num_classes: n, without background.
      version: 1, or 2 with batch norm in pyramid and heads, two convolutions in the RPN and four in the
        box head.
    """
    newer = version == 2
    shapes_by_name: dict[str, tuple[int, ...]] = {}

    def conv(name, out, inside, side, bias=False):
        shapes_by_name[f"{name}.weight"] = (out, inside, side, side)
        if bias:
            shapes_by_name[f"{name}.bias"] = (out,)

    def batch_norm(name, width):
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            shapes_by_name[f"{name}.{leaf}"] = (width,)

    def dense(name, out, inside):
        shapes_by_name[f"{name}.weight"] = (out, inside)
        shapes_by_name[f"{name}.bias"] = (out,)

    def conv_or_norm(name, inside, side):
        conv(f"{name}.0", 256, inside, side, bias=not newer)
        if newer:
            batch_norm(f"{name}.1", 256)

    body = "backbone.body"
    conv(f"{body}.conv1", 64, 3, 7)
    batch_norm(f"{body}.bn1", 64)
    inside = 64
    for block, (repeats, width) in enumerate(zip(REPEATS, WIDTHS, strict=True), start=1):
        for unit in range(repeats):
            name = f"{body}.layer{block}.{unit}"
            plan = ((1, inside, width), (3, width, width), (1, width, 4 * width))
            for index, (side, before, after) in enumerate(plan, start=1):
                conv(f"{name}.conv{index}", after, before, side)
                batch_norm(f"{name}.bn{index}", after)
            if unit == 0:
                conv(f"{name}.downsample.0", 4 * width, inside, 1)
                batch_norm(f"{name}.downsample.1", 4 * width)
            inside = 4 * width
    for index, width in enumerate(WIDTHS):
        conv_or_norm(f"backbone.fpn.inner_blocks.{index}", 4 * width, 1)
    for index in range(4):
        conv_or_norm(f"backbone.fpn.layer_blocks.{index}", 256, 3)
    for index in range(version):
        conv(f"rpn.head.conv.{index}.0", 256, 256, 3, bias=True)
    conv("rpn.head.cls_logits", 3, 256, 1, bias=True)
    conv("rpn.head.bbox_pred", 12, 256, 1, bias=True)
    if newer:
        for index in range(4):
            conv_or_norm(f"roi_heads.box_head.{index}", 256, 3)
        dense("roi_heads.box_head.5", 1024, 256 * 7 * 7)
    else:
        dense("roi_heads.box_head.fc6", 1024, 256 * 7 * 7)
        dense("roi_heads.box_head.fc7", 1024, 1024)
    dense("roi_heads.box_predictor.cls_score", num_classes + 1, 1024)
    dense("roi_heads.box_predictor.bbox_pred", 4 * (num_classes + 1), 1024)
    for index in range(4):
        conv_or_norm(f"roi_heads.mask_head.{index}", 256, 3)
    conv("roi_heads.mask_predictor.conv5_mask", 256, 256, 2, bias=True)
    conv("roi_heads.mask_predictor.mask_fcn_logits", num_classes + 1, 256, 1, bias=True)
    return shapes_by_name


def state_dict(num_classes: int, seed: int = 0, version: int = 1) -> dict[str, np.ndarray]:
    """Returns {name: f32 array}: He-scaled kernels, batch norm that does something."""
    return {name: _leaf(name, shape, seed) for name, shape in shapes(num_classes, version).items()}


def _leaf(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    rng = np.random.Generator(np.random.Philox(key=[seed, zlib.crc32(name.encode())]))
    factors = [factor for end, factor in SCALES.items() if name.endswith(end)]
    factor = factors[-1] if factors else 1.0
    if name.endswith("running_var"):
        return rng.uniform(0.5, 2.0, shape).astype(np.float32)
    if len(shape) > 1:
        fan_in = shape[0] if "conv5_mask" in name else math.prod(shape[1:])
        spread = factor * math.sqrt(2.0 / fan_in)
        kernel = rng.standard_normal(shape, np.float32)
        if name.endswith(CENTRED):
            means = kernel.mean(axis=tuple(range(1, len(shape))), keepdims=True, dtype=np.float64)
            kernel -= means.astype(np.float32)
        return kernel * np.float32(spread)
    if name.endswith("weight"):  # of batch norm
        return (factor * rng.uniform(0.5, 1.5, shape)).astype(np.float32)
    return (0.1 * rng.standard_normal(shape)).astype(np.float32)


def images(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Returns u8[count height width 3], coarse colours under fine noise."""
    rng = np.random.Generator(np.random.Philox(key=[seed, 1]))
    coarse = rng.integers(0, 224, (count, -(-height // 24), -(-width // 24), 3))
    coarse = coarse.repeat(24, axis=1).repeat(24, axis=2)[:, :height, :width]
    return (coarse + rng.integers(0, 32, coarse.shape)).astype(np.uint8)
