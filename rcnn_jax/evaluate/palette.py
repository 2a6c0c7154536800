"""Colours of classes, the same in annotated images and in precision-recall figures."""

import colorsys

GOLDEN_RATIO = 0.6180339887498949
# Neighbours of one hue differ in saturation or brightness as well: hues alone repeat to the eye
# after about a dozen classes.
_TONES = ((0.85, 1.0), (0.60, 0.95), (1.0, 0.78))


def class_color(index: int) -> tuple[int, int, int]:
    """Returns the RGB colour (0..255) of a class.

    Hues step by the golden ratio, which keeps any first n of them well apart.

    Args:
      index: class id, >= 0.
    """
    saturation, value = _TONES[index // 13 % len(_TONES)]
    hue = (0.58 + index * GOLDEN_RATIO) % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)
