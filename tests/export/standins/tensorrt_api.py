"""TensorRT's Python API as far as it is documented and used here, computing in ONNX Runtime.

It has the names of the version it is asked for and no others, so that a call which TensorRT 11 took
away fails here as it does there, and it refuses what the documentation says TensorRT refuses: a free
dimension without a profile, precision flags in a strongly typed network, plans of other versions,
shapes outside the profile. Memory is read and written at the addresses it is given.
"""

import ctypes
import enum
import json
from types import ModuleType, SimpleNamespace

import numpy as np
import onnx
import onnxruntime

TYPES = {
    "tensor(float)": np.float32,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
    "tensor(float16)": np.float16,
}


def make(version: str, *, dla_cores: int = 0) -> ModuleType:
    """Returns a module that stands in for `tensorrt` of a version; `built` lists what it built."""
    major = int(version.split(".")[0])
    trt = ModuleType("tensorrt")
    trt.__version__ = version
    built = []

    class ILogger:
        def __init__(self):
            pass

        def log(self, severity, msg):
            raise NotImplementedError

    class Severity(enum.IntEnum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3
        VERBOSE = 4

    class Logger(ILogger):
        INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = Severity

    class Builder:
        def __init__(self, logger):
            assert isinstance(logger, ILogger)
            self._logger = logger
            self.num_DLA_cores = dla_cores

        def create_network(self, flags=0):
            return Network(bool(flags & 1) or major > 10)

        def create_builder_config(self):
            return Config()

        def create_optimization_profile(self):
            return Profile()

        def build_serialized_network(self, network, config):
            free = network._inputs[0].shape[0] == -1
            flags = {flag.name for flag in config._flags}
            if free and not config._profiles:
                return self._refuse("Network has dynamic inputs, but no optimization profile")
            if network._strong and flags & {"FP16", "INT8"}:
                return self._refuse("Precision flags are not supported in a strongly typed network")
            if config._device == DeviceType.DLA and not 0 <= config._core < dla_cores:
                return self._refuse("no such DLA core")
            cached = None
            if "INT8" in flags:
                cached = config._calibrator.read_calibration_cache().decode()
            profile = config._profiles[0]._shapes if free else {}
            fact = SimpleNamespace(
                strong=network._strong,
                flags=flags,
                workspace=config._workspace,
                profile=profile,
                device=config._device,
                core=config._core,
                cache=cached,
                model=onnx.load_from_string(network._content),
            )
            built.append(fact)
            head = {"version": version, "profile": profile}
            return memoryview(json.dumps(head).encode() + b"\0" + network._content)

        def _refuse(self, text):
            self._logger.log(Severity.ERROR, text)

    class Network:
        def __init__(self, strong):
            self._strong = strong

        def get_input(self, index):
            return self._inputs[index]

    class OnnxParser:
        def __init__(self, network, logger):
            self._network, self._errors = network, []

        @property
        def num_errors(self):
            return len(self._errors)

        def get_error(self, index):
            return SimpleNamespace(desc=lambda: self._errors[index])

        def parse(self, content):
            model = onnx.load_from_string(content)
            strange = [n.op_type for n in model.graph.node if n.op_type == "Unique"]
            if strange:
                self._errors.append(f"No importer registered for op: {strange[0]}")
                return False
            self._network._content = content
            self._network._inputs = [
                SimpleNamespace(
                    name=value.name,
                    shape=tuple(
                        d.dim_value if d.HasField("dim_value") else -1
                        for d in value.type.tensor_type.shape.dim
                    ),
                )
                for value in model.graph.input
            ]
            return True

    class Profile:
        def __init__(self):
            self._shapes = {}

        def set_shape(self, input, min, opt, max):
            self._shapes[input] = [list(min), list(opt), list(max)]

    class Config:
        def __init__(self):
            self.__dict__.update(
                _flags=set(),
                _profiles=[],
                _workspace=None,
                _device=None,
                _core=-1,
                _calibrator=None,
                _timing=TimingCache(b""),
            )

        def __setattr__(self, name, value):
            known = {"default_device_type": "_device", "DLA_core": "_core"}
            if major < 11:
                known["int8_calibrator"] = "_calibrator"
            self.__dict__[known[name]] = value

        def set_memory_pool_limit(self, pool, size):
            assert pool is MemoryPoolType.WORKSPACE
            self.__dict__["_workspace"] = size

        def set_flag(self, flag):
            self._flags.add(flag)

        def add_optimization_profile(self, profile):
            self._profiles.append(profile)
            return len(self._profiles) - 1

        def create_timing_cache(self, content):
            return TimingCache(content)

        def set_timing_cache(self, cache, ignore_mismatch):
            if cache._content and not cache._content.startswith(version.encode()):
                return False
            self.__dict__["_timing"] = cache
            return True

        def get_timing_cache(self):
            return self._timing

    class TimingCache:
        def __init__(self, content):
            self._content = content

        def serialize(self):
            return memoryview((self._content or version.encode()) + b"+")

    class MemoryPoolType(enum.Enum):
        WORKSPACE = 0

    class DeviceType(enum.Enum):
        GPU = 0
        DLA = 1

    class NetworkDefinitionCreationFlag(enum.IntEnum):
        STRONGLY_TYPED = 0

    weak = {"FP16": 0, "INT8": 1} if major < 11 else {}
    BuilderFlag = enum.Enum("BuilderFlag", {**weak, "GPU_FALLBACK": 3})

    class TensorIOMode(enum.Enum):
        NONE = 0
        INPUT = 1
        OUTPUT = 2

    class Runtime:
        def __init__(self, logger):
            self._logger = logger

        def deserialize_cuda_engine(self, plan):
            head, separator, content = bytes(plan).partition(b"\0")
            if not separator or json.loads(head)["version"] != version:
                self._logger.log(Severity.ERROR, "Serialization assertion failed: version tag")
                return None
            return CudaEngine(json.loads(head)["profile"], content)

    class CudaEngine:
        def __init__(self, profile, content):
            self._profile = profile
            self._session = onnxruntime.InferenceSession(
                content, providers=["CPUExecutionProvider"]
            )
            self._inputs = {value.name: value for value in self._session.get_inputs()}
            self._values = {
                value.name: value
                for value in (*self._session.get_inputs(), *self._session.get_outputs())
            }

        @property
        def num_io_tensors(self):
            return len(self._values)

        def get_tensor_name(self, index):
            return list(self._values)[index]

        def get_tensor_mode(self, name):
            return TensorIOMode.INPUT if name in self._inputs else TensorIOMode.OUTPUT

        def get_tensor_shape(self, name):
            return [d if isinstance(d, int) else -1 for d in self._values[name].shape]

        def get_tensor_dtype(self, name):
            return self._values[name].type

        def get_tensor_profile_shape(self, name, profile_index):
            assert profile_index == 0
            return self._profile[name]

        def create_execution_context(self):
            return Context(self)

    class Context:
        def __init__(self, engine):
            self._engine, self._shape, self._addresses = engine, None, {}

        def set_input_shape(self, name, shape):
            static = self._engine.get_tensor_shape(name)
            low, _, high = self._engine._profile.get(name, [static] * 3)
            fits = all(a <= s <= b for a, s, b in zip(low, shape, high, strict=True))
            self._shape = tuple(shape) if fits else None
            return fits

        def get_tensor_shape(self, name):
            dims = self._engine.get_tensor_shape(name)
            return [self._shape[0] if dim == -1 else dim for dim in dims]

        def set_tensor_address(self, name, address):
            assert name in self._engine._values and address
            self._addresses[name] = address
            return True

        def execute_async_v3(self, stream_handle):
            engine = self._engine
            if stream_handle == 0 or set(self._addresses) != set(engine._values):
                return False
            (name,) = engine._inputs
            images = np.empty(self._shape, TYPES[engine.get_tensor_dtype(name)])
            ctypes.memmove(images.ctypes.data, self._addresses[name], images.nbytes)
            outputs = [value for value in engine._values if value != name]
            results = engine._session.run(outputs, {name: images})
            for output, result in zip(outputs, results, strict=True):
                assert result.shape == tuple(self.get_tensor_shape(output))
                result = np.ascontiguousarray(result)
                ctypes.memmove(self._addresses[output], result.ctypes.data, result.nbytes)
            return True

    def init_libnvinfer_plugins(logger, namespace):
        assert namespace == ""
        return True

    def nptype(kind):
        return TYPES[kind]

    names = [
        ILogger,
        Logger,
        Builder,
        OnnxParser,
        MemoryPoolType,
        DeviceType,
        NetworkDefinitionCreationFlag,
        BuilderFlag,
        TensorIOMode,
        Runtime,
        init_libnvinfer_plugins,
        nptype,
    ]
    if major < 11:

        class IInt8EntropyCalibrator2:
            def __init__(self):
                pass

        names.append(IInt8EntropyCalibrator2)
    for value in names:
        setattr(trt, value.__name__, value)
    trt.built = built
    return trt
