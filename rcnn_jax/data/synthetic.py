"""Synthetic dataset: scenes of "cells" in three shapes, with exact boxes and masks.

Blobs (`disc`), stars (`star`) and bent rods (`rod`) overlap on an uneven,
grainy background among streaks and specks of no class. Colour says nothing about the class, size
hardly anything; light falls unevenly, and some cells are barely lighter than the background.
Shapes are drawn from front to back, so a cell is final as soon as it is drawn: its visible part is its
mask, and a mostly hidden one is not drawn at all. Scene i is a pure function
of (seed, i, size).
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from rcnn_jax.data.conversion.staging import make_folder
from rcnn_jax.data.formats.coco_masks import mask_polygons, mask_rle
from rcnn_jax.data.formats.kitti import KittiObject, write_labels
from rcnn_jax.errors import DataError

CLASS_NAMES = ("disc", "star", "rod")

_LEAST_VISIBLE = 0.5  # fraction of the whole shape; less is not drawn
_LEAST_PIXELS = 24  # a mask of fewer pixels teaches nothing
_PARTLY_HIDDEN = 0.7  # visible fraction below which KITTI labels have occluded = 1
_SUBPIXEL_BITS = 4  # cv2 draws polygons with vertices in sixteenths of a pixel
_OUTLINE_POINTS = 48


@dataclass(frozen=True)
class Contents:
    """Number and sizes of the cells in a scene.

    Attributes:
      most: largest number of cells.
      radii: smallest and largest radius of a cell, in units of the shorter side.
    """

    most: int = 10
    radii: tuple[float, float] = (0.085, 0.2)


CELLS = Contents()


@dataclass(frozen=True)
class Scene:
    """One image with its objects.

    Attributes:
      image: u8[h w 3], RGB.
      instances: u8[h w], 0 for background, i + 1 where object i is visible.
      boxes: f32[m 4], (y1, x1, y2, x2) in pixels, tight around the visible part.
      classes: i32[m], index into CLASS_NAMES.
      visible: f32[m], visible fraction of the whole shape in (0, 1]; the rest is covered or outside.
    """

    image: np.ndarray
    instances: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    visible: np.ndarray

    def mask(self, index: int) -> np.ndarray:
        """The mask u8[h w] in {0, 1} of object `index`."""
        return (self.instances == index + 1).astype(np.uint8)


def generate(
    seed: int, count: int, height: int, width: int, contents: Contents = CELLS
) -> Iterator[Scene]:
    """Yields `count` scenes of this size; about one in twenty is empty.

    Args:
      seed: scenes of different seeds have nothing in common.
      count: number of scenes; the first n scenes do not depend on it.
      height: pixels, at least 32.
      width: pixels, at least 32.
      contents: how many cells there are, and how large.

    Raises:
      ValueError: a side is under 32 pixels.
    """
    if min(height, width) < 32:
        raise ValueError(f"a scene of {width} x {height} pixels is too small; use at least 32.")
    return (_scene(_generator(seed, index), height, width, contents) for index in range(count))


def write_kitti(
    root: Path,
    *,
    seed: int,
    count: int,
    height: int,
    width: int,
    image_extension: str = ".png",
    contents: Contents = CELLS,
) -> list[Path]:
    """Writes `root/images/000000.png ...` and `root/labels/000000.txt ...`.

    `occluded` is 1 where less than 0.7 of the shape is visible.

    Returns:
      The label files in order.

    Raises:
      DataError: a file cannot be written.
    """
    root = Path(root)
    make_folder(root / "images")
    make_folder(root / "labels")
    files = []
    for index, scene in enumerate(generate(seed, count, height, width, contents)):
        _write_image(root / "images" / f"{index:06d}{image_extension}", scene.image)
        path = root / "labels" / f"{index:06d}.txt"
        write_labels(path, _kitti_objects(scene))
        files.append(path)
    return files


def write_coco(
    root: Path,
    *,
    seed: int,
    train_count: int,
    val_count: int,
    height: int,
    width: int,
    image_extension: str = ".png",
) -> dict[str, Path]:
    """Writes `root/images/*`, `root/instances_train.json` and `root/instances_val.json`.

    Masks are polygons; masks with a hole and every tenth object are compressed RLE. Decoding gives
    the exact mask in both forms. Category ids are 1, 2, 3 in the order of CLASS_NAMES; image and
    annotation ids are unique over both files.

    Returns:
      The annotation files by split, `train` and `val`.

    Raises:
      DataError: a file cannot be written.
    """
    root = Path(root)
    make_folder(root / "images")
    contents = {"train": _empty_coco(), "val": _empty_coco()}
    next_id = 1
    for index, scene in enumerate(generate(seed, train_count + val_count, height, width)):
        name = f"{index:06d}{image_extension}"
        _write_image(root / "images" / name, scene.image)
        content = contents["train" if index < train_count else "val"]
        image_id = index + 1
        content["images"].append(
            {"id": image_id, "file_name": name, "height": height, "width": width}
        )
        for number in range(len(scene.boxes)):
            content["annotations"].append(_coco_annotation(scene, number, next_id, image_id))
            next_id += 1
    paths = {split: root / f"instances_{split}.json" for split in contents}
    for split, path in paths.items():
        path.write_text(json.dumps(contents[split]), encoding="utf-8")
    return paths


def _generator(seed: int, index: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, index]))


def _scene(rng: np.random.Generator, height: int, width: int, contents: Contents) -> Scene:
    base = rng.uniform(40, 150, 3).astype(np.float32)  # colour of the background, 0..255
    canvas = _background(rng, height, width, base)
    instances = np.zeros((height, width), np.uint8)
    classes, visible = [], []
    # Empty images on purpose: they are a case of their own in every loss and metric.
    wanted = 0 if rng.random() < 0.05 else int(rng.integers(1, contents.most + 1))
    for _ in range(wanted):
        kind = int(rng.integers(len(CLASS_NAMES)))
        outline = _pose(rng, _outline(rng, CLASS_NAMES[kind]), height, width, contents.radii)
        fraction = _draw(rng, canvas, instances, outline, len(classes) + 1, base)
        if fraction > 0:
            classes.append(kind)
            visible.append(fraction)
    return Scene(
        image=_photograph(rng, canvas),
        instances=instances,
        boxes=_tight_boxes(instances, len(classes)),
        classes=np.array(classes, np.int32),
        visible=np.array(visible, np.float32),
    )


def _background(rng: np.random.Generator, height: int, width: int, base: np.ndarray) -> np.ndarray:
    """Clouds in the base colour, streaks and specks of no class: f32[h w 3] in 0..255."""
    clouds = cv2.resize(
        rng.normal(0, 14, (5, 6, 3)).astype(np.float32),
        (width, height),
        interpolation=cv2.INTER_CUBIC,
    )
    canvas = clouds + base
    side = min(height, width)
    for _ in range(int(rng.integers(2, 9))):
        start, end = (rng.uniform(0, (width, height)).astype(int).tolist() for _ in range(2))
        color = (base + rng.normal(0, 35, 3)).tolist()  # thinner than any rod
        cv2.line(canvas, start, end, color, int(rng.integers(1, max(1, side // 120) + 1)))
    for _ in range(int(rng.integers(5, 40))):
        center = rng.uniform(0, (width, height)).astype(int).tolist()
        color = (base + rng.normal(0, 45, 3)).tolist()
        cv2.circle(canvas, center, int(rng.integers(1, max(2, side // 80) + 1)), color, -1)
    return canvas


def _outline(rng: np.random.Generator, kind: str) -> np.ndarray:
    """The outline of a cell f64[p 2], (x, y), about its centre, in units of its radius."""
    if kind == "rod":
        return _capsule(rng.uniform(0.14, 0.24), rng.uniform(-0.35, 0.35))
    if kind == "star":
        arms, inner = int(rng.integers(5, 8)), rng.uniform(0.38, 0.52)
        angles = np.linspace(0, 2 * np.pi, 2 * arms, endpoint=False)
        radius = np.where(np.arange(2 * arms) % 2, inner, 1.0) * rng.uniform(0.92, 1.08, 2 * arms)
    else:
        angles = np.linspace(0, 2 * np.pi, _OUTLINE_POINTS, endpoint=False)
        waves = [rng.uniform(0, 0.06) * np.cos(k * angles + rng.uniform(0, 6.3)) for k in (2, 3, 4)]
        radius = 0.85 + np.sum(waves, axis=0)
    outline = radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return outline * (1.0, rng.uniform(0.75, 1.0))


def _capsule(half: float, bend: float) -> np.ndarray:
    """A rod from x = -1 to 1 of width 2 * half along a parabola of this depth: f64[p 2]."""
    side = np.linspace(-1, 1, _OUTLINE_POINTS // 4) * (1 - half)
    turn = np.linspace(-np.pi / 2, np.pi / 2, _OUTLINE_POINTS // 4)
    cap_x, cap_y = half * np.cos(turn) + 1 - half, half * np.sin(turn)
    x = np.concatenate([side, cap_x, side[::-1], -cap_x])
    y = np.concatenate([np.full_like(side, -half), cap_y, np.full_like(side, half), -cap_y])
    return np.stack([x, y + bend * (x * x - 0.5)], axis=1)


def _pose(
    rng: np.random.Generator,
    outline: np.ndarray,
    height: int,
    width: int,
    radii: tuple[float, float],
) -> np.ndarray:
    """Turns, scales and moves an outline to somewhere in the image, in pixels."""
    side = min(height, width)
    # Uniform in the logarithm: small and large cells are equally frequent per octave.
    radius = side * np.exp(rng.uniform(*np.log(radii)))
    angle = rng.uniform(0, 2 * np.pi)
    cos, sin = np.cos(angle), np.sin(angle)
    center = rng.uniform(0, (width, height))
    return radius * outline @ np.array([[cos, sin], [-sin, cos]]) + center


def _draw(
    rng: np.random.Generator,
    canvas: np.ndarray,
    instances: np.ndarray,
    outline: np.ndarray,
    number: int,
    base: np.ndarray,
) -> float:
    """Draws a cell behind those already there; returns its visible fraction, 0 when not drawn."""
    left, top = np.floor(outline.min(0)).astype(int) - 1
    right, bottom = np.ceil(outline.max(0)).astype(int) + 2
    shape = np.zeros((bottom - top, right - left), np.uint8)
    points = np.round((outline - (left, top)) * (1 << _SUBPIXEL_BITS)).astype(np.int32)
    cv2.fillPoly(shape, [points], 1, shift=_SUBPIXEL_BITS)
    whole = int(shape.sum())

    height, width = instances.shape
    x1, y1, x2, y2 = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    seen = shape[y1 - top : y2 - top, x1 - left : x2 - left].astype(bool)
    seen &= instances[y1:y2, x1:x2] == 0
    pixels = int(seen.sum())
    if pixels < max(_LEAST_VISIBLE * whole, _LEAST_PIXELS):
        return 0.0
    instances[y1:y2, x1:x2][seen] = number
    paint = _paint(rng, shape, base)[y1 - top : y2 - top, x1 - left : x2 - left]
    canvas[y1:y2, x1:x2][seen] = paint[seen]
    return pixels / whole


def _paint(rng: np.random.Generator, shape: np.ndarray, base: np.ndarray) -> np.ndarray:
    """The colours f32[h w 3] of a cell: tinted, shaded to one side, rimmed, mottled, nucleated."""
    height, width = shape.shape
    contrast = rng.choice((-1, 1)) * rng.uniform(28, 70)
    color = base + contrast + rng.normal(0, 18, 3)
    ys, xs = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)
    direction = rng.uniform(0, 2 * np.pi)
    light = rng.uniform(4, 22) * (np.cos(direction) * xs + np.sin(direction) * ys)
    mottle = cv2.resize(rng.normal(0, 9, (5, 5)), (width, height), interpolation=cv2.INTER_LINEAR)
    depth = cv2.distanceTransform(shape, cv2.DIST_L2, 3)
    rim = np.where(depth < 2.5, rng.uniform(-30, 30), 0.0)
    nucleus = np.where(depth > rng.uniform(0.45, 0.7) * depth.max(), rng.uniform(-35, 10), 0.0)
    return ((light + mottle + rim + nucleus)[..., None] + color).astype(np.float32)


def _photograph(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    """Uneven light, blur and grain: f32[h w 3] to u8[h w 3]."""
    height, width = canvas.shape[:2]
    corners = rng.uniform(0.75, 1.2, (2, 2)).astype(np.float32)
    light = cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR)
    blurred = cv2.GaussianBlur(canvas * light[..., None], (3, 3), rng.uniform(0.3, 0.9))
    # The sum of two uniform bytes has a triangular distribution: close to normal and much faster.
    grain = rng.integers(0, 256, (2, height, width, 3), np.uint8).astype(np.float32).sum(0) - 255
    return np.clip(blurred + grain * (rng.uniform(3, 11) / 104), 0, 255).astype(np.uint8)


def _tight_boxes(instances: np.ndarray, count: int) -> np.ndarray:
    boxes = np.zeros((count, 4), np.float32)
    for index in range(count):
        x, y, w, h = cv2.boundingRect((instances == index + 1).astype(np.uint8))
        boxes[index] = y, x, y + h, x + w
    return boxes


def _kitti_objects(scene: Scene) -> Iterator[KittiObject]:
    for (y1, x1, y2, x2), kind, fraction in zip(
        scene.boxes.tolist(), scene.classes.tolist(), scene.visible.tolist(), strict=True
    ):
        occluded = int(fraction < _PARTLY_HIDDEN)
        yield KittiObject(
            class_name=CLASS_NAMES[kind], x1=x1, y1=y1, x2=x2, y2=y2, occluded=occluded
        )


def _empty_coco() -> dict[str, list]:
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASS_NAMES, start=1)]
    return {"images": [], "annotations": [], "categories": categories}


def _coco_annotation(scene: Scene, number: int, annotation_id: int, image_id: int) -> dict:
    mask = scene.mask(number)
    # Both forms of COCO masks occur in real data, so both are in the synthetic data set.
    polygons = None if annotation_id % 10 == 0 else mask_polygons(mask)
    y1, x1, y2, x2 = scene.boxes[number].tolist()
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": int(scene.classes[number]) + 1,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": int(mask.sum()),
        "iscrowd": 0,
        "segmentation": polygons or mask_rle(mask),
    }


def _write_image(path: Path, image: np.ndarray) -> None:
    try:
        written = cv2.imwrite(str(path), np.ascontiguousarray(image[..., ::-1]))
    except cv2.error as error:
        raise DataError(f"{path}: cannot write images with this extension.") from error
    if not written:
        raise DataError(f"{path}: cannot write the image.")
