"""Writers of metrics: what each writes of a record, and what a resume cuts off."""

import json

import numpy as np

from rcnn_jax.tasks.families import MASK_RCNN
from rcnn_jax.train.tables import duration
from rcnn_jax.train.writers import (
    JsonLines,
    MetricWriter,
    Record,
    StatusLines,
    cut_after,
    last_validation,
)


def read(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_cutting_keeps_lines_up_to_the_step_and_makes_no_file(tmp_path):
    path = tmp_path / "lines.jsonl"
    cut_after(path, 3)
    assert not path.exists()
    path.write_text('{"step": 3}\n{"step": 4}\n{"step": 2}\nnoise\n')
    cut_after(path, 3)
    assert path.read_text() == '{"step": 3}\n{"step": 2}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_cutting_before_a_pending_milestone_drops_its_lines_but_not_its_step(tmp_path):
    path = tmp_path / "lines.jsonl"
    train = ['{"step": 2, "kind": "train"}', '{"step": 3, "kind": "train"}']
    epoch = '{"step": 2, "kind": "epoch"}'
    later = ['{"step": 3, "kind": "evaluate"}', '{"step": 3, "kind": "epoch"}']
    path.write_text("\n".join([train[0], epoch, train[1], *later]) + "\n")
    cut_after(path, 3, pending=True)
    assert path.read_text().splitlines() == [train[0], epoch, train[1]]


def test_the_last_validation_is_read_back(tmp_path):
    assert last_validation(tmp_path / "metrics.jsonl") == {}
    writer = JsonLines(tmp_path / "metrics.jsonl", start_step=0, pending=False)
    writer.write(record("evaluate", 4, values={"mAP": 0.25}))
    writer.write(record("evaluate", 8, values={"mAP": 0.5, "AP/cat": float("nan")}))
    writer.write(record("train", 8))
    writer.close()
    metrics = last_validation(tmp_path / "metrics.jsonl")
    assert metrics["mAP"] == 0.5 and np.isnan(metrics["AP/cat"]) and len(metrics) == 2


def record(kind="train", step=4, **changes):
    fields = {
        "kind": kind,
        "step": step,
        "epoch": 1,
        "epochs": 2,
        "values": {"loss": 0.5, "learning_rate": 0.02},
        "seconds": 60.0,
    }
    return Record(**{**fields, **changes})


def test_metrics_jsonl_holds_nothing_that_depends_on_the_clock(tmp_path):
    writer = JsonLines(tmp_path / "run" / "metrics.jsonl", start_step=0, pending=False)
    writer.write(record(images_per_second=12.5))
    writer.write(record("epoch", values={"loss": float("inf")}))
    writer.close()
    assert read(tmp_path / "run") == [
        {"step": 4, "epoch": 1, "kind": "train", "loss": 0.5, "learning_rate": 0.02},
        {"step": 4, "epoch": 1, "kind": "epoch", "loss": None},
    ]


def test_every_line_is_handed_to_the_system_at_once(tmp_path):
    writer = JsonLines(tmp_path / "metrics.jsonl", start_step=0, pending=False)
    writer.write(record())
    assert len(read(tmp_path)) == 1, "a kill loses none of a saved step"
    writer.close()


class Listener:
    """A reporter that keeps its statuses."""

    def __init__(self):
        self.statuses = []

    def status(self, status, message, **fields):
        self.statuses.append((status, message, fields))


def test_status_lines_are_those_of_epochs_with_the_time_that_is_left():
    listener = Listener()
    writer = StatusLines(listener, MASK_RCNN.log)
    writer.write(record())
    writer.write(record("epoch", validation={"AP": 0.25}))
    ((status, _, fields),) = listener.statuses
    assert status == "RUNNING" and (fields["epoch"], fields["max_epoch"]) == (1, 2)
    assert fields["eta"] == fields["time_per_epoch"] == duration(60.0)
    assert fields["kpi"] == {"AP": 0.25} and fields["graphical"]["AP"] == 0.25


def test_a_writer_without_a_use_for_pictures_does_not_make_them(tmp_path):
    def pictures():
        raise AssertionError("the model would run")
        yield

    writer = JsonLines(tmp_path / "metrics.jsonl", start_step=0, pending=False)
    for each in (writer, MetricWriter(), StatusLines(Listener(), MASK_RCNN.log)):
        each.images(1, "detections", pictures())
        each.close()


def test_the_base_takes_everything_and_writes_nothing(tmp_path):
    writer = MetricWriter()
    writer.start()
    writer.write(record())
    writer.advance(1, 1, 2)
    writer.pause()
    writer.resume()
    writer.histograms(1, {"a": np.zeros(3)})
    writer.close()
    assert list(tmp_path.iterdir()) == []
