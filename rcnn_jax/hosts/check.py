"""Check of a cluster in twenty seconds: findings, each with its mend."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rcnn_jax.hosts.launch import Launch
from rcnn_jax.hosts.team import Team, is_proxy

# NTP keeps machines within milliseconds; at seconds logs of two hosts can no longer be read side by
# side.
CLOCK_SECONDS = 5.0


@dataclass(frozen=True)
class Finding:
    """One check.

    Attributes:
      name: what was looked at.
      good: a job can start as it is.
      text: the result, in words.
      mend: what to do; empty where nothing is.
    """

    name: str
    good: bool
    text: str
    mend: str = ""

    @property
    def mark(self) -> str:
        """One word: `ok`, `MEND`, or `CARE` where the job starts and the user has to look at it."""
        if not self.good:
            return "MEND"
        return "CARE" if self.mend else "ok"


def check_cluster(launch: Launch | None, together: Team, folder: Path) -> list[Finding]:
    """Returns the findings of all processes; every one of a job must call it.

    Args:
      launch: this process; None for a job of one.
      together: the joined processes.
      folder: the shared folder, which must exist.
    """
    # Names, proxies and folder come after the sum, although they explain its failure: to be here at
    # all the processes have met.
    return [
        _processes(launch, together),
        _devices(together),
        _sum(together),
        _names(launch, together),
        _proxies(together),
        _folder(together, folder),
        _clocks(together),
        _signals(together),
    ]


def _processes(launch: Launch | None, together: Team) -> Finding:
    hosts = together.gather_json(socket.gethostname())
    origin = f"by {launch.found_by}" if launch else "no launcher, no flags"
    text = f"{together.count} on {len(set(hosts))} machine(s), found {origin}"
    # The commonest mistake: `sbatch train.sh` runs the script once, whatever was asked for.
    tasks = int(os.environ.get("SLURM_NTASKS", "1"))
    if tasks > together.count:
        return Finding(
            "processes",
            False,
            f"{text}; Slurm has {tasks} tasks",
            "start the command with srun: a batch script alone is one process",
        )
    return Finding("processes", True, text)


def _devices(together: Team) -> Finding:
    import jax

    own = [
        socket.gethostname(),
        [f"{device.platform} {device.device_kind}" for device in jax.local_devices()],
        os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        # The driver's own folder, which is there without CUDA and without JAX having found the
        # GPUs.
        Path("/proc/driver/nvidia/gpus").is_dir(),
    ]
    rows = together.gather_json(own)
    text = "; ".join(
        f"process {i} on {host}: {len(kinds)} x {kinds[0]}" + f" ({visible})" * bool(visible)
        for i, (host, kinds, visible, _) in enumerate(rows)
    )
    if any(gpu and kinds[0].startswith("cpu") for _, kinds, _, gpu in rows):
        return Finding(
            "devices",
            False,
            text,
            "a machine has GPUs and JAX does not use them: install rcnn-jax[cuda13] there, and ask "
            "Slurm for GPUs (--gpus-per-node)",
        )
    seen: dict[tuple[str, str], int] = {}
    for host, kinds, visible, _ in rows:
        key = host, visible
        if not kinds[0].startswith("cpu") and visible and key in seen and "," not in visible:
            # No error: a launcher that binds GPUs shows each process its own one as number 0.
            return Finding(
                "devices",
                True,
                f"{text}; several processes of {host} have CUDA_VISIBLE_DEVICES={visible}: one GPU for "
                "all of them, or one each that the launcher calls by the same number",
                "run `srun nvidia-smi -L` as the job would run: where two processes print the same UUID, "
                "bind a GPU to each (srun --gpus-per-task=1) or unset CUDA_VISIBLE_DEVICES",
            )
        seen[key] = 1
    return Finding("devices", True, text)


def _sum(together: Team) -> Finding:
    import jax

    began = time.monotonic()
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()), ("data",))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    whole = jax.sharding.PartitionSpec()
    # Another summand from every process, so that a sum of twice the same one is seen.
    local = np.full((len(jax.local_devices()), 1), together.index + 1, np.float32)
    total = jax.jit(
        jax.shard_map(
            lambda x: jax.lax.psum(x, "data"),
            mesh=mesh,
            in_specs=rows.spec,
            out_specs=whole,
            check_vma=False,
        )
    )(jax.make_array_from_process_local_data(rows, local))
    result = float(np.asarray(total.addressable_data(0)).reshape(-1)[0])
    expected = float(sum((d.process_index + 1) for d in jax.devices()))
    seconds = time.monotonic() - began
    text = f"a sum over {jax.device_count()} devices gave {result:g} after {seconds:.1f} s"
    if result != expected:
        return Finding("psum", False, f"{text}, expected {expected:g}", "look at NCCL_DEBUG=INFO")
    return Finding("psum", True, text)


def _names(launch: Launch | None, together: Team) -> Finding:
    host = launch.address[0] if launch else socket.gethostname()
    try:
        # Debian maps the own host name to 127.0.1.1; an address that the others take literally.
        address = socket.gethostbyname(host)
    except OSError as error:
        address = str(error)
    rows = together.gather_json([socket.gethostname(), address])
    chief = rows[0][0]
    text = f"{host} is {', '.join(sorted({address for _, address in rows}))}"
    elsewhere = [name for name, address in rows if address.startswith("127.") and name != chief]
    if elsewhere:
        return Finding(
            "names",
            False,
            f"{text}; on {elsewhere[0]} it means that machine itself",
            "give an address that all machines reach: --coordinator IP:PORT, or mend /etc/hosts",
        )
    return Finding("names", True, text)


def _proxies(together: Team) -> Finding:
    own = sorted(name for name in os.environ if is_proxy(name))
    names = sorted({name for names in together.gather_json(own) for name in names})
    if not names:
        return Finding("proxies", True, "none")
    # Nothing to mend, but the first suspect where another program of the job hangs.
    return Finding("proxies", True, f"{', '.join(names)} set; processes are connected past them")


def _folder(together: Team, folder: Path) -> Finding:
    name, text = f".rcnn_jax_check_{uuid.uuid4().hex}", uuid.uuid4().hex
    # A name of process 0 that all know; a fixed one could be left from a check before.
    name, text = together.gather_json([name, text])[0]
    path = folder / name
    problem = ""
    try:
        if together.is_chief:
            path.write_text(text)
    except OSError as error:
        problem = f"{error.strerror}"
    together.wait("written")
    began, seconds = time.monotonic(), -1.0
    # NFS keeps what it knows of a folder for seconds: one look would report a sound disk as broken.
    while not problem and time.monotonic() - began < 5.0:
        # some network disks show a new file after a while
        with contextlib.suppress(OSError):
            if path.read_text() == text:
                seconds = time.monotonic() - began
                break
        with contextlib.suppress(OSError):
            os.listdir(folder)  # noqa: PTH208  (makes NFS ask its server)
        time.sleep(0.1)
    rows = together.gather_json([socket.gethostname(), seconds, problem])
    if together.is_chief:
        with contextlib.suppress(OSError):
            path.unlink()
    mend = (
        "results and data must lie on a folder that every machine mounts and process 0 may write to"
    )
    if rows[0][2]:
        return Finding("folder", False, f"{folder}: {rows[0][2]}", mend)
    blind = [host for host, seconds, _ in rows if seconds < 0]
    if blind:
        return Finding(
            "folder", False, f"{folder}: a file of process 0 is not seen on {blind[0]}", mend
        )
    slowest = max(seconds for _, seconds, _ in rows)
    return Finding(
        "folder", True, f"{folder}: written by process 0, read by all within {slowest:.1f} s"
    )


def _clocks(together: Team) -> Finding:
    # From one moment, as far as the network allows: else differences would be those of arrival.
    together.wait("clocks")
    times = together.gather_json(time.time())
    spread = max(times) - min(times)
    text = f"{spread:.1f} s apart at most"
    if spread > CLOCK_SECONDS:
        return Finding(
            "clocks", False, text, "start chronyd or ntpd: logs and lock files name times"
        )
    return Finding("clocks", True, text)


def _signals(together: Team) -> Finding:
    wrapper = "a wrapper holds signals back: start Python by `exec` in scripts and containers"
    # Sent to oneself: that Python gets it, which a library may prevent.
    with _heard(signal.SIGTERM) as numbers:
        os.kill(os.getpid(), signal.SIGTERM)
        _wait_for(numbers, 1.0)
    deaf = [i for i, one in enumerate(together.gather_json(bool(numbers))) if not one]
    if deaf:
        return Finding("signals", False, f"SIGTERM does not reach process {deaf[0]}", wrapper)
    text = "SIGTERM reaches every process"
    # That of the chief: all must take the same way, and some machines may lack `scancel`.
    step = together.gather_json(_step_of_slurm(os.environ))[0]
    if step:
        # SIGCONT comes the way of SIGTERM, and harms no wrapper that does not know it.
        with _heard(signal.SIGCONT) as numbers:
            together.wait("signals are heard")
            if together.is_chief:
                subprocess.run(["scancel", "--signal=CONT", step], capture_output=True, check=False)
            _wait_for(numbers, 5.0)
            together.wait("signals are sent")
        deaf = [i for i, one in enumerate(together.gather_json(bool(numbers))) if not one]
        if deaf:
            return Finding(
                "signals", False, f"Slurm's signals do not reach process {deaf[0]}", wrapper
            )
        text = "Slurm's signals reach every process"
    return Finding("signals", True, text + _slurm_advice(os.environ))


@contextlib.contextmanager
def _heard(number: int) -> Iterator[list[int]]:
    """Yields the signals of a kind that arrive while inside."""
    numbers: list[int] = []
    before = signal.signal(number, lambda number, _: numbers.append(number))
    try:
        yield numbers
    finally:
        signal.signal(number, before)


def _wait_for(numbers: list[int], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not numbers and time.monotonic() < until:
        time.sleep(0.01)


def _step_of_slurm(variables: Mapping[str, str]) -> str:
    """Returns the step that this process belongs to, where Slurm can be asked to signal it."""
    names = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_PROCID")
    # A batch script has no step; containers mostly lack Slurm's programs.
    if any(name not in variables for name in names) or shutil.which("scancel") is None:
        return ""
    return f"{variables[names[0]]}.{variables[names[1]]}"


def _slurm_advice(variables: Mapping[str, str]) -> str:
    if "SLURM_JOB_ID" not in variables:
        return ""
    return (
        "; for time to save before the end of a job: #SBATCH --signal=TERM@120, and for preemption "
        "SlurmctldParameters=preempt_send_user_signal"
    )
