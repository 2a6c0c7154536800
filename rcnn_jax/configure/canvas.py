"""Canvas of a detector: as many pixels as the objects need and the time allows, in the data's own shape.

sizes of images, sizes of objects, budget -> Canvas
objects that stay too small -> Relief: a larger canvas, or tiles, with their cost
"""

import math
from dataclasses import dataclass

import numpy as np

WANTED_SIDE = {4: 24.0, 16: 36.0}
"""Finest stride -> side in pixels that small objects should have on the canvas.

From measured runs: 28 pixels for a map of stride 16 where time is short, 40 where it is not
(`experiments/faster_rcnn`). A pyramid finds objects of half that size, and their boxes are better where
they are larger: in five minutes of two cores BCCD came to 0.49 at 256 x 320 and to 0.40 at 192 x 256.
"""

LARGEST_ZOOM = 1.5
"""Beyond this, enlarging a picture shows nothing new."""

LEAST_PIXELS = 256 * 256
OVERLAP = 0.2
"""Of neighbouring tiles."""

_SMALL_QUANTILE = 0.1
_MOST_IMAGES = 2000
_LARGEST_SIDE = 4096


@dataclass(frozen=True)
class Canvas:
    """The size of the network input.

    Attributes:
      height: in pixels.
      width: in pixels.
      wanted: pixels that the objects ask for.
      budget: pixels that were allowed.
    """

    height: int
    width: int
    wanted: int
    budget: int

    @property
    def pixels(self) -> int:
        """The area."""
        return self.height * self.width


@dataclass(frozen=True)
class Relief:
    """A larger canvas or tiles for objects that are too small on this one.

    Attributes:
      whose: which objects, in words.
      unseen: fraction of the objects below the smallest side that is seen.
      side: that smallest side, in pixels.
      height: of the canvas that would show nine tenths of them.
      width: of that canvas.
      cost: how many times the time of a step it takes.
      tile: side of square tiles of the original that would do.
      tiles: of a typical image, with their overlap.
    """

    whose: str
    unseen: float
    side: float
    height: int
    width: int
    cost: float
    tile: int
    tiles: int

    @property
    def sentences(self) -> list[str]:
        """The finding and both ways out."""
        return [
            f"{self.unseen:.0%} of the {self.whose} are smaller than {self.side:.0f} pixels on this "
            "canvas: little is learnt of them",
            f"a canvas of {self.height} x {self.width} would show nine tenths of them, at "
            f"{self.cost:.1f} times the time of a step (--canvas HEIGHTxWIDTH, or a larger --minutes)",
            f"or tiles of the original (--tiles, of {self.tile} pixels), about {self.tiles} of an "
            f"image with a fifth of overlap, at {self.tiles} times the images",
        ]


def choose_canvas(
    sizes: np.ndarray, fraction: float, *, finest: int, grid: int, budget: int
) -> Canvas:
    """Returns the canvas for images and objects.

    Args:
      sizes: f[n 2], (height, width) of the images.
      fraction: square root of the share of the area of their image that small objects have.
      finest: smallest stride of the detector.
      grid: sides are multiples of it.
      budget: most pixels.
    """
    wanted = (WANTED_SIDE[finest] / fraction) ** 2
    native = float(np.median(sizes.prod(axis=1))) * LARGEST_ZOOM**2
    allowed = max(budget, grid * grid)
    area = min(max(wanted, min(LEAST_PIXELS, allowed)), allowed, max(native, grid * grid))
    height, width = best_shape(sizes, int(area), grid)
    return Canvas(height, width, round(wanted), budget)


def best_shape(sizes: np.ndarray, area: int, grid: int) -> tuple[int, int]:
    """Returns the (height, width) of at most so many pixels in which the images are largest.

    Args:
      sizes: f[n 2], (height, width) of the images.
      area: most pixels, at least one cell of the grid.
      grid: sides are multiples of it.
    """
    sample = sizes[:: -(-len(sizes) // _MOST_IMAGES)].astype(np.float64)
    best, best_scale = (grid, grid), -np.inf
    for rows in range(1, min(area // grid, _LARGEST_SIDE) // grid + 1):
        height = rows * grid
        width = min(area // height, _LARGEST_SIDE) // grid * grid
        if not width:
            continue
        scale = np.log(np.minimum(height / sample[:, 0], width / sample[:, 1])).mean()
        # A larger canvas for the same picture would be padding alone.
        if scale > best_scale + 1e-9 or (
            abs(scale - best_scale) <= 1e-9 and height * width < best[0] * best[1]
        ):
            best, best_scale = (height, width), scale
    return _without_padding(best, sample, grid)


def relief(
    canvas: tuple[int, int],
    sizes: np.ndarray,
    objects: np.ndarray,
    *,
    finest: int,
    grid: int,
    whose: str = "objects",
) -> Relief | None:
    """Returns the relief for objects that the canvas makes too small; None where few are.

    Args:
      canvas: (height, width).
      sizes: f[n 2], (height, width) of the images.
      objects: f[m], square roots of the objects' share of the area of their image.
      finest: smallest stride of the detector.
      grid: sides of a canvas are multiples of it.
      whose: which objects these are, in words.
    """
    least = 2.0 * finest if finest < 8 else float(finest)
    area = canvas[0] * canvas[1]
    unseen = float((objects * math.sqrt(area) < least).mean()) if len(objects) else 0.0
    if unseen <= _SMALL_QUANTILE:
        return None
    fraction = max(float(np.quantile(objects, _SMALL_QUANTILE)), 1e-6)
    needed = (least / fraction) ** 2
    room = height = width = 0
    # Sides are whole cells of the grid: the next smaller shape may be the canvas that shows too little.
    while height * width < min(needed, _LARGEST_SIDE**2) and room < _LARGEST_SIDE**2:
        room = int(min(max(needed, room) * 1.1, _LARGEST_SIDE**2))
        height, width = best_shape(sizes, max(room, grid * grid), grid)
    typical = np.median(sizes, axis=0)
    # A tile is shown on the same canvas, so its side is that of the canvas in pixels that show enough.
    zoom = math.sqrt(needed / float(typical.prod()))
    tile = max(round(math.sqrt(area) / zoom), grid)
    step = tile * (1 - OVERLAP)
    across = [max(math.ceil((side - tile) / step), 0) + 1 for side in typical]
    return Relief(
        whose=whose,
        unseen=unseen,
        side=least,
        height=height,
        width=width,
        cost=height * width / area,
        tile=tile,
        tiles=int(np.prod(across)),
    )


def _without_padding(canvas: tuple[int, int], sizes: np.ndarray, grid: int) -> tuple[int, int]:
    """Returns the canvas without rows or columns of the grid that no image reaches."""
    scale = np.minimum(canvas[0] / sizes[:, 0], canvas[1] / sizes[:, 1])
    reached = (sizes * scale[:, None]).max(axis=0)
    height, width = (max(math.ceil(side / grid - 1e-6), 1) * grid for side in reached)
    return min(height, canvas[0]), min(width, canvas[1])
