from pathlib import Path

import onnx
import pytest

from rcnn_jax.cli.session import Session
from rcnn_jax.errors import UsageError
from rcnn_jax.export.files import Files, check_output, write_graphs, write_report
from rcnn_jax.export.plan import ExportOptions
from rcnn_jax.export.precision.calibration_data import CalibrationSettings
from rcnn_jax.export.precision.post_training import Calibrated
from rcnn_jax.export.verification.report import CheckReport
from rcnn_jax.reporter import SILENT

SCALES = Calibrated({"a": 0.5}, "calibrated by max", reused=False, offsets={})


def write(output: Path):
    files = Files(output=output, key=None)
    calibration = CalibrationSettings(cache_file=output.with_name("cal.bin"))
    session = Session("test", status_folder=None)
    int8, fp32 = onnx.ModelProto(ir_version=8), onnx.ModelProto(ir_version=7)
    return write_graphs(files, int8, fp32, SCALES, calibration, session)


def test_the_model_is_written_last_after_what_belongs_to_it(tmp_path):
    written = write(tmp_path / "model.onnx")
    assert [path.name for path in written] == ["model.fp32.onnx", "cal.bin", "model.onnx"]
    assert onnx.load(tmp_path / "model.onnx").ir_version == 8
    assert onnx.load(tmp_path / "model.fp32.onnx").ir_version == 7


def test_where_the_model_cannot_be_written_nothing_is_left(tmp_path):
    (tmp_path / "model.onnx").mkdir()
    with pytest.raises(Exception, match=r"model\.onnx"):
        write(tmp_path / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_a_name_that_is_taken_or_of_another_form_is_refused(tmp_path):
    taken = tmp_path / "a.onnx"
    taken.touch()
    with pytest.raises(UsageError, match="exists already"):
        check_output(taken)
    with pytest.raises(UsageError, match=r"expected a name ending in \.onnx or \.etlt"):
        check_output(tmp_path / "a.uff")


def test_a_report_is_written_as_json_and_as_a_table(tmp_path):
    report = CheckReport(images="noise", problems=("too far apart",), accepted=("int8: a loss",))
    write_report(report, Files(output=tmp_path / "m.onnx", key=None))
    assert '"passed": false' in (tmp_path / "m.onnx.check.json").read_text()
    table = (tmp_path / "m.onnx.check.txt").read_text()
    assert table.endswith("ACCEPTED: int8: a loss\nPROBLEM: too far apart\n")


def test_options_never_show_the_key(tmp_path):
    options = ExportOptions(output=tmp_path / "m.etlt", key="the secret")
    assert "the secret" not in repr(options) + repr(options.files)


def test_a_signal_before_the_end_takes_the_model_back_and_one_behind_it_comes_too_late(tmp_path):
    fp32 = onnx.ModelProto(ir_version=7)
    files = Files(output=tmp_path / "m.onnx", key=None)

    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_graphs(
            files,
            fp32,
            fp32,
            None,
            CalibrationSettings(cache_file=tmp_path / "c"),
            SILENT,
            interrupted,
        )
    assert not files.output.exists()
    called = []
    write_graphs(
        files,
        fp32,
        fp32,
        None,
        CalibrationSettings(cache_file=tmp_path / "c"),
        SILENT,
        lambda: called.append(files.output.exists()),
    )
    assert called == [True]
