"""Test-time augmentation: prediction over several views of an image, as one compiled program.

    canvas --view--> boxes --back to the canvas--.
    canvas --view--> boxes --back to the canvas---+-- NMS per class --> detections
                                                  '-- the mask of each detection in every view, averaged

Views are mirrored or scaled copies of the canvas, made on the device: shapes follow from the canvas and
the settings, so a program is compiled once. A larger view is made of the pixels of the canvas and shows
no detail that these lack; it moves objects to other levels and anchors.

Source: the test-time augmentation of detectron2 (its documentation, "GeneralizedRCNNWithTTA"), whose
merged detections are those of the detector's own NMS, and whose masks are averaged.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from rcnn_jax.models.network import Network
from rcnn_jax.ops.nms import batched_nms, best_over_rows
from rcnn_jax.settings.detection import DetectionSettings
from rcnn_jax.settings.network import PixelSettings
from rcnn_jax.settings.views import ViewSettings
from rcnn_jax.structures import Array, Detections, Levels, Proposals
from rcnn_jax.tasks import recipe
from rcnn_jax.tasks.task import TestSettings
from rcnn_jax.tasks.two_stage import TwoStageSettings

Boxes = Callable[[Levels, Proposals, jax.Array], Detections]
"""Features, proposals and (height, width) of a canvas -> detections without masks."""

Masks = Callable[[Levels, Detections], jax.Array]
"""Features and detections on their canvas -> masks f32[b d s s] in [0, 1] of their classes."""


@dataclass(frozen=True)
class View:
    """One copy of a canvas.

    Attributes:
      size: (height, width) of the copy.
      canvas: (height, width) of what is copied.
      flip: mirrored, left to right.
    """

    size: tuple[int, int]
    canvas: tuple[int, int]
    flip: bool

    def of(self, images: Array) -> jax.Array:
        """Returns the view of images [b h w c]; a scaled one as float32."""
        seen = jnp.asarray(images)
        if self.size != self.canvas:
            shape = (seen.shape[0], *self.size, seen.shape[3])
            seen = jax.image.resize(seen.astype(jnp.float32), shape, "linear", antialias=True)
        return seen[:, :, ::-1] if self.flip else seen

    def there(self, boxes: Array) -> jax.Array:
        """Returns boxes f32[... 4] of the canvas as they lie in the view."""
        return self._mirrored(jnp.asarray(boxes) * self._scale(boxes))

    def back(self, boxes: Array) -> jax.Array:
        """Returns boxes f32[... 4] of the view as they lie on the canvas."""
        return self._mirrored(jnp.asarray(boxes)) / self._scale(boxes)

    def _scale(self, boxes: Array) -> jax.Array:
        # Per axis: sides are rounded to whole cells, so a scale is not quite the same in both.
        (height, width), (from_height, from_width) = self.size, self.canvas
        y, x = height / from_height, width / from_width
        return jnp.broadcast_to(jnp.asarray((y, x, y, x), jnp.float32), boxes.shape)

    def _mirrored(self, boxes: jax.Array) -> jax.Array:
        if not self.flip:
            return boxes
        y1, x1, y2, x2 = jnp.moveaxis(boxes, -1, 0)
        return jnp.stack((y1, self.size[1] - x2, y2, self.size[1] - x1), axis=-1)


def views_of(settings: ViewSettings, canvas: tuple[int, int], stride: int) -> tuple[View, ...]:
    """Returns the views of a canvas, the canvas itself first.

    Args:
      settings: which ones.
      canvas: (height, width), multiples of the stride where the network asks for it.
      stride: of the coarsest level; scaled sides are rounded to a multiple of it.
    """
    sizes = [canvas]
    for scale in settings.scales[1:]:
        height, width = (max(round(side * scale / stride), 1) * stride for side in canvas)
        sizes.append((height, width))
    flips = (False, True) if settings.flip else (False,)
    # Of small canvases two scales may round to one size: looked at twice it would find nothing more.
    return tuple(View(size, canvas, flip) for size in dict.fromkeys(sizes) for flip in flips)


def predict_views(
    network: Network,
    images: Array,
    pixels: PixelSettings,
    settings: TwoStageSettings,
    test: TestSettings,
    num_classes: int,
    boxes: Boxes,
    masks: Masks | None = None,
) -> tuple[Detections, Proposals]:
    """Returns the detections over all views, on the canvas, and the proposals of the canvas itself.

    Args:
      network: bound.
      images: u8[b h w c] on the canvas.
      pixels: how images become network values.
      settings: numbers of the algorithm.
      test: counts and thresholds, with views.
      num_classes: without background.
      boxes: of one view.
      masks: of detections in one view; None for a model without masks.
    """
    assert test.views is not None
    canvas = (int(images.shape[1]), int(images.shape[2]))
    stride = 2 ** max(level for level, _ in settings.cell_sizes)
    views = views_of(test.views, canvas, stride)
    features: list[Levels] = []

    def heads(maps: Levels, proposals: Proposals, size: jax.Array) -> Detections:
        features.append(maps)  # masks are read from them when the views are merged
        return boxes(maps, proposals, size)

    detections, proposed = [], []
    for view in views:
        ours, theirs = recipe.prediction(network, view.of(images), pixels, settings, test, heads)
        detections.append(ours.replace(boxes=view.back(ours.boxes)))
        proposed.append(theirs)
    merged = merge(detections, test.detections, num_classes)
    if masks is not None:
        planes = []
        for view, maps in zip(views, features, strict=True):
            plane = masks(maps, merged.replace(boxes=view.there(merged.boxes)))
            planes.append(plane[..., ::-1] if view.flip else plane)
        merged = merged.replace(masks=sum(planes) / len(planes))
    return merged, proposed[0]


def merge(
    detections: list[Detections], settings: DetectionSettings, num_classes: int
) -> Detections:
    """Returns the best detections of several lists on one canvas, suppressed per class.

    Args:
      detections: of the views, each [b d], boxes on the canvas, without masks.
      settings: threshold of the NMS, and how many stay; the lists were cut at the least score already.
      num_classes: without background.
    """
    joined = jax.tree.map(lambda *leaves: jnp.concatenate(leaves, axis=1), *detections)
    return jax.vmap(lambda one: _merge(one, settings, num_classes))(joined)


def _merge(one: Detections, settings: DetectionSettings, num_classes: int) -> Detections:
    """Merges the detections of one image, [v]."""
    classes = jnp.arange(num_classes)[:, None]
    own = (jnp.asarray(one.classes)[None] == classes) & jnp.asarray(one.valid)[None]  # [n v]
    scores = jnp.where(own, jnp.asarray(one.scores)[None], 0.0)
    boxes = jnp.broadcast_to(jnp.asarray(one.boxes), (num_classes, *one.boxes.shape))
    # As `ops.detections` does with one view: a row of all boxes per class, of which those of other
    # classes are invalid. The views come in order, so of equal scores the canvas itself wins.
    index, kept = batched_nms(
        boxes,
        scores,
        own,
        threshold=settings.nms_threshold,
        max_keep=min(settings.max_detections, one.scores.shape[0]),
    )
    boxes, scores, classes, valid = best_over_rows(
        boxes, scores, index, kept, settings.max_detections
    )
    return Detections(boxes=boxes, scores=scores, classes=classes, valid=valid)
