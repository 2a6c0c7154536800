"""Copy-paste: objects of another training image are pasted onto an image.

    donor, augmented by itself -> some of its objects -> alpha over the canvas -> pixels blended
    objects below -> less what is hidden: masks and boxes shrink, what is hardly seen is dropped

An object with a mask is cut out along it and stays where it is in its own image: pasted at random from
one augmented image onto another, as in the paper. Blending made no difference there, so edges are hard.

An object with a box alone is pasted as a rectangle. Its background comes along, so three things differ. A
hard seam would lie exactly on the box and be the easiest thing to find: alpha falls outside of the box
instead, over a rim of context. A piece of a neighbour inside the rectangle would have no label, so only
objects are taken that others hardly reach into. And a rectangle hides more than its object: it goes where
it covers no other object much, or nowhere.

Source: Ghiasi et al.: Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation
(arXiv 2012.07177, 2020); for seams Dwibedi, Misra, Hebert: Cut, Paste and Learn (arXiv 1708.01642, 2017).
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rcnn_jax.data.loader import images, layers, mask_crops
from rcnn_jax.data.loader.layers import Layer, Part
from rcnn_jax.data.loader.mask_crops import Mask, Raster
from rcnn_jax.data.sources.boxes import Source
from rcnn_jax.settings.data import AugmentSettings, GeometrySettings, GroundTruthSettings

MIN_VISIBLE = 0.25
"""An object of which less is left is dropped: its box would hold mostly other things."""

MAX_CROPS = 20
"""Rectangles pasted onto one image, which bounds the search for their positions."""

_DONORS = 3  # images without objects are passed over, this often
_TRIES = 8  # positions of a rectangle
_MAX_HIDDEN = 0.3  # of an object of the image, by one rectangle
_MAX_SHARED = 0.1  # of a rectangle, with its neighbours in its own image
_MIN_WHOLE = 0.95  # of the box of a rectangle, inside its own image
_RIM = 0.15  # of the shorter side of a box, over which alpha falls

_IDENTITY = np.eye(2, 3)


def draw_donor(source: Source, rng: np.random.Generator) -> int | None:
    """Returns a random record that has objects, or None after a few without."""
    for record in rng.integers(len(source), size=_DONORS).tolist():
        if not source.annotation(record).crowd.all():
            return record
    return None


def paste(
    canvas: np.ndarray,
    parts: Sequence[Part],
    source: Source,
    donor: int,
    rng: np.random.Generator,
    *,
    geometry: GeometrySettings,
    settings: AugmentSettings,
    gt: GroundTruthSettings,
    channel_order: str,
) -> list[Part]:
    """Pastes objects of a donor onto an image.

    Args:
      canvas: u8[h w c], the valid part of a canvas, changed in place.
      parts: the objects on it.
      source: the training images.
      donor: record that objects are taken of.
      rng: generator of this image in this epoch.
      geometry: from file to canvas.
      settings: random changes, which the donor has of its own.
      gt: slots of ground truth; no more is pasted than is free of them.
      channel_order: `rgb`, `bgr` or `l`.

    Returns:
      All objects that are visible now, the pasted ones last.
    """
    below = list(parts)
    free = gt.max_objects - sum(len(part.items) for part in parts)
    if free <= 0:
        return below
    layer = _donor_layer(source, donor, canvas.shape[:2], rng, geometry, settings, channel_order)
    # Crowds are kept for now: what reaches into a crowd is no clean rectangle either.
    rules = replace(gt, skip_crowd=False)
    annotation = source.annotation(donor)
    above = layers.objects_on(layer, annotation, source.name(donor), settings.min_box_side, rules)
    # Crowds are never pasted: a region of many objects is no object.
    rows = np.flatnonzero(~annotation.crowd[above.items])
    if not len(rows):
        return below
    rows = rng.permutation(rows)[: rng.integers(1, len(rows) + 1)].tolist()
    picture = np.zeros_like(canvas)
    layers.draw(layer, picture, channel_order)
    cover = np.zeros(canvas.shape[:2], np.uint8)
    if annotation.masks is not None:
        above = _paste_masks(canvas, cover, picture, above, rows[:free])
    else:
        hidden = np.concatenate([part.boxes for part in below])
        above = _paste_crops(canvas, cover, picture, above, rows, hidden, free, layer.area, rng)
    if not len(above.items):
        return below
    return [*(uncovered(part, cover, settings.min_box_side) for part in below), above]


def _donor_layer(
    source: Source,
    donor: int,
    size: tuple[int, int],
    rng: np.random.Generator,
    geometry: GeometrySettings,
    settings: AugmentSettings,
    channel_order: str,
) -> Layer:
    """Returns the donor, augmented, on a canvas of the size; a larger one is cut at random."""
    image = source.image(donor, channel_order)
    whole = layers.place(image, images.fit(image.shape[:2], geometry, (size,)), settings, rng)
    free = np.array(size) - whole.placed.image_size
    y, x = np.rint(rng.uniform(size=2) * free).astype(int).tolist()
    return layers.move(whole, (y, x), (0, 0, *size))


def _paste_masks(
    canvas: np.ndarray, cover: np.ndarray, picture: np.ndarray, part: Part, rows: list[int]
) -> Part:
    """Pastes objects along their masks; returns those of which a pixel was pasted."""
    pasted = []
    for row in rows:
        window = _pixels_of(part.boxes[row], cover.shape)
        mask = _mask_in(part, row, window)
        if mask is None or not mask.any():
            continue
        inside = (slice(window[0], window[2]), slice(window[1], window[3]))
        np.copyto(canvas[inside], picture[inside], where=mask[..., None].astype(bool))
        cover[inside] |= mask
        pasted.append(row)
    return part.kept(np.array(pasted, int))


def _paste_crops(
    canvas: np.ndarray,
    cover: np.ndarray,
    picture: np.ndarray,
    part: Part,
    rows: list[int],
    hidden: np.ndarray,
    free: int,
    area: tuple[int, int, int, int],
    rng: np.random.Generator,
) -> Part:
    """Pastes rectangles where they hide little of the boxes f32[n 4] `hidden`; returns those pasted."""
    clean = _clean(part, cover.shape)
    limits = np.full(len(hidden), _MAX_HIDDEN)
    pasted, boxes = [], []
    for row in rows:
        if len(pasted) == min(free, MAX_CROPS):
            break
        if not clean[row]:
            continue
        shift = _free_position(part.boxes[row], hidden, limits, cover.shape, rng)
        if shift is None:
            continue
        _blend(canvas, cover, picture, part.boxes[row], shift, area)
        pasted.append(row)
        boxes.append(part.boxes[row] + np.array(shift * 2, np.float32))
        # What was pasted is hidden by nothing: its box is not looked at again.
        hidden, limits = np.vstack([hidden, boxes[-1:]]), np.append(limits, 0.0)
    moved = np.array(boxes, np.float32).reshape(-1, 4)
    return replace(part.kept(np.array(pasted, int)), boxes=moved)


def _clean(part: Part, size: tuple[int, int]) -> np.ndarray:
    """Returns bool[n]: objects that are whole and that no other one reaches into much."""
    depth = np.zeros(size, np.int32)
    windows = [_pixels_of(box, size) for box in part.boxes]
    # Counted on the pixels: comparing all pairs of boxes is quadratic, and crowded images are common.
    for top, left, bottom, right in windows:
        depth[top:bottom, left:right] += 1
    shared = np.array([(depth[t:b, le:r] > 1).mean() for t, le, b, r in windows])
    whole = images.apply_boxes(part.annotation.boxes[part.items], part.matrix)
    inside = _area(part.boxes) >= _MIN_WHOLE * _area(whole)
    return inside & (shared <= _MAX_SHARED)


def _free_position(
    box: np.ndarray,
    hidden: np.ndarray,
    limits: np.ndarray,
    size: tuple[int, int],
    rng: np.random.Generator,
) -> tuple[int, int] | None:
    """Returns (y, x) pixels to move a box by so that it hides no more of others than allowed."""
    low, high = -np.floor(box[:2]).astype(int), np.floor(size - box[2:]).astype(int)
    shift = np.zeros(2, int)  # as in its own image, first
    for _ in range(_TRIES):
        moved = box + np.tile(shift, 2)
        sides = np.minimum(hidden[:, 2:], moved[2:]) - np.maximum(hidden[:, :2], moved[:2])
        if (np.maximum(sides, 0).prod(axis=1) <= limits * _area(hidden)).all():
            return int(shift[0]), int(shift[1])
        shift = rng.integers(low, high + 1)
    return None


def _blend(
    canvas: np.ndarray,
    cover: np.ndarray,
    picture: np.ndarray,
    box: np.ndarray,
    shift: tuple[int, int],
    area: tuple[int, int, int, int],
) -> None:
    """Blends a rectangle of the picture with its rim onto the canvas, moved by (y, x) pixels."""
    y1, x1, y2, x2 = box.astype(np.float64)
    rim = max(_RIM * min(y2 - y1, x2 - x1), 1.0)
    rows, from_rows, alpha_y = _span(y1, y2, rim, shift[0], (area[0], area[2]), canvas.shape[0])
    columns, from_columns, alpha_x = _span(
        x1, x2, rim, shift[1], (area[1], area[3]), canvas.shape[1]
    )
    alpha = np.outer(alpha_y, alpha_x).astype(np.float32)
    target, pasted = canvas[rows, columns], picture[from_rows, from_columns]
    mixed = target + (pasted.astype(np.float32) - target) * alpha[..., None]
    target[...] = np.rint(mixed).astype(np.uint8)
    cover[rows, columns] |= (alpha >= 0.5).astype(np.uint8)


def _span(
    begin: float, end: float, rim: float, shift: int, inside: tuple[int, int], side: int
) -> tuple[slice, slice, np.ndarray]:
    """Returns one axis of a rectangle: pixels of the canvas, pixels of the picture, alpha of each."""
    first = max(math.floor(begin - rim), inside[0], -shift)
    last = min(math.ceil(end + rim), inside[1], side - shift)
    centers = np.arange(first, last) + 0.5
    outside = np.maximum(np.maximum(begin - centers, centers - end), 0.0)
    # Half a pixel: a centre that far outside belongs to a pixel that the box still touches.
    alpha = np.clip(1.0 - np.maximum(outside - 0.5, 0.0) / rim, 0.0, 1.0)
    return slice(first + shift, last + shift), slice(first, last), alpha


def uncovered(part: Part, cover: np.ndarray, min_side: float) -> Part:
    """Returns the objects that are still visible under what was pasted, their boxes around the rest.

    Args:
      part: objects of a layer.
      cover: u8[h w], 1 where something was pasted.
      min_side: shortest side of a box in canvas pixels.
    """
    rows, boxes = [], []
    for row, box in enumerate(part.boxes):
        window = _pixels_of(box, cover.shape)
        top, left, bottom, right = window
        hidden = cover[top:bottom, left:right]
        if hidden.any():
            before = _mask_in(part, row, window)
            if before is None or not before.any():
                before = np.ones_like(hidden)
            after = before & ~hidden
            if after.sum() < MIN_VISIBLE * before.sum():
                continue
            box = _around(after, before, box, window)
            if (box[2:] - box[:2]).min() < min_side:
                continue
        rows.append(row)
        boxes.append(box)
    left_over = np.array(boxes, np.float32).reshape(-1, 4)
    return replace(part.kept(np.array(rows, int)), boxes=left_over, cover=cover)


def _around(
    after: np.ndarray, before: np.ndarray, box: np.ndarray, window: tuple[int, int, int, int]
) -> np.ndarray:
    """Returns a box whose sides move in where what was seen there is hidden now."""
    box = box.copy()
    for axis in (0, 1):
        old = np.flatnonzero(before.any(axis=1 - axis))
        new = np.flatnonzero(after.any(axis=1 - axis))
        # Only then: an annotated side lies between pixels, and a pixel more would be less exact.
        if new[0] > old[0]:
            box[axis] = window[axis] + new[0]
        if new[-1] < old[-1]:
            box[axis + 2] = window[axis] + new[-1] + 1
    return box


def visible_mask(mask: Mask, part: Part, box: np.ndarray, size: int) -> np.ndarray:
    """Returns u8[size size], the visible part of a mask inside a box; see `mask_crops.crop_mask`."""
    crop = mask_crops.crop_mask(mask, part.matrix, box, size)
    if part.cover is None:
        return crop
    top, left, bottom, right = _pixels_of(box, part.cover.shape)
    hidden = part.cover[top:bottom, left:right]
    if not hidden.any():
        return crop
    moved = box - np.array([top, left, top, left], np.float32)
    return crop & ~mask_crops.crop_mask(Raster(lambda: hidden), _IDENTITY, moved, size)


def _mask_in(part: Part, row: int, window: tuple[int, int, int, int]) -> np.ndarray | None:
    """Returns the mask of an object on the canvas pixels of a window, or None where it has none."""
    masks = part.annotation.masks
    mask = None if masks is None else masks[part.items[row]]
    if mask is None:
        return None
    top, left, bottom, right = window
    return mask_crops.sample_mask(mask, part.matrix, np.array(window), (bottom - top, right - left))


def _pixels_of(box: np.ndarray, size: Sequence[int]) -> tuple[int, int, int, int]:
    """Returns the canvas pixels (top, left, bottom, right) that a box touches."""
    top, left = math.floor(box[0]), math.floor(box[1])
    return top, left, min(math.ceil(box[2]), size[0]), min(math.ceil(box[3]), size[1])


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
