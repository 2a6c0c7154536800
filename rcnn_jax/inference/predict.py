"""Inference loop: runs a predictor on image files and passes detections to writers.

    paths --_in_order--> Loaded --_groups--> batches --predictor--> Detections --> writers

A predictor is a function, so bundles and exported graphs use the same loop. Images are read on threads
while the device computes; images of one canvas size form a batch.
"""

import errno
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import jax
import numpy as np

from rcnn_jax.data.formats.image_folder import ImageList
from rcnn_jax.data.loader import images as image_files
from rcnn_jax.data.sources.tiles import Window, windows
from rcnn_jax.errors import DataError
from rcnn_jax.evaluate.matching import iou_matrix
from rcnn_jax.evaluate.tiles import merge
from rcnn_jax.hosts.team import team
from rcnn_jax.inference.outputs import Writer
from rcnn_jax.printable import shown
from rcnn_jax.reporter import Reporter
from rcnn_jax.runtime.backend import Predictor
from rcnn_jax.settings.data import GeometrySettings, TilingSettings
from rcnn_jax.structures import Detections
from rcnn_jax.tasks.experiment import Experiment

Item = TypeVar("Item")

_OF_ONE_IMAGE = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)
"""Errors of writing that come from the name of the image; others stop the command."""


@dataclass(frozen=True, eq=False)
class Loaded:
    """An image on its canvas, or the error of its file.

    Attributes:
      path: the file.
      canvas: u8[h w c], or None.
      scale: f32[2], canvas pixels per source pixel.
      source_size: (height, width) of the file.
      error: message that names the file; empty for a readable one.
    """

    path: Path
    canvas: np.ndarray | None = None
    scale: np.ndarray | None = None
    source_size: tuple[int, int] = (0, 0)
    error: str = ""


def detect_files(
    paths: list[Path], experiment: Experiment, predictor: Predictor, devices: int = 1
) -> Iterator[tuple[Loaded, Detections | None]]:
    """Yields every file with its detections in source pixels, or None for an unreadable one.

    Args:
      paths: image files of any size.
      experiment: geometry, channel order, batch size.
      predictor: images to detections on the canvas.
      devices: of the predictor; each takes a batch of the experiment at a time.
    """
    size = experiment.inference_batch * devices
    if experiment.tiling is not None:
        yield from _detect_tiles(paths, experiment, experiment.tiling, predictor, size)
        return
    offset = image_files.origin(experiment.geometry)
    order = experiment.task.pixels.channel_order
    with ThreadPoolExecutor(experiment.threads) as pool:
        # Sixteen canvases in memory at a time, whatever the number of files.
        loaded = _in_order(pool, paths, 16, lambda path: _load(path, experiment.geometry, order))
        for group in _groups((item for _, item in loaded), size):
            good = [item for item in group if item.canvas is not None]
            detections = iter(_detect(good, size, predictor, offset))
            for item in group:
                yield item, next(detections) if item.canvas is not None else None


def _detect_tiles(
    paths: list[Path],
    experiment: Experiment,
    tiling: TilingSettings,
    predictor: Predictor,
    size: int,
) -> Iterator[tuple[Loaded, Detections | None]]:
    """Yields as `detect_files`, each file by its tiles, `size` of them at a time."""
    geometry, order = experiment.geometry, experiment.task.pixels.channel_order
    offset, rules = image_files.origin(geometry), experiment.inference.detections
    with ThreadPoolExecutor(experiment.threads) as pool:
        # Decoded pixels are kept until a file's turn comes: large pictures, so few of them.
        for path, tiles in _in_order(
            pool, paths, 2, lambda path: _load_tiles(path, geometry, tiling, order)
        ):
            if isinstance(tiles, DataError):
                yield Loaded(path, error=str(tiles)), None
                continue
            source_size, lying, loaded = tiles
            detections = [
                one
                for group in _groups(loaded, size)
                for one in _detect(group, size, predictor, offset)
            ]
            merged = merge(
                detections,
                lying,
                source_size,
                nms_threshold=rules.nms_threshold,
                limit=rules.max_detections,
            )
            yield Loaded(path, source_size=source_size), merged


def _load_tiles(
    path: Path, geometry: GeometrySettings, tiling: TilingSettings, order: str
) -> tuple[tuple[int, int], list[Window], list[Loaded]] | DataError:
    """Returns the size of an image, where its tiles lie, and the tiles on their canvases."""
    try:
        pixels = image_files.read_image(path, order, shown(path))
        size = (pixels.shape[0], pixels.shape[1])
        lying = windows(size, tiling)
        loaded = [_on_canvas(path, pixels[t:b, left:r], geometry) for t, left, b, r in lying]
    except DataError as error:
        return error
    return size, lying, loaded


