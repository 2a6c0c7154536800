"""Categories of a data set as classes of a network.

Category ids are arbitrary whole numbers from 1 on; classes are 0..n-1. The map travels in the
bundle, so that results carry the ids of the annotations the model was trained with.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from rcnn_jax.errors import SpecError

ABSENT = 0
"""Id of a class without category; in the data, 0 is the background."""


@dataclass(frozen=True)
class Categories:
    """The categories of a data set as classes of a network.

    Attributes:
      ids: category id of every class; ABSENT for a class that no category has.
      names: name of every class.
    """

    ids: tuple[int, ...]
    names: tuple[str, ...]

    @property
    def class_ids(self) -> dict[int, int]:
        """{category id: class}."""
        return {item_id: index for index, item_id in enumerate(self.ids) if item_id != ABSENT}

    @property
    def unused(self) -> tuple[int, ...]:
        """Classes without a category: they are never predicted."""
        return tuple(index for index, item_id in enumerate(self.ids) if item_id == ABSENT)


def choose_categories(names: Mapping[int, str], num_classes: int, where: str) -> Categories:
    """Maps the categories of a data set to classes by the rule of `num_classes`.

    One more than there are categories: the sorted ids become the classes 0..n-1. More than the
    largest id: class c stands for id c + 1, and ids that do not occur leave unused classes (COCO:
    91 for 80 categories, as the original wants it).

    Args:
      names: category id -> name.
      num_classes: of the spec, background included.
      where: the annotation file, for the message.

    Raises:
      SpecError: num_classes is neither.
    """
    ids = sorted(names)
    if num_classes == len(ids) + 1:
        return Categories(tuple(ids), tuple(names[item_id] for item_id in ids))
    # Tried second: where both rules fit, ids are 1..n and the two give the same classes.
    largest = ids[-1] if ids else 0
    if num_classes <= largest or not ids:
        raise SpecError(
            f"data_config.num_classes = {num_classes} does not fit {where}, which has {len(ids)} "
            f"categories with ids up to {largest}: set it to {len(ids) + 1} (categories + 1: ids "
            f"are renumbered) or to {largest + 1} or more (largest id + 1: ids are used as they "
            "are)"
        )
    return Categories(
        tuple(i if i in names else ABSENT for i in range(1, num_classes)),
        tuple(names.get(i, f"(unused {i})") for i in range(1, num_classes)),
    )


def numbered_categories(num_classes: int) -> Categories:
    """Returns the classes of data without a list of categories: class c is category id c + 1."""
    ids = tuple(range(1, num_classes))
    return Categories(ids, tuple(numbered_name(item_id) for item_id in ids))


def numbered_name(item_id: int) -> str:
    """Returns the name of a category without one."""
    return f"category {item_id}"
