"""Sums and means over the mapped axis of devices, which cost nothing on one device.

XLA keeps a collective of a single device, and fuses nothing across it: in a step of Mask R-CNN R50-FPN
with trained batch norm 100 of them cut the program into pieces.
"""

from typing import Any

from jax import lax


def sum_over(axis_name: str, tree: Any) -> Any:
    """Returns the sum over the axis of every leaf; call it inside the map."""
    return tree if lax.axis_size(axis_name) == 1 else lax.psum(tree, axis_name)


def mean_over(axis_name: str, tree: Any) -> Any:
    """Returns the mean over the axis of every leaf; call it inside the map."""
    return tree if lax.axis_size(axis_name) == 1 else lax.pmean(tree, axis_name)
