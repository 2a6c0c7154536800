import dataclasses

import pytest

from rcnn_jax.spec import load_spec
from rcnn_jax.tasks.build import build_experiment
from rcnn_jax.train.advice import steep_start
from tests.e2e.tiny_mask import write_tiny


@pytest.fixture
def experiment(tmp_path):
    return build_experiment(load_spec(write_tiny(tmp_path)).config, "mask_rcnn")


def with_rate(experiment, clip_norm=0.0, **changes):
    schedule = dataclasses.replace(experiment.schedule, **changes)
    optimizer = dataclasses.replace(experiment.optimizer, clip_norm=clip_norm)
    return dataclasses.replace(experiment, schedule=schedule, optimizer=optimizer)


def test_the_rate_of_the_published_sample_suits_eight_devices_not_one(experiment):
    steep = with_rate(experiment, init_lr=0.02, warmup_steps=0)
    assert "usual is 0.0025, after a warm-up" in steep_start(steep, 2)
    assert steep_start(steep, 16) is None
    assert "set init_learning_rate: 0.0025 " in steep_start(steep, 16, scale=8.0)


@pytest.mark.parametrize(
    "changes", [{"warmup_steps": 1000}, {"clip_norm": 10.0}, {"init_lr": 0.0025}]
)
def test_a_careful_spec_is_not_warned(experiment, changes):
    careful = with_rate(experiment, **{"init_lr": 0.02, "warmup_steps": 0, **changes})
    assert steep_start(careful, 2) is None
