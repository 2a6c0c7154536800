"""The first lines of Python in README.md, run as they stand; a server on this machine has the weights."""

import dataclasses
import hashlib
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from rcnn_jax.checkpoints import download, imported, published
from rcnn_jax.checkpoints.published import find
from tests.checkpoints import fake_checkpoints as fake
from tests.checkpoints.http_server import serving

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
    digest = hashlib.sha256(content).hexdigest()[:8]
    url = f"https://download.pytorch.org/models/maskrcnn-{digest}.safetensors"
    monkeypatch.setitem(published.PUBLISHED, NAME, dataclasses.replace(find(NAME), url=url))
    settings = imported.torchvision_settings

    def smaller(*words):
        """What torchvision takes for granted, on a canvas and with counts that take seconds."""
        granted = settings(*words)
        network = {
            **granted.network,
            "test_rpn_post_nms_topn": "40",
            "test_detections_per_image": "8",
            "test_score_threshold": "0.0",
        }
        return dataclasses.replace(granted, network=network, short_side=128, long_side=192)

    monkeypatch.setattr(imported, "torchvision_settings", smaller)
    monkeypatch.setenv("RCNN_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("RCNN_JAX_KEY", raising=False)
    monkeypatch.delenv(download.OFFLINE_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    coarse = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
    cv2.imwrite("street.jpg", cv2.resize(coarse, (180, 120)))
    with serving() as site:
        site.files[f"/download.pytorch.org/models/maskrcnn-{digest}.safetensors"] = content
        monkeypatch.setenv(download.MIRROR_VARIABLE, site.address)
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
