"""Export as a function of the library."""

import rcnn_jax
from rcnn_jax.runtime.header import Header
from rcnn_jax.runtime.onnx_file import read_header, read_onnx


def test_a_model_file_alone_is_exported_and_finds_what_it_did(boxes_files, tmp_path):
    output = tmp_path / "m.onnx"
    result = rcnn_jax.api.export(boxes_files.model, output, boxes_files.spec)
    assert result.output == output and output.exists()
    header = read_header(read_onnx(output, None), str(output))
    assert isinstance(header, Header) and header.kind == "faster_rcnn"
