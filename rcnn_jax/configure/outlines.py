"""Outlines for a detector that learns masks: every object has one, or is left out."""

from collections import Counter
from collections.abc import Sequence

from rcnn_jax.data.layouts.collection import Item, without_outline_as_crowds
from rcnn_jax.errors import DataError


def with_outlines(
    items: Sequence[Item], source: str, layout: str, *, accept: bool
) -> tuple[tuple[Item, ...], str]:
    """Returns items whose objects without an outline are crowds, and a sentence on those; else "".

    Args:
      items: the images with their objects.
      source: of the items, for messages.
      layout: of their labels.
      accept: objects without an outline may be left out.

    Raises:
      DataError: there are such objects, and that is not accepted; or no outline at all.
    """
    objects = [obj for item in items for obj in item.objects if not obj.crowd]
    bare = [obj for obj in objects if obj.outline is None]
    # Now: a training on boxes that are taken for outlines would run for hours and learn rectangles.
    if objects and len(bare) == len(objects):
        raise DataError(
            f"{source}: --masks needs outlines, and its {layout} labels have boxes alone"
        )
    if not bare:
        return tuple(items), ""
    counts = Counter(obj.name for obj in bare).most_common(5)
    which = (
        f"{len(bare):,} of {len(objects):,} objects have a box alone "
        f"({', '.join(f'{name} {count:,}' for name, count in counts)}; the first is "
        f"{bare[0].where or 'without a position'})"
    )
    if not accept:
        raise DataError(
            f"{source}: --masks needs an outline of every object, and {which}: draw them, learn boxes "
            "without --masks, or give --accept-errors to leave these objects out"
        )
    return without_outline_as_crowds(items), f"--masks: {which}: they are left out"
