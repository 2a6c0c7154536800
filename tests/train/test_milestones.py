"""The duties of a milestone one by one, on a real run of a tiny network that takes no step."""

import dataclasses
import json
import signal

import jax
import numpy as np
import pytest

from rcnn_jax.checkpoints.bundle import read_bundle
from rcnn_jax.errors import CheckpointError
from rcnn_jax.interrupt import Interrupts, Stopped
from rcnn_jax.spec.load import load_spec
from rcnn_jax.tasks.build import build_experiment
from rcnn_jax.tasks.families import family
from rcnn_jax.train import milestones
from rcnn_jax.train.lock import LOCK_FILE, held
from rcnn_jax.train.milestones import Milestone, Outcome
from rcnn_jax.train.run import TrainOptions, open_run
from rcnn_jax.train.run_state import RunState
from rcnn_jax.train.sink import open_sink
from rcnn_jax.train.step import init_state
from tests.e2e.tiny import write_tiny
from tests.models.tiny import random_variables
from tests.train.listener import Listener

KEY = "the key"
STEPS = 2  # of an epoch, of which the run has two


class Scores:
    """Stands for a validation, which would compile the network."""

    def __init__(self, metric=0.5):
        self.metric = metric
        self.steps = []

    def __call__(self, variables, step):
        self.steps.append(step)
        return {"mAP": self.metric, "AP/disc": self.metric}

    def pictures(self, variables, count, draw):
        for _ in range(count):
            yield draw(np.zeros((4, 4, 3), np.uint8), None, (), captions=True, masks=True)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    spec = write_tiny(tmp_path_factory.mktemp("data"), images=4)
    return build_experiment(load_spec(spec).config, "faster_rcnn")


@pytest.fixture(scope="module")
def state(experiment):
    """As the last step of an epoch leaves it: two steps with losses that add up to 3."""
    variables = random_variables(experiment.task.model, seed=1)
    fresh = init_state(experiment.task, variables, experiment.optimizer, lambda step: 0.1, 0)
    sums = {name: np.array([3.0, 2.0], np.float32) for name in fresh.epoch_sums}
    return jax.tree.map(np.asarray, fresh).replace(step=np.int32(STEPS), epoch_sums=sums)


@pytest.fixture
def milestone(experiment, state, tmp_path):
    return make(experiment, state, tmp_path)


def make(experiment, state, workdir, *, validate=None, **options):
    """A milestone of an opened run."""
    reporter = Listener()
    run = open_run(experiment, workdir, TrainOptions(key=KEY, devices=1, **options), reporter)
    assert (run.milestones.steps_per_epoch, run.milestones.total_steps) == (STEPS, 2 * STEPS)
    run = dataclasses.replace(run, validate=validate or Scores())
    log = family("faster_rcnn").log
    sink = open_sink(run.workdir, log, run.milestones, reporter, every_steps=1)
    return Milestone(run=run, state=state, sink=sink, signals=Interrupts())


def after(step, metrics=None, **progress):
    return Outcome(progress=RunState(run_id="a", step=step, **progress), metrics=metrics)


def lines(milestone):
    path = milestone.run.workdir / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_validate_scores_where_a_validation_is_due_and_remembers_the_best(milestone):
    for step in (1, STEPS):  # the tiny spec validates every second epoch
        outcome = after(step)
        assert milestones.validate(milestone, outcome) is outcome
    outcome = milestones.validate(milestone, after(2 * STEPS, pending=True))
    assert (outcome.progress.best_metric, outcome.progress.best_step) == (0.5, 2 * STEPS)
    assert outcome.metrics == {"mAP": 0.5, "AP/disc": 0.5}
    assert outcome.progress.pending
    assert [(line["kind"], line["mAP"]) for line in lines(milestone)] == [("evaluate", 0.5)]


