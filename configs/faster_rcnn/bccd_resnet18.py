"""Faster R-CNN, ResNet-18, blood cells from a KITTI folder.

python -m rcnn_jax.main --config=configs/faster_rcnn/bccd_resnet18.py --workdir=out/bccd_resnet18
"""

from pathlib import Path

from ml_collections import ConfigDict

from rcnn_jax.spec import load_spec


def get_config() -> ConfigDict:
    """Returns the config of the spec beside this file."""
    return load_spec(Path(__file__).with_suffix(".txt")).config
