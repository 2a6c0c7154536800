"""OpenVINO inside ONNX Runtime: what runs a graph fastest on a CPU, where the build brings it."""

import onnxruntime

from rcnn_jax.runtime.onnx_runtime import REFERENCE, Provider

_OPENVINO = "OpenVINOExecutionProvider"


def fastest_providers() -> tuple[Provider, ...]:
    """Returns what runs a graph fastest on this CPU, best first.

    OpenVINO where the installed build of ONNX Runtime brings it (the package
    `onnxruntime-openvino`), in float32 whatever the CPU prefers; else the runtime's own kernels.
    """
    if _OPENVINO not in onnxruntime.get_available_providers():
        return REFERENCE
    return ((_OPENVINO, {"device_type": "CPU", "precision": "FP32"}), *REFERENCE)
