"""Public functions of the library: model files, training, evaluation and export.

    model = rcnn_jax.load("coco/mask_rcnn_resnet50_fpn_v2")  or .tlt .onnx .etlt .engine
    detections = model("street.jpg")                         or arrays, bytes, PIL images
    detections.draw("detections.jpg")                       .boxes, .labels, .scores, .masks
    for frame in model.stream("street.mp4", track=True):     or a camera, a stream, a folder, arrays
        frame.index, frame.time, frame.labels, frame.ids

    run = rcnn_jax.train("spec.txt", "out")                  a run, with its models and metrics
    metrics = rcnn_jax.evaluate(run.best)                    {"mAP": 0.61, ...}
    rcnn_jax.export(run.best, "model.onnx")                  checked against the model in JAX

To run a model its file alone suffices: bundles carry their spec, graphs and engines a header. Nothing is
printed unless a reporter is given.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ml_collections import ConfigDict

from rcnn_jax.cli.flags import KEY_VARIABLE
from rcnn_jax.cli.train import workdir_of
from rcnn_jax.data.loader.pictures import Picture, read_picture
from rcnn_jax.errors import CheckpointError, SpecError, UsageError
from rcnn_jax.inference.detector import Detector, FramePrediction, Prediction
from rcnn_jax.inference.draw import draw_detections
from rcnn_jax.kinds import Kind, TaskName
from rcnn_jax.reporter import SILENT, Reporter
from rcnn_jax.runtime.backend import Predictor
from rcnn_jax.runtime.bundle import OpenBundle
from rcnn_jax.runtime.header import Header
from rcnn_jax.runtime.open import compare, experiment_of, open_model, open_weights
from rcnn_jax.runtime.runtimes import RUNTIMES, RuntimeName
from rcnn_jax.spec.kinds import kind_of
from rcnn_jax.spec.load import load_spec, validate
from rcnn_jax.spec.render import redact, written_key
from rcnn_jax.structures import Detections
from rcnn_jax.tasks.build import build_experiment

if TYPE_CHECKING:
    from rcnn_jax.compress.report import Summary
    from rcnn_jax.export.command import ExportResult
    from rcnn_jax.train.command import RunResult

__all__ = [
    "Detector",
    "FramePrediction",
    "Prediction",
    "draw",
    "evaluate",
    "export",
    "load",
    "prune",
    "train",
]

Spec = str | os.PathLike[str] | ConfigDict
"""A spec file, or the config of one."""


def load(
    path: str | Path,
    key: str | None = None,
    *,
    header: str | Path | None = None,
    runtime: RuntimeName = "auto",
    reporter: Reporter = SILENT,
) -> Detector:
    """Returns the model of a file.

    Args:
      path: `.tlt` runs in JAX, `.onnx` and `.etlt` in ONNX Runtime or OpenVINO,
        `.engine`, `.trt` and `.plan` in TensorRT. The name of published weights
        (`rcnn-jax weights list`) is fetched into the cache and runs in JAX.
      key: of an encrypted `.tlt` or `.etlt`.
      header: exported model, or JSON, whose header an `.onnx` has that another tool rewrote.
      runtime: for a graph `onnxruntime` or `openvino` on the CPU, `trt-rtx` or `webgpu` on a GPU; `auto`
        takes OpenVINO where it is installed, else ONNX Runtime.
      reporter: told what is fetched; nobody by default.

    Raises:
      UsageError: the runtime does not run such a file, or this machine has no device for it.
      CheckpointError: the file is missing, damaged, encrypted with another key or of another program.
      MissingDependencyError: an engine needs TensorRT and a GPU.
    """
    if not isinstance(path, str | os.PathLike) or not str(path):
        raise CheckpointError(f"load: expected the path of a model file, found {path!r}")
    _check_name(runtime)
    source = None if header is None else Path(header)
    opened = open_model(Path(path), key, header=source, runtime=runtime, reporter=reporter)
    if isinstance(opened, OpenBundle):
        return _from_bundle(opened)
    return _from_header(opened.header, opened.start())


def draw(
    image: Picture,
    detections: Detections,
    class_names: Sequence[str] = (),
    *,
    masks: bool = True,
) -> np.ndarray:
    """Returns a copy of a picture, u8[h w 3] in RGB, with detections drawn on it.

    Args:
      image: of any kind that a `Detector` takes.
      detections: of this picture, from a `Detector`.
      class_names: of the detector; a class without a name is captioned with its number.
      masks: draw masks, where there are any.

    Raises:
      DataError: `image` is no picture or cannot be read.
    """
    last = int(np.max(detections.classes, initial=-1))
    names = [*class_names, *map(str, range(len(class_names), last + 1))]
    picture = read_picture(image, "rgb")
    return draw_detections(picture, detections, names, captions=True, masks=masks)


def train(
    spec: Spec,
    workdir: str | Path | None = None,
    *,
    key: str | None = None,
    fresh: bool = False,
    accept_data_changes: bool = False,
    use_amp: bool = False,
    devices: int | None = None,
    minutes: float | None = None,
    reporter: Reporter = SILENT,
) -> "RunResult":
    """Trains the model of a spec, or resumes the run in the workdir.

    Args:
      spec: an experiment spec of either detector.
      workdir: folder of all that is written; None for the one that the spec names.
      key: encrypts model files and checkpoints; else the environment variable RCNN_JAX_KEY, else the
        key of the spec, else they stay open.
      fresh: delete what the run has left in the workdir and start anew.
      accept_data_changes: resume although training images or their objects have changed.
      use_amp: compute in bfloat16.
      devices: number of local devices; None for all.
      minutes: the run is planned to end after this time; None takes the length of the spec.
      reporter: told what the command line prints; nobody by default.

    Returns:
      Steps, best validation, model files and metrics; see `train.command.RunResult`.

    Raises:
      RcnnError: the spec, the data or the run are at fault.
      KeyboardInterrupt: Ctrl-C, after the step at hand was saved; the same call goes on from there.
    """
    from rcnn_jax.export.precision.aware import QUANTISER
    from rcnn_jax.train.command import train as train_experiment  # late: a model runs without it
    from rcnn_jax.train.run import TrainOptions
    from rcnn_jax.train.run_folder import recorded_spec

    def folder_of(config: ConfigDict, kind: Kind) -> Path:
        return workdir_of(config, kind) if workdir is None else Path(workdir)

    def recorded(config: ConfigDict, kind: Kind) -> str | None:
        return None if fresh else recorded_spec(folder_of(config, kind), kind, config)

    config, kind, key = _read_spec(spec, "train", key, reporter, recorded)
    options = TrainOptions(
        key=key,
        fresh=fresh,
        accept_data_changes=accept_data_changes,
        use_amp=use_amp,
        devices=devices,
        minutes=minutes,
        # Handed in: training and inference are neighbours, and neither imports the other.
        quantiser=QUANTISER,
        draw=draw_detections,
    )
    folder = folder_of(config, kind)
    return train_experiment(build_experiment(config, kind), folder, options, reporter)


def evaluate(
    model: str | Path,
    spec: Spec | None = None,
    *,
    key: str | None = None,
    workdir: str | Path | None = None,
    runtime: RuntimeName = "auto",
    reporter: Reporter = SILENT,
) -> dict[str, float]:
    """Returns the metrics of a model on the validation images of a spec.

    The report is written to `eval/` in the workdir, as the command does.

    Args:
      model: file of any form that `load` takes.
      spec: the one that the model was trained with, thresholds and paths apart; None for the one inside
        a `.tlt`, whose paths are those of the machine that trained it.
      key: what the file was encrypted with; else RCNN_JAX_KEY, else the key of the spec.
      workdir: folder of the report; beside the model when None.
      runtime: of a graph, as of `load`.
      reporter: told what the command line prints; nobody by default.

    Returns:
      {metric: value in [0, 1]}; -1 or NaN where it is undefined.

    Raises:
      UsageError: the runtime does not run such a file, or this machine has no device for it.
      RcnnError: the model, the spec or the data cannot be used.
    """
    from rcnn_jax.evaluate import results
    from rcnn_jax.evaluate.command import evaluate as evaluate_model

    _check_name(runtime)
    if spec is None:
        # Without a spec there is no key in one: the copy inside a model file has none.
        key = key or os.environ.get(KEY_VARIABLE)
        opened = open_model(Path(model), key, runtime=runtime, reporter=reporter)
        if not isinstance(opened, OpenBundle):
            raise UsageError(f"{model}: holds no spec, so one must be given")
        config, kind = opened.stored_config(), opened.origin.kind
    else:
        config, kind, key = _read_spec(spec, "evaluate", key, reporter)
        opened = open_model(Path(model), key, runtime=runtime, reporter=reporter)
    experiment = experiment_of(opened, config, kind, own_classes=False, reporter=reporter)
    folder = None if workdir is None else Path(workdir)
    report = evaluate_model(experiment, opened, workdir=folder, reporter=reporter)
    return results.numbers(report)


def export(
    model: str | Path,
    output: str | Path,
    spec: Spec | None = None,
    *,
    key: str | None = None,
    reporter: Reporter = SILENT,
    **choices: Any,
) -> "ExportResult":
    """Writes a model as an ONNX file, compared with the model in JAX, and the report of the check.

    Args:
      model: a `.tlt`.
      output: `.onnx`, or `.etlt` for a file that is encrypted with the key.
      spec: the one that the model was trained with, thresholds and paths apart; None for the one inside.
      key: what the model was encrypted with; else RCNN_JAX_KEY, else the key of the spec.
      reporter: told what the command line prints; nobody by default.
      **choices: fields of `export.plan.ExportOptions`, for example `data_type="int8"`.

    Raises:
      ExportError: the graph cannot be made or failed the check; nothing has the final name.
      RcnnError: the model, the spec, the data or the key cannot be used.
    """
    from rcnn_jax.export.command import export as export_model
    from rcnn_jax.export.plan import ExportOptions

    if spec is None:
        key = key or os.environ.get(KEY_VARIABLE)
        opened = open_weights(Path(model), key, reporter=reporter)
        experiment = opened.stored_experiment()
        compare(opened, experiment, reporter)
    else:
        config, kind, key = _read_spec(spec, "export", key, reporter)
        opened = open_weights(Path(model), key, reporter=reporter)
        experiment = experiment_of(opened, config, kind, own_classes=True, reporter=reporter)
    options = ExportOptions(output=Path(output), key=key, **choices)
    return export_model(opened, experiment, options, reporter)


def prune(
    model: str | Path,
    output: str | Path | None = None,
    *,
    key: str | None = None,
    reporter: Reporter = SILENT,
    **choices: Any,
) -> "Summary":
    """Writes a smaller model, or says what would become of it.

    Args:
      model: a `.tlt`.
      output: the smaller `.tlt`; None writes nothing.
      key: of the model, encrypts the smaller one too; else RCNN_JAX_KEY.
      reporter: told what the command line prints; nobody by default.
      **choices: fields of `compress.command.PruneOptions`, for example `thresholds=(0.3,)`,
        `keep_params=0.2` or `settings=PruneSettings(granularity=16)`.

    Returns:
      Layers, groups, scores, and parameters, FLOP and bytes at every threshold.

    Raises:
      RcnnError: the model, its spec or the choices cannot be used.
    """
    from rcnn_jax.compress.command import PruneOptions
    from rcnn_jax.compress.command import prune as prune_model

    key = key or os.environ.get(KEY_VARIABLE)
    opened = open_weights(Path(model), key, reporter=reporter)
    written = None if output is None else Path(output)
    options = PruneOptions(output=written, key=key, **choices)
    return prune_model(opened, opened.stored_experiment(), options, reporter)


def _check_name(runtime: str) -> None:
    # The command line has argparse for this; a caller's typing mistake must not mean "auto".
    if runtime not in RUNTIMES:
        raise UsageError(f"runtime {runtime!r}: expected one of {', '.join(RUNTIMES)}")


def _read_spec(
    spec: Spec,
    task: TaskName,
    key: str | None,
    reporter: Reporter,
    recorded: Callable[[ConfigDict, Kind], str | None] | None = None,
) -> tuple[ConfigDict, Kind, str | None]:
    """Returns the checked config of a spec without its key, the detector, and the key.

    `recorded` gives the spec of the run that goes on, if any: its recipe counts.
    """
    if isinstance(spec, ConfigDict):
        kind = kind_of(set(spec.keys()))
        if kind is None:
            raise SpecError("the config is not that of a spec")
        validate(spec, kind, task)
        config = spec
    else:
        loaded = load_spec(Path(spec), None, task)
        if recorded is not None and loaded.kind != "dataset_convert" and loaded.config.recipe:
            begun = recorded(loaded.config, loaded.kind)
            loaded = loaded if begun is None else load_spec(Path(spec), None, task, recorded=begun)
        config, kind = loaded.config, loaded.kind
        for warning in loaded.warnings:
            reporter.warn(warning)
        for note in loaded.notes:
            reporter.note(note)
    # A spec of records is read by the same parser and describes no detector.
    if kind == "dataset_convert":
        raise SpecError(f"expected the spec of a detector to {task}, found one of {kind}")
    given = key or os.environ.get(KEY_VARIABLE)
    # The key leaves the config here: below, everything may be written down.
    return redact(config), kind, given or written_key(config) or None


def _from_header(header: Header, predictor: Predictor) -> Detector:
    return Detector(
        header.kind,
        header.class_names,
        header.category_ids,
        header.geometry,
        header.channel_order,
        predictor,
    )


def _from_bundle(opened: OpenBundle) -> Detector:
    experiment = opened.stored_experiment()
    return Detector(
        experiment.kind,
        experiment.task.class_names,
        experiment.category_ids,
        experiment.geometry,
        experiment.task.pixels.channel_order,
        opened.predictor(experiment, experiment.inference),
    )
