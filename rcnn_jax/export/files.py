"""Files of an export: their names, and how all of them are written or none."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from rcnn_jax.checkpoints import container
from rcnn_jax.checkpoints.atomic import write_file
from rcnn_jax.errors import UsageError
from rcnn_jax.export.precision.calibration_data import CalibrationSettings
from rcnn_jax.export.precision.digest import weights_digest
from rcnn_jax.export.precision.post_training import Calibrated
from rcnn_jax.export.precision.scales import write_cache, write_json
from rcnn_jax.export.verification.report import CheckReport
from rcnn_jax.reporter import Reporter

SUFFIXES = (".onnx", ".etlt")


@dataclass(frozen=True, kw_only=True)
class Files:
    """Names of the files of an export.

    Attributes:
      output: the model, `.onnx`, or `.etlt` for an encrypted one.
      key: encrypts `.etlt` files.
    """

    output: Path
    key: str | None = field(repr=False)

    @property
    def encrypts(self) -> bool:
        """Whether graphs are encrypted."""
        return self.output.suffix == ".etlt"

    @property
    def single(self) -> Path:
        """The FP32 graph to which the scales of an int8 model belong."""
        return self.output.with_name(f"{self.output.stem}.fp32{self.output.suffix}")

    @property
    def report(self) -> Path:
        """The report of the check as JSON; the table has the same name with .txt."""
        return self.output.with_name(self.output.name + ".check.json")

    def encrypted(self, content: bytes) -> bytes:
        """Returns the bytes of a graph as the suffix of the output asks for them."""
        return container.encrypt(content, self.key) if self.encrypts and self.key else content


def check_output(path: Path) -> None:
    """Refuses the name of a model that cannot be written.

    Raises:
      UsageError: it exists already, or has another suffix than .onnx and .etlt.
    """
    if path.suffix not in SUFFIXES:
        raise UsageError(f"-o {path}: expected a name ending in {' or '.join(SUFFIXES)}")
    if path.exists():
        raise UsageError(f"-o {path}: exists already; remove it or choose another name")


def write_report(report: CheckReport, files: Files) -> None:
    """Writes a report as JSON and as a table, whether the check has passed or not."""
    # Reports are replaced, models are not: a report describes the last attempt.
    text = json.dumps(report.to_json(), indent=2) + "\n"
    write_file(files.report, [text.encode()])
    write_file(files.report.with_suffix(".txt"), [(report.table() + "\n").encode()])


def write_graphs(
    files: Files,
    graph: onnx.ModelProto,
    single: onnx.ModelProto,
    scales: Calibrated | None,
    calibration: CalibrationSettings,
    reporter: Reporter,
    finished: Callable[[], None] = lambda: None,
) -> tuple[Path, ...]:
    """Writes the model, its scales and their graph before it; returns the paths.

    Args:
      files: their names.
      graph: in its data type.
      single: the FP32 graph, to which the scales belong.
      scales: of int8, or None.
      calibration: names the files of scales.
      reporter: is told the names.
      finished: called when all files have their names.
    """
    # All bytes exist before the first file does, so encoding errors and a lack of memory leave
    # nothing.
    pending: list[tuple[str, Path, bytes]] = []
    if scales is not None:
        digest = weights_digest(single)
        pending.append(
            ("fp32 graph of the scales", files.single, files.encrypted(single.SerializeToString()))
        )
        # A cache that was read is left alone: its owner may be TensorRT, and no byte of it would
        # change.
        if not scales.reused:
            text = write_cache(scales.scales, digest)
            pending.append(("calibration cache", calibration.cache_file, text.encode()))
        if calibration.json_file is not None:
            text = write_json(scales.scales, digest)
            pending.append(("scales", calibration.json_file, text.encode()))
    # the model comes last: where it lies, everything that it needs lies too
    pending.append(("model", files.output, files.encrypted(graph.SerializeToString())))
    written = []
    try:
        for _, path, data in pending:
            # Named before it is written: a signal may come between the rename and the next line here.
            # What lay there before is not ours to take back.
            if not path.exists():
                written.append(path)
            write_file(path, [data])
        # In here: a signal before it takes the model back, one behind it comes too late. With a gap
        # between, an interrupted export would leave a model, over which its repetition does not write.
        finished()
    except BaseException:  # a signal too
        for path in written:
            path.unlink(missing_ok=True)
        raise
    for what, path, data in pending:
        reporter.console.print(f"{what}: {path} ({len(data) / 1e6:.1f} MB)", markup=False)
    return tuple(path for _, path, _ in pending)
