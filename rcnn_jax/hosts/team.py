"""The processes of a job as the rest of the program sees them: who is the chief, what do the others say.

A job of one process is a team too, and everything here costs it nothing. Like JAX's own distributed
state the team is one of the whole process: `team()` returns it, `join` makes it.
"""

import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rcnn_jax.errors import CheckpointError, UsageError
from rcnn_jax.hosts.launch import Launch
from rcnn_jax.hosts.monitor import EXIT_CODE, LocalStore, Monitor
from rcnn_jax.hosts.rollcall import call_roll
from rcnn_jax.interrupt import Interrupts
from rcnn_jax.version import __version__

PREFIX = "rcnn_jax/"
CHIEF = 0
"""The process that writes, where several work together: all of them know the same numbers."""


class Team:
    """The processes of a job.

    Attributes:
      index: of this process.
      count: of processes.
      monitor: the thread that watches over them; None for a job of one without a stall timeout.
    """

    def __init__(self, index: int = 0, count: int = 1, monitor: Monitor | None = None):
        """Wraps the processes that `join` has connected."""
        self.index, self.count, self.monitor = index, count, monitor
        self._signals: Interrupts | None = None

    @property
    def is_chief(self) -> bool:
        """Says whether this process writes files and talks to the user."""
        return self.index == CHIEF

    @property
    def is_many(self) -> bool:
        """Says whether there are others."""
        return self.count > 1

    @property
    def speaker(self) -> str:
        """Prefix of the errors of a process, where it is one of several and not the chief."""
        if self.is_chief or self.monitor is None:
            return ""
        return f"{self.monitor.name(self.index)}: "

    def wait(self, what: str) -> None:
        """Returns when all processes have come here."""
        if self.is_many:
            from jax.experimental import multihost_utils

            multihost_utils.sync_global_devices(f"rcnn_jax {what}")

    def gather(self, data: bytes) -> list[bytes]:
        """Returns the values of all processes, in order; all must call it."""
        if not self.is_many:
            return [data]
        import numpy as np  # here: help must answer at once
        from jax.experimental import multihost_utils

        # Lengths first: collectives have one shape for all, so everyone pads to the longest.
        sizes = np.asarray(
            multihost_utils.process_allgather(np.asarray([len(data)], np.int32))
        ).reshape(-1)
        padded = np.zeros(max(int(sizes.max()), 1), np.uint8)
        padded[: len(data)] = np.frombuffer(data, np.uint8)
        rows = np.asarray(multihost_utils.process_allgather(padded)).reshape(self.count, -1)
        return [row[:size].tobytes() for row, size in zip(rows, sizes, strict=True)]

    def gather_json(self, value: Any) -> list[Any]:
        """Returns the JSON values of all processes, in order; floats arrive bit for bit."""
        if not self.is_many:
            return [value]
        return [json.loads(data) for data in self.gather(json.dumps(value).encode())]

    def agree(self, what: str, value: Any) -> None:
        """Makes sure that all processes have the same JSON value.

        Raises:
          CheckpointError: they have not.
        """
        values = self.gather_json(value)
        # The first that differs is enough to name; all of them would be a page on a large job.
        other = next((i for i, one in enumerate(values) if one != values[0]), None)
        if other is not None:
            raise CheckpointError(
                f"the processes do not agree on {what}: process 0 has {values[0]}, process {other} has "
                f"{values[other]}. All must see the same files: put results and data on a folder that "
                "every machine mounts, and give all of them the same command"
            )

    @contextlib.contextmanager
    def heeding(self, signals: Interrupts) -> Iterator[None]:
        """While inside, a signal at one process stops all of them at the same tick.

        Args:
          signals: those of this process; the first one is noted from here on.
        """
        if not self.is_many or self.monitor is None:
            yield
            return
        self._signals, signals.asked = signals, self.monitor.ask_to_stop
        try:
            self.wait("signals are heeded")  # from here on by all
            yield
        finally:
            self._signals, signals.asked = None, None
            self.monitor.rest("the end")

    def tick(self, doing: str) -> bool:
        """Begins a piece of work that all processes begin; says whether to stop instead.

        Args:
          doing: what begins, for messages.
        """
        if self.monitor is None:
            return False
        number = self.monitor.tick(doing)
        if number is None or self._signals is None:
            return False
        self._signals.noted = self._signals.noted or number
        return True

    def tick_or_stop(self, doing: str) -> None:
        """As `tick`, where there is nothing to save.

        Raises:
          Stopped: all processes stop here.
        """
        if self.tick(doing) and self._signals is not None:
            self._signals.stop()

    def rest(self, doing: str) -> None:
        """Allows the work until the next tick as much time as a file or a compilation takes."""
        if self.monitor is not None:
            self.monitor.rest(doing)

    def blame(self, error: BaseException) -> None:
        """Ends the process with the cause, where an error is only the echo of another process's end.

        A process that ends tears its connections, and what waits for it fails in words about sockets.

        Args:
          error: of this process.
        """
        if not self.is_many or self.monitor is None or not _is_torn(error):
            return
        until = time.monotonic() + 10.0
        while time.monotonic() < until:
            for index, (text, code) in sorted(self.monitor.gone().items()):
                self.monitor.end(f"{self.monitor.name(index)} has ended: {text}", code)
            # Four beats: a process that was killed leaves no note, only silence.
            dead = self.monitor.silent(4.0)
            if dead:
                names = ", ".join(map(self.monitor.name, dead))
                self.monitor.end(
                    f"{names} has ended without a word: it was killed, or its machine failed. All "
                    "processes end; the same command goes on from what is saved"
                )
            time.sleep(0.2)

    def leave(self, text: str, code: int) -> bool:
        """Tells the others of an error that ends this process; says whether the user must hear it.

        Of several processes with the same error the chief speaks.

        Args:
          text: of the error.
          code: exit code.
        """
        if not self.is_many or self.monitor is None:
            return True
        self.monitor.leave(text, code)
        until = time.monotonic() + 4.0
        while time.monotonic() < until:
            gone = self.monitor.gone()
            if not self.is_chief and CHIEF in gone:
                # Everyone fails alike at a wrong spec, and sixty-four equal messages hide it.
                return gone[CHIEF][0] != text
            # The coordinator lives in the chief: the others must have read its note before it ends.
            if self.is_chief and len(gone) == self.count - 1:
                break
            time.sleep(0.1)
        return True

    def finish(self) -> None:
        """Ends the watch; call it when the work is done."""
        if self.monitor is not None:
            self.monitor.finish()


