"""Spec files: tables of fields, reading, checking, rendering."""

from rcnn_jax.kinds import SpecKind, TaskName
from rcnn_jax.spec.defaults import default_block, default_config
from rcnn_jax.spec.load import LoadedSpec, load_spec, parse_spec, validate
from rcnn_jax.spec.render import redact, redact_text, render

__all__ = [
    "LoadedSpec",
    "SpecKind",
    "TaskName",
    "default_block",
    "default_config",
    "load_spec",
    "parse_spec",
    "redact",
    "redact_text",
    "render",
    "validate",
]
