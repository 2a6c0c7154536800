"""The processes of a job meet over real sockets, in threads."""

import contextlib
import dataclasses
import socket
import threading
import time

from rcnn_jax.errors import UsageError
from rcnn_jax.hosts.launch import Launch
from rcnn_jax.hosts.rollcall import call_roll

VERSIONS = {"rcnn-jax": "1"}


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def launch(port, index, count, timeout=10.0):
    return Launch(
        coordinator=f"127.0.0.1:{port}",
        count=count,
        index=index,
        found_by="flags",
        init_timeout=timeout,
    )


def meet(launches, versions=None, every=30.0):
    """{place in the list: message of the error, or ""}, and all that was said."""
    results, notes = {}, []

    def come(rank, one):
        try:
            call_roll(one, (versions or {}).get(rank, VERSIONS), notes.append, every)
            results[rank] = ""
        except UsageError as error:
            results[rank] = str(error)

    threads = [
        threading.Thread(target=come, args=pair, daemon=True) for pair in enumerate(launches)
    ]
    for thread in reversed(threads):  # the coordinator comes last: the others try again
        thread.start()
        time.sleep(0.05)
    for thread in threads:
        thread.join(timeout=20)
    return results, notes


def test_all_go_on_when_all_are_there():
    port = free_port()
    results, _ = meet([launch(port, i, 4) for i in range(4)])
    assert results == dict.fromkeys(range(4), "")


def test_who_is_missing_is_said_while_waiting_and_at_the_end():
    port = free_port()
    results, notes = meet([launch(port, i, 4, timeout=1.5) for i in (0, 2)], every=0.3)
    expected = f"processes 1, 3 of 4 did not come to 127.0.0.1:{port} within 1.5 s (--init_timeout)"
    assert expected in results[0]
    assert expected in results[1]  # the one that came hears the reason too
    assert f"waiting at 127.0.0.1:{port} for process 1, 3 of 4" in notes


def test_a_missing_coordinator_is_named_with_what_its_name_means_here():
    port = free_port()
    lonely = dataclasses.replace(launch(port, 1, 2, timeout=0.5), coordinator=f"localhost:{port}")
    results, _ = meet([lonely])
    assert (
        f"process 0 did not answer at localhost:{port} (127.0.0.1, which is this machine"
        in (results[0])
    )


def test_two_processes_of_one_number_are_refused():
    port = free_port()
    results, _ = meet([launch(port, i, 3) for i in (0, 1, 1)])
    assert "both are 1" in results[0]


def test_processes_of_another_size_or_version_are_refused():
    port = free_port()
    results, _ = meet([launch(port, 0, 2), launch(port, 1, 3)])
    assert "says that there are 3, process 0 that there are 2" in results[0]
    assert "says that there are 3, process 0 that there are 2" in results[1]
    port = free_port()
    results, _ = meet([launch(port, i, 2) for i in range(2)], {1: {"rcnn-jax": "2"}})
    assert "runs rcnn-jax 2, process 0 rcnn-jax 1" in results[1]


def test_a_stranger_at_the_port_is_hung_up_on():
    port = free_port()
    results = {}
    chief = threading.Thread(
        target=lambda: results.update(meet([launch(port, 0, 2)])[0]), daemon=True
    )
    chief.start()
    for greeting in (b"GET / HTTP/1.1\r\n\r\n", b"[1]\n", b'{"index": "x"}\n', b"\xff" * 5000):
        until = time.monotonic() + 5
        while time.monotonic() < until:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=5) as link:
                    link.sendall(greeting)
                    link.settimeout(6)
                    with contextlib.suppress(ConnectionResetError):
                        assert link.recv(100) == b""
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
    call_roll(launch(port, 1, 2), VERSIONS, print)
    chief.join(timeout=10)
    assert results == {0: ""}


def test_a_port_in_use_is_said():
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        results, _ = meet([launch(port, 0, 2)])
    assert f"process 0 cannot listen at port {port}" in results[0]
