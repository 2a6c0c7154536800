"""Mask R-CNN, narrow ResNet-10, made-up cells: second half of `make quickstart`, which makes the data.

python -m rcnn_jax.main --config=configs/mask_rcnn/quickstart.py --workdir=out/quickstart/masks/run
"""

from pathlib import Path

from ml_collections import ConfigDict

from rcnn_jax.spec import load_spec


def get_config() -> ConfigDict:
    """Returns the config of the spec beside this file."""
    return load_spec(Path(__file__).with_suffix(".txt")).config