_current = [Team()]


def team() -> Team:
    """Returns the team of this process."""
    if not _current[0].is_many and "jax" in sys.modules:
        import jax

        # Whoever calls the library may have connected the processes himself.
        if jax.distributed.is_initialized() and jax.process_count() > 1:
            _current[0] = Team(jax.process_index(), jax.process_count())
    return _current[0]


def watch_alone(stall_timeout: float) -> Team:
    """Returns the team of a job of one process that ends itself when it is stuck."""
    monitor = Monitor(
        LocalStore(), 0, 1, heartbeat_timeout=float("inf"), stall_timeout=stall_timeout
    )
    monitor.start()
    _current[0] = Team(monitor=monitor)
    return _current[0]


def join(launch: Launch, say: Callable[[str], None]) -> Team:
    """Connects this process with the others of its job; call it before JAX starts its devices.

    Args:
      launch: this process.
      say: told who is missing.

    Raises:
      UsageError: not all processes have come, or they see different numbers of devices.
    """
    import jax

    call_roll(launch, {"rcnn-jax": __version__, "jax": jax.__version__}, say)
    jax.config.update("jax_enable_preemption_service", False)  # see the top of `monitor`
    with _past_proxies():
        jax.distributed.initialize(
            launch.coordinator,
            launch.count,
            launch.index,
            cluster_detection_method="deactivate",
            initialization_timeout=int(launch.init_timeout) + 1,
            # The monitor sees a dead process first and says who it is; this is for a monitor that died.
            heartbeat_timeout_seconds=int(launch.heartbeat_timeout) + 30,
        )
    store = _CoordinationStore()
    host = socket.gethostname()
    names = {launch.index: f"process {launch.index} on {host}"}
    store.set(f"name/{launch.index}", names[launch.index])
    monitor = Monitor(
        store,
        launch.index,
        launch.count,
        heartbeat_timeout=launch.heartbeat_timeout,
        stall_timeout=launch.stall_timeout,
        start_timeout=launch.init_timeout,
        names=names,
    )
    _end_in_our_words(monitor)
    monitor.start()
    _current[0] = Team(launch.index, launch.count, monitor)
    _require_equal_devices(launch.count)
    _current[0].wait("all are here")
    for key, value in store.read().items():
        if key.startswith("name/"):
            monitor.names[int(key.removeprefix("name/"))] = value
    return _current[0]


