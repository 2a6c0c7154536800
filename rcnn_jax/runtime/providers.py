"""Plugin execution providers of ONNX Runtime: GPUs of any maker, by one package each.

    package --register, once a process--> devices --the best one--> session

A package holds a library that ONNX Runtime (1.23 or later) loads while it runs, so nothing replaces the
stock build. A further provider is a row of `PLUGINS`.
"""

import ctypes
import importlib
import importlib.util
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import onnxruntime

from rcnn_jax.errors import CheckpointError, UsageError
from rcnn_jax.optional import require
from rcnn_jax.printable import reason
from rcnn_jax.runtime.onnx_runtime import open_session

_LOCK = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """A plugin execution provider.

    Attributes:
      runtime: its name among the runtimes.
      title: its name in messages.
      module: that its package installs, with `get_library_path`.
      provider: what ONNX Runtime calls it.
      needs: what a machine must have, a phrase for messages.
      bundled: libraries in the folder of the module that the loader must know first.
    """

    runtime: str
    title: str
    module: str
    provider: str
    needs: str
    bundled: tuple[str, ...] = ()


PLUGINS: dict[str, Plugin] = {
    plugin.runtime: plugin
    for plugin in (
        Plugin(
            runtime="trt-rtx",
            title="TensorRT for RTX",
            module="onnxruntime_ep_nv_tensorrt_rtx",
            provider="NvTensorRTRTXExecutionProvider",
            needs="an NVIDIA card of the generation Ampere or later, not Hopper, and its driver",
            # The package preloads TensorRT's libraries, but not the CUDA runtime that it brings too.
            bundled=("libcudart.so.*",),
        ),
        Plugin(
            runtime="webgpu",
            title="WebGPU",
            module="onnxruntime_ep_webgpu",
            provider="WebGpuExecutionProvider",
            needs="a GPU with a driver of Vulkan (and libvulkan.so.1), Metal or Direct3D 12",
        ),
    )
}


def is_installed(runtime: str) -> bool:
    """Says whether the package of a plugin is there."""
    return importlib.util.find_spec(PLUGINS[runtime].module) is not None


def plugin_session(
    model: bytes, name: str, runtime: str
) -> tuple[onnxruntime.InferenceSession, str]:
    """Returns a session on a device of a plugin, and what the device is.

    Nodes that the provider has no kernel for run on the CPU: `RoiAlign` and `NonMaxSuppression` of an
    ordinary graph, none of the dense part.

    Args:
      model: the ONNX model.
      name: of the file, for messages.
      runtime: key of `PLUGINS`.

    Raises:
      MissingDependencyError: the package is not installed.
      UsageError: this machine has no device for it.
      CheckpointError: the provider cannot load the graph.
    """
    plugin = PLUGINS[runtime]
    available = devices(plugin, f"running {name} in {plugin.title}")
    if not available:
        raise UsageError(
            f"runtime {runtime}: this machine has no device for {plugin.title}: ONNX Runtime finds "
            f"{_listed(onnxruntime.get_ep_devices())}; it takes {plugin.needs}. "
            "--runtime onnxruntime runs on the CPU"
        )
    device = available[0]
    # First by the CPU's kernels, which refuse forged graphs in words: drivers crash.
    open_session(model, name)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised
    try:
        # One device: WebGPU takes no more.
        options.add_provider_for_devices([device], {})
        session = onnxruntime.InferenceSession(model, options)
    except Exception as error:  # the runtime raises a dozen unrelated classes
        raise CheckpointError(f"{name}: {plugin.title} cannot load it: {reason(error)}") from error
    # ONNX Runtime may go on with the CPU alone, and a table would then show its time under another name.
    if plugin.provider not in session.get_providers():
        raise CheckpointError(
            f"{name}: {plugin.title} takes no part in running it; --runtime onnxruntime does without"
        )
    return session, describe(device)


def devices(plugin: Plugin, purpose: str) -> list[Any]:
    """Returns the devices of this machine that a plugin can use, dedicated cards first.

    Args:
      plugin: row of `PLUGINS`.
      purpose: begins the message where its package is absent.

    Returns:
      `OrtEpDevice`s; none where there is no such hardware.

    Raises:
      MissingDependencyError: the package is not installed.
      UsageError: its library cannot be loaded, for example without a driver.
    """
    module = require(plugin.module, extra=plugin.runtime, purpose=purpose)
    if not hasattr(onnxruntime, "get_ep_devices"):
        raise UsageError(
            f"runtime {plugin.runtime}: needs ONNX Runtime 1.24 or later, found "
            f"{onnxruntime.__version__}: run  pip install --upgrade onnxruntime"
        )
    _register(plugin, module)
    own = [each for each in onnxruntime.get_ep_devices() if each.ep_name == plugin.provider]
    # A virtual device compiles for hardware that is elsewhere, and runs nothing.
    real = [each for each in own if each.device.metadata.get("is_virtual") != "1"]
    return sorted(real, key=lambda each: each.device.metadata.get("Discrete") != "1")


def describe(device: Any) -> str:
    """Name of a device for messages: kind, and the description or the maker by ONNX Runtime."""
    kind = device.device.type.name
    details = dict(device.device.metadata)
    known = details.get("Description") or device.device.vendor or "unknown maker"
    return f"{kind} ({known})"


def _register(plugin: Plugin, module: ModuleType) -> None:
    """Registers the library of a plugin once a process.

    Raises:
      UsageError: it cannot be loaded.
    """
    with _LOCK:  # a second registration under one name is an error of ONNX Runtime
        if plugin.provider in _registered():
            return
        try:
            _preload(Path(str(module.__file__)).parent, plugin.bundled)
            onnxruntime.register_execution_provider_library(
                _registration(plugin), module.get_library_path()
            )
        except Exception as error:  # ONNX Runtime's own classes, OSError of the loader
            raise UsageError(
                f"runtime {plugin.runtime}: {plugin.title} does not start on this machine: "
                f"{reason(error)}; it takes {plugin.needs}"
            ) from error
        _REGISTERED.add(plugin.provider)


_REGISTERED: set[str] = set()


def _registered() -> set[str]:
    """Returns the providers that are registered, be it by another library of the process."""
    return _REGISTERED | {each.ep_name for each in onnxruntime.get_ep_devices()}


def _registration(plugin: Plugin) -> str:
    # Of our own: under the provider's name another library of the process may register it too.
    return f"rcnn_jax.{plugin.runtime}"


def _preload(folder: Path, patterns: Sequence[str]) -> None:
    for pattern in patterns:
        for library in sorted(folder.glob(pattern))[:1]:
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


def _listed(every: Sequence[Any]) -> str:
    return ", ".join(dict.fromkeys(map(describe, every))) or "none"
