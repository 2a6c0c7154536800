"""Data parallelism: replication, sharding of batches, the mapped step; devices are known here only."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from rcnn_jax.errors import UsageError
from rcnn_jax.structures import Batch
from rcnn_jax.tasks.build import AXIS
from rcnn_jax.train.step import StepFunction

Device = Any
"""A `jax.Device`, which is a function in the eyes of a type checker."""


def choose_devices(count: int | None) -> list[Device]:
    """Returns the local devices to train on: all of them, or the first `count`.

    Raises:
      UsageError: more devices are asked for than this machine has.
    """
    devices = jax.local_devices()
    if count is None:
        return devices
    if count > len(devices):
        raise UsageError(
            f"--gpus {count} asks for more devices than there are: found {len(devices)} "
            f"({devices[0].platform}); lower --gpus or set CUDA_VISIBLE_DEVICES"
        )
    return devices[:count]


def count_of_all(devices: list[Device]) -> int:
    """Returns how many devices train, over all processes, where each has as many as this one."""
    return len(devices) * jax.process_count()


def map_step(step: StepFunction, devices: list[Device]) -> Any:
    """Returns the step over replicated states and sharded batches; the old state is given up."""
    # Donation: the new state takes the memory of the old one, else a step would need both, with two
    # moments per weight where the optimizer keeps them. The caller must not touch the old one again.
    return jax.pmap(step, axis_name=AXIS, devices=devices, donate_argnums=(0,))


def replicate(state: Any, devices: list[Device]) -> Any:
    """Copies a state to every device through an identity map, so that the step is traced once."""
    # The unused array gives the map its size: with `in_axes` None alone there is nothing to map
    # over. A map and not `jax.device_put`, whose arrays carry another sharding than those that the
    # step returns: the second step would be traced and compiled again.
    copies = jax.pmap(lambda _, tree: tree, axis_name=AXIS, in_axes=(0, None), devices=devices)
    return copies(np.zeros(len(devices), np.int8), state)


def first_replica(tree: Any) -> Any:
    """Fetches one replica to the host as NumPy arrays."""
    # One addressable piece, read where it lies: indexing the array with [0] would be a program of
    # its own on the device, for every shape.
    return jax.tree.map(
        lambda leaf: np.asarray(leaf.addressable_data(0)).reshape(leaf.shape[1:]), tree
    )


def on_first_device(tree: Any) -> Any:
    """Returns one replica on its device, without waiting for it."""
    return jax.tree.map(lambda leaf: leaf.addressable_data(0).reshape(leaf.shape[1:]), tree)


def shard(batch: Batch, devices: list[Device]) -> Batch:
    """Cuts a host batch into one piece per device and starts the transfer."""
    count = len(devices)

    def cut(leaf: Any) -> jax.Array:
        array = np.asarray(leaf)
        # Contiguous pieces: image i of the global batch stays image i, whatever the number of
        # devices; `example_index`, the key of its random numbers, was given before the cut.
        pieces = array.reshape(count, array.shape[0] // count, *array.shape[1:])
        return _put(pieces, devices)

    return jax.tree.map(cut, batch)


def shards_ahead(batches: Iterator[Batch], devices: list[Device]) -> Iterator[tuple[Batch, Batch]]:
    """Yields (host batch, sharded batch), transferring the next one while the device computes."""
    # One worker, one batch ahead: batches keep their order, and the device holds two of them at
    # most.
    with ThreadPoolExecutor(max_workers=1) as pool:

        def fetch() -> tuple[Batch, Batch] | None:
            # A default: StopIteration would come out of the future as a RuntimeError of this
            # generator.
            batch = next(batches, None)
            return None if batch is None else (batch, shard(batch, devices))

        pending = pool.submit(fetch)
        while (ready := pending.result()) is not None:
            pending = pool.submit(fetch)
            yield ready


def _put(pieces: np.ndarray, devices: list[Device]) -> jax.Array:
    """Puts pieces[i] on devices[i] as one array in the layout that pmap expects."""
    mesh = jax.sharding.Mesh(np.asarray(devices), (AXIS,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(AXIS))
    return jax.device_put(pieces, sharding)
