"""Who writes a file, whether it lives, and what the dead have left."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest

from rcnn_jax.processes import (
    Process,
    is_alive,
    is_here,
    peak_memory,
    process_of,
    sweep,
    this_process,
    unfinished_name,
)


def ended_process() -> int:
    """The id of a process that is gone."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_this_process_is_here_and_alive():
    own = this_process()
    assert own.pid == os.getpid()
    assert is_here(own) and is_alive(own)


def test_a_process_that_ended_is_not_alive_nor_is_an_earlier_one_of_the_same_id():
    own = this_process()
    assert not is_alive(dataclasses.replace(own, pid=ended_process()))
    assert not is_alive(dataclasses.replace(own, started=own.started + 1))
    assert is_alive(dataclasses.replace(own, started=0))
    assert not is_here(Process("elsewhere", "0" * 12, own.pid, own.started))


def test_a_process_that_ended_and_was_not_reaped_is_not_alive():
    process = subprocess.Popen([sys.executable, "-c", ""])
    own = process_of(process.pid)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(own)
    process.wait()


def test_only_what_dead_processes_of_this_machine_left_is_swept(tmp_path):
    own = unfinished_name(tmp_path / "model.tlt")
    gone, machine = ended_process(), this_process().machine
    dead = tmp_path / f".model.tlt.{gone}-{machine}-77.tmp"
    reused = tmp_path / f".model.tlt.{os.getpid()}-{machine}-77.tmp"
    earlier_release = tmp_path / f".tiny.epoch3.tlt.{gone}.tmp"
    shard = tmp_path / f".a-00000-of-00001.{gone}.partial"
    elsewhere = tmp_path / f".model.tlt.{gone}-{'0' * 12}-77.tmp"
    ordinary = tmp_path / "notes.tmp"
    for path in (own, dead, reused, earlier_release, shard, elsewhere, ordinary):
        path.write_bytes(b"half")
    assert set(sweep(tmp_path)) == {dead, reused, earlier_release, shard}
    assert {path.name for path in tmp_path.iterdir()} == {own.name, elsewhere.name, ordinary.name}


def test_a_name_as_long_as_a_file_system_takes_can_be_written(tmp_path):
    path = unfinished_name(tmp_path / ("ä" * 120 + ".png"))
    path.write_bytes(b"x")
    assert path != unfinished_name(tmp_path / ("ä" * 120 + ".txt"))


def test_a_folder_that_is_missing_has_nothing_to_sweep(tmp_path):
    assert sweep(tmp_path / "no") == []


@pytest.mark.skipif(peak_memory() is None, reason="the system does not say it")
def test_the_peak_memory_is_that_of_the_process_and_stays_when_memory_is_given_back():
    large = np.ones(1 << 25)  # 256 MB
    peak = peak_memory()
    assert peak > large.nbytes
    del large
    assert peak_memory() == pytest.approx(peak, rel=0.05)
    code = "from rcnn_jax.processes import peak_memory; print(peak_memory())"
    small = int(
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    )
    assert small < peak / 2
