"""`rcnn-jax weights` and names of published weights, against a server on this machine."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from rcnn_jax.checkpoints import published
from rcnn_jax.checkpoints.bundle import read_bundle
from rcnn_jax.checkpoints.published import PUBLISHED, Published, find, named_weights
from rcnn_jax.cli.main import main
from rcnn_jax.errors import CheckpointError, UsageError
from rcnn_jax.export.plan import check_fixed_samples
from rcnn_jax.runtime.bundle import OpenBundle
from rcnn_jax.runtime.open import open_model
from tests.checkpoints import fake_checkpoints as fake
from tests.checkpoints.http_server import serving


@pytest.fixture(scope="module")
def content(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("published") / "a.safetensors"
    return fake.write_safetensors(path, fake.torchvision(90, masks=False)).read_bytes()


@pytest.fixture
def site(content, tmp_path, monkeypatch):
    """A server that publishes `coco/fake`."""
    monkeypatch.setenv("RCNN_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("RCNN_JAX_OFFLINE", raising=False)
    monkeypatch.delenv("RCNN_JAX_KEY", raising=False)
    monkeypatch.chdir(tmp_path)
    digest = hashlib.sha256(content).hexdigest()[:8]
    with serving() as server:
        row = Published(
            name="coco/fake",
            url=f"{server.address}/models/fake-{digest}.safetensors",
            source="torchvision",
            licence="CC0-1.0",
            size=len(content),
            classes=80,
            box_ap=12.3,
        )
        monkeypatch.setitem(published.PUBLISHED, row.name, row)
        server.files[row.url.removeprefix(server.address)] = content
        yield server


def failure(capsys, *words: str) -> str:
    assert main(["weights", *words]) == 2
    return capsys.readouterr().err


def test_the_list_says_what_there_is_and_what_is_cached(site, capsys):
    assert main(["weights", "list", "coco/"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 + sum(name.startswith("coco/") for name in PUBLISHED)
    row = next(line.split() for line in lines if line.startswith("coco/mask_rcnn_resnet50_fpn_v2"))
    assert row[1:] == ["torchvision", "BSD-3-Clause", "177", "80", "47.4", "41.8", "no"]
    assert main(["weights", "fetch", "coco/fake"]) == 0
    assert main(["weights", "list", "fake"]) == 0
    assert [
        line.split()[-1] for line in capsys.readouterr().out.splitlines() if "12.3" in line
    ] == ["yes"]
    assert "no published weights have 'nobody'" in failure(capsys, "list", "nobody")


def test_fetch_prints_where_the_file_lies_and_that_it_was_checked(site, capsys, tmp_path):
    assert main(["weights", "fetch", "coco/fake"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(str(tmp_path / "cache")) and "sha256" in shown and "checked" in shown
    assert main(["weights", "fetch", "coco/fake", "--offline"]) == 0
    assert len(site.asked) == 1


def test_fetch_takes_addresses_and_asks_for_a_digest(site, capsys, content):
    site.files["/a.bin"] = content[:1000]
    assert main(["weights", "fetch", f"{site.address}/a.bin"]) == 0
    shown = capsys.readouterr().out
    assert "nobody has said what it must hash to" in shown
    digest = hashlib.sha256(content[:1000]).hexdigest()
    assert digest in shown
    assert main(["weights", "fetch", f"{site.address}/a.bin", "--sha256", digest]) == 0
    wrong = failure(capsys, "fetch", f"{site.address}/a.bin", "--sha256", "0" * 64)
    assert "is not the file" in wrong
    assert "expected 8 to 64 hex digits" in failure(
        capsys, "fetch", f"{site.address}/a", "--sha256", "x"
    )


def test_a_name_that_does_not_exist_names_the_nearest(site, capsys):
    message = failure(capsys, "fetch", "coco/mask_rcnn_resnet50")
    assert "did you mean coco/mask_rcnn_resnet50_fpn" in message
    assert "no published weights have this name" in failure(capsys, "fetch", "coco/zzz")
    assert "cannot be fetched" in failure(capsys, "fetch", "imagenet/resnet18", "--offline")


def test_import_writes_a_model_and_its_spec(site, capsys, tmp_path):
    words = ["coco/fake", "-o", "out/m.tlt", "--spec_output", "out/spec.txt"]
    assert main(["weights", "import", *words]) == 0
    shown = capsys.readouterr().out
    assert (
        "recognised torchvision's Faster R-CNN on ResNet-10" in shown and "wrote out/m.tlt" in shown
    )
    bundle = read_bundle("out/m.tlt")
    assert len(bundle.header["class_names"]) == 90
    assert Path("out/spec.txt").read_text() == bundle.header["spec"]
    assert main(["spec", "check", "out/spec.txt", "--task", "inference"]) == 0
    assert (
        main(
            ["weights", "import", "coco/fake", "-e", "out/spec.txt", "-o", "n.tlt", "-k", "secret"]
        )
        == 0
    )
    shown = capsys.readouterr().out
    assert "what no shape shows is taken from out/spec.txt" in shown
    assert "taken from torchvision's defaults" not in shown
    again = read_bundle("n.tlt", "secret")
    for name, array in again.arrays.items():
        np.testing.assert_array_equal(array, bundle.arrays[name])
    with pytest.raises(CheckpointError):
        read_bundle("n.tlt")


def test_another_number_of_samples_is_written_into_the_spec_and_said(site, capsys, tmp_path):
    fake.write_pickle(tmp_path / "d2.pkl", fake.detectron2(3, masks=False))
    assert main(["weights", "import", "d2.pkl", "-o", "a.tlt", "--spec_output", "a.txt"]) == 0
    assert "samples in a cell" not in capsys.readouterr().out
    flags = ["--roi_sampling_ratio", "2"]
    assert main(["weights", "import", "d2.pkl", "-o", "b.tlt", *flags]) == 0
    shown = capsys.readouterr().out
    assert "2 x 2 samples in a cell, not as many as a cell has cells of the map" in shown
    assert "roi_samples MODEL -e SPEC prints by how much" in shown
    adaptive, fixed = (
        open_model(Path(name), None).stored_experiment() for name in ("a.tlt", "b.tlt")
    )
    with pytest.raises(UsageError, match="--rtx: .* weights import FILE --roi_sampling_ratio 2"):
        check_fixed_samples(adaptive, "--rtx")
    check_fixed_samples(fixed, "--rtx")
    # torchvision has 2, so nothing changes and nothing is said
    assert main(["weights", "import", "coco/fake", "-o", "c.tlt", *flags]) == 0
    assert "samples in a cell" not in capsys.readouterr().out
    error = failure(capsys, "import", "d2.pkl", "-o", "d.tlt", "-e", "a.txt", *flags)
    assert "--roi_sampling_ratio 2: is a field of the spec, write it into a.txt" in error
    assert not Path("d.tlt").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["coco/fake", "-o", "m.tlt", "--roi_sampling_ratio", "0"],
            "--roi_sampling_ratio 0: expected a whole number from 1 to 8",
        ),
        (["nothing.pth", "-o", "m.tlt"], "FILE nothing.pth: expected a file, found nothing there"),
        (["coco/fake", "-o", "m.onnx"], "expected a name ending in .tlt"),
        (["coco/fake", "-o", "m.tlt", "--bn_eps", "2"], "--bn_eps 2: expected a number in [0, 1)"),
        (
            ["coco/fake", "-o", "m.tlt", "--classes", "none.txt"],
            "--classes none.txt: expected a file",
        ),
        (
            ["coco/fake", "-o", "m.tlt", "--config", "none.yaml"],
            "--config none.yaml: expected a file",
        ),
    ],
)
def test_what_cannot_be_imported_is_one_message_and_leaves_nothing(
    site, capsys, tmp_path, words, message
):
    assert message in failure(capsys, "import", *words)
    assert not list(tmp_path.glob("m.*"))


@pytest.mark.parametrize("task", ["inference", "evaluate", "export"])
def test_a_name_under_the_other_detector_names_the_command_that_works(site, capsys, task):
    # Looked for before the model is fetched.
    images = ["-i", "."] if task == "inference" else []
    assert main(["faster_rcnn", task, "-m", "coco/fake", *images]) == 2
    error = capsys.readouterr().err
    assert error.rstrip().endswith(
        f"is a model of mask_rcnn, not of faster_rcnn: use rcnn-jax mask_rcnn {task} -m coco/fake"
    )


def test_a_name_stands_where_a_model_file_does(site):
    opened = open_model(Path("coco/fake"), None)
    assert isinstance(opened, OpenBundle) and opened.path == Path("fake")
    assert opened.origin.class_names[0] == "person" and opened.report_name == "fake"
    with pytest.raises(CheckpointError, match="no published weights have this name"):
        open_model(Path("coco/nobody"), None)


def test_a_file_wins_over_a_name_that_is_spelled_alike(site, tmp_path):
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco" / "fake").write_text("mine")
    assert named_weights("coco/fake") is None
    assert named_weights("coco/mask_rcnn_resnet50_fpn") is find("coco/mask_rcnn_resnet50_fpn")
    assert named_weights("out/model.tlt") is None


def test_a_classifier_is_no_model_to_run(site, monkeypatch):
    monkeypatch.setattr(published, "fetch_published", lambda row, **_: Path("x"))
    from rcnn_jax.checkpoints.imported import import_published

    with pytest.raises(CheckpointError, match="is a classifier, whose backbone"):
        import_published(find("imagenet/resnet18"), Path("x"))


def test_every_published_row_has_a_digest_and_an_address():
    assert len({row.url for row in PUBLISHED.values()}) == len(PUBLISHED)
    for row in PUBLISHED.values():
        assert row.digest.prefix in row.url and row.url.startswith("https://")
        assert row.is_detector == row.name.startswith("coco/")


def test_a_spec_that_names_published_weights_misses_no_file(site, tmp_path, capsys):
    assert main(["weights", "import", "coco/fake", "-o", "m.tlt", "--spec_output", "s.txt"]) == 0
    text = (tmp_path / "s.txt").read_text()
    (tmp_path / "t.txt").write_text(f'checkpoint: "coco/fake"\n{text}')
    capsys.readouterr()
    assert main(["spec", "check", "t.txt", "--task", "inference", "--strict-paths"]) == 0
    (tmp_path / "t.txt").write_text(f'checkpoint: "coco/fake.pth"\n{text}')
    assert main(["spec", "check", "t.txt", "--task", "inference", "--strict-paths"]) == 2


def test_a_name_can_be_pruned_and_reports_lie_where_the_command_runs(site, tmp_path, capsys):
    assert main(["mask_rcnn", "prune", "-m", "coco/fake", "--dry-run", "-pth", "0.5"]) == 0
    assert "box-predict" in capsys.readouterr().out
    assert (tmp_path / "fake.pruning.json").is_file() and not (tmp_path / "coco").exists()
    assert main(["mask_rcnn", "prune", "-m", "coco/nobody", "--dry-run"]) == 2
    assert "coco/nobody: no published weights have this name" in capsys.readouterr().err
