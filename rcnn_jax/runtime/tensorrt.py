"""TensorRT: from an ONNX model to an engine, and an engine as a function.

Written against the documented Python API of TensorRT 10 and 11, through one path: the network is
strongly typed, so that precision is what the types in the graph say (fp16 casts, Q/DQ). TensorRT 11
knows nothing else; 10 is told by a flag. The one exception is DLA on TensorRT 10, which knows
neither strong types nor Q/DQ: there the plain graph is built with precision flags and the
calibration cache.

The library is imported when it is needed. A graph with a free batch gets one optimisation profile.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from rcnn_jax.checkpoints.atomic import read_file, write_file
from rcnn_jax.errors import CheckpointError, ExportError, MissingDependencyError, UsageError
from rcnn_jax.optional import require
from rcnn_jax.runtime.cuda import Device

SUPPORTED = (10, 11)
"""Major versions of TensorRT whose API this is."""


@dataclass(frozen=True, kw_only=True)
class BuildSettings:
    """How an engine is built.

    Attributes:
      batches: smallest, usual and largest batch; all the same where the graph has a fixed one.
      workspace: bytes of GPU memory that kernels may use while they run.
      timing_cache: file of measured kernel times: read when it exists, written after the build.
      dla_core: core of Jetson's accelerator, or None for the GPU alone.
      precision: of layers on the DLA under TensorRT 10; everything else reads the types of the graph.
      calibration_cache: content of the cache for int8 on the DLA under TensorRT 10.
    """

    batches: tuple[int, int, int] = (1, 1, 1)
    # The default of tao-converter; docs/reference/tensorrt.md, "tao-converter".
    workspace: int = 1 << 30
    timing_cache: Path | None = None
    dla_core: int | None = None
    precision: str = "fp32"
    calibration_cache: bytes | None = None


def library(purpose: str) -> ModuleType:
    """Returns the TensorRT module.

    Args:
      purpose: what it is needed for, begins the message.

    Raises:
      MissingDependencyError: it is not installed, or has another major version.
    """
    trt = require("tensorrt", extra="tensorrt", purpose=purpose)
    if _major(trt) not in SUPPORTED:
        raise MissingDependencyError(
            f"{purpose} needs TensorRT {' or '.join(map(str, SUPPORTED))}, found {trt.__version__}"
        )
    return trt


def takes_plain_graph(trt: ModuleType, dla_core: int | None) -> bool:
    """Returns whether precision is given by flags instead of types: on the DLA of TensorRT 10."""
    return dla_core is not None and _major(trt) < 11


def build(
    trt: ModuleType, model: bytes, settings: BuildSettings, warn: Callable[[str], None]
) -> bytes:
    """Returns the serialized engine (plan) of an ONNX model.

    Args:
      trt: from `library`.
      model: ONNX, all tensors inside.
      settings: how.
      warn: takes one line the user should know of.

    Raises:
      ExportError: TensorRT cannot build it; its own messages follow.
      UsageError: the machine has no such DLA core.
    """
    complaints: list[str] = []
    logger = listener(trt, complaints)
    trt.init_libnvinfer_plugins(logger, "")  # RoiAlign is one of TensorRT's own plugins
    try:
        builder = trt.Builder(logger)
    except TypeError as error:  # what the bindings make of a null pointer
        raise ExportError(failed("TensorRT cannot start", complaints)) from error
    plain = takes_plain_graph(trt, settings.dla_core)
    flags = 0 if plain else 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        complaints += [parser.get_error(i).desc() for i in range(parser.num_errors)]
        raise ExportError(failed("TensorRT cannot read the graph", complaints))
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace)
    add_profile(builder, network, config, settings.batches)
    if settings.dla_core is not None:
        _use_dla(trt, builder, config, settings, plain)
    _read_timing_cache(config, settings.timing_cache, warn)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ExportError(failed("TensorRT cannot build an engine", complaints))
    # Times are worth keeping only with a plan that was built from them.
    if settings.timing_cache is not None:
        write_file(settings.timing_cache, [bytes(config.get_timing_cache().serialize())])
    return bytes(plan)


class Engine:
    """An engine that runs: normalised images f32[b c h w] -> {output: array}.

    Attributes:
      least: smallest batch.
      most: largest batch.
    """

    def __init__(self, trt: ModuleType, plan: bytes, name: str, device: Device):
        """Loads a plan.

        Args:
          trt: from `library`.
          plan: made by the same version of TensorRT on the same kind of GPU.
          name: of the file, for messages.
          device: where it runs.

        Raises:
          CheckpointError: TensorRT does not take the plan; its own messages follow.
        """
        complaints: list[str] = []
        self._trt, self._device = trt, device
        self._logger = listener(trt, complaints)
        trt.init_libnvinfer_plugins(self._logger, "")
        # Logger, runtime and engine are kept as long as the context: TensorRT holds plain pointers.
        self._runtime = trt.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise CheckpointError(failed(f"{name}: TensorRT cannot load the engine", complaints))
        self._context = self._engine.create_execution_context()
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        given = [n for n in names if self._engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
        if len(given) != 1:
            raise CheckpointError(f"{name}: the engine has {len(given)} inputs, expected one image")
        (self._input,) = given
        self._outputs = [n for n in names if n != self._input]
        self._name = name
        batch = int(self._engine.get_tensor_shape(self._input)[0])
        if batch > 0:
            self.least = self.most = batch
        else:
            shapes = self._engine.get_tensor_profile_shape(self._input, 0)
            self.least, self.most = int(shapes[0][0]), int(shapes[2][0])

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the outputs for a batch of `least` to `most` images.

        Raises:
          DeviceError: the GPU has no memory left, or a copy failed.
          CheckpointError: the engine does not run; it is of another input size, say.
        """
        device = self._device
        batch = np.ascontiguousarray(images, self._dtype(self._input))
        # First, since the shapes of outputs follow from it.
        if not self._context.set_input_shape(self._input, batch.shape):
            raise CheckpointError(f"{self._name}: the engine takes no input of {batch.shape}")
        device.to_device(batch, self._bind(self._input, batch.nbytes))
        results = {}
        for name in self._outputs:
            shape = tuple(self._context.get_tensor_shape(name))
            results[name] = np.empty(shape, self._dtype(name))
            self._bind(name, results[name].nbytes)
        if not self._context.execute_async_v3(device.stream):
            raise CheckpointError(f"{self._name}: the engine did not run")
        # Copies and the run are on one stream and so in order; arrays are empty until `wait`, and
        # `batch` must live as long.
        for name, array in results.items():
            device.to_host(device.buffer(name, array.nbytes), array)
        device.wait()
        return results

    def _bind(self, name: str, size: int) -> int:
        address = self._device.buffer(name, size)
        self._context.set_tensor_address(name, address)
        return address

    def _dtype(self, name: str) -> Any:
        return self._trt.nptype(self._engine.get_tensor_dtype(name))


