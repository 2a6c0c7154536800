"""All writers behind the sink; a resumed run leaves the metrics.jsonl of a whole one."""

import io
import json

import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from rcnn_jax.hosts.team import Team
from rcnn_jax.reporter import SILENT
from rcnn_jax.settings.training import RunSettings
from rcnn_jax.tasks.families import FASTER_RCNN, MASK_RCNN
from rcnn_jax.train.calendar import Milestones
from rcnn_jax.train.sink import MetricSink, open_sink

EIGHT_STEPS = Milestones.of(RunSettings(total_steps=8), 4)


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Listener:
    """A reporter that keeps what it is told."""

    def __init__(self, terminal=False):
        self.screen = io.StringIO()
        self.console = Console(file=self.screen, force_terminal=terminal, width=200, soft_wrap=True)
        self.statuses = []

    def status(self, status, message, **fields):
        self.statuses.append({"status": status, "message": message, **fields})


def make(
    folder, *, detector=MASK_RCNN, start=0, clock=None, terminal=False, every=2, tensorboard=True
):
    reporter = Listener(terminal)
    sink = open_sink(
        folder,
        detector.log,
        EIGHT_STEPS,
        reporter,
        start_step=start,
        images_per_step=2,
        every_steps=every,
        tensorboard=tensorboard,
        clock=clock or Clock(),
    )
    return sink, reporter


def metrics_of(step):
    return {"loss": jnp.float32(1.0 / step), "mask": jnp.float32(0.5), "learning_rate": 0.02}


def take(sink, steps):
    for step in steps:
        sink.step(step, metrics_of(step))
        if step % 4 == 0:
            sink.epoch(step, metrics_of(step))


