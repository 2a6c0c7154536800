"""Real processes that wait for each other in real collectives, and are really ended."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rcnn_jax.hosts.monitor import EXIT_CODE
from tests.e2e.jobs import ends, errors, free_port
from tests.e2e.kills import signals_as_usual

ROOT = Path(__file__).parents[2]


def start(count, stall):
    port = free_port()
    # A proxy of the outer world, as on many clusters; nobody listens at port 9.
    proxies = {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    variables = {**os.environ, **proxies, "XLA_FLAGS": "", "PYTHONPATH": str(ROOT)}
    job = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.hosts.worker", *map(str, (port, count, i, stall))],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=variables,
            preexec_fn=signals_as_usual,
        )
        for i in range(count)
    ]
    seen = []
    while len(seen) < 5 and (line := job[0].stdout.readline()):
        seen += [line] if line.startswith("step") else []
    assert len(seen) == 5, ends(job)
    return job


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_at_one_process_stops_all_after_the_same_step(number):
    job = start(3, 300)
    job[2].send_signal(number)
    endings = ends(job)
    last = {line for _, text in endings for line in text.splitlines() if line.startswith("stopped")}
    assert len(last) == 1, endings
    assert [code for code, _ in endings] == [128 + number] * 3, endings
    assert [len(errors(text)) for _, text in endings] == [1, 0, 0], endings  # the chief speaks


def test_a_killed_process_is_named_by_the_others():
    job = start(3, 300)
    job[1].kill()
    chief, _, other = ends(job)
    for code, text in (chief, other):
        assert code == EXIT_CODE, text
        (message,) = errors(text)
        assert "process 1 on " in message
        assert "Traceback" not in text


def test_a_killed_chief_ends_the_others_in_one_message_without_a_stack():
    job = start(2, 300)
    job[0].kill()
    _, (code, text) = ends(job)
    assert code == EXIT_CODE, text
    (message,) = errors(text)
    assert "process 0 on " in message
    assert "Check failure stack trace" not in text


def test_a_chief_that_is_alive_but_stuck_is_named_by_the_others():
    job = start(2, 5)
    job[0].send_signal(signal.SIGSTOP)
    began = time.monotonic()
    try:
        assert job[1].wait(timeout=120) == EXIT_CODE
    finally:
        job[0].kill()
    # JAX's own limit is the heartbeat and half a minute.
    assert time.monotonic() - began < 45.0
    _, (_, text) = ends(job)
    (message,) = errors(text)
    assert "no answer from process 0 on " in message and "5 s (--stall_timeout)" in message
    assert "Check failure stack trace" not in text


def test_a_process_that_is_alive_but_stuck_is_named_by_the_others():
    job = start(2, 5)
    job[1].send_signal(signal.SIGSTOP)
    try:
        assert job[0].wait(timeout=120) == EXIT_CODE
    finally:
        job[1].kill()
    (_, text), _ = ends(job)
    (message,) = errors(text)
    assert "nothing has moved for 5 s (--stall_timeout): " in message
    assert "process 1 on " in message
