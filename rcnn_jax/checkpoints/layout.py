"""Architecture of a detector, read off the layers of its weights.

Weights have our names already (`torch_names`, `detectron2_names`), so one reading serves every source.
What no shape shows (strides, pixels, anchors) is a convention and not here.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rcnn_jax.checkpoints.schemes import Weights
from rcnn_jax.checkpoints.torch_classifiers import letter
from rcnn_jax.errors import CheckpointError
from rcnn_jax.models.backbones.resnet import BOTTLENECK_DEPTHS, REPEATS

# Layers that every such detector has. With the first one that lacks, a message can say what the
# file is not.
_HEADS = ("rpn", "rpn-class", "rpn-box", "fc6", "class-predict", "box-predict")
_BLOCKS = (1, 2, 3, 4)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Architecture of a Faster or Mask R-CNN on a ResNet with a feature pyramid.

    Attributes:
      depth: of the ResNet.
      classes: n, without background.
      masks: whether there is a mask head.
      anchors_per_cell: k.
      head_width: outputs of fc6.
      box_crop: s of the crops of the box head.
      rpn_convs: 3x3 convolutions of the region proposal network.
      box_convs: 3x3 convolutions of the box head, 0 or 4.
      fpn_norm: batch norm in the pyramid.
      head_norm: batch norm in the heads.
    """

    depth: int
    classes: int
    masks: bool
    anchors_per_cell: int
    head_width: int
    box_crop: int
    rpn_convs: int
    box_convs: int
    fpn_norm: bool
    head_norm: bool

    @property
    def title(self) -> str:
        """The detector in words."""
        return f"{'Mask' if self.masks else 'Faster'} R-CNN on ResNet-{self.depth} with a feature pyramid"


def read_layout(weights: Weights, name: str) -> Layout:
    """Returns the architecture of weights.

    Args:
      weights: in our names.
      name: of the file, begins the message.

    Raises:
      CheckpointError: these are not the layers of such a detector; the message names the first layer
        that lacks or has no such shape.
    """
    # The lateral layers too: a detector without a pyramid has the same backbone and other heads.
    for layer in ("conv1", *(f"l{level}" for level in (2, 3, 4, 5)), *_HEADS):
        if "kernel" not in weights.get(layer, {}):
            some = ", ".join(list(weights)[:3]) or "nothing"
            raise CheckpointError(
                f"{name}: is no Faster or Mask R-CNN on a ResNet with a feature pyramid as torchvision "
                f"and detectron2 write them: it has no layer '{layer}'; its layers are like {some}"
            )
    # The scores have a slot for the background in both libraries.
    classes = _columns(weights, "class-predict", 2, name) - 1
    box_convs = _count(weights, "box-conv-l{}")
    head_width = _columns(weights, "fc6", 2, name)
    rows = weights["fc6"]["kernel"].shape[0]
    # fc6 reads s * s * channels; the channels are those of the pyramid.
    crop = round((rows / _columns(weights, "l2", 4, name)) ** 0.5)
    return Layout(
        depth=_depth(weights, name),
        classes=classes,
        # By the last layer of the branch: a head cut off before it gives no masks.
        masks="mask_fcn_logits" in weights,
        anchors_per_cell=_columns(weights, "rpn-class", 4, name),
        head_width=head_width,
        box_crop=crop,
        rpn_convs=1 + _count(weights, "rpn-conv-l{}", first=1),
        box_convs=box_convs,
        fpn_norm="l2_bn" in weights,
        # Either: torchvision's v2 has it in both heads, a Faster R-CNN has no mask head.
        head_norm="box-conv-l0_bn" in weights or "mask-conv-l0_bn" in weights,
    )


def _columns(weights: Weights, layer: str, sides: int, name: str) -> int:
    kernel = weights[layer]["kernel"]
    # Files are untrusted: a side of 0 would divide by zero above.
    if kernel.ndim != sides or 0 in kernel.shape:
        raise CheckpointError(
            f"{name}: the layer '{layer}' has the shape {list(kernel.shape)}, expected {sides} sides"
        )
    return kernel.shape[-1]


def _count(weights: Weights, pattern: str, first: int = 0, by: Callable[[int], str] = str) -> int:
    """Returns how many layers follow each other by number or letter."""
    number = first
    # A gap ends the count, and the layer after it fits nowhere and is refused by name.
    while pattern.format(by(number)) in weights:
        number += 1
    return number - first


def _depth(weights: Weights, name: str) -> int:
    units = tuple(_count(weights, f"block_{block}{{}}_conv_1", by=letter) for block in _BLOCKS)
    # ResNet-34 and 50 have as many units in their blocks; only the third convolution tells them
    # apart.
    bottleneck = "block_1a_conv_3" in weights
    for depth, repeats in REPEATS.items():
        if tuple(repeats) == units and (depth in BOTTLENECK_DEPTHS) == bottleneck:
            return depth
    kind = "bottlenecks" if bottleneck else "pairs of convolutions"
    raise CheckpointError(
        f"{name}: its backbone has {', '.join(map(str, units))} {kind} in its blocks, as no ResNet of "
        f"{', '.join(map(str, REPEATS))} layers"
    )


def check_finite(weights: Weights, name: str) -> None:
    """Refuses weights that hold infinite numbers or NaN: half a run that went wrong.

    Raises:
      CheckpointError: the message names the first layer.
    """
    for layer, leaves in weights.items():
        for leaf, array in leaves.items():
            # Integers are counters of batches, of which none gets into the bundle.
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise CheckpointError(f"{name}: {layer}/{leaf} holds numbers that are not finite")
