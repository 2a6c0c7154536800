"""Opening of model files of every form, and their comparison with a spec.

.tlt  JAX        .onnx, .etlt  ONNX Runtime, OpenVINO, ...   .engine, .trt, .plan  TensorRT
"""

from dataclasses import replace
from pathlib import Path

from ml_collections import ConfigDict

from rcnn_jax.checkpoints.imported import import_published
from rcnn_jax.checkpoints.origin import check_kind, check_same_model
from rcnn_jax.checkpoints.published import fetch_published, named_weights
from rcnn_jax.kinds import Kind
from rcnn_jax.reporter import SILENT, Reporter
from rcnn_jax.runtime.backend import OpenModel
from rcnn_jax.runtime.bundle import OpenBundle, open_bundle
from rcnn_jax.runtime.engine import OpenEngine, open_engine
from rcnn_jax.runtime.graph import OpenGraph, Rewrite, open_graph
from rcnn_jax.runtime.runtimes import GRAPH_RUNTIMES, RuntimeName, check_runtime
from rcnn_jax.tasks.build import build_experiment, with_views
from rcnn_jax.tasks.experiment import Experiment

GRAPH_SUFFIXES = (".onnx", ".etlt")
ENGINE_SUFFIXES = (".engine", ".trt", ".plan")


def open_model(
    path: Path,
    key: str | None,
    *,
    header: Path | None = None,
    rewrite: Rewrite | None = None,
    runtime: RuntimeName = "auto",
    reporter: Reporter = SILENT,
) -> OpenBundle | OpenGraph | OpenEngine:
    """Returns the model of a file; the suffix decides which runtime runs it.

    Args:
      path: the file; one of another suffix is taken for a bundle. The name of published weights,
        `coco/...`, is fetched, where it must be, and imported.
      key: of the encryption; an engine or a plain file ignores it.
      header: file whose header a graph has, where another tool dropped its own.
      rewrite: changes a graph before it runs, for example to int8.
      runtime: what runs it.
      reporter: told what is fetched.

    Raises:
      UsageError: the runtime does not run files of this suffix.
      CheckpointError: the file is missing, damaged, encrypted with another key or of another program.
    """
    if path.suffix in GRAPH_SUFFIXES:
        check_runtime(path, runtime, GRAPH_RUNTIMES)
        return open_graph(path, key, header=header, rewrite=rewrite, runtime=runtime)
    if path.suffix in ENGINE_SUFFIXES:
        check_runtime(path, runtime, ("tensorrt", "trt-rtx"))
        return open_engine(path, for_rtx=runtime == "trt-rtx")
    check_runtime(path, runtime, ())
    return open_weights(path, key, reporter=reporter)


def open_weights(path: Path, key: str | None, *, reporter: Reporter = SILENT) -> OpenBundle:
    """Returns the bundle of a file, or of published weights by their name.

    Args:
      path: a `.tlt`, or `coco/...`.
      key: what the file was encrypted with.
      reporter: told what is fetched.

    Raises:
      CheckpointError: see `read_bundle`, `fetch_published` and `import_published`.
    """
    row = named_weights(path)
    if row is None:
        return open_bundle(path, key)
    file = fetch_published(row, reporter=reporter)
    # Imported anew every time: it takes a second, and a second copy in the cache would grow stale.
    return OpenBundle(path=Path(Path(row.name).name), bundle=import_published(row, file))


def experiment_of(
    model: OpenModel, config: ConfigDict, kind: Kind, *, own_classes: bool, reporter: Reporter
) -> Experiment:
    """Returns the experiment of a spec that is about to be run with a model.

    Args:
      model: the file, opened.
      config: validated config.
      kind: which detector the config is of.
      own_classes: a Mask R-CNN has the classes of the file; else those of the annotations that the
        spec names, which must be the same.
      reporter: is told what differs and may.

    Raises:
      CheckpointError: the file is of another model than the spec.
      RcnnError: the spec or its data cannot be used.
    """
    # Before the spec is read any further: of the other detector, the differences would be listed
    # one by one and none of them would be the reason.
    check_kind(model.origin.kind, kind, str(model.path))
    categories = model.origin.categories if own_classes else None
    experiment = build_experiment(config, kind, categories=categories)
    if model.origin.fixed_canvas:
        experiment = replace(experiment, geometry=experiment.geometry.on_one_canvas())
    compare(model, experiment, reporter)
    if not isinstance(model, OpenBundle):
        return one_view(experiment, reporter, f"{model.path} looks at one view, as it was exported")
    return experiment


def one_view(experiment: Experiment, reporter: Reporter, why: str) -> Experiment:
    """Returns the experiment without test-time augmentation, which an exported graph does not carry.

    Args:
      experiment: perhaps with it.
      reporter: is told where it goes.
      why: the sentence that says why.
    """
    if experiment.evaluation.views is None and experiment.inference.views is None:
        return experiment
    reporter.warn(f"test-time augmentation (tta) is left out: {why}; a .tlt runs with it in JAX")
    return with_views(experiment, None)


def compare(model: OpenModel, experiment: Experiment, reporter: Reporter) -> None:
    """Compares an experiment with the model of a file.

    Every command that runs a model comes through here, so none runs one with a spec of another:
    weights run with other means or anchors without a complaint, and find little.

    Raises:
      CheckpointError: the file is of another model.
    """
    for note in check_same_model(model.origin, experiment, str(model.path)):
        reporter.warn(note)
