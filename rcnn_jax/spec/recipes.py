"""Recipes: names that stand for several fields of a training spec.

    given fields + recipe "small_data"  --expand-->  given fields + those that the recipe sets

An ingredient is a row here: a recipe that proves better gets a line, not code. A given field always wins,
also as 0 or False. Expansion comes before defaults, and its result is what is written down:
`recipe_fields` names what the recipe has set, and a spec that has it is not expanded again. So a finished
model, a copied spec and a resumed run keep their values whatever a later version puts into the recipe.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rcnn_jax.errors import SpecError
from rcnn_jax.kinds import SpecKind
from rcnn_jax.spec.schema import Message

Values = dict[str, Any]
"""Given fields as `text.scan` reads them: nested dicts, literals as text, enums by name."""

NOTHING = "none"
"""Entry of `recipe_fields` where every field of a recipe was given: the spec is expanded all the same."""


@dataclass(frozen=True)
class Ingredient:
    """Fields that stand together.

    Attributes:
      fields: {path: value}, each set where it is not given.
      unless: paths; where one of them is given, the ingredient is left out. A learning rate is right for
        its optimizer only, so a given optimizer takes the recipe's rate along.
      needs: paths of which one must be given.
    """

    fields: Mapping[str, Any]
    unless: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Expansion:
    """A spec with its recipe expanded.

    Attributes:
      values: given fields and those of the recipe.
      fields: {path: value} of what the recipe has set, in the order of its rows.
      kept: paths that the spec gives itself, in place of the recipe.
      recorded: whether the recipe was read from a run that had begun with it.
    """

    values: Values
    fields: dict[str, Any] = field(default_factory=dict)
    kept: tuple[str, ...] = ()
    recorded: bool = False

    def sentence(self, name: str) -> str:
        """Text of the fields that the recipe has set, a line each."""
        since = ", as it was when this run began," if self.recorded else ""
        head = f'recipe "{name}"{since} sets {len(self.fields)} fields'
        lines = [head + ":" * bool(self.fields)]
        lines += [f"  {path} = {_shown(value)}" for path, value in self.fields.items()]
        if self.kept:
            lines.append(f"  given in the spec, and kept: {', '.join(self.kept)}")
        return "\n".join(lines)


# The numbers are those of the specs of `experiments` that trained best from random and ImageNet weights
# (bccd_resnet18_scratch, nuclei_resnet18_scratch); docs/recipes.md has what was measured of each row.
RECIPES: dict[str, dict[SpecKind, tuple[Ingredient, ...]]] = {
    "small_data": {
        "faster_rcnn": (
            Ingredient({"training_config.ema_decay": 0.995}),
            Ingredient({"training_config.clip_norm": 10.0}),
            Ingredient({"training_config.gt_as_roi": True}),
            Ingredient(
                {
                    "training_config.optimizer.sgd.momentum": 0.9,
                    "training_config.optimizer.sgd.nesterov": True,
                    "training_config.learning_rate.cosine.base_lr": 0.015,
                    "training_config.learning_rate.cosine.start_lr": 0.002,
                    "training_config.learning_rate.cosine.soft_start": 0.05,
                },
                unless=("training_config.optimizer", "training_config.learning_rate"),
            ),
            Ingredient(
                {
                    "training_config.enable_augmentation": True,
                    "augmentation_config.spatial_augmentation.hflip_probability": 0.5,
                }
            ),
            Ingredient(
                {
                    "training_config.early_stopping.monitor": "map",
                    "training_config.early_stopping.patience": 10,
                },
                unless=("training_config.early_stopping",),
                needs=(
                    "dataset_config.validation_data_source",
                    "dataset_config.validation_fold",
                    "dataset_config.tfds_name",
                ),
            ),
        ),
        "mask_rcnn": (
            Ingredient({"ema_decay": 0.995}),
            Ingredient(
                {"learning_rate_schedule": "cosine"},
                unless=("learning_rate_steps", "learning_rate_decay_levels"),
            ),
            Ingredient({"data_config.scale_jitter_min": 0.8, "data_config.scale_jitter_max": 1.25}),
            Ingredient(
                {"early_stopping.monitor": "map", "early_stopping.patience": 10},
                unless=("early_stopping",),
                needs=(
                    "data_config.validation_file_pattern",
                    "data_config.coco_val_image_dir",
                    "data_config.tfds_name",
                ),
            ),
        ),
    },
}
"""{recipe: {detector: ingredients}}. A name stays readable in later versions: files carry it."""

NAMES = tuple(RECIPES)


def expand(
    values: Values,
    kind: SpecKind,
    table: Message,
    recorded: Values | None = None,
) -> Expansion | None:
    """Returns the spec with its recipe expanded; None where there is none left to expand.

    Args:
      values: the given fields; left as they are.
      kind: which detector.
      table: of the fields.
      recorded: fields of a run that goes on. Where it began with this recipe, what it recorded is set,
        and not what the recipe is today.
    """
    name = values.get("recipe")
    rows = RECIPES.get(str(name), {}).get(kind)
    if rows is None or values.get("recipe_fields"):
        return None
    pinned = _recorded_row(recorded, name)
    expanded = copy.deepcopy(values)
    fields, kept = {}, []
    for row in rows if pinned is None else (pinned,):
        if row.needs and not any(_at(values, path) is not None for path in row.needs):
            continue
        standing = [path for path in row.unless if _at(values, path) is not None]
        kept += standing
        for path, value in row.fields.items() if not standing else ():
            if _at(values, path) is not None or _rival(values, path, table):
                kept.append(path)
            else:
                _set(expanded, path, value)
                fields[path] = value
    expanded["recipe_fields"] = list(fields) or [NOTHING]
    return Expansion(expanded, fields, tuple(kept), pinned is not None)


def apply_recipe(name: str, kind: SpecKind, build: Callable[[Values], Any]) -> Any:
    """Returns a config of the fields of a recipe and of defaults.

    Args:
      name: of the recipe.
      kind: which detector.
      build: makes a config of given fields.

    Raises:
      SpecError: there is no such recipe of this detector.
    """
    rows = RECIPES.get(name, {}).get(kind)
    if rows is None:
        known = ", ".join(repr(each) for each, kinds in RECIPES.items() if kind in kinds) or "none"
        raise SpecError(f"recipe {name!r}: unknown for {kind}; known: {known}")
    values: Values = {"recipe": name}
    fields = [item for row in rows if not row.needs for item in row.fields.items()]
    for path, value in fields:
        _set(values, path, value)
    values["recipe_fields"] = [path for path, _ in fields]
    return build(values)


def unexpanded(config: Any) -> Iterator[tuple[str, str]]:
    """Yields a finding where a config names a recipe that nobody has expanded."""
    # An unknown name is reported by the check of its range.
    if config.recipe in RECIPES and not config.recipe_fields:
        yield (
            "recipe",
            f"= {config.recipe!r} has no effect in a config: what is given and what is a default cannot "
            "be told apart there. Begin it with default_config(kind, recipe=...), or name it in a "
            "spec of text",
        )
    if config.recipe_fields and not config.recipe:
        yield "recipe_fields", "needs recipe: it says which fields that one has set"


def _recorded_row(recorded: Values | None, name: Any) -> Ingredient | None:
    """Fields of this recipe as a run has recorded them; None where it has another one."""
    if recorded is None or recorded.get("recipe") != name:
        return None
    paths = [path for path in recorded.get("recipe_fields", ()) if path != NOTHING]
    values = {path: _at(recorded, path) for path in paths}
    return Ingredient({path: value for path, value in values.items() if value is not None})


def _at(values: Values, path: str) -> Any:
    """Value or block of values at a path of field names; None where none is given."""
    here: Any = values
    for name in path.split("."):
        here = here.get(name) if isinstance(here, dict) else None
    return here


def _rival(values: Values, path: str, table: Message) -> bool:
    """Returns whether a given field excludes one on the way to a path."""
    here: Any = values
    for name in path.split("."):
        row = table.find(name)
        if row is None or not isinstance(here, dict):
            return False
        rivals = [each.name for each in table.fields if row.oneof and each.oneof == row.oneof]
        if any(each in here for each in rivals if each != name):
            return True
        here, table = here.get(name), row.message or table
    return False


def _set(values: Values, path: str, value: Any) -> None:
    *blocks, name = path.split(".")
    for block in blocks:
        values = values.setdefault(block, {})
    values[name] = value


def _shown(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)
