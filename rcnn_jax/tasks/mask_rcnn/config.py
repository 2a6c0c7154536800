"""Config reader of Mask R-CNN: from the names of the spec to settings in the field's words.

The only place below the commands that knows the names of the Mask R-CNN spec.
"""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp

from rcnn_jax.data.sources.categories import Categories
from rcnn_jax.data.sources.masks import MaskSource
from rcnn_jax.models.builder import BackboneOptions
from rcnn_jax.models.channels import ChannelPlan
from rcnn_jax.models.mask_rcnn import MaskRcnn
from rcnn_jax.ops.anchors import cell_sizes_from_octaves
from rcnn_jax.ops.box_coder import BoxCoder
from rcnn_jax.settings.data import (
    AugmentSettings,
    GeometrySettings,
    GroundTruthSettings,
    TilingSettings,
)
from rcnn_jax.settings.detection import (
    DetectionSettings,
    ProposalSettings,
    RoiSamplingSettings,
    RpnTargetSettings,
)
from rcnn_jax.settings.metrics import CocoMetrics
from rcnn_jax.settings.network import PixelSettings
from rcnn_jax.settings.training import (
    OptimizerSettings,
    QatSettings,
    RunSettings,
    TeacherSettings,
    WarmupSchedule,
)
from rcnn_jax.settings.views import read_views
from rcnn_jax.tasks.cascade import loss_name
from rcnn_jax.tasks.distillation import TERMS
from rcnn_jax.tasks.experiment import Experiment, StartSettings
from rcnn_jax.tasks.extensions import adamw_settings, stopping_settings
from rcnn_jax.tasks.mask_rcnn import data as mask_rcnn_data
from rcnn_jax.tasks.mask_rcnn.conventions import CONVENTIONS, Convention
from rcnn_jax.tasks.mask_rcnn.task import MaskRcnnTask
from rcnn_jax.tasks.named_files import Config
from rcnn_jax.tasks.sample_losses import dynamic_settings, sample_losses
from rcnn_jax.tasks.task import MAX_TEST_CANDIDATES, TestSettings
from rcnn_jax.tasks.trackers import trackers
from rcnn_jax.tasks.two_stage import LossSettings, TwoStageSettings

SHOWN_IMAGES = 8
"""Validation images that visualize_images_summary puts into TensorBoard."""


def mask_rcnn_experiment(
    config: Config, *, axis_name: str, categories: Categories | None
) -> Experiment:
    """Returns the experiment that a validated config describes.

    Args:
      config: a Mask R-CNN config from `spec.load`.
      axis_name: name of the data axis that batch statistics are averaged over.
      categories: the classes of a trained model; None takes them from the annotation files.

    Raises:
      DataError: an annotation file is missing or damaged.
      SpecError: num_classes does not fit the annotation file.
    """
    data, network = config.data_config, config.maskrcnn_config
    categories = categories or mask_rcnn_data.find_categories(data, masks=network.include_mask)
    test = _test(network)
    return Experiment(
        kind="mask_rcnn",
        task=_task(config, categories, axis_name=axis_name),
        seed=config.seed,
        geometry=_geometry(data, network.max_level),
        augment=_augment(data),
        # Cut rather than refused, as in the original; the table at the start of training counts
        # what was cut.
        train_gt=GroundTruthSettings(
            max_objects=data.max_num_instances,
            on_overflow="truncate",
            mask_size=network.gt_mask_size if network.include_mask else 0,
            skip_crowd=data.skip_crowd_during_training,
        ),
        # pycocotools reads the annotation file: padded arrays would lose areas and ids.
        eval_gt=None,
        batch_per_device=config.train_batch_size,
        amp_dtype=config.amp_dtype,
        eval_batch=config.eval_batch_size,
        inference_batch=config.eval_batch_size,
        threads=data.n_workers,
        prefetch=data.prefetch_buffer_size,
        optimizer=_optimizer(config),
        schedule=_schedule(config),
        run=_run(config),
        start=StartSettings(
            pruned=config.pruned_model_path or "",
            pretrained=config.checkpoint or "",
            skip=config.skip_checkpoint_variables or "",
            min_coverage=config.min_pretrained_coverage,
        ),
        evaluation=test,
        inference=test,
        metrics=CocoMetrics(
            annotations=data.val_json_file or "",
            masks=network.include_mask,
            max_detections=network.test_detections_per_image,
            images=data.eval_samples,
        ),
        # The original's default of `-t`; the spec has no field for it.
        visualize_threshold=0.6,
        captions=True,
        tiling=_tiling(data),
        repeat_threshold=data.repeat_factor_threshold,
        train_source=lambda: mask_rcnn_data.open_training(
            data, categories, masks=network.include_mask
        ),
        eval_source=_eval_source(data, categories, network.include_mask),
        category_ids=categories.ids,
        qat=_qat(config),
        teacher=_teacher(config),
    )


