"""Specs of retraining: what both detectors change, and that the first spec stays as it is."""

from pathlib import Path

import pytest

from rcnn_jax.spec.load import parse_spec
from rcnn_jax.spec.render import render
from rcnn_jax.tasks.build import build_experiment
from rcnn_jax.tasks.families import family
from rcnn_jax.tasks.retraining import PRUNED, QUANTISED, Recipe, Retraining
from tests.e2e import tiny, tiny_mask

WRITERS = {"faster_rcnn": tiny.write_tiny, "mask_rcnn": tiny_mask.write_tiny}


@pytest.fixture(params=WRITERS)
def first(request, tmp_path):
    """(kind, config of a first training)."""
    spec = WRITERS[request.param](tmp_path)
    return request.param, parse_spec(spec.read_text(), "spec", request.param, "train").config


@pytest.mark.parametrize("recipe", [PRUNED, QUANTISED])
def test_a_retraining_is_shorter_without_penalty_and_has_its_model(first, recipe):
    kind, config = first
    before = render(config, kind)
    plan = Retraining(
        model=Path("pruned.tlt"), recipe=recipe, qat=recipe is QUANTISED, teacher=Path("whole.tlt")
    )
    changed = family(kind).retrain(config, plan)
    assert render(config, kind) == before
    text = render(changed, kind)
    again = parse_spec(text, "spec", kind, "train").config  # a spec that the checks accept
    old, new = build_experiment(config, kind), build_experiment(again, kind)
    assert new.start.pruned == "pruned.tlt"
    assert not (new.start.pretrained or new.start.resume_from)
    assert new.teacher is not None
    assert new.teacher.model == "whole.tlt"
    assert new.task.loss_weights["imitate_features"] == 1.0
    assert (new.qat is not None) == plan.qat
    assert new.optimizer.l1 == new.optimizer.l2 == 0
    lengths = [run.num_epochs or run.total_steps for run in (old.run, new.run)]
    assert lengths[1] == max(1, round(lengths[0] * recipe.length))
    rate = "init_lr" if kind == "mask_rcnn" else "base_lr"
    assert getattr(new.schedule, rate) == pytest.approx(getattr(old.schedule, rate) * recipe.rate)


def test_boundaries_of_a_mask_rcnn_move_with_its_length(tmp_path):
    spec = tiny_mask.write_tiny(tmp_path)
    config = parse_spec(spec.read_text(), "spec", "mask_rcnn", "train").config
    config.num_epochs, config.total_steps, config.warmup_steps = None, 100, 20
    config.learning_rate_steps = (60, 80)
    plan = Retraining(model=Path("a.tlt"), recipe=Recipe(length=0.5, rate=1.0))
    changed = family("mask_rcnn").retrain(config, plan)
    assert changed.total_steps == 50
    assert changed.warmup_steps == 10
    assert tuple(changed.learning_rate_steps) == (30, 40)
    assert changed.num_steps_per_eval <= 50


@pytest.mark.parametrize(
    ("kind", "block"), [("faster_rcnn", "optimizer { adamw { } }"), ("mask_rcnn", "adamw { }")]
)
def test_a_retraining_by_adamw_has_no_decay(tmp_path, kind, block):
    text = WRITERS[kind](tmp_path).read_text()
    text += f"training_config {{ {block} }}" if kind == "faster_rcnn" else block
    config = parse_spec(text, "spec", kind, "train").config
    assert build_experiment(config, kind).optimizer.weight_decay == 0.05
    changed = family(kind).retrain(config, Retraining(model=Path("a.tlt"), recipe=PRUNED))
    optimizer = build_experiment(changed, kind).optimizer
    assert (optimizer.kind, optimizer.weight_decay) == ("adamw", 0.0)
