"""Export: a model file becomes a checked ONNX file, or none.

    open -> plan -> build -> check -> lower and compare -> report -> write -> deploy
                 |                 |
                 '-- to_portable --'    before every check, where it is asked for

Every phase is a function that returns a value. `export` is their order; nothing has its final name
before all checks have passed.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from rcnn_jax.errors import ExportError
from rcnn_jax.export.build import NOISE, Built, SingleCheck, build, check_built
from rcnn_jax.export.comparison import make_comparison
from rcnn_jax.export.deployment import Deployment, deploy
from rcnn_jax.export.files import write_graphs, write_report
from rcnn_jax.export.lowering.portable import to_portable
from rcnn_jax.export.plan import ExportOptions, Plan, make_plan
from rcnn_jax.export.precision.aware import trained_scales
from rcnn_jax.export.precision.digest import weights_digest, with_digest
from rcnn_jax.export.precision.lower import TRAINED, Comparison, lower_until_good
from rcnn_jax.export.precision.post_training import Calibrated, calibrate, is_same_cache
from rcnn_jax.export.precision.quantize import insert_qdq
from rcnn_jax.export.precision.sensitivity import Sensitivity, sensitivity
from rcnn_jax.export.verification.check import GraphCheck, GraphProblem, check_model
from rcnn_jax.export.verification.report import CheckReport
from rcnn_jax.reporter import SILENT, Reporter
from rcnn_jax.runtime.backend import preprocess
from rcnn_jax.runtime.bundle import OpenBundle
from rcnn_jax.runtime.open import one_view
from rcnn_jax.tasks.experiment import Experiment

# Two show a mixed-up batch axis. More would cost memory: every stage is an output and held at once.
STAGED_IMAGES = 2
"""Of the images of the check, those on which FP32 is compared stage by stage."""


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """Results of an export.

    Attributes:
      output: the model.
      report: of the checks.
      files: all that was written, the model and its report included.
    """

    output: Path
    report: CheckReport
    files: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class LoweredGraph:
    """A graph in its data type, and its measurements.

    Attributes:
      model: the graph.
      comparison: with the model in JAX.
      scales: of int8, or None.
      sensitivity: of the layers; None in fp32.
      kept: layers that stayed in float.
      check: of the lowered graph; None in fp32, where it is the one that was checked before.
    """

    model: onnx.ModelProto
    comparison: Comparison
    scales: Calibrated | None = None
    sensitivity: Sensitivity | None = None
    kept: tuple[str, ...] = ()
    check: GraphCheck | None = None


def export(
    model: OpenBundle,
    experiment: Experiment,
    options: ExportOptions,
    reporter: Reporter = SILENT,
    *,
    finished: Callable[[], None] = lambda: None,
) -> ExportResult:
    """Writes the graph of an opened model, checked against the model, and the report of the check.

    Args:
      model: the file, opened.
      experiment: of a spec, compared with the file already; Faster R-CNN takes counts and thresholds
        from inference_config.
      options: what is written, and how.
      reporter: console.
      finished: called when all files have their names, if nothing is built of them.

    Raises:
      ExportError: the graph cannot be made or failed the check; nothing has the final name.
      RcnnError: the model, the spec, the data or the key cannot be used.
    """
    files = options.files
    experiment = replace(experiment, geometry=experiment.geometry.on_one_canvas())
    experiment = one_view(experiment, reporter, "an exported graph looks at one view of an image")
    plan = make_plan(model, experiment, options, reporter)
    built = build(plan.experiment, plan.variables, plan.header)
    # Precision is placed by the operators of the ordinary graph. What is checked is what is written.
    ordinary = built
    built = Built(
        model=_finished(ordinary.model, options), showing=_finished(ordinary.showing, options)
    )
    checked = check_built(
        built,
        plan.experiment,
        plan.variables,
        plan.header,
        plan.images[:STAGED_IMAGES],
        plan.reference,
    )
    single, lowered = built.model, None
    trained = None
    if plan.trained is not None:
        trained = trained_scales(ordinary, plan.trained.variables, plan.trained.quant)
    del built  # its second graph holds all weights once more
    # a wrong fp32 graph would only fail again, after the longest part of the work
    if not checked.problems and trained is not None:
        lowered = compare_trained(plan, ordinary.model, trained, options, reporter)
    elif not checked.problems and (options.data_type != "fp32" or plan.subset is not None):
        lowered = lower_and_compare(plan, ordinary.model, options, reporter)
    problems = [*checked.problems, *_problems(lowered, options)]
    report = make_report(plan, checked, lowered, problems, options)
    # Before the check can end the export: the report is what the error message refers to.
    write_report(report, files)
    reporter.console.print(report.table(), markup=False)
    for text in report.accepted:
        reporter.warn(f"{text}; written all the same, because --accept-loss says so")
    if report.problems:
        raise _refusal(report, problems, lowered, options)
    graph, scales = (single, None) if lowered is None else (lowered.model, lowered.scales)
    last = finished if options.deployment == Deployment() else lambda: None
    written = write_graphs(files, graph, single, scales, options.scales, reporter, last)
    # from memory: read back, an encrypted graph would have to be decrypted again
    deployed = deploy(
        options.deployment,
        graph,
        path=files.output,
        threshold=plan.experiment.visualize_threshold,
        cache=options.scales.cache_file if options.data_type == "int8" else None,
        picture=_picture(plan),
        reporter=reporter,
    )
    reports = (files.report, files.report.with_suffix(".txt"))
    return ExportResult(output=files.output, report=report, files=(*written, *reports, *deployed))


def lower_and_compare(
    plan: Plan, graph: onnx.ModelProto, options: ExportOptions, reporter: Reporter
) -> LoweredGraph:
    """Returns the graph in the data type asked for, compared with the model in JAX.

    Args:
      plan: what the export works on.
      graph: FP32, with RoiAlign and NonMaxSuppression; it stays as it is.
      options: data type, calibration.
      reporter: progress.

    Raises:
      ExportError: the graph cannot be lowered.
      RcnnError: there is nothing to calibrate on.
    """
    batch, data_type, scales = preprocess(plan.images, plan.header), options.data_type, None
    if data_type == "int8":
        # noise has no even background: biases corrected on it would be wrong on images
        real = None if plan.images_are == NOISE else batch
        scales = calibrate(graph, plan.experiment, plan.header, options.scales, reporter, real)
    compare_finished = make_comparison(
        plan.experiment, plan.reference, plan.images, plan.header, data_type, plan.subset, reporter
    )

    def compare(lowered: onnx.ModelProto) -> Comparison:
        return compare_finished(_finished(lowered, options))

    if data_type == "fp32":
        return LoweredGraph(model=_finished(graph, options), comparison=compare(graph))
    known = None if scales is None else scales.scales
    offsets = {} if scales is None else scales.offsets
    # measured once, on the FP32 graph: each round then keeps more layers of one fixed order
    suffering = sensitivity(graph, known, [batch], offsets)
    search = lower_until_good(graph, data_type, known or {}, offsets, suffering, compare, reporter)
    if data_type == "int8":
        with_digest(search.model, weights_digest(graph))
    written = _finished(search.model, options)
    return LoweredGraph(
        model=written,
        comparison=search.comparison,
        scales=scales,
        sensitivity=suffering,
        kept=tuple(search.kept),
        check=check_model(written),
    )


def compare_trained(
    plan: Plan,
    graph: onnx.ModelProto,
    scales: dict[str, float],
    options: ExportOptions,
    reporter: Reporter,
) -> LoweredGraph:
    """Returns the int8 graph of a model trained with fake quantisation, held against that network.

    Nothing is calibrated, corrected or kept in float: the weights have learnt to live with the rounding.

    Args:
      plan: what the export works on.
      graph: FP32, of the rounded weights; it stays as it is.
      scales: trained ones, by tensor.
      options: names the files of scales.
      reporter: progress.

    Raises:
      DataError: another model's calibration cache lies where that of this one goes.
    """
    assert plan.trained is not None
    reused = is_same_cache(options.scales.cache_file, graph, scales)
    compare = make_comparison(
        plan.experiment,
        plan.trained.reference,
        plan.images,
        plan.header,
        "int8",
        plan.subset,
        reporter,
        TRAINED,
    )
    model = with_digest(insert_qdq(graph, scales), weights_digest(graph))
    model = _finished(model, options)
    origin = "ranges of quantisation-aware training"
    return LoweredGraph(
        model=model,
        comparison=compare(model),
        scales=Calibrated(scales, origin, reused=reused, offsets={}),
        check=check_model(model),
    )


def _finished(graph: onnx.ModelProto, options: ExportOptions) -> onnx.ModelProto:
    """Returns a graph as it is written: portable where that is asked for."""
    return graph if options.portable is None else to_portable(graph, options.portable)


def make_report(
    plan: Plan,
    checked: SingleCheck,
    lowered: LoweredGraph | None,
    problems: list[GraphProblem],
    options: ExportOptions,
) -> CheckReport:
    """Returns the report of all checks."""
    accepts = options.accept_loss
    accepted = tuple(each.text for each in problems if accepts and each.lowering)
    left = tuple(each.text for each in problems if not (accepts and each.lowering))
    report = CheckReport(
        images=plan.images_are,
        data_type=options.data_type,
        operators=checked.operators,
        stages=checked.stages,
        parity=checked.parity,
        problems=left,
        accepted=accepted,
    )
    if lowered is None:
        return report
    return replace(
        report,
        operators=checked.operators if lowered.check is None else lowered.check.operators,
        agreement=lowered.comparison.agreement,
        accuracy=lowered.comparison.accuracy,
        calibration="" if lowered.scales is None else lowered.scales.origin,
        sensitivity=lowered.sensitivity,
        kept=lowered.kept,
    )


def _picture(plan: Plan) -> np.ndarray | None:
    """Returns one of the images of the check in RGB; None where they are noise."""
    if plan.images_are == NOISE or plan.header.channel_order == "l":
        return None
    image = plan.images[0]
    return np.ascontiguousarray(image[..., ::-1] if plan.header.channel_order == "bgr" else image)


def _problems(lowered: LoweredGraph | None, options: ExportOptions) -> list[GraphProblem]:
    """Returns the problems of a lowered graph: of the graph itself, then of its detections."""
    if lowered is None:
        return []
    is_lower = options.data_type != "fp32"
    looked = () if lowered.check is None else lowered.check.problems
    return [
        *looked,
        *(GraphProblem(text, lowering=is_lower) for text in lowered.comparison.problems),
    ]


def _refusal(
    report: CheckReport,
    problems: list[GraphProblem],
    lowered: LoweredGraph | None,
    options: ExportOptions,
) -> ExportError:
    """Returns why the graph is not written, and what the user can do."""
    scales = None if lowered is None else lowered.scales
    cache = options.scales.cache_file
    reused = f"\nthe scales are those of {cache}: remove it to calibrate anew"
    # Offered only where the lower precision alone is at fault: a graph that is wrong in float32 is
    # never written.
    insist = "\n--accept-loss writes it all the same"
    return ExportError(
        f"{options.output} was not written, because the check failed: {report.problems[0]}"
        f"{reused if scales is not None and scales.reused else ''}"
        f"{insist if all(each.lowering for each in problems) else ''}"
        f"\nthe report is {options.files.report}"
    )
