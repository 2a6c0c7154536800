"""What a step with frozen batch norm reads and writes, folded into the kernels and apart.

    python -m experiments.folding [--canvas 832x1344] [--batch 8] [--float32]

Nothing runs: the figures are the compiler's own, of the optimised program. They are those of the device
that JAX finds; where there is none but the CPU and JAX's CUDA plugin is installed, also of a GPU that is
absent (`benchmarks/absent_gpu.py`). On a CPU bfloat16 is computed in float32.
"""

import argparse
import dataclasses
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from typing import Any
from unittest.mock import patch

import jax

from benchmarks.absent_gpu import NAME, UNTUNED, absent_gpu
from benchmarks.compile import _placed
from benchmarks.detectors import KITTI, PYRAMID, Detector, prepare, random_batch
from benchmarks.jax_side import lowered_and_compiled
from benchmarks.options import Options
from benchmarks.train_step import fresh_state, mapped_step
from rcnn_jax.models import fpn, heads
from rcnn_jax.models.backbones import resnet
from rcnn_jax.train import parallel


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--canvas", default="832x1344", metavar="HxW")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--float32", action="store_true")
    args = parser.parse_args()
    height, width = map(int, args.canvas.split("x"))
    print("| step | compiled for | batch norm | GB read and written | arguments, GB | GFLOP | ", end="")
    print("working memory, MiB | compiled in |\n|---|---|---|---|---|---|---|---|")
    for name, spec in (("Mask R-CNN R50-FPN", PYRAMID), ("Faster R-CNN R18", KITTI)):
        detector = Detector(
            name=name,
            spec=spec,
            batch=args.batch,
            canvas=(height, width),
            bf16=not args.float32,
        )
        for device, choices in devices():
            for how in ("apart", "folded"):
                print(row(detector, device, choices, how), flush=True)


def devices() -> Iterator[tuple[Any, Any]]:
    """Yields what is compiled for, and the options of its compiler."""
    here = jax.local_devices()[0]
    yield here, None
    if here.platform == "cpu" and find_spec("jax_cuda13_plugin") is not None:
        yield absent_gpu(), UNTUNED


def row(detector: Detector, device: Any, choices: Any, how: str) -> str:
    """Compiles a step and returns its line."""
    subject = prepare(detector, Options())
    task = subject.experiment.task
    frozen = dataclasses.replace(task.model.options, freeze_bn=True)
    task = dataclasses.replace(task, model=task.model.clone(options=frozen))
    experiment = dataclasses.replace(subject.experiment, task=task)
    subject = dataclasses.replace(subject, experiment=experiment)
    chosen = parallel.Devices((device,))
    state = _placed(fresh_state(subject), chosen.sharding(parallel.WHOLE))
    batch = _placed(random_batch(subject), chosen.sharding(parallel.ROWS))
    with ExitStack() as stack:
        if how == "apart":
            for module in (resnet, fpn, heads):
                stack.enter_context(patch.object(module, "normalised", apart))
        step = mapped_step(subject, chosen)
        _, executable, seconds = lowered_and_compiled(step, state, batch, choices=choices)
    cost, memory = executable.cost_analysis(), executable.memory_analysis()
    cost = cost[0] if isinstance(cost, list) else cost
    kind = NAME if device.platform != "cpu" and choices else device.device_kind
    return (
        f"| {detector.name} | {kind} | {how} | {cost['bytes accessed'] / 1e9:.2f} | "
        f"{memory.argument_size_in_bytes / 1e9:.2f} | {cost['flops'] / 1e9:.0f} | "
        f"{memory.temp_size_in_bytes / 2**20:.0f} | {seconds:.0f} s |"
    )


def apart(conv: Any, norm: Any, x: Any, train: bool, rows: Any = None) -> Any:
    """Convolution, then batch norm: the step before it was folded."""
    return norm(conv(x), train, rows)


if __name__ == "__main__":
    main()
