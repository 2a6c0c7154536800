"""Test-time augmentation as a setting: which views of an image a model looks at."""

from dataclasses import dataclass

SMALLEST, LARGEST, MOST_SCALES = 0.25, 4.0, 8

EXPECTED = (
    f"expected `flip`, scales from {SMALLEST:g} to {LARGEST:g}, or both, as in `flip,0.8,1.25`"
)


@dataclass(frozen=True, kw_only=True)
class ViewSettings:
    """Views of an image; the image itself is always one.

    Attributes:
      flip: each scale is seen mirrored, left to right, too.
      scales: sizes as fractions of the canvas, 1 first.
    """

    flip: bool = False
    scales: tuple[float, ...] = (1.0,)

    @property
    def count(self) -> int:
        """How often a network runs on an image; less where small canvases round to one size."""
        return len(self.scales) * (2 if self.flip else 1)

    def __str__(self) -> str:
        words = ["flip"] * self.flip + [f"{scale:g}" for scale in self.scales[1:]]
        return ",".join(words) or "none"


def read_views(text: str) -> ViewSettings | None:
    """Returns the views that a text names, None for `none` and for nothing.

    Args:
      text: `flip` and scales, with commas or blanks between them.

    Raises:
      ValueError: it names none; the message says what is expected.
    """
    words = text.replace(",", " ").split()
    if words in ([], ["none"]):
        return None
    scales = [1.0]
    for word in words:
        if word == "flip":
            continue
        try:
            scale = float(word)
        except ValueError:
            raise ValueError(f"'{word}' is no view: {EXPECTED}") from None
        if not SMALLEST <= scale <= LARGEST:
            raise ValueError(f"{scale:g} is out of range: {EXPECTED}")
        scales.append(scale)
    unique = tuple(dict.fromkeys(scales))
    if len(unique) > MOST_SCALES:
        raise ValueError(f"has {len(unique)} scales with 1: at most {MOST_SCALES} are possible")
    return ViewSettings(flip="flip" in words, scales=unique)
