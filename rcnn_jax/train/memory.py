"""The memory of a step, from the compiled program's own figures: before step 0 and without a trial run.

The compiler knows to the byte what its program takes: arguments, results, and buffers in between. The
largest batch follows from two compilations, because activations grow by the same amount per image.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from rcnn_jax.errors import TrainingError
from rcnn_jax.structures import TrainState
from rcnn_jax.train.parallel import Device

RESERVE = 0.08
"""Share of a device's memory that is left to libraries, fragments and the next batch on its way."""
MOST_IMAGES = 256
_MIB = 1024.0**2
_MEMINFO = Path("/proc/meminfo")


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """Memory of one device during a step, in bytes.

    Attributes:
      weights: parameters, averages of them, statistics; those of a teacher too.
      optimizer: its state.
      batch: images and ground truth.
      work: activations, gradients and whatever else lives inside a step.
      limit: what the device has; 0 where nobody says.
    """

    weights: int
    optimizer: int
    batch: int
    work: int
    limit: int = 0

    @property
    def peak(self) -> int:
        """All of it at once."""
        return self.weights + self.optimizer + self.batch + self.work

    @property
    def fits(self) -> bool:
        """Says whether the device has room; True where nobody knows."""
        return not self.limit or self.peak <= self.limit

    def text(self) -> str:
        """Returns one line for the user."""
        parts = (
            f"weights {_mib(self.weights)}, optimizer {_mib(self.optimizer)}, batch "
            f"{_mib(self.batch)}, activations and work {_mib(self.work)}"
        )
        of = f" of {_mib(self.limit)}" if self.limit else ""
        return f"memory of a step on each device: {_mib(self.peak)}{of} MiB ({parts})"


def plan_memory(
    compiled: Any, state: TrainState, batch: Any, count: int, limit: int, known: Any = ()
) -> MemoryPlan:
    """Returns the plan of a compiled step.

    Args:
      compiled: from `lower(...).compile()`.
      state: of one device; only shapes are read.
      batch: of all devices; only shapes are read.
      count: of devices.
      limit: see `device_limit`.
      known: weights that every device holds beside the state, those of a teacher; only shapes are read.
    """
    optimizer = _bytes(state.opt_state)
    analysis = compiled.memory_analysis()
    # What is donated is written in place: the new state takes no memory beside the old one.
    results = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return MemoryPlan(
        # From shapes: the analysis has one number for all arguments.
        weights=_bytes(state) - optimizer + _bytes(known),
        optimizer=optimizer,
        batch=_bytes(batch) // count,
        work=analysis.temp_size_in_bytes + max(results, 0),
        limit=limit,
    )


def device_limit(device: Device) -> int:
    """Returns the bytes that a step may take on a device, less a reserve; 0 where nobody says.

    A CPU has what its machine can give at the moment, shared by all (virtual) devices.
    """
    # None on CPUs, and on some plugins of others.
    stats = device.memory_stats() or {}
    total = stats.get("bytes_limit", 0)
    if not total and device.platform == "cpu":
        total = _available() // len(jax.local_devices())
    return int(total * (1.0 - RESERVE))


def advice(
    plan: MemoryPlan, batch: int, accumulate: int, remat: bool, fields: tuple[str, str]
) -> str:
    """Lists the remedies for a plan that does not fit, those that keep the results first.

    Args:
      plan: that does not fit.
      batch: images of a device.
      accumulate: parts of a step.
      remat: activations are computed again already.
      fields: names of the batch in the spec, and of mixed precision.
    """
    over = plan.peak / plan.limit
    lines = [f"{plan.text()}: {over:.1f} times what there is. What helps, in this order:"]
    if batch > 1:
        # A power of two divides the usual batches, and rounds up, since half a fit is none.
        parts = min(batch, 2 ** max(1, int(over).bit_length()))
        lines.append(
            f"{fields[0]}: {max(batch // parts, 1)} with accumulate_steps: {accumulate * parts}, the "
            "same effective batch in smaller parts"
        )
    if not remat:
        lines.append("remat: True, fewer activations are kept and computed again")
    lines.append(f"{fields[1]}: True, activations take half of the space")
    lines.append("a smaller canvas, or a smaller arch")
    numbered = [f"  {number}. {line}" for number, line in enumerate(lines[1:], start=1)]
    return "\n".join([lines[0], *numbered])


def largest_batch(peak_of: Callable[[int], int], limit: int, most: int = MOST_IMAGES) -> int:
    """Returns the largest number of images whose step fits.

    Args:
      peak_of: images of a device -> bytes of its step; called three times mostly.
      limit: bytes.
      most: images, whatever the memory.

    Raises:
      TrainingError: one image does not fit.
    """
    one = peak_of(1)
    if one > limit:
        raise TrainingError(
            f"a batch of one image takes {_mib(one)} MiB, the device has {_mib(limit)} to spare: set "
            "remat: True, mixed precision, or a smaller canvas"
        )
    # One image and two differ by what an image takes; the rest is in both.
    two = peak_of(2)
    if two > limit:
        return 1
    # Rounded down, and then asked: a compiler may lay a larger batch out in another way.
    each = max(two - one, 1)
    batch = min(2 + (limit - two) // each, most)
    while batch > 2 and peak_of(batch) > limit:
        # By sixteenths: each question is a compilation, and the first answer is mostly right.
        batch = batch - max(batch // 16, 1)
    return batch


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _mib(size: float) -> str:
    return f"{size / _MIB:,.0f}" if size >= 10 * _MIB else f"{size / _MIB:.1f}"


def _available() -> int:
    """Returns the bytes that the machine can give; 0 where it does not say."""
    try:
        lines = _MEMINFO.read_text().splitlines()
    except OSError:
        return 0
    sizes = (line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    return int(next(sizes, "0")) * 1024
