"""Leaves cut among devices, on four devices of the CPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rcnn_jax.train.sharding import Slices

COUNT = 4
SLICES = Slices("devices", COUNT)
MESH = Mesh(np.asarray(jax.local_devices()[:COUNT]), ("devices",))
TREE = {
    "kernel": np.arange(64 * 128, dtype=np.float32).reshape(64, 128),
    "bias": np.arange(128, dtype=np.float32),
    "odd": np.arange(4097.0, dtype=np.float32).reshape(4097, 1),  # no side that 4 divides
}
SPECS = {"kernel": PartitionSpec(None, "devices"), "bias": PartitionSpec(), "odd": PartitionSpec()}


def mapped(body, *, results, arguments=SPECS):
    """The body on every device, over the tree."""
    # Without the check of replication, as `parallel.map_step` does: an all_gather is not seen as whole.
    return jax.jit(
        jax.shard_map(body, mesh=MESH, in_specs=(arguments,), out_specs=results, check_vma=False)
    )(TREE)


def test_a_leaf_is_placed_along_the_axis_that_it_is_cut_along():
    assert SLICES.specs(TREE) == SPECS
    placed = jax.device_put(TREE["kernel"], NamedSharding(MESH, SPECS["kernel"]))
    assert {shard.data.shape for shard in placed.addressable_shards} == {(64, 128 // COUNT)}


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((128, 128), 0), ((128, 256), 1), ((256, 3, 129), 0), ((6, 1026), None), ((1023,), None)],
)
def test_the_longest_side_that_divides_is_cut_the_first_of_equal_ones(shape, axis):
    assert SLICES.axis(shape) == axis


def test_one_device_cuts_nothing():
    assert Slices("devices", 1).axis((128, 128)) is None


def test_gathered_slices_are_the_leaves_again():
    whole = mapped(lambda tree: SLICES.whole(tree, TREE), results=PartitionSpec())
    assert jax.tree.all(jax.tree.map(np.array_equal, whole, TREE))


def test_every_device_takes_the_slice_that_lies_on_it():
    cut = mapped(SLICES.own, arguments=PartitionSpec(), results=SPECS)
    assert jax.tree.all(jax.tree.map(np.array_equal, cut, TREE))


def test_a_cut_leaf_is_summed_over_devices_and_a_whole_one_counts_once():
    def sums(tree):
        values = {name: jnp.sum(leaf * 1e-3) for name, leaf in tree.items()}
        return SLICES.total(values, TREE)

    total = mapped(sums, results=PartitionSpec())
    expected = sum(float(np.sum(leaf * 1e-3, dtype=np.float64)) for leaf in TREE.values())
    assert float(total) == pytest.approx(expected, rel=1e-5)
