"""Models of both detectors that nobody trained, made anew: they are too large to be kept."""

import contextlib
import functools
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rcnn_jax.kinds import Kind
from tests.export.files import make_files


@dataclass(frozen=True)
class Untrained:
    """Files of a model.

    Attributes:
      bundle: content of the `.tlt`.
      graph: content of the `.onnx`.
    """

    bundle: bytes
    graph: bytes


@functools.cache
def untrained(kind: Kind) -> Untrained:
    """Returns the files of a tiny model."""
    with tempfile.TemporaryDirectory() as root, contextlib.chdir(root):
        files = make_files(Path(), kind)  # no path of this machine gets into them
        return Untrained(files.model.read_bytes(), files.graph.read_bytes())
