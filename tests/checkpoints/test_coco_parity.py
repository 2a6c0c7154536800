"""The parity command against a small set in COCO's layout on a local server."""

import hashlib
import io
import zipfile

import pytest

from rcnn_jax.checkpoints import published
from rcnn_jax.checkpoints.published import Published
from rcnn_jax.data.synthetic import write_coco
from tests.checkpoints import fake_checkpoints as fake
from tests.checkpoints.http_server import serving
from tools import coco_parity

pytestmark = pytest.mark.long


def zipped(*files) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, path in files:
            archive.write(path, name)
    return buffer.getvalue()


def test_a_random_model_agrees_with_a_published_ap_of_nothing_only(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RCNN_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    write_coco(tmp_path / "data", seed=3, train_count=1, val_count=3, height=96, width=128)
    content = fake.write_safetensors(
        tmp_path / "w.safetensors", fake.torchvision(3, masks=False)
    ).read_bytes()
    with serving() as site:
        images = sorted((tmp_path / "data" / "images").iterdir())
        site.files["/zips/val2017.zip"] = zipped(*((f"val2017/{p.name}", p) for p in images))
        site.files["/annotations/annotations_trainval2017.zip"] = zipped(
            (coco_parity.ANNOTATIONS, tmp_path / "data" / "instances_val.json")
        )
        digest = hashlib.sha256(content).hexdigest()[:8]
        site.files["/fake.safetensors"] = content
        url = f"{site.address}/fake-{digest}.safetensors"
        site.files[f"/fake-{digest}.safetensors"] = content

        def row(ap: float) -> Published:
            return Published(
                name="coco/fake",
                url=url,
                source="torchvision",
                licence="",
                size=0,
                classes=3,
                box_ap=ap,
            )

        words = ["coco/fake", "--base", site.address, "--unchecked", "--short_side", "128"]
        words += ["--long_side", "192", "--images", "3"]
        monkeypatch.setitem(published.PUBLISHED, "coco/fake", row(0.1))
        assert coco_parity.main(words) == 0
        assert "agrees" in capsys.readouterr().out
        count = len(site.asked)
        monkeypatch.setitem(published.PUBLISHED, "coco/fake", row(37.9))
        assert coco_parity.main(words) == 1
        assert "published 37.9" in capsys.readouterr().out and len(site.asked) == count
        assert coco_parity.main([*words, "--base", f"{site.address}/elsewhere"]) == 2
        assert "answered 404" in capsys.readouterr().err
