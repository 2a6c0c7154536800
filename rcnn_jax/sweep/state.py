"""The state of a sweep: what it is of, and the seconds that all its starts have spent."""

import json
from pathlib import Path

from rcnn_jax.checkpoints.atomic import write_file
from rcnn_jax.errors import UsageError
from rcnn_jax.sweep.definition import Definition

STATE = "sweep.json"


def open_state(definition: Definition, root: Path) -> float:
    """Makes the folder of a sweep or checks the one that is there; returns the seconds spent in it."""
    path = root / STATE
    root.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        write_state(root, definition, 0.0)
        return 0.0
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        digest, seconds = content["definition"], float(content["seconds"])
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: is not the state of a sweep; name another folder") from error
    if digest != definition.digest:
        raise UsageError(
            f"{root}: holds a sweep of another space or other objectives: name another folder for "
            f"{definition.path}, or put the file back as it was"
        )
    return seconds


def write_state(root: Path, definition: Definition, seconds: float) -> None:
    """Writes the state; a start that is killed later has used up so much of the budget."""
    content = {"definition": definition.digest, "seconds": seconds}
    write_file(root / STATE, [json.dumps(content).encode()])
