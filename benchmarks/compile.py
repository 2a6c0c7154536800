"""The training step compiled for the sizes of a GPU, without running it: what the compiler did.

A machine that could not run the step compiles it: for the device JAX finds, and where there is no GPU
also for one that is absent. On a CPU the memory is that of a CPU program, which computes bfloat16
convolutions in float32.
"""

import functools
import re
from typing import Any

import jax

from benchmarks.absent_gpu import NAME, UNTUNED, absent_gpu
from benchmarks.case import Case
from benchmarks.detectors import TINY, TRAINED, Detector, Subject, prepare, random_batch
from benchmarks.jax_side import lowered_and_compiled
from benchmarks.options import Options
from benchmarks.results import Benchmark, Table
from benchmarks.train_step import fresh_state, mapped_step, on_device
from rcnn_jax.train import parallel

_MIB = 2**20
# In the lowered program, not in the optimised one: XLA on a CPU rewrites bfloat16 to float32, and
# on a GPU hides convolutions in custom calls.
_CONVOLUTION = re.compile(r"stablehlo\.convolution.*-> tensor<[^>]*x(\w+)>")


def cases(options: Options) -> list[Case]:
    """Returns the detectors of size `gpu`, whatever the size, and the tiny ones at `tiny`."""
    chosen = TINY if options.size == "tiny" else TRAINED["gpu"]
    here = [Case(one.name, functools.partial(_compile_here, one, options)) for one in chosen]
    # With a GPU at hand its own compiler is the better witness.
    if jax.local_devices()[0].platform != "cpu":
        return here
    return here + [
        Case(f"{one.name}, for {NAME}", functools.partial(_compile_for_gpu, one, options))
        for one in chosen
    ]


def _compile_here(detector: Detector, options: Options) -> Benchmark:
    subject = prepare(detector, options)
    state, batch = on_device(fresh_state(subject), random_batch(subject))
    device = jax.local_devices()[0].device_kind
    return _compile(subject, device, mapped_step(subject), state, batch)


def _compile_for_gpu(detector: Detector, options: Options) -> Benchmark:
    devices = parallel.Devices((absent_gpu(),))
    subject = prepare(detector, options)
    # Shapes alone: an absent device can hold no arrays.
    whole, rows = devices.sharding(parallel.WHOLE), devices.sharding(parallel.ROWS)
    state, batch = _placed(fresh_state(subject), whole), _placed(random_batch(subject), rows)
    return _compile(subject, NAME, mapped_step(subject, devices), state, batch, UNTUNED)


def _placed(tree: Any, where: Any) -> Any:
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where), tree
    )


def _compile(
    subject: Subject,
    device: str,
    mapped: Any,
    state: Any,
    batch: Any,
    choices: dict[str, Any] | None = None,
) -> Benchmark:
    lowered, executable, seconds = lowered_and_compiled(mapped, state, batch, choices=choices)
    rows = [("compile", f"{seconds:.1f} s"), *_memory(executable)]
    rows += _facts(lowered.as_text(), executable.as_text(), state)
    return Benchmark(
        name=f"compile {subject.name}, for {device}",
        parameters={
            "precision": "bfloat16" if subject.bf16 else "float32",
            "canvas": f"{subject.canvas[0]}x{subject.canvas[1]}",
            "batch": subject.batch,
            "compiled for": device,
        },
        table=Table(title=f"Compiled: {subject.name}", head=("", device), rows=tuple(rows)),
    )


def _memory(executable: Any) -> list[tuple[str, str]]:
    analysis = executable.memory_analysis()
    if analysis is None:
        return [("memory", "not stated by this compiler")]
    sizes = {
        "arguments": analysis.argument_size_in_bytes,
        "results": analysis.output_size_in_bytes,
        "of which in the place of arguments": analysis.alias_size_in_bytes,
        "temporary buffers": analysis.temp_size_in_bytes,
    }
    return [(name, f"{size / _MIB:.0f} MiB") for name, size in sizes.items()]


def _facts(lowered: str, optimised: str, state: Any) -> list[tuple[str, str]]:
    donated, leaves = donated_buffers(optimised), len(jax.tree.leaves(state))
    types = convolution_types(lowered)
    return [
        ("buffers of the state that are updated in place", f"{donated} of {leaves}"),
        ("convolutions", ", ".join(f"{n} in {kind}" for kind, n in sorted(types.items()))),
    ]


def donated_buffers(optimised: str) -> int:
    """Returns how many arguments a compiled program writes its results into."""
    # Donation is visible only here: a buffer that XLA could not reuse is copied without a warning,
    # and the state of an optimizer then takes its memory twice.
    header = optimised.split("\n", 1)[0]
    return len(re.findall(r"\(\d+, \{[\d, ]*\}, (?:may|must)-alias\)", header))


def convolution_types(lowered: str) -> dict[str, int]:
    """Returns {element type of the result: number of convolutions} of a lowered program."""
    counts: dict[str, int] = {}
    for kind in _CONVOLUTION.findall(lowered):
        counts[kind] = counts.get(kind, 0) + 1
    return counts
