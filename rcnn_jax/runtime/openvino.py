"""OpenVINO: what runs a graph fastest on an x86 CPU, as a package of its own or inside ONNX Runtime.

    openvino                     beside stock ONNX Runtime (the extra `openvino`)
    onnxruntime-openvino         a build of ONNX Runtime that replaces the stock one

float32 is asked for by name: on a processor with bfloat16 OpenVINO takes that by default, and boxes move.
Int8 layers stay int8.
"""

import functools
import importlib.util
import sys
import threading
from types import ModuleType
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime

from rcnn_jax.errors import CheckpointError
from rcnn_jax.optional import require
from rcnn_jax.printable import reason
from rcnn_jax.runtime.backend import RunGraph
from rcnn_jax.runtime.onnx_runtime import REFERENCE, Provider, open_session

_OPENVINO = "OpenVINOExecutionProvider"
_TELEMETRY = "openvino_telemetry"
_ABSENT: Any = object()
Precision = Literal["f32", "bf16"]
"""OpenVINO's inference precision hint, by its names of types."""
PRECISION: Precision = "f32"


def fastest_providers() -> tuple[Provider, ...]:
    """Execution providers that run a graph fastest in ONNX Runtime on this CPU, best first.

    OpenVINO where the installed build of ONNX Runtime brings it (the package
    `onnxruntime-openvino`), in float32 whatever the CPU prefers; else the runtime's own kernels.
    """
    if _OPENVINO not in onnxruntime.get_available_providers():
        return REFERENCE
    # FP32 is asked for: on a CPU with bfloat16 OpenVINO rounds by itself, and the check of the export is
    # not of that. The reference stays behind it for nodes that OpenVINO lacks.
    return ((_OPENVINO, {"device_type": "CPU", "precision": "FP32"}), *REFERENCE)


def is_installed() -> bool:
    """Says whether the package `openvino` is there."""
    return importlib.util.find_spec("openvino") is not None


def library(purpose: str) -> ModuleType:
    """Returns the package `openvino`, which is kept from reporting its import over the network.

    It reports through `openvino_telemetry`, in a process that it forks; without the package it cannot.

    Args:
      purpose: what it is needed for, begins the message.

    Raises:
      MissingDependencyError: it is not installed.
    """
    modules: dict[str, Any] = sys.modules
    reports = modules.get(_TELEMETRY, _ABSENT)
    modules[_TELEMETRY] = None  # what `import` takes for a package that is not there
    try:
        return require("openvino", extra="openvino", purpose=purpose)
    finally:
        if reports is _ABSENT:
            del modules[_TELEMETRY]
        else:
            modules[_TELEMETRY] = reports


def computes_in_bfloat16() -> bool:
    """Says whether the processor has bfloat16, in which OpenVINO would compute unless told otherwise.

    Raises:
      MissingDependencyError: the package `openvino` is not installed.
    """
    core = _core(library("asking for bfloat16"))
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@functools.cache
def _core(openvino: ModuleType) -> Any:
    """Returns the one core of this process.

    It is never destroyed: its CPU plugin gives the thread a signal stack of its own and unmaps it at its
    end, after which the next signal of this thread is a segmentation fault.
    """
    return openvino.Core()


def openvino_runner(model: bytes, name: str, precision: Precision = PRECISION) -> RunGraph:
    """Returns the function of a graph: normalised images to all outputs by name.

    It may be called from several threads: each has a request of its own, and results are copies, since a
    request writes its next ones over the last.

    Args:
      model: the ONNX model.
      name: of the file, for messages.
      precision: of what is not int8.

    Raises:
      MissingDependencyError: the package `openvino` is not installed.
      CheckpointError: OpenVINO cannot load the graph, or not compute it in this precision.
    """
    openvino = library(f"running {name} in OpenVINO")
    # First by ONNX Runtime, which refuses forged graphs in time: OpenVINO's reader went on without an
    # end over one of 400. A second reading of a sound model takes a fraction of a second.
    open_session(model, name)
    hints = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    try:
        core = _core(openvino)
        compiled = core.compile_model(core.read_model(model), "CPU", hints)
    except Exception as error:  # the runtime raises RuntimeError for everything
        raise CheckpointError(f"{name}: OpenVINO cannot load it: {reason(error)}") from error
    # A hint is no order: without bfloat16 in the processor OpenVINO takes float32, and tells it here.
    taken = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if taken != precision:
        raise CheckpointError(f"{name}: OpenVINO computes it in {taken}, not in {precision}")
    # by position: OpenVINO may call an output by any tensor that has the same content
    names = [output.name for output in onnx.ModelProto.FromString(model).graph.output]
    local = threading.local()

    def run(batch: np.ndarray) -> dict[str, np.ndarray]:
        request: Any = getattr(local, "request", None)
        # Made once a thread: a request holds the buffers of a whole inference.
        if request is None:
            request = local.request = compiled.create_infer_request()
        request.infer([batch])
        return {
            name: np.array(request.get_output_tensor(index).data)
            for index, name in enumerate(names)
        }

    return run
