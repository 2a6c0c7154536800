"""The Faster R-CNN spec read into settings."""

import pytest

from rcnn_jax.settings.training import RunSettings
from rcnn_jax.spec import parse_spec
from rcnn_jax.tasks.build import build_experiment
from tests.spec.samples import FASTER


def run_of(visualizer: str) -> RunSettings:
    text = FASTER.replace("training_config {", f"training_config {{ {visualizer}")
    return build_experiment(parse_spec(text).config, "faster_rcnn").run


@pytest.mark.parametrize("visualizer", ["", "visualizer { }", "visualizer { enabled: false }"])
def test_tensorboard_is_off_unless_the_visualizer_is_enabled(visualizer: str) -> None:
    run = run_of(visualizer.replace("}", "num_images: 2 weight_histograms: true }"))
    assert not run.tensorboard
    assert not run.weight_histograms
    assert run.images_in_tensorboard == 0


def test_an_enabled_visualizer_shows_what_it_names() -> None:
    run = run_of("visualizer { enabled: true num_images: 2 weight_histograms: true }")
    assert run.tensorboard
    assert run.weight_histograms
    assert run.images_in_tensorboard == 2


def test_absent_switches_of_the_network_are_off() -> None:
    experiment = build_experiment(parse_spec(FASTER).config, "faster_rcnn")
    options = experiment.task.model.options
    assert not (options.freeze_bn or options.all_projections or options.use_pooling)
    assert experiment.augment is None
