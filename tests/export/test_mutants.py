"""Files with content that nobody wrote: each is read or is refused in one sentence."""

import random

import onnx
import pytest

pytest.importorskip("h5py", reason="the extra calibration is not installed")

from rcnn_jax.cli.main import converter
from tests.export.mutants import HEADERS, forged_file
from tests.fuzz.outcome import failures


def test_forged_graphs_headers_and_caches_are_read_or_refused(tmp_path):
    assert failures(HEADERS, 5, 300, tmp_path) == []


def test_no_forged_file_ends_in_a_traceback_of_the_converter(boxes_files, tmp_path, capsys):
    path, engine = tmp_path / "forged.onnx", tmp_path / "model.engine"
    model, rng = onnx.load(boxes_files.graph), random.Random(3)
    for _ in range(60):
        path.write_bytes(forged_file(rng, model))
        assert converter([str(path), "-e", str(engine), "-t", "fp16"]) in (0, 2)
        assert "Traceback" not in capsys.readouterr().err
