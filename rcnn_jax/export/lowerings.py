"""The table of primitives the exporter knows; a new one is one row in one of three files."""

from rcnn_jax.export.dense import DENSE
from rcnn_jax.export.elementwise import ELEMENTWISE, Rule
from rcnn_jax.export.shaping import SHAPING

LOWERINGS: dict[str, Rule] = {**ELEMENTWISE, **SHAPING, **DENSE}
"""Primitive name -> lowering."""
