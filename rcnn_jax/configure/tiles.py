"""Tiles for tiny objects in large pictures: their side and overlap, and the data set that they make.

Relief of a canvas -> TilingSettings -> items of tiles -> the same choices as for whole images
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from rcnn_jax.configure.canvas import OVERLAP
from rcnn_jax.configure.pace import Pace
from rcnn_jax.configure.proposal import Choice, Objects, choose
from rcnn_jax.data.layouts.collection import Item
from rcnn_jax.data.sources.tiles import MIN_VISIBLE, visible, windows
from rcnn_jax.settings.data import TilingSettings

LARGEST_OVERLAP = 0.5
"""Of neighbouring tiles: beyond it most pixels are trained on four times."""

# The sides of a canvas are whole cells of a grid, so it may be smaller than the one that the side of a
# tile was computed for. Each attempt takes a tenth off.
_ATTEMPTS = 6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tiled:
    """A data set in tiles, and what was chosen for it.

    Attributes:
      tiling: side and overlap of the tiles.
      items: the tiles as images of their own; each has the file and the split of its image.
      objects: of the tiles.
      choice: detector, canvas and anchors for the tiles.
      sentence: what was decided.
    """

    tiling: TilingSettings
    items: tuple[Item, ...]
    objects: Objects
    choice: Choice
    sentence: str


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
    for attempt in range(_ATTEMPTS):
        tiling = TilingSettings(size=side, overlap=overlap_of(objects, side))
        tiles = tiled_items(items, tiling)
        shown = Objects.of(tiles)
        kind = choice.family.kind
        chosen, _ = choose(shown, pace, minutes, masks=masks, arch=arch, kind=kind, canvas=canvas)
        if chosen.relief is None or attempt == _ATTEMPTS - 1:
            break
        side = max(min(chosen.relief.tile, side * 9 // 10), choice.writer.grid)
    sentence = (
        f"{len(tiles):,} tiles of {tiling.size} pixels with an overlap of {tiling.overlap:.0%}, of "
        f"{len(items):,} images"
    )
    return Tiled(tiling=tiling, items=tiles, objects=shown, choice=chosen, sentence=sentence)


def overlap_of(objects: Objects, side: int) -> float:
    """Returns the overlap of tiles that shows objects whole in one of them, as a fraction of the side.

    That of the largest object, or a fifth where all are smaller, and half at most: objects beyond that
    are cut by every tile, and a larger overlap for their sake would cost all others.
    """
    largest = float(objects.sides.max())
    return min(max(math.ceil(100 * largest / side) / 100, OVERLAP), LARGEST_OVERLAP)


def tiled_items(items: Sequence[Item], tiling: TilingSettings) -> tuple[Item, ...]:
    """Returns the tiles of images as items, each with what training will see of the objects.

    Args:
      items: whole images, with their sizes.
      tiling: side and overlap.
    """
    result = []
    for item in items:
        assert item.size is not None
        boxes = np.array([obj.box for obj in item.objects], np.float64).reshape(-1, 4)
        for window in windows(item.size, tiling):
            top, left, bottom, right = window
            cut = np.clip(boxes - (top, left, top, left), 0, (bottom - top, right - left) * 2)
            kept = np.flatnonzero(visible(boxes, window) >= MIN_VISIBLE).tolist()
            parts = tuple(
                dataclasses.replace(item.objects[index], box=tuple(cut[index].tolist()))
                for index in kept
            )
            size = bottom - top, right - left
            result.append(dataclasses.replace(item, size=size, objects=parts))
    return tuple(result)
