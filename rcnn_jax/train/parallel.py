"""Data parallelism: replication, sharding of batches, the mapped step; devices are known here only.

One seam, two bodies. `shard_map` compiles one program over a mesh of all devices; the state is one
array per leaf, the same on every device. `pmap` is the older form, kept because people ask for it: the
state has a leading axis of local devices. Both run the same step function, and agree.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rcnn_jax.errors import UsageError
from rcnn_jax.structures import Batch, TrainState
from rcnn_jax.tasks.build import AXIS
from rcnn_jax.train.sharding import Slices
from rcnn_jax.train.step import StepFunction

Device = Any
"""A `jax.Device`, which is a function in the eyes of a type checker."""
Body = Literal["shard_map", "pmap"]
ROWS, WHOLE = PartitionSpec(AXIS), PartitionSpec()


@dataclass(frozen=True)
class Devices:
    """The devices of a run, as many in every process.

    Attributes:
      local: those of this process.
      body: how a step is mapped over them.
      divided: weights and optimizer state lie in slices on them; `shard_map` only.
    """

    local: tuple[Device, ...]
    body: Body = "shard_map"
    divided: bool = False

    @property
    def everywhere(self) -> tuple[Device, ...]:
        """Those of all processes, process by process: rows of a batch lie in this order."""
        if jax.process_count() == 1:
            return self.local
        of_process: dict[int, list[Device]] = {}
        for device in jax.devices():
            of_process.setdefault(device.process_index, []).append(device)
        each = len(self.local)
        for process, devices in sorted(of_process.items()):
            if len(devices) < each:
                raise UsageError(
                    f"process {process} has {len(devices)} devices, this one uses {each}: give every "
                    "process as many (--gpus N counts those of one process)"
                )
        return tuple(
            device for _, devices in sorted(of_process.items()) for device in devices[:each]
        )

    @property
    def count(self) -> int:
        """How many there are over all processes."""
        return len(self.local) * jax.process_count()

    @property
    def slices(self) -> Slices | None:
        """How the state is divided; None where every device has all of it."""
        return Slices(AXIS, self.count) if self.divided else None

    def state_specs(self, state: TrainState) -> Any:
        """Returns the placement of a state with whole shapes, or one for all of it."""
        if self.slices is None:
            return WHOLE
        specs = jax.tree.map(lambda _: WHOLE, state)
        return specs.replace(
            params=self.slices.specs(state.params),
            opt_state=self.slices.specs(state.opt_state),
            ema=self.slices.specs(state.ema),
        )

    def sharding(self, spec: PartitionSpec) -> NamedSharding:
        """Returns the placement of an array over all devices."""
        return NamedSharding(Mesh(np.asarray(self.everywhere), (AXIS,)), spec)


def choose_devices(count: int | None, body: Body = "shard_map", divided: bool = False) -> Devices:
    """Returns the local devices to train on: all of them, or the first `count`.

    Raises:
      UsageError: more devices are asked for than this machine has.
    """
    devices = jax.local_devices()
    if count is not None and count > len(devices):
        raise UsageError(
            f"--gpus {count} asks for more devices than there are: found {len(devices)} "
            f"({devices[0].platform}); lower --gpus or set CUDA_VISIBLE_DEVICES"
        )
    if divided and body == "pmap":
        raise UsageError(
            "sharding: fsdp needs --data_parallel shard_map: pmap gives every device all weights"
        )
    return Devices(tuple(devices[:count]), body, divided)


def map_step(
    step: StepFunction, devices: Devices, state: TrainState | None = None, *, taught: bool = False
) -> Any:
    """Returns the step over states and sharded batches; the old state is given up.

    Args:
      step: of one shard.
      devices: to map it over.
      state: shapes of a whole one; needed where it is divided.
      taught: the step takes the variables of a teacher too, which every device has whole.
    """
    # Donation: the new state takes the memory of the old one, else a step would need both, with two
    # moments per weight where the optimizer keeps them. The caller must not touch the old one again.
    if devices.body == "pmap":
        return jax.pmap(step, axis_name=AXIS, devices=devices.everywhere, donate_argnums=(0,))
    mesh = devices.sharding(WHOLE).mesh
    specs = WHOLE if state is None else devices.state_specs(state)
    # The check of replication knows too few primitives: it would refuse gathers that are the same on
    # all devices. That they are is tested: losses and weights do not depend on the number of devices.
    in_specs = (specs, ROWS, *(WHOLE,) * taught)
    mapped = jax.shard_map(
        step, mesh=mesh, in_specs=in_specs, out_specs=(specs, WHOLE), check_vma=False
    )
    return jax.jit(mapped, donate_argnums=(0,))


def replicate(state: Any, devices: Devices) -> Any:
    """Copies a state or a leaf, the same in all processes, to every device, or each its slices."""
    if devices.body == "pmap":
        # The unused array gives the map its size: with `in_axes` None alone there is nothing to map
        # over. A map and not `jax.device_put`, whose arrays carry another sharding than those that
        # the step returns: the second step would be traced and compiled again.
        copies = jax.pmap(
            lambda _, tree: tree, axis_name=AXIS, in_axes=(0, None), devices=devices.everywhere
        )
        return copies(np.zeros(len(devices.local), np.int8), state)
    specs = devices.state_specs(state) if isinstance(state, TrainState) else WHOLE

    def put(leaf: Any, spec: PartitionSpec = WHOLE) -> jax.Array:
        sharding = devices.sharding(spec)
        # A copy for each device: a CPU takes the memory of a NumPy array for its own, and the step,
        # which gives its state up, would write into what the caller and the other devices hold.
        array = np.asarray(leaf)
        return jax.make_array_from_callback(array.shape, sharding, lambda part: array[part].copy())

    return jax.tree.map(put, state) if specs is WHOLE else jax.tree.map(put, state, specs)


def first_replica(tree: Any, devices: Devices) -> Any:
    """Fetches one replica, or the whole of its slices, to the host as NumPy arrays."""
    if devices.divided and isinstance(tree, TrainState):

        def fetch(leaf: jax.Array) -> np.ndarray:
            if leaf.is_fully_addressable or leaf.is_fully_replicated:
                return np.asarray(leaf)
            return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))

        return jax.tree.map(fetch, tree)
    return jax.tree.map(np.asarray, on_first_device(tree, devices))


def on_first_device(tree: Any, devices: Devices) -> Any:
    """Returns one replica on its device, without waiting for it."""

    def first(leaf: jax.Array) -> jax.Array:
        # One addressable piece, read where it lies: indexing the array with [0] would be a program of
        # its own on the device, for every shape.
        data = leaf.addressable_data(0)
        return data.reshape(leaf.shape[1:]) if devices.body == "pmap" else data

    return jax.tree.map(first, tree)


def shard(batch: Batch, devices: Devices) -> Batch:
    """Cuts this process's part of a batch into one piece per device and starts the transfer."""
    count = len(devices.local)
    if devices.body == "pmap":
        sharding = NamedSharding(Mesh(np.asarray(devices.local), (AXIS,)), ROWS)

        def cut(leaf: Any) -> jax.Array:
            array = np.asarray(leaf)
            # Contiguous pieces: image i of the global batch stays image i, whatever the number of
            # devices; `example_index`, the key of its random numbers, was given before the cut.
            pieces = array.reshape(count, array.shape[0] // count, *array.shape[1:])
            return jax.device_put(pieces, sharding)

        return jax.tree.map(cut, batch)
    sharding = devices.sharding(ROWS)
    return jax.tree.map(
        lambda leaf: jax.make_array_from_process_local_data(sharding, np.asarray(leaf)), batch
    )


def shards_ahead(batches: Iterator[Batch], devices: Devices) -> Iterator[tuple[Batch, Batch]]:
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
