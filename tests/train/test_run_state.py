import json

from rcnn_jax.train.run_state import RunState
from rcnn_jax.train.time_plan import TimePlan


def test_progress_survives_json():
    progress = RunState(run_id="a", step=7, best_metric=0.5, best_step=5, best_loss=1.25)
    assert RunState.from_json(json.loads(json.dumps(progress.to_json()))) == progress


def test_fields_of_a_later_version_are_passed_over():
    assert RunState.from_json({"run_id": "a", "step": 3, "colour": "red"}).step == 3


def test_loss_must_improve_by_more_than_min_delta():
    progress = RunState(run_id="a").after_epoch(1.0, 0.1)
    assert (progress.best_loss, progress.epochs_without_gain) == (1.0, 0)
    progress = progress.after_epoch(0.95, 0.1)
    assert (progress.best_loss, progress.epochs_without_gain) == (1.0, 1)
    progress = progress.after_epoch(0.8, 0.1)
    assert (progress.best_loss, progress.epochs_without_gain) == (0.8, 0)


def test_first_of_equal_metrics_stays_the_best():
    progress = RunState(run_id="a").after_evaluation(0.5, 10).after_evaluation(0.5, 20)
    assert (progress.best_metric, progress.best_step) == (0.5, 10)
    assert progress.after_evaluation(0.6, 30).best_step == 30


def test_the_key_of_a_pending_milestone_is_the_one_of_earlier_versions():
    progress = RunState(run_id="a", pending=True)
    assert progress.to_json()["due"] is True
    assert RunState.from_json({"run_id": "a", "due": True}) == progress


def test_a_time_plan_survives_and_runs_of_before_have_none():
    plan = TimePlan(minutes=2.0, written_steps=100, total_steps=73, period=25)
    progress = RunState(run_id="a", step=20, plan=plan)
    assert RunState.from_json(json.loads(json.dumps(progress.to_json()))) == progress
    old = {name: value for name, value in RunState(run_id="a").to_json().items() if name != "plan"}
    assert RunState.from_json(old).plan is None


def test_a_gain_that_counts_is_more_than_the_best_that_is_kept():
    progress = RunState(run_id="a")
    seen = []
    for step, metric in enumerate((0.50, 0.52, 0.54, 0.56, 0.4), start=1):
        progress = progress.after_evaluation(metric, step, 0.05)
        seen.append((progress.best_step, progress.validations_without_gain))
    # 0.52 and 0.54 are better models and no gain; 0.56 is one over 0.50, not over the model before it.
    assert seen == [(1, 0), (2, 1), (3, 2), (4, 0), (4, 1)]
    assert progress.watched_metric == 0.56
    assert RunState.from_json(json.loads(json.dumps(progress.to_json()))) == progress


def test_a_metric_that_is_no_number_is_no_gain_and_never_the_best():
    progress = RunState(run_id="a").after_evaluation(float("nan"), 1)
    assert (progress.best_metric, progress.validations_without_gain) == (None, 1)
    progress = progress.after_evaluation(0.1, 2).after_evaluation(float("nan"), 3)
    assert (progress.best_step, progress.watched_metric) == (2, 0.1)
    assert progress.validations_without_gain == 1
