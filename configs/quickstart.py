"""The example of `make quickstart` as a config.

python -m rcnn_jax.main --config=configs/quickstart.py --workdir=out/quickstart/run
"""

from pathlib import Path

from ml_collections import ConfigDict

from rcnn_jax.spec import load_spec


def get_config() -> ConfigDict:
    """Returns the config of faster_rcnn/quickstart.txt."""
    return load_spec(Path(__file__).parent / "faster_rcnn" / "quickstart.txt").config
