"""Short specs that pass every check, as text to change, and the first steps of reading."""

import re
from typing import Any

from rcnn_jax.kinds import SpecKind
from rcnn_jax.spec.kinds import TABLES
from rcnn_jax.spec.text.scan import Scan, scan
from rcnn_jax.spec.text.secrets import hide
from rcnn_jax.spec.text.tokens import tokenize

FASTER = """\
model_config {
  input_image_config {
    size_height_width { height: 256 width: 320 }
  }
  arch: "resnet:18"
}
dataset_config {
  data_sources {
    tfrecords_path: "records/*"
    image_directory_path: "images"
  }
  target_class_mapping { key: "Car" value: "car" }
  validation_fold: 0
}
augmentation_config {
  preprocessing { output_image_width: 320 output_image_height: 256 }
}
training_config {
  rpn_min_overlap: 0.3
  rpn_max_overlap: 0.7
  optimizer { sgd { momentum: 0.9 } }
  learning_rate { soft_start { base_lr: 0.02 start_lr: 0.002 soft_start: 0.1 } }
}
"""

MASK = """\
total_steps: 100
data_config {
  image_size: "(256, 320)"
  num_classes: 4
}
maskrcnn_config {
  nlayers: 18
}
"""

CONVERT = """\
kitti_config {
  root_directory_path: "kitti"
  image_dir_name: "image_2"
  label_dir_name: "label_2"
}
"""

SAMPLES = {"faster_rcnn": FASTER, "mask_rcnn": MASK, "dataset_convert": CONVERT}


def scanned(text: str, kind: SpecKind = "faster_rcnn") -> Scan:
    """Returns what the first pass finds in a text."""
    return scan(hide(tokenize(text)), TABLES[kind])


def values_of(text: str, kind: SpecKind = "faster_rcnn") -> dict[str, Any]:
    """Returns what a text without errors of form says."""
    result = scanned(text, kind)
    assert not result.problems, result.problems
    return result.values


EVERY_BLOCK = re.compile(r"\[\d+\]")
"""The index of a repeated entry in a path."""
