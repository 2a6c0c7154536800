"""Runs a detector over image files and hands what it finds to writers.

The model arrives as a function, so bundles and exported graphs share this file. Images are read on
threads while the device computes; images of one canvas share a batch.
"""

import glob
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from rcnn_jax.data import images as image_files
from rcnn_jax.errors import DataError
from rcnn_jax.evaluate.loop import Predictor
from rcnn_jax.inference.outputs import Writer
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

    Args:
      folder: a folder; or one image, or a pattern such as `frames/*.png`, for its files.

    Raises:
      DataError: the folder is missing, or there is no such file.
    """
    try:
        is_file, is_folder = folder.is_file(), folder.is_dir()
    except (OSError, ValueError) as error:  # too long, or with a NUL
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{folder}: the image directory cannot be read: {reason}") from error
    if is_file:
        if folder.suffix.lower() in EXTENSIONS:
            return [folder]
        raise DataError(f"{folder}: is no image; expected {', '.join(EXTENSIONS)}, or a folder")
    if not is_folder and glob.has_magic(str(folder)):
        names = sorted(glob.iglob(str(folder)))  # noqa: PTH207 Path.glob takes no absolute pattern
        found = [path for path in map(Path, names) if path.suffix.lower() in EXTENSIONS]
        if found:
            return found
        raise DataError(f"{folder}: no file ending in {', '.join(EXTENSIONS)} fits this pattern")
    if not is_folder:
        raise DataError(f"{folder}: the image directory does not exist; check images_dir or -i")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in EXTENSIONS)
    if not found:
        raise DataError(
            f"{folder}: no image found; expected files ending in {', '.join(EXTENSIONS)}"
        )
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
        for group in _groups(
            _ahead(pool, paths, experiment.geometry, order), experiment.inference_batch
        ):
            good = [item for item in group if item.canvas is not None]
            found = iter(_detect(good, experiment.inference_batch, predictor, offset))
            for item in group:
                yield item, next(found) if item.canvas is not None else None


def run_inference(
    experiment: Experiment,
    predictor: Predictor,
    paths: list[Path],
    writers: Sequence[Writer],
    *,
    threshold: float,
    session: Reporter,
) -> int:
    """Detects in image files and hands the detections to the writers.

    Args:
      experiment: geometry, channel order, batch size.
      predictor: images to detections on the canvas.
      paths: images to read.
      writers: what is made of the detections.
      threshold: detections with a lower score are neither drawn nor dumped.
      session: progress and warnings.

    Returns:
      The number of files that could not be read; each was named in a warning.
    """
    failed = objects = 0
    found_in = detect_files(paths, experiment, predictor)
    for item, found in session.track(found_in, len(paths), "inference"):
        if found is None:
            session.warn(f"{item.error} (skipped)")
            failed += 1
            continue
        keep = found.scores >= threshold
        kept = jax.tree.map(lambda leaf, keep=keep: leaf[keep], found)
        objects += int(keep.sum())
        for writer in writers:
            writer.write(item.path, item.source_size, kept)
    session.console.print(
        f"{len(paths) - failed} images, {objects} objects with a score of at least {threshold:g}"
        + (f", {failed} files could not be read" if failed else ""),
        markup=False,
    )
    for writer in writers:
        for what, where in writer.close():
            session.console.print(f"{what}: {where}", markup=False)
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
    canvases = [np.asarray(item.canvas) for item in items]
    batch = np.stack(canvases + [canvases[0]] * (size - len(items)))
    found = jax.tree.map(np.asarray, predictor(batch)[0])
    for row, item in enumerate(items):
        one = jax.tree.map(lambda leaf, i=row: leaf[i][found.valid[i]], found)
        boxes = image_files.boxes_to_source(
            one.boxes, np.asarray(item.scale), np.asarray(item.source_size), offset
        )
        yield one.replace(boxes=boxes)
