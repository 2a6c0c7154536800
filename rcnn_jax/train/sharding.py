"""Weights and optimizer state divided among the devices (`sharding: "fsdp"`).

Every device keeps a slice of each large leaf. A step gathers the weights, computes gradients on its
images as always, and changes its own slices only:

    slices of weights --all_gather--> weights --losses--> gradients --psum--> own slice --update--> slices

What a device stores shrinks with their number; what is computed stays the same. Compilers turn the sum
and the slice after it into one reduce-scatter where the device has one.

Source: Rajbhandari et al., ZeRO: Memory Optimizations Toward Training Trillion Parameter Models, 2020.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from rcnn_jax.ops.over_devices import sum_over

# Norms and biases: a gather of a few numbers takes longer than it saves.
LEAST = 2**12
"""Elements of a leaf that is worth a slice; smaller ones are on every device."""


@dataclass(frozen=True)
class Slices:
    """How leaves are cut among devices: by shape alone, so momenta are cut as their weights.

    Attributes:
      axis_name: of the map.
      count: of devices.
    """

    axis_name: str
    count: int

    def axis(self, shape: tuple[int, ...]) -> int | None:
        """Returns the axis that leaves of this shape are cut along; None for whole ones."""
        size = 1
        for side in shape:
            size *= side
        # The longest side, and of equal ones the first: one rule for all, known from the shape
        # alone, or a momentum would be cut otherwise than its weight.
        fitting = [(side, -i) for i, side in enumerate(shape) if side % self.count == 0]
        if self.count == 1 or size < LEAST or not fitting:
            return None
        return -max(fitting)[1]

    def specs(self, tree: Any) -> Any:
        """Returns the placement of every leaf of a tree with whole shapes."""

        def spec(leaf: Any) -> PartitionSpec:
            axis = self.axis(tuple(leaf.shape))
            if axis is None:
                return PartitionSpec()
            return PartitionSpec(*[None] * axis, self.axis_name)

        return jax.tree.map(spec, tree)

    def whole(self, tree: Any, shapes: Any) -> Any:
        """Returns whole leaves of slices; call it inside the map.

        Args:
          tree: of slices.
          shapes: the same tree with whole shapes.
        """

        def gather(leaf: jax.Array, like: Any) -> jax.Array:
            axis = self.axis(tuple(like.shape))
            if axis is None:
                return leaf
            # Tiled: joined along the axis instead of stacked on a new one.
            return lax.all_gather(leaf, self.axis_name, axis=axis, tiled=True)

        return jax.tree.map(gather, tree, shapes)

    def own(self, tree: Any) -> Any:
        """Returns this device's slices of whole leaves; call it inside the map."""
        index = lax.axis_index(self.axis_name)

        def cut(leaf: jax.Array) -> jax.Array:
            axis = self.axis(leaf.shape)
            if axis is None:
                return leaf
            # Without a rest: `axis` takes only sides that the count divides, so slices have one
            # shape.
            side = leaf.shape[axis] // self.count
            return lax.dynamic_slice_in_dim(leaf, index * side, side, axis)

        return jax.tree.map(cut, tree)

    def total(self, values: dict[str, jax.Array], shapes: dict[str, Any]) -> jax.Array:
        """Returns the sum of one number per leaf over all devices; whole leaves count once.

        Args:
          values: {leaf: f32[]}, of the slice where the leaf is cut.
          shapes: {leaf: whole shape}.
        """
        cut, whole = jnp.zeros((), jnp.float32), jnp.zeros((), jnp.float32)
        for name, value in values.items():
            if self.axis(tuple(shapes[name].shape)) is None:
                # Every device has it whole and the same, so summing it over devices would count it
                # that many times.
                whole += value
            else:
                cut += value
        return whole + sum_over(self.axis_name, cut)
