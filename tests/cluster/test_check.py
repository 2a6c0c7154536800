"""`cluster check` in jobs of a real Slurm: sound ones, and one for each thing that is wrong."""

import pytest

from tests.cluster.jobs import RCNN_JAX

pytestmark = pytest.mark.cluster
NAMES = ["processes", "devices", "psum", "names", "proxies", "folder", "clocks", "signals"]


def check(cluster, *before, folder, **variables):
    """Returns (exit code, {name of a finding: (mark, text)}, output)."""
    done = cluster.run(*before, *RCNN_JAX, "cluster", "check", "--folder", folder, **variables)
    lines = [line for line in done.stdout.splitlines() if line.startswith(("ok", "MEND"))]
    findings = {line.split()[1]: (line.split()[0], line) for line in lines}
    return done.returncode, findings, done.stdout + done.stderr


def test_a_sound_job_needs_no_mending(cluster, tmp_path):
    code, findings, text = check(cluster, "srun", "--ntasks=2", folder=tmp_path)
    assert code == 0, text
    assert list(findings) == NAMES
    assert {mark for mark, _ in findings.values()} == {"ok"}
    assert "2 on 1 machine(s), found by slurm" in findings["processes"][1]
    assert "a sum over 2 devices gave 3 " in findings["psum"][1]
    assert "Slurm's signals reach every process" in findings["signals"][1]


def test_a_batch_script_without_srun_is_named(cluster, tmp_path):
    log = tmp_path / "log.txt"
    words = " ".join(f"'{word}'" for word in (*RCNN_JAX, "cluster", "check"))
    cluster.run("sbatch", "--wait", "--ntasks=2", "--output", log, "--wrap", words)
    assert "MEND  processes" in log.read_text()
    assert "start the command with srun" in log.read_text()


def test_proxies_and_other_folders_are_named(cluster, tmp_path):
    for rank in (0, 1):
        (tmp_path / str(rank)).mkdir()
    program = f'cd {tmp_path}/$SLURM_PROCID && exec "$@"'
    code, findings, text = check(
        cluster,
        *("srun", "--ntasks=2", "bash", "-c", program, "bash"),
        folder=".",
        https_proxy="http://127.0.0.1:9",
    )
    assert code == 2, text
    assert [name for name, (mark, _) in findings.items() if mark == "MEND"] == ["folder"]
    assert "is not seen on" in findings["folder"][1]
    assert "https_proxy set; processes are connected past them" in findings["proxies"][1]


def test_tasks_with_other_numbers_of_devices_end_in_one_message(cluster, tmp_path):
    flag = "--xla_force_host_platform_device_count"
    program = f'export XLA_FLAGS="{flag}=$((SLURM_PROCID + 1))" && exec "$@"'
    code, findings, text = check(
        cluster, *("srun", "--ntasks=2", "bash", "-c", program, "bash"), folder=tmp_path
    )
    assert (code, findings) == (2, {}), text
    assert text.count("error: ") - text.count("srun: error: ") == 1
    assert "process 0 sees 1 device(s), process 1 2: give every process as many GPUs" in text
