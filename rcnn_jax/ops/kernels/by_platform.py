"""A function in two forms, one for a CPU and one for other devices."""

import functools
from collections.abc import Callable, Hashable
from typing import Any

import jax
from jax import lax


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def by_platform(
    cpu: Callable[..., Any],
    default: Callable[..., Any],
    attributes: tuple[Hashable, ...],
    *arrays: jax.Array,
) -> Any:
    """Returns `form(*attributes, *arrays)` in the form of the platform that is compiled for.

    Jitted, so that equal calls of a program are traced once.

    Args:
      cpu: the form for a CPU; a module-level function, not a fresh closure.
      default: the form for other devices, with results of the same shapes and types.
      attributes: tuple of hashable values.
      *arrays: what both forms compute with.
    """
    # Bound to module-level functions: jit compares static arguments by equality, and no two
    # closures are equal.
    forms = {"cpu": cpu, "default": default}
    bound = {name: functools.partial(form, *attributes) for name, form in forms.items()}
    return lax.platform_dependent(*arrays, **bound)
