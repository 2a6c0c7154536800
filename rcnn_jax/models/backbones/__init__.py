"""The table of backbones: name in a spec -> trunk, tail and block ids.

A new backbone is one file beside this one and one row here.
"""

import difflib
from collections.abc import Callable, Sequence

from rcnn_jax.errors import SpecError
from rcnn_jax.models.backbones import (
    darknet,
    efficientnet,
    googlenet,
    mobilenet_v1,
    mobilenet_v2,
    resnet,
    resnet101,
    vgg,
)
from rcnn_jax.models.backbones.backbone import Backbone

BACKBONES: dict[str, Backbone] = {
    "resnet:10": resnet.backbone(10),
    "resnet:18": resnet.backbone(18),
    "resnet:34": resnet.backbone(34),
    "resnet:50": resnet.backbone(50),
    "resnet:101": resnet.backbone(101),
    "resnet101": resnet101.BACKBONE,
    "vgg:16": vgg.backbone(16),
    "vgg:19": vgg.backbone(19),
    "vgg16": vgg.PLAIN,
    "googlenet": googlenet.BACKBONE,
    "mobilenet_v1": mobilenet_v1.BACKBONE,
    "mobilenet_v2": mobilenet_v2.BACKBONE,
    "darknet:19": darknet.DARKNET_19,
    "darknet:53": darknet.DARKNET_53,
    "efficientnet:b0": efficientnet.backbone("b0"),
    "efficientnet:b1": efficientnet.backbone("b1"),
    "efficientnet:b2": efficientnet.backbone("b2"),
    "efficientnet:b3": efficientnet.backbone("b3"),
    "efficientnet:b4": efficientnet.backbone("b4"),
    "efficientnet:b5": efficientnet.backbone("b5"),
    "efficientnet:b6": efficientnet.backbone("b6"),
    "efficientnet:b7": efficientnet.backbone("b7"),
}


def find_backbone(arch: str) -> Backbone:
    """The backbone called `arch` in a spec, for example `resnet:18`.

    Raises:
      SpecError: there is none of this name; the message lists all names and the nearest.
    """
    if arch in BACKBONES:
        return BACKBONES[arch]
    near = difflib.get_close_matches(arch, BACKBONES, 1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise SpecError(f"unknown arch '{arch}': expected one of {', '.join(BACKBONES)}.{hint}")


def frozen_layers(arch: str, freeze_blocks: Sequence[int]) -> Callable[[str], bool]:
    """A predicate: does this layer (top-level name in `params`) belong to a frozen block?

    Deviation: the original freezes the convolutions of a block only; here everything in the block
    is frozen, gamma and beta of batch norm as well (docs/tao_differences.md, "Training").

    Args:
      arch: name of the backbone.
      freeze_blocks: block ids; the column "Ids" of docs/reference/faster_rcnn.md, "Backbones".

    Raises:
      SpecError: the backbone has no block of such an id.
    """
    backbone = find_backbone(arch)
    # An error, not an empty set: a typing error must not train what was meant to be frozen.
    unknown = sorted(set(freeze_blocks) - set(backbone.freeze_ids))
    if unknown:
        raise SpecError(
            f"freeze_blocks = {unknown} does not exist in '{arch}': expected a subset of "
            f"{list(backbone.freeze_ids)}"
        )
    frozen = frozenset(freeze_blocks)
    # Layers of heads have no block: None is in no set of ids, so they always train.
    return lambda layer: backbone.block_of(layer) in frozen
