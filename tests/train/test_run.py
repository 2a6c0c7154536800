"""A run before its first step: what is opened, checked and derived from spec, data and devices."""

import dataclasses
import re
from pathlib import Path

import jax.numpy as jnp
import pytest

from rcnn_jax import train
from rcnn_jax.data.loader.repeats import describe, expected_draws, repeat_factors
from rcnn_jax.errors import DataError
from rcnn_jax.reporter import SILENT
from rcnn_jax.settings.data import TilingSettings
from rcnn_jax.spec.load import load_spec
from rcnn_jax.tasks.build import build_experiment
from rcnn_jax.train.run import TrainOptions, open_run, planned
from rcnn_jax.train.time_plan import MOST_STEPS, TimePlan
from tests.e2e.tiny import write_tiny
from tests.train.listener import Listener

IMAGES = 6


def experiment_of(spec: Path):
    return build_experiment(load_spec(spec).config, "faster_rcnn")


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    return experiment_of(write_tiny(tmp_path_factory.mktemp("data"), images=IMAGES))


def opened(experiment, workdir, **options):
    return open_run(experiment, workdir, TrainOptions(**{"devices": 1, **options}), SILENT)


def changed(experiment, **fields):
    return dataclasses.replace(experiment, run=dataclasses.replace(experiment.run, **fields))


def test_steps_follow_from_images_and_batch(experiment, tmp_path):
    run = opened(experiment, tmp_path)
    steps = IMAGES // experiment.batch_per_device
    assert run.global_batch == experiment.batch_per_device
    assert run.milestones.steps_per_epoch == steps
    assert run.milestones.total_steps == steps * experiment.run.num_epochs
    assert run.written == run.milestones and run.workdir == tmp_path


def test_more_devices_and_parts_make_the_batch_larger(experiment, tmp_path):
    run = opened(changed(experiment, accumulate_steps=2), tmp_path, devices=3)
    assert run.global_batch == 6 * experiment.batch_per_device
    assert run.layout == {"devices": 3, "processes": 1, "data_parallel": "shard_map"}


@pytest.mark.parametrize(
    ("by_spec", "by_flag", "factor"),
    [("devices", None, 3), ("none", None, 1), ("devices", "none", 1), ("none", "linear", 6)],
)
def test_the_rate_is_scaled_by_the_flag_before_the_spec(
    experiment, tmp_path, by_spec, by_flag, factor
):
    run = opened(
        changed(experiment, accumulate_steps=2, lr_scaling=by_spec),
        tmp_path,
        devices=3,
        scale_lr=by_flag,
    )
    assert run.rate_scale == factor
    step = jnp.int32(1)
    alone = opened(changed(experiment, accumulate_steps=2, lr_scaling="none"), tmp_path)
    assert float(run.schedule(step)) == pytest.approx(factor * float(alone.schedule(step)))


def test_a_resume_compares_what_changes_every_step_and_nothing_else(experiment, tmp_path):
    one = opened(experiment, tmp_path).fingerprint
    assert (
        opened(changed(experiment, num_epochs=9, keep_checkpoints=7), tmp_path).fingerprint == one
    )
    for options in ({"use_amp": True}, {"devices": 2}, {"scale_lr": "linear"}):
        assert opened(experiment, tmp_path, **options).fingerprint != one


def test_opening_writes_no_file(experiment, tmp_path):
    opened(experiment, tmp_path, fresh=True)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_data_and_anchors_are_reported(experiment, tmp_path):
    listener = Listener()
    open_run(experiment, tmp_path, TrainOptions(devices=1), listener)
    assert "training" in listener.screen.getvalue() and "disc" in listener.screen.getvalue()
    assert any("anchors" in note for note in listener.notes)


def test_a_damaged_label_ends_the_run_before_the_earlier_one_is_touched(tmp_path):
    damaged = experiment_of(write_tiny(tmp_path / "data", images=IMAGES))
    label = next((tmp_path / "data").rglob("labels/*.txt"))
    label.write_text("disc 0 0 0 ten 10 20 20 0 0 0 0 0 0 0\n")
    workdir = tmp_path / "out"
    kept = workdir / "best.tlt"
    workdir.mkdir()
    kept.write_bytes(b"of an earlier run")
    with pytest.raises(DataError, match=label.name):
        opened(damaged, workdir, fresh=True)
    assert kept.read_bytes() == b"of an earlier run"


def test_a_run_without_a_time_plan_stays_as_it_is(experiment, tmp_path):
    run = opened(experiment, tmp_path)
    assert planned(run, None) is run


def test_until_its_steps_are_timed_a_planned_run_has_no_end_within_reach(experiment, tmp_path):
    run = planned(opened(experiment, tmp_path), TimePlan(minutes=5.0, written_steps=90))
    assert run.written.total_steps == 90
    assert run.milestones.total_steps == max(90, 2 * MOST_STEPS)
    assert (run.milestones.evaluate_every, run.milestones.save_every) == (0, 0)


def test_a_planned_run_has_the_length_and_the_period_of_its_plan(experiment, tmp_path):
    plan = TimePlan(minutes=5.0, written_steps=90, total_steps=40, period=10)
    run = planned(opened(experiment, tmp_path), plan)
    assert (run.milestones.total_steps, run.milestones.save_every) == (40, 10)
    assert run.milestones.evaluate_every == (10 if run.written.evaluate_every else 0)
    # The learning rate stays a function of the length that the spec states.
    assert run.written.total_steps == 90


def test_the_order_in_which_the_files_of_training_are_read_names_each_once():
    named = re.findall(r"^    (\w+) +\S", train.__doc__ or "", re.MULTILINE)
    folder = Path(train.__path__[0])
    modules = sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
    assert sorted(named) == modules


def test_repeats_make_an_epoch_longer_and_are_told(experiment, tmp_path):
    listener = Listener()
    repeating = dataclasses.replace(experiment, repeat_threshold=1.0)
    run = open_run(repeating, tmp_path, TrainOptions(devices=1), listener)
    factors = repeat_factors(run.source, 1.0)
    assert factors is not None  # the classes of synthetic images are not all in every image
    images = expected_draws(factors, IMAGES)
    assert images > IMAGES
    assert run.milestones.steps_per_epoch == -(-images // experiment.batch_per_device)
    assert describe(factors) in listener.notes


def test_tiles_are_the_images_of_a_run_and_its_data_are_the_files(experiment, tmp_path):
    cut = dataclasses.replace(experiment, tiling=TilingSettings(size=64, overlap=0.2))
    run, whole = opened(cut, tmp_path / "cut"), opened(experiment, tmp_path / "whole")
    assert len(run.source) == 4 * IMAGES == 4 * len(whole.source)
    assert run.milestones.steps_per_epoch == 4 * whole.milestones.steps_per_epoch
    assert run.data == whole.data
