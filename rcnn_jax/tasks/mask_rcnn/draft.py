"""Writes Mask R-CNN specs for new data: a pyramid, COCO files, with masks or boxes alone.

The fixed numbers are those of `experiments/mask_rcnn/nuclei_resnet18_scratch`, which were measured. No
jax here.
"""

import numpy as np

from rcnn_jax.data.anchor_search import Anchors, on_pyramid
from rcnn_jax.spec.text.tokens import quote
from rcnn_jax.tasks.draft import Draft, Inherited, SpecWriter
from rcnn_jax.tasks.named_files import Config

MIN_LEVEL, MAX_LEVEL = 2, 6
STRIDES = tuple(2**level for level in range(MIN_LEVEL, MAX_LEVEL + 1))
_BASE_BATCH, _MOST_RATE = 2, 0.04
_SCRATCH_RATE, _TUNING_RATE = 0.02, 0.01
"""Of a batch of two, from random weights and from trained ones.

In five minutes of two cores BCCD came to 0.517 with a rate of 0.025 and to 0.488 with 0.01: short runs
from random weights want a high one, which the warm-up and the limit of the gradient allow.
"""

_HEAD_DIM = "fast_rcnn_mlp_head_dim"
_SHORT = 1000
"""Steps below which a mask head of a quarter of the published width is all that can be learnt."""

_CASCADE = (0.5, 0.6)
_CASCADE_STEPS = 450
"""Overlaps of two box heads, and steps from which two learn more than one does in the same time.

From random weights, in 450 steps, they gained 4.8 points of AP on BCCD and 2.2 of mask AP on nuclei, at
two fifths and a tenth more time; three gained less (docs/recipes.md). Shorter runs were not measured.
Heads of a detector that a run starts from stay as many as they are.
"""

_LARGE = 1 / 3
"""Fraction of the image's side above which even small objects are large."""
_LEVEL_4 = 1 / 4
"""Fraction of the canvas' side from which large objects are pooled from level 4.

A box of half the canvas is then read from level 5. By the rule for images of 800 pixels a small canvas
has nearly all of them in its finest maps: one object of 0.4 to 0.9 of 192 x 256 pixels came to an AP of
0.05 in 300 steps, to 0.10 with twice this side and to 0.15 with it. Blood cells lost one point by twice
this side.
"""

_FOREGROUND = {False: 0.5, True: 0.25}
"""{masks are learnt: fraction of the rois that may be foreground}.

Boxes learn from foreground alone: the same run came to 0.566 with twice as much of it. A mask head would
take twice the time.
"""

_NARROW = (
    *(f"l{level}" for level in range(2, 6)),
    *(f"post_hoc_d{level}" for level in range(2, 6)),
    "rpn",
)
_DEFAULTS = {
    "rpn_conv_depth": 1,
    "box_head": "2fc",
    "fpn_norm": "none",
    "head_norm": "none",
    "bottleneck_stride": "convention",
    "pixel_order": "convention",
    "roi_sampling_ratio": None,
    "canonical_box_size": 224.0,
}
"""{field of the network that weights depend on: its default}."""
_LISTS = ("pixel_mean", "pixel_std")
_NARROW_MASK = (*(f"mask-conv-l{index}" for index in range(4)), "conv5-mask")


def anchors(sides: np.ndarray, canvas: tuple[int, int]) -> Anchors:
    """Returns anchors for objects of these sides, f[n 2]; the canvas does not matter to a pyramid."""
    del canvas
    return on_pyramid(sides, STRIDES)


