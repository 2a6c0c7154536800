"""A real but tiny experiment: synthetic cells of 96 x 96 pixels and a narrow ResNet-10."""

from pathlib import Path

from rcnn_jax.data.synthetic import write_kitti

WIDTH = 8
LAYERS = (
    "conv1",
    *(f"block_{block}a_conv_{index}" for block in (1, 2, 3, 4) for index in ("1", "2", "shortcut")),
)
PLAN = "\n".join(
    f'channel_plan {{ key: "{layer}" value: {WIDTH} }}' for layer in (*LAYERS, "rpn_conv1")
)

SPEC = """
random_seed: 7
model_config {{
  input_image_config {{
    size_height_width {{ height: 96 width: 96 }}
    image_channel_order: 'bgr'
    max_objects_num_per_image: 20
    allow_small: true
  }}
  arch: "resnet:10"
  anchor_box_config {{ scale: 12 scale: 24 ratio: 1.0 }}
  freeze_bn: false
  all_projections: true
  roi_mini_batch: 8
  roi_pooling_config {{ pool_size: 3 }}
  {plan}
}}
dataset_config {{
  data_sources {{
    kitti_directory_path: "{root}/data"
    kitti_image_dir_name: "images"
    kitti_label_dir_name: "labels"
  }}
  image_extension: 'png'
  target_class_mapping {{ key: 'disc' value: 'disc' }}
  target_class_mapping {{ key: 'star' value: 'star' }}
  target_class_mapping {{ key: 'rod' value: 'rod' }}
  validation_data_source {{
    kitti_directory_path: "{root}/data"
    kitti_image_dir_name: "images"
    kitti_label_dir_name: "labels"
  }}
}}
augmentation_config {{ spatial_augmentation {{ hflip_probability: 0.5 }} }}
training_config {{
  enable_augmentation: true
  batch_size_per_gpu: 2
  num_epochs: {epochs}
  output_model: "{root}/run/tiny.tlt"
  rpn_mini_batch: 32
  rpn_pre_nms_top_N: 64
  rpn_nms_max_boxes: 32
  gt_as_roi: true
  regularizer {{ type: L2 weight: 1e-4 }}
  optimizer {{ sgd {{ momentum: 0.9 }} }}
  learning_rate {{ soft_start {{ base_lr: 0.01 start_lr: 0.001 soft_start: 0.2 }} }}
  {training}
}}
inference_config {{
  images_dir: "{root}/data/images"
  model: "{root}/run/tiny.epoch{epochs}.tlt"
  detection_image_output_dir: "{root}/found/images"
  labels_dump_dir: "{root}/found/labels"
  rpn_pre_nms_top_N: 64
  rpn_nms_max_boxes: 16
  classifier_nms_max_boxes: 10
  bbox_visualize_threshold: 0.05
  bbox_caption_on: true
}}
evaluation_config {{
  batch_size: 4
  model: "{root}/run/tiny.epoch{epochs}.tlt"
  validation_period_during_training: 2
  rpn_pre_nms_top_N: 64
  rpn_nms_max_boxes: 16
  classifier_nms_max_boxes: 10
  gt_matching_iou_threshold: 0.5
  visualize_pr_curve: true
}}
"""


def write_tiny(root: Path, *, images: int = 6, epochs: int = 2, training: str = "") -> Path:
    """Writes data and spec below root and returns the spec."""
    write_kitti(root / "data", seed=3, count=images, height=96, width=96)
    spec = root / "spec.txt"
    spec.write_text(SPEC.format(root=root, epochs=epochs, plan=PLAN, training=training))
    return spec
