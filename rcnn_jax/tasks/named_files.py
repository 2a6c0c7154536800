"""Files and folders that a spec names for commands: models, images, results. No jax here.

The command line asks for these before it opens its log, so that it can refuse to write over them.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Config = Any
"""A `ConfigDict` of the spec: its fields are in the spec's tables, which a type checker cannot read."""


@dataclass(frozen=True)
class NamedPath:
    """A path of the spec.

    Attributes:
      field: the field that names it, for messages.
      path: the path.
    """

    field: str
    path: Path


@dataclass(frozen=True)
class NamedModel(NamedPath):
    """A model file of the spec.

    Attributes:
      cache: calibration cache with which an exported model is run as int8, or None.
    """

    cache: Path | None = None


@dataclass(frozen=True, kw_only=True)
class NamedFiles:
    """The files and folders that a spec names for commands; None or absent where it names none.

    Attributes:
      output_model: base name of the models that training writes.
      models: {`evaluate` or `inference`: the model it runs}.
      images: to run inference on.
      pictures: folder of annotated images.
      labels: folder of label files.
    """

    output_model: NamedPath | None = None
    models: dict[str, NamedModel] = field(default_factory=dict)
    images: NamedPath | None = None
    pictures: NamedPath | None = None
    labels: NamedPath | None = None
