"""Runs with a key, and runs whose data changes: what goes on, what is refused, what is on the disk."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from rcnn_jax.checkpoints.bundle import read_bundle
from rcnn_jax.checkpoints.store import CheckpointStore
from rcnn_jax.cli.main import main
from tests.e2e.tiny import write_tiny

KEY = "only mine to know"


def train(spec: Path, workdir: Path, *flags: str) -> int:
    return main(
        ["faster_rcnn", "train", "-e", str(spec), "-d", str(workdir), "--gpus", "1", *flags]
    )


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "status.json"
    }


def after_one_epoch(run: Path, copy: Path) -> Path:
    """Copies a run of two epochs as it was after the first."""
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "checkpoints" / "6")
    (copy / "tiny.epoch2.tlt").unlink()
    return copy


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same run of two epochs: plain; encrypted; encrypted and resumed after the first."""
    root = tmp_path_factory.mktemp("encrypted")
    spec = write_tiny(root, epochs=2)
    assert train(spec, root / "plain") == 0
    assert train(spec, root / "encrypted", "-k", KEY) == 0
    assert train(spec, after_one_epoch(root / "encrypted", root / "resumed"), "-k", KEY) == 0
    return root


def test_an_encrypted_run_that_was_resumed_has_the_weights_of_a_plain_one(runs):
    plain = read_bundle(runs / "plain" / "tiny.epoch2.tlt").arrays
    encrypted = read_bundle(runs / "resumed" / "tiny.epoch2.tlt", KEY).arrays
    assert plain.keys() == encrypted.keys()
    for name, array in plain.items():
        assert array.tobytes() == encrypted[name].tobytes(), name


def test_no_weight_optimizer_state_or_key_of_an_encrypted_run_is_on_the_disk(runs):
    arrays = read_bundle(runs / "resumed" / "tiny.epoch2.tlt", KEY).arrays
    state = [a for n, a in arrays.items() if a.nbytes >= 256 and len(np.unique(a)) > 32]
    assert any(name.startswith("opt_state/") for name in arrays) and len(state) > 10
    written = files(runs / "resumed")
    assert any(name.startswith("checkpoints/6/") for name in written)
    for name, content in written.items():
        assert KEY.encode() not in content, name
        for array in state:
            data = np.ascontiguousarray(array).tobytes()
            assert data[64:128] not in content, name
    assert KEY not in (runs / "resumed" / "status.json").read_text()
    everything = b"".join(files(runs / "plain").values())
    plain = read_bundle(runs / "plain" / "tiny.epoch2.tlt").arrays["params/conv1/kernel"]
    assert np.ascontiguousarray(plain).tobytes()[64:128] in everything, (
        "the search finds what is there"
    )


@pytest.mark.parametrize("flags", [(), ("-k", "other")])
def test_an_encrypted_run_goes_on_with_its_key_only(runs, tmp_path, capsys, flags):
    workdir = after_one_epoch(runs / "encrypted", tmp_path / "run")
    before = files(workdir)
    assert train(runs / "spec.txt", workdir, *flags) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {workdir / 'checkpoints'}: the run there is encrypted, and ")
    assert error.count("\n") == 1
    assert files(workdir) == before


def test_plain_checkpoints_of_a_run_that_goes_on_with_a_key_are_encrypted(runs, tmp_path, capsys):
    workdir = tmp_path / "run"
    shutil.copytree(runs / "plain", workdir)
    assert train(runs / "spec.txt", workdir, "-k", KEY) == 0
    assert "were plain; they are encrypted now" in capsys.readouterr().out
    assert all(name.endswith("/sealed") for name in files(workdir / "checkpoints"))
    assert CheckpointStore(workdir / "checkpoints", key=KEY).latest_run_state()["run"]["step"] == 6


def test_a_run_with_encrypted_models_and_plain_checkpoints_needs_the_key_too(
    runs, tmp_path, capsys
):
    workdir = tmp_path / "run"  # as releases before the encryption of checkpoints left it
    shutil.copytree(runs / "plain", workdir)
    shutil.copy(runs / "resumed" / "tiny.epoch2.tlt", workdir)
    before = files(workdir)
    assert train(runs / "spec.txt", workdir) == 2
    assert "tiny.epoch2.tlt: is encrypted, so this run has a key" in capsys.readouterr().err
    assert files(workdir) == before
    assert train(runs / "spec.txt", workdir, "-k", KEY) == 0


@pytest.fixture
def started(runs, tmp_path):
    """The run after its first epoch, and its data, which is put back at the end."""
    data = runs / "data"
    shutil.copytree(data, tmp_path / "data")
    yield after_one_epoch(runs / "plain", tmp_path / "run"), data
    shutil.rmtree(data)
    shutil.copytree(tmp_path / "data", data)


def test_a_run_whose_data_changed_stops_and_goes_on_when_that_is_accepted(runs, started, capsys):
    spec, (workdir, data) = runs / "spec.txt", started
    labels = sorted((data / "labels").iterdir())
    images = sorted((data / "images").iterdir())
    labels[0].write_text("")
    images[1].unlink()
    before = files(workdir)
    assert train(spec, workdir) == 2
    assert capsys.readouterr().err == (
        f"error: {workdir}: the run there was trained on other data up to step 3:\n"
        f"  1 image removed: {images[1]}\n"
        f"  1 image relabelled: {images[0]}\n"
        "Put the old data back to go on with it, choose another folder for the results, or give "
        "--accept-data-changes to go on with the data as it is now\n"
    )
    assert files(workdir) == before
    assert train(spec, workdir, "--accept-data-changes") == 0
    assert "from step 3 on this run goes on with other data:" in capsys.readouterr().out
    assert train(spec, workdir) == 0, "the new data is that of the run now"


def forget_data(metadata: Path) -> None:
    manifest = json.loads(metadata.read_text())
    del manifest["run_state"]["data"]
    text = json.dumps(manifest["run_state"], sort_keys=True)
    manifest["run_state_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    metadata.write_text(json.dumps(manifest))


def test_a_run_from_before_data_was_written_down_goes_on_and_says_so_once(runs, started, capsys):
    spec, workdir = runs / "spec.txt", started[0]
    forget_data(workdir / "checkpoints" / "3" / "manifest" / "metadata")
    (workdir / "data.json").unlink()
    assert train(spec, workdir) == 0
    assert "this run began before its data was written down" in capsys.readouterr().out
    assert train(spec, workdir) == 0
    assert "began before" not in capsys.readouterr().out
