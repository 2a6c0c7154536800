"""The Faster R-CNN spec read into settings."""

import pytest

from rcnn_jax.errors import SpecError
from rcnn_jax.settings.data import TilingSettings
from rcnn_jax.settings.training import RunSettings
from rcnn_jax.spec import parse_spec
from rcnn_jax.tasks.build import build_experiment
from rcnn_jax.tasks.experiment import Experiment
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


def augmented(augmentation: str, training: str = "enable_augmentation: true") -> Experiment:
    text = FASTER.replace("augmentation_config {", f"augmentation_config {{ {augmentation}")
    text = text.replace("training_config {", f"training_config {{ {training}")
    return build_experiment(parse_spec(text).config, "faster_rcnn")


def test_scale_jitter_is_that_of_mask_rcnn_and_multiplies_zoom() -> None:
    jitter = "scale_jitter_min: 0.8 scale_jitter_max: 1.25 multi_scale_min: 0.9"
    augment = augmented(f"spatial_augmentation {{ {jitter} }}").augment
    assert (augment.zoom_min, augment.zoom_max, augment.shrink_min) == (0.8, 1.25, 0.9)
    both = augmented(f"spatial_augmentation {{ {jitter} zoom_min: 0.5 zoom_max: 2 }}").augment
    assert (both.zoom_min, both.zoom_max) == (0.4, 2.5)


def test_composites_are_read_and_change_nothing_by_default() -> None:
    plain = augmented("").augment
    assert not plain.composes
    assert (plain.zoom_min, plain.zoom_max, plain.shrink_min) == (1.0, 1.0, 1.0)
    fields = "copy_paste_probability: 0.4 mosaic_probability: 0.3 mosaic_off: 0.2"
    augment = augmented(fields).augment
    assert augment.composes
    assert (augment.copy_paste_probability, augment.mosaic_probability) == (0.4, 0.3)
    assert augment.mosaic_off == 0.2


def test_composites_without_augmentation_are_said_to_have_no_effect() -> None:
    experiment = augmented("copy_paste_probability: 0.4", "")
    assert experiment.augment is None
    assert experiment.notes[0] == (
        "augmentation_config.copy_paste_probability = 0.4 has no effect: "
        "training_config.enable_augmentation is False"
    )
    assert not any("copy_paste" in note for note in augmented("copy_paste_probability: 1").notes)


def test_repeats_are_no_augmentation() -> None:
    text = FASTER.replace("dataset_config {", "dataset_config { repeat_factor_threshold: 0.3")
    assert build_experiment(parse_spec(text).config, "faster_rcnn").repeat_threshold == 0.3
    assert build_experiment(parse_spec(FASTER).config, "faster_rcnn").repeat_threshold == 0.0


def test_tiles_are_cut_only_where_a_side_is_given() -> None:
    assert augmented("").tiling is None
    text = FASTER.replace("dataset_config {", "dataset_config { tile_size: 640 tile_overlap: 0.25")
    tiling = build_experiment(parse_spec(text).config, "faster_rcnn").tiling
    assert tiling == TilingSettings(size=640, overlap=0.25)
