"""Every word of the Mask R-CNN spec reaches the setting that means it."""

import json
from pathlib import Path

import pytest

from rcnn_jax.data.sources.categories import Categories
from rcnn_jax.data.sources.first_images import FirstImages
from rcnn_jax.errors import DataError, SpecError
from rcnn_jax.settings.metrics import CocoMetrics
from rcnn_jax.settings.training import WarmupSchedule
from rcnn_jax.spec.load import parse_spec
from rcnn_jax.tasks.build import build_experiment
from rcnn_jax.tasks.mask_rcnn import data as mask_rcnn_data
from tests.e2e.tiny_mask import write_tiny

CONFIG = Path(__file__).parents[3] / "configs" / "mask_rcnn" / "tiny.txt"
CATEGORIES = Categories((1, 2, 3), ("disc", "rod", "star"))


def config_of(extra="", *changes):
    text = CONFIG.read_text() + extra
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return parse_spec(text, "tiny.txt", "mask_rcnn").config


def build(extra="", *changes):
    return build_experiment(config_of(extra, *changes), "mask_rcnn", categories=CATEGORIES)


def test_optimizer_follows_the_conventions_of_the_original():
    optimizer = build("momentum: 0.8\nl2_weight_decay: 0.001\nl1_weight_decay: 0.004\n").optimizer
    assert (optimizer.kind, optimizer.momentum) == ("sgd", 0.8)
    assert (optimizer.l2, optimizer.l2_factor, optimizer.l1) == (0.001, 1.0, 0.002)
    assert optimizer.regularize == "kernels_and_gamma"
    assert optimizer.bias_gradient_factor == 2.0


def test_gradients_are_limited_unless_the_spec_says_otherwise():
    assert build("", ("clip_norm: 10.0\n", "")).optimizer.clip_norm == 10.0
    assert build("", ("clip_norm: 10.0", "clip_norm: 0")).optimizer.clip_norm == 0.0


def test_schedule_counts_steps_and_knows_the_cosine():
    expected = WarmupSchedule(
        init_lr=0.01, warmup_lr=0.001, warmup_steps=2, boundaries=(100, 200), levels=(0.1, 0.01)
    )
    assert build().schedule == expected
    assert build('learning_rate_schedule: "cosine"\n').schedule.fall == "cosine"


def test_epochs_win_over_steps_and_their_length_may_be_given():
    epochs, steps = build(), build("", ("num_epochs: 2", "total_steps: 30"))
    assert (epochs.run.num_epochs, epochs.run.total_steps) == (2, 0)
    assert (steps.run.num_epochs, steps.run.total_steps) == (0, 30)
    both = build("total_steps: 7\nnum_examples_per_epoch: 9\n")
    assert both.run.total_steps == 9  # 2 epochs of 9 images in batches of 2
    assert (both.run.evaluate_steps, both.run.save_steps) == (4, 4)


def test_anchors_follow_level_scale_and_aspect():
    settings = build("", ("num_scales: 1", "num_scales: 2")).task.settings
    cells = dict(settings.cell_sizes)
    assert sorted(cells) == [2, 3, 4, 5, 6]
    assert len(cells[2]) == 6
    assert cells[2][0] == (16.0, 16.0)
    assert cells[2][1] == pytest.approx((0.7 * 16, 1.4 * 16))
    assert cells[3][3] == pytest.approx((32 * 2**0.5,) * 2)


def test_normalisation_has_one_divisor():
    pixels = build().task.pixels
    assert pixels.mean == (123.675, 116.28, 103.53)
    assert pixels.std == pytest.approx((57.12,) * 3)


def test_augmentation_is_off_only_when_nothing_is_asked_for():
    assert build().augment.hflip_probability == 0.5
    off = ("augment_input_data: true", "augment_input_data: false")
    assert build("", off).augment is None
    jitter = ("allow_small: true", "allow_small: true\n  scale_jitter_max: 1.5")
    only = build("", off, jitter).augment
    assert (only.hflip_probability, only.zoom_max) == (0.0, 1.5)
    alone = ("allow_small: true", "allow_small: true\n  mosaic_off: 0.5")
    assert build("", off, alone).augment is None


def test_composites_and_repeats_come_from_the_data():
    fields = "copy_paste_probability: 0.4 mosaic_probability: 0.3 repeat_factor_threshold: 0.2"
    experiment = build("", ("allow_small: true", f"allow_small: true {fields}"))
    assert experiment.augment.copy_paste_probability == 0.4
    assert (experiment.augment.mosaic_probability, experiment.augment.mosaic_off) == (0.3, 0.15)
    assert experiment.repeat_threshold == 0.2
    assert build().repeat_threshold == 0.0 and not build().augment.composes
    tiled = build("", ("allow_small: true", "allow_small: true tile_size: 512"))
    assert (tiled.tiling.size, tiled.tiling.overlap) == (512, 0.2) and build().tiling is None


