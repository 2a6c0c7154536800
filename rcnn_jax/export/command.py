"""Export as one function of a config: a checked ONNX file, or none."""

import json
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from rcnn_jax.checkpoints import container
from rcnn_jax.checkpoints.atomic import write_file
from rcnn_jax.checkpoints.state import load_model, stored_categories
from rcnn_jax.data.pipeline import evaluation_batches
from rcnn_jax.errors import DataError, ExportError, UsageError
from rcnn_jax.export.check import Report, check_detections, check_model, check_stages
from rcnn_jax.export.contracts import (
    INPUT_NAMES,
    ContractName,
    Header,
    in_single_precision,
    make_header,
    outputs_of,
)
from rcnn_jax.export.dense import NCHW
from rcnn_jax.export.jaxpr_onnx import trace
from rcnn_jax.export.parity import FP32
from rcnn_jax.export.passes import drop_unused
from rcnn_jax.export.stages import STAGE_PREFIX, with_stages
from rcnn_jax.reporter import Reporter
from rcnn_jax.tasks.build import build_experiment
from rcnn_jax.tasks.experiment import Experiment, Kind
from rcnn_jax.tasks.task import Variables

CHECKED_IMAGES = 2


def export(
    config: ConfigDict,
    kind: Kind,
    *,
    model: Path,
    key: str | None,
    output: Path,
    contract: ContractName,
    batch: int | None,
    session: Reporter,
) -> Report:
    """Writes the graph of a model file, checked against the model, and the report of the check.

    Args:
      config: validated config of the detector; Faster R-CNN takes counts and thresholds from
        inference_config.
      kind: which detector.
      model: a bundle.
      key: what it was sealed with; an `.etlt` is sealed with it too.
      output: `.onnx`, or `.etlt` for a sealed file. The report goes to `<output>.check.json` and
        `<output>.check.txt`.
      contract: outputs for DeepStream's TAO parsers, or plain ones.
      batch: fixed batch size; None leaves it free.
      session: console.

    Raises:
      ExportError: the graph cannot be made or failed the check; nothing has the final name.
      RcnnError: the model, the spec or the key cannot be used.
    """
    experiment = build_experiment(config, kind, categories=stored_categories(model, key))
    header = make_header(experiment, contract, batch)
    if output.suffix == ".etlt" and not key:
        raise UsageError(f"-o {output}: an .etlt file is sealed: give the key with -k")
    experiment, variables = load_model(model, experiment, key)
    images, origin = _check_images(experiment, header)
    session.console.print(f"exporting {model}, check on {origin}", markup=False)
    content, report = build(experiment, variables, header, images, origin)
    _write_report(report, output)
    session.console.print(report.table(), markup=False)
    if report.problems:
        raise ExportError(
            f"{output} was not written, because the check failed: {report.problems[0]}\n"
            f"the report is {_report_path(output)}"
        )
    if output.suffix == ".etlt" and key:
        content = container.seal(content, key)
    write_file(output, [content])
    session.console.print(f"model: {output} ({len(content) / 1e6:.1f} MB)", markup=False)
    return report


def build(
    experiment: Experiment, variables: Variables, header: Header, images: np.ndarray, origin: str
) -> tuple[bytes, Report]:
    """Returns the ONNX file of an experiment and what its check found.

    Args:
      experiment: its `inference` settings hold the thresholds and counts.
      variables: of the model.
      header: from `make_header`.
      images: u8[b h w c] to check on.
      origin: where they came from.

    Raises:
      ExportError: the model uses something that has no ONNX form.
    """
    function = with_stages(outputs_of(experiment, variables, header.contract))
    shape = (header.batch, *header.canvas, experiment.task.pixels.channels)
    graph = trace(function, INPUT_NAMES[experiment.kind], shape, NCHW)
    showing = graph.to_model("detector", header.to_metadata())
    graph.outputs = [name for name in graph.outputs if not name.startswith(STAGE_PREFIX)]
    drop_unused(graph)
    model = graph.to_model("detector", header.to_metadata())

    report = Report(images=origin)
    check_model(model, report)
    if report.problems:
        return model.SerializeToString(), report
    if header.batch is not None:
        images = images[np.arange(header.batch) % len(images)]
    reference = jax.jit(lambda batch: function(batch))
    check_stages(showing, reference, images, header, FP32, report)
    single = in_single_precision(experiment.task)  # what the graph computes, not what trained
    jax_model = jax.jit(lambda batch: single.predict(variables, batch, experiment.inference))
    check_detections(model, jax_model, images, header, FP32, report)
    return model.SerializeToString(), report


def _check_images(experiment: Experiment, header: Header) -> tuple[np.ndarray, str]:
    """Returns u8[b h w c] canvases and what they are: validation images, else noise."""
    try:
        if experiment.eval_source is not None:
            batches = evaluation_batches(
                experiment.eval_source(),
                experiment.geometry,
                None,
                experiment.task.pixels.channel_order,
                batch=CHECKED_IMAGES,
                threads=1,
                prefetch=1,
            )
            first = next(iter(batches))
            return np.asarray(first.images)[np.asarray(first.image_valid)], "validation images"
    except DataError:
        pass  # a model may be exported far from its data
    shape = (CHECKED_IMAGES, *header.canvas, experiment.task.pixels.channels)
    coarse = np.random.default_rng(0).integers(0, 256, (shape[0], 8, 8, shape[3]), np.uint8)
    rows = np.arange(shape[1]) * 8 // shape[1]
    columns = np.arange(shape[2]) * 8 // shape[2]
    return coarse[:, rows][:, :, columns], "random images: the spec names no images that exist"


def _write_report(report: Report, output: Path) -> None:
    text = json.dumps(report.to_json(), indent=2) + "\n"
    write_file(_report_path(output), [text.encode()])
    write_file(_report_path(output).with_suffix(".txt"), [(report.table() + "\n").encode()])


def _report_path(output: Path) -> Path:
    return output.with_name(output.name + ".check.json")
