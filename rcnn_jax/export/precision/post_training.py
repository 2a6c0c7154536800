"""Post-training quantisation of a graph: scales from a calibration cache or images, and offsets."""

from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import onnx

from rcnn_jax.checkpoints.atomic import read_file
from rcnn_jax.errors import DataError
from rcnn_jax.export.precision.bias_correction import rounding_offsets
from rcnn_jax.export.precision.calibration import observe, scales_of, with_fused
from rcnn_jax.export.precision.calibration_data import CalibrationSettings, calibration_batches
from rcnn_jax.export.precision.digest import check_digest
from rcnn_jax.export.precision.model_view import ModelView
from rcnn_jax.export.precision.placement import place
from rcnn_jax.export.precision.quantize import Offsets
from rcnn_jax.export.precision.scales import digest_of_cache, read_cache
from rcnn_jax.reporter import Reporter
from rcnn_jax.runtime.header import Header
from rcnn_jax.tasks.experiment import Experiment


@dataclass(frozen=True)
class Calibrated:
    """Scales and offsets of int8 for a graph, with their origin.

    Attributes:
      scales: {tensor of the FP32 graph: scale}.
      origin: a few words for the report.
      reused: read from the cache file, which stays as it is.
      offsets: of the biases of the layers; empty without images.
    """

    scales: dict[str, float]
    origin: str
    reused: bool
    offsets: Offsets


def is_same_cache(cache: Path, model: onnx.ModelProto, scales: dict[str, float]) -> bool:
    """Says whether a calibration cache that exists holds the scales of a model already.

    Raises:
      DataError: it exists and holds others: it is not overwritten, and would not fit.
    """
    if not cache.exists():
        return False
    text = read_file(cache, "calibration cache").decode("utf-8", "replace")
    check_digest(digest_of_cache(text), model, f"--cal_cache_file {cache}")
    if read_cache(text, str(cache)) != scales:
        raise DataError(
            f"--cal_cache_file {cache}: exists already with other scales than those of training: "
            "remove it, name another file, or give --force_ptq"
        )
    return True


def calibrate(
    model: onnx.ModelProto,
    experiment: Experiment,
    header: Header,
    settings: CalibrationSettings,
    session: Reporter,
    images: np.ndarray | None,
) -> Calibrated:
    """Returns the scales of the quantised tensors of a graph, and the offsets of its biases.

    An existing cache file is used as it is, as TensorRT does; otherwise the graph runs over images.
    Offsets are no part of a cache: measured on `images`, they are the same with it as without.

    Args:
      model: FP32 graph.
      experiment: geometry and data.
      header: of the graph.
      settings: images, cache and method.
      session: gets notes with the origin of the scales.
      images: f32[b c h w], real ones, to measure offsets on; where there are none, the first batch
        of calibration serves, and a cache comes without offsets.

    Raises:
      DataError: the cache belongs to another graph or is damaged; images are missing or too few.
      ExportError: a tensor is not finite.
    """
    # Read before any data is opened: with a cache, an export needs no training images.
    cache = settings.cache_file
    if cache.exists():
        text = read_file(cache, "calibration cache").decode("utf-8", "replace")
        scales = read_cache(text, str(cache))
        check_digest(digest_of_cache(text), model, f"--cal_cache_file {cache}")
        wanted = place(ModelView(model)).readers
        # Surplus names do not matter: the cache also holds tensors between layers (`with_fused`).
        missing = [name for name in wanted if name not in scales]
        if missing:
            raise DataError(
                f"--cal_cache_file {cache}: belongs to another graph: it has no scale for "
                f"{len(missing)} of {len(wanted)} tensors, the first is '{missing[0]}'; remove it "
                "to calibrate anew, or name another file"
            )
        session.note(f"{cache} exists: its scales are used and nothing is calibrated")
        offsets = {}
        if images is None:
            session.note("biases of int8 layers are not corrected: there are no images")
        else:
            offsets = rounding_offsets(model, scales, [images])
        return Calibrated(scales, f"scales of {cache.name}", reused=True, offsets=offsets)
    batches = calibration_batches(experiment, header, settings, session)
    # A generator gives a batch once, and two measurements need the first one.
    first = next(batches)
    seen = session.track(chain([first], batches), settings.batches, "calibrate")
    scales = scales_of(observe(model, seen), settings.method)
    offsets = rounding_offsets(model, scales, [first if images is None else images])
    origin = f"calibrated by {settings.method}"
    return Calibrated(with_fused(model, scales), origin, reused=False, offsets=offsets)