def _teacher(config: Config) -> TeacherSettings | None:
    model, weight = config.teacher, config.teacher_weight
    return TeacherSettings(model=model, weight=weight) if model else None


def _qat(config: Config) -> QatSettings | None:
    start, method = config.qat_start, config.qat_calibration
    return QatSettings(start=start, method=method) if config.enable_qat else None


def _task(config: Config, categories: Categories, *, axis_name: str) -> MaskRcnnTask:
    network = config.maskrcnn_config
    convention = _convention(network)
    levels = tuple(range(network.min_level, network.max_level + 1))
    ratios = tuple(tuple(ratio) for ratio in network.aspect_ratios)
    cells = tuple(
        (
            level,
            cell_sizes_from_octaves(network.anchor_scale, 2**level, network.num_scales, ratios),
        )
        for level in levels
    )
    # The mask head doubles its crop, so its crop is half of the masks; the box head's is a quarter,
    # 7 of the usual 28, and no field of the spec says so.
    box_crop_size, mask_crop_size = network.mrcnn_resolution // 4, network.mrcnn_resolution // 2
    weights = [
        ("rpn_class", 1.0),
        ("rpn_box", network.rpn_box_loss_weight),
        ("class", 1.0),
        ("box", network.fast_rcnn_box_loss_weight),
    ]
    if network.include_mask:
        weights.append(("mask", network.mrcnn_weight_loss_mask))
    if network.carl_weight:
        weights.append(("carl", network.carl_weight))
    box_terms = [pair for pair in weights if pair[0] in ("class", "box", "carl")]
    weights += [
        # 1, 1/2, 1/4: later heads see better boxes, and their gradients meet in one pyramid.
        (loss_name(name, head), weight / 2**head)
        for head in range(1, len(network.cascade_ious))
        for name, weight in box_terms
    ]
    weights += [(name, config.teacher_weight) for name in TERMS if config.teacher]
    return MaskRcnnTask(
        model=MaskRcnn(
            # Not the spec's `num_classes`, which counts the background.
            num_classes=len(categories.ids),
            anchors_per_cell=network.num_scales * len(ratios),
            arch=f"{network.arch}:{network.nlayers}",
            min_level=network.min_level,
            max_level=network.max_level,
            box_crop_size=box_crop_size,
            mask_crop_size=mask_crop_size,
            mlp_head_dim=network.fast_rcnn_mlp_head_dim,
            include_mask=network.include_mask,
            rpn_depth=network.rpn_conv_depth,
            box_convs={"2fc": 0, "4conv1fc": 4}[network.box_head],
            fpn_norm=network.fpn_norm,
            head_norm=network.head_norm,
            box_heads=max(1, len(network.cascade_ious)),
            options=BackboneOptions(
                # Fixed in the original: the spec of Mask R-CNN has no fields for them.
                use_pooling=True,
                all_projections=False,
                freeze_bn=network.freeze_bn,
            ),
            convention=convention.convolution,
            channels=ChannelPlan.from_json(network.channel_plan),
            dtype=jnp.dtype(config.amp_dtype) if config.use_amp else jnp.float32,
            freeze_blocks=tuple(network.freeze_blocks),
            remat=config.remat,
            bn_axis_name=axis_name if config.sync_bn else None,
        ),
        class_names=categories.names,
        unused_classes=categories.unused,
        pixels=convention.pixels,
        settings=TwoStageSettings(
            cell_sizes=cells,
            anchor_convention=convention.anchors,
            # `bbox_reg_weights` are those of the box head alone; deltas of the RPN have no factors.
            rpn_coder=BoxCoder(),
            box_coder=BoxCoder(weights=tuple(network.bbox_reg_weights)),
            rpn_targets=RpnTargetSettings(
                positive_overlap=network.rpn_positive_overlap,
                negative_overlap=network.rpn_negative_overlap,
                force_match="best",
                batch_per_image=network.rpn_batch_size_per_im,
                positive_fraction=network.rpn_fg_fraction,
                # A quirk that is kept: the rates of published specs were tuned with all matched
                # anchors in this loss.
                box_loss_on_sample=False,
            ),
            train_proposals=ProposalSettings(
                pre_nms=network.train_rpn_pre_nms_topn,
                post_nms=network.train_rpn_post_nms_topn,
                nms_threshold=network.train_rpn_nms_threshold,
                min_size=network.rpn_min_size,
            ),
            roi_sampling=RoiSamplingSettings(
                batch_per_image=network.batch_size_per_im,
                foreground_fraction=network.fg_fraction,
                foreground_overlap=network.fg_thresh,
                background_high=network.bg_thresh_hi,
                background_low=network.bg_thresh_lo,
                append_gt=True,
                with_replacement=False,
            ),
            roi_size=box_crop_size,
            # P6 too under TAO's convention, where other libraries stop at P5.
            roi_levels=tuple(i for i in levels if i <= convention.coarsest_roi_level),
            losses=LossSettings(regression="huber", normalize="counted", **sample_losses(network)),
            cascade_overlaps=tuple(network.cascade_ious),
            dynamic=dynamic_settings(network, config.accumulate_steps, axis_name),
            roi_aligned=convention.roi_aligned,
            roi_samples=convention.roi_samples,
            canonical_box_size=network.canonical_box_size,
        ),
        loss_weight_pairs=tuple(weights),
    )