def test_metrics_and_counts_come_from_the_spec():
    experiment = build()
    assert experiment.metrics == CocoMetrics(
        annotations="out/tiny_masks/instances_val.json", masks=True, max_detections=8, images=4
    )
    assert experiment.metrics.main_metric == "mask_AP"
    assert build("", ("include_mask: true", "include_mask: false")).metrics.main_metric == "AP"


def test_the_batch_norm_of_frozen_blocks_keeps_its_averages_too():
    task = build('maskrcnn_config { freeze_blocks: "[0, 1]" }').task
    assert task.model.freeze_blocks == (0, 1)
    assert task.is_frozen("conv1")
    assert not task.is_frozen("block_4a_conv_1")


def test_bfloat16_is_asked_for_by_the_spec_or_the_command():
    assert build("use_amp: true\n").task.model.dtype == "bfloat16"
    forced = build_experiment(config_of(), "mask_rcnn", bf16=True, categories=CATEGORIES)
    assert forced.task.model.dtype == "bfloat16"


def test_categories_are_read_from_the_annotations(tmp_path):
    spec = write_tiny(tmp_path)
    config = parse_spec(spec.read_text(), "spec.txt", "mask_rcnn").config
    experiment = build_experiment(config, "mask_rcnn")
    assert experiment.category_ids == (1, 2, 3)
    assert experiment.task.class_names == ("disc", "star", "rod")
    assert len(experiment.train_source()) == 6
    assert len(experiment.eval_source()) == 3


def test_eval_samples_takes_the_first_images_and_says_so(tmp_path):
    spec = write_tiny(tmp_path, ("eval_samples: 4", "eval_samples: 2"))
    data = parse_spec(spec.read_text(), "spec.txt", "mask_rcnn").config.data_config
    categories = mask_rcnn_data.find_categories(data, masks=True)
    source = mask_rcnn_data.open_validation(data, categories, masks=True)
    assert isinstance(source, FirstImages) and len(source) == 2
    assert [item.sentence for item in source.findings] == [
        "the first 2 of 3 validation images are evaluated (eval_samples)"
    ]


def test_num_classes_that_fits_nothing_is_explained(tmp_path):
    spec = write_tiny(tmp_path, ("num_classes: 4", "num_classes: 3"))
    config = parse_spec(spec.read_text(), "spec.txt", "mask_rcnn").config
    with pytest.raises(SpecError, match=r"3 categories with ids up to 3: set it to 4"):
        build_experiment(config, "mask_rcnn")


def test_one_id_with_two_names_is_refused(tmp_path):
    spec = write_tiny(tmp_path)
    train = tmp_path / "data" / "instances_train.json"
    content = json.loads(train.read_text())
    content["categories"][0]["name"] = "plate"
    train.write_text(json.dumps(content))
    config = parse_spec(spec.read_text(), "spec.txt", "mask_rcnn").config
    with pytest.raises(DataError, match="category 1 is called 'plate' here, but 'disc'"):
        build_experiment(config, "mask_rcnn").train_source()


def test_a_spec_without_training_data_says_which_fields_name_it():
    text = "".join(line for line in CONFIG.read_text().splitlines(True) if "coco_train" not in line)
    config = parse_spec(text, "tiny.txt", "mask_rcnn").config
    experiment = build_experiment(config, "mask_rcnn", categories=CATEGORIES)
    with pytest.raises(DataError, match="set data_config.training_file_pattern"):
        experiment.train_source()


def test_adamw_decays_by_itself_and_takes_no_penalty_along():
    optimizer = build(
        "adamw { weight_decay: 0.01 }\nlayer_decay: 0.8\nl1_weight_decay: 0.1\n"
    ).optimizer
    assert (optimizer.kind, optimizer.weight_decay, optimizer.epsilon) == ("adamw", 0.01, 1e-8)
    assert (optimizer.l1, optimizer.l2, optimizer.bias_gradient_factor) == (0.0, 0.0, 1.0)
    assert (optimizer.layer_decay, optimizer.clip_norm) == (0.8, 10.0)


def test_early_stopping_is_off_until_its_block_is_given():
    assert (build().run.monitor, build().run.patience) == ("loss", 0)
    run = build('early_stopping { monitor: "map" patience: 3 min_delta: 0.01 }\n').run
    assert (run.monitor, run.patience, run.min_delta) == ("map", 3, 0.01)
