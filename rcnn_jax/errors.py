"""Every error a user can meet, as one small tree.

    RcnnError                    exit code 2: the input is wrong, the message says what to do
    ├── UsageError               command line: unknown command, missing flag
    ├── SpecError                spec file or config: name, type, range, position
    ├── DataError                images, labels, records
    ├── CheckpointError          bundles, checkpoints, keys, fingerprints
    ├── ExportError              a graph that cannot be made or does not agree (exit code 1)
    ├── TrainingError            a run that cannot go on: non-finite loss, no memory (exit code 1)
    └── MissingDependencyError   an optional package is absent

A message says what is wrong, where, what was found, what is expected and what to do. Mistakes of the
program itself stay ordinary Python exceptions and end with a traceback and exit code 1.
"""

from rcnn_jax.printable import printable


class RcnnError(Exception):
    """An error that the user can mend; its text is the whole output of the program.

    Messages repeat what is found in files: control characters in it are shown, not obeyed.
    """

    exit_code = 2

    def __init__(self, message: str = ""):
        # Here and not where messages are printed: no path to a terminal, a log or status.json is
        # missed.
        super().__init__(printable(message))


class UsageError(RcnnError):
    """The command line asks for something that does not exist."""


class SpecError(RcnnError):
    """A spec file or a config holds something that is unknown, of a wrong type or out of range."""


class DataError(RcnnError):
    """Images, labels or records are missing, damaged or contradict the spec."""


class CheckpointError(RcnnError):
    """A bundle or checkpoint cannot be read, does not fit the spec, or the key is wrong."""


class ExportError(RcnnError):
    """A graph could not be made or does not agree with the model it came from."""

    exit_code = 1


class TrainingError(RcnnError):
    """A training run cannot go on; its checkpoints stay."""

    exit_code = 1


class MissingDependencyError(RcnnError):
    """A package outside the core installation is needed."""