def read(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_every_second_step_and_every_epoch_is_written(tmp_path):
    sink, _ = make(tmp_path)
    with sink:
        take(sink, range(1, 9))
    positions = [(line["kind"], line["step"], line["epoch"]) for line in read(tmp_path)]
    assert positions == [
        ("train", 2, 1),
        ("train", 4, 1),
        ("epoch", 4, 1),
        ("train", 6, 2),
        ("train", 8, 2),
        ("epoch", 8, 2),
    ]
    assert read(tmp_path)[0]["loss"] == 0.5


def test_a_killed_and_resumed_run_leaves_the_very_same_file(tmp_path):
    sink, _ = make(tmp_path / "whole")
    with sink:
        take(sink, range(1, 9))
    sink, _ = make(tmp_path / "killed")
    take(sink, range(1, 8))  # never closed: as a kill leaves it
    sink.flush()
    with (tmp_path / "killed/metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "ep')
    sink, _ = make(tmp_path / "killed", start=4)
    with sink:
        take(sink, range(5, 9))
    whole = (tmp_path / "whole/metrics.jsonl").read_bytes()
    assert (tmp_path / "killed/metrics.jsonl").read_bytes() == whole


def test_a_step_is_read_only_when_the_next_has_been_sent(tmp_path):
    sink, _ = make(tmp_path)
    with sink:
        sink.step(2, metrics_of(2))
        assert read(tmp_path) == []
        sink.step(3, metrics_of(3))
        assert [line["step"] for line in read(tmp_path)] == [2]


def test_a_value_that_is_not_finite_is_written_as_null(tmp_path):
    sink, _ = make(tmp_path)
    with sink:
        sink.evaluation(4, {"AP/cat": float("nan"), "mAP": 0.5})
    line = read(tmp_path)[0]
    assert (line["kind"], line["AP/cat"], line["mAP"]) == ("evaluate", None, 0.5)


def test_mask_rcnn_prints_every_logged_step_and_the_epoch(tmp_path):
    sink, reporter = make(tmp_path)
    with sink:
        take(sink, range(1, 5))
    lines = reporter.screen.getvalue().splitlines()
    assert lines[0] == (
        "Global step 2 (epoch 1/2): total loss: 0.50000 (mask loss: 0.50000) learning rate: 0.02000"
    )
    assert lines[2].startswith(
        "Epoch 1/2: loss: 0.25000 learning rate: 0.02000 Time taken: 0:00:00"
    )


def test_faster_rcnn_prints_a_step_in_a_pipe_at_most_every_ten_seconds(tmp_path):
    clock = Clock()
    sink, reporter = make(tmp_path, detector=FASTER_RCNN, clock=clock, every=1)
    with sink:
        for step in range(1, 9):
            clock.now += 4.0
            sink.step(step, metrics_of(step))
    steps = [line.split()[2] for line in reporter.screen.getvalue().splitlines()]
    assert steps == ["2", "5"]
    assert "img/s ETA: 0:00:" in reporter.screen.getvalue()


def test_faster_rcnn_shows_a_bar_on_a_terminal_instead_of_lines(tmp_path):
    sink, reporter = make(tmp_path, detector=FASTER_RCNN, terminal=True)
    with sink:
        sink.step(2, metrics_of(2))
        sink.flush()
    assert "epoch 1/2" in reporter.screen.getvalue()
    assert "Global step" not in reporter.screen.getvalue()


def test_the_epoch_time_leaves_out_what_happened_while_paused(tmp_path):
    clock = Clock()
    sink, reporter = make(tmp_path, clock=clock, terminal=True)
    with sink:
        clock.now = 60.0
        with sink.paused():
            clock.now = 1000.0
        sink.epoch(4, metrics_of(4), {"mAP": 0.5})
    (line,) = reporter.statuses
    assert (line["status"], line["epoch"], line["max_epoch"]) == ("RUNNING", 1, 2)
    assert (line["time_per_epoch"], line["eta"]) == ("0:01:00", "0:01:00")
    assert line["kpi"] == {"mAP": 0.5}
    assert line["graphical"]["mAP"] == 0.5
    assert line["message"].startswith("Epoch 1/2: loss: 0.25000")


def test_an_epoch_resumed_in_the_middle_is_timed_by_its_own_steps(tmp_path):
    clock = Clock()
    sink, reporter = make(tmp_path, clock=clock, start=2)
    with sink:
        clock.now = 30.0
        sink.epoch(4, metrics_of(4))
    assert reporter.statuses[0]["time_per_epoch"] == "0:01:00"


def test_tensorboard_receives_scalars_images_and_histograms(tmp_path):
    sink, _ = make(tmp_path)
    with sink:
        take(sink, range(1, 3))
        sink.images(0, "augmented_images", np.zeros((2, 4, 6, 3), np.uint8))
        sink.histograms(2, {"conv1/kernel": np.ones((3, 3))})
    (events,) = (tmp_path / "tensorboard").iterdir()
    content = events.read_bytes()
    for name in (b"train/loss", b"augmented_images/1", b"conv1/kernel", b"images_per_second"):
        assert name in content


def test_without_tensorboard_no_folder_is_made(tmp_path):
    sink, _ = make(tmp_path, tensorboard=False)
    with sink:
        take(sink, range(1, 3))
        sink.images(0, "augmented_images", np.zeros((2, 4, 6, 3), np.uint8))
        sink.histograms(2, {"conv1/kernel": np.ones((3, 3))})
        sink.evaluation(2, {"mAP": 0.5})
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_an_error_closes_the_files_and_keeps_what_was_written(tmp_path):
    sink, _ = make(tmp_path)
    with pytest.raises(ZeroDivisionError), sink:
        take(sink, range(1, 4))
        raise ZeroDivisionError
    assert [line["step"] for line in read(tmp_path)] == [2]


def test_a_line_that_the_disk_refused_is_still_to_be_written(tmp_path):
    sink, _ = make(tmp_path, every=1)
    ledger = sink._ledger
    ledger._file.close()
    ledger._file = open("/dev/full", "w")  # noqa: PTH123, SIM115
    with pytest.raises(OSError, match="No space left"), sink:
        sink.step(1, metrics_of(1))
        sink.step(2, metrics_of(2))
    assert sink._unread is not None and sink._unread[0] == 1


def test_a_process_that_is_not_the_chief_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("rcnn_jax.train.sink.team", lambda: Team(1, 2))
    sink, reporter = make(tmp_path / "run")
    with sink:
        take(sink, range(1, 9))
        sink.images(8, "pictures", iter(()))
    assert not (tmp_path / "run").exists()
    assert (reporter.screen.getvalue(), reporter.statuses) == ("", [])


def test_a_silent_run_shows_no_bar_even_where_colour_is_forced(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with open_sink(tmp_path, MASK_RCNN.log, EIGHT_STEPS, SILENT) as sink:
        take(sink, range(1, 9))
    assert "".join(capfd.readouterr()) == ""


def test_a_sink_without_writers_takes_everything():
    with MetricSink(None, (), EIGHT_STEPS, every_steps=1) as sink:
        take(sink, range(1, 9))
        with sink.paused():
            sink.evaluation(8, {"mAP": 0.5})
