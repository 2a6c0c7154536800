"""Picking rows by index, as one marked op."""

import jax
import jax.numpy as jnp

from rcnn_jax.ops.marker import marked
from rcnn_jax.structures import Array


def gather_rows(table: Array, index: Array) -> jax.Array:
    """Returns table[index] along the first axis.

    Args:
      table: [n ...].
      index: i32[k] in [0, n).

    Returns:
      [k ...]. The marker's attribute `row_rank` is the rank of one row: any further leading axes of
      the exported operands come from `jax.vmap`.
    """
    table = jnp.asarray(table)
    return marked("gather_rows", _gather_rows, row_rank=table.ndim - 1)(table, index)


def _gather_rows(table, index, *, row_rank):
    del row_rank
    # The default mode fills rows out of range with NaN, a comparison and a select for each read;
    # indices come from a top-k or an NMS here and are in range. ONNX Gather has no such mode.
    return jnp.take(table, index, axis=0, mode="clip")
