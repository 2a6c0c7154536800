"""The first lines of Python in README.md, run as they stand; a server on this machine has the weights."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.checkpoints import fake_checkpoints as fake
from tests.checkpoints.mirror import mirror, publish, shrink

pytestmark = pytest.mark.slow

README = Path(__file__).parents[1] / "README.md"
NAME = "coco/mask_rcnn_resnet50_fpn_v2"


def first_lines() -> str:
    block = re.search(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    return block[1]


@pytest.fixture
def street(tmp_path, monkeypatch):
    """A folder with street.jpg, and a mirror with random weights of the architecture."""
    content = fake.write_safetensors(
        tmp_path / "w.safetensors", fake.torchvision(90, version=2)
    ).read_bytes()
    shrink(monkeypatch)
    monkeypatch.chdir(tmp_path)
    coarse = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
    cv2.imwrite("street.jpg", cv2.resize(coarse, (180, 120)))
    with mirror(monkeypatch, str(tmp_path / "cache")) as site:
        publish(monkeypatch, site, NAME, content)
        yield site


def test_the_first_lines_print_what_is_in_a_picture_and_draw_it(street, capsys):
    lines = first_lines()
    assert f'"{NAME}"' in lines and len([line for line in lines.splitlines() if line]) <= 6
    names: dict = {}
    exec(compile(lines, "README.md", "exec"), names)  # noqa: S102 our own page
    detections = names["detections"]
    printed = capsys.readouterr().out.splitlines()
    assert 0 < len(detections.boxes) == len(detections.masks) == len(printed) <= 8
    for line, label, score, box in zip(
        printed, detections.labels, detections.scores, detections.boxes, strict=True
    ):
        assert line == f"{label} {score:.2f} {np.asarray(box).round()}"
    picture = cv2.imread("street.detections.jpg")
    assert picture is not None and picture.shape == (120, 180, 3)
    assert len(street.asked) == 1
