"""File names of bundles, of every generation of the original.

    <stem>.epoch<N>.tlt       Faster R-CNN, TLT 3 (its manual): written
    <stem>.epoch_<N>.tlt      Faster R-CNN, TAO 4 and 5 (there also .hdf5): read
    model.step-<N>.tlt        Mask R-CNN, TLT 3 to TAO 4: written
    model.epoch-<N>.tlt       Mask R-CNN, TAO 5: read

Sources: docs/reference/faster_rcnn.md, "Names of model files";
docs/reference/mask_rcnn.md, "Names of model files".
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

BEST = "best.tlt"
"""The bundle of the best evaluation so far."""

_PROGRESS = re.compile(r"^(?P<stem>.+)\.(?P<unit>epoch|step)[-_]?(?P<count>\d+)\.(?:tlt|hdf5)$")


@dataclass(frozen=True)
class Progress:
    """Progress of a run at a bundle: `count` epochs (1-based) or steps."""

    stem: str
    unit: Literal["epoch", "step"]
    count: int


def epoch_bundle(output_model: Path | str, epoch: int) -> Path:
    """Returns the path of an epoch of Faster R-CNN.

    Example:
      >>> str(epoch_bundle("out/resnet18.tlt", 12))
      'out/resnet18.epoch12.tlt'
    """
    path = Path(output_model)
    return path.with_name(f"{path.name.removesuffix('.tlt')}.epoch{epoch}.tlt")


def step_bundle(folder: Path | str, step: int) -> Path:
    """Returns the path of a step of Mask R-CNN.

    Example:
      >>> str(step_bundle("out", 2500))
      'out/model.step-2500.tlt'
    """
    return Path(folder) / f"model.step-{step}.tlt"


def parse(path: Path | str) -> Progress | None:
    """Returns the progress in a bundle's name, or None.

    Example:
      >>> parse("out/resnet18.epoch_12.tlt")
      Progress(stem='resnet18', unit='epoch', count=12)
    """
    match = _PROGRESS.match(Path(path).name)
    if match is None:
        return None
    unit = "epoch" if match["unit"] == "epoch" else "step"
    return Progress(match["stem"], unit, int(match["count"]))
