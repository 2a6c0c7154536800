"""Trackers of a run: a missing package or a failing server costs one note and nothing else."""

import importlib.util
import json

import pytest

from rcnn_jax.settings.training import TrackerSettings
from rcnn_jax.spec.load import load_spec
from rcnn_jax.tasks.families import family
from rcnn_jax.tasks.trackers import trackers
from rcnn_jax.train import trackers as module
from rcnn_jax.train.run_folder import TRACKER_IDS
from rcnn_jax.train.trackers import Tracker
from rcnn_jax.train.writers import Record
from tests.e2e.tiny import write_tiny
from tests.train.listener import Listener

SECRET = "0123456789abcdef"


class Server:
    """A client that keeps what it is sent, and fails at a step."""

    fails_at = 0
    opened: list[tuple[str | None, dict]] = []  # noqa: RUF012
    sent: list[tuple[int, dict]] = []  # noqa: RUF012

    def __init__(self, options, folder, run, spec) -> None:
        self.opened.append((run, dict(options)))
        self.id = run or f"run {len(self.opened)}"

    def log(self, step, values) -> None:
        if step == self.fails_at:
            raise ConnectionError(f"503 for key {SECRET}\nsecond line")
        self.sent.append((step, dict(values)))

    def finish(self) -> None:
        self.sent.append((0, {}))


def tracker(folder, name="mlflow", **options):
    settings = TrackerSettings(name=name, options=options, secrets=(SECRET,))
    reporter = Listener()
    return Tracker(settings, folder, family("faster_rcnn").log, {"seed": 1}, reporter), reporter


def record(step: int) -> Record:
    values = {"loss": 0.5, "box": float("nan")}
    return Record(kind="train", step=step, epoch=1, epochs=2, values=values, images_per_second=3.0)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(Server, "opened", [])
    monkeypatch.setattr(Server, "sent", [])
    monkeypatch.setitem(module.CLIENTS, "mlflow", Server)
    return Server


@pytest.mark.skipif(importlib.util.find_spec("mlflow") is not None, reason="MLflow is installed")
def test_a_package_that_is_missing_is_named_once_and_the_run_goes_on(tmp_path):
    writer, reporter = tracker(tmp_path)
    writer.start()
    writer.write(record(10))
    writer.close()
    assert len(reporter.notes) == 1
    assert "pip install 'rcnn-jax[mlflow]'" in reporter.notes[0]
    assert "The run goes on" in reporter.notes[0]
    assert not (tmp_path / TRACKER_IDS).exists()


def test_finite_numbers_arrive_under_the_names_of_tensorboard(tmp_path, server):
    writer, reporter = tracker(tmp_path, experiment="cells")
    writer.start()
    writer.write(record(10))
    writer.close()
    assert server.sent[0] == (10, {"train/loss": 0.5, "train/images_per_second": 3.0})
    assert server.sent[-1] == (0, {})
    assert reporter.notes == []


def test_a_resumed_run_goes_on_in_the_run_of_the_tracker(tmp_path, server):
    for _ in range(2):
        writer, _ = tracker(tmp_path)
        writer.start()
        writer.close()
    assert [run for run, _ in server.opened] == [None, "run 1"]
    assert json.loads((tmp_path / TRACKER_IDS).read_text()) == {"mlflow": "run 1"}


def test_the_first_error_switches_a_tracker_off_and_shows_no_key(tmp_path, server, monkeypatch):
    monkeypatch.setattr(server, "fails_at", 20)
    writer, reporter = tracker(tmp_path)
    writer.start()
    for step in (10, 20, 30):
        writer.write(record(step))
    writer.close()
    assert [step for step, _ in server.sent] == [10]
    assert len(reporter.notes) == 1
    assert "MLflow is switched off for this run: 503 for key ***" in reporter.notes[0]
    assert "second line" not in reporter.notes[0]


def test_a_damaged_file_of_ids_starts_a_run_of_its_own(tmp_path, server):
    (tmp_path / TRACKER_IDS).write_text("[1, ")
    writer, reporter = tracker(tmp_path)
    writer.start()
    assert server.opened[0][0] is None and reporter.notes == []


def test_blocks_of_a_spec_become_settings_without_their_key_in_sight(tmp_path):
    spec = write_tiny(tmp_path)
    text = spec.read_text()
    blocks = (
        f'visualizer {{ wandb_config {{ enabled: true project: "cells" key: "{SECRET}" tags: "a" }} '
        'clearml_config { task: "first" } mlflow_config { } }'
    )
    spec.write_text(text.replace("training_config {", f"training_config {{ {blocks}", 1))
    config = load_spec(spec, "faster_rcnn").config
    wandb, clearml, mlflow = trackers(config.training_config.visualizer)
    assert (wandb.name, wandb.options["project"], wandb.options["tags"]) == (
        "wandb",
        "cells",
        ("a",),
    )
    assert wandb.options["key"] == SECRET and SECRET not in repr(wandb)
    assert (clearml.name, clearml.options["task"]) == ("clearml", "first")
    assert mlflow == TrackerSettings(name="mlflow", options={})


def test_no_tracker_is_on_by_default(tmp_path):
    config = load_spec(write_tiny(tmp_path), "faster_rcnn").config
    assert trackers(config.training_config.visualizer) == ()
