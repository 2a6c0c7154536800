"""Calibration images: from the training data, a folder, or a file of batches.

--cal_data_file exists        -> its batches
--cal_image_dir               -> a random sample of the folder   } written to --cal_data_file
otherwise                     -> random training batches         } if one is named
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rcnn_jax.data.formats.image_folder import list_images
from rcnn_jax.data.loader import images as image_files
from rcnn_jax.data.loader.pipeline import training_batches
from rcnn_jax.data.sources.tiles import tiled
from rcnn_jax.errors import DataError
from rcnn_jax.export.precision.ranges import Method
from rcnn_jax.export.precision.tensorfile import read_tensorfile, write_tensorfile
from rcnn_jax.reporter import Reporter
from rcnn_jax.runtime.backend import preprocess
from rcnn_jax.runtime.header import Header
from rcnn_jax.settings.data import LoaderSettings
from rcnn_jax.tasks.experiment import Experiment


@dataclass(frozen=True, kw_only=True)
class CalibrationSettings:
    """Settings of calibration.

    Attributes:
      cache_file: scales in TensorRT's format; read where it exists, else written.
      json_file: largest values as JSON, written where named.
      image_dir: images instead of the training data.
      data_file: preprocessed batches; read where it exists, else written.
      batches: number of batches.
      batch_size: images in each.
      method: choice of the largest value of a tensor.
    """

    cache_file: Path
    json_file: Path | None = None
    image_dir: Path | None = None
    data_file: Path | None = None
    batches: int = 10
    batch_size: int = 8
    method: Method = "percentile"


def calibration_batches(
    experiment: Experiment, header: Header, settings: CalibrationSettings, session: Reporter
) -> Iterator[np.ndarray]:
    """Yields f32[b c h w], preprocessed as in training, and reports their origin.

    Raises:
      DataError: too few images, or data that is missing or damaged.
    """
    shape = (len(header.mean), *header.canvas)
    file = settings.data_file
    if file is not None and file.exists():
        session.console.print(f"calibrating on the batches of {file}", markup=False)
        yield from read_tensorfile(file, shape)
        return
    if settings.image_dir is not None:
        pictures = _folder_batches(experiment, settings.image_dir, settings)
        origin = str(settings.image_dir)
    else:
        pictures = _training_batches(experiment, settings, session)
        origin = "the training images"
    session.console.print(f"calibrating on {origin}", markup=False)
    batches = (preprocess(batch, header) for batch in pictures)
    if file is None:
        yield from batches
        return
    # Written whole, then read back: the first export calibrates on exactly what the next one will
    # find, and no more than one batch is in memory.
    count = write_tensorfile(file, batches)
    session.console.print(f"calibration batches: {file} ({count})", markup=False)
    yield from read_tensorfile(file, shape)


def _training_batches(
    experiment: Experiment, settings: CalibrationSettings, session: Reporter
) -> Iterator[np.ndarray]:
    """Yields u8[b h w c]: shuffled batches of the whole training set, not augmented."""
    source = tiled(experiment.train_source(), experiment.tiling)
    size = min(settings.batch_size, len(source))
    # Whole batches of different images: a second epoch would count the same values again.
    count = min(settings.batches, len(source) // size)
    if count * size < settings.batches * settings.batch_size:
        session.note(
            f"--batches {settings.batches} of {settings.batch_size} images: the training data has "
            f"{len(source)} images, {count * size} are used"
        )
    batches = training_batches(
        source,
        experiment.geometry,
        None,
        None,
        experiment.task.pixels.channel_order,
        LoaderSettings(
            global_batch=size,
            seed=experiment.seed,
            threads=experiment.threads,
            prefetch=experiment.prefetch,
        ),
    )
    for _, batch in zip(range(count), batches, strict=False):
        yield np.asarray(batch.images)


def _folder_batches(
    experiment: Experiment, folder: Path, settings: CalibrationSettings
) -> Iterable[np.ndarray]:
    """Returns batches u8[b h w c] of a random sample of the images of a folder."""
    listing = list_images(folder, what="folder of --cal_image_dir")
    paths = listing.paths
    needed = settings.batches * settings.batch_size
    # An error as in the original, and not the note that the training data get: the folder was
    # chosen for this, so the wish and the folder contradict each other.
    if len(paths) < needed:
        raise DataError(
            f"--cal_image_dir {folder}: holds {len(paths)} images ({listing.summary()} besides), but "
            f"--batches {settings.batches} of --batch_size {settings.batch_size} need {needed}: "
            "add images or lower --batches"
        )
    order = np.random.default_rng(experiment.seed).permutation(len(paths))[:needed]
    chosen = [paths[i] for i in order]
    size = settings.batch_size
    return (
        np.stack([_on_canvas(path, experiment) for path in chosen[start : start + size]])
        for start in range(0, needed, size)
    )


def _on_canvas(path: Path, experiment: Experiment) -> np.ndarray:
    # As training and evaluation place an image. The original stretched calibration images by
    # Lanczos even where training pads (docs/reference/tensorrt.md, "Calibration images").
    pixels = image_files.read_image(path, experiment.task.pixels.channel_order)
    placed = image_files.fit((pixels.shape[0], pixels.shape[1]), experiment.geometry)
    return image_files.apply_image(pixels, placed)
