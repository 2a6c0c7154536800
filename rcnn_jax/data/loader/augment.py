"""Augmentation: random moves as one affine matrix, random colours as another.

Drawn on the host from a counter-based generator, so that image 17 of epoch 3 looks the same whoever
loads it, in whatever order, before or after a resume.

Order of moves: shrinking of the whole image (multi-scale), horizontal flip, vertical flip,
translation, zoom, rotation. Order of colours: brightness, hue and saturation, contrast. Everything
happens within the valid part of the canvas, which shrinking makes smaller, so the image stays at the
top left and padding stays 0.

Source: docs/reference/faster_rcnn.md, "Reading and augmenting images". Deviation: what a
move uncovers is 0, as padding is, instead of mid-grey; vertical flips are applied; flips mirror the
image, not the canvas.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from rcnn_jax.settings.data import AugmentSettings

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601)."""

# (Y, U, V) of (R, G, B): U = 0.492 (B - Y), V = 0.877 (R - Y); hue turns the (U, V) plane.
_YUV = np.array(
    [
        LUMA,
        0.492 * (np.array([0.0, 0.0, 1.0]) - LUMA),
        0.877 * (np.array([1.0, 0.0, 0.0]) - LUMA),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """The augmentation of one image in one epoch.

    Attributes:
      size: (height, width) of the valid part of the canvas afterwards.
      matrix: f64[3 3], maps canvas (x, y, 1) to canvas, or None for no move.
      colors: f64[3 4], maps (r, g, b, 1) on 0..255 to (r, g, b), or None for no change.
    """

    size: tuple[int, int]
    matrix: np.ndarray | None
    colors: np.ndarray | None


def draw(
    rng: np.random.Generator, settings: AugmentSettings, size: tuple[int, int]
) -> Augmentation:
    """Draws the changes of one image.

    Args:
      rng: generator of this image in this epoch, see `plan.generator`.
      settings: ranges.
      size: (height, width) of the valid part of the canvas.
    """
    # Every number is drawn whether or not its setting is on: switching one augmentation off leaves
    # the draws of the others as they were.
    uniform = rng.uniform(size=10)
    brightness, hue, contrast = (_truncated_normal(rng) for _ in range(3))
    # Drawn last: anywhere before, it would shift all other draws of a seed.
    shrunk = _shrunk(rng.uniform(), settings.shrink_min, size)
    return Augmentation(
        size=shrunk,
        matrix=_moves(uniform, settings, size, shrunk),
        colors=_colors(
            brightness=brightness * settings.brightness_stddev,
            degrees=hue * settings.hue_rotation_max / 2,
            saturation=1 + settings.saturation_shift_max * (2 * uniform[9] - 1),
            contrast=contrast * settings.contrast_scale_max / 2,
            center=settings.contrast_center,
        ),
    )


def _truncated_normal(rng: np.random.Generator) -> float:
    """A standard normal number, drawn again until it is within two deviations."""
    while abs(value := rng.standard_normal()) > 2:
        pass
    return value


def _shrunk(uniform: float, least: float, size: tuple[int, int]) -> tuple[int, int]:
    """A size between `least` times `size` and `size`, in whole pixels."""
    factor = 1.0 - uniform * (1.0 - least)
    return max(round(size[0] * factor), 1), max(round(size[1] * factor), 1)


def _moves(
    uniform: np.ndarray, settings: AugmentSettings, size: tuple[int, int], shrunk: tuple[int, int]
) -> np.ndarray | None:
    """Composes the moves drawn by nine of the uniform numbers; None when nothing moves.

    All but the first happen within the shrunk image.
    """
    h, w = shrunk
    flip_x, flip_y, shift_x, shift_y, ratio, left_at, top_at, turn, angle = uniform[:9]
    parts = []
    # First, and its matrix by the rounded sizes: pixels then fill whole columns to the edge.
    if shrunk != size:
        parts.append(_matrix(w / size[1], 0, 0, 0, h / size[0], 0))
    if flip_x < settings.hflip_probability:
        parts.append(_matrix(-1, 0, w, 0, 1, 0))
    if flip_y < settings.vflip_probability:
        parts.append(_matrix(1, 0, 0, 0, -1, h))
    x = _whole_shift(shift_x, settings.translate_max_x)
    y = _whole_shift(shift_y, settings.translate_max_y)
    if x or y:
        parts.append(_matrix(1, 0, x, 0, 1, y))
    zoom = settings.zoom_min + ratio * (settings.zoom_max - settings.zoom_min)
    if zoom != 1:
        # a window of size / zoom is magnified to the full size
        left, top = left_at * (w - w / zoom), top_at * (h - h / zoom)
        parts.append(_matrix(zoom, 0, -left * zoom, 0, zoom, -top * zoom))
    radians = np.deg2rad(settings.rotate_max_degrees * (2 * angle - 1))
    if turn < settings.rotate_probability and radians:
        cos, sin, x, y = np.cos(radians), np.sin(radians), w / 2, h / 2
        parts.append(_matrix(cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y))
    if not parts:
        return None
    matrix = parts[0]
    for part in parts[1:]:
        matrix = part @ matrix
    return matrix


def _matrix(a: float, b: float, x: float, c: float, d: float, y: float) -> np.ndarray:
    """The affine matrix (x, y) -> (a x + b y + x0, c x + d y + y0)."""
    return np.array([[a, b, x], [c, d, y], [0, 0, 1]], np.float64)


def _whole_shift(uniform: float, largest: float) -> int:
    """A whole number of pixels, each of -largest..largest equally likely."""
    limit = int(largest)
    return int(uniform * (2 * limit + 1)) - limit


def _colors(
    *, brightness: float, degrees: float, saturation: float, contrast: float, center: float
) -> np.ndarray | None:
    """Composes contrast(hue_saturation(pixel + brightness)); None when nothing changes.

    Contrast maps p to p (1 + contrast) - contrast center. Grey stays grey under hue and saturation.
    """
    if brightness == 0 and degrees == 0 and saturation == 1 and contrast == 0:
        return None
    cos, sin = np.cos(np.deg2rad(degrees)) * saturation, np.sin(np.deg2rad(degrees)) * saturation
    turn = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    # One matrix for all colours: one pass over the pixels, and one rounding instead of three.
    linear = np.linalg.inv(_YUV) @ turn @ _YUV * (1 + contrast)
    shift = linear.sum(axis=1, keepdims=True) * brightness - contrast * center
    return np.hstack([linear, shift * 255.0])


def apply_colors(pixels: np.ndarray, colors: np.ndarray, channel_order: str) -> None:
    """Changes the colours of pixels in place, rounded and clamped to 0..255.

    Args:
      pixels: u8[h w 3], a view is fine.
      colors: f64[3 4] for red, green, blue.
      channel_order: `rgb` or `bgr`, of `pixels`. Grey images (`l`) have no colour augmentation, as
        in the original: nothing happens.
    """
    if channel_order == "l":
        return
    if channel_order == "bgr":
        colors = colors[::-1, [2, 1, 0, 3]]
    # float32 takes the vectorised path; every pixel is read before it is written
    cv2.transform(pixels, np.ascontiguousarray(colors, np.float32), dst=pixels)
