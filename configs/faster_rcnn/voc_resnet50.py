"""Faster R-CNN, ResNet-50, Pascal VOC 07+12, short side 600 pixels.

python -m rcnn_jax.main --config=configs/faster_rcnn/voc_resnet50.py --workdir=out/voc_resnet50
"""

from pathlib import Path

from ml_collections import ConfigDict

from rcnn_jax.spec import load_spec


def get_config() -> ConfigDict:
    """Returns the config of the spec beside this file."""
    return load_spec(Path(__file__).with_suffix(".txt")).config
