"""Export as one function of an experiment: a checked ONNX file, or none."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from rcnn_jax.checkpoints import container
from rcnn_jax.checkpoints.atomic import write_file
from rcnn_jax.checkpoints.state import load_model
from rcnn_jax.errors import ExportError, UsageError
from rcnn_jax.export.build import NOISE, build, check_images
from rcnn_jax.export.contracts import make_header
from rcnn_jax.export.judge import make_judge, reference_predictor
from rcnn_jax.export.precision.calibration_data import CalibrationSettings
from rcnn_jax.export.precision.lower import DataType, Verdict, lower_until_good
from rcnn_jax.export.precision.post_training import Calibrated, calibrate
from rcnn_jax.export.precision.scales import write_cache, write_json
from rcnn_jax.export.precision.sensitivity import sensitivity
from rcnn_jax.export.verification.accuracy import validation_images
from rcnn_jax.export.verification.check import CheckReport, check_model
from rcnn_jax.reporter import Reporter
from rcnn_jax.runtime.header import NMS_NAMES, ContractName
from rcnn_jax.runtime.onnx_runtime import preprocess
from rcnn_jax.tasks.experiment import Experiment

STAGED_IMAGES = 2
"""Of the images of the check, those on which FP32 is compared stage by stage."""


@dataclass(frozen=True, kw_only=True)
class Files:
    """What an export writes.

    Attributes:
      output: the model, `.onnx`, or `.etlt` for a sealed one.
      key: seals `.etlt` files.
    """

    output: Path
    key: str | None

    @property
    def single(self) -> Path:
        """The FP32 graph to which the scales of an int8 model belong."""
        return self.output.with_name(f"{self.output.stem}.fp32{self.output.suffix}")

    @property
    def report(self) -> Path:
        """The report of the check as JSON; the table lies beside it."""
        return self.output.with_name(self.output.name + ".check.json")

    def sealed(self, content: bytes) -> bytes:
        """Returns the bytes of a graph as the suffix of the output asks for them."""
        sealed = self.output.suffix == ".etlt" and self.key
        return container.encrypt(content, self.key or "") if sealed else content


def export(
    experiment: Experiment,
    *,
    model: Path,
    key: str | None,
    output: Path,
    contract: ContractName,
    batch: int | None,
    session: Reporter,
    data_type: DataType = "fp32",
    calibration: CalibrationSettings | None = None,
    eval_images: int = 0,
    nms_names: tuple[str, str] = NMS_NAMES,
    accept_loss: bool = False,
) -> CheckReport:
    """Writes the graph of a model file, checked against the model, and the report of the check.

    Args:
      experiment: from `experiment_of`; Faster R-CNN takes counts and thresholds from
        inference_config.
      model: a bundle of the same model.
      key: what it was sealed with; an `.etlt` is sealed with it too.
      output: `.onnx`, or `.etlt` for a sealed file. The report goes to `<output>.check.json` and
        `<output>.check.txt`; int8 also writes its scales and the FP32 graph whose tensors they
        name, `<stem>.fp32<suffix>`.
      contract: outputs for DeepStream's TAO parsers, or plain ones.
      batch: fixed batch size; None leaves it free.
      session: console.
      data_type: of the dense part of the graph.
      calibration: how int8 finds its scales.
      eval_images: validation images on which average precisions are compared; 0 for none.
      nms_names: of the two outputs of a Faster R-CNN for DeepStream.
      accept_loss: write an fp16 or int8 graph although it finds too little of what the model finds;
        a graph that is wrong in fp32 is never written.

    Raises:
      ExportError: the graph cannot be made or failed the check; nothing has the final name.
      RcnnError: the model, the spec, the data or the key cannot be used.
    """
    calibration = calibration or CalibrationSettings(cache_file=output.with_suffix(".cal"))
    header = make_header(experiment, contract, batch, nms_names)
    files = Files(output=output, key=key)
    if output.suffix == ".etlt" and not key:
        raise UsageError(f"-o {output}: an .etlt file is sealed: give the key with -k")
    if data_type == "int8" and files.single.exists():
        raise UsageError(f"{files.single}: exists already; remove it or choose another -o")
    experiment, variables = load_model(model, experiment, key)
    subset = validation_images(experiment, eval_images, session) if eval_images else None
    images, origin = check_images(experiment, header)
    session.console.print(f"exporting {model}, check on {origin}", markup=False)
    reference = reference_predictor(experiment, variables)
    single, report = build(experiment, variables, header, images[:STAGED_IMAGES], origin, reference)
    report.data_type = data_type
    content, scales = single, None
    if not report.problems and (data_type != "fp32" or subset is not None):
        graph = onnx.load_from_string(single)
        batch_ = preprocess(images, header)
        if data_type == "int8":
            real = None if origin == NOISE else batch_
            scales = calibrate(graph, experiment, header, calibration, session, real)
        judge = make_judge(experiment, reference, images, header, data_type, subset, session)
        content = _lowered(graph, data_type, scales, judge, batch_, report, session)
    if accept_loss and report.agreement is not None and data_type != "fp32":
        report.accept(report.lowering_problems)
    _write_report(report, files)
    session.console.print(report.table(), markup=False)
    for text in report.accepted:
        session.warn(f"{text}; written all the same, because --accept-loss says so")
    if report.problems:
        reused = scales is not None and scales.reused
        advice = f"\nthe scales are those of {calibration.cache_file}: remove it to calibrate anew"
        insist = "\n--accept-loss writes it all the same"
        raise ExportError(
            f"{output} was not written, because the check failed: {report.problems[0]}"
            f"{advice if reused else ''}"
            f"{insist if report.problems == report.lowering_problems else ''}"
            f"\nthe report is {files.report}"
        )
    _write(files, content, single, scales, calibration, session)
    return report


def _lowered(
    graph: onnx.ModelProto,
    data_type: DataType,
    scales: Calibrated | None,
    judge: Callable[[onnx.ModelProto], Verdict],
    images: np.ndarray,
    report: CheckReport,
    session: Reporter,
) -> bytes:
    """Returns the graph in its data type, and adds to the report what was measured and judged."""
    if data_type == "fp32":
        verdict = judge(graph)
    else:
        known = None if scales is None else scales.scales
        offsets = {} if scales is None else scales.offsets
        report.calibration = "" if scales is None else scales.origin
        report.sensitivity = sensitivity(graph, known, [images], offsets)
        found = lower_until_good(
            graph, data_type, known or {}, offsets, report.sensitivity, judge, session
        )
        graph, verdict, report.kept = found.model, found.verdict, found.kept
        check_model(graph, report)
    report.agreement, report.accuracy = verdict.agreement, verdict.accuracy
    report.problems += verdict.problems
    report.lowering_problems = [] if data_type == "fp32" else list(verdict.problems)
    return graph.SerializeToString()


def _write(
    files: Files,
    content: bytes,
    single: bytes,
    scales: Calibrated | None,
    calibration: CalibrationSettings,
    session: Reporter,
) -> None:
    """Writes the model, and before it what belongs to it; all of them or none."""
    pending: list[tuple[str, Path, bytes]] = []
    if scales is not None:
        pending.append(("fp32 graph of the scales", files.single, files.sealed(single)))
        if not scales.reused:
            text = write_cache(scales.scales)
            pending.append(("calibration cache", calibration.cache_file, text.encode()))
        if calibration.json_file is not None:
            text = write_json(scales.scales)
            pending.append(("scales", calibration.json_file, text.encode()))
    pending.append(("model", files.output, files.sealed(content)))
    written = []
    try:
        for _, path, data in pending:
            write_file(path, [data])
            written.append(path)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise
    for what, path, data in pending:
        session.console.print(f"{what}: {path} ({len(data) / 1e6:.1f} MB)", markup=False)


def _write_report(report: CheckReport, files: Files) -> None:
    text = json.dumps(report.to_json(), indent=2) + "\n"
    write_file(files.report, [text.encode()])
    write_file(files.report.with_suffix(".txt"), [(report.table() + "\n").encode()])
