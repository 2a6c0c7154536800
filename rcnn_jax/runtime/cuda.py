"""Memory of an NVIDIA GPU through the CUDA driver API, as far as running an engine needs it.

The driver's library comes with every GPU driver, and its entry points keep their names and types
over versions (CUDA Driver API), so that no CUDA package has to match the version TensorRT was built
for. TensorRT computes in the primary context of a device; memory allocated here lies in the same.
"""

import ctypes
import sys
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p

import numpy as np

from rcnn_jax.errors import MissingDependencyError, RcnnError

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_CAPABILITY = (75, 76)
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR."""
# Types for ctypes, which would pass an address as 32 bits. `_v2` are the functions of today: the
# names without it keep the 32-bit sizes of CUDA before 3.2.
_ARGUMENTS = {
    "cuInit": (c_uint,),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDeviceGetName": (c_char_p, c_int, c_int),
    "cuDeviceGetAttribute": (POINTER(c_int), c_int, c_int),
    "cuDevicePrimaryCtxRetain": (POINTER(c_void_p), c_int),
    "cuCtxSetCurrent": (c_void_p,),
    "cuStreamCreate": (POINTER(c_void_p), c_uint),
    "cuStreamSynchronize": (c_void_p,),
    "cuMemAlloc_v2": (POINTER(c_uint64), c_size_t),
    "cuMemFree_v2": (c_uint64,),
    "cuMemcpyHtoDAsync_v2": (c_uint64, c_void_p, c_size_t, c_void_p),
    "cuMemcpyDtoHAsync_v2": (c_void_p, c_uint64, c_size_t, c_void_p),
    "cuGetErrorString": (c_int, POINTER(c_char_p)),
}


class DeviceError(RcnnError):
    """A call of the CUDA driver failed; its own words are in the message."""

    exit_code = 1


class Device:
    """The first visible GPU (CUDA_VISIBLE_DEVICES chooses), with one stream.

    Attributes:
      name: as the driver calls it, with the compute capability: `NVIDIA L4 (8.9)`.
      stream: handle of the stream that copies are ordered on.
    """

    def __init__(self):
        """Opens the driver.

        Raises:
          MissingDependencyError: there is no driver, or it sees no GPU.
        """
        library = LIBRARY
        try:
            self._driver = ctypes.CDLL(library)
        except OSError as error:
            raise MissingDependencyError(
                f"an engine runs on an NVIDIA GPU: its driver ({library}) is not installed here; "
                "the .onnx file of the model runs on any machine"
            ) from error
        for function, arguments in _ARGUMENTS.items():
            getattr(self._driver, function).argtypes = arguments
        number, context, stream = c_int(), c_void_p(), c_void_p()
        try:
            self._call("cuInit", 0)
            self._call("cuDeviceGet", byref(number), 0)
        except DeviceError as error:
            raise MissingDependencyError(
                f"an engine runs on an NVIDIA GPU: the driver sees none ({error}); "
                "the .onnx file of the model runs on any machine"
            ) from error
        self._call("cuDevicePrimaryCtxRetain", byref(context), number)
        self._context = context
        # Current in this thread only; predictors run in the thread that made them.
        self._call("cuCtxSetCurrent", context)
        self._call("cuStreamCreate", byref(stream), 0)
        self.stream: int = stream.value or 0
        self.name = self._describe(number)
        self._buffers: dict[str, tuple[int, int]] = {}

    def buffer(self, name: str, size: int) -> int:
        """Returns the address of at least `size` bytes that belong to the name.

        A later call for the same name may move them; what they held is then lost.

        Raises:
          DeviceError: the GPU has no memory left.
        """
        address, room = self._buffers.get(name, (0, 0))
        if room >= max(size, 1):
            return address
        # The old one first: both at once may not fit, and its content is lost anyway.
        if room:
            self._call("cuMemFree_v2", self._buffers.pop(name)[0])
        pointer = c_uint64()
        # The driver refuses to allocate nothing, and an output without rows is legal.
        self._call("cuMemAlloc_v2", byref(pointer), max(size, 1))
        self._buffers[name] = (pointer.value, max(size, 1))
        return pointer.value

    def to_device(self, array: np.ndarray, address: int) -> None:
        """Starts copying a contiguous array to the device; it must live until `wait`."""
        data = array.ctypes.data
        self._call("cuMemcpyHtoDAsync_v2", address, data, array.nbytes, self.stream)

    def to_host(self, address: int, array: np.ndarray) -> None:
        """Starts copying from the device into a contiguous array; it is filled after `wait`."""
        data = array.ctypes.data
        self._call("cuMemcpyDtoHAsync_v2", data, address, array.nbytes, self.stream)

    def wait(self) -> None:
        """Returns when everything on the stream is done."""
        self._call("cuStreamSynchronize", self.stream)

    def close(self) -> None:
        """Frees all buffers."""
        while self._buffers:
            self._call("cuMemFree_v2", self._buffers.popitem()[1][0])

    def _describe(self, number: c_int) -> str:
        text = ctypes.create_string_buffer(256)
        self._call("cuDeviceGetName", text, len(text), number)
        digits = []
        for attribute in _CAPABILITY:
            value = c_int()
            self._call("cuDeviceGetAttribute", byref(value), attribute, number)
            digits.append(str(value.value))
        return f"{text.value.decode()} ({'.'.join(digits)})"

    def _call(self, function: str, *arguments) -> None:
        code = getattr(self._driver, function)(*arguments)
        if code:
            text = c_char_p()
            self._driver.cuGetErrorString(code, byref(text))
            what = text.value.decode() if text.value else "unknown error"
            raise DeviceError(f"{function}: {what} (CUDA error {code})")