def test_validate_scores_the_epoch_that_ends_a_run_early(experiment, state, tmp_path):
    impatient = dataclasses.replace(experiment.run, patience=1)
    milestone = make(dataclasses.replace(experiment, run=impatient), state, tmp_path)
    outcome = milestones.validate(milestone, after(STEPS, best_loss=1.0))
    assert outcome.metrics is not None
    assert milestones.validate(milestone, after(STEPS, best_loss=2.0)).metrics is None


def test_a_signal_that_waited_ends_a_validation_before_it_begins(milestone):
    milestone.signals.postponed = True
    milestone.signals(signal.SIGTERM, None)
    with pytest.raises(Stopped):
        milestones.validate(milestone, after(2 * STEPS))
    assert milestone.run.validate.steps == []


def test_show_detections_draws_after_a_validation_where_the_spec_asks(experiment, state, tmp_path):
    drawn = []

    def draw(image, detections, class_names, *, captions, masks):
        drawn.append(image)
        return image

    shown = dataclasses.replace(experiment.run, detections_in_tensorboard=2, tensorboard=True)
    experiment = dataclasses.replace(experiment, run=shown)
    milestone = make(experiment, state, tmp_path, draw=draw)
    with milestone.sink:
        milestones.show_detections(milestone, after(STEPS))
        assert drawn == []
        milestones.show_detections(milestone, after(STEPS, {"mAP": 0.5}))
    assert len(drawn) == 2
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"validation/1" in events.read_bytes()


def test_close_epoch_logs_the_means_and_counts_epochs_without_gain(milestone):
    middle = after(1)
    assert milestones.close_epoch(milestone, middle) is middle
    outcome = milestones.close_epoch(milestone, after(STEPS))
    assert outcome.progress.best_loss == 1.5
    outcome = milestones.close_epoch(milestone, after(2 * STEPS, best_loss=1.5))
    assert outcome.progress.epochs_without_gain == 1
    first, second = lines(milestone)
    assert (first["kind"], first["step"], first["loss"]) == ("epoch", STEPS, 1.5)
    assert first["learning_rate"] == pytest.approx(
        float(milestone.run.schedule(np.int32(STEPS - 1)))
    )
    assert second["step"] == 2 * STEPS


def test_average_precision_without_gain_ends_a_run_and_names_the_best(experiment, state, tmp_path):
    watching = dataclasses.replace(
        experiment.run, monitor="map", patience=2, min_delta=0.1, evaluate_epochs=1
    )
    scores = Scores(0.5)
    experiment = dataclasses.replace(experiment, run=watching)
    milestone = make(experiment, state, tmp_path, validate=scores)
    outcome, ends = after(STEPS, pending=True), []
    for metric in (0.5, 0.55, 0.52):
        scores.metric = metric
        outcome = milestones.validate(milestone, dataclasses.replace(outcome, metrics=None))
        outcome = milestones.decide_end(milestone, outcome)
        ends.append((outcome.progress.finished, outcome.progress.stopped_early))
    assert ends == [(False, False), (False, False), (True, True)]
    assert outcome.progress.best_metric == 0.55
    (note,) = [note for note in milestone.run.reporter.notes if "early stopping" in note]
    assert note == (
        "early stopping: mAP has not improved for 2 validations; the best, 0.5500, is that of step 2"
    )
    # The loss has no say: epochs without a gain do not end it.
    stale = after(STEPS, epochs_without_gain=9)
    assert not milestones.decide_end(milestone, stale).progress.finished


def test_patience_of_nothing_never_ends_a_run(experiment, state, tmp_path):
    for monitor in ("loss", "map"):
        never = dataclasses.replace(experiment.run, monitor=monitor, patience=0)
        milestone = make(dataclasses.replace(experiment, run=never), state, tmp_path / monitor)
        stale = after(STEPS, epochs_without_gain=99, validations_without_gain=99)
        assert not milestones.decide_end(milestone, stale).progress.finished


