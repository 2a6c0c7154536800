"""The lock of a folder: who is refused, who takes over."""

import dataclasses
import fcntl
import json
import os
import subprocess
import sys
import threading

import pytest

from rcnn_jax.errors import CheckpointError, UsageError
from rcnn_jax.processes import this_process
from rcnn_jax.train.lock import LOCK_FILE, held

HOLDER = """
import sys
from pathlib import Path
from rcnn_jax.train.lock import held
with held(Path(sys.argv[1]), "faster_rcnn train", print):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock until it reads a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def write(folder, **changes):
    """A lock file as some process has left it."""
    content = {**dataclasses.asdict(this_process()), "command": "mask_rcnn train", "token": "old"}
    (folder / LOCK_FILE).write_text(json.dumps({**content, **changes}))


def test_the_file_is_there_while_it_is_held_and_gone_after(tmp_path):
    notes = []
    with held(tmp_path, "train", notes.append) as lock:
        content = json.loads((tmp_path / LOCK_FILE).read_text())
        assert (content["pid"], content["command"]) == (os.getpid(), "train")
        lock.check()
    assert list(tmp_path.iterdir()) == []
    assert notes == []


def test_a_second_process_is_refused_and_told_by_whom(tmp_path, holder):
    with pytest.raises(UsageError) as error, held(tmp_path, "train", print):
        raise AssertionError("not reached")
    assert str(error.value).startswith(
        f"{tmp_path}: faster_rcnn train (process {holder.pid} on {this_process().host}, since "
    )
    assert (tmp_path / LOCK_FILE).exists()


def test_the_lock_of_a_killed_process_is_taken_over_with_a_note(tmp_path, holder):
    holder.kill()
    holder.wait()
    notes = []
    with held(tmp_path, "train", notes.append) as lock:
        lock.check()
    (line,) = notes
    assert f"process {holder.pid} on" in line
    assert "has ended without a word; its lock is taken over" in line


def test_a_process_of_the_same_id_that_started_later_holds_nothing(tmp_path):
    write(tmp_path, started=this_process().started + 1)
    notes = []
    with held(tmp_path, "train", notes.append):
        pass
    assert len(notes) == 1


def test_where_no_flock_tells_a_living_process_is_known_by_id_and_start(tmp_path):
    write(tmp_path)
    with pytest.raises(UsageError, match="is at work in this folder"):
        held(tmp_path, "train", print).__enter__()


def test_a_disk_without_flock_is_no_obstacle(tmp_path, monkeypatch):
    def refuse(handle, how):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with held(tmp_path, "train", print), pytest.raises(UsageError, match="is at work"):
        held(tmp_path, "train", print).__enter__()


def test_a_lock_of_another_machine_that_gives_no_sign_of_life_is_stale(tmp_path):
    write(tmp_path, host="node7", machine="0" * 12)
    notes = []
    with held(tmp_path, "train", notes.append, patience=0.2):
        pass
    assert "on node7" in notes[0]


def test_a_lock_of_another_machine_that_gives_signs_of_life_is_not(tmp_path):
    write(tmp_path, host="node7", machine="0" * 12)
    done = threading.Event()

    def live():
        while not done.wait(0.01):
            os.utime(tmp_path / LOCK_FILE)

    thread = threading.Thread(target=live)
    thread.start()
    try:
        with pytest.raises(UsageError, match="on node7, since some time"):
            held(tmp_path, "train", print, patience=300).__enter__()
    finally:
        done.set()
        thread.join()


def test_a_holder_gives_signs_of_life(tmp_path):
    path = tmp_path / LOCK_FILE
    with held(tmp_path, "train", print, beat=0.01):
        os.utime(path, (0, 0))
        while path.stat().st_mtime == 0:
            pass


def test_a_holder_that_was_taken_for_dead_writes_nothing_more(tmp_path):
    with held(tmp_path, "train", print) as lock:
        write(tmp_path, host="node7", machine="0" * 12, token="new")
        with pytest.raises(CheckpointError, match="mask_rcnn train .* on node7.* took it over"):
            lock.check()
    assert json.loads((tmp_path / LOCK_FILE).read_text())["token"] == "new"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": "x", "started": null}', b"\xff"])
def test_whatever_stands_in_the_file_is_no_traceback(tmp_path, content):
    (tmp_path / LOCK_FILE).write_bytes(content)
    with held(tmp_path, "train", print, patience=0.05):
        pass
