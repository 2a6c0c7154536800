"""Mask pasting: mask probabilities of a box to COCO run lengths of the whole image.

    mask f32[s s] + box --paste_window--> bool window of the image --encode--> run lengths

Only the window under the box is computed: there is no full-size canvas, so the cost does not grow with
the image. Calls have no common state, so callers may use threads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from rcnn_jax.structures import Detections

Rle = dict[str, Any]
"""COCO compressed run lengths: {"size": [h, w], "counts": str}; ready for JSON."""


@dataclass(frozen=True, eq=False)
class MaskWindow:
    """A full-size mask cut to a window; everything outside is False.

    Attributes:
      top: first image row of the window.
      left: first image column of the window.
      pixels: bool[h w].
    """

    top: int
    left: int
    pixels: np.ndarray


def paste_masks(
    masks: np.ndarray, boxes: np.ndarray, image_size: tuple[int, int], threshold: float = 0.5
) -> list[Rle]:
    """Scales masks to their boxes and encodes them at the size of the image.

    Args:
      masks: f32[d s s] probabilities.
      boxes: f32[d 4] (y1, x1, y2, x2) in pixels of the image; parts outside are cut off.
      image_size: (height, width).
      threshold: a pixel belongs to the object when the interpolated probability is greater.

    Returns:
      One run-length encoding per mask.
    """
    windows = (paste_window(m, b, image_size, threshold) for m, b in zip(masks, boxes, strict=True))
    return [encode_window(window, image_size) for window in windows]


def paste_window(
    mask: np.ndarray, box: np.ndarray, image_size: tuple[int, int], threshold: float = 0.5
) -> MaskWindow:
    """Scales one mask to its box: bilinear, half-pixel centres, zeros around the mask.

    The centre of pixel i lies at i + 0.5; the box is the mask from edge to edge; outside the mask
    everything is 0, so no pixel whose centre is outside the box is ever above one half, and the
    corners of a full mask come out rounded within half a mask cell.
    Source: docs/reference/mask_rcnn.md, "Evaluation".

    Args:
      mask: f32[s s].
      box: f32[4].
      image_size: (height, width).
      threshold: see `paste_masks`.
    """
    (top, rows), (left, columns) = (
        _sampling(float(box[axis]), float(box[axis + 2]), mask.shape[axis], image_size[axis])
        for axis in (0, 1)
    )
    # Interpolation is linear per axis, hence two matrix products; exact in float32, where the
    # warps of OpenCV round positions to 1/32 of a mask cell.
    values = rows @ np.asarray(mask, np.float32) @ columns.T
    return MaskWindow(top, left, values > threshold)


def encode_window(window: MaskWindow, image_size: tuple[int, int]) -> Rle:
    """Encodes a window as run lengths of the whole image, without drawing the image.

    Runs go down the columns; one that reaches the bottom goes on at the top of the next column.

    Args:
      window: inside the image.
      image_size: (height, width).
    """
    height, width = image_size
    rows, columns = window.pixels.shape
    # Signed: the differences are -1, 0, 1. A window without a border would hide runs at its edge.
    edges = np.zeros((columns, rows + 2), np.int8)
    edges[:, 1:-1] = window.pixels.T
    # Every column begins and ends outside, so each has as many starts as ends.
    change = np.diff(edges, axis=1)
    offset = (window.left + np.arange(columns)) * height + window.top
    starts = _positions(change == 1, offset)
    ends = _positions(change == -1, offset)
    if len(starts):
        # A run that ends at the bottom and one that starts at the top of the next column are one.
        separate = starts[1:] != ends[:-1]
        starts = np.concatenate([starts[:1], starts[1:][separate]])
        ends = np.concatenate([ends[:-1][separate], ends[-1:]])
    bounds = np.stack([starts, ends], axis=1).ravel()
    counts = np.diff(bounds, prepend=0, append=height * width)
    # COCO's own encoder writes no last run of length 0.
    if len(bounds) and bounds[-1] == height * width:
        counts = counts[:-1]
    runs: Any = {"counts": counts.tolist(), "size": [height, width]}
    encoded: Any = coco_mask.frPyObjects(runs, height, width)
    return {"size": [height, width], "counts": encoded["counts"].decode("ascii")}


def decode_window(rle: Rle) -> MaskWindow:
    """Decodes run lengths to the window of the object, without drawing the image.

    Args:
      rle: run lengths; counts compressed (str or bytes) or as a list of integers.
    """
    height = rle["size"][0]
    bounds = np.cumsum(_counts(rle["counts"]))
    starts, ends = bounds[0:-1:2], bounds[1::2]
    # Runs of length 0 are legal, and would count as pixels where bounds are looked up.
    starts, ends = starts[starts < ends], ends[starts < ends]
    if len(starts) == 0:
        return MaskWindow(0, 0, np.zeros((0, 0), bool))
    first, last = starts[0] // height, (ends[-1] - 1) // height + 1
    change = np.zeros((last - first) * height + 1, np.int8)
    # Runs may touch in lists of integers (a zero between them): both changes then cancel out.
    np.add.at(change, starts - first * height, 1)
    np.add.at(change, ends - first * height, -1)
    columns = np.cumsum(change[:-1], dtype=np.int8).reshape(last - first, height)
    rows = np.flatnonzero(columns.any(axis=0))
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    return MaskWindow(top, int(first), columns[:, top:bottom].T > 0)


def coco_results(
    image_id: int,
    boxes: np.ndarray,
    scores: np.ndarray,
    category_ids: Sequence[int],
    masks: Sequence[Rle] | None = None,
) -> list[dict]:
    """Returns the detections of one image in the results format of COCO.

    Args:
      image_id: id of the image in the annotation file.
      boxes: f32[d 4] (y1, x1, y2, x2) in source pixels.
      scores: f32[d].
      category_ids: d ids of the annotation file.
      masks: d run-length encodings, or None for boxes only.

    Returns:
      d dictionaries: image_id, category_id, bbox [x, y, width, height], score, maybe segmentation.
    """
    results = []
    for index, (y1, x1, y2, x2) in enumerate(np.asarray(boxes, np.float64).reshape(-1, 4).tolist()):
        entry = {
            "image_id": int(image_id),
            "category_id": int(category_ids[index]),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": float(scores[index]),
        }
        if masks is not None:
            entry["segmentation"] = masks[index]
        results.append(entry)
    return results


def image_results(
    image_id: int,
    detections: Detections,
    category_ids: Sequence[int],
    image_size: tuple[int, int],
) -> list[dict]:
    """Returns the detections of one image in the results format of COCO, masks pasted.

    Args:
      image_id: see `coco_results`.
      detections: of one image, all valid, boxes in source pixels; masks or None.
      category_ids: the id of every class.
      image_size: (height, width) of the image file.
    """
    boxes = np.asarray(detections.boxes)
    masks = None
    if detections.masks is not None:
        masks = paste_masks(np.asarray(detections.masks), boxes, image_size)
    ids = [category_ids[class_id] for class_id in np.asarray(detections.classes).tolist()]
    return coco_results(image_id, boxes, np.asarray(detections.scores), ids, masks)


def _sampling(start: float, stop: float, cells: int, limit: int) -> tuple[int, np.ndarray]:
    """Returns the first pixel under [start, stop) and interpolation weights f32[pixels cells]."""
    first = min(max(int(np.floor(start)), 0), limit)
    last = min(max(int(np.ceil(stop)), first), limit)
    # A box without extent has no pixel under it, but must not divide by zero.
    size = max(stop - start, 1e-6)
    position = (np.arange(first, last) + 0.5 - start) * (cells / size) - 0.5
    distance = np.abs(position[:, None] - np.arange(cells)[None, :])
    return first, np.maximum(1.0 - distance, 0.0).astype(np.float32)


def _positions(change: np.ndarray, offset: np.ndarray) -> np.ndarray:
    column, row = np.nonzero(change)
    return offset[column] + row


def _counts(counts: str | bytes | list[int]) -> list[int]:
    """Unpacks COCO's text form: 5 bits a letter, low bits first, from the third on differences.

    The decoder of pycocotools fills a canvas of the image's size.
    """
    if isinstance(counts, list):
        return counts
    letters = counts.encode("ascii") if isinstance(counts, str) else counts
    values: list[int] = []
    value = shift = 0
    for letter in letters:
        bits = letter - 48
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        # The difference is to the run two before: runs of the object are like each other, as gaps are.
        values.append(value + values[-2] if len(values) > 2 else value)
        value = shift = 0
    return values
