"""Default configs: the start of a config file in Python."""

from typing import Any

from rcnn_jax.kinds import SpecKind
from rcnn_jax.spec.build import build
from rcnn_jax.spec.kinds import TABLES
from rcnn_jax.spec.recipes import apply_recipe
from rcnn_jax.spec.schema import walk


def default_config(kind: SpecKind, recipe: str | None = None) -> Any:
    """Returns a `ConfigDict` of defaults: fields can be set, new ones cannot be added.

    Args:
      kind: of the config. Required fields are absent; `validate` lists them.
      recipe: its fields are set too, but for those that need others, such as validation data; what is
        assigned afterwards wins.

    Raises:
      SpecError: there is no such recipe.
    """
    if recipe is not None:
        return apply_recipe(recipe, kind, lambda values: build(values, TABLES[kind]))
    return build({}, TABLES[kind])


def default_block(kind: SpecKind, path: str) -> Any:
    """Returns one block with the defaults of its fields, for a list of blocks.

    Args:
      kind: of the config the block goes into.
      path: field that holds the block, such as `dataset_config.data_sources`.

    Raises:
      KeyError: there is no such block.
    """
    for name, field in walk(TABLES[kind]):
        if name == path and field.message is not None:
            return build({}, field.message)
    raise KeyError(f"a {kind} spec has no block {path}")
