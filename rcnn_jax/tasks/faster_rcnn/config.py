"""Config reader of Faster R-CNN: from the names of the spec to settings in the field's words.

The only place below the commands that knows the names of the Faster R-CNN spec.
"""

import math

import jax.numpy as jnp

from rcnn_jax.models.builder import BackboneOptions
from rcnn_jax.models.channels import ChannelPlan
from rcnn_jax.models.faster_rcnn import FasterRcnn
from rcnn_jax.ops.anchors import cell_sizes_from_scales
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
from rcnn_jax.settings.metrics import VocMetrics
from rcnn_jax.settings.network import TAO_FRCNN, AnchorConvention, PixelSettings
from rcnn_jax.settings.training import (
    QatSettings,
    RunSettings,
    TeacherSettings,
)
from rcnn_jax.settings.views import read_views
from rcnn_jax.tasks.distillation import TERMS
from rcnn_jax.tasks.experiment import Experiment, StartSettings
from rcnn_jax.tasks.extensions import stopping_settings
from rcnn_jax.tasks.faster_rcnn.data import class_map, eval_source, train_source
from rcnn_jax.tasks.faster_rcnn.optimization import optimizer_settings, schedule_settings
from rcnn_jax.tasks.faster_rcnn.task import FasterRcnnTask
from rcnn_jax.tasks.named_files import Config
from rcnn_jax.tasks.sample_losses import dynamic_settings, sample_losses
from rcnn_jax.tasks.task import MAX_TEST_CANDIDATES, TestSettings
from rcnn_jax.tasks.trackers import trackers
from rcnn_jax.tasks.two_stage import LossSettings, TwoStageSettings

LEVEL = 4  # stride 16


def faster_rcnn_experiment(config: Config, *, axis_name: str) -> Experiment:
    """Returns the experiment that a validated config describes.

    Args:
      config: a Faster R-CNN config from `spec.load`.
      axis_name: name of the data axis that batch statistics are averaged over.
    """
    training = config.training_config
    evaluation = config.evaluation_config
    inference = config.inference_config
    return Experiment(
        kind="faster_rcnn",
        task=_task(config, axis_name=axis_name),
        seed=config.random_seed,
        geometry=_geometry(config),
        augment=_augment(config.augmentation_config) if training.enable_augmentation else None,
        train_gt=_ground_truth(config),
        # Padded arrays here, because VOC matching reads boxes; COCO evaluation reads its file.
        eval_gt=_ground_truth(config),
        batch_per_device=training.batch_size_per_gpu,
        eval_batch=evaluation.batch_size,
        inference_batch=inference.batch_size,
        amp_dtype=training.amp_dtype,
        threads=training.n_workers,
        prefetch=training.prefetch_buffer_size,
        optimizer=optimizer_settings(training),
        schedule=schedule_settings(training.learning_rate),
        run=_run(config),
        start=StartSettings(
            resume_from=training.resume_from_model or "",
            pruned=training.retrain_pruned_model or "",
            pretrained=training.pretrained_weights or "",
            min_coverage=training.min_pretrained_coverage,
        ),
        evaluation=_test(evaluation),
        inference=_test(inference),
        metrics=_metrics(evaluation),
        visualize_threshold=inference.bbox_visualize_threshold,
        captions=bool(inference.bbox_caption_on),
        tiling=_tiling(config.dataset_config),
        repeat_threshold=config.dataset_config.repeat_factor_threshold,
        train_source=train_source(config),
        eval_source=eval_source(config),
        notes=_notes(config),
        qat=_qat(training),
        teacher=_teacher(training),
    )


def _teacher(training: Config) -> TeacherSettings | None:
    model, weight = training.teacher, training.teacher_weight
    return TeacherSettings(model=model, weight=weight) if model else None


def _qat(training: Config) -> QatSettings | None:
    start, method = training.qat_start, training.qat_calibration
    return QatSettings(start=start, method=method) if training.enable_qat else None


def _notes(config: Config) -> tuple[str, ...]:
    divided = (
        "model_parallelism: weights and optimizer state are divided evenly among the devices (sharding: "
        "fsdp), whatever the fractions: no layer waits for another device",
    )
    penalty = config.training_config.regularizer
    undecayed = (
        "training_config.regularizer has no effect: adamw decays weights itself (its weight_decay)",
    )
    unpenalised = config.training_config.optimizer.adamw.enabled and penalty.type != "NO_REG"
    augmentation = config.augmentation_config
    switched_off = tuple(
        f"augmentation_config.{name} = {augmentation[name]:g} has no effect: "
        "training_config.enable_augmentation is False"
        for name in ("copy_paste_probability", "mosaic_probability")
        if augmentation[name] and not config.training_config.enable_augmentation
    )
    several = divided * (len(config.training_config.model_parallelism) > 1)
    return (
        undecayed * unpenalised
        + several
        + switched_off
        + tuple(
            # Reported in the words of the spec: a user who wrote 12000 would look for the difference
            # elsewhere.
            f"{name}.rpn_pre_nms_top_N = {config[name].rpn_pre_nms_top_N}: at most "
            f"{MAX_TEST_CANDIDATES} candidates are considered at test time, on every backend"
            for name in ("evaluation_config", "inference_config")
            if config[name].rpn_pre_nms_top_N > MAX_TEST_CANDIDATES
        )
    )


