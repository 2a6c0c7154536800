"""What may be in a recipe: text that is appended to a spec, for either detector.

docs/recipes.md says what each ingredient is, and whose.
"""

from dataclasses import dataclass

from rcnn_jax.kinds import Kind

BASE = "base"


@dataclass(frozen=True)
class Ingredient:
    """Text that is appended to a spec: blocks given twice merge, and the last value counts.

    Attributes:
      faster_rcnn: for Faster R-CNN; None where it is not for that.
      mask_rcnn: for Mask R-CNN.
      trains: False where the model is that of the base, looked at otherwise.
      plain: the base without the lines of it that say `# recipe`.
    """

    faster_rcnn: str | None
    mask_rcnn: str | None
    trains: bool = True
    plain: bool = False

    def text(self, kind: Kind) -> str | None:
        """Returns the text for a detector."""
        return self.faster_rcnn if kind == "faster_rcnn" else self.mask_rcnn


def _training(fields: str) -> str:
    return f"training_config {{ {fields} }}"


def _spatial(fields: str) -> str:
    return f"augmentation_config {{ spatial_augmentation {{ {fields} }} }}"


def _network(fields: str) -> str:
    return f"maskrcnn_config {{ {fields} }}"


DYNAMIC = "dynamic_rcnn: true dynamic_overlap_rank: 20 dynamic_error_rank: 5 dynamic_interval: 50"
PIECEWISE = 'learning_rate_steps: "[STEPS80, STEPS90]" learning_rate_decay_levels: "[0.1, 0.01]"'
ADAMW = (
    "optimizer { adamw { } } regularizer { type: NO_REG } "
    "learning_rate { cosine { base_lr: 5e-4 start_lr: 5e-5 soft_start: 0.05 } }"
)
ADAMW_MASKS = "adamw { } init_learning_rate: 5e-4 warmup_learning_rate: 5e-6"

INGREDIENTS = {
    BASE: Ingredient("", ""),
    # What the base has, taken away: its worth is what is lost.
    "no_ema": Ingredient(_training("ema_decay: 0"), "ema_decay: 0"),
    "no_clip": Ingredient(_training("clip_norm: 0"), "clip_norm: 0"),
    "no_cosine": Ingredient(
        _training("learning_rate { soft_start { base_lr: 0.012 start_lr: 0.001 } }"),
        f'learning_rate_schedule: "piecewise" {PIECEWISE}',
    ),
    "no_flips": Ingredient(
        _spatial("hflip_probability: 0 vflip_probability: 0"),
        "data_config { augment_input_data: false vflip_probability: 0 }",
    ),
    "no_scale_jitter": Ingredient(
        None, "data_config { scale_jitter_min: 1.0 scale_jitter_max: 1.0 }"
    ),
    "no_gt_as_roi": Ingredient(_training("gt_as_roi: false"), None),
    # What it has not.
    "plain": Ingredient(
        _training(
            "optimizer { sgd { momentum: 0.9 } } "
            "learning_rate { soft_start { base_lr: 0.012 start_lr: 0.001 } }"
        ),
        PIECEWISE,
        plain=True,
    ),
    "small_data": Ingredient('recipe: "small_data"', 'recipe: "small_data"', plain=True),
    "early_stop_map": Ingredient(
        _training('early_stopping { monitor: "map" patience: 4 }')
        + " evaluation_config { validation_period_during_training: 1 }",
        'early_stopping { monitor: "map" patience: 4 } num_steps_per_eval: 75',
    ),
    "adamw": Ingredient(_training(ADAMW), ADAMW_MASKS),
    "adamw_layer_decay": Ingredient(
        _training(f"{ADAMW} layer_decay: 0.8"), f"{ADAMW_MASKS} layer_decay: 0.8"
    ),
    "tta_flip": Ingredient(
        'evaluation_config { tta: "flip" }', 'maskrcnn_config { test_tta: "flip" }', trains=False
    ),
    "tta_flip_scales": Ingredient(
        'evaluation_config { tta: "flip,0.75,1.25" }',
        'maskrcnn_config { test_tta: "flip,0.75,1.25" }',
        trains=False,
    ),
    "scale_jitter": Ingredient(_spatial("scale_jitter_min: 0.8 scale_jitter_max: 1.25"), None),
    "multi_scale": Ingredient(
        _spatial("multi_scale_min: 0.7"), "data_config { multi_scale_min: 0.7 }"
    ),
    "copy_paste": Ingredient(
        "augmentation_config { copy_paste_probability: 0.5 }",
        "data_config { copy_paste_probability: 0.5 }",
    ),
    "repeat_factor": Ingredient("dataset_config { repeat_factor_threshold: 0.9 }", None),
    "mosaic": Ingredient(
        "augmentation_config { mosaic_probability: 0.5 }",
        "data_config { mosaic_probability: 0.5 }",
    ),
    # Overlaps are smaller numbers than distances of deltas, so their loss weighs more.
    "giou_loss": Ingredient(
        _training('box_loss: "giou" lambda_cls_regr: 10'),
        _network('box_loss: "giou" fast_rcnn_box_loss_weight: 2.5'),
    ),
    "diou_loss": Ingredient(
        _training('box_loss: "diou" lambda_cls_regr: 10'),
        _network('box_loss: "diou" fast_rcnn_box_loss_weight: 2.5'),
    ),
    "ciou_loss": Ingredient(
        _training('box_loss: "ciou" lambda_cls_regr: 10'),
        _network('box_loss: "ciou" fast_rcnn_box_loss_weight: 2.5'),
    ),
    # The base trains all of them; the pyramid of Mask R-CNN knows no other rule.
    "outside_anchors_auto": Ingredient(_training('outside_anchors: "auto"'), None),
    "outside_anchors_ignore": Ingredient(_training('outside_anchors: "ignore"'), None),
    # In a run of a few hundred steps thresholds must move earlier than in the paper's 90,000.
    "dynamic_rcnn": Ingredient(
        _training(f"{DYNAMIC} classifier_max_overlap: 0.45"),
        _network(f"{DYNAMIC} fg_thresh: 0.45 bg_thresh_hi: 0.45"),
    ),
    "prime_samples": Ingredient(
        _training("prime_samples: true carl_weight: 1.0"),
        _network("prime_samples: true carl_weight: 1.0"),
    ),
    "half_foreground": Ingredient(None, _network("fg_fraction: 0.5")),
    "cascade": Ingredient(None, _network("cascade_ious: 0.5 cascade_ious: 0.6")),
    "cascade_three": Ingredient(
        None, _network("cascade_ious: 0.5 cascade_ious: 0.6 cascade_ious: 0.7")
    ),
    "v2_heads": Ingredient(
        "model_config { rpn_conv_depth: 2 }", _network('rpn_conv_depth: 2 box_head: "4conv1fc"')
    ),
    "head_group_norm": Ingredient(None, _network('head_norm: "group" box_head: "4conv1fc"')),
    "head_batch_norm": Ingredient(None, 'maskrcnn_config { head_norm: "bn" box_head: "4conv1fc" }'),
}
"""{name: text}."""
