"""Mask R-CNN, ResNet-50, COCO 2017, from a checkpoint of torchvision.

python -m rcnn_jax.main --config=configs/mask_rcnn/torchvision_resnet50.py --workdir=out/torchvision
"""

from pathlib import Path

from ml_collections import ConfigDict

from rcnn_jax.spec import load_spec


def get_config() -> ConfigDict:
    """Returns the config of the spec beside this file."""
    return load_spec(Path(__file__).with_suffix(".txt")).config
