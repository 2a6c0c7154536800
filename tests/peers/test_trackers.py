"""Trackers with their own packages, offline: what arrives is read back with the tracker's own means."""

import json
import time
import zipfile

import numpy as np
import pytest

from rcnn_jax.settings.training import TrackerSettings
from rcnn_jax.tasks.families import family
from rcnn_jax.train.trackers import TRACKER_IDS, Tracker
from rcnn_jax.train.writers import Record
from tests.train.listener import Listener

pytestmark = [
    pytest.mark.peers,
    # Of the clients' own dependencies.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]
KEY = "0123456789abcdef" * 2 + "01234567"
SPEC = {"random_seed": 42, "training_config": {"num_epochs": 2}}


def record(step: int, loss: float) -> Record:
    return Record(
        kind="train",
        step=step,
        epoch=1,
        epochs=2,
        values={"loss": loss, "learning_rate": float(np.float32(0.1)), "box": float("nan")},
        images_per_second=5.0,
    )


def run(tmp_path, name, steps, **options) -> list[str]:
    reporter = Listener()
    tracker = Tracker(
        TrackerSettings(name=name, options=options),
        tmp_path,
        family("faster_rcnn").log,
        SPEC,
        reporter,
    )
    tracker.start()
    for step in steps:
        tracker.write(record(step, 1.0 / step))
    tracker.close()
    return reporter.notes


def test_mlflow_has_every_number_and_a_resumed_run_goes_on_in_the_same_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mlflow = pytest.importorskip("mlflow")
    where = f"sqlite:///{tmp_path / 'mlflow.db'}"
    pytest.importorskip("sqlalchemy")
    assert run(tmp_path, "mlflow", (10, 20), tracking_uri=where, experiment="cells") == []
    first = json.loads((tmp_path / TRACKER_IDS).read_text())["mlflow"]
    assert run(tmp_path, "mlflow", (30,), tracking_uri=where, experiment="cells") == []
    assert json.loads((tmp_path / TRACKER_IDS).read_text())["mlflow"] == first
    client = mlflow.MlflowClient(where)
    points = client.get_metric_history(first, "train/loss")
    assert [(point.step, point.value) for point in points] == [
        (step, 1.0 / step) for step in (10, 20, 30)
    ]
    assert client.get_run(first).info.status == "FINISHED"
    assert not (tmp_path / "mlruns").exists()
    assert client.get_run(first).data.params["training_config.num_epochs"] == "2"


def test_wandb_writes_an_offline_run(tmp_path):
    pytest.importorskip("wandb")
    assert run(tmp_path, "wandb", (10, 20), project="cells", mode="OFFLINE", key=KEY) == []
    folders = list((tmp_path / "wandb").glob("offline-run-*"))
    assert len(folders) == 1
    number = json.loads((tmp_path / TRACKER_IDS).read_text())["wandb"]
    assert folders[0].name.endswith(number)
    (file,) = folders[0].glob("*.wandb")
    # wandb's own process writes the file out a moment after `finish` has returned.
    until = time.monotonic() + 30
    while b"train/loss" not in file.read_bytes() and time.monotonic() < until:
        time.sleep(0.1)
    written = file.read_bytes()
    assert b"train/loss" in written and KEY.encode() not in written


def test_clearml_writes_an_offline_session(tmp_path, monkeypatch):
    clearml = pytest.importorskip("clearml")
    monkeypatch.setenv("CLEARML_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    clearml.Task.set_offline(True)
    assert run(tmp_path, "clearml", (10, 20), project="cells", task="first") == []
    sessions = list(tmp_path.rglob("*.zip"))
    assert sessions
    with zipfile.ZipFile(sessions[0]) as archive:
        text = b"".join(archive.read(name) for name in archive.namelist())
    assert b"loss" in text
