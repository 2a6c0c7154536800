"""Geometry of images: pixels and boxes from the file to the canvas of the network, and back.

    file --read_image--> u8[h w c] --fit, apply_image--> u8 canvas    boxes --apply_boxes--> boxes

Training, evaluation, inference and calibration all go through `fit` and `apply_image`, so they see
the same pixels. Coordinates are continuous: pixel i covers [i, i+1), its centre is i + 0.5. One
affine matrix, acting on (x, y), moves pixels and boxes alike. Whatever the image does not reach on
the canvas is 0.

EXIF orientation is ignored everywhere: labels are drawn on the pixels as stored, and sizes in
labels and records are those of the stored pixels.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from rcnn_jax.data.formats.image_decoder import decode, read_bytes
from rcnn_jax.errors import DataError
from rcnn_jax.settings.data import GeometrySettings

WHOLE_PIXEL = 1e-6
"""Corners closer than this to whole pixels count as whole: rounding noise of float64 matrices."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """The position of one image on its canvas.

    Attributes:
      canvas: (height, width) of the network input.
      image_size: (height, width) of the part of the canvas, from its top left corner, that shows
        the image; the rest is padding.
      scale: (y, x), canvas pixels per source pixel.
      matrix: f64[2 3], maps source (x, y, 1) to canvas (x, y).
      window: (top, left, bottom, right), the whole source pixels that may be shown.
    """

    canvas: tuple[int, int]
    image_size: tuple[int, int]
    scale: tuple[float, float]
    matrix: np.ndarray
    window: tuple[int, int, int, int]


def read_image(source: Path | bytes, channel_order: str, name: str = "") -> np.ndarray:
    """Decodes an image file to u8[h w c]; EXIF orientation is ignored.

    Args:
      source: a file, or the bytes of one.
      channel_order: `rgb`, `bgr` (c = 3) or `l` (c = 1, grey).
      name: what messages call the image; by default the path.

    Raises:
      DataError: the file is missing, empty, damaged or not an image, or has too many pixels.
    """
    name = name or (str(source) if isinstance(source, Path) else "image in memory")
    data = read_bytes(source, name) if isinstance(source, Path) else source
    return decode(data, channel_order, name)


def check_size(image: np.ndarray, stated: tuple[int, int], name: str) -> None:
    """Checks that an image has the (height, width) that its annotation was made for.

    Raises:
      DataError: it has not.
    """
    if image.shape[:2] != stated:
        raise DataError(
            f"{name}: the image is {image.shape[0]}x{image.shape[1]} pixels (height x width) and "
            f"its annotation was made for {stated[0]}x{stated[1]}: they belong to different "
            "versions of it (EXIF orientation is ignored); convert the dataset again"
        )


def scaled_size(source_size: tuple[int, int], geometry: GeometrySettings) -> tuple[int, int]:
    """Returns (height, width) of the whole image after scaling, before cropping and padding.

    `keep_aspect` rounds down (as TAO Mask R-CNN does), `short_side` to the nearest pixel. Integer
    arithmetic: the side that decides is hit exactly.
    """
    h, w = source_size
    match geometry.mode:
        case "pad_crop":
            return geometry.prescale or (h, w)
        case "stretch":
            return geometry.height, geometry.width
        case "keep_aspect":
            # Cross products instead of quotients: equal ratios in float64 may differ by one bit, and
            # the side that should fill the canvas would then be a pixel short.
            if geometry.height * w <= geometry.width * h:
                # At least one pixel: a panorama of 10000 x 2 must not vanish.
                return geometry.height, max(w * geometry.height // h, 1)
            return max(h * geometry.width // w, 1), geometry.width
        case "short_side":
            target, side = geometry.short_side, min(h, w)
            if geometry.long_side and max(h, w) * target > geometry.long_side * side:
                target, side = geometry.long_side, max(h, w)
            # Rounding to the nearest in integers: (2 a + b) // 2 b.
            double = 2 * side
            return (
                max((2 * h * target + side) // double, 1),
                max((2 * w * target + side) // double, 1),
            )


def canvas_size(
    source_size: tuple[int, int],
    geometry: GeometrySettings,
    buckets: tuple[tuple[int, int], ...] = (),
) -> tuple[int, int]:
    """Returns the (height, width) of the canvas of an image.

    Args:
      source_size: (height, width) in pixels.
      geometry: mode `short_side` takes the smallest bucket that holds the image; the other modes
        have one canvas.
      buckets: (height, width) of every canvas there is; without any, or when none holds the image,
        the scaled size rounded up to `geometry.multiple`.
    """
    if geometry.mode != "short_side":
        return geometry.height, geometry.width
    h, w = scaled_size(source_size, geometry)
    holding = [b for b in buckets if b[0] >= h and b[1] >= w]
    if holding:
        # By area, then by size: of two that hold it, every run chooses the same.
        return min(holding, key=lambda b: (b[0] * b[1], b))
    m = geometry.multiple
    return -(-h // m) * m, -(-w // m) * m


def origin(geometry: GeometrySettings) -> tuple[float, float]:
    """Returns (y, x), the canvas pixels cut off by a crop: the `offset` of `boxes_to_source`."""
    if geometry.mode == "pad_crop" and geometry.crop is not None:
        return float(geometry.crop[0]), float(geometry.crop[1])
    return 0.0, 0.0


def fit(
    source_size: tuple[int, int],
    geometry: GeometrySettings,
    buckets: tuple[tuple[int, int], ...] = (),
) -> Fit:
    """Fits an image to its canvas: top left, padded bottom and right.

    The order of mode `pad_crop` is scale, crop, pad (TAO augmentation_config). Scales are those of
    the rounded sizes, so pixels and boxes agree exactly.

    Args:
      source_size: (height, width) in pixels.
      geometry: what to do.
      buckets: canvases of mode `short_side`, see `canvas_size`.

    Raises:
      DataError: the crop leaves nothing of the image.
    """
    h, w = source_size
    scaled_h, scaled_w = scaled_size(source_size, geometry)
    canvas = canvas_size(source_size, geometry, buckets)
    scale_y, scale_x = scaled_h / h, scaled_w / w
    top, left, bottom, right = 0, 0, scaled_h, scaled_w
    if geometry.mode == "pad_crop" and geometry.crop is not None:
        top, left = geometry.crop[:2]
        bottom, right = min(geometry.crop[2], scaled_h), min(geometry.crop[3], scaled_w)
    if bottom <= top or right <= left:
        raise DataError(
            f"an image of {scaled_h}x{scaled_w} pixels (height x width) has nothing inside the "
            f"crop at top={top} left={left}: correct crop_* in the augmentation config"
        )
    return Fit(
        canvas=canvas,
        image_size=(min(bottom - top, canvas[0]), min(right - left, canvas[1])),
        scale=(scale_y, scale_x),
        matrix=np.array([[scale_x, 0.0, -left], [0.0, scale_y, -top]]),
        # outwards to whole source pixels: what sticks out falls off the edge of the valid part
        window=(
            math.floor(top / scale_y),
            math.floor(left / scale_x),
            min(math.ceil(bottom / scale_y), h),
            min(math.ceil(right / scale_x), w),
        ),
    )


def move(placed: Fit, augmentation: np.ndarray, image_size: tuple[int, int] | None = None) -> Fit:
    """Returns the fit followed by an augmentation, still one resampling.

    Args:
      placed: where the image goes by itself.
      augmentation: f64[3 3], maps canvas (x, y, 1) to canvas.
      image_size: (height, width) of the part that shows the image afterwards, at most that of
        `placed`, which None keeps; what lies outside is padding.
    """
    source_to_canvas = np.vstack([placed.matrix, (0.0, 0.0, 1.0)])
    matrix = (augmentation @ source_to_canvas)[:2]
    return replace(placed, matrix=matrix, image_size=image_size or placed.image_size)


def apply_image(image: np.ndarray, placed: Fit, out: np.ndarray | None = None) -> np.ndarray:
    """Draws an image on its canvas.

    Args:
      image: u8[h w c], of the size `placed` was made for.
      placed: where it goes.
      out: zeros of u8[canvas c] to draw on, a new array by default.

    Returns:
      `out`.
    """
    if out is None:
        out = np.zeros((*placed.canvas, image.shape[2]), np.uint8)
    top, left, bottom, right = placed.window
    # The window is cut out first: pixels beyond a crop must not bleed in when the image shrinks.
    matrix = placed.matrix.copy()
    matrix[:, 2] += matrix[:, :2] @ (left, top)
    h, w = placed.image_size
    resample(image[top:bottom, left:right], matrix, out[:h, :w])
    return out


def resample(image: np.ndarray, matrix: np.ndarray, out: np.ndarray) -> None:
    """Draws `image` on `out` through an affine matrix; the rest of `out` stays as it is.

    Shrinking by more than two would alias: whole multiples of the factor are averaged away first
    (INTER_AREA), the rest, below two, is bilinear. An image whose corners land on whole pixels,
    axis parallel, is resized, flipped and copied, and copied only when its size stays: no pixel
    changes.

    Args:
      image: u8[h w c].
      matrix: f64[2 3], maps image (x, y, 1) to (x, y) of `out`.
      out: u8[h' w' c], zeros; a view is fine.
    """
    image, matrix = _shrink(image, matrix)
    if image.shape[2] == 1:  # OpenCV drops a last axis of one
        image, out = image[..., 0], out[..., 0]
    h, w = image.shape[:2]
    first, last = matrix[:, 2], matrix[:, :2] @ (w, h) + matrix[:, 2]
    parallel = abs(matrix[0, 1]) * h < WHOLE_PIXEL and abs(matrix[1, 0]) * w < WHOLE_PIXEL
    corners = np.rint([first, last])
    if parallel and np.abs(corners - (first, last)).max() < WHOLE_PIXEL:
        _paste(image, corners.astype(int), out)
        return
    # OpenCV counts from pixel centres: M' = T(-0.5) M T(0.5). It gets the inverse and the flag
    # WARP_INVERSE_MAP, or it would invert the matrix itself once more.
    inverse = np.linalg.inv(np.vstack([matrix, (0.0, 0.0, 1.0)]))[:2]
    inverse[:, 2] += inverse[:, :2] @ (0.5, 0.5) - 0.5
    cv2.warpAffine(
        image, inverse, out.shape[1::-1], dst=out, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )


def _shrink(image: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Averages an axis that the matrix shrinks k >= 2 times down by floor(k); adapts the matrix."""
    h, w = image.shape[:2]
    length_x, length_y = np.linalg.norm(matrix[:, :2], axis=0)
    # WHOLE_PIXEL: a factor of exactly 2 may arrive as 1.9999999, which would halve nothing.
    small_w = w // max(int(1 / length_x + WHOLE_PIXEL), 1) or 1
    small_h = h // max(int(1 / length_y + WHOLE_PIXEL), 1) or 1
    if (small_h, small_w) == (h, w):
        return image, matrix
    small = cv2.resize(image, (small_w, small_h), interpolation=cv2.INTER_AREA)
    matrix = matrix * (w / small_w, h / small_h, 1.0)
    return small.reshape(small_h, small_w, image.shape[2]), matrix


