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


@pytest.mark.long
@pytest.mark.parametrize(("processes", "count", "body"), [(1, 8, "shard_map"), (4, 1, "pmap")])
def test_what_has_no_corners_is_equal_over_many_steps(spec, processes, count, body):
    one = devices.run(spec, 1, 1, "shard_map", 20, case="smooth")
    other = devices.run(spec, processes, count, body, 20, case="smooth")
    assert other["losses"] == pytest.approx(one["losses"], rel=1e-5)
    assert other["norm"] == pytest.approx(one["norm"], rel=1e-6)
    assert one["losses"][-1] < 0.9 * one["losses"][0], "it has trained"


def test_the_table_has_every_cut_and_the_first_step_that_differs():
    assert {row[0] for row in devices.ROWS} == {1, 2, 4}
    assert {row[1] for row in devices.ROWS} == {1, 2, 4, 8}
    assert {(4, 1, body) for body in ("shard_map", "pmap")} <= set(devices.ROWS)

    def row(count, losses):
        return {
            "processes": 1,
            "devices": count,
            "body": "pmap",
            "losses": losses,
            "seconds": 0.5,
            "reduced": 2_000_000,
        }

    lines = devices.table([row(1, [2.0, 1.0]), row(4, [2.0, 1.001])], 1e-5).splitlines()
    assert "losses equal to 1e-5 until step" in lines[0]
    assert lines[-1] == "| 1 | 4 | pmap | 1.001000 | 1.0e-03 | 1 | 500 | 2.00 | 3.00 |"


def test_bytes_are_read_from_the_reductions_of_a_program():
    program = """
      %a = f32[3,4]{1,0} all-reduce(f32[3,4]{1,0} %x), replica_groups={}
      %b = (f32[10]{0}, bf16[2,2]{1,0}) all-reduce(f32[10]{0} %y, bf16[2,2]{1,0} %z), to_apply=%add
      %c = f32[] add(f32[] %p, f32[] %q)
    """
    assert devices.reduced_bytes(program) == 48 + 40 + 8