def _task(config: Config, *, axis_name: str) -> FasterRcnnTask:
    model = config.model_config
    training = config.training_config
    names = class_map(config).names
    cells = cell_sizes_from_scales(
        tuple(model.anchor_box_config.scale), tuple(model.anchor_box_config.ratio)
    )
    pooling = model.roi_pooling_config
    options = BackboneOptions(
        use_pooling=model.use_pooling,
        all_projections=model.all_projections,
        use_bias=model.use_bias,
        freeze_bn=model.freeze_bn,
        bn_momentum=model.bn_momentum,
        dropout_rate=model.dropout_rate,
        drop_connect_rate=model.drop_connect_rate,
        activation=model.activation.activation_type or "swish",
    )
    std = training.classifier_regr_std
    return FasterRcnnTask(
        model=FasterRcnn(
            arch=model.arch,
            num_classes=len(names),
            anchors_per_cell=len(cells),
            pool_size=pooling.pool_size,
            pool_size_2x=pooling.pool_size_2x,
            rpn_depth=model.rpn_conv_depth,
            options=options,
            convention=TAO_FRCNN,
            channels=ChannelPlan.from_json(model.channel_plan),
            dtype=jnp.dtype(training.amp_dtype) if training.bf16 else jnp.float32,
            remat=training.remat,
            bn_axis_name=axis_name if training.sync_bn else None,
            freeze_blocks=tuple(model.freeze_blocks),
        ),
        class_names=names,
        pixels=pixel_settings(model.input_image_config),
        settings=TwoStageSettings(
            cell_sizes=((LEVEL, cells),),
            anchor_convention=AnchorConvention(),
            # In both directions. The original divides on the way back only, so its targets and its
            # boxes have different units for any value but 1 (docs/tao_differences.md, "Training").
            rpn_coder=BoxCoder(weights=(training.std_scaling,) * 4),
            # The spec's map has the keys x, y, w, h; boxes run y, x, h, w here.
            box_coder=BoxCoder(weights=(std["y"], std["x"], std["h"], std["w"])),
            rpn_targets=RpnTargetSettings(
                positive_overlap=training.rpn_max_overlap,
                negative_overlap=training.rpn_min_overlap,
                force_match="unmatched_best",
                outside=training.outside_anchors,
                anchors_per_cell=len(cells),
                batch_per_image=training.rpn_mini_batch,
            ),
            train_proposals=ProposalSettings(
                pre_nms=training.rpn_pre_nms_top_N,
                post_nms=training.rpn_nms_max_boxes,
                nms_threshold=training.rpn_nms_overlap_threshold,
                # The original drops proposals of one pixel or less (docs/reference/faster_rcnn.md,
                # "Proposals").
                min_size=1.0,
            ),
            roi_sampling=RoiSamplingSettings(
                batch_per_image=model.roi_mini_batch,
                foreground_overlap=training.classifier_max_overlap,
                # No gap between the two: a roi is foreground or, from the lower limit on,
                # background.
                background_high=training.classifier_max_overlap,
                background_low=training.classifier_min_overlap,
                append_gt=training.gt_as_roi,
                with_replacement=True,
            ),
            roi_size=pooling.pool_size * (2 if pooling.pool_size_2x else 1),
            roi_levels=(LEVEL,),
            losses=LossSettings(normalize="configured", **sample_losses(training)),
            dynamic=dynamic_settings(training, training.accumulate_steps, axis_name),
        ),
        loss_weight_pairs=(
            ("rpn_class", training.lambda_rpn_class),
            ("rpn_box", training.lambda_rpn_regr),
            ("class", training.lambda_cls_class),
            ("box", training.lambda_cls_regr),
            *((("carl", training.carl_weight),) if training.carl_weight else ()),
            *((name, training.teacher_weight) for name in TERMS if training.teacher),
        ),
    )


def pixel_settings(image: Config) -> PixelSettings:
    """Returns the normalisation of an `input_image_config`, in the order of the network's channels."""
    order = "l" if image.image_type == "GRAY_SCALE" else image.image_channel_order
    mean = tuple(float(image.image_channel_mean[channel]) for channel in order)
    return PixelSettings(
        channel_order=order, mean=mean, std=(float(image.image_scaling_factor),) * len(mean)
    )


