"""Sums over the devices of a map, and none where there is one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from rcnn_jax.ops.over_devices import mean_over, sum_over


def _mapped(function, count):
    mesh = Mesh(np.asarray(jax.devices()[:count]), ("data",))
    rows = PartitionSpec("data")
    return jax.shard_map(
        function, mesh=mesh, in_specs=rows, out_specs=PartitionSpec(), check_vma=False
    )


@pytest.mark.parametrize("count", [1, 2, 4])
def test_sum_and_mean_run_over_all_devices(count):
    values = jnp.arange(4.0)

    def both(part):
        own = {"total": jnp.sum(part), "size": jnp.float32(part.size)}
        return sum_over("data", own), mean_over("data", own)

    total, mean = _mapped(both, count)(values)
    assert (total["total"], total["size"]) == (6.0, 4.0)
    assert (mean["total"], mean["size"]) == (6.0 / count, 4.0 / count)


@pytest.mark.parametrize("function", [sum_over, mean_over])
@pytest.mark.parametrize(("count", "collectives"), [(1, 0), (2, 1)])
def test_one_device_asks_for_no_collective(function, count, collectives):
    mapped = _mapped(lambda part: function("data", part), count)
    assert str(jax.make_jaxpr(mapped)(jnp.arange(4.0))).count("psum") == collectives
