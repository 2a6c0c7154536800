"""Faster R-CNN, tiny ResNet-10, 96 x 96 pixels: for tests and for trying things out.

    python -m rcnn_jax.main --config=configs/faster_rcnn/tiny.py --workdir=out/tiny/run

The data:

    from rcnn_jax.data.synthetic import write_kitti
    write_kitti("out/tiny/train", seed=0, count=8, height=96, width=96)
    write_kitti("out/tiny/val", seed=1, count=4, height=96, width=96)
"""

from pathlib import Path

from ml_collections import ConfigDict

from rcnn_jax.spec import load_spec


def get_config() -> ConfigDict:
    """Returns the config of the spec beside this file."""
    return load_spec(Path(__file__).with_suffix(".txt")).config
