"""The runtimes of exported graphs, by name, and the one function that opens a graph in one of them.

    auto          OpenVINO where it is installed, else ONNX Runtime
    onnxruntime   its own kernels
    openvino      the package, or the build of ONNX Runtime that brings it
    trt-rtx       TensorRT for RTX, inside ONNX Runtime: a graph, or an engine of `converter --rtx`
    webgpu        any GPU, inside ONNX Runtime
    tensorrt      engines alone: a graph is no engine yet

Checks and calibration do not come through here: they keep ONNX Runtime's own kernels.
"""

from pathlib import Path
from typing import Literal, get_args

from rcnn_jax.errors import UsageError
from rcnn_jax.runtime.backend import RunGraph
from rcnn_jax.runtime.onnx_runtime import REFERENCE, open_session, runner
from rcnn_jax.runtime.openvino import fastest_providers, is_installed, openvino_runner
from rcnn_jax.runtime.providers import PLUGINS, plugin_session

RuntimeName = Literal["auto", "onnxruntime", "openvino", "tensorrt", "trt-rtx", "webgpu"]
RUNTIMES: tuple[RuntimeName, ...] = get_args(RuntimeName)
GRAPH_RUNTIMES: tuple[RuntimeName, ...] = ("onnxruntime", "openvino", "trt-rtx", "webgpu")
"""Those that run an exported graph as it is."""
TITLES = {
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "tensorrt": "TensorRT",
    **{name: plugin.title for name, plugin in PLUGINS.items()},
}


def chosen(runtime: RuntimeName) -> RuntimeName:
    """Name of the runtime for a graph: `auto` becomes the fastest that is installed."""
    if runtime != "auto":
        return runtime
    # a build of ONNX Runtime with OpenVINO was installed for that very purpose
    has_openvino = is_installed() or fastest_providers() != REFERENCE
    return "openvino" if has_openvino else "onnxruntime"


def graph_runner(model: bytes, name: str, runtime: RuntimeName = "auto") -> RunGraph:
    """Returns the function of a graph: normalised images f32[b c h w] to all outputs by name.

    Args:
      model: the ONNX model.
      name: of the file, for messages.
      runtime: what runs it.

    Raises:
      CheckpointError: the runtime cannot load the graph.
      MissingDependencyError: the runtime is not installed.
      UsageError: this machine has no device for it.
    """
    if runtime in PLUGINS:
        return runner(plugin_session(model, name, runtime)[0])
    if chosen(runtime) == "openvino":
        # The build of ONNX Runtime goes before the package: it keeps the providers behind OpenVINO.
        inside = fastest_providers()
        if inside != REFERENCE:
            return runner(open_session(model, name, inside))
        return openvino_runner(model, name)
    return runner(open_session(model, name))


def check_runtime(path: Path, runtime: RuntimeName, runs_in: tuple[RuntimeName, ...]) -> None:
    """Stops where a file is to run in what does not run it.

    Args:
      path: the model file.
      runtime: asked for.
      runs_in: what runs files of its kind; none for a bundle, which JAX runs.

    Raises:
      UsageError: the runtime is none of them.
    """
    # `auto` never fails here: it means what the file needs.
    if runtime == "auto" or runtime in runs_in:
        return
    if not runs_in:
        advice = "a bundle runs in JAX; export it, or leave the runtime out"
    elif runtime == "tensorrt":
        advice = f"TensorRT runs engines: rcnn-jax converter -e model.engine {path.name} builds one"
    else:
        advice = "an engine runs in TensorRT; give the .onnx it was built from"
    raise UsageError(f"runtime {runtime} does not run {path}: {advice}")
