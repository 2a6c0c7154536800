"""Writes Faster R-CNN specs for new data: one map of stride 16, KITTI folders.

The fixed numbers are those of `experiments/faster_rcnn/bccd_resnet18_scratch`, which were measured. No
jax here.
"""

from pathlib import Path

import numpy as np

from rcnn_jax.data.anchor_search import Anchors, on_one_map
from rcnn_jax.spec.tables.faster_rcnn_model import ARCHITECTURES
from rcnn_jax.spec.text.tokens import quote
from rcnn_jax.tasks.draft import Draft, Inherited, LabelFiles, SpecWriter
from rcnn_jax.tasks.named_files import Config

STRIDE = 16
_BASE_BATCH, _BASE_RATE, _MOST_RATE = 2, 0.015, 0.04


def anchors(sides: np.ndarray, canvas: tuple[int, int]) -> Anchors:
    """Returns anchors for objects of these sides, f[n 2], on a canvas (height, width)."""
    return on_one_map(sides, STRIDE, canvas)


def text(draft: Draft) -> str:
    """Returns the spec of a draft."""
    height, width = draft.canvas
    red, green, blue = draft.pixels.mean
    scales = "".join(f"    scale: {value:.1f}\n" for value in draft.anchors.scales)
    ratios = "".join(f"    ratio: {value:g}\n" for value in draft.anchors.ratios)
    mapping = "".join(
        f"  target_class_mapping {{ key: {quote(label)} value: {quote(name)} }}\n"
        for label, name in draft.classes.items()
    )
    sources = "".join(f"  data_sources {{\n{_source(files)}  }}\n" for files in draft.train)
    proposals = max(200, 4 * draft.max_objects)
    max_boxes = max(50, draft.max_detections)
    rate = min(_BASE_RATE * draft.batch / _BASE_BATCH, _MOST_RATE)
    weights = f"  pretrained_weights: {quote(draft.weights)}\n" if draft.weights else ""
    frozen = draft.comment("weights", "  ")
    period = max(draft.epochs // draft.validations, 1)
    vertical = "0.5" if draft.vertical_flips else "0.0"
    horizontal = "0.5" if draft.horizontal_flips else "0.0"
    return f"""\
{draft.comment("head")}\
{draft.recipe_line}\
random_seed: {draft.seed}

model_config {{
  input_image_config {{
    image_type: RGB
    image_channel_order: "{draft.pixels.order}"
{draft.comment("canvas", "    ")}\
    size_height_width {{ height: {height} width: {width} }}
{draft.comment("pixels", "    ")}\
    image_channel_mean {{ key: "r" value: {red:g} }}
    image_channel_mean {{ key: "g" value: {green:g} }}
    image_channel_mean {{ key: "b" value: {blue:g} }}
    image_scaling_factor: {draft.pixels.divisor:g}
{draft.comment("objects", "    ")}\
    max_objects_num_per_image: {draft.max_objects}
{_small(draft)}\
  }}
  arch: {quote(draft.arch)}
{draft.comment("anchors", "  ")}\
  anchor_box_config {{
{scales}{ratios}\
  }}
  freeze_bn: false
  bn_momentum: {_momentum(draft):g}
  roi_mini_batch: 32
  use_pooling: false
  all_projections: false
  roi_pooling_config {{ pool_size: 3 pool_size_2x: true }}
}}

dataset_config {{
{draft.comment("data", "  ")}\
{sources}\
  validation_data_source {{
{_source(draft.val)}\
  }}
  image_extension: {quote(draft.extension)}
{draft.tile_lines}\
{draft.comment("classes", "  ")}\
{mapping}\
}}

augmentation_config {{
  # Images are stretched to the canvas.
  preprocessing {{ enable_auto_resize: true }}
{draft.comment("flips", "  ")}\
  spatial_augmentation {{ hflip_probability: {horizontal} vflip_probability: {vertical} }}
}}

training_config {{
  enable_augmentation: true
{draft.comment("schedule", "  ")}\
  batch_size_per_gpu: {draft.batch}
  num_epochs: {draft.epochs}
  checkpoint_interval: {period}
  output_model: {quote(str(Path(draft.output) / "model.tlt"))}
{frozen}{weights}\
  rpn_max_overlap: 0.6
  rpn_min_overlap: 0.3
  rpn_mini_batch: 128
  rpn_pre_nms_top_N: {5 * proposals}
  rpn_nms_max_boxes: {proposals}
  rpn_nms_overlap_threshold: 0.7
  gt_as_roi: true
  regularizer {{ type: L2 weight: 5e-5 }}
  optimizer {{ sgd {{ momentum: 0.9 nesterov: true }} }}
  learning_rate {{
    cosine {{ base_lr: {rate:g} start_lr: {rate / 7.5:.4g} soft_start: 0.05 end_lr: 0.0 }}
  }}
  ema_decay: {_average(draft):g}
  clip_norm: 10.0
}}

evaluation_config {{
  batch_size: 8
  validation_period_during_training: {period}
  rpn_pre_nms_top_N: {draft.candidates}
  rpn_nms_max_boxes: {max(100, 2 * draft.max_objects)}
  rpn_nms_overlap_threshold: 0.7
  classifier_nms_max_boxes: {max_boxes}
  classifier_nms_overlap_threshold: 0.5
  object_confidence_thres: 0.01
  gt_matching_iou_threshold_range {{ start: 0.5 end: 1.0 step: 0.05 }}
}}

inference_config {{
  images_dir: {quote(draft.val.images)}
  batch_size: 8
  detection_image_output_dir: {quote(str(Path(draft.output) / "inference" / "images"))}
  labels_dump_dir: {quote(str(Path(draft.output) / "inference" / "labels"))}
  rpn_pre_nms_top_N: {draft.candidates}
  rpn_nms_max_boxes: {max(100, 2 * draft.max_objects)}
  classifier_nms_max_boxes: {max_boxes}
  classifier_nms_overlap_threshold: 0.5
  object_confidence_thres: 0.01
  bbox_visualize_threshold: 0.6
  bbox_caption_on: true
}}
"""


def _source(files: LabelFiles) -> str:
    """Returns the fields of a KITTI folder: the parent of images and labels, and their names in it."""
    images, labels = Path(files.images), Path(files.labels)
    if not images.name or not labels.name:  # the folder that the command was started in
        images, labels = images.absolute(), labels.absolute()
    root = next(parent for parent in images.parents if labels.is_relative_to(parent))
    lines = [
        f"    kitti_directory_path: {quote(str(root))}",
        f"    kitti_image_dir_name: {quote(str(images.relative_to(root)))}",
        f"    kitti_label_dir_name: {quote(str(labels.relative_to(root)))}",
    ]
    if files.listing:
        lines.append(f"    kitti_split_file: {quote(files.listing)}")
    return "".join(f"{line}\n" for line in lines)


def _small(draft: Draft) -> str:
    return "    allow_small: true\n" if min(draft.canvas) < 128 else ""


def _average(draft: Draft) -> float:
    """Weight averaging over about a tenth of the run, as in the measured runs of 1600 steps."""
    return round(1 - 1 / min(max(draft.steps / 8, 20), 2000), 4)


def _momentum(draft: Draft) -> float:
    """Batch statistics settle within a fifteenth of the run; 0.99, as published, from 1500 steps."""
    return round(1 - 1 / min(max(draft.steps / 15, 10), 100), 3)


def inherited(config: Config) -> Inherited:
    """Network fields that a run inherits from a Faster R-CNN: the backbone, as heads fit new classes."""
    return Inherited(arch=config.model_config.arch)


WRITER = SpecWriter(
    finest=STRIDE,
    grid=STRIDE,
    labels="kitti",
    keeps_aspect=False,
    masks=False,
    backbones=ARCHITECTURES,
    anchors=anchors,
    inherited=inherited,
    text=text,
)
