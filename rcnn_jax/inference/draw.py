"""Annotated images: boxes, captions and masks, readable at any size.

Line width and text height follow the size of the picture. Detections are drawn worst first, so the
best are on top. Captions are placed best first, each at the position around its box that covers least of
earlier captions, and left out where they would hide other objects.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from rcnn_jax.evaluate.masks import MaskWindow, Rle, decode_window, paste_masks
from rcnn_jax.evaluate.palette import class_color
from rcnn_jax.inference.captions import draw_tag, make_tag, place_tags
from rcnn_jax.structures import Detections

Color = tuple[int, int, int]
_MASK_OPACITY = 0.45


def line_width(height: int, width: int) -> int:
    """Returns the width of box edges in pixels: a fixed fraction of the picture's side, at least 1."""
    return max(1, round(0.0036 * float(np.sqrt(height * width))))


def text_height(height: int, width: int) -> int:
    """Returns the height of capital letters in pixels: a fraction of the side, at least 6."""
    return max(6, round(3.5 + 0.013 * float(np.sqrt(height * width))))


def draw(
    image: np.ndarray,
    boxes: np.ndarray,
    scores: np.ndarray | None,
    classes: np.ndarray,
    class_names: Sequence[str],
    *,
    captions: bool,
    masks: Sequence[np.ndarray | Rle] | None = None,
) -> np.ndarray:
    """Returns a copy of a picture with detections or ground truth drawn on it.

    Args:
      image: u8[h w 3], RGB.
      boxes: f32[d 4] (y1, x1, y2, x2) in pixels of the picture.
      scores: f32[d] in [0, 1], or None for ground truth: captions then show the name only.
      classes: i32[d], indices into `class_names`.
      class_names: n names.
      captions: whether to write `name 0.97` at each box.
      masks: per detection bool[h w] or COCO run lengths; None for boxes only.

    Returns:
      u8[h w 3], RGB.

    Raises:
      ValueError: the picture is not u8[h w 3].
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"image is {image.dtype}{list(image.shape)}, expected uint8[h w 3]")
    canvas = np.ascontiguousarray(image).copy()
    height, width = canvas.shape[:2]
    line = line_width(height, width)
    order = np.arange(len(boxes))
    if scores is not None:
        order = np.argsort(-np.asarray(scores), kind="stable")
    colors = [class_color(int(index)) for index in classes]
    corners = [_corners(box, height, width) for box in np.asarray(boxes)]
    # All shapes before all captions: a box of a worse detection must not cross out the name of a
    # better one.
    for index in order[::-1]:
        if masks is not None:
            _draw_mask(canvas, _window(masks[index]), colors[index], line)
        _draw_box(canvas, corners[index], colors[index], line)
    if captions:
        names = [str(class_names[classes[index]]) for index in order]
        numbers = [""] * len(order) if scores is None else [f" {scores[i]:.2f}" for i in order]
        letter = text_height(height, width)
        tags = [make_tag(*parts, letter, width) for parts in zip(names, numbers, strict=True)]
        positions = place_tags(tags, [corners[index] for index in order], (height, width), line)
        for tag, position, index in list(zip(tags, positions, order, strict=True))[::-1]:
            if position is not None:
                draw_tag(canvas, tag, position, colors[index])
    return canvas


def draw_detections(
    image: np.ndarray,
    detections: Detections,
    class_names: Sequence[str],
    *,
    captions: bool,
    masks: bool,
) -> np.ndarray:
    """Returns a copy of a picture with the detections of a model drawn on it.

    Args:
      image: u8[h w 3], RGB.
      detections: of one image, all valid, boxes in pixels of the picture.
      class_names: n names.
      captions: whether to write `name 0.97` at each box.
      masks: draw masks, where the model has them.
    """
    shapes = None
    if masks and detections.masks is not None:
        size = (image.shape[0], image.shape[1])
        shapes = paste_masks(np.asarray(detections.masks), np.asarray(detections.boxes), size)
    return draw(
        image,
        np.asarray(detections.boxes),
        np.asarray(detections.scores),
        np.asarray(detections.classes),
        class_names,
        captions=captions,
        masks=shapes,
    )


def _corners(box: np.ndarray, height: int, width: int) -> tuple[int, int, int, int]:
    """First and last pixel rows and columns (y1, x1, y2, x2) under a box, kept inside."""
    # Continuous coordinates: a box from 0 to 10 covers the pixels 0 to 9.
    y1, x1, y2, x2 = (float(edge) for edge in box)
    top = min(max(round(y1), 0), height - 1)
    left = min(max(round(x1), 0), width - 1)
    return (
        top,
        left,
        min(max(round(y2) - 1, top), height - 1),
        min(max(round(x2) - 1, left), width - 1),
    )


def _draw_box(
    canvas: np.ndarray, corners: tuple[int, int, int, int], color: Color, line: int
) -> None:
    # Four filled bars grow inwards from the edge: exact at any width, never outside the box.
    y1, x1, y2, x2 = corners
    width = min(line, (y2 - y1) // 2 + 1, (x2 - x1) // 2 + 1)
    canvas[y1 : y1 + width, x1 : x2 + 1] = color
    canvas[y2 + 1 - width : y2 + 1, x1 : x2 + 1] = color
    canvas[y1 : y2 + 1, x1 : x1 + width] = color
    canvas[y1 : y2 + 1, x2 + 1 - width : x2 + 1] = color


def _window(mask: np.ndarray | Rle) -> MaskWindow:
    if isinstance(mask, dict):
        return decode_window(mask)
    pixels = np.ascontiguousarray(mask, np.uint8)
    left, top, width, height = cv2.boundingRect(pixels)
    return MaskWindow(top, left, pixels[top : top + height, left : left + width] > 0)


def _draw_mask(canvas: np.ndarray, window: MaskWindow, color: Color, line: int) -> None:
    height, width = window.pixels.shape
    if height == 0 or width == 0:
        return
    inside = np.ascontiguousarray(window.pixels, np.uint8)
    part = canvas[window.top : window.top + height, window.left : window.left + width]
    paint = np.full_like(part, color)
    part[:] = cv2.copyTo(
        cv2.addWeighted(part, 1.0 - _MASK_OPACITY, paint, _MASK_OPACITY, 0.0), inside, part.copy()
    )
    # CCOMP finds the rims of holes too; an outer contour alone would make a ring look like a disc.
    outlines, _ = cv2.findContours(
        inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=(window.left, window.top)
    )
    cv2.drawContours(canvas, outlines, -1, color, max(1, round(0.7 * line)), cv2.LINE_AA)
