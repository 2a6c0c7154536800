"""A throwaway Slurm for the tests of this folder, started by the first that asks for it."""

import os

import pytest

from tests.cluster import slurm
from tests.cluster.jobs import Cluster


@pytest.fixture(scope="session")
def cluster():
    if why := slurm.missing():
        pytest.skip(why)
    pytest.importorskip("submitit", reason="submitit (extra sweep) is not installed")
    with slurm.throwaway() as variables:
        # One device a process; the other variables of the tests are those of every process.
        kept = [f for f in os.environ.get("XLA_FLAGS", "").split() if "device_count" not in f]
        flags = " ".join([*kept, "--xla_force_host_platform_device_count=1"])
        yield Cluster({**variables, "XLA_FLAGS": flags})