def text(draft: Draft) -> str:
    """Returns the spec of a draft."""
    height, width = draft.canvas
    (train,) = draft.train
    steps = draft.steps
    warmup = max(min(150, steps // 10), 1)
    period = max(steps // draft.validations, 1)
    base = _TUNING_RATE if draft.weights else _SCRATCH_RATE
    rate = min(base * draft.batch / _BASE_BATCH, _MOST_RATE)
    # Factors of width and height of one area, as `aspect_ratios` has them.
    ratios = ", ".join(f"({ratio**0.5:.3g}, {ratio**-0.5:.3g})" for ratio in draft.anchors.ratios)
    widths = _narrow(draft.masks, steps) if draft.widths is None else dict(draft.widths)
    head_dim = widths.pop(_HEAD_DIM, 1024)
    plan = "".join(
        f'  channel_plan {{ key: "{layer}" value: {width} }}\n' for layer, width in widths.items()
    )
    arch, _, layers = draft.arch.partition(":")
    masks = "true" if draft.masks else "false"
    weights = f"checkpoint: {quote(draft.weights)}\n" if draft.weights else ""
    vertical = "0.5" if draft.vertical_flips else "0.0"
    proposals = max(500, 4 * draft.max_objects)
    cascade = ""
    if draft.widths is None and steps >= _CASCADE_STEPS:
        cascade = f"  cascade_ious: {list(_CASCADE)}\n"
    pooling = ""
    if draft.widths is None and draft.small_fraction > _LARGE:
        pooling = f"  canonical_box_size: {_LEVEL_4 * (height * width) ** 0.5:.0f}\n"
    average = round(1 - 1 / min(max(steps / 8, 20), 2000), 4)
    network = "".join(f"  {name}: {value}\n" for name, value in draft.network.items())
    small = "  allow_small: true\n" if min(draft.canvas) < 128 else ""
    return f"""\
{draft.comment("head")}\
{draft.recipe_line}\
seed: {draft.seed}
{draft.comment("schedule")}\
train_batch_size: {draft.batch}
eval_batch_size: 4
total_steps: {steps}
num_steps_per_eval: {period}
momentum: 0.9
l2_weight_decay: 0.0001
warmup_steps: {warmup}
warmup_learning_rate: {rate / 100:g}
init_learning_rate: {rate:g}
learning_rate_schedule: "cosine"
ema_decay: {average:g}
clip_norm: 10.0
{draft.comment("weights")}{weights}
data_config {{
{draft.comment("canvas", "  ")}\
  image_size: "({height}, {width})"
{draft.tile_lines}\
{small}{draft.comment("flips", "  ")}\
  augment_input_data: {"true" if draft.horizontal_flips else "false"}
  vflip_probability: {vertical}
  scale_jitter_min: 0.8
  scale_jitter_max: 1.25
{draft.comment("data", "  ")}\
  eval_samples: {draft.val_images}
  coco_train_image_dir: {quote(train.images)}
  coco_train_json: {quote(train.labels)}
  coco_val_image_dir: {quote(draft.val.images)}
  val_json_file: {quote(draft.val.labels)}
{draft.comment("classes", "  ")}\
  num_classes: {len(draft.classes) + 1}
  skip_crowd_during_training: true
{draft.comment("objects", "  ")}\
  max_num_instances: {draft.max_objects}
  n_workers: 2
}}

maskrcnn_config {{
  arch: {quote(arch)}
  nlayers: {layers}
  convention: {quote(draft.convention)}
{network}\
  freeze_bn: false
  freeze_blocks: "[]"
  gt_mask_size: 56
{draft.comment("anchors", "  ")}\
  min_level: {MIN_LEVEL}
  max_level: {MAX_LEVEL}
  num_scales: {draft.anchors.octaves}
  aspect_ratios: "[{ratios}]"
  anchor_scale: {draft.anchors.scales[0]:.0f}
  # Region proposal network.
  rpn_positive_overlap: 0.7
  rpn_negative_overlap: 0.3
  rpn_batch_size_per_im: 256
  rpn_fg_fraction: 0.5
  rpn_min_size: 0.0
  train_rpn_pre_nms_topn: {max(1000, draft.candidates)}
  train_rpn_post_nms_topn: {proposals}
  train_rpn_nms_threshold: 0.7
  # Rois that train the heads.
  batch_size_per_im: 128
  fg_fraction: {_FOREGROUND[draft.masks]}
  fg_thresh: 0.5
  bg_thresh_hi: 0.5
  bg_thresh_lo: 0.0
  # Heads{", the second refines the boxes of the first" if cascade else ""}.
{cascade}{pooling}\
  {_HEAD_DIM}: {head_dim}
  bbox_reg_weights: "(10.0, 10.0, 5.0, 5.0)"
{plan}\
{draft.comment("masks", "  ")}\
  include_mask: {masks}
  mrcnn_resolution: 28
  # Test.
  test_rpn_pre_nms_topn: {draft.candidates}
  test_rpn_post_nms_topn: {proposals}
  test_rpn_nms_thresh: 0.7
  test_nms: 0.5
  test_detections_per_image: {max(100, draft.max_detections)}
}}
"""


def _narrow(masks: bool, steps: int) -> dict[str, int]:
    """Half the published widths: enough for the few classes of small sets, in half of the time."""
    widths = dict.fromkeys(_NARROW, 128) | {_HEAD_DIM: 512}
    return widths | dict.fromkeys(_NARROW_MASK if masks else (), 64 if steps < _SHORT else 128)


def inherited(config: Config) -> Inherited:
    """Network fields that a run inherits from the Mask R-CNN that it starts from.

    Without its layers the weights of the pyramid and the heads would not load, and without its pixels and
    strides they would mean something else.
    """
    network = config.maskrcnn_config
    fields = {
        name: quote(value) if isinstance(value, str) else str(value)
        for name, default in _DEFAULTS.items()
        if (value := network[name]) != default
    }
    # Lists are texts in these specs.
    for name in _LISTS:
        if values := tuple(network[name] or ()):
            fields[name] = quote(str(list(values)))
    if network.cascade_ious:
        fields["cascade_ious"] = str(list(network.cascade_ious))
    arch = f"{network.arch}:{network.nlayers}"
    widths = {**network.channel_plan, _HEAD_DIM: network[_HEAD_DIM]}
    return Inherited(arch=arch, convention=network.convention, network=fields, widths=widths)


WRITER = SpecWriter(
    finest=STRIDES[0],
    grid=STRIDES[-1],
    labels="coco",
    keeps_aspect=True,
    masks=True,
    backbones=tuple(f"resnet:{depth}" for depth in (10, 18, 34, 50, 101)),
    anchors=anchors,
    inherited=inherited,
    text=text,
    takes_detectors=True,
)
