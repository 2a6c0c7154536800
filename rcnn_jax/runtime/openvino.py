"""OpenVINO inside ONNX Runtime: the fastest provider on a CPU, where the build has it."""

import onnxruntime

from rcnn_jax.runtime.onnx_runtime import REFERENCE, Provider

_OPENVINO = "OpenVINOExecutionProvider"


def fastest_providers() -> tuple[Provider, ...]:
    """Returns the providers for this CPU, fastest first.

    OpenVINO where the installed build of ONNX Runtime brings it (the package
    `onnxruntime-openvino`), in float32 whatever the CPU prefers; else the runtime's own kernels.
    """
    if _OPENVINO not in onnxruntime.get_available_providers():
        return REFERENCE
    # FP32 is asked for: on a CPU with bfloat16 OpenVINO rounds by itself, and the check of the export is
    # not of that. The reference stays behind it for nodes that OpenVINO lacks.
    return ((_OPENVINO, {"device_type": "CPU", "precision": "FP32"}), *REFERENCE)
