"""The same global batch, seed and rate on 1 to 8 devices, in 1 to 4 processes, by both bodies.

Each in fresh processes: the number of virtual devices of a CPU is fixed when JAX starts.
"""

import numpy as np
import pytest

from experiments import devices
from tests.e2e.tiny import write_tiny

STEPS = 3
# Sums of float32 in another order differ by 6e-8 times the root of the number of terms; trained batch
# norm over a few thousand values and three steps of an untrained network make 1e-4 of it.
LOSSES, NORM = 2e-4, 1e-6
# Of the largest value of each kernel, bias, beta, gamma and statistic. Betas differ most, by up to
# 1.6e-6: they begin at zero, so that it is a fraction of all that training did to them.
LEAVES = 1e-5


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("devices"), images=2 * devices.GLOBAL_BATCH)


@pytest.fixture(scope="module")
def one(spec, tmp_path_factory):
    path = tmp_path_factory.mktemp("leaves") / "one.npz"
    return devices.run(spec, 1, 1, "shard_map", STEPS, path), arrays(path)


def arrays(path):
    with np.load(path) as file:
        return dict(file)


@pytest.mark.long
@pytest.mark.parametrize(
    ("processes", "count", "body"),
    [(1, 8, "shard_map"), (1, 8, "pmap"), (2, 2, "shard_map"), (4, 1, "shard_map"), (2, 1, "pmap")],
)
def test_losses_and_weights_do_not_depend_on_the_cut(spec, one, tmp_path, processes, count, body):
    wanted, leaves = one
    result = devices.run(spec, processes, count, body, STEPS, tmp_path / "leaves.npz")
    assert result["losses"] == pytest.approx(wanted["losses"], rel=LOSSES)
    assert result["norm"] == pytest.approx(wanted["norm"], rel=NORM)
    assert result["reduced"] > 0
    others = arrays(tmp_path / "leaves.npz")
    assert others.keys() == leaves.keys()
    for name, leaf in leaves.items():
        largest = np.abs(leaf).max()
        np.testing.assert_allclose(others[name], leaf, rtol=0, atol=LEAVES * largest, err_msg=name)


def test_bytes_are_read_from_the_reductions_of_a_program():
    program = """
      %a = f32[3,4]{1,0} all-reduce(f32[3,4]{1,0} %x), replica_groups={}
      %b = (f32[10]{0}, bf16[2,2]{1,0}) all-reduce(f32[10]{0} %y, bf16[2,2]{1,0} %z), to_apply=%add
      %c = f32[] add(f32[] %p, f32[] %q)
    """
    assert devices.reduced_bytes(program) == 48 + 40 + 8
