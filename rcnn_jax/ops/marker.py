"""Markers: ordinary JAX functions that the exporter recognises by name.

An op that becomes one ONNX node is wrapped in a nested jit whose name is `rcnn.<op>` followed by
its static attributes as JSON. Tracing keeps the call as one equation; the exporter reads the name
and never looks inside. Everything else (grad, vmap, pmap, remat) sees a plain function.

Under `jax.vmap` an operand that is mapped gains an axis and one that is not stays as it is; ops
whose operands have a fixed rank therefore tell the exporter how many axes are mapped. Most JAX
operations leave that axis in front, but `jnp.stack` does not: callers see to it, tests check.
"""

import functools
import json
from collections.abc import Callable
from typing import Any

import jax

_PREFIX = "rcnn."


@functools.cache
def marked(name: str, function: Callable[..., Any], **attributes: Any) -> Callable[..., Any]:
    """Returns `function` with its attributes bound, as one equation named after the op.

    The result is kept per (name, function, attributes), so that equal calls share one compilation.

    Args:
      name: of the op, for example `nms`; letters and underscores.
      function: `function(*arrays, **attributes)`; a module-level function, not a fresh closure.
      **attributes: hashable values that JSON can hold (tuples are read back as lists).
    """

    def call(*arrays: Any) -> Any:
        return function(*arrays, **attributes)

    # Set before jit, which takes the name of what it wraps. Keys are sorted: the name must not
    # depend on the order in which a caller writes the attributes.
    call.__name__ = call.__qualname__ = _PREFIX + name + json.dumps(attributes, sort_keys=True)
    # Not a primitive of our own: that has neither a derivative nor a rule for vmap unless both are
    # written by hand (docs/architecture.md, "Decisions").
    return jax.jit(call)


def staged(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns `function` whose operations carry its name, for profiles: `stage(<name>)`."""

    @functools.wraps(function)
    def named(*args: Any, **kwargs: Any) -> Any:
        with jax.named_scope(f"stage({function.__name__})"):
            return function(*args, **kwargs)

    return named


def read_mark(name: str) -> tuple[str, dict[str, Any]] | None:
    """Returns (op, attributes) of a nested jit's name, or None if it is no marker.

    Example:
      >>> read_mark('rcnn.nms{"max_keep": 3}')
      ('nms', {'max_keep': 3})
      >>> read_mark("relu") is None
      True
    """
    if not name.startswith(_PREFIX):
        return None
    op, brace, rest = name[len(_PREFIX) :].partition("{")
    return op, json.loads(brace + rest)