def _paste(image: np.ndarray, corners: np.ndarray, out: np.ndarray) -> None:
    """Copies an image whose (x, y) corners map to whole pixels; swapped corners are a flip."""
    (x0, y0), (x1, y1) = corners
    left, right, top, bottom = min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)
    size = (int(right - left), int(bottom - top))
    if size != image.shape[1::-1]:
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    flip_x, flip_y = x1 < x0, y1 < y0
    from_x, to_x = max(left, 0), min(right, out.shape[1])
    from_y, to_y = max(top, 0), min(bottom, out.shape[0])
    if to_x <= from_x or to_y <= from_y:
        return
    # The visible part is cut out before flipping, so that no more than it is copied.
    columns = slice(right - to_x, right - from_x) if flip_x else slice(from_x - left, to_x - left)
    rows = slice(bottom - to_y, bottom - from_y) if flip_y else slice(from_y - top, to_y - top)
    seen, target = image[rows, columns], out[from_y:to_y, from_x:to_x]
    if flip_x or flip_y:
        cv2.flip(seen, -1 if flip_x and flip_y else int(flip_x), dst=target)
    else:
        target[...] = seen


def apply_boxes(boxes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Transforms boxes: the axis-parallel boxes around their moved corners, unclipped.

    Args:
      boxes: f32[m 4], (y1, x1, y2, x2).
      matrix: f64[2 3] or f64[3 3], maps (x, y, 1).

    Returns:
      f32[m 4]; computed in float64.
    """
    y1, x1, y2, x2 = boxes.astype(np.float64).T
    corners = np.stack([[x1, x2, x2, x1], [y1, y1, y2, y2]])  # [2 4 m]
    x, y = np.tensordot(matrix[:2, :2], corners, 1) + matrix[:2, 2, None, None]
    moved = [y.min(0), x.min(0), y.max(0), x.max(0)]
    return np.stack(moved, axis=-1).astype(np.float32)


def clip_boxes(boxes: np.ndarray, window: tuple[float, float, float, float]) -> np.ndarray:
    """Clips the f32[m 4] boxes to a window (top, left, bottom, right)."""
    low, high = np.asarray(window, boxes.dtype).reshape(2, 2)
    return np.clip(boxes, np.tile(low, 2), np.tile(high, 2))


def boxes_to_source(
    boxes: np.ndarray,
    scale: np.ndarray,
    source_size: np.ndarray,
    offset: tuple[float, float] = (0.0, 0.0),
) -> np.ndarray:
    """Maps boxes of the canvas to the image file, clipped to it.

    Evaluation, inference and drawing all map back through this function. It undoes `fit`, not an
    augmentation.

    Args:
      boxes: f32[... 4], canvas pixels.
      scale: f32[2], canvas pixels per source pixel, (y, x).
      source_size: [2], (height, width) of the image file.
      offset: canvas pixels cut off by a crop, see `origin`.

    Returns:
      f32[... 4].
    """
    factor = np.tile(np.asarray(scale, np.float32), 2)
    limit = np.tile(np.asarray(source_size, np.float32), 2)
    shift = np.tile(np.asarray(offset, np.float32), 2)
    return np.clip((np.asarray(boxes, np.float32) + shift) / factor, np.float32(0), limit)
