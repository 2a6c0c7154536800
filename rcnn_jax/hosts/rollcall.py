"""The processes of a job meet before JAX connects them: who is missing is named while all wait.

    process 0   listens at the coordinator's port; hears {"index", "count", "host", "pid", "versions"}
    the others  connect, again and again until somebody listens, and wait for the answer

JAX's own rendezvous waits in silence and then ends with an error that names nobody. The port is free
again when it begins. One line of JSON each way; what does not parse is hung up on.
"""

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable
from typing import Any

from rcnn_jax.errors import UsageError
from rcnn_jax.hosts.launch import Launch

EVERY = 30.0
"""Seconds between two lines that say who is missing."""
# The port is open to the network: a stranger must not fill the memory.
_LONGEST = 4096
Say = Callable[[str], None]


def call_roll(launch: Launch, versions: dict[str, str], say: Say, every: float = EVERY) -> None:
    """Returns when all processes of a job are there.

    Args:
      launch: this process.
      versions: of programs that must be the same everywhere.
      say: told who is missing, now and then.
      every: see `EVERY`.

    Raises:
      UsageError: not all have come in time, or they are not of one job.
    """
    own = {
        "index": launch.index,
        "count": launch.count,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "versions": versions,
    }
    if launch.index == 0:
        _listen(launch, own, say, every)
    else:
        _answer(launch, own, say, every)


def _listen(launch: Launch, own: dict[str, Any], say: Say, every: float) -> None:
    port = launch.address[1]
    here: dict[int, tuple[dict[str, Any], socket.socket]] = {}
    until, told = time.monotonic() + launch.init_timeout, time.monotonic()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(_server(port))
        # Short, so that the deadline and a signal are seen in between.
        server.settimeout(0.2)
        while len(here) < launch.count - 1:
            now = time.monotonic()
            missing = sorted(set(range(1, launch.count)) - here.keys())
            if now > until:
                refusal = (
                    f"process{'es' * (len(missing) > 1)} {_listed(missing)} of {launch.count} did not "
                    f"come to {launch.coordinator} within {launch.init_timeout:g} s (--init_timeout). "
                    "Look for their own messages; a firewall or a coordinator's name that means "
                    "127.0.0.1 on their machine keeps them away too"
                )
                _dismiss(here, refusal)
                raise UsageError(refusal)
            if now - told > every:
                told = now
                say(
                    f"waiting at {launch.coordinator} for process {_listed(missing)} of {launch.count}"
                )
            with contextlib.suppress(TimeoutError):
                link, _ = server.accept()
                stack.callback(link.close)
                link.settimeout(5.0)
                _hear(link, own, here)
        for _, link in here.values():
            _send(link, {"go": True})


def _hear(
    link: socket.socket, own: dict[str, Any], here: dict[int, tuple[dict[str, Any], socket.socket]]
) -> None:
    """Adds who has come; a stranger is hung up on.

    Raises:
      UsageError: two processes say that they are the same one, or are of different jobs.
    """
    message = _receive(link)
    index = None if message is None else message.get("index")
    # Port scanners and health checks connect too; they must not end a job.
    if message is None or not isinstance(index, int) or not isinstance(message.get("count"), int):
        link.close()
        return
    where = f"the one on {message.get('host')} (process id {message.get('pid')})"
    problem = ""
    if message["count"] != own["count"]:
        problem = (
            f"{where} says that there are {message['count']}, process 0 that there are "
            f"{own['count']}"
        )
    # A process that died and was started again comes twice; only two that live are a mistake.
    elif index == 0 or (index in here and not _has_gone(here[index][1])):
        first = own if index == 0 else here[index][0]
        problem = (
            f"{where} and the one on {first['host']} (process id {first['pid']}) both are {index}"
        )
    # Two releases may trace another program, and then wait in collectives that do not match.
    elif message.get("versions") != own["versions"]:
        ours, theirs = _versions(own["versions"]), _versions(message.get("versions"))
        problem = f"{where} runs {theirs}, process 0 {ours}"
    if problem:
        refusal = f"the processes are not of one job: {problem}"
        _send(link, {"refused": refusal})
        _dismiss(here, refusal)
        raise UsageError(refusal)
    here[index] = message, link


def _has_gone(link: socket.socket) -> bool:
    """Says whether who had come has ended since; its successor may take the place."""
    link.setblocking(False)
    try:
        # An end shows as zero bytes; peeked, because nothing that was sent may be lost.
        return link.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        link.settimeout(5.0)


def _answer(launch: Launch, own: dict[str, Any], say: Say, every: float) -> None:
    host, port = launch.address
    until, told, why = time.monotonic() + launch.init_timeout, time.monotonic(), ""
    while time.monotonic() < until:
        try:
            with socket.create_connection((host, port), timeout=5.0) as link:
                _send(link, own)
                link.settimeout(
                    max(until - time.monotonic(), 0.0) + 10.0
                )  # its own refusal comes first
                answer = _receive(link)
            if answer is not None and answer.get("go"):
                return
            if answer is not None and "refused" in answer:
                raise UsageError(str(answer["refused"]))
            why = "process 0 hung up"
        except OSError as error:
            why = error.strerror or str(error)
        if time.monotonic() - told > every:
            told = time.monotonic()
            say(f"waiting for process 0 at {launch.coordinator}{_address(host)}: {why}")
        time.sleep(0.2)
    raise UsageError(
        f"process 0 did not answer at {launch.coordinator}{_address(host)} within "
        f"{launch.init_timeout:g} s (--init_timeout): {why}. Is it started, and does this machine "
        "reach that name and port?"
    )


def _address(host: str) -> str:
    """Returns the address of a name in brackets, with a warning where it is this machine itself."""
    with contextlib.suppress(OSError):
        resolved = socket.gethostbyname(host)
        if resolved != host:
            return f" ({resolved}{', which is this machine itself' * resolved.startswith('127.')})"
    return ""


def _server(port: int) -> socket.socket:
    try:
        dual = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if dual else socket.AF_INET
        # All interfaces: the coordinator's name may mean another address here than for the others.
        return socket.create_server(("", port), family=family, dualstack_ipv6=dual, backlog=512)
    except OSError as error:
        raise UsageError(
            f"process 0 cannot listen at port {port}: {error.strerror}. Choose another port of "
            "--coordinator"
        ) from error


def _dismiss(here: dict[int, tuple[dict[str, Any], socket.socket]], why: str) -> None:
    for _, link in here.values():
        _send(link, {"refused": why})


def _send(link: socket.socket, value: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        link.sendall(json.dumps(value).encode() + b"\n")


def _receive(link: socket.socket) -> dict[str, Any] | None:
    """Returns one line of JSON; None where there is none, or something else."""
    data = b""
    try:
        while not data.endswith(b"\n") and len(data) < _LONGEST:
            part = link.recv(_LONGEST)
            if not part:
                return None
            data += part
        message = json.loads(data)
    except (OSError, ValueError):
        return None
    return message if isinstance(message, dict) else None


def _versions(versions: Any) -> str:
    return (
        ", ".join(f"{k} {v}" for k, v in versions.items())
        if isinstance(versions, dict)
        else "another"
    )


def _listed(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:8]))
    return shown + f" and {len(numbers) - 8} more" * (len(numbers) > 8)
