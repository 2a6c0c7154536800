"""A run that was planned by time: its length is stored, and a resume ends with the same bytes."""

import dataclasses
import json
import shutil

import pytest

from rcnn_jax.checkpoints.bundle import read_bundle
from rcnn_jax.cli.main import main
from rcnn_jax.errors import CheckpointError
from rcnn_jax.reporter import SILENT
from rcnn_jax.spec.load import load_spec
from rcnn_jax.tasks.build import build_experiment
from rcnn_jax.train import course, planning, stopwatch
from rcnn_jax.train.command import train
from rcnn_jax.train.run import TrainOptions
from rcnn_jax.train.time_plan import plan_steps
from tests.e2e.tiny import write_tiny

MORE, FEWER = 17, 4
"""Steps that the time left is worth, whatever machine tests, and that its only correction takes away."""


CHECKPOINT = 30
"""The end of the first epoch after the correction, which is half-way to the planned end."""


def worth(plan, *, left, costs, validations, **rest):
    """Plans as ever, with time for a validation and so many steps."""
    del left, validations
    seconds = (
        costs.milestone + 1.0 + (MORE + 0.5) * (costs.step + costs.save / rest["steps_per_epoch"])
    )
    return plan_steps(plan, left=seconds, costs=costs, validations=1, **rest)


def shorter(plan, *, taken, **rest):
    """Takes some steps away, once."""
    del rest
    if plan.since:
        return plan
    total = plan.total_steps - FEWER
    return dataclasses.replace(plan, total_steps=total, period=total - taken, since=taken)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    root = tmp_path_factory.mktemp("planned")
    spec = write_tiny(root, images=10, epochs=40, training="keep_checkpoints: 100 n_workers: 1")
    experiment = build_experiment(load_spec(spec).config, "faster_rcnn")
    # Mosaics end with a fraction of the run, whose length the first steps do not know.
    augment = dataclasses.replace(
        experiment.augment, mosaic_probability=0.5, mosaic_off=0.3, copy_paste_probability=0.5
    )
    return dataclasses.replace(experiment, augment=augment)


@pytest.fixture(scope="module")
def run(experiment, tmp_path_factory):
    """A planned run from its first step to its end, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stopwatch, "LEAST_SECONDS", 0.0)
        patch.setattr(planning, "plan_steps", worth)
        patch.setattr(course, "corrected", shorter)
        return train(experiment, folder, TrainOptions(minutes=20.0, devices=1)), folder


def test_the_run_ends_where_the_plan_says(run):
    result, folder = run
    assert result.finished
    planned_at = result.step - MORE + FEWER
    assert planned_at == 20  # the end of an epoch of five steps: after its duties
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "evaluate"] == [result.step]
    # The cosine or the steps of the spec are stretched: the last rate is that of the end of the schedule.
    rates = {line["step"]: line["learning_rate"] for line in lines if line["kind"] == "train"}
    assert rates[result.step] == pytest.approx(1e-4)
    assert rates[10] < 0.01


def test_a_resume_goes_on_by_the_corrected_plan_bit_for_bit(run, experiment, tmp_path):
    result, folder = run
    again = tmp_path / "again"
    shutil.copytree(folder, again)
    for path in (again / "checkpoints").iterdir():
        if int(path.name) > CHECKPOINT:
            shutil.rmtree(path)
    for path in again.glob("*.tlt"):
        path.unlink()
    # Without the flag, and on another machine perhaps: nothing is timed again.
    resumed = train(experiment, again, TrainOptions(devices=1), SILENT)
    assert resumed.step == result.step
    assert (again / "metrics.jsonl").read_bytes() == (folder / "metrics.jsonl").read_bytes()
    old, new = (read_bundle(path / "best.tlt", None).arrays for path in (folder, again))
    assert old.keys() == new.keys()
    assert all((old[name] == new[name]).all() for name in old)


def test_a_finished_run_is_not_planned_anew(run, experiment):
    result, folder = run
    again = train(experiment, folder, TrainOptions(minutes=5.0, devices=1), SILENT)
    assert (again.finished, again.step) == (True, result.step)


@pytest.mark.long
def test_a_run_without_a_plan_refuses_one(experiment, tmp_path):
    short = dataclasses.replace(experiment, run=dataclasses.replace(experiment.run, num_epochs=1))
    train(short, tmp_path, TrainOptions(devices=1), SILENT)
    with pytest.raises(CheckpointError, match="began without --minutes"):
        train(short, tmp_path, TrainOptions(minutes=5.0, devices=1), SILENT)


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "inf"])
def test_minutes_that_are_none_are_refused_before_anything_is_written(tmp_path, minutes, capsys):
    spec = write_tiny(tmp_path)
    assert main(["faster_rcnn", "train", "-e", str(spec), f"--minutes={minutes}"]) == 2
    assert "expected more than 0 and less than" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