def _convention(network: Config) -> Convention:
    """Returns the row of the convention, with what the spec sets otherwise."""
    row = CONVENTIONS[network.convention]
    convolution, pixels, sampling = row.convolution, row.pixels, network.roi_sampling_ratio
    if network.bottleneck_stride != "convention":
        stride_on = {"1x1": "first", "3x3": "middle"}[network.bottleneck_stride]
        convolution = dataclasses.replace(convolution, stride_on=stride_on)
    # Means belong to channels: with another order the convention's are put into that order.
    order = network.pixel_order if network.pixel_order != "convention" else pixels.channel_order
    turn = 1 if order == pixels.channel_order else -1
    pixels = PixelSettings(
        channel_order=order,
        mean=tuple(network.pixel_mean) or pixels.mean[::turn],
        std=tuple(network.pixel_std) or pixels.std[::turn],
    )
    return dataclasses.replace(
        row,
        convolution=convolution,
        pixels=pixels,
        roi_samples=row.roi_samples if sampling is None else sampling,
    )


def _geometry(data: Config, max_level: int) -> GeometrySettings:
    height, width = data.image_size
    if not data.short_side:
        return GeometrySettings(mode="keep_aspect", height=height, width=width)
    return GeometrySettings(
        mode="short_side",
        height=height,
        width=width,
        short_side=data.short_side,
        long_side=data.long_side,
        multiple=2**max_level,
    )