def _geometry(config: Config) -> GeometrySettings:
    image = config.model_config.input_image_config
    preprocessing = config.augmentation_config.preprocessing
    # A dynamic canvas goes before everything else, as its message excludes `size_height_width`.
    if image.size_min.enabled:
        return GeometrySettings(
            mode="short_side",
            short_side=preprocessing.output_image_min or image.size_min.min,
            long_side=preprocessing.output_image_max or 0,
        )
    size = image.size_height_width
    if preprocessing.enable_auto_resize:
        return GeometrySettings(mode="stretch", height=size.height, width=size.width)
    top, left = preprocessing.crop_top or 0, preprocessing.crop_left or 0
    bottom, right = preprocessing.crop_bottom or 0, preprocessing.crop_right or 0
    scaled = (int(preprocessing.scale_height), int(preprocessing.scale_width))
    return GeometrySettings(
        mode="pad_crop",
        height=size.height,
        width=size.width,
        # Crops are absolute corners; 0 at the bottom or right is the default and means none.
        crop=(top, left, bottom, right) if bottom and right else None,
        prescale=scaled if all(scaled) else None,
    )


def _augment(augmentation: Config) -> AugmentSettings:
    spatial = augmentation.spatial_augmentation
    color = augmentation.color_augmentation
    return AugmentSettings(
        hflip_probability=spatial.hflip_probability,
        vflip_probability=spatial.vflip_probability,
        zoom_min=spatial.zoom_min * spatial.scale_jitter_min,
        zoom_max=spatial.zoom_max * spatial.scale_jitter_max,
        translate_max_x=spatial.translate_max_x,
        translate_max_y=spatial.translate_max_y,
        rotate_max_degrees=spatial.rotate_rad_max,
        rotate_probability=spatial.rotate_probability,
        brightness_stddev=color.color_shift_stddev,
        hue_rotation_max=color.hue_rotation_max,
        saturation_shift_max=color.saturation_shift_max,
        contrast_scale_max=color.contrast_scale_max,
        contrast_center=color.contrast_center,
        # One pixel at least: narrower boxes have been clipped away, and their deltas are logarithms
        # of nearly 0.
        min_box_side=max(
            1.0,
            augmentation.preprocessing.min_bbox_width,
            augmentation.preprocessing.min_bbox_height,
        ),
        shrink_min=spatial.multi_scale_min,
        copy_paste_probability=augmentation.copy_paste_probability,
        mosaic_probability=augmentation.mosaic_probability,
        mosaic_off=augmentation.mosaic_off,
    )


def _ground_truth(config: Config) -> GroundTruthSettings:
    limit = config.model_config.input_image_config.max_objects_num_per_image
    # The field is a promise of the user here; Mask R-CNN's is a limit, which cuts.
    return GroundTruthSettings(max_objects=limit, on_overflow="error")


def _tiling(data: Config) -> TilingSettings | None:
    size, overlap = data.tile_size, data.tile_overlap
    return TilingSettings(size=size, overlap=overlap) if size else None


def _run(config: Config) -> RunSettings:
    training = config.training_config
    visualizer = training.visualizer
    return RunSettings(
        num_epochs=training.num_epochs,
        evaluate_epochs=config.evaluation_config.validation_period_during_training,
        save_epochs=training.checkpoint_interval,
        keep_checkpoints=training.keep_checkpoints,
        **stopping_settings(training.early_stopping),
        accumulate_steps=training.accumulate_steps,
        sharding="fsdp" if len(training.model_parallelism) > 1 else training.sharding,
        lr_scaling=training.lr_scaling,
        tensorboard=visualizer.enabled,
        images_in_tensorboard=visualizer.num_images if visualizer.enabled else 0,
        weight_histograms=visualizer.enabled and visualizer.weight_histograms,
        trackers=trackers(visualizer),
    )


def _test(section: Config) -> TestSettings:
    return TestSettings(
        proposals=ProposalSettings(
            # On every backend, although JAX could take more: an engine must give the model's
            # detections.
            pre_nms=min(section.rpn_pre_nms_top_N, MAX_TEST_CANDIDATES),
            post_nms=section.rpn_nms_max_boxes,
            nms_threshold=section.rpn_nms_overlap_threshold,
            min_size=1.0,
        ),
        detections=DetectionSettings(
            score_threshold=section.object_confidence_thres,
            nms_threshold=section.classifier_nms_overlap_threshold,
            max_detections=section.classifier_nms_max_boxes,
        ),
        views=read_views(section.tta or ""),
    )


def _metrics(evaluation: Config) -> VocMetrics:
    spread = evaluation.gt_matching_iou_threshold_range
    if spread.enabled:
        # the end is exclusive; a tenth of a step absorbs the rounding of the division
        count = math.ceil((spread.end - spread.start) / spread.step - 0.1)
        thresholds = tuple(round(spread.start + i * spread.step, 6) for i in range(count))
    else:
        thresholds = (evaluation.gt_matching_iou_threshold,)
    return VocMetrics(
        iou_thresholds=thresholds,
        score_threshold=evaluation.object_confidence_thres,
        method="voc07" if evaluation.use_voc07_11point_metric else "voc12",
        plot=bool(evaluation.visualize_pr_curve),
    )
