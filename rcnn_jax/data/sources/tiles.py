"""Tiles: large images as several overlapping parts, each an image of its own.

    source --tiled--> TiledSource: record = tile      windows(size) --> where the tiles of an image lie

For objects that are tiny in large pictures: a tile fills the canvas that the whole image would fill.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rcnn_jax.data.loader.image_cache import CachedImages
from rcnn_jax.data.loader.mask_crops import Mask, Polygons, Raster
from rcnn_jax.data.sources.annotations import Annotation
from rcnn_jax.data.sources.boxes import Source
from rcnn_jax.data.sources.digest import ImageDigest
from rcnn_jax.settings.data import TilingSettings

MIN_VISIBLE = 0.25
"""An object of which less lies in a tile does not count there; it lies in a neighbour."""

Window = tuple[int, int, int, int]
"""(top, left, bottom, right) in pixels of the whole image."""


@dataclass(frozen=True)
class Tile:
    """A tile: the record of its image, and where it lies in it."""

    record: int
    window: Window


def windows(size: tuple[int, int], tiling: TilingSettings) -> list[Window]:
    """Returns the tiles of an image, row by row.

    They are spread evenly: the first begins and the last ends with the image, so none is padded unless
    the image is smaller than a tile. The overlap is the stated one or more.

    Args:
      size: (height, width) of the image.
      tiling: side and overlap of tiles.
    """
    rows, columns = (_spans(side, tiling) for side in size)
    return [(top, left, bottom, right) for top, bottom in rows for left, right in columns]


def _spans(side: int, tiling: TilingSettings) -> list[tuple[int, int]]:
    tile = min(tiling.size, side)
    shared = min(round(tiling.overlap * tiling.size), tiling.size - 1)
    count = max(math.ceil((side - shared) / (tiling.size - shared)), 1)
    begins = np.rint(np.linspace(0, side - tile, count)).astype(int).tolist()
    return [(begin, begin + tile) for begin in begins]


def tiled(source: Source, tiling: TilingSettings | None) -> Source:
    """Returns the tiles of a source; the source itself without tiling."""
    return source if tiling is None else TiledSource(source, tiling)


class TiledSource:
    """A source whose records are the tiles of the images of another one, image by image.

    Args:
      source: whole images.
      tiling: side and overlap of tiles.
    """

    def __init__(self, source: Source, tiling: TilingSettings):
        self.class_names = source.class_names
        self.findings = source.findings
        # Of the tiles of an image one after the other only the first decodes it.
        self._source = CachedImages(source)
        self.tiles = tuple(
            Tile(record, window)
            for record in range(len(source))
            for window in windows(source.size(record), tiling)
        )

    def __len__(self) -> int:
        return len(self.tiles)

    def name(self, index: int) -> str:
        """The name of the whole image and the position of the tile."""
        tile = self.tiles[index]
        top, left, bottom, right = tile.window
        return f"{self._source.name(tile.record)} (rows {top}-{bottom}, columns {left}-{right})"

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of the tile."""
        top, left, bottom, right = self.tiles[index].window
        return bottom - top, right - left

    def image(self, index: int, channel_order: str) -> np.ndarray:
        """u8[h w c]."""
        tile = self.tiles[index]
        top, left, bottom, right = tile.window
        # A copy: a view that somebody keeps would keep the pixels of the whole image.
        return self._source.image(tile.record, channel_order)[top:bottom, left:right].copy()

    def annotation(self, index: int) -> Annotation:
        """The objects of which enough lies in the tile, in its pixels; boxes may leave it."""
        tile = self.tiles[index]
        whole = self._source.annotation(tile.record)
        kept = np.flatnonzero(visible(whole.boxes, tile.window) >= MIN_VISIBLE)
        corner = np.array(tile.window[:2] * 2, np.float32)
        masks = None
        if whole.masks is not None:
            masks = tuple(_cut(whole.masks[item], tile.window) for item in kept.tolist())
        return Annotation(
            boxes=whole.boxes[kept] - corner,
            classes=whole.classes[kept],
            crowd=whole.crowd[kept],
            masks=masks,
        )

    def digest(self, index: int) -> ImageDigest:
        """The digest of the whole image."""
        return self._source.digest(self.tiles[index].record)


def visible(boxes: np.ndarray, window: Window) -> np.ndarray:
    """Returns f32[m], the fraction of every box in a window; 0 for boxes without an area."""
    sides = np.minimum(boxes[:, 2:], window[2:]) - np.maximum(boxes[:, :2], window[:2])
    inside = np.maximum(sides, 0).prod(axis=1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return np.divide(inside, area, out=np.zeros_like(inside), where=area > 0)


def _cut(mask: Mask | None, window: Window) -> Mask | None:
    top, left = window[:2]
    match mask:
        case Polygons(rings):
            return Polygons(tuple(ring - (left, top) for ring in rings))
        case Raster(decode):
            return Raster(functools.partial(_cut_pixels, decode, window))
        case None:
            return None


def _cut_pixels(decode: Callable[[], np.ndarray], window: Window) -> np.ndarray:
    top, left, bottom, right = window
    return np.ascontiguousarray(decode()[top:bottom, left:right])