def _require_equal_devices(processes: int) -> None:
    """Checks what JAX's own collectives take for granted.

    Raises:
      UsageError: a process has more devices than another.
    """
    import jax

    owners = [device.process_index for device in jax.devices()]
    counts = [owners.count(index) for index in range(processes)]
    other = next((i for i, count in enumerate(counts) if count != counts[0]), None)
    if other is not None:
        raise UsageError(
            f"process 0 sees {counts[0]} device(s), process {other} {counts[other]}: give every process "
            "as many GPUs (Slurm: --gpus-per-node, or --gpus-per-task; CUDA_VISIBLE_DEVICES elsewhere)"
        )


@contextlib.contextmanager
def _past_proxies() -> Iterator[None]:
    """Hides proxies from the connection to the coordinator while it is made.

    gRPC would ask a proxy of the outer world for a machine of the cluster, and JAX's runtime then aborts
    without a word. Downloads and Slurm get the variables back.
    """
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if is_proxy(name)}
    try:
        yield
    finally:
        os.environ.update(hidden)


def is_proxy(name: str) -> bool:
    """Says whether a variable of the environment names a proxy, or where to do without."""
    return name.lower().endswith("_proxy")


class _CoordinationStore:
    """JAX's coordination service, which process 0 hosts."""

    def __init__(self) -> None:
        # There is no public name for it; Orbax and JAX's own helpers reach it in the same way.
        from jax._src.distributed import global_state

        self._client: Any = global_state.client

    def set(self, key: str, value: str) -> None:
        """Writes a value."""
        self._client.key_value_set(PREFIX + key, value, allow_overwrite=True)

    def read(self) -> Mapping[str, str]:
        """Returns all values by key."""
        return {
            key.removeprefix(PREFIX): value for key, value in self._client.key_value_dir_get(PREFIX)
        }


_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int)
_kept: list[Any] = []


def _end_in_our_words(monitor: Monitor) -> None:
    """Ends the process with a message and its code where JAX's runtime would abort.

    The runtime aborts on a thread of its own when the coordinator is gone, within milliseconds. A
    handler of Python would never run: the signal arrives in C++ and kills. JAX 0.10 knows a call-back
    for it, which fails to convert its argument.
    """

    def end(_: int) -> None:
        if monitor.leaving is not None:  # the chief was quicker; the main thread is about to end
            time.sleep(10.0)
            os._exit(monitor.leaving)
        monitor.end(
            f"{monitor.name(CHIEF)}, the coordinator, has ended or is out of reach, and JAX's runtime "
            "gave up. All processes end; the same command goes on from what is saved "
            "(TF_CPP_MIN_LOG_LEVEL=0 shows the runtime's own words)",
            EXIT_CODE,
            tell=False,
        )

    handler = _HANDLER(end)
    _kept.append(handler)  # the C library keeps an address, not a reference
    libc = ctypes.CDLL(None)
    libc.signal.argtypes, libc.signal.restype = [ctypes.c_int, _HANDLER], ctypes.c_void_p
    libc.signal(signal.SIGABRT, handler)


def _is_torn(error: BaseException) -> bool:
    """Says whether an error is that of a collective whose other side is gone."""
    text = str(error)
    return any(word in text for word in ("Gloo", "NCCL", "Connection closed", "coordination"))