def _major(trt: ModuleType) -> int:
    return int(trt.__version__.split(".")[0])


def failed(what: str, complaints: list[str]) -> str:
    """Returns a message with TensorRT's own lines under it."""
    return "\n  ".join([f"{what}:" if complaints else what, *dict.fromkeys(complaints)])


def listener(trt: ModuleType, complaints: list[str]) -> Any:
    """Returns a logger that keeps TensorRT's errors, so that they end in one message."""
    serious = (trt.Logger.INTERNAL_ERROR, trt.Logger.ERROR)

    class Listener(trt.ILogger):
        def __init__(self):
            trt.ILogger.__init__(self)

        def log(self, severity, msg):
            if severity in serious:
                complaints.append(msg)

    return Listener()


def add_profile(builder: Any, network: Any, config: Any, batches: tuple[int, int, int]) -> None:
    """Adds the one optimisation profile of a graph whose batch is free."""
    image = network.get_input(0)
    rest = tuple(image.shape)[1:]
    if image.shape[0] > 0:
        return
    profile = builder.create_optimization_profile()
    profile.set_shape(image.name, *((batch, *rest) for batch in batches))
    config.add_optimization_profile(profile)


def _use_dla(
    trt: ModuleType, builder: Any, config: Any, settings: BuildSettings, plain: bool
) -> None:
    """Runs supported layers on the DLA, the others on the GPU."""
    if not 0 <= (settings.dla_core or 0) < builder.num_DLA_cores:
        raise UsageError(
            f"-u {settings.dla_core}: this machine has {builder.num_DLA_cores} DLA cores as "
            f"TensorRT {trt.__version__} sees it; leave -u out to use the GPU"
        )
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = settings.dla_core
    # The DLA knows convolutions and little else: without this RoiAlign and NMS end the build.
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    if not plain:
        return
    config.set_flag(trt.BuilderFlag.FP16)  # the least the DLA computes in
    if settings.precision == "int8":
        config.set_flag(trt.BuilderFlag.INT8)
        config.int8_calibrator = _cached_scales(trt, settings.calibration_cache or b"")


def _cached_scales(trt: ModuleType, content: bytes) -> Any:
    """Returns a calibrator that has calibrated already: it holds the cache and no images."""

    class Cached(trt.IInt8EntropyCalibrator2):
        def __init__(self):
            trt.IInt8EntropyCalibrator2.__init__(self)

        def get_batch_size(self):
            return 1

        def get_batch(self, names):
            return None

        def read_calibration_cache(self):
            return content

        def write_calibration_cache(self, cache):
            pass

    return Cached()


def _read_timing_cache(config: Any, path: Path | None, warn: Callable[[str], None]) -> None:
    if path is None:
        return
    content = read_file(path, "timing cache") if path.exists() else b""
    cache = config.create_timing_cache(content)
    # False: a cache of another GPU is not taken, whose times would choose the wrong kernels.
    if cache is not None and config.set_timing_cache(cache, False):
        return
    warn(f"{path}: is of another GPU or TensorRT version; kernels are measured anew")
    config.set_timing_cache(config.create_timing_cache(b""), False)