def _augment(data: Config) -> AugmentSettings | None:
    settings = AugmentSettings(
        hflip_probability=0.5 if data.augment_input_data else 0.0,
        vflip_probability=data.vflip_probability,
        zoom_min=data.scale_jitter_min,
        zoom_max=data.scale_jitter_max,
        brightness_stddev=data.brightness_stddev,
        hue_rotation_max=data.hue_rotation_max,
        saturation_shift_max=data.saturation_shift_max,
        contrast_scale_max=data.contrast_scale_max,
        shrink_min=data.multi_scale_min,
        copy_paste_probability=data.copy_paste_probability,
        mosaic_probability=data.mosaic_probability,
        mosaic_off=data.mosaic_off,
    )
    # `mosaic_off` alone changes nothing.
    return (
        None
        if dataclasses.replace(settings, mosaic_off=AugmentSettings().mosaic_off)
        == AugmentSettings()
        else settings
    )


def _tiling(data: Config) -> TilingSettings | None:
    size, overlap = data.tile_size, data.tile_overlap
    return TilingSettings(size=size, overlap=overlap) if size else None


def _optimizer(config: Config) -> OptimizerSettings:
    rates = {
        "clip_norm": config.clip_norm,
        "ema_decay": config.ema_decay,
        "backbone_factor": config.backbone_lr_factor,
        "layer_decay": config.layer_decay,
        "heads_only_steps": config.heads_only_steps,
    }
    if config.adamw.enabled:
        # Without the factor of biases: Adam divides a factor of a gradient out again.
        return adamw_settings(config.adamw, **rates)
    return OptimizerSettings(
        kind="sgd",
        momentum=config.momentum,
        l1=config.l1_weight_decay / 2.0,  # the original halves both penalties
        l2=config.l2_weight_decay,
        l2_factor=1.0,
        # Gamma decays by accident in the original, whose pattern misses its names; schedules were
        # tuned so.
        regularize="kernels_and_gamma",
        bias_gradient_factor=2.0,
        **rates,
    )


def _schedule(config: Config) -> WarmupSchedule:
    return WarmupSchedule(
        init_lr=config.init_learning_rate,
        warmup_lr=config.warmup_learning_rate,
        warmup_steps=config.warmup_steps,
        fall=config.learning_rate_schedule,
        boundaries=tuple(config.learning_rate_steps),
        levels=tuple(config.learning_rate_decay_levels),
    )


def _run(config: Config) -> RunSettings:
    """Epochs win over steps; the length of an epoch may be given instead of counted."""
    epochs, steps = config.num_epochs or 0, config.total_steps or 0
    if epochs and config.num_examples_per_epoch and config.train_batch_size:
        # Rounded up once over the whole run: a remainder of an epoch opens the next one.
        steps = -(-epochs * config.num_examples_per_epoch // config.train_batch_size)
    elif epochs:
        steps = 0
    return RunSettings(
        num_epochs=epochs,
        total_steps=steps,
        evaluate_steps=config.num_steps_per_eval,
        save_steps=config.num_steps_per_eval,
        log_steps=config.logging_frequency,
        keep_checkpoints=config.keep_checkpoints,
        **stopping_settings(config.early_stopping),
        accumulate_steps=config.accumulate_steps,
        sharding=config.sharding,
        lr_scaling=config.lr_scaling,
        detections_in_tensorboard=SHOWN_IMAGES if config.visualize_images_summary else 0,
        trackers=trackers(config),
    )


def _test(network: Config) -> TestSettings:
    return TestSettings(
        proposals=ProposalSettings(
            pre_nms=min(network.test_rpn_pre_nms_topn, MAX_TEST_CANDIDATES),
            post_nms=network.test_rpn_post_nms_topn,
            nms_threshold=network.test_rpn_nms_thresh,
            min_size=network.rpn_min_size,
        ),
        detections=DetectionSettings(
            # COCO's average precision wants every score; drawing has a threshold of its own.
            score_threshold=network.test_score_threshold,
            nms_threshold=network.test_nms,
            max_detections=network.test_detections_per_image,
        ),
        views=read_views(network.test_tta or ""),
    )


def _eval_source(
    data: Config, categories: Categories, masks: bool
) -> Callable[[], MaskSource] | None:
    if not (data.coco_val_image_dir or data.validation_file_pattern or data.tfds_name):
        return None
    return lambda: mask_rcnn_data.open_validation(data, categories, masks=masks)
