"""Draws small data sets that are neither blood cells nor nuclei, for `init` to be tried on.

    python -m experiments.init.odd_sets FOLDER [NAME ...]

Shapes on grainy backgrounds among streaks of no class; a class is a shape, its colour says nothing.
Image i of a set is a function of (set, i).
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from rcnn_jax.data.formats.kitti import KittiObject, write_labels

Points = np.ndarray
"""f64[n 2], (x, y)."""
_ANGLES = np.linspace(0, 2 * np.pi, 48, endpoint=False)


def _round(radius: np.ndarray) -> Points:
    return np.stack([radius * np.cos(_ANGLES), radius * np.sin(_ANGLES)], axis=1)


def _corners(*points: tuple[float, float]) -> Points:
    return np.array(points, float)


_ARM = 0.35
SHAPES: dict[str, Points] = {
    "disc": _round(np.ones_like(_ANGLES)),
    "star": _round(np.where(np.arange(48) // 4 % 2 == 0, 1.0, 0.5)),
    "square": _corners((-1, -1), (1, -1), (1, 1), (-1, 1)),
    "triangle": _corners((0, -1), (1, 1), (-1, 1)),
    "cross": _corners(
        *((-1, -_ARM), (-_ARM, -_ARM), (-_ARM, -1), (_ARM, -1), (_ARM, -_ARM), (1, -_ARM)),
        *((1, _ARM), (_ARM, _ARM), (_ARM, 1), (-_ARM, 1), (-_ARM, _ARM), (-1, _ARM)),
    ),
    "blob": _round(1.0 + 0.25 * np.sin(3 * _ANGLES)),
    "diamond": _corners((-1, 0), (0, -1), (1, 0), (0, 1)),
    "spark": _corners(
        *((-1, -1), (0, -0.4), (1, -1), (0.4, 0), (1, 1), (0, 0.4), (-1, 1), (-0.4, 0))
    ),
}
"""{class: outline in [-1, 1]}, in the order of the numbers of YOLO labels."""


@dataclass(frozen=True)
class OddSet:
    """A data set.

    Attributes:
      images: number of them.
      canvases: (height, width), drawn at random.
      counts: fewest and most objects of an image.
      sizes: smallest and largest side, the root of height times width, in pixels.
      aspects: smallest and largest width over height.
      classes: names of `SHAPES`.
      yolo: labels in the layout of YOLO, with splits; otherwise KITTI, without.
    """

    images: int
    canvases: tuple[tuple[int, int], ...]
    counts: tuple[int, int]
    sizes: tuple[float, float]
    aspects: tuple[float, float]
    classes: tuple[str, ...]
    yolo: bool = False


SETS = {
    "large": OddSet(120, ((480, 640),), (1, 1), (230, 520), (0.6, 1.8), ("disc", "triangle")),
    "tiny": OddSet(100, ((900, 1200),), (120, 300), (9, 16), (1.0, 1.0), ("disc", "square")),
    "signs": OddSet(
        150,
        ((375, 1242),),
        (1, 6),
        (30, 90),
        (3.0, 7.0),
        ("disc", "square", "triangle", "cross", "diamond"),
        yolo=True,
    ),
    "mixed": OddSet(
        150,
        ((800, 600), (600, 800)),
        (1, 8),
        (40, 220),
        (0.5, 2.0),
        ("star", "square", "cross", "blob"),
    ),
    "classes": OddSet(200, ((480, 640),), (2, 8), (40, 140), (0.7, 1.4), tuple(SHAPES), yolo=True),
}

Box = tuple[str, float, float, float, float]
"""Class, x1, y1, x2, y2."""


def scenes(name: str) -> Iterator[tuple[np.ndarray, list[Box]]]:
    """Yields the images u8[h w 3] of a set with their objects."""
    own, number = SETS[name], list(SETS).index(name)
    for index in range(own.images):
        yield _scene(own, np.random.default_rng((number, index)))


def _scene(own: OddSet, rng: np.random.Generator) -> tuple[np.ndarray, list[Box]]:
    height, width = own.canvases[rng.integers(len(own.canvases))]
    image, boxes = _background(rng, height, width), list[Box]()
    for _ in range(rng.integers(own.counts[0], own.counts[1] + 1)):
        placed = _place(own, rng, (height, width), boxes)
        if placed is None:
            continue
        outline, box = placed
        middle = int((box[2] + box[4]) / 2), int((box[1] + box[3]) / 2)
        contrast = rng.choice([-1, 1]) * rng.uniform(30, 90) + rng.normal(0, 25, 3)
        inside = np.zeros((height, width), np.uint8)
        cv2.fillPoly(inside, [outline.astype(np.int32)], 1)
        grain = _noise(rng, height, width, 8) * 18 if box[3] - box[1] > 40 else 0
        colour = np.clip(image[middle] + contrast, 0, 255)
        image = np.where(inside[..., None] > 0, colour + grain, image)
        boxes.append(box)
    image = image * rng.uniform(0.6, 1.2) + rng.normal(0, 6, image.shape)
    if rng.random() < 0.3:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 1.2))
    return np.clip(image, 0, 255).astype(np.uint8), boxes


def _place(
    own: OddSet, rng: np.random.Generator, size: tuple[int, int], boxes: list[Box]
) -> tuple[Points, Box] | None:
    """Returns an outline inside the image that hides little, and its box; None where there is no room."""
    height, width = size
    for _ in range(20):
        name = str(rng.choice(own.classes))
        side, aspect = rng.uniform(*own.sizes) / 2, np.sqrt(rng.uniform(*own.aspects))
        rx, ry = min(side * aspect, 0.47 * width), min(side / aspect, 0.47 * height)
        centre = rng.uniform(rx, width - rx), rng.uniform(ry, height - ry)
        outline = SHAPES[name] * (rx, ry) + centre
        (x1, y1), (x2, y2) = outline.min(axis=0), outline.max(axis=0)
        if all(
            min(x2, other[3]) - max(x1, other[1]) < 0.25 * (x2 - x1)
            or min(y2, other[4]) - max(y1, other[2]) < 0.25 * (y2 - y1)
            for other in boxes
        ):
            return outline, (name, float(x1), float(y1), float(x2), float(y2))
    return None


def _background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    image = sum(_noise(rng, height, width, cell) * (6 + cell / 4) for cell in (4, 16, 64))
    image = np.ascontiguousarray(image + rng.uniform(60, 180, 3), np.float32)
    for _ in range(rng.integers(5, 25)):
        line = rng.uniform(0, 1, (rng.integers(2, 5), 2)) * (width, height)
        colour = rng.uniform(20, 235, 3).tolist()
        cv2.polylines(image, [line.astype(np.int32)], False, colour, int(rng.integers(1, 5)))
    return image


def _noise(rng: np.random.Generator, height: int, width: int, cell: int) -> np.ndarray:
    coarse = rng.normal(0, 1, (height // cell + 2, width // cell + 2, 3)).astype(np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def write_kitti(folder: Path, name: str) -> None:
    """Writes `images` and `labels`."""
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for index, (image, boxes) in enumerate(scenes(name)):
        cv2.imwrite(str(folder / "images" / f"{index:04d}.jpg"), image)
        write_labels(folder / "labels" / f"{index:04d}.txt", [_labelled(box) for box in boxes])


def _labelled(box: Box) -> KittiObject:
    name, x1, y1, x2, y2 = box
    return KittiObject(class_name=name, x1=x1, y1=y1, x2=x2, y2=y2)


def write_yolo(folder: Path, name: str) -> None:
    """Writes `images`, `labels` and `data.yaml`; a fifth of the images validates."""
    own = SETS[name]
    for part in ("images/train", "images/val", "labels/train", "labels/val"):
        (folder / part).mkdir(parents=True)
    for index, (image, boxes) in enumerate(scenes(name)):
        split = "train" if index < 0.8 * own.images else "val"
        cv2.imwrite(str(folder / "images" / split / f"{index:04d}.jpg"), image)
        height, width = image.shape[:2]
        lines = [
            f"{own.classes.index(shape)} {(x1 + x2) / 2 / width:.6f} {(y1 + y2) / 2 / height:.6f} "
            f"{(x2 - x1) / width:.6f} {(y2 - y1) / height:.6f}\n"
            for shape, x1, y1, x2, y2 in boxes
        ]
        (folder / "labels" / split / f"{index:04d}.txt").write_text("".join(lines))
    names = ", ".join(own.classes)
    (folder / "data.yaml").write_text(
        f"train: images/train\nval: images/val\nnc: {len(own.classes)}\nnames: [{names}]\n"
    )


def main() -> None:
    """Writes the sets that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SETS))
    args = parser.parse_args()
    if unknown := set(args.names) - SETS.keys():
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(SETS)}")
    for name in args.names or SETS:
        write: Callable[[Path, str], None] = write_yolo if SETS[name].yolo else write_kitti
        write(args.folder / name, name)


if __name__ == "__main__":
    main()
