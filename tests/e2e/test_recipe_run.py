"""A run by a recipe, with AdamW and early stopping on average precision: crashed, resumed, pruned."""

import json

import pytest

from rcnn_jax import api
from rcnn_jax.checkpoints.bundle import read_bundle
from rcnn_jax.cli.main import main
from rcnn_jax.spec.recipes import RECIPES, Ingredient
from rcnn_jax.train import milestones
from tests.e2e import tiny, tiny_mask
from tests.e2e.kills import different, results

# A gain of 2 is beyond every average precision: the first validation is the last gain.
STOPPING = 'early_stopping { monitor: "map" patience: 2 min_delta: 2.0 }'
RECIPE = 'recipe: "small_data"\n'


def write(root):
    spec = tiny.write_tiny(root, epochs=9, training=STOPPING)
    text = spec.read_text()
    for old, new in (
        ("optimizer { sgd { momentum: 0.9 } }", "optimizer { adamw { } } layer_decay: 0.9"),
        ("validation_period_during_training: 2", "validation_period_during_training: 1"),
        ("base_lr: 0.01 start_lr: 0.001", "base_lr: 0.001 start_lr: 0.0001"),
    ):
        assert old in text, old
        text = text.replace(old, new)
    spec.write_text(RECIPE + text)
    return spec


def crash_once(monkeypatch, at):
    """Lets the milestone after `at` steps fail behind its validation, before anything is stored."""

    def fail(milestone, outcome):
        if outcome.progress.step == at:
            raise RuntimeError("the machine is gone")
        return outcome

    monkeypatch.setattr(milestones, "DUTIES", (milestones.validate, fail, *milestones.DUTIES[1:]))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody disturbs."""
    spec = write(tmp_path_factory.mktemp("recipe"))
    return spec, api.train(spec, spec.parent / "whole", devices=1)


def test_average_precision_that_rises_no_more_ends_the_run_and_the_result_says_so(whole):
    spec, result = whole
    assert (result.finished, result.stopped_early, result.step) == (True, True, 9)
    assert [path.name for path in result.models][-1] == "best.tlt"
    folder = spec.parent / "whole"
    recorded = json.loads((folder / "config.json").read_text())["config"]
    assert recorded["training_config"]["ema_decay"] == 0.995
    assert "training_config.ema_decay" in recorded["recipe_fields"]
    assert "recipe_fields" in (folder / "spec.txt").read_text()


def test_a_crashed_run_goes_on_bit_for_bit_by_the_recipe_it_began_with(whole, monkeypatch, capsys):
    spec, _ = whole
    folder = spec.parent / "crashed"
    with monkeypatch.context() as patched:
        crash_once(patched, at=6)
        with pytest.raises(RuntimeError):
            api.train(spec, folder, devices=1)
    later = (Ingredient({"training_config.ema_decay": 0.5, "training_config.bf16": True}),)
    monkeypatch.setitem(RECIPES["small_data"], "faster_rcnn", later)
    assert main(["faster_rcnn", "train", "-e", str(spec), "-d", str(folder), "--gpus", "1"]) == 0
    printed = capsys.readouterr().out
    assert 'recipe "small_data", as it was when this run began, sets' in printed
    assert "early stopping: mAP has not improved for 2 validations; the best" in printed
    assert different(results(folder), results(spec.parent / "whole")) == []


def test_another_recipe_without_a_run_to_go_on_with_is_the_new_one(whole, monkeypatch, capsys):
    spec, _ = whole
    monkeypatch.setitem(
        RECIPES["small_data"], "faster_rcnn", (Ingredient({"training_config.ema_decay": 0.5}),)
    )
    folder = spec.parent / "whole"
    # With the fields of today: other settings than the run there was begun with.
    text = (folder / "spec.txt").read_text()
    (folder / "spec.txt").unlink()
    assert main(["faster_rcnn", "train", "-e", str(spec), "-d", str(folder), "--gpus", "1"]) == 2
    (folder / "spec.txt").write_text(text)
    assert "training_config.ema_decay: 0.995 -> 0.5" in capsys.readouterr().err


def test_a_pruned_model_of_adamw_has_no_state_of_its_optimizer(whole, tmp_path):
    spec, result = whole
    best = result.models[-1]
    assert any("opt_state" in name for name in read_bundle(best, None).arrays)
    pruned = tmp_path / "pruned.tlt"
    api.prune(best, pruned, thresholds=(0.9,))
    assert not any("opt_state" in name for name in read_bundle(pruned, None).arrays)


@pytest.mark.long
def test_a_mask_rcnn_stops_early_with_adamw_and_goes_on_bit_for_bit(tmp_path, monkeypatch):
    spec = tiny_mask.write_tiny(
        tmp_path,
        ("num_epochs: 2", f"num_epochs: 9 adamw {{ weight_decay: 0.01 }} {STOPPING}"),
    )
    spec.write_text(RECIPE + spec.read_text())
    result = api.train(spec, tmp_path / "whole", devices=1)
    assert result.stopped_early
    with monkeypatch.context() as patched:
        crash_once(patched, at=result.step)
        with pytest.raises(RuntimeError):
            api.train(spec, tmp_path / "crashed", devices=1)
    assert api.train(spec, tmp_path / "crashed", devices=1).stopped_early
    assert different(results(tmp_path / "crashed"), results(tmp_path / "whole")) == []
