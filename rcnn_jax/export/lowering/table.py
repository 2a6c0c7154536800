"""The table of primitives the exporter knows; a new one is one row in one of three files."""

from rcnn_jax.export.lowering.dense import DENSE
from rcnn_jax.export.lowering.elementwise import ELEMENTWISE, Rule
from rcnn_jax.export.lowering.shaping import SHAPING

LOWERINGS: dict[str, Rule] = {**ELEMENTWISE, **SHAPING, **DENSE}
"""Primitive name -> lowering."""