def run_inference(
    experiment: Experiment,
    predictor: Predictor,
    images: ImageList,
    writers: Sequence[Writer],
    *,
    threshold: float,
    reporter: Reporter,
    agnostic_nms: float | None = None,
    devices: int = 1,
) -> int:
    """Runs a predictor on image files and writes its detections; processes share the files.

    Args:
      experiment: geometry, channel order, batch size.
      predictor: images to detections on the canvas.
      images: files to read, and other entries, which are reported and skipped.
      writers: of the outputs.
      threshold: lowest score of detections that are written.
      reporter: progress and warnings.
      agnostic_nms: overlap above which the lower of two scores goes, whatever the classes; None
        keeps them all.
      devices: see `detect_files`.

    Returns:
      The number of files that could not be used; each was named in a warning.

    Raises:
      DataError: outputs cannot be written.
    """
    started, together = time.monotonic(), team()
    troubles: list[str] = []
    for path, kind in images.unusable.items():
        reporter.warn(f"{shown(path)}: expected an image, found a {kind} (skipped)")
    failed, objects = len(images.unusable), 0
    paths = list(images.paths)[together.index :: together.count]
    by_file = detect_files(paths, experiment, predictor, devices)
    for item, detections in reporter.track(by_file, len(paths), "inference"):
        # No tick: processes have files of their own, and one more or less of them.
        together.rest(f"what comes after {shown(item.path)}")
        problem, kept = item.error, None
        if detections is not None:
            keep = detections.scores >= threshold
            kept = jax.tree.map(lambda leaf, keep=keep: leaf[keep], detections)
            if agnostic_nms is not None:
                kept = suppress_across_classes(kept, agnostic_nms)
            problem = _write(item, kept, writers)
        # One unreadable image in a folder of thousands is a warning; the exit code says that there
        # was one.
        if problem or kept is None:
            troubles.append(f"{problem} (skipped)")
            reporter.warn(troubles[-1])
        else:
            objects += len(kept.scores)
    totals = together.gather_json([len(paths), objects, troubles])
    for _, _, theirs in totals[1:]:  # the further processes are silent
        for trouble in theirs:
            reporter.warn(trouble)
    failed += sum(len(theirs) for _, _, theirs in totals)
    objects = sum(number for _, number, _ in totals)
    done = len(images.paths) + len(images.unusable) - failed
    reporter.console.print(
        f"{done} images, {objects} objects with a score of at least {threshold:g}, "
        f"{failed} skipped, {time.monotonic() - started:.1f} s",
        markup=False,
    )
    for writer in writers:
        for what, where in _closed(writer):
            reporter.console.print(f"{what}: {where}", markup=False)
    return failed


def suppress_across_classes(detections: Detections, iou: float) -> Detections:
    """Keeps the best of the detections that overlap, whatever their classes.

    Detectors suppress per class, so an object that could be either of two classes has a box of each.

    Args:
      detections: of one image, all valid.
      iou: overlap in [0, 1] above which the lower score goes; ties go to the lower index.
    """
    # Greedy, best score first, against kept boxes only: a suppressed box suppresses none itself.
    overlaps = iou_matrix(detections.boxes, detections.boxes) > iou
    keep = np.zeros(len(detections.scores), bool)
    for i in np.argsort(-np.asarray(detections.scores), kind="stable"):
        keep[i] = not (overlaps[i] & keep).any()
    return jax.tree.map(lambda leaf: leaf[keep], detections)


def _write(item: Loaded, detections: Detections, writers: Sequence[Writer]) -> str:
    """Writes the outputs of one image; returns the error of this image, or nothing.

    Raises:
      DataError: an error that concerns more than this image, such as a full disk.
    """
    try:
        for writer in writers:
            writer.write(item.path, item.source_size, detections)
    except DataError as error:  # the file has changed since it was read
        return str(error)
    except OSError as error:
        if error.errno in _OF_ONE_IMAGE:
            return f"{shown(item.path)}: its outputs cannot be written: {error.strerror}"
        raise _unwritable(error) from error
    return ""


def _closed(writer: Writer) -> list[tuple[str, Path]]:
    try:
        return writer.close()
    except OSError as error:
        raise _unwritable(error) from error


def _unwritable(error: OSError) -> DataError:
    return DataError(f"{error.filename or 'outputs'}: cannot be written: {error.strerror}")


def _load(path: Path, geometry: GeometrySettings, order: str) -> Loaded:
    name = shown(path)
    try:
        return _on_canvas(path, image_files.read_image(path, order, name), geometry)
    except DataError as error:
        text = str(error)
        # An error as a value: it is reported where the file's turn comes, not where a thread met
        # it.
        return Loaded(path, error=text if text.startswith(name) else f"{name}: {text}")


def _on_canvas(path: Path, pixels: np.ndarray, geometry: GeometrySettings) -> Loaded:
    """Returns an image, or a tile of one, on its canvas."""
    size = (pixels.shape[0], pixels.shape[1])
    placed = image_files.fit(size, geometry)
    canvas = image_files.apply_image(pixels, placed)
    return Loaded(path, canvas, np.asarray(placed.scale, np.float32), size)


def _in_order(
    pool: ThreadPoolExecutor, paths: list[Path], depth: int, load: Callable[[Path], Item]
) -> Iterator[tuple[Path, Item]]:
    """Loads files in order, at most `depth` of them ahead of the reader."""
    # Submitted all at once, a folder would be in memory as a whole before the device has seen an
    # image.
    pending = [(path, pool.submit(load, path)) for path in paths[:depth]]
    for following in [*paths[depth:], *[None] * len(pending)]:
        path, loading = pending.pop(0)
        yield path, loading.result()
        if following is not None:
            pending.append((following, pool.submit(load, following)))


def _groups(items: Iterable[Loaded], size: int) -> Iterator[list[Loaded]]:
    """Groups consecutive images of one canvas size, at most `size` readable ones to a group."""
    group: list[Loaded] = []
    shape = None
    for item in items:
        if item.canvas is not None:
            # Unreadable files stay in the group, so results come in the order of the files; they
            # fill no slot of the batch.
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
    """Yields the detections of at most `size` canvases of one shape."""
    if not items:
        return
    canvases = [np.asarray(item.canvas) for item in items]
    # Filled up with copies of the first image: another batch size would be another compilation.
    batch = np.stack(canvases + [canvases[0]] * (size - len(items)))
    detections = jax.tree.map(np.asarray, predictor(batch)[0])
    for row, item in enumerate(items):
        one = jax.tree.map(lambda leaf, i=row: leaf[i][detections.valid[i]], detections)
        boxes = image_files.boxes_to_source(
            one.boxes, np.asarray(item.scale), np.asarray(item.source_size), offset
        )
        yield one.replace(boxes=boxes)
