"""Graphs of a benchmark: exported once into its folder, and read from there by every later start.

    MODEL.tlt --export--> graphs/fp32.onnx fp16.onnx int8.onnx --to_portable--> fp32.portable.onnx ...

The portable form is the last pass over a finished graph in the exporter too, so the files are those that
`export --portable` writes.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from rcnn_jax.benchmark.entry import Entry, Form
from rcnn_jax.checkpoints.atomic import write_file
from rcnn_jax.errors import ExportError
from rcnn_jax.export.command import export
from rcnn_jax.export.conversion import precision_of
from rcnn_jax.export.files import Files
from rcnn_jax.export.lowering.portable import is_portable, to_portable
from rcnn_jax.export.plan import ExportOptions
from rcnn_jax.export.precision.calibration_data import CalibrationSettings
from rcnn_jax.reporter import SILENT, Item, Reporter
from rcnn_jax.runtime.bundle import OpenBundle
from rcnn_jax.runtime.graph import OpenGraph, open_graph
from rcnn_jax.tasks.experiment import Experiment


class Quiet:
    """A reporter that passes warnings and progress on, and no tables."""

    def __init__(self, reporter: Reporter, label: str = ""):
        """Takes what is passed on to, and what every bar is called after its own name."""
        self.console = SILENT.console
        self.warn, self.note, self.status = reporter.warn, reporter.note, reporter.status
        self._track = reporter.track
        self._label = label

    def track(self, items: Iterable[Item], total: int, label: str) -> Iterable[Item]:
        """Passes the items on and shows how many have gone by."""
        return self._track(items, total, f"{label} {self._label}".strip())


class NotMade(Exception):  # noqa: N818  (no error: the row says it, and the table goes on)
    """There is no such graph; the text says why, in one line."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Graphs:
    """The graphs of a model.

    Attributes:
      model: the file, opened.
      experiment: of the spec; its `inference` settings are in the graphs.
      folder: they are written to.
      key: encrypts them where the model is encrypted.
      reporter: console, progress.
    """

    model: OpenBundle | OpenGraph
    experiment: Experiment
    folder: Path
    key: str | None = field(repr=False)
    reporter: Reporter

    def graph(self, entry: Entry) -> OpenGraph:
        """Returns the graph of a row, made where it is not there yet.

        Raises:
          NotMade: the export refused it.
          RcnnError: the data, the model or the key cannot be used.
        """
        if isinstance(self.model, OpenGraph):
            return self._of_file(self.model, entry)
        ordinary = self._file(entry, "ordinary")
        if not ordinary.exists():
            self._export(self.model, entry, ordinary)
        if entry.form != "portable":
            return open_graph(ordinary, self.key)
        path = self._file(entry, "portable")
        if not path.exists():
            self._make_portable(open_graph(ordinary, self.key).model, path)
        return open_graph(path, self.key)

    def _file(self, entry: Entry, form: Form) -> Path:
        suffix = ".etlt" if self.key else ".onnx"
        middle = ".portable" if form == "portable" else ""
        return self.folder / f"{entry.graph_precision}{middle}{suffix}"

    def _export(self, model: OpenBundle, entry: Entry, path: Path) -> None:
        refused = path.with_name(path.name + ".refused.txt")
        if refused.exists():  # an export that failed its check fails again, after minutes
            raise NotMade(refused.read_text(encoding="utf-8"))
        self.reporter.console.print(f"exporting {entry.graph_precision} ...")
        options = ExportOptions(
            output=path,
            key=self.key,
            batch=1,
            data_type=entry.graph_precision,
            # What rounding costs is for the metric to say, not for the gate of the export.
            accept_loss=entry.graph_precision != "fp32",
            calibration=CalibrationSettings(cache_file=self.folder / "calibration.bin"),
        )
        try:
            # Its tables are in the report beside the graph: three of them would bury the one asked for.
            export(model, self.experiment, options, Quiet(self.reporter))
        except ExportError as error:
            reason = str(error).splitlines()[0]
            write_file(refused, [reason.encode()])
            raise NotMade(reason) from error

    def _make_portable(self, model: onnx.ModelProto, path: Path) -> None:
        try:
            portable = to_portable(model)
        except ExportError as error:
            raise NotMade(str(error).splitlines()[0]) from error
        files = Files(output=path, key=self.key)
        write_file(path, [files.encrypted(portable.SerializeToString())])

    def _of_file(self, source: OpenGraph, entry: Entry) -> OpenGraph:
        precision = precision_of(source.model)
        if precision != entry.graph_precision:
            raise NotMade(f"{source.path.name} is {precision}; give the .tlt for other precisions")
        portable = is_portable(source.model)
        if entry.form == "ordinary" and portable:
            raise NotMade(f"{source.path.name} is portable; give the .tlt for the ordinary graph")
        if entry.form == "ordinary" or portable:
            return source
        path = self._file(entry, "portable")
        if not path.exists():
            self._make_portable(source.model, path)
        return open_graph(path, self.key)
