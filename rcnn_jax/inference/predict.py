"""Runs a detector over a folder of images and leaves annotated pictures and label files.

The model arrives as a function, so bundles and exported graphs share this file. Images are read on
threads while the device computes; images of one canvas share a batch.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import jax
import numpy as np

from rcnn_jax.data import images as image_files
from rcnn_jax.errors import DataError
from rcnn_jax.evaluate.loop import Predictor
from rcnn_jax.evaluate.report import write_whole
from rcnn_jax.inference.draw import draw
from rcnn_jax.inference.labels import write_kitti_detections
from rcnn_jax.reporter import Reporter
from rcnn_jax.settings import GeometrySettings
from rcnn_jax.structures import Detections
from rcnn_jax.tasks.experiment import Experiment

EXTENSIONS = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, eq=False)
class Loaded:
    """An image on its canvas, or the reason why there is none.

    Attributes:
      path: the file.
      canvas: u8[h w c], or None.
      scale: f32[2], canvas pixels per source pixel.
      source_size: (height, width) of the file.
      error: what is wrong with the file.
    """

    path: Path
    canvas: np.ndarray | None = None
    scale: np.ndarray | None = None
    source_size: tuple[int, int] = (0, 0)
    error: str = ""


def find_images(folder: Path) -> list[Path]:
    """Returns the png, jpg and jpeg files of a folder, sorted by name.

    Raises:
      DataError: the folder is missing or holds no such file.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: the image directory does not exist; check images_dir or -i")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in EXTENSIONS)
    if not found:
        raise DataError(f"{folder}: no image found; expected files ending in {', '.join(EXTENSIONS)}")
    return found


def detect_files(
    paths: list[Path], experiment: Experiment, predictor: Predictor
) -> Iterator[tuple[Loaded, Detections | None]]:
    """Yields every file with its detections in source pixels, None where it could not be read.

    Args:
      paths: image files of any size.
      experiment: geometry, channel order, batch size.
      predictor: images to detections on the canvas.
    """
    offset = image_files.origin(experiment.geometry)
    order = experiment.task.pixels.channel_order
    with ThreadPoolExecutor(experiment.threads) as pool:
        for group in _groups(_ahead(pool, paths, experiment.geometry, order), experiment.inference_batch):
            good = [item for item in group if item.canvas is not None]
            found = iter(_detect(good, experiment.inference_batch, predictor, offset))
            for item in group:
                yield item, next(found) if item.canvas is not None else None


def write_outputs(
    item: Loaded,
    found: Detections,
    class_names: tuple[str, ...],
    *,
    image_output: Path | None,
    label_output: Path | None,
    captions: bool,
) -> None:
    """Writes the annotated picture and the KITTI label file of one image, where asked for."""
    if label_output is not None:
        write_kitti_detections(
            label_output / f"{item.path.stem}.txt", found.boxes, found.scores, found.classes, class_names
        )
    if image_output is not None:
        picture = image_files.read_image(item.path, "rgb")
        drawn = draw(
            picture, found.boxes, found.scores, found.classes, class_names, captions=captions
        )
        encoded = cv2.imencode(item.path.suffix.lower(), drawn[..., ::-1])[1]
        write_whole(image_output / item.path.name, encoded.tobytes())


def run_inference(
    experiment: Experiment,
    predictor: Predictor,
    folder: Path,
    *,
    image_output: Path | None,
    label_output: Path | None,
    threshold: float,
    captions: bool,
    session: Reporter,
) -> int:
    """Detects in every image of a folder and writes what was asked for.

    Args:
      experiment: geometry, class names, batch size.
      predictor: images to detections on the canvas.
      folder: images to read.
      image_output: folder of annotated images, or None.
      label_output: folder of KITTI label files, or None.
      threshold: detections with a lower score are neither drawn nor dumped.
      captions: write class and score at every box.
      session: progress and warnings.

    Returns:
      The number of files that could not be read; each was named in a warning.

    Raises:
      DataError: the folder holds no image.
    """
    paths = find_images(folder)
    failed = boxes = 0
    for item, found in session.track(
        detect_files(paths, experiment, predictor), len(paths), "inference"
    ):
        if found is None:
            session.warn(f"{item.error} (skipped)")
            failed += 1
            continue
        keep = found.scores >= threshold
        kept = jax.tree.map(lambda leaf, keep=keep: leaf[keep], found)
        boxes += int(keep.sum())
        write_outputs(
            item,
            kept,
            experiment.task.class_names,
            image_output=image_output,
            label_output=label_output,
            captions=captions,
        )
    session.console.print(
        f"{len(paths) - failed} images, {boxes} objects with a score of at least {threshold:g}"
        + (f", {failed} files could not be read" if failed else ""),
        markup=False,
    )
    for name, output in (("annotated images", image_output), ("label files", label_output)):
        if output is not None:
            session.console.print(f"{name}: {output}", markup=False)
    return failed


def _load(path: Path, geometry: GeometrySettings, order: str) -> Loaded:
    try:
        pixels = image_files.read_image(path, order)
    except DataError as error:
        return Loaded(path, error=str(error))
    size = (pixels.shape[0], pixels.shape[1])
    placed = image_files.fit(size, geometry)
    canvas = image_files.apply_image(pixels, placed)
    return Loaded(path, canvas, np.asarray(placed.scale, np.float32), size)


def _ahead(
    pool: ThreadPoolExecutor, paths: list[Path], geometry: GeometrySettings, order: str
) -> Iterator[Loaded]:
    """Loads files in order, a bounded number of them ahead of the reader."""
    depth = 16
    pending = [pool.submit(_load, path, geometry, order) for path in paths[:depth]]
    for path in [*paths[depth:], *[None] * len(pending)]:
        yield pending.pop(0).result()
        if path is not None:
            pending.append(pool.submit(_load, path, geometry, order))


def _groups(items: Iterable[Loaded], size: int) -> Iterator[list[Loaded]]:
    """Collects neighbours of one canvas size, at most `size` readable ones to a group."""
    group: list[Loaded] = []
    shape = None
    for item in items:
        if item.canvas is not None:
            readable = sum(other.canvas is not None for other in group)
            if readable and (readable == size or item.canvas.shape != shape):
                yield group
                group = []
            shape = item.canvas.shape
        group.append(item)
    if group:
        yield group


def _detect(
    items: list[Loaded], size: int, predictor: Predictor, offset: tuple[float, float]
) -> Iterator[Detections]:
    """Yields the detections of at most `size` canvases of one shape; the batch is filled up."""
    if not items:
        return
    canvases = [item.canvas for item in items]
    batch = np.stack(canvases + [canvases[0]] * (size - len(items)))
    found = jax.tree.map(np.asarray, predictor(batch)[0])
    for row, item in enumerate(items):
        one = jax.tree.map(lambda leaf, i=row: leaf[i][found.valid[i]], found)
        boxes = image_files.boxes_to_source(one.boxes, item.scale, item.source_size, offset)
        yield one.replace(boxes=boxes)
