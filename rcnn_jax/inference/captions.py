"""Captions: a line of text on a filled tag at its box.

Letters are drawn enlarged and scaled down, so that small text is as smooth as large text with every
release of OpenCV.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from rcnn_jax.printable import shown

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_CAPITAL = 21.0  # height in pixels of a capital letter of this font at scale 1
_ENLARGED = 4
_MOST_OF_A_TAG = 0.25
"""Fraction of a tag that may lie on tags of better detections."""
_MOST_OF_A_BOX = 0.5
"""Fraction of another object that a tag may hide."""


@dataclass(frozen=True, eq=False)
class Tag:
    """A caption ready to be drawn.

    Attributes:
      ink: f32[h w] in [0, 1], how much of a pixel is letter; its shape is the size of the tag.
    """

    ink: np.ndarray


def make_tag(name: str, score: str, capital: int, max_width: int) -> Tag:
    """Draws a caption, cutting the name until it fits.

    Args:
      name: class name; loses letters at its end when the tag would be too wide.
      score: text after the name, never cut.
      capital: height of capital letters in pixels.
      max_width: of the tag in pixels.
    """
    margin = max(1, round(0.4 * capital))
    name = shown(name)
    text, length = name + score, len(name)
    while _text_width(text, capital) + 2 * margin > max_width and length > 1:
        length -= 1
        # The score is kept whole: a cut number would be another number.
        text = name[:length].rstrip() + "." + score
    return Tag(_letters(text, capital, margin, max_width))


def place_tags(
    tags: Sequence[Tag],
    corners: Sequence[tuple[int, int, int, int]],
    image_size: tuple[int, int],
    line: int,
) -> list[tuple[int, int] | None]:
    """Chooses for every tag in turn the position at its box that covers least of earlier tags.

    Positions in order of preference: above the box, inside at its top, below it, inside at its bottom,
    each first at the left and then at the right. All are moved inside the image. A tag that would
    still cover other tags or hide another object is left out: among many small objects the image
    matters more than its captions.

    Args:
      tags: best detection first.
      corners: (y1, x1, y2, x2), first and last pixels of the boxes.
      image_size: (height, width).
      line: width of the box edges.

    Returns:
      (top, left) of every tag, None for one that is left out.
    """
    height, width = image_size
    # Corners are whole pixels, both inside; areas need the edge behind the last one.
    boxes = np.asarray(corners, float).reshape(-1, 4) + (0, 0, 1, 1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    taken = np.empty((0, 4))
    positions: list[tuple[int, int] | None] = []
    for index, (tag, (y1, x1, y2, x2)) in enumerate(zip(tags, corners, strict=True)):
        rows, columns = tag.ink.shape
        tops = (y1 - rows, y1 + line, y2 + 1, y2 + 1 - line - rows)
        options = np.array([(top, left) for top in tops for left in (x1, x2 + 1 - columns)])
        inside = np.clip(options, 0, [max(height - rows, 0), max(width - columns, 0)])
        covered = _covered(inside, (rows, columns), taken).sum(axis=1)
        # Moving into the image is a cost too: the tag then covers its own object.
        moved = np.abs(inside - options).sum(axis=1) * rows
        best = np.argmin(covered + moved)
        hidden = _covered(inside[best : best + 1], (rows, columns), boxes)[0] / areas
        hidden[index] = 0.0
        if covered[best] > _MOST_OF_A_TAG * rows * columns or hidden.max() > _MOST_OF_A_BOX:
            positions.append(None)
            continue
        top, left = (int(v) for v in inside[best])
        # Tags are placed once and never moved: a later, worse detection yields to a better one.
        taken = np.vstack([taken, (top, left, top + rows, left + columns)])
        positions.append((top, left))
    return positions


def draw_tag(
    canvas: np.ndarray, tag: Tag, position: tuple[int, int], color: tuple[int, int, int]
) -> None:
    """Fills the tag with a colour and writes the text in black or white, by contrast.

    Args:
      canvas: u8[h w 3], changed in place; what lies outside is cut off.
      tag: of `make_tag`.
      position: (top, left).
      color: of the tag.
    """
    top, left = position
    part = canvas[top : top + tag.ink.shape[0], left : left + tag.ink.shape[1]]
    ink = tag.ink[: part.shape[0], : part.shape[1], None]
    # Rec. 601 luma of the tag decides.
    dark = float(np.dot(color, (0.299, 0.587, 0.114))) > 140.0
    letter = np.float32(0.0 if dark else 255.0)
    part[:] = (np.asarray(color, np.float32) * (1.0 - ink) + letter * ink + 0.5).astype(np.uint8)


def _text_width(text: str, capital: int) -> int:
    scale, stroke = _enlarged(capital)
    (width, _), _ = cv2.getTextSize(text, _FONT, scale, stroke)
    return -(-width // _ENLARGED)


def _letters(text: str, capital: int, margin: int, max_width: int) -> np.ndarray:
    scale, stroke = _enlarged(capital)
    # Letters such as p and g hang a third of a capital below the line.
    rows = capital + 2 * margin + round(capital / 4)
    columns = min(_text_width(text, capital) + 2 * margin, max_width)
    large = np.zeros((rows * _ENLARGED, columns * _ENLARGED), np.uint8)
    origin = (margin * _ENLARGED, (margin + capital) * _ENLARGED)
    cv2.putText(large, text, origin, _FONT, scale, 255, stroke, cv2.LINE_AA)
    return cv2.resize(large, (columns, rows), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def _enlarged(capital: int) -> tuple[float, int]:
    """Font scale and stroke width of the enlarged letters."""
    return _ENLARGED * capital / _FONT_CAPITAL, max(1, round(_ENLARGED * capital / 7))


def _covered(positions: np.ndarray, size: tuple[int, int], rectangles: np.ndarray) -> np.ndarray:
    """Returns the covered pixels [position rectangle] of a tag of this size."""
    low = np.maximum(positions[:, None, :], rectangles[None, :, :2])
    high = np.minimum(positions[:, None, :] + np.asarray(size), rectangles[None, :, 2:])
    return np.prod(np.maximum(high - low, 0), axis=-1)
