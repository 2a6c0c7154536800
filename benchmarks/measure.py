"""Warm-up, medians, and contestants that take turns.

    make each side (compile) -> warm it up -> rounds: A B, B A, A B, ... -> SideResult per side

A machine that is shared or warms up drifts over seconds; sides that take turns drift together, so
the ratio of a round is worth more than either time. A turn begins with a call that is not measured:
memory that the side gave back may belong to the host of a virtual machine by then, and to get it
again takes up to half a training step, which nobody pays who trains step after step.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.memory import peak_since_reset, reset_peak
from benchmarks.results import SideResult

OURS = "rcnn_jax"


class PeerUnavailableError(Exception):
    """A peer cannot be measured here; the text says why."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """A contestant that is ready to run.

    Attributes:
      run: begins one call; what it returns goes to `wait`.
      wait: returns when that call, and all before it, are done.
      compile_seconds: what making it ready took in the compiler, or None.
      temp_bytes: temporary buffers of the compiled program, or None.
      device_peak: largest allocation on an accelerator so far, or None.
    """

    run: Callable[[], Any]
    wait: Callable[[Any], object] = lambda result: result
    compile_seconds: float | None = None
    temp_bytes: int | None = None
    device_peak: Callable[[], int | None] = lambda: None


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How long to measure.

    Attributes:
      seconds: about how long all rounds of one benchmark may take.
      min_rounds: never fewer, however slow a call is.
      max_rounds: never more.
      sample_seconds: a round repeats short calls until it takes about this long.
    """

    seconds: float
    min_rounds: int = 3
    max_rounds: int = 25
    sample_seconds: float = 0.02


@dataclass(frozen=True)
class _Ready:
    side: Side
    host_peak: int | None
    estimate: float


def compare(
    makers: Mapping[str, Callable[[], Side]], effort: Effort
) -> tuple[tuple[SideResult, ...], tuple[str, ...]]:
    """Returns the results of all sides that can run here, and why the others cannot.

    Args:
      makers: what makes each side ready, by name, our own first; peers raise
        `PeerUnavailableError` where they are absent.
      effort: how long to measure.
    """
    ready, notes = {}, []
    for name, make in makers.items():
        try:
            ready[name] = _warm_up(make)
        except PeerUnavailableError as error:
            notes.append(f"{name}: {error}")
        # Ours comes first in `makers`: `ready` is empty only while it is being made.
        except Exception as error:  # a broken peer is no reason to lose our own numbers
            if not ready:
                raise
            notes.append(f"{name} failed: {type(error).__name__}: {error}")
    calls = {
        name: max(1, math.ceil(effort.sample_seconds / one.estimate)) for name, one in ready.items()
    }
    # Interleaved rounds: load and clock of a shared machine drift over minutes, and change both
    # sides of a round alike. Ratios are taken within a round.
    in_turns = len(ready) > 1
    round_seconds = sum(one.estimate * (in_turns + calls[name]) for name, one in ready.items())
    rounds = min(effort.max_rounds, int(effort.seconds / max(round_seconds, 1e-9)))
    wall: dict[str, list[float]] = {name: [] for name in ready}
    cpu: dict[str, list[float]] = {name: [] for name in ready}
    for number in range(max(effort.min_rounds, rounds)):
        # Back and forth, so that neither side always runs on caches that the other has left.
        for name in list(ready) if number % 2 == 0 else reversed(list(ready)):
            side = ready[name].side
            # One call that is not timed: caches and frequency are the other side's until then.
            if in_turns:
                _sample(side, 1)
            seconds, cpu_seconds = _sample(side, calls[name])
            wall[name].append(seconds)
            cpu[name].append(cpu_seconds)
    results = tuple(
        SideResult(
            name=name,
            seconds=tuple(wall[name]),
            cpu_seconds=tuple(cpu[name]),
            calls=calls[name],
            compile_seconds=one.side.compile_seconds,
            temp_bytes=one.side.temp_bytes,
            host_peak_bytes=one.host_peak,
            device_peak_bytes=one.side.device_peak(),
        )
        for name, one in ready.items()
    )
    return results, tuple(notes)


def _warm_up(make: Callable[[], Side]) -> _Ready:
    """Makes a side and calls it twice: the first call may still set things up."""
    known = reset_peak()
    side = make()
    # Not timed: allocations, and algorithms that cuDNN searches.
    side.wait(side.run())
    estimate, _ = _sample(side, 1)
    return _Ready(side, peak_since_reset() if known else None, max(estimate, 1e-7))


def _sample(side: Side, calls: int) -> tuple[float, float]:
    """Returns wall and processor seconds per call over that many calls."""
    # Both clocks: on a busy machine processor time is the steadier one, across all threads.
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(calls):
        result = side.run()
    side.wait(result)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return wall / calls, cpu / calls
