"""Which process this is: flags, Slurm, Open MPI; every contradiction has its message."""

import pytest

from rcnn_jax.errors import UsageError
from rcnn_jax.hosts.launch import choose_gpus, find_launch, gpus_here

SLURM = {
    "SLURM_JOB_ID": "5000",
    "SLURM_STEP_NODELIST": "node[003-006]",
    "SLURM_NTASKS": "4",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
}
OMPI = {
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911",
    "OMPI_COMM_WORLD_SIZE": "3",
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
}


def test_without_flags_and_launcher_a_process_is_alone():
    assert find_launch(None, None, None, variables={}) is None


def test_flags_name_coordinator_count_and_index():
    launch = find_launch("node1:29500", 4, 3, variables=SLURM)
    assert (launch.address, launch.count, launch.index) == (("node1", 29500), 4, 3)
    assert (launch.init_timeout, launch.heartbeat_timeout) == (1800.0, 100.0)
    assert launch.stall_timeout is None


def test_slurm_is_read_as_jax_reads_it(monkeypatch):
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    launch = find_launch(None, None, None)
    assert (launch.found_by, launch.count, launch.index) == ("slurm", 4, 2)
    assert launch.coordinator.startswith("node003:")


def test_open_mpi_is_read_as_jax_reads_it(monkeypatch):
    for name, value in OMPI.items():
        monkeypatch.setenv(name, value)
    launch = find_launch(None, None, None)
    assert (launch.found_by, launch.count, launch.index) == ("ompi", 3, 1)
    assert launch.address[0] == "10.96.0.1"


@pytest.mark.parametrize(
    "variables",
    [
        {**SLURM, "SLURM_STEP_NUM_TASKS": "1"},  # a trial of a sweep
        {name: value for name, value in SLURM.items() if "STEP" not in name},  # a batch script
    ],
)
def test_a_step_of_one_task_is_alone_whatever_the_job(variables):
    assert find_launch(None, None, None, variables=variables) is None


def test_none_keeps_a_process_of_a_launcher_alone():
    assert find_launch("none", None, None, variables=SLURM) is None


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((None, None, 1), "--process_id 1: needs --coordinator HOST:PORT"),
        (("a:1", None, 0), "--coordinator a:1: needs --num_processes N"),
        (("a:1", 2, None), "--coordinator a:1: needs --num_processes N"),
        (("a:1", 2, 2), "--process_id 2: expected 0 to 1"),
        (("a", 2, 0), "--coordinator a: expected HOST:PORT"),
        (("a:0", 2, 0), "--coordinator a:0: expected HOST:PORT"),
        (("a:99999", 2, 0), "--coordinator a:99999: expected HOST:PORT"),
    ],
)
def test_flags_that_contradict_each_other_are_named(flags, message):
    with pytest.raises(UsageError) as error:
        find_launch(*flags, variables={})
    assert message in str(error.value)


def test_timeouts_are_more_than_nothing():
    with pytest.raises(UsageError, match="--stall_timeout 0: expected seconds, more than 0"):
        find_launch(None, None, None, stall_timeout=0.0, variables={})


@pytest.mark.parametrize(
    ("variables", "each", "seen"),
    [
        ({"SLURM_LOCALID": "3", "CUDA_VISIBLE_DEVICES": "0,1,2,3"}, 1, "3"),
        ({"SLURM_LOCALID": "1", "CUDA_VISIBLE_DEVICES": "0,1,2,3"}, 2, "2,3"),
        ({"SLURM_LOCALID": "3", "CUDA_VISIBLE_DEVICES": "0"}, 1, "0"),  # --gpus-per-task=1
        ({"SLURM_LOCALID": "3", "CUDA_VISIBLE_DEVICES": "0,1"}, 1, "0"),
        ({"CUDA_VISIBLE_DEVICES": "0,1"}, 1, "0,1"),
        ({"OMPI_COMM_WORLD_LOCAL_RANK": "1", "CUDA_VISIBLE_DEVICES": "4,5"}, 1, "5"),
    ],
)
def test_every_process_of_a_machine_takes_gpus_of_its_own(variables, each, seen):
    choose_gpus(each, variables)
    assert variables["CUDA_VISIBLE_DEVICES"] == seen


def test_where_nobody_lists_gpus_those_of_the_machine_are_shared(tmp_path):
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / name).mkdir()
    variables = {"SLURM_LOCALID": "1"}
    choose_gpus(1, variables, gpus_here(tmp_path))
    assert variables["CUDA_VISIBLE_DEVICES"] == "1"
    assert gpus_here(tmp_path / "none") == 0
