"""Mask R-CNN, ResNet-18, nuclei from COCO annotations.

python -m rcnn_jax.main --config=configs/mask_rcnn/nuclei_resnet18.py --workdir=out/nuclei_resnet18
"""

from pathlib import Path

from ml_collections import ConfigDict

from rcnn_jax.spec import load_spec


def get_config() -> ConfigDict:
    """Returns the config of the spec beside this file."""
    return load_spec(Path(__file__).with_suffix(".txt")).config
