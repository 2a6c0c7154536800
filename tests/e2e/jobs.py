"""Jobs of several real processes on this machine, with collectives over its loopback."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence

from tests.e2e.kills import LONGEST, PROGRAM, signals_as_usual


def free_port() -> int:
    """A port that nobody uses at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def start_job(count: int, *flags: object, devices: int = 1) -> list[subprocess.Popen]:
    """Starts `rcnn-jax` as a job of so many processes; process 0 is first in the list.

    Args:
      count: of processes.
      flags: of all of them.
      devices: (virtual) devices of each.
    """
    flags_of_xla = os.environ.get("XLA_FLAGS", "").split()
    forced = [f for f in flags_of_xla if "device_count" not in f]
    forced.append(f"--xla_force_host_platform_device_count={devices}")
    variables = {**os.environ, "XLA_FLAGS": " ".join(forced)}
    where = ["--coordinator", f"127.0.0.1:{free_port()}", "--num_processes", str(count)]
    return [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *map(str, flags), *where, "--process_id", str(index)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=variables,
            preexec_fn=signals_as_usual,
        )
        for index in range(count)
    ]


def ends(job: Sequence[subprocess.Popen]) -> list[tuple[int, str]]:
    """Waits for all; returns the exit code and the output of each."""
    try:
        outputs = [process.communicate(timeout=LONGEST)[0] for process in job]
    finally:
        for process in job:
            process.kill()
    return [(process.returncode, text) for process, text in zip(job, outputs, strict=True)]


def errors(output: str) -> list[str]:
    """The lines of an output that say what was wrong."""
    return [line for line in output.splitlines() if line.startswith("error:")]