def test_decide_end_ends_a_run_at_its_length_or_without_gain(experiment, state, tmp_path):
    impatient = dataclasses.replace(experiment.run, patience=1)
    milestone = make(dataclasses.replace(experiment, run=impatient), state, tmp_path)
    for outcome, finished in (
        (after(STEPS, pending=True), False),
        (after(2 * STEPS, pending=True), True),
        (after(STEPS, pending=True, epochs_without_gain=1), True),
    ):
        progress = milestones.decide_end(milestone, outcome).progress
        assert (progress.finished, progress.pending) == (finished, False)
    assert [note for note in milestone.run.reporter.notes if "early stopping" in note] == [
        "early stopping: the loss has not improved for 1 epochs"
    ]


def test_write_model_writes_where_the_interval_or_the_end_asks(milestone, tmp_path):
    milestones.write_model(milestone, after(1))
    assert not list(tmp_path.glob("*.tlt"))
    milestones.write_model(milestone, after(1, finished=True))  # stopped early
    milestones.write_model(milestone, after(2 * STEPS, finished=True))
    assert sorted(path.name for path in tmp_path.glob("*.tlt")) == [
        "tiny.epoch1.tlt",
        "tiny.epoch2.tlt",
    ]
    header = read_bundle(tmp_path / "tiny.epoch2.tlt", KEY).header
    assert header["run_state"] == after(2 * STEPS, finished=True).progress.to_json()
    assert header["spec"] == milestone.run.experiment.spec.text


def test_write_best_model_writes_after_the_best_validation_only(milestone, tmp_path):
    for outcome in (after(STEPS), after(STEPS, {"mAP": 0.25}, best_step=1, best_metric=0.5)):
        milestones.write_best_model(milestone, outcome)
        assert not (tmp_path / "best.tlt").exists()
    milestones.write_best_model(milestone, after(STEPS, {"mAP": 0.5}, best_step=STEPS))
    assert (tmp_path / "best.tlt").exists()


def test_leave_best_model_gives_a_run_without_validation_its_last_model(milestone, tmp_path):
    milestones.leave_best_model(milestone, after(STEPS))
    assert not (tmp_path / "best.tlt").exists()
    milestones.leave_best_model(milestone, after(2 * STEPS, finished=True))
    assert (tmp_path / "best.tlt").exists()
    assert (
        f"{tmp_path / 'best.tlt'}: step {2 * STEPS}, the last one: there was no validation to choose by"
    ) in milestone.run.reporter.screen.getvalue()


def test_store_checkpoint_stores_what_a_resume_compares(milestone):
    outcome = after(STEPS, best_step=STEPS, best_metric=0.5)
    milestones.store_checkpoint(milestone, outcome)
    stored = milestone.run.store.latest_run_state()
    assert RunState.from_json(stored["run"]) == outcome.progress
    assert stored["fingerprint"] == milestone.run.fingerprint
    assert stored["data"] == milestone.run.data.summary()


def test_the_duties_end_with_the_checkpoint_and_nothing_pending(milestone, tmp_path):
    assert milestones.DUTIES[-1] is milestones.store_checkpoint
    progress = milestones.run_milestone(milestone, after(2 * STEPS, pending=True).progress)
    assert progress.finished and not progress.pending and progress.best_step == 2 * STEPS
    assert milestone.run.store.latest_run_state()["run"] == progress.to_json()
    assert {path.name for path in tmp_path.glob("*.tlt")} == {"tiny.epoch2.tlt", "best.tlt"}
    assert [line["kind"] for line in lines(milestone)] == ["evaluate", "epoch"]


def test_nothing_is_written_in_a_folder_that_another_process_took_over(experiment, state, tmp_path):
    with held(tmp_path, "train", print) as lock:
        milestone = make(experiment, state, tmp_path, lock=lock)
        (tmp_path / LOCK_FILE).write_text("{}")
        for duty in (milestones.write_model, milestones.store_checkpoint):
            with pytest.raises(CheckpointError, match="no longer holds its folder"):
                duty(milestone, after(2 * STEPS, finished=True))
    assert not list(tmp_path.glob("*.tlt"))
    assert milestone.run.store.all_steps() == []
