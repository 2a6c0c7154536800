"""`cluster check` in a job of one: every finding is true here, and what is wrong has its mend."""

import os

import pytest

from rcnn_jax.cli.main import main
from rcnn_jax.hosts import check
from rcnn_jax.hosts.check import check_cluster
from rcnn_jax.hosts.team import Team


def findings(folder, monkeypatch, **variables):
    for name in list(os.environ):
        if "proxy" in name.lower() or name.startswith("SLURM_"):
            monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return {one.name: one for one in check_cluster(None, Team(), folder)}


def test_a_sound_place_needs_no_mending(tmp_path, monkeypatch):
    by_name = findings(tmp_path, monkeypatch)
    assert [one.text for one in by_name.values() if not one.good] == []
    assert "a sum over 4 devices gave 4 " in by_name["psum"].text
    assert "1 on 1 machine(s)" in by_name["processes"].text
    assert list(tmp_path.iterdir()) == []  # nothing stays


@pytest.mark.parametrize(
    ("hosts", "numbers", "mark"),
    [
        (("a", "a"), ("0", "0"), "CARE"),
        (("a", "a"), ("0", "1"), "ok"),
        (("a", "b"), ("0", "0"), "ok"),
        # the processes of a machine divide these among themselves
        (("a", "a"), ("0,1", "0,1"), "ok"),
    ],
)
def test_processes_of_one_machine_with_one_gpu_number_are_a_caution(hosts, numbers, mark):
    class Job(Team):
        def gather_json(self, value):
            rows = zip(hosts, numbers, strict=True)
            return [[host, ["gpu H200"], number, True] for host, number in rows]

    one = check._devices(Job())
    assert (one.mark, one.good) == (mark, True)
    assert ("several processes of a have CUDA_VISIBLE_DEVICES=0" in one.text) == (mark == "CARE")
    assert ("nvidia-smi -L" in one.mend) == (mark == "CARE")


def test_proxies_and_a_batch_script_are_named(tmp_path, monkeypatch):
    by_name = findings(tmp_path, monkeypatch, HTTPS_PROXY="http://proxy:1", SLURM_NTASKS="4")
    assert by_name["proxies"].text == "HTTPS_PROXY set; processes are connected past them"
    assert not by_name["processes"].good
    assert "start the command with srun" in by_name["processes"].mend


def test_a_folder_that_takes_no_file_is_named(tmp_path, monkeypatch):
    by_name = findings(tmp_path / "gone", monkeypatch)
    assert not by_name["folder"].good
    assert "No such file or directory" in by_name["folder"].text
    assert "every machine mounts" in by_name["folder"].mend


def test_the_command_prints_a_line_for_every_finding(tmp_path, capsys):
    code = main(["cluster", "check", "--folder", str(tmp_path)])
    printed = capsys.readouterr().out
    names = ["processes", "devices", "psum", "names", "proxies", "folder", "clocks", "signals"]
    marks = [
        line.split()[:2] for line in printed.splitlines() if line.startswith(("ok", "CARE", "MEND"))
    ]
    assert [name for _, name in marks] == names
    assert code == (2 if "MEND" in printed else 0)
    assert main(["cluster", "check", "--folder", str(tmp_path / "none")]) == 2
    assert "expected a folder, found nothing there" in capsys.readouterr().err
