"""What a step reads and writes by the form of its batch norm.

    python -m experiments.folding [--canvas 832x1344] [--batch 8] [--float32] [--only trained]

Frozen: apart from the convolution, and folded into its kernel. Trained: as it is, and as it would be if
the float32 in which sums are taken were also what is read and written.

Nothing runs: the figures are those of the optimised program. It is compiled for the device that JAX
finds; where that is a CPU and JAX's CUDA plugin is installed, for a GPU that is absent
(`benchmarks/absent_gpu.py`). On a CPU the compiler's cost analysis says what is read and written, with
bfloat16 computed in float32. For an absent GPU it says nothing: there the operands and results of all
kernels of the program are added up.
"""

import argparse
import dataclasses
import math
import re
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from typing import Any
from unittest.mock import patch

import jax
import jax.numpy as jnp
from jax import lax

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
    parser.add_argument("--only", choices=("frozen", "trained"))
    args = parser.parse_args()
    height, width = map(int, args.canvas.split("x"))
    print(
        "| step | compiled for | batch norm | GB read and written | working memory, MiB | ", end=""
    )
    print("convolutions with bias and activation | float32 maps | compiled in |")
    print("|---|---|---|---|---|---|---|---|")
    for name, spec in (("Mask R-CNN R50-FPN", PYRAMID), ("Faster R-CNN R18", KITTI)):
        detector = Detector(
            name=name,
            spec=spec,
            batch=args.batch,
            canvas=(height, width),
            bf16=not args.float32,
        )
        for how, (statistics, _) in FORMS.items():
            if args.only in (statistics, None):
                print(row(detector, *compiled_for(), how), flush=True)


def compiled_for() -> tuple[Any, Any]:
    """Returns what is compiled for, and the options of its compiler."""
    here = jax.local_devices()[0]
    if here.platform == "cpu" and find_spec("jax_cuda13_plugin") is not None:
        return absent_gpu(), UNTUNED
    return here, None


def row(detector: Detector, device: Any, choices: Any, how: str) -> str:
    """Compiles a step and returns its line."""
    subject = prepare(detector, Options())
    task = subject.experiment.task
    statistics, form = FORMS[how]
    options = dataclasses.replace(task.model.options, freeze_bn=statistics == "frozen")
    task = dataclasses.replace(task, model=task.model.clone(options=options))
    experiment = dataclasses.replace(subject.experiment, task=task)
    subject = dataclasses.replace(subject, experiment=experiment)
    chosen = parallel.Devices((device,))
    state = _placed(fresh_state(subject), chosen.sharding(parallel.WHOLE))
    batch = _placed(random_batch(subject), chosen.sharding(parallel.ROWS))
    with ExitStack() as stack:
        for module in (resnet, fpn, heads) if form else ():
            stack.enter_context(patch.object(module, "normalised", form))
        step = mapped_step(subject, chosen)
        _, executable, seconds = lowered_and_compiled(step, state, batch, choices=choices)
    memory, text = executable.memory_analysis(), executable.as_text()
    cost = executable.cost_analysis()
    accessed = cost["bytes accessed"] if cost else traffic(text)
    kind = NAME if choices else device.device_kind
    return (
        f"| {detector.name} | {kind} | {how} | {accessed / 1e9:.2f} | "
        f"{memory.temp_size_in_bytes / 2**20:.0f} | {text.count(_FUSED)} | "
        f"{len(float32_maps(text, smallest(detector)))} | {seconds:.0f} s |"
    )


_COMMENT = re.compile(r"/\*.*?\*/")
_FUSED = 'custom_call_target="__cudnn$convBiasActivationForward"'
_INSTRUCTION = re.compile(
    r"^\s+(?:ROOT )?%(?P<name>\S+) = (?P<type>.*?) (?P<kind>[a-z-]+)\((?P<rest>.*)$"
)
_SHAPE = re.compile(r"\b(pred|[sufb]f?\d+)\[([\d,]*)\]")
_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "iota"}
"""Instructions that move nothing."""


def _instructions(program: str) -> Iterator[re.Match[str]]:
    """Yields the instructions of the entry of an optimised program."""
    entry = _COMMENT.sub("", program[program.index("\nENTRY ") :])
    for line in entry.splitlines():
        if match := _INSTRUCTION.match(line):
            yield match


def traffic(program: str) -> int:
    """Returns the bytes that the kernels of an optimised program read and write, loops taken once."""
    sizes: dict[str, int] = {}
    total = 0
    for match in _instructions(program):
        sizes[match["name"]] = size_of(match["type"])
        if match["kind"] in _FREE:
            continue
        operands = set(re.findall(r"%([\w.-]+)", match["rest"].split("), ")[0]))
        total += sizes[match["name"]] + sum(sizes.get(name, 0) for name in operands)
    return total


def float32_maps(program: str, smallest: int) -> list[str]:
    """Returns the kernels of an optimised program that write float32 maps of so many values or more."""
    names = []
    for match in _instructions(program):
        if match["kind"] in _FREE:
            continue
        shapes = [
            sides.split(",") for kind, sides in _SHAPE.findall(match["type"]) if kind == "f32"
        ]
        # Of four axes: weights of dense layers, deltas and logits of all anchors are no maps.
        if any(len(s) == 4 and math.prod(map(int, s)) >= smallest for s in shapes):
            names.append(match["name"])
    return names


def smallest(detector: Detector) -> int:
    """Returns the values of the smallest map of a backbone that counts: stride 16, 64 channels."""
    height, width = detector.canvas
    return detector.batch * (height // 16) * (width // 16) * 64


def size_of(shapes: str) -> int:
    """Returns the bytes of a type, for example `(f32[8,4]{1,0}, u8[0]{0})`."""
    total = 0
    for kind, sides in _SHAPE.findall(shapes):
        width = 1 if kind == "pred" else int(re.sub(r"\D", "", kind)) // 8
        total += width * math.prod(int(side) for side in sides.split(",") if side)
    return total


def unfolded(conv: Any, norm: Any, x: Any, train: bool, rows: Any = None) -> Any:
    """Convolution, then batch norm: the step before it was folded."""
    return norm(conv(x), train, rows)


def widened(conv: Any, norm: Any, x: Any, train: bool, rows: Any = None) -> Any:
    """Batch norm that reads and writes float32, which no fusion may undo."""
    dtype = norm.dtype
    # A clone would be a second module of this name in its parent.
    object.__setattr__(norm, "dtype", jnp.float32)
    y = norm(lax.optimization_barrier(conv(x).astype(jnp.float32)), train, rows)
    return lax.optimization_barrier(y).astype(dtype)


FORMS: dict[str, tuple[str, Any]] = {
    "frozen, apart": ("frozen", unfolded),
    "frozen, folded": ("frozen", None),
    "trained, in float32": ("trained", widened),
    "trained": ("trained", None),
}
"""name -> (what its statistics do, what stands in for `models.batch_norm.normalised`)."""


if __name__ == "__main__":
    main()
