"""Any spec file as a config; its fields can be overridden one by one.

    python -m rcnn_jax.main --config=configs/spec.py:my_spec.txt --workdir=out \\
        --config.training_config.num_epochs=3
"""

from ml_collections import ConfigDict

from rcnn_jax.errors import SpecError
from rcnn_jax.spec import load_spec


def get_config(path: str = "") -> ConfigDict:
    """Returns the config of the spec file named behind the colon.

    Raises:
      SpecError: no file is named, or the spec has errors.
    """
    if not path:
        raise SpecError("configs/spec.py needs a spec: --config=configs/spec.py:FILE")
    return load_spec(path).config
