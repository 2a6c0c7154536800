"""The Faster R-CNN spec read into settings."""

import pytest

from rcnn_jax.errors import SpecError
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


def test_adamw_decays_by_itself_and_says_so_of_a_regularizer() -> None:
    text = FASTER.replace(
        "optimizer { sgd { momentum: 0.9 } }",
        "optimizer { adamw { weight_decay: 0.01 } } regularizer { type: L2 weight: 0.1 }",
    )
    experiment = build_experiment(parse_spec(text).config, "faster_rcnn")
    optimizer = experiment.optimizer
    assert (optimizer.kind, optimizer.weight_decay) == ("adamw", 0.01)
    assert (optimizer.l1, optimizer.l2) == (0.0, 0.0)
    assert any("regularizer has no effect: adamw decays" in note for note in experiment.notes)
    alone = parse_spec(text.replace("regularizer { type: L2 weight: 0.1 }", ""))
    notes = build_experiment(alone.config, "faster_rcnn").notes
    assert not any("adamw" in note for note in notes)


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ("", ("loss", 0, 0.0)),
        ("early_stopping { patience: 2 min_delta: 0.5 }", ("loss", 2, 0.5)),
        ('early_stopping { monitor: "map" patience: 3 }', ("map", 3, 0.0)),
    ],
)
def test_early_stopping_watches_what_it_names(block: str, expected: tuple) -> None:
    run = run_of(block)
    assert (run.monitor, run.patience, run.min_delta) == expected


def test_average_precision_is_watched_only_where_it_is_measured() -> None:
    block = 'early_stopping { monitor: "map" patience: 3 }'
    text = FASTER.replace("training_config {", f"training_config {{ {block}")
    with pytest.raises(SpecError, match=r"early_stopping.monitor = 'map' needs validation data"):
        parse_spec(text.replace("validation_fold: 0", ""), task="train")
