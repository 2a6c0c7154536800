"""Optimizers and schedules of the Faster R-CNN spec read into settings."""

import pytest

from rcnn_jax.settings.training import CosineSchedule, SoftStartSchedule, StepSchedule
from rcnn_jax.spec import parse_spec
from rcnn_jax.tasks.build import build_experiment
from tests.spec.samples import FASTER


def experiment_with(fields: str):
    return build_experiment(
        parse_spec(f"{FASTER}\ntraining_config {{ {fields} }}").config, "faster_rcnn"
    )


@pytest.mark.parametrize(
    ("block", "kind", "field", "value"),
    [
        ("sgd { momentum: 0.5 nesterov: true }", "sgd", "momentum", 0.5),
        ("adam { beta_1: 0.8 amsgrad: true }", "adam", "beta_1", 0.8),
        ("adamw { weight_decay: 0.2 }", "adamw", "weight_decay", 0.2),
    ],
)
def test_the_block_that_is_given_is_the_optimizer(block, kind, field, value):
    optimizer = experiment_with(f"optimizer {{ {block} }}").optimizer
    assert optimizer.kind == kind
    assert getattr(optimizer, field) == pytest.approx(value)


def test_penalties_are_those_of_the_regularizer_and_factors_those_of_the_backbone():
    optimizer = experiment_with(
        "regularizer { type: L1 weight: 3e-4 } backbone_lr_factor: 0.25 heads_only_steps: 7"
    ).optimizer
    assert (optimizer.l1, optimizer.l2) == (pytest.approx(3e-4), 0.0)
    assert (optimizer.backbone_factor, optimizer.heads_only_steps) == (0.25, 7)


@pytest.mark.parametrize(
    ("block", "kind"),
    [
        ("soft_start { base_lr: 0.02 start_lr: 0.001 }", SoftStartSchedule),
        ("cosine { base_lr: 0.02 start_lr: 0.001 soft_start: 0.1 }", CosineSchedule),
        ("step { base_lr: 0.02 gamma: 0.5 step_size: 30 }", StepSchedule),
    ],
)
def test_the_block_that_is_given_is_the_schedule(block, kind):
    schedule = experiment_with(f"learning_rate {{ {block} }}").schedule
    assert isinstance(schedule, kind)
    assert schedule.base_lr == pytest.approx(0.02)
