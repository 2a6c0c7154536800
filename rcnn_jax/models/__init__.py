"""Networks: layers only, as stages; tasks hold the algorithm that runs between them."""

from rcnn_jax.models.backbones import BACKBONES, find_backbone, frozen_layers
from rcnn_jax.models.builder import BackboneOptions
from rcnn_jax.models.channels import ChannelPlan
from rcnn_jax.models.faster_rcnn import FasterRcnn
from rcnn_jax.models.mask_rcnn import MaskRcnn
from rcnn_jax.models.variables import (
    initial_variables,
    layer_order,
    layer_widths,
    narrowed,
    parameter_order,
)

__all__ = [
    "BACKBONES",
    "BackboneOptions",
    "ChannelPlan",
    "FasterRcnn",
    "MaskRcnn",
    "find_backbone",
    "frozen_layers",
    "initial_variables",
    "layer_order",
    "layer_widths",
    "narrowed",
    "parameter_order",
]
