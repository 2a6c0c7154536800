import json

from rcnn_jax.train.run_state import RunState


def test_memory_survives_json():
    memory = RunState(run_id="a", step=7, best_metric=0.5, best_step=5, best_loss=1.25)
    assert RunState.from_json(json.loads(json.dumps(memory.to_json()))) == memory


def test_fields_of_a_later_version_are_passed_over():
    assert RunState.from_json({"run_id": "a", "step": 3, "colour": "red"}).step == 3


def test_loss_must_improve_by_more_than_min_delta():
    memory = RunState(run_id="a").after_epoch(1.0, 0.1)
    assert (memory.best_loss, memory.epochs_without_gain) == (1.0, 0)
    memory = memory.after_epoch(0.95, 0.1)
    assert (memory.best_loss, memory.epochs_without_gain) == (1.0, 1)
    memory = memory.after_epoch(0.8, 0.1)
    assert (memory.best_loss, memory.epochs_without_gain) == (0.8, 0)


def test_first_of_equal_metrics_stays_the_best():
    memory = RunState(run_id="a").after_evaluation(0.5, 10).after_evaluation(0.5, 20)
    assert (memory.best_metric, memory.best_step) == (0.5, 10)
    assert memory.after_evaluation(0.6, 30).best_step == 30
