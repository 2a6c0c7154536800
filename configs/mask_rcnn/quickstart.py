"""Mask R-CNN, narrow ResNet-10, made-up cells.

    python -m rcnn_jax.main --config=configs/mask_rcnn/quickstart.py --workdir=out/masks/run

The data:

    from rcnn_jax.data.synthetic import write_coco
    write_coco("out/masks/data", seed=0, train_count=256, val_count=64, height=240, width=320)
"""

from pathlib import Path

from ml_collections import ConfigDict

from rcnn_jax.spec import load_spec


def get_config() -> ConfigDict:
    """Returns the config of the spec beside this file."""
    return load_spec(Path(__file__).with_suffix(".txt")).config
