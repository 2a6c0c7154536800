"""Mosaic: one training image from parts of four.

    point of the canvas -> four quarters -> in each the part of an augmented image

Every quarter shows its image at the scale at which it would be trained alone, cut to a random part. The
mosaic of YOLOv4 (arXiv 2004.10934, 2020, section 3.4) shows whole images at about half the size; anchors
and canvas of a spec were chosen for objects of the size they have, so that is left to `scale_jitter_min`.
"""

import numpy as np

from rcnn_jax.data.loader import images, layers
from rcnn_jax.data.loader.layers import Layer, Part
from rcnn_jax.data.sources.boxes import Source
from rcnn_jax.settings.data import AugmentSettings, GeometrySettings, GroundTruthSettings

MIN_VISIBLE = 0.1
"""Smallest part of a box that must lie in its quarter; less is a rim that nobody would call an object."""

_NEAREST = 0.25
"""Of a side of the canvas: where the four meet lies at least so far inside."""


def mosaic(
    source: Source,
    first: int,
    image: np.ndarray,
    canvas: tuple[int, int],
    rng: np.random.Generator,
    *,
    geometry: GeometrySettings,
    settings: AugmentSettings,
    gt: GroundTruthSettings,
    channel_order: str,
) -> tuple[list[Layer], list[Part]] | None:
    """Returns the layers of a mosaic and their objects.

    Args:
      source: the training images.
      first: the record that the batch has planned; three others are drawn.
      image: u8[h w c], its pixels.
      canvas: (height, width), which the mosaic fills.
      rng: generator of this image in this epoch.
      geometry: from file to canvas.
      settings: random changes, which every image has of its own.
      gt: slots of ground truth.
      channel_order: `rgb`, `bgr` or `l`.

    Returns:
      None where there are more objects than slots: nothing is cut off, the image is then shown alone.
    """
    h, w = canvas
    y = round(h * rng.uniform(_NEAREST, 1 - _NEAREST))
    x = round(w * rng.uniform(_NEAREST, 1 - _NEAREST))
    quarters = [(0, 0, y, x), (0, x, y, w), (y, 0, h, x), (y, x, h, w)]
    # The planned image in any of the four: otherwise the corners of the canvas would see other images.
    rng.shuffle(quarters)
    records = [first, *rng.integers(len(source), size=3).tolist()]
    shown, parts = [], []
    for record, quarter in zip(records, quarters, strict=True):
        pixels = image if record == first else source.image(record, channel_order)
        placed = images.fit(pixels.shape[:2], geometry, (canvas,))
        layer = _part_of(layers.place(pixels, placed, settings, rng), quarter, rng)
        annotation, name = source.annotation(record), source.name(record)
        part = layers.objects_on(layer, annotation, name, settings.min_box_side, gt)
        shown.append(layer)
        parts.append(part.kept(_mostly_visible(part)))
    if sum(len(part.items) for part in parts) > gt.max_objects:
        return None
    return shown, parts


def _part_of(layer: Layer, window: tuple[int, int, int, int], rng: np.random.Generator) -> Layer:
    """Returns a random part of a layer in a window; a smaller one lies anywhere in it, whole."""
    begin, size = np.array(window[:2]), np.array(window[2:]) - window[:2]
    free = size - layer.placed.image_size
    y, x = (begin + np.rint(rng.uniform(size=2) * free).astype(int)).tolist()
    return layers.move(layer, (y, x), window)


def _mostly_visible(part: Part) -> np.ndarray:
    """Returns the rows of the objects of which enough is inside."""
    whole = images.apply_boxes(part.annotation.boxes[part.items], part.matrix)
    return np.flatnonzero(_area(part.boxes) >= MIN_VISIBLE * _area(whole))


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
