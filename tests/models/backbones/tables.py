"""What a trunk and a tail make of an image and a crop, as shapes; nothing is computed."""

import jax
import jax.numpy as jnp

from rcnn_jax.models.builder import BackboneOptions, Builder

PAPER = BackboneOptions(use_pooling=True, all_projections=False)


def layer_shapes(module, *arguments):
    """({layer: kernel shape}, outputs) of a trunk or tail in evaluation."""
    outputs, variables = jax.eval_shape(
        lambda: module.init_with_output(jax.random.key(0), *arguments, False)
    )
    kernels = {
        name: leaves["kernel"].shape
        for name, leaves in variables["params"].items()
        if "kernel" in leaves
    }
    return kernels, outputs


def trunk_of(backbone, options=PAPER, image=(1, 224, 224, 3)):
    """({layer: kernel shape}, {level: shape of its map}) for an image of the papers' size."""
    kernels, levels = layer_shapes(backbone.trunk(Builder(options=options)), jnp.zeros(image))
    return kernels, {level: each.shape[1:] for level, each in levels.items()}


def tail_of(backbone, channels, side=7, stride=1, options=PAPER):
    """({layer: kernel shape}, width of the vector) for one crop."""
    crops = jnp.zeros((1, side * stride, side * stride, channels))
    kernels, vector = layer_shapes(backbone.tail(Builder(options=options), stride), crops)
    return kernels, vector.shape[1]
