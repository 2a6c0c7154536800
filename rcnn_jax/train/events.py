"""Event files of TensorBoard, written on the thread of the caller.

tensorboardX writes them on a thread behind a queue. When the disk is full the thread dies, with a
traceback, and some calls later the queue is full and the training waits for ever. Here a full disk is an
OSError of the call.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

SECONDS_BETWEEN_FLUSHES = 30.0
"""Most that a kill loses of the curves; metrics.jsonl, which a resume relies on, has every line."""
_EDGES = 1e-12 * 1.1 ** np.arange(775)
_BINS = np.concatenate([-_EDGES[::-1], [0.0], _EDGES])
"""Exponential bins from 1e-12 to 1e20, those that TensorBoard's own writers use."""


class Events:
    """One event file in a folder, which is made; the file is begun with the first event."""

    def __init__(self, folder: Path, first_step: int):
        """Opens the file.

        Args:
          folder: where TensorBoard looks.
          first_step: what earlier files hold of this step and later ones is taken back.
        """
        from tensorboardX.event_file_writer import EventsWriter  # late: half a second
        from tensorboardX.proto import event_pb2

        protocol: Any = event_pb2  # its classes are made when it is imported
        folder.mkdir(parents=True, exist_ok=True)
        self._event = protocol.Event
        self._file = EventsWriter(str(folder / "events"))
        self._flushed = time.monotonic()
        # TensorBoard drops what earlier files of the folder hold from this step on: a resumed run
        # takes those steps again, and its curves would double back.
        begins = protocol.SessionLog(status=protocol.SessionLog.START)
        self._write(self._event(step=first_step, session_log=begins))
        # At once: a disk that takes nothing is an error of the start and not of some step.
        self.flush()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Adds numbers under their tags."""
        from tensorboardX.summary import scalar

        for tag, value in values.items():
            self._write(self._event(step=step, summary=scalar(tag, value)))

    def image(self, step: int, tag: str, image: np.ndarray) -> None:
        """Adds a picture u8[h w c], RGB or grey."""
        from tensorboardX.summary import image as summary

        self._write(self._event(step=step, summary=summary(tag, image, dataformats="HWC")))

    def histogram(self, step: int, tag: str, values: np.ndarray) -> None:
        """Adds the distribution of the values f32[n]."""
        from tensorboardX.summary import histogram

        self._write(self._event(step=step, summary=histogram(tag, values, _BINS)))

    def flush(self) -> None:
        """Hands everything to the system."""
        self._file.flush()
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Flushes and closes the file."""
        self._file.close()

    def _write(self, event: Any) -> None:
        event.wall_time = time.time()
        self._file.write_event(event)
        if time.monotonic() - self._flushed > SECONDS_BETWEEN_FLUSHES:
            self.flush()
