"""The parity command, whole: a mirror with a small set in COCO's layout and a published model."""

import dataclasses
import io
import json
import zipfile

import pytest

from rcnn_jax.checkpoints import published
from rcnn_jax.data.sources.coco_names import COCO_NAMES
from rcnn_jax.data.synthetic import write_coco
from tests.checkpoints import fake_checkpoints as fake
from tests.checkpoints.mirror import mirror, publish
from tools import coco_parity

NAME = "coco/faster_rcnn_resnet50_fpn"
SMALL = ("--unchecked", "--short_side", "128", "--long_side", "192", "--images", "3")
COCO_IDS = {1: 1, 2: 18, 3: 90}
"""{category of the synthetic data: one of COCO}."""


def zipped(*files) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, path in files:
            archive.write(path, name)
    return buffer.getvalue()


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A mirror with both archives and a random model of COCO's 90 ids under a published name."""
    data = tmp_path / "data"
    write_coco(data, seed=3, train_count=1, val_count=3, height=96, width=128)
    annotations = data / "instances_val.json"
    content = json.loads(annotations.read_text())
    for annotation in content["annotations"]:
        annotation["category_id"] = COCO_IDS[annotation["category_id"]]
    content["categories"] = [{"id": i, "name": name} for i, name in COCO_NAMES.items()]
    annotations.write_text(json.dumps(content))
    weights = fake.write_torch(tmp_path / "w.pth", fake.torchvision(90, masks=False), stream=True)
    with mirror(monkeypatch, str(tmp_path / "cache")) as server:
        publish(monkeypatch, server, NAME, weights.read_bytes(), ".pth")
        images = sorted((data / "images").iterdir())
        base = "/images.cocodataset.org"
        server.files[f"{base}/zips/val2017.zip"] = zipped(
            *((f"val2017/{path.name}", path) for path in images)
        )
        server.files[f"{base}/annotations/annotations_trainval2017.zip"] = zipped(
            (coco_parity.ANNOTATIONS, annotations)
        )
        yield server


def published_ap(monkeypatch, value: float) -> None:
    row = dataclasses.replace(published.find(NAME), box_ap=value)
    monkeypatch.setitem(published.PUBLISHED, NAME, row)


@pytest.mark.long
def test_a_random_model_agrees_with_a_published_ap_of_nothing_only(site, monkeypatch, capsys):
    published_ap(monkeypatch, 0.1)
    assert coco_parity.main([NAME, *SMALL]) == 0
    shown = capsys.readouterr().out
    assert f"{NAME}: box AP 0.0" in shown and "published 0.1" in shown and "agrees" in shown
    count = len(site.asked)
    published_ap(monkeypatch, 37.0)
    assert coco_parity.main([NAME, *SMALL]) == 1
    shown = capsys.readouterr().out
    assert "published 37.0, -3" in shown and "DIFFERS (within 0.2 points expected)" in shown
    assert len(site.asked) == count  # all of it lies in the cache


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("imagenet/resnet18",), "is a classifier, which has no AP on COCO"),
        ((NAME, "--images", "0"), "--images 0: expected at least 1"),
        ((NAME, "--long_side", "192"), "is for --short_side, which is missing"),
        ((NAME, "--base", "http://127.0.0.1/elsewhere", "--unchecked"), "answered 404"),
        # What the mirror has is another data set, and only --unchecked takes one.
        ((NAME,), "zips/val2017.zip: what "),
        (("coco/mask_rcnn_r50",), "did you mean "),
    ],
)
def test_what_cannot_be_compared_is_one_message(site, capsys, words, message):
    assert coco_parity.main(list(words)) == 2
    assert message in capsys.readouterr().err


def test_archives_of_another_layout_are_named(site, capsys):
    path = "/images.cocodataset.org/annotations/annotations_trainval2017.zip"
    site.files[path] = zipped(("other.txt", __file__))
    assert coco_parity.main([NAME, *SMALL]) == 2
    assert f"holds no {coco_parity.ANNOTATIONS}" in capsys.readouterr().err
