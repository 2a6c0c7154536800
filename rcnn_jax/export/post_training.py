"""Post-training quantisation: the scales of a graph, from a calibration cache or from images."""

from dataclasses import dataclass

import onnx

from rcnn_jax.checkpoints.atomic import read_file
from rcnn_jax.errors import DataError
from rcnn_jax.export.calibration import observe, scales_of, with_fused
from rcnn_jax.export.calibration_data import CalibrationSettings, calibration_batches
from rcnn_jax.export.contracts import Header
from rcnn_jax.export.model_view import ModelView
from rcnn_jax.export.placement import place
from rcnn_jax.export.scales import read_cache
from rcnn_jax.reporter import Reporter
from rcnn_jax.tasks.experiment import Experiment


@dataclass(frozen=True)
class Calibrated:
    """Scales and where they came from.

    Attributes:
      scales: {tensor of the FP32 graph: scale}.
      origin: a few words for the report.
      reused: read from the cache file, which stays as it is.
    """

    scales: dict[str, float]
    origin: str
    reused: bool


def find_scales(
    model: onnx.ModelProto,
    experiment: Experiment,
    header: Header,
    settings: CalibrationSettings,
    session: Reporter,
) -> Calibrated:
    """Returns the scales of the quantised tensors of a graph.

    An existing cache file is used as it is, as TensorRT does; otherwise the graph runs over images.

    Args:
      model: FP32 graph.
      experiment: geometry and data.
      header: of the graph.
      settings: what to calibrate on.
      session: is told where the scales come from.

    Raises:
      DataError: the cache belongs to another graph or is damaged; images are missing or too few.
      ExportError: a tensor is not finite.
    """
    cache = settings.cache_file
    if cache.exists():
        text = read_file(cache, "calibration cache").decode("utf-8", "replace")
        scales = read_cache(text, str(cache))
        wanted = place(ModelView(model)).readers
        missing = [name for name in wanted if name not in scales]
        if missing:
            raise DataError(
                f"--cal_cache_file {cache}: belongs to another graph: it has no scale for "
                f"{len(missing)} of {len(wanted)} tensors, the first is '{missing[0]}'; remove it "
                "to calibrate anew, or name another file"
            )
        session.note(f"{cache} exists: its scales are used and nothing is calibrated")
        return Calibrated(scales, f"scales of {cache.name}", reused=True)
    batches = calibration_batches(experiment, header, settings, session)
    seen = session.track(batches, settings.batches, "calibrate")
    scales = scales_of(observe(model, seen), settings.method)
    origin = f"calibrated by {settings.method}"
    return Calibrated(with_fused(model, scales), origin, reused=False)
