"""Engines of TensorRT for RTX, built without a GPU: what `converter` and `gen_trt_engine` share.

bundle --export_again--> graph --build_rtx: portable, checked per generation--> engine
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rcnn_jax.cli.session import Session

if TYPE_CHECKING:
    from rcnn_jax.runtime.header import Header

Batches = tuple[int, int, int]
"""Smallest, usual and largest batch of an engine."""

BUNDLES = (".tlt", ".hdf5", ".h5")
"""Suffixes of models that are exported before an engine is built."""


def graph_of(engine: Path, key: str | None) -> Path:
    """Returns the graph that a bundle is exported to on the way to an engine; encrypted with a key."""
    return engine.with_suffix(".etlt" if key else ".onnx")


def export_again(
    bundle: Path, key: str | None, engine: Path, precision: str | None, session: Session
) -> Path:
    """Exports a bundle, with the spec inside, to a graph beside the engine; returns the graph.

    Args:
      bundle: `.tlt`.
      key: of an encrypted one.
      engine: to be built.
      precision: of the engine; None for that of the graph.
      session: console.

    Raises:
      RcnnError: the bundle cannot be opened, the graph exists or failed the check.
    """
    from rcnn_jax.export.command import export
    from rcnn_jax.export.files import check_output
    from rcnn_jax.export.lowering.portable import Forms
    from rcnn_jax.export.plan import ExportOptions, check_fixed_samples
    from rcnn_jax.runtime.open import compare, open_weights
    from rcnn_jax.runtime.tensorrt_rtx import library

    # What is missing is told before minutes of checks.
    library(f"building {engine} from {bundle}")
    output = graph_of(engine, key)
    check_output(output)
    opened = open_weights(bundle, key, reporter=session)
    experiment = opened.stored_experiment()
    compare(opened, experiment, session)
    check_fixed_samples(experiment, f"--rtx: {bundle}")
    session.note(f"{bundle} is a bundle: it is exported to {output} first, with the spec inside it")
    # In fp32 what is checked against JAX is what is built. A lower precision is placed by the
    # operators of the ordinary graph, so that one becomes portable afterwards.
    forms = Forms() if precision in (None, "fp32") else None
    export(opened, experiment, ExportOptions(output=output, key=key, portable=forms), session)
    return output


def build_rtx(
    engine: Path,
    lowered: Any,
    model: Any,
    header: "Header",
    batches: Batches,
    targets: tuple[str, ...],
    name: str,
    session: Session,
) -> None:
    """Makes a graph portable where it is not and builds an engine of it.

    Args:
      engine: to write.
      lowered: graph in the precision of the engine.
      model: as it was exported.
      header: of the graph.
      batches: smallest, usual and largest batch.
      targets: generations.
      name: of the graph's file.
      session: console.

    Raises:
      RcnnError: the graph is not portable, a generation does not compute it, or it is not built.
    """
    from rcnn_jax.export.conversion import precision_of
    from rcnn_jax.export.rtx import check_targets, portable_graph
    from rcnn_jax.runtime.engine import write_rtx_engine
    from rcnn_jax.runtime.header import HEADER_KEY
    from rcnn_jax.runtime.onnx_file import read_header
    from rcnn_jax.runtime.tensorrt_rtx import RtxSettings

    model = portable_graph(lowered, model, header, name, session)
    check_targets(model, targets, name)
    if any(entry.key == HEADER_KEY for entry in model.metadata_props):
        header = read_header(model, name)  # with the forms of the portable graph
    settings = RtxSettings(targets=targets, batches=batches, precision=precision_of(model))
    low, usual, high = batches
    session.console.print(
        f"  engine   {settings.precision}, batch {low} to {high} (best at {usual})", markup=False
    )
    write_rtx_engine(engine, model, header, settings, session)
