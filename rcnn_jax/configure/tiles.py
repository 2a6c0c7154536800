"""Tiles for tiny objects in large pictures: their side and overlap, and the data set that they make.

Relief of a canvas -> TilingSettings -> objects of the tiles -> the same choices as for whole images
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from rcnn_jax.configure.canvas import OVERLAP
from rcnn_jax.configure.pace import Pace, validation_seconds
from rcnn_jax.configure.proposal import Choice, Objects, canvas_on_grid, choose, relief_on
from rcnn_jax.data.layouts.collection import Item
from rcnn_jax.data.sources.tiles import MIN_VISIBLE, windows
from rcnn_jax.settings.data import TilingSettings

LARGEST_OVERLAP = 0.5
"""Of neighbouring tiles: beyond it most pixels are trained on four times."""

# The sides of a canvas are whole cells of a grid, so it may be smaller than the one that the side of a
# tile was computed for. Each attempt takes a tenth off.
_ATTEMPTS = 6
_MOST_SAMPLED = 500  # images that the side of a tile is tried on
_HIDDEN = 0.5
"""Of the objects of a class that are too small: from there on images are cut without being asked."""
_MOST_VALIDATING = 0.5  # of the time, for the one validation that every run has


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tiled:
    """A data set in tiles, and what was chosen for it.

    Attributes:
      tiling: side and overlap of the tiles.
      counts: number of tiles by split.
      objects: of the tiles.
      choice: detector, canvas and anchors for the tiles.
      sentence: what was decided.
      why: it should be.
    """

    tiling: TilingSettings
    counts: Mapping[str, int]
    objects: Objects
    choice: Choice
    sentence: str
    why: str


def choose_tiles(
    items: Sequence[Item],
    objects: Objects,
    choice: Choice,
    pace: Pace,
    minutes: float,
    *,
    masks: bool,
    arch: str,
    canvas: tuple[int, int] | None = None,
) -> Tiled | None:
    """Chooses tiles that show small objects to the detector; None where whole images show them.

    Args:
      items: whole images, with their sizes.
      objects: of them.
      choice: for whole images; its detector is kept.
      pace: of the machine.
      minutes: for training.
      masks: outlines are learnt.
      arch: backbone.
      canvas: the wanted (height, width); None for as many pixels as whole images have.
    """
    if choice.relief is None:
        return None
    side = choice.relief.tile
    # As many pixels as whole images were given, in the shape of a tile. Chosen anew, the canvas would
    # shrink with the tiles, for a picture is not blown up; here that is what they are for.
    square = round(math.sqrt(choice.canvas.pixels))
    canvas = canvas or (square, square)
    with_objects = [item for item in items if any(not obj.crowd for obj in item.objects)]
    sample = with_objects[:: -(-len(with_objects) // _MOST_SAMPLED)]

    size = canvas_on_grid(canvas, choice.writer.grid)
    for _ in range(_ATTEMPTS - 1):
        tiling = TilingSettings(size=side, overlap=overlap_of(objects, side))
        hidden = relief_on(size, tiled_objects(sample, tiling)[0], choice.writer)
        if hidden is None:
            break
        side = max(min(hidden.tile, side * 9 // 10), choice.writer.grid)
    tiling = TilingSettings(size=side, overlap=overlap_of(objects, side))
    shown, counts = tiled_objects(items, tiling)
    sentence = (
        f"{sum(counts.values()):,} tiles of {tiling.size} pixels with an overlap of "
        f"{tiling.overlap:.0%}, of {len(items):,} images"
    )
    kind = choice.family.kind
    chosen, _ = choose(shown, pace, minutes, masks=masks, arch=arch, kind=kind, canvas=canvas)
    each = round(sum(counts.values()) / len(items))
    why = (
        f"{choice.relief.unseen:.0%} of the {choice.relief.whose} would be smaller than "
        f"{choice.relief.side:.0f} pixels on a canvas for whole images, so these are cut into tiles: an "
        f"inference takes about {each} times as long (--no-tiles keeps them whole)"
    )
    return Tiled(
        tiling=tiling,
        counts=counts,
        objects=shown,
        choice=chosen,
        sentence=sentence,
        why=why,
    )


def pays(tiled: Tiled, whole: Choice, objects: Objects, pace: Pace, minutes: float) -> bool:
    """Says whether images should be cut although nobody asked for it.

    Where whole images hide half of the objects of a class, the tiles show them, nearly no object is
    larger than their overlap can be, and half of the time is left beside a validation.

    Args:
      tiled: the tiles, and what was chosen for them.
      whole: what was chosen for whole images.
      objects: of whole images.
      pace: of the machine.
      minutes: for training.
    """
    if whole.relief is None or whole.relief.unseen < _HIDDEN or tiled.choice.relief is not None:
        return False
    large = float(np.quantile(objects.sides.max(axis=1), 0.95))
    validation = validation_seconds(pace, tiled.choice.canvas.pixels, tiled.counts["val"])
    return (
        large <= LARGEST_OVERLAP * tiled.tiling.size
        and validation <= _MOST_VALIDATING * minutes * 60
    )


def overlap_of(objects: Objects, side: int) -> float:
    """Returns the overlap of tiles that shows objects whole in one of them, as a fraction of the side.

    That of the largest object, or a fifth where all are smaller, and half at most: objects beyond that
    are cut by every tile, and a larger overlap for their sake would cost all others. A hundredth of the
    objects is left to chance: one wrong box would quadruple the tiles.
    """
    largest = float(np.quantile(objects.sides.max(axis=1), 0.99))
    return min(max(math.ceil(100 * largest / side) / 100, OVERLAP), LARGEST_OVERLAP)


def tiled_objects(items: Sequence[Item], tiling: TilingSettings) -> tuple[Objects, Counter[str]]:
    """Returns the objects of tiles as training will see them, and the number of tiles by split.

    Args:
      items: whole images, with their sizes.
      tiling: side and overlap.

    Raises:
      DataError: there is no object.
    """
    sizes, owner, sides, names = [], [], [], []
    counts: Counter[str] = Counter()
    for item in items:
        assert item.size is not None
        tiles = np.array(windows(item.size, tiling), np.float64)
        learnt = [obj for obj in item.objects if not obj.crowd]
        boxes = np.array([obj.box for obj in learnt], np.float64).reshape(-1, 4)
        # Tiles x objects of one image: of all images at once it would be a table of billions.
        low = np.maximum(boxes[:, :2], tiles[:, None, :2])
        parts = np.maximum(np.minimum(boxes[:, 2:], tiles[:, None, 2:]) - low, 0.0)
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        tile, obj = np.nonzero((parts.prod(axis=2) >= MIN_VISIBLE * areas) & (areas > 0))
        owner.append(tile + sum(counts.values()))
        sides.append(parts[tile, obj])
        names.append(np.array([each.name for each in learnt], str)[obj])
        sizes.append(tiles[:, 2:] - tiles[:, :2])
        counts[item.split] += len(tiles)
    return Objects.made(*map(np.concatenate, (sizes, owner, sides, names))), counts
