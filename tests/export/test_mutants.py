"""Files with content that nobody wrote: each runs or is refused in one sentence."""

import json
from collections import Counter

import numpy as np
import onnx
import pytest

from rcnn_jax.cli.main import converter
from rcnn_jax.errors import CheckpointError
from rcnn_jax.runtime.engine import EngineInfo, info_path, read_info
from tests.export import mutants

PICTURE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)


@pytest.mark.parametrize("kind", ["boxes_files", "masks_files"])
def test_no_forged_graph_or_header_ends_in_a_traceback(kind, request, tmp_path):
    model = onnx.load(request.getfixturevalue(kind).graph)
    path = tmp_path / "forged.onnx"
    seen = Counter()
    for data in mutants.files(model, seed=5, count=50):
        path.write_bytes(data)
        said = mutants.outcome(path, PICTURE)
        assert said in ("runs", "refused"), said
        seen[said] += 1
    assert seen["refused"] > 50


def test_no_forged_description_of_an_engine_ends_in_a_traceback(boxes_files, tmp_path):
    header = json.loads(onnx.load(boxes_files.graph).metadata_props[0].value)
    fields = {
        "header": header,
        "precision": "fp16",
        "batches": [1, 2, 4],
        "tensorrt": "10.8.0.43",
        "gpu": "any",
        "dla_core": None,
        "sha256": "0" * 64,
    }
    assert EngineInfo.from_json(fields).to_json()["batches"] == (1, 2, 4)
    engine = tmp_path / "model.engine"
    refused = 0
    for text in mutants.forged_headers(fields, seed=9, count=300):
        info_path(engine).write_text(text)
        try:
            read_info(engine)
        except CheckpointError as error:
            assert "is damaged or of another version of rcnn-jax" in str(error)
            refused += 1
    assert refused > 200


def test_no_forged_file_ends_in_a_traceback_of_the_converter(boxes_files, tmp_path, capsys):
    path, engine = tmp_path / "forged.onnx", tmp_path / "model.engine"
    for data in mutants.files(onnx.load(boxes_files.graph), seed=3, count=30):
        path.write_bytes(data)
        assert converter([str(path), "-e", str(engine), "-t", "fp16"]) in (0, 2)
        assert "Traceback" not in capsys.readouterr().err
