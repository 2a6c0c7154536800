"""A Slurm of one node for as long as a block or a command runs; needs root and Debian's packages.

    apt-get install slurmctld slurmd slurm-client munge
    python -m tests.cluster.slurm COMMAND ...            the command finds it by SLURM_CONF

Key, sockets, state and logs are in a folder of its own, ports are free ones: a Slurm that is installed
on the machine goes on beside it. No systemd, no cgroups, no database.
"""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue")
CPUS = 8
"""Of the node, as Slurm believes: more than there are, so that jobs run side by side anywhere."""

# `low` is preempted by `high`, which asks first (--signal) and has a minute to wait for the answer.
CONFIG = """
ClusterName=throwaway
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
SlurmdParameters=config_overrides
SlurmctldParameters=preempt_send_user_signal
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=60
MinJobAge=600
SchedulerParameters=batch_sched_delay=1,sched_interval=5,bf_interval=5
NodeName=localhost NodeHostname={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=normal Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=5 PreemptMode=OFF
PartitionName=low Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=60
PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=9 PreemptMode=OFF
"""


def missing() -> str:
    """Returns why there can be no Slurm here; empty where there can."""
    absent = [name for name in PROGRAMS if shutil.which(name, path=_search_path()) is None]
    if absent:
        return f"Slurm is not installed ({', '.join(absent)}): apt-get install slurm-wlm munge"
    if os.geteuid() != 0:
        return "slurmd starts jobs as root alone"
    return ""


@contextlib.contextmanager
def throwaway() -> Iterator[Mapping[str, str]]:
    """Runs a Slurm; yields the variables of the environment by which its programs find it.

    Raises:
      RuntimeError: it does not start; with the last lines of its logs.
    """
    with tempfile.TemporaryDirectory(prefix="slurm") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)  # munge refuses a socket that not everyone can reach
        variables = _variables(folder)
        _write(folder)
        munge = ["munged", "--foreground", "--force", f"--key-file={folder}/munge.key"]
        munge += [f"--{part}-file={folder}/munge.{part}" for part in ("pid", "log", "seed")]
        munge += [f"--socket={folder}/munge.socket"]
        for command in (munge, ["slurmctld", "-D", "-c"], ["slurmd", "-D", "-N", "localhost"]):
            stack.enter_context(_running(command, variables, folder))
        stack.callback(_cancel_all, variables)
        _wait_until_idle(folder, variables)
        yield variables


def _variables(folder: Path) -> dict[str, str]:
    # What a Slurm job around this one has set would be taken for our own.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    return {**kept, "PATH": _search_path(), "SLURM_CONF": str(folder / "slurm.conf")}


def _search_path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def _write(folder: Path) -> None:
    with contextlib.ExitStack() as stack:
        # Held together, so that they are two.
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        ports = [server.getsockname()[1] for server in servers]
    host = socket.gethostname().partition(".")[0]
    text = CONFIG.format(folder=folder, ports=ports, host=host, cpus=CPUS)
    (folder / "slurm.conf").write_text(text)
    # Version 22 opens a plugin for cgroups although nothing uses one, and v2 wants systemd.
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    (folder / "state").mkdir()
    (folder / "spool").mkdir()


@contextlib.contextmanager
def _running(command: list[str], variables: Mapping[str, str], folder: Path) -> Iterator[None]:
    program = shutil.which(command[0], path=variables["PATH"])
    assert program is not None
    with (folder / f"{command[0]}.out").open("wb") as log:
        process = subprocess.Popen(
            [program, *command[1:]], env=variables, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _cancel_all(variables: Mapping[str, str]) -> None:
    """Ends what a failed test has left; its processes would outlive slurmd."""
    subprocess.run(["scancel", "--user=root", "--signal=KILL", "--full"], env=variables)
    subprocess.run(["scancel", "--user=root"], env=variables)
    until = time.monotonic() + 30
    while time.monotonic() < until and _say(["squeue", "--noheader"], variables).strip():
        time.sleep(0.5)


def _wait_until_idle(folder: Path, variables: Mapping[str, str]) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if _say(["sinfo", "--noheader", "-o", "%T", "-p", "normal"], variables).strip() == "idle":
            return
        time.sleep(0.5)
    ends = [
        f"{path.name}:\n" + "\n".join(path.read_text(errors="replace").splitlines()[-15:])
        for path in sorted([*folder.glob("*.log"), *folder.glob("*.out")])
    ]
    raise RuntimeError("Slurm does not start\n" + "\n".join(ends))


def _say(command: list[str], variables: Mapping[str, str]) -> str:
    done = subprocess.run(command, env=variables, capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else ""


if __name__ == "__main__":
    if why := missing():
        sys.exit(why)
    with throwaway() as variables:
        sys.exit(subprocess.run(sys.argv[1:], env=variables).returncode)
