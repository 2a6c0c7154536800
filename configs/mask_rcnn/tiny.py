"""Mask R-CNN, tiny ResNet-10, 64 x 64 pixels: for tests and for trying things out.

    python -m rcnn_jax.main --config=configs/mask_rcnn/tiny.py --workdir=out/tiny_masks/run

The data:

    from rcnn_jax.data.synthetic import write_coco
    write_coco("out/tiny_masks", seed=0, train_count=8, val_count=4, height=64, width=64)
"""

from pathlib import Path

from ml_collections import ConfigDict

from rcnn_jax.spec import load_spec


def get_config() -> ConfigDict:
    """Returns the config of the spec beside this file."""
    return load_spec(Path(__file__).with_suffix(".txt")).config
