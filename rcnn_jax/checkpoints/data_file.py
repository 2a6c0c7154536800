"""`data.json`: the training images of a run by name, to report what has changed.

A checkpoint holds only the digest of the whole list (`data/sources/digest.py`): the list of a large
data set is as long as a small model. The file is written before the first step and counts only with a
checkpoint of the same digest.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rcnn_jax.checkpoints.atomic import write_file
from rcnn_jax.data.sources.digest import VERSION, DataDigest, differences

NAME = "data.json"


def write_data(workdir: Path, data: DataDigest) -> None:
    """Writes the images of a run.

    Raises:
      CheckpointError: the file cannot be written.
    """
    text = json.dumps(data.to_json(), separators=(",", ":"))
    write_file(workdir / NAME, [text.encode(), b"\n"])


def changes(stored: Mapping[str, Any], data: DataDigest, workdir: Path) -> list[str]:
    """Returns the differences between the data of a checkpoint and today's, a line each.

    Args:
      stored: `DataDigest.summary` of the data that the checkpoint was trained on. Of another version
        it cannot be compared and counts as the same.
      data: today's.
      workdir: of the run, with the file.
    """
    if stored.get("version") != VERSION or stored == data.summary():
        return []
    try:
        then = DataDigest.from_json(json.loads((workdir / NAME).read_bytes()))
    except (OSError, ValueError):
        then = None
    # The file may be of a run that failed before its first checkpoint: only the digest in a
    # checkpoint says on what was trained.
    if then is None or then.summary() != stored:
        return [
            f"{stored.get('images')} images then, {len(data.images)} now; which of them differ is "
            f"not known, since {workdir / NAME} is missing or of other data"
        ]
    return differences(then, data)
