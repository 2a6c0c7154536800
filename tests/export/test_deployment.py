"""Further output of an export: refused before the work where it cannot be written."""

from pathlib import Path

import pytest

from rcnn_jax.errors import UsageError
from rcnn_jax.export.contracts import make_header
from rcnn_jax.export.deployment import Deployment, check_deployment, deploy
from rcnn_jax.reporter import SILENT
from tests.export.small import residual_block
from tests.export.tiny import faster_rcnn

PATH = Path("a.onnx")


def test_a_bundle_needs_a_contract_that_deepstream_reads():
    plain, tao = (make_header(faster_rcnn(), contract, None) for contract in ("plain", "tao"))
    check_deployment(Deployment(bundle=True), tao, PATH)
    check_deployment(Deployment(), plain, PATH)
    with pytest.raises(UsageError, match="no DeepStream parser reads the contract 'plain'"):
        check_deployment(Deployment(bundle=True), plain, PATH)


def test_where_nothing_is_asked_for_the_graph_is_not_even_read():
    graph = residual_block()  # without a header
    assert deploy(Deployment(), graph, path=PATH, threshold=0.5, reporter=SILENT) == ()
