"""Runs a config file: the door for people who write configs in Python.

    python -m rcnn_jax.main --config=configs/quickstart.py --workdir=out
    python -m rcnn_jax.main --config=configs/spec.py:my_spec.txt --workdir=out --mode=evaluate
    ... --config.training_config.num_epochs=3        changes one field; the whole is checked again

Kept short so that everything it calls can be imported and tested. The key of sealed files comes
from the environment variable RCNN_JAX_KEY or the config's enc_key.
"""

import sys
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from rcnn_jax.cli.huge_pages import take_huge_pages
from rcnn_jax.cli.main import guarded, run_config
from rcnn_jax.errors import UsageError

MODES = ("train", "evaluate", "inference", "export", "dataset_convert")

_CONFIG = config_flags.DEFINE_config_file("config", None, "File with get_config().")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder for everything that is written.")
_MODE = flags.DEFINE_enum("mode", "train", MODES, "What to do.")
_MODEL = flags.DEFINE_string("model", None, "Model file; best.tlt of the workdir by default.")
_IMAGES = flags.DEFINE_string("images", None, "Folder of images, where the config names none.")


def run() -> int:
    """Runs the mode that the flags ask for; returns the exit code."""
    if _CONFIG.value is None or _WORKDIR.value is None:
        raise UsageError("both --config=FILE and --workdir=DIR are needed")
    workdir = Path(_WORKDIR.value)
    if _MODE.value == "dataset_convert":
        return run_config(_MODE.value, _CONFIG.value, ["-d", "config", "-o", str(workdir / "data")])
    given = ["-e", "config", "-r", str(workdir)]
    best = workdir / "best.tlt"
    model = _MODEL.value or (str(best) if best.exists() else None)
    if _MODE.value != "train" and model:
        given += ["-m", model]
    if _MODE.value == "inference" and _IMAGES.value:
        given += ["-i", _IMAGES.value]
    return run_config(_MODE.value, _CONFIG.value, given)


def main() -> None:
    """Parses the flags with absl and leaves with the exit code of the run."""
    sys.exit(guarded(lambda: app.run(lambda _: run())))


if __name__ == "__main__":
    take_huge_pages()
    main()
