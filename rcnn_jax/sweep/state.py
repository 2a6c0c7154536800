"""The state of a search in a folder: what it is of, and the seconds that all its starts have spent."""

import json
from dataclasses import dataclass
from pathlib import Path

from rcnn_jax.checkpoints.atomic import write_file
from rcnn_jax.errors import UsageError
from rcnn_jax.sweep.definition import Definition

STATE = "sweep.json"


@dataclass(frozen=True)
class State:
    """Where the state of a search is kept, and what that is a search of.

    Attributes:
      path: of the file, in the folder of the search.
      what: kind of search, for messages.
      field: of the file, that says what the search is of.
      digest: what this search is of.
      refusal: what the folder holds where its search is of something else, and what to do.
    """

    path: Path
    what: str
    field: str
    digest: str
    refusal: str


def state_of(definition: Definition, root: Path) -> State:
    """Returns the state of a sweep."""
    return State(
        path=root / STATE,
        what="sweep",
        field="definition",
        digest=definition.digest,
        refusal="holds a sweep of another space or other objectives: name another folder for "
        f"{definition.path}, or put the file back as it was",
    )


def open_state(state: State) -> float:
    """Makes the folder of a search or checks the one that is there; returns the seconds spent in it.

    Raises:
      UsageError: the folder holds another search, or a file that is no state.
    """
    path = state.path
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        write_state(state, 0.0)
        return 0.0
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        digest, seconds = content[state.field], float(content["seconds"])
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path}: is not the state of a {state.what}; name another folder"
        ) from error
    if digest != state.digest:
        raise UsageError(f"{path.parent}: {state.refusal}")
    return seconds


def write_state(state: State, seconds: float) -> None:
    """Writes the state; a start that is killed later has used up so much of the budget."""
    content = {state.field: state.digest, "seconds": seconds}
    write_file(state.path, [json.dumps(content).encode()])
