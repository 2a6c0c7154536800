"""JAX functions as contestants: compiled ahead of time, with the compiler's own memory analysis."""

import time
from typing import Any

import jax

from benchmarks.measure import Side


def jitted(function: Any, *arguments: Any) -> Side:
    """Returns the side that calls `function(*arguments)` under jit, the arguments on the device."""
    # Once: copies to the device are no part of the function, and a training loop overlaps them.
    arguments = jax.device_put(arguments)
    executable, seconds = compiled(jax.jit(function), *arguments)
    return Side(
        run=lambda: executable(*arguments),
        # Calls return before the device is done. Waiting once per round lets calls follow each
        # other as they do in a loop.
        wait=jax.block_until_ready,
        compile_seconds=seconds,
        temp_bytes=temp_bytes(executable),
        device_peak=device_peak,
    )


def compiled(mapped: Any, *arguments: Any) -> tuple[Any, float]:
    """Returns the executable of a jitted or pmapped function, and the seconds it took to make."""
    _, executable, seconds = lowered_and_compiled(mapped, *arguments)
    return executable, seconds


def lowered_and_compiled(
    mapped: Any, *arguments: Any, choices: dict[str, Any] | None = None
) -> tuple[Any, Any, float]:
    """Returns (lowered program, executable, seconds of both); choices are the compiler's."""
    start = time.perf_counter()
    # Ahead of time: the first call of a jitted function would mix compiling and running.
    lowered = mapped.lower(*arguments)
    executable = lowered.compile(compiler_options=choices)
    return lowered, executable, time.perf_counter() - start


def temp_bytes(executable: Any) -> int | None:
    """Returns the size of the temporary buffers, None where the backend does not say."""
    analysis = executable.memory_analysis()
    return None if analysis is None else int(analysis.temp_size_in_bytes)


def device_peak() -> int | None:
    """Returns the largest allocation on the first device since the process began; None on a CPU."""
    statistics = jax.local_devices()[0].memory_stats()
    return None if statistics is None else statistics.get("peak_bytes_in_use")
