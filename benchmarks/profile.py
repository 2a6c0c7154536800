"""A training step under JAX's profiler: time per stage, and how near each comes to the machine's speed.

    trace of a few steps -> seconds per operation -> JAX names -> stages
    trace of the function -> FLOP per stage
    a large matrix product -> what the machine can do

The trace stays in the folder `FILE-trace`, for TensorBoard or Perfetto.
"""

import contextlib
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.case import Case
from benchmarks.detectors import TRAINED, Detector, Subject, detectors, prepare, random_batch
from benchmarks.flops import flops_by_stage
from benchmarks.jax_side import compiled, jitted
from benchmarks.measure import OURS, Effort, compare
from benchmarks.options import Options
from benchmarks.results import Benchmark, Table
from benchmarks.stages import BACKWARD, FORWARD, STAGES, direction_of, stage_of
from benchmarks.trace import names_of_operations, read_events, seconds_by_operation
from benchmarks.train_step import fresh_state, mapped_step, on_device

STEPS = 3


def cases(options: Options) -> list[Case]:
    """Returns the first detector of the size, at `tiny` the one with masks."""
    chosen = detectors(options, TRAINED)
    one = chosen[-1] if options.size == "tiny" else chosen[0]
    return [Case(one.name, lambda: _profile(one, options))]


def _profile(detector: Detector, options: Options) -> Benchmark:
    subject = prepare(detector, options)
    state, batch = on_device(fresh_state(subject), random_batch(subject))
    mapped = mapped_step(subject)
    executable, _ = compiled(mapped, state, batch)
    # Before the step runs: its donated arguments are gone afterwards.
    flops = flops_by_stage(mapped, state, batch)
    # Once outside: the first step allocates. The state is donated, so every step takes the last
    # result.
    state, metrics = executable(state, batch)
    jax.block_until_ready((state, metrics))
    # Timed without the profiler, whose events cost more than many operations.
    start = time.perf_counter()
    for _ in range(STEPS):
        state, metrics = executable(state, batch)
    jax.block_until_ready((state, metrics))
    step = (time.perf_counter() - start) / STEPS
    with _folder(options) as folder:
        with jax.profiler.trace(folder):
            for _ in range(STEPS):
                state, metrics = executable(state, batch)
            jax.block_until_ready((state, metrics))
        times = seconds_by_operation(read_events(Path(folder)))
    names = names_of_operations(executable.as_text())
    seconds: Counter[Any] = Counter()
    for operation, total in times.items():
        name = names.get(operation, "")
        seconds.update({(stage_of(name), direction_of(name)): total / STEPS})
    speed = matrix_speed(jnp.bfloat16 if subject.bf16 else jnp.float32, options)
    return Benchmark(
        name=f"profile {subject.name}",
        parameters={"step": f"{1e3 * step:.1f} ms", **_parameters(subject, flops, speed)},
        table=table_of(f"Time per stage: {subject.name}", seconds, flops, speed),
        notes=(
            "seconds are summed over operations; where they overlap, on the threads of a CPU, they "
            "add up to more than the step",
        ),
    )


def _folder(options: Options) -> Any:
    if options.trace:
        return contextlib.nullcontext(options.trace)
    return tempfile.TemporaryDirectory()


def _parameters(subject: Subject, flops: Counter, speed: float) -> dict[str, Any]:
    return {
        "precision": "bfloat16" if subject.bf16 else "float32",
        "GFLOP per image": f"{sum(flops.values()) / subject.batch / 1e9:.1f}",
        "large matrix product": f"{speed / 1e12:.3f} TFLOP/s",
    }


def matrix_speed(dtype: Any, options: Options) -> float:
    """Returns the FLOP/s of a large matrix product on the first device."""
    on_cpu = jax.local_devices()[0].platform == "cpu"
    # Large enough that the product is bound by arithmetic, which is what utilisation refers to.
    side = 128 if options.size == "tiny" else 2048 if on_cpu else 8192
    square = jnp.ones((side, side), dtype)
    (side_result,), _ = compare(
        {OURS: lambda: jitted(lambda a, b: a @ b, square, square)},
        Effort(seconds=1.0, max_rounds=10),
    )
    # The fastest round: it is the speed of the machine that is wanted, not of its load.
    return 2 * side**3 / min(side_result.seconds)


def table_of(title: str, seconds: Counter, flops: Counter, speed: float) -> Table:
    """Returns the table of stages, and their sum in the last row.

    Args:
      title: of the table.
      seconds: {(stage, direction): seconds per step}.
      flops: {(stage, direction): FLOP per step}.
      speed: FLOP/s of the machine.
    """
    total = sum(seconds.values())
    rows = []
    for stage in STAGES:
        both = seconds[stage, FORWARD] + seconds[stage, BACKWARD]
        work = flops[stage, FORWARD] + flops[stage, BACKWARD]
        if both or work:
            rows.append(
                (
                    stage,
                    _milliseconds(seconds[stage, FORWARD]),
                    _milliseconds(seconds[stage, BACKWARD]),
                    f"{100 * both / total:.1f} %" if total else "",
                    *_work(work, both, speed),
                )
            )
    forward = sum(value for (_, way), value in seconds.items() if way == FORWARD)
    # Stages overlap on the threads of a CPU, so the last row is a sum of work and not the step.
    rows.append(
        (
            "all",
            _milliseconds(forward),
            _milliseconds(total - forward),
            "",
            *_work(sum(flops.values()), total, speed),
        )
    )
    head = ("stage", "forward ms", "backward ms", "share", "GFLOP", "TFLOP/s", "utilisation")
    return Table(title=title, head=head, rows=tuple(rows))


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.2f}" if seconds else ""


def _work(flops: int, seconds: float, speed: float) -> tuple[str, str, str]:
    if not flops:
        return "", "", ""
    gflop = f"{flops / 1e9:.1f}"
    if not seconds:
        return gflop, "", ""
    rate = flops / seconds
    return gflop, f"{rate / 1e12:.3f}", f"{100 * rate / speed:.0f} %"
