"""The table of compression: what it reads from the files of its steps."""

import json
from pathlib import Path

import pytest

from experiments.compression.run import Chain, Row


@pytest.fixture
def chain(tmp_path):
    return Chain("mask_rcnn", tmp_path / "nuclei.txt", tmp_path)


def test_agreement_is_that_of_the_check_beside_the_graph(chain):
    check = chain.folder / "pruned_int8_QAT.onnx.check.json"
    check.write_text(json.dumps({"agreement": {"images": 8, "share": 0.99884}}))
    assert chain.agreement(Row("pruned, int8 QAT", Path("best.tlt"), "int8")) == "0.999"


@pytest.mark.parametrize("title", ["float", "pruned", "int8 PTQ", "pruned, int8 PTQ"])
def test_rows_without_a_network_that_rounds_have_no_agreement(chain, title):
    assert chain.agreement(Row(title, Path("best.tlt"), "int8")) == "-"
