"""Layers: pictures on the canvas of a batch, each in an area of its own, with its objects.

    decoded image --place--> Layer --draw--> pixels of its area
    annotation of the image --objects_on--> Part: the objects that the layer shows

An ordinary image is one layer that fills the valid part of the canvas. A mosaic has four, and what is
pasted onto an image comes from a layer that is never drawn as a whole.
"""

from dataclasses import dataclass, replace

import numpy as np

from rcnn_jax.data.loader import augment, images
from rcnn_jax.data.sources.annotations import Annotation
from rcnn_jax.settings.data import AugmentSettings, GroundTruthSettings

MIN_BOX_SIDE = 1.0
"""Canvas pixels; without augmentation settings, boxes with a shorter side are dropped (TAO)."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A picture on the canvas.

    Attributes:
      image: u8[h w c].
      placed: from the image to the area, in pixels that count from the corner of the area.
      area: (top, left, bottom, right) on the canvas, whole pixels; nothing is drawn outside of it.
      colors: f64[3 4], see `augment.Augmentation`, or None.
    """

    image: np.ndarray
    placed: images.Fit
    area: tuple[int, int, int, int]
    colors: np.ndarray | None

    @property
    def matrix(self) -> np.ndarray:
        """f64[2 3], maps source (x, y, 1) to canvas (x, y)."""
        top, left = self.area[:2]
        return self.placed.matrix + np.array([[0.0, 0.0, left], [0.0, 0.0, top]])


@dataclass(frozen=True, kw_only=True)
class Part:
    """The objects that one layer shows.

    Attributes:
      annotation: of the image of the layer.
      name: of the image, in messages.
      matrix: f64[2 3], maps source (x, y, 1) to canvas (x, y).
      items: i64[n], positions in the annotation.
      boxes: f32[n 4], clipped, on the canvas.
      cover: u8[h w], 1 at the canvas pixels that hide what lies below; None where nothing does.
    """

    annotation: Annotation
    name: str
    matrix: np.ndarray
    items: np.ndarray
    boxes: np.ndarray
    cover: np.ndarray | None = None

    def kept(self, rows: np.ndarray) -> "Part":
        """Returns the part with some of its objects, by row."""
        return replace(self, items=self.items[rows], boxes=self.boxes[rows])


def place(
    image: np.ndarray,
    placed: images.Fit,
    settings: AugmentSettings | None,
    rng: np.random.Generator | None,
) -> Layer:
    """Returns the layer of an image that fills the valid part of its canvas, augmented.

    Args:
      image: u8[h w c].
      placed: how it lies on the canvas by itself.
      settings: random changes, or None for none.
      rng: what they are drawn from; not used without settings.
    """
    if settings is None or rng is None:
        return Layer(image=image, placed=placed, area=(0, 0, *placed.image_size), colors=None)
    drawn = augment.draw(rng, settings, placed.image_size)
    if drawn.matrix is not None:
        placed = images.move(placed, drawn.matrix, drawn.size)
    return Layer(image=image, placed=placed, area=(0, 0, *placed.image_size), colors=drawn.colors)


def move(layer: Layer, shift: tuple[int, int], window: tuple[int, int, int, int]) -> Layer:
    """Returns the layer moved by whole pixels and cut to a window of the canvas.

    Args:
      layer: what is moved.
      shift: (y, x) pixels.
      window: (top, left, bottom, right) on the canvas, which the moved layer reaches into.
    """
    y, x = shift
    area = (
        max(layer.area[0] + y, window[0]),
        max(layer.area[1] + x, window[1]),
        min(layer.area[2] + y, window[2]),
        min(layer.area[3] + x, window[3]),
    )
    size = (area[2] - area[0], area[3] - area[1])
    matrix = layer.matrix + np.array([[0.0, 0.0, x - area[1]], [0.0, 0.0, y - area[0]]])
    placed = replace(layer.placed, canvas=size, image_size=size, matrix=matrix)
    return replace(layer, placed=placed, area=area)


def draw(layer: Layer, out: np.ndarray, channel_order: str) -> None:
    """Draws a layer on a canvas.

    Args:
      layer: what is drawn.
      out: u8[h w c], 0 in the area of the layer.
      channel_order: of `out`: `rgb`, `bgr` or `l`.
    """
    top, left, bottom, right = layer.area
    view = out[top:bottom, left:right]
    images.apply_image(layer.image, layer.placed, view)
    # Colours last, and only where the image is: padding stays 0, as at test time.
    if layer.colors is not None:
        augment.apply_colors(view, layer.colors, channel_order)


def objects_on(
    layer: Layer, annotation: Annotation, name: str, min_side: float, gt: GroundTruthSettings
) -> Part:
    """Returns the objects of an image that have an area on its layer.

    Args:
      layer: the image on the canvas.
      annotation: its objects.
      name: of the image, in messages.
      min_side: shortest side of a box in canvas pixels.
      gt: whether crowds are kept.
    """
    items, boxes = visible_objects(annotation, layer.placed, min_side, gt)
    boxes = boxes + np.array(layer.area[:2] * 2, np.float32)
    return Part(annotation=annotation, name=name, matrix=layer.matrix, items=items, boxes=boxes)


def visible_objects(
    annotation: Annotation, placed: images.Fit, min_side: float, settings: GroundTruthSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Selects the objects with an area on the canvas; returns indices and clipped boxes f32[n 4].

    Args:
      annotation: the objects of an image.
      placed: how the image lies on its canvas.
      min_side: shortest side of a box in canvas pixels.
      settings: whether crowds are kept; the number of objects is not limited here.
    """
    # Clipped twice: on the canvas, since augmentation moves boxes out of it, and before that in the
    # source. Augmentation can also move a box beyond a crop back in, and its pixels are not drawn.
    shown = images.clip_boxes(annotation.boxes, placed.window)
    boxes = images.apply_boxes(shown, placed.matrix)
    boxes = images.clip_boxes(boxes, (0, 0, *placed.image_size))
    sides = boxes[:, 2:] - boxes[:, :2]
    # a box cut to nothing has a side of 0, which no minimum may let through
    keep = (sides >= min_side).all(axis=1) & (sides > 0).all(axis=1)
    keep &= (shown[:, 2:] > shown[:, :2]).all(axis=1)
    if settings.skip_crowd:
        keep &= ~annotation.crowd
    kept = np.flatnonzero(keep)
    return kept, boxes[kept]
