"""Conventions of a checkpoint that no file states, in the words of a spec: `Granted`, one per library."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from rcnn_jax.data.sources.categories import Categories, choose_categories
from rcnn_jax.data.sources.coco_names import COCO_NAMES

THREE_RATIOS = (0.5, 1.0, 2.0)
"""Height over width of the anchors of both libraries."""


@dataclass(frozen=True, kw_only=True)
class Granted:
    """Settings of a detector that no shape in its checkpoint shows.

    Attributes:
      source: the library.
      network: fields of `maskrcnn_config` as text, {name: value as a spec writes it}.
      short_side: of images at test time, in pixels.
      long_side: of images at test time.
      bn_eps: epsilon that batch norm was run with.
      notes: what was assumed or read, one sentence each, to be printed.
      categories: of the classes, None where nobody says.
    """

    source: str
    network: Mapping[str, str]
    short_side: int
    long_side: int
    bn_eps: float
    notes: tuple[str, ...] = field(default=())
    categories: Categories | None = None


def ratio_factors(ratios: tuple[float, ...]) -> str:
    """Returns `aspect_ratios` of a spec, (width factor, height factor), of ratios height / width."""
    pairs = ", ".join(f"({ratio**-0.5:.8f}, {ratio**0.5:.8f})" for ratio in ratios)
    return f'"[{pairs}]"'


def coco_categories(classes: int) -> Categories | None:
    """Returns the categories of a model with so many classes if these are COCO's, else None.

    90 classes are COCO's ids, unused ones included; 80 are its categories in the order of their ids.
    """
    if classes not in (len(COCO_NAMES), max(COCO_NAMES)):
        return None
    return choose_categories(COCO_NAMES, classes + 1, "COCO")
