"""Whole images from tiles: detections of overlapping parts become those of the image.

    rows of tiles --merge_rows--> rows of images     detections of the tiles --merge--> detections

Within a tile the detector has suppressed what overlaps; left are objects that two tiles have seen. Where
both saw the whole object their boxes agree, and the ordinary rule holds: above the threshold of NMS the
lower score goes. Where an object crosses the border of a tile, that tile has seen a piece of it, whose
box overlaps the whole one too little for that rule. Such pieces come last, whatever their score, and go
when at least half of them lies in a detection of their class in another tile. A piece stays where no tile
has the whole object: one larger than the overlap.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from rcnn_jax.batches import Batch, GroundTruth
from rcnn_jax.data.sources.boxes import Source
from rcnn_jax.data.sources.tiles import Tile, Window
from rcnn_jax.structures import Detections

PIECE = 0.5
"""Of its area: a piece that lies so far in another detection is a part of that object."""

BORDER = 2.0
"""Pixels of the image: a box that ends so near to a border inside the image may be cut by it."""

Row = tuple[Batch, int, Detections, np.ndarray | None]
"""See `evaluate.loop`."""


def merge(
    detections: Sequence[Detections],
    tiles: Sequence[Window],
    size: tuple[int, int],
    *,
    nms_threshold: float,
    limit: int,
) -> Detections:
    """Returns the detections of an image, best first.

    Args:
      detections: of every tile, all valid, in pixels of the tile.
      tiles: where the tiles lie.
      size: (height, width) of the image.
      nms_threshold: overlap above which one of two goes that were seen whole.
      limit: most detections of an image.
    """
    corners = [np.array(window[:2] * 2, np.float32) for window in tiles]
    moved = [
        one.replace(boxes=np.asarray(one.boxes) + corner)
        for one, corner in zip(detections, corners, strict=True)
    ]
    joined: Any = jax.tree.map(lambda *leaves: np.concatenate(leaves), *moved)
    counts = [len(one.scores) for one in detections]
    of_tile = np.repeat(np.arange(len(tiles)), counts)
    pieces = np.concatenate(
        [_touches(one.boxes, window, size) for one, window in zip(moved, tiles, strict=True)]
    )
    keep = _survivors(joined, of_tile, pieces, nms_threshold)
    kept = np.flatnonzero(keep)
    order = kept[np.argsort(-joined.scores[kept], kind="stable")][:limit]
    return jax.tree.map(lambda leaf: leaf[order], joined)


def _touches(boxes: np.ndarray, window: Window, size: tuple[int, int]) -> np.ndarray:
    """Returns bool[n]: boxes that end at a border of their tile that is none of the image."""
    low, high = np.array(window[:2]), np.array(window[2:])
    first, last = (low > 0), (high < np.array(size))
    begins = ((boxes[:, :2] <= low + BORDER) & first).any(axis=1)
    ends = ((boxes[:, 2:] >= high - BORDER) & last).any(axis=1)
    return np.logical_or(begins, ends)


def _survivors(
    detections: Detections, of_tile: np.ndarray, pieces: np.ndarray, nms_threshold: float
) -> np.ndarray:
    """Returns bool[n]: greedy suppression between tiles, whole objects first, best first."""
    boxes, classes = np.asarray(detections.boxes, np.float64), np.asarray(detections.classes)
    areas = np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(axis=1)
    alive = np.ones(len(boxes), bool)
    # Sorted by the top: a box meets only those that begin before it ends. Without it every pair of
    # thousands of detections would be compared.
    by_top = np.argsort(boxes[:, 0], kind="stable")
    tops, tallest = boxes[by_top, 0], (boxes[:, 2] - boxes[:, 0]).max(initial=0.0)
    order = np.lexsort((np.arange(len(boxes)), -np.asarray(detections.scores), pieces))
    rank = np.argsort(order)
    for i in order.tolist():
        if not alive[i]:
            continue
        first = np.searchsorted(tops, boxes[i, 0] - tallest)
        near = by_top[first : np.searchsorted(tops, boxes[i, 2], side="right")]
        # Only what comes later: a piece lies in another one, which does not lie in it.
        near = near[alive[near] & (rank[near] > rank[i])]
        near = near[(classes[near] == classes[i]) & (of_tile[near] != of_tile[i])]
        sides = np.minimum(boxes[near, 2:], boxes[i, 2:]) - np.maximum(
            boxes[near, :2], boxes[i, :2]
        )
        shared = np.maximum(sides, 0).prod(axis=1)
        same = shared > nms_threshold * (areas[near] + areas[i] - shared)
        part = pieces[near] & (shared >= PIECE * areas[near]) & (shared > 0)
        alive[near[same | part]] = False
    return alive


def merge_rows(
    rows: Iterable[Row],
    source: Source,
    tiles: Sequence[Tile],
    *,
    nms_threshold: float,
    limit: int,
    with_truth: bool,
) -> Iterator[Row]:
    """Yields the rows of whole images, in the order in which their last tile comes.

    Args:
      rows: of tiles.
      source: the whole images.
      tiles: which record is which tile.
      nms_threshold: see `merge`.
      limit: most detections of an image.
      with_truth: the rows have ground truth, that of the whole image.
    """
    counts = np.bincount([tile.record for tile in tiles], minlength=len(source))
    waiting: dict[int, list[tuple[int, Detections, np.ndarray | None]]] = {}
    for batch, row, detections, proposals in rows:
        index = int(batch.image_id[row])
        record = tiles[index].record
        seen = waiting.setdefault(record, [])
        seen.append((index, detections, proposals))
        if len(seen) < counts[record]:
            continue
        del waiting[record]
        # By number: tiles of several canvases come in another order, and ties go to the first.
        seen.sort(key=lambda item: item[0])
        merged = merge(
            [one for _, one, _ in seen],
            [tiles[index].window for index, _, _ in seen],
            source.size(record),
            nms_threshold=nms_threshold,
            limit=limit,
        )
        yield _image(source, record, with_truth), 0, merged, _proposals(seen, tiles)


def _proposals(
    seen: Sequence[tuple[int, Detections, np.ndarray | None]], tiles: Sequence[Tile]
) -> np.ndarray | None:
    moved = [
        one + np.array(tiles[index].window[:2] * 2, np.float32)
        for index, _, one in seen
        if one is not None
    ]
    return np.concatenate(moved) if moved else None


def _image(source: Source, record: int, with_truth: bool) -> Batch:
    """Returns a batch of one whole image at its own size, without pixels."""
    size = np.array([source.size(record)], np.float32)
    gt = None
    if with_truth:
        annotation = source.annotation(record)
        limit = np.tile(size[0], 2)
        gt = GroundTruth(
            boxes=np.clip(annotation.boxes, 0, limit)[None],
            classes=annotation.classes[None],
            valid=np.ones((1, len(annotation.classes)), bool),
            crowd=annotation.crowd[None],
        )
    return Batch(
        images=np.zeros((1, 0, 0, 0), np.uint8),
        image_size=size,
        scale=np.ones((1, 2), np.float32),
        source_size=size,
        image_id=np.array([record], np.int32),
        image_valid=np.ones(1, bool),
        example_index=np.zeros(1, np.int32),
        gt=gt,
    )
