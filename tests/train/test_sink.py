"""metrics.jsonl, TensorBoard, the line per epoch; a resumed run leaves the file of a whole one."""

import io
import json

import jax.numpy as jnp
import numpy as np
import pytest
from rcnn_jax.train.logging import MetricLogger, cut_after
from rich.console import Console

from rcnn_jax.train.tables import FASTER_RCNN, MASK_RCNN


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Statuses(list):
    """Remembers what status.json would hold."""

    def __call__(self, status, message, **fields):
        self.append({"status": status, "message": message, **fields})


def make(
    folder,
    *,
    words=MASK_RCNN,
    start=0,
    clock=None,
    terminal=False,
    statuses=None,
    every=2,
    tensorboard=True,
):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=terminal, width=200, soft_wrap=True)
    logger = MetricLogger(
        folder,
        words=words,
        steps_per_epoch=4,
        total_steps=8,
        start_step=start,
        images_per_step=2,
        every_steps=every,
        tensorboard=tensorboard,
        console=console,
        status=statuses if statuses is not None else Statuses(),
        clock=clock or Clock(),
    )
    return logger, screen


def metrics_of(step):
    return {"loss": jnp.float32(1.0 / step), "mask": jnp.float32(0.5), "learning_rate": 0.02}


def take(logger, steps):
    for step in steps:
        logger.step(step, metrics_of(step))
        if step % 4 == 0:
            logger.epoch(step // 4, step, metrics_of(step))


def read(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_every_second_step_and_every_epoch_is_written(tmp_path):
    logger, _ = make(tmp_path)
    with logger:
        take(logger, range(1, 9))
    found = [(line["kind"], line["step"], line["epoch"]) for line in read(tmp_path)]
    assert found == [
        ("train", 2, 1),
        ("train", 4, 1),
        ("epoch", 4, 1),
        ("train", 6, 2),
        ("train", 8, 2),
        ("epoch", 8, 2),
    ]
    assert read(tmp_path)[0]["loss"] == 0.5


def test_a_killed_and_resumed_run_leaves_the_very_same_file(tmp_path):
    logger, _ = make(tmp_path / "whole")
    with logger:
        take(logger, range(1, 9))
    logger, _ = make(tmp_path / "killed")
    take(logger, range(1, 8))  # never closed: as a kill leaves it
    logger.flush()
    with (tmp_path / "killed/metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "ep')
    logger, _ = make(tmp_path / "killed", start=4)
    with logger:
        take(logger, range(5, 9))
    whole = (tmp_path / "whole/metrics.jsonl").read_bytes()
    assert (tmp_path / "killed/metrics.jsonl").read_bytes() == whole


def test_cutting_keeps_lines_up_to_the_step_and_makes_no_file(tmp_path):
    path = tmp_path / "lines.jsonl"
    cut_after(path, 3)
    assert not path.exists()
    path.write_text('{"step": 3}\n{"step": 4}\n{"step": 2}\nnoise\n')
    cut_after(path, 3)
    assert path.read_text() == '{"step": 3}\n{"step": 2}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_cutting_before_a_stop_that_is_due_drops_its_lines_but_not_its_step(tmp_path):
    path = tmp_path / "lines.jsonl"
    train = ['{"step": 2, "kind": "train"}', '{"step": 3, "kind": "train"}']
    epoch = '{"step": 2, "kind": "epoch"}'
    due = ['{"step": 3, "kind": "evaluate"}', '{"step": 3, "kind": "epoch"}']
    path.write_text("\n".join([train[0], epoch, train[1], *due]) + "\n")
    cut_after(path, 3, stop_is_due=True)
    assert path.read_text().splitlines() == [train[0], epoch, train[1]]


def test_a_step_is_read_only_when_the_next_has_been_sent(tmp_path):
    logger, _ = make(tmp_path)
    with logger:
        logger.step(2, metrics_of(2))
        assert read(tmp_path) == []
        logger.step(3, metrics_of(3))
        assert [line["step"] for line in read(tmp_path)] == [2]


def test_a_value_that_is_not_finite_is_written_as_null(tmp_path):
    logger, _ = make(tmp_path)
    with logger:
        logger.evaluation(4, {"AP/cat": float("nan"), "mAP": 0.5})
    line = read(tmp_path)[0]
    assert (line["kind"], line["AP/cat"], line["mAP"]) == ("evaluate", None, 0.5)


def test_mask_rcnn_prints_every_logged_step_and_the_epoch(tmp_path):
    logger, screen = make(tmp_path)
    with logger:
        take(logger, range(1, 5))
    lines = screen.getvalue().splitlines()
    assert lines[0] == (
        "Global step 2 (epoch 1/2): total loss: 0.50000 (mask loss: 0.50000) learning rate: 0.02000"
    )
    assert lines[2].startswith(
        "Epoch 1/2: loss: 0.25000 learning rate: 0.02000 Time taken: 0:00:00"
    )


def test_faster_rcnn_prints_a_step_in_a_pipe_at_most_every_ten_seconds(tmp_path):
    clock = Clock()
    logger, screen = make(tmp_path, words=FASTER_RCNN, clock=clock, every=1)
    with logger:
        for step in range(1, 9):
            clock.now += 4.0
            logger.step(step, metrics_of(step))
    steps = [line.split()[2] for line in screen.getvalue().splitlines()]
    assert steps == ["2", "5"]
    assert "img/s ETA: 0:00:" in screen.getvalue()


def test_faster_rcnn_shows_a_bar_on_a_terminal_instead_of_lines(tmp_path):
    logger, screen = make(tmp_path, words=FASTER_RCNN, terminal=True)
    with logger:
        logger.step(2, metrics_of(2))
        logger.flush()
    assert "epoch 1/2" in screen.getvalue()
    assert "Global step" not in screen.getvalue()


def test_the_epoch_time_leaves_out_what_happened_while_paused(tmp_path):
    clock, statuses = Clock(), Statuses()
    logger, _ = make(tmp_path, clock=clock, statuses=statuses, terminal=True)
    with logger:
        clock.now = 60.0
        with logger.paused():
            clock.now = 1000.0
        logger.epoch(1, 4, metrics_of(4), {"mAP": 0.5})
    (line,) = statuses
    assert (line["status"], line["epoch"], line["max_epoch"]) == ("RUNNING", 1, 2)
    assert (line["time_per_epoch"], line["eta"]) == ("0:01:00", "0:01:00")
    assert line["kpi"] == {"mAP": 0.5}
    assert line["graphical"]["mAP"] == 0.5
    assert line["message"].startswith("Epoch 1/2: loss: 0.25000")


def test_an_epoch_resumed_in_the_middle_is_timed_by_its_own_steps(tmp_path):
    clock, statuses = Clock(), Statuses()
    logger, _ = make(tmp_path, clock=clock, statuses=statuses, start=2)
    with logger:
        clock.now = 30.0
        logger.epoch(1, 4, metrics_of(4))
    assert statuses[0]["time_per_epoch"] == "0:01:00"


def test_tensorboard_receives_scalars_images_and_histograms(tmp_path):
    logger, _ = make(tmp_path)
    with logger:
        take(logger, range(1, 3))
        logger.images(0, "augmented_images", np.zeros((2, 4, 6, 3), np.uint8))
        logger.histograms(2, {"conv1/kernel": np.ones((3, 3))})
    (events,) = (tmp_path / "tensorboard").iterdir()
    content = events.read_bytes()
    for name in (b"train/loss", b"augmented_images/1", b"conv1/kernel", b"images_per_second"):
        assert name in content


def test_without_tensorboard_no_folder_is_made(tmp_path):
    logger, _ = make(tmp_path, tensorboard=False)
    with logger:
        take(logger, range(1, 3))
        logger.images(0, "augmented_images", np.zeros((2, 4, 6, 3), np.uint8))
        logger.histograms(2, {"conv1/kernel": np.ones((3, 3))})
        logger.evaluation(2, {"mAP": 0.5})
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_an_error_closes_the_files_and_keeps_what_was_written(tmp_path):
    logger, _ = make(tmp_path)
    with pytest.raises(ZeroDivisionError), logger:
        take(logger, range(1, 4))
        raise ZeroDivisionError
    assert [line["step"] for line in read(tmp_path)] == [2]


def test_a_run_that_wants_no_tensorboard_gets_none(tmp_path):
    logger = MetricLogger(
        tmp_path,
        words=MASK_RCNN,
        steps_per_epoch=4,
        total_steps=8,
        every_steps=1,
        tensorboard=False,
        console=Console(file=io.StringIO()),
        status=Statuses(),
    )
    with logger:
        take(logger, range(1, 5))
        logger.images(4, "pictures", [np.zeros((2, 2, 3), np.uint8)])
        logger.histograms(4, {"conv": np.ones(3)})
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_line_that_the_disk_refused_is_still_to_be_written(tmp_path):
    logger, _ = make(tmp_path, every=1)
    logger._file.close()
    logger._file = open("/dev/full", "w")  # noqa: PTH123, SIM115
    with pytest.raises(OSError, match="No space left"), logger:
        logger.step(1, metrics_of(1))
        logger.step(2, metrics_of(2))
    assert logger._pending is not None and logger._pending[0] == 1
