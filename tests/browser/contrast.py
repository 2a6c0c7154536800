"""Contrast of text as WCAG 2.2 defines it."""

from collections.abc import Sequence

READABLE = 4.5
"""Least contrast of text, by WCAG 2.2, success criterion 1.4.3 (AA)."""


def contrast(one: Sequence[float], other: Sequence[float]) -> float:
    """Returns the ratio of the luminances of two colours of 0 to 255, 1 to 21."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def over(layers: Sequence[Sequence[float]]) -> list[float]:
    """Returns the colour of layers (r, g, b, opacity) on each other, the lowest first and opaque."""
    seen = list(layers[0][:3])
    for *color, opacity in layers[1:]:
        seen = [
            opacity * above + (1 - opacity) * below
            for above, below in zip(color, seen, strict=True)
        ]
    return seen


def _luminance(color: Sequence[float]) -> float:
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (level / 255 for level in color)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
