"""The tool behind the table of parity, on narrow networks: every class count, empty and full images."""

import re

import numpy as np
import pytest

from benchmarks import plausible_weights
from benchmarks.tables import parity
from benchmarks.tables.parity import DETECTIONS, ROWS, Row, line
from rcnn_jax.export.verification.parity import FP32, Parity

BOX, SCORE, MASK = 2e-2, 5e-4, 1e-2


def printed(capsys, *arguments):
    """(exit code, [[cells of a row]]) of the tool."""
    code = parity.main([*arguments, "--canvas", "128x192", "--factor", "0.125"])
    lines = [text for text in capsys.readouterr().out.splitlines() if text.startswith("| `")]
    return code, [[cell.strip() for cell in text.strip("| ").split("|")] for text in lines]


def counts(cell):
    return [int(number) for number in re.findall(r"\d+", cell)]


@pytest.mark.parametrize(
    ("networks", "classes"),
    [(["resnet:18"], [3, 90, 1]), (["mask resnet:18", "mask resnet:101"], [90, 1])],
)
def test_one_graph_agrees_for_every_class_count_and_for_empty_and_full_images(
    capsys, networks, classes
):
    code, rows = printed(capsys, "--networks", *networks)
    assert code == 0
    assert [int(row[2]) for row in rows] == classes
    numbers = np.asarray([counts(row[3]) for row in rows])
    assert (numbers[:, 2] == 0).all(), "nothing on a black canvas"
    assert numbers.max() == DETECTIONS, "all places taken somewhere"
    # the weights are random: one of the class counts may find nothing in the scene
    assert (numbers[:, :2].sum(axis=1) > 0).sum() >= len(classes) - 1
    for row in rows:
        assert float(row[4]) < BOX and float(row[5]) < SCORE and row[7] == "yes"
        assert row[6] == "-" if networks == ["resnet:18"] else float(row[6]) < MASK


def test_every_value_of_every_axis_is_shown_with_several_networks():
    assert len({row.network for row in ROWS if not row.network.startswith("mask")}) == 22
    for canvas in ((384, 1248), (544, 960), (832, 1344)):
        assert sum(row.canvas == canvas for row in ROWS) >= 4
    for classes in (1, 3, 90):
        assert sum(row.classes == classes for row in ROWS) >= 4
    for network in ("resnet:18", "mask resnet:50"):
        own = [row for row in ROWS if row.network == network]
        assert {row.classes for row in own} == {1, 3, 90}
        assert len({row.canvas for row in own}) == 3


def test_a_graph_that_differs_is_said_in_its_row():
    row = Row(network="vgg16", canvas=(128, 192), classes=3)
    distance = Parity(images=6, detections=80, unmatched=2, box=0.5, score=1e-5, mask=0.0)
    assert not distance.within(FP32)
    assert line(row, [DETECTIONS, 7, 0], distance, masks=False) == (
        "| `vgg16` | 128x192 | 3 | 16 (all places), 7, 0 | 5.0e-01 | 1.0e-05 | - "
        "| NO, 2 of 80 without a partner |"
    )


def test_kernels_under_which_every_score_is_one_are_left(monkeypatch):
    def kernels(experiment, images, seed):
        bias = np.full(2, seed, np.float32)
        return {"params": {"dense_class_td": {"bias": bias}}}

    def scores(variables):
        first, _ = variables["params"]["dense_class_td"]["bias"]
        return np.array([[1.0, 1.0 if first == 0 else 0.5], [0.0, 0.0]])

    monkeypatch.setattr(plausible_weights, "plausible", kernels)
    variables, counts = plausible_weights.settled(None, None, scores)
    assert variables["params"]["dense_class_td"]["bias"][0] == 1
    assert counts == [2, 0]
