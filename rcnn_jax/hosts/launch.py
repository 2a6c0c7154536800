"""Which process of how many this is: from flags, else from Slurm or Open MPI, else the only one.

Nothing here starts JAX; the result goes to `team.join`.
"""

import os
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rcnn_jax.errors import UsageError

# Half an hour: nodes of a cluster start minutes apart, and some check their disks before.
INIT_TIMEOUT = 1800.0
# That of JAX's own service, so what users know of it holds.
HEARTBEAT_TIMEOUT = 100.0
ALONE = "none"
"""Word of --coordinator that keeps a process of a Slurm step or MPI job to itself."""
_LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_LOCAL_RANKS = ("SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK")


@dataclass(frozen=True, kw_only=True)
class Launch:
    """One process of a job.

    Attributes:
      coordinator: host:port, where process 0 listens.
      count: number of processes.
      index: of this one, in [0, count).
      found_by: what said so, for messages: `flags`, `slurm` or `ompi`.
      init_timeout: seconds to wait for the others at the start.
      heartbeat_timeout: seconds after which a process without a sign of life is taken for dead.
      stall_timeout: seconds without a step after which the job ends; None for 20 times the median
        step, at least 10 minutes.
    """

    coordinator: str
    count: int
    index: int
    found_by: str
    init_timeout: float = INIT_TIMEOUT
    heartbeat_timeout: float = HEARTBEAT_TIMEOUT
    stall_timeout: float | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the coordinator."""
        # From the right: IPv6 has colons of its own and comes in brackets.
        host, _, port = self.coordinator.rpartition(":")
        return host.strip("[]"), int(port)


def find_launch(
    coordinator: str | None,
    count: int | None,
    index: int | None,
    *,
    init_timeout: float | None = None,
    heartbeat_timeout: float | None = None,
    stall_timeout: float | None = None,
    variables: Mapping[str, str] = os.environ,
) -> Launch | None:
    """Returns the process that flags or the cluster's launcher describe; None for a job of one.

    Args:
      coordinator: `host:port`, `none` to stay alone, or None to look for a launcher.
      count: number of processes.
      index: of this one.
      init_timeout: see `Launch`, as the next two; None for the default.
      heartbeat_timeout: see `Launch`.
      stall_timeout: see `Launch`.
      variables: of the environment.

    Raises:
      UsageError: the flags are incomplete or contradict each other.
    """
    times: dict[str, Any] = {
        "init_timeout": _seconds(init_timeout, "--init_timeout", INIT_TIMEOUT),
        "heartbeat_timeout": _seconds(heartbeat_timeout, "--heartbeat_timeout", HEARTBEAT_TIMEOUT),
        "stall_timeout": _seconds(stall_timeout, "--stall_timeout", None),
    }
    if coordinator == ALONE:
        return None
    if coordinator is None:
        if index is not None:
            raise UsageError(
                f"--process_id {index}: needs --coordinator HOST:PORT and --num_processes N too"
            )
        fields = _from_launcher(variables)
        return None if fields is None else Launch(**fields, **times)
    if count is None or count < 1 or index is None:
        raise UsageError(
            f"--coordinator {coordinator}: needs --num_processes N (1 or more) and --process_id I "
            "too, the latter different for every process: 0 to N - 1"
        )
    # Checked here, because the roll call would wait half an hour for a process that cannot come.
    if not 0 <= index < count:
        raise UsageError(
            f"--process_id {index}: expected 0 to {count - 1}, one for each of the {count} "
            "processes of --num_processes"
        )
    quiet_runtime(variables)
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise UsageError(
            f"--coordinator {coordinator}: expected HOST:PORT, the machine of process 0 and a free "
            "port there, for example node01:29500"
        )
    return Launch(coordinator=coordinator, count=count, index=index, found_by="flags", **times)


def quiet_runtime(variables: Mapping[str, str]) -> None:
    """Keeps JAX's runtime from ending in a stack of C++ frames about sockets; ours names the process.

    It reads the variable when it is loaded, which a look at Slurm's variables does already.
    """
    # 1 is what JAX writes where nobody has chosen, also into the environment of whoever starts us.
    if variables is os.environ and os.environ.get(_LOG_LEVEL, "1") == "1":
        os.environ[_LOG_LEVEL] = "4"


def gpus_here(folder: Path = Path("/proc/driver/nvidia/gpus")) -> int:
    """Returns the number of GPUs of this machine, without starting CUDA."""
    return sum(1 for _ in folder.iterdir()) if folder.is_dir() else 0


def choose_gpus(
    each: int, variables: MutableMapping[str, str] = os.environ, visible: int | None = None
) -> None:
    """Leaves a process of a machine that runs several its own GPUs, where it sees those of all.

    The process of local rank i takes GPUs i N to i N + N - 1. Where the launcher has given it fewer
    already, as `--gpus-per-task` does, it takes the first ones: it cannot know their real numbers.

    Args:
      each: GPUs of one process.
      variables: of the environment; CUDA_VISIBLE_DEVICES is changed.
      visible: number of GPUs of the machine, where CUDA_VISIBLE_DEVICES does not list them.
    """
    rank = next((variables[name] for name in _LOCAL_RANKS if name in variables), None)
    listed = [name for name in variables.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    names = listed or [str(number) for number in range(visible or 0)]
    # As many as it needs: then the launcher has bound them, and nothing is left to choose.
    if rank is None or len(names) <= each:
        return
    # By local rank: CUDA numbers GPUs within a machine.
    first = int(rank) * each
    own = names[first : first + each]
    variables["CUDA_VISIBLE_DEVICES"] = ",".join(own if len(own) == each else names[:each])


def _seconds(value: float | None, flag: str, default: float | None) -> float | None:
    if value is None:
        return default
    if not value > 0:
        raise UsageError(f"{flag} {value:g}: expected seconds, more than 0")
    return value


def _from_launcher(variables: Mapping[str, str]) -> dict[str, Any] | None:
    """Returns coordinator, count and index as JAX reads them from Slurm or Open MPI."""
    # A batch script sees the size of its job, but is one process: only a step of several tasks counts.
    # A step of one task (a trial of a sweep) is alone.
    if int(variables.get("SLURM_STEP_NUM_TASKS") or 1) > 1 and "SLURM_PROCID" in variables:
        name = "slurm"
    elif int(variables.get("OMPI_COMM_WORLD_SIZE") or 1) > 1:
        name = "ompi"
    else:
        return None
    quiet_runtime(variables)
    # JAX's own reading of Slurm's host lists and ports, private as it is: a second one would
    # disagree with `jax.distributed` in some corner of their syntax.
    from jax._src.clusters import ClusterEnv

    try:
        address, count, index, _ = ClusterEnv.auto_detect_unset_distributed_params(
            None, None, None, None, name, int(INIT_TIMEOUT)
        )
    except (KeyError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"this looks like a process of {name}, but its variables are incomplete ({error}): give "
            "--coordinator HOST:PORT --num_processes N --process_id I, or --coordinator none"
        ) from error
    if not address or count is None or index is None:
        raise UsageError(
            f"this looks like a process of {name}, but JAX finds no coordinator in its variables: give "
            "--coordinator HOST:PORT --num_processes N --process_id I, or --coordinator none"
        )
    return {"coordinator": address, "count": count, "index": index, "found_by": name}
