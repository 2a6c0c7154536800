"""TensorRT for RTX: an engine for several generations of GPUs, built on a machine without one.

    portable graph -> ONNX parser -> builder, "ahead of time" -> one plan for sm80, sm86, sm89, sm120

Its builder needs no driver. What it leaves open, kernels that depend on the very card, is compiled by the
runtime when the engine is first loaded there; so a build proves that NVIDIA's parser and builder take the
graph, and not that a card has run it.

The builder runs on a thread of its own: it computes for minutes without a step of Python, and a signal
would wait for its end. Its progress monitor is asked between steps whether to go on.

Source: docs/reference/portable.md, "TensorRT for RTX".
"""

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from rcnn_jax.errors import ExportError, MissingDependencyError, UsageError
from rcnn_jax.optional import require
from rcnn_jax.reporter import Reporter
from rcnn_jax.runtime.tensorrt import add_profile, failed, listener

GENERATIONS = {
    # The product names, because few people know the number of their own card.
    "sm75": "Turing: RTX 20, T4",
    "sm80": "Ampere: A100, A30",
    "sm86": "Ampere: RTX 30, A10, A40",
    "sm89": "Ada: RTX 40, L4, L40",
    "sm120": "Blackwell: RTX 50, RTX PRO",
    "sm121": "Blackwell: DGX Spark",
}
"""Compute capabilities that the builder knows, and what has them."""
SUPPORTED = 1
"""Major version of TensorRT for RTX whose API this is."""


@dataclass(frozen=True, kw_only=True)
class RtxSettings:
    """How an engine is built.

    Attributes:
      targets: generations of `GENERATIONS` it is for.
      batches: smallest, usual and largest batch; all the same where the graph has a fixed one.
      precision: that the types of the graph say.
    """

    targets: tuple[str, ...]
    batches: tuple[int, int, int] = (1, 1, 1)
    precision: str = "fp32"


def targets_of(text: str) -> tuple[str, ...]:
    """Returns the generations that a flag names, such as `sm80,sm89`; `8.9` and `89` are sm89 too.

    Raises:
      UsageError: it names none, one twice, or one that the builder does not know.
    """
    targets = []
    for part in text.split(","):
        # Everything that nvidia-smi, nvcc and NVIDIA's tables write: 8.9, 89, sm_89, sm89.
        digits = part.strip().lower().removeprefix("sm").removeprefix("_").replace(".", "")
        name = f"sm{digits}"
        if name not in GENERATIONS:
            known = "; ".join(f"{key} ({cards})" for key, cards in GENERATIONS.items())
            hopper = " (H100 and H200, sm90, take TensorRT itself)" if digits == "90" else ""
            raise UsageError(
                f"--rtx {text}: {part.strip() or 'nothing'} is no generation that TensorRT for RTX "
                f"builds for{hopper}: {known}"
            )
        if name in targets:
            raise UsageError(f"--rtx {text}: {name} is named twice")
        targets.append(name)
    return tuple(targets)


def library(purpose: str) -> ModuleType:
    """Returns the module of TensorRT for RTX.

    Args:
      purpose: what it is needed for, begins the message.

    Raises:
      MissingDependencyError: it is not installed, or has another major version.
    """
    trt = require("tensorrt_rtx_bindings", extra="rtx", purpose=purpose)
    if int(trt.__version__.split(".")[0]) != SUPPORTED:
        raise MissingDependencyError(
            f"{purpose} needs TensorRT for RTX {SUPPORTED}, found {trt.__version__}"
        )
    return trt


def build(trt: ModuleType, model: bytes, settings: RtxSettings, reporter: Reporter) -> bytes:
    """Returns the serialized engine (plan) of a portable ONNX model.

    Args:
      trt: from `library`.
      model: ONNX, all tensors inside, its types say the precision.
      settings: how.
      reporter: progress.

    Raises:
      ExportError: TensorRT for RTX does not build it; its own messages follow.
    """
    complaints: list[str] = []
    logger = listener(trt, complaints)
    builder = trt.Builder(logger)
    # Strongly typed: the graph says every precision, and flags of the builder say none.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        # The parser names the node that it cannot read, which the logger does not always hear.
        complaints += [parser.get_error(i).desc() for i in range(parser.num_errors)]
        raise ExportError(failed("TensorRT for RTX cannot read the graph", complaints))
    config = builder.create_builder_config()
    add_profile(builder, network, config, settings.batches)
    config.num_compute_capabilities = len(settings.targets)
    for index, target in enumerate(settings.targets):
        # An older minor version may lack a generation of the table.
        capability = getattr(trt.ComputeCapability, target.upper(), None)
        if capability is None:
            raise UsageError(f"--rtx: TensorRT for RTX {trt.__version__} does not know {target}")
        config.set_compute_capability(capability, index)
    plan = _in_the_open(trt, builder, network, config, reporter)
    if plan is None:
        text = failed("TensorRT for RTX cannot build the engine", complaints)
        if "Turing" in text:
            text += f"\n{TURING}"
        raise ExportError(text)
    return bytes(plan)


TURING = (
    "sm75 (Turing) multiplies no matrices in FP32: leave it out of --rtx, or build from an fp16 model "
    "(-t fp16 of an ordinary fp32 one, or export --data_type fp16)"
)


def _in_the_open(
    trt: ModuleType, builder: Any, network: Any, config: Any, reporter: Reporter
) -> Any:
    """Builds on a thread, shows the steps, and cancels the build when a signal comes."""
    # SimpleQueue: its put is reentrant, and the monitor is called from threads of the builder.
    events: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    cancelled = threading.Event()
    plans: list[Any] = []

    class Monitor(trt.IProgressMonitor):
        def __init__(self):
            trt.IProgressMonitor.__init__(self)
            self.top = ""

        def phase_start(self, phase_name, parent_phase, num_steps):
            if not parent_phase:
                self.top = phase_name
                events.put(num_steps)

        # Abstract in the binding: a class without it is refused when the builder calls it.
        def phase_finish(self, phase_name):
            pass

        def step_complete(self, phase_name, step):
            # Phases nest, and only the outermost number of steps is known from the start.
            if phase_name == self.top:
                events.put(0)
            # The only place at which the builder can be stopped.
            return not cancelled.is_set()

    def work() -> None:
        try:
            plans.append(builder.build_serialized_network(network, config))
        finally:
            # In any case, or the main thread would wait for the next step for ever.
            events.put(None)

    monitor = Monitor()
    config.progress_monitor = monitor
    thread = threading.Thread(target=work, name="TensorRT for RTX")
    thread.start()
    try:
        total = events.get()
        if total is not None:
            for _ in reporter.track(_steps(events), total, "build"):
                pass
    except BaseException:  # a signal too
        cancelled.set()
        raise
    finally:
        # Not left behind: an interpreter that ends while C++ calls back into it crashes.
        thread.join()
    return plans[0] if plans else None


def _steps(events: "queue.SimpleQueue[int | None]") -> Iterator[int]:
    while (event := events.get()) is not None:
        yield event
