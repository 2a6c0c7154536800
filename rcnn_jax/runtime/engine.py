"""Engine files: TensorRT's plan as it is, with a description of the model beside it.

    model.engine        the plan, which nvinfer and trtexec read too
    model.engine.json   model, input scaling, TensorRT version, GPU, precision, batch sizes, SHA-256

An engine belongs to one TensorRT version and one kind of GPU. TensorRT itself notices some
mismatches, late and in its own words; here each is one message before anything is loaded.
"""

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from rcnn_jax.checkpoints.atomic import read_file, write_file
from rcnn_jax.checkpoints.origin import Origin
from rcnn_jax.errors import CheckpointError, UsageError
from rcnn_jax.processes import peak_memory
from rcnn_jax.reporter import Reporter
from rcnn_jax.runtime import tensorrt, tensorrt_rtx
from rcnn_jax.runtime.backend import Predictor, predictor_of, require_one_device
from rcnn_jax.runtime.cuda import Device
from rcnn_jax.runtime.header import Header
from rcnn_jax.runtime.outputs import check_outputs
from rcnn_jax.runtime.stored_fields import engine_values, parse_json
from rcnn_jax.runtime.tensorrt import BuildSettings
from rcnn_jax.runtime.tensorrt_rtx import RtxSettings
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.tasks.task import TestSettings


@dataclass(frozen=True, kw_only=True)
class EngineInfo:
    """Description of an engine, the JSON file beside it.

    Attributes:
      header: of the graph it was built from: model, classes, input, preprocessing.
      precision: `fp32`, `fp16` or `int8`.
      batches: smallest, usual and largest batch.
      tensorrt: version that built it.
      gpu: that it was built on, as the driver calls it; "" where it was built without one.
      dla_core: or None.
      sha256: of the plan.
      targets: generations of GPUs that TensorRT for RTX built it for; empty for TensorRT's own.
    """

    header: Header
    precision: str
    batches: tuple[int, int, int]
    tensorrt: str
    gpu: str
    dla_core: int | None
    sha256: str
    targets: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Returns the description as JSON values."""
        return {**asdict(self), "header": self.header.to_json()}

    @classmethod
    def from_json(cls, fields: Any) -> "EngineInfo":
        """Description of an engine, read back from the JSON values of `to_json`.

        Raises:
          ValueError: the fields are not such a description.
        """
        values = engine_values(fields)
        return cls(**{**values, "header": Header.from_json(values["header"])})


def info_path(engine: Path) -> Path:
    """Returns the path of the description of an engine."""
    return engine.with_name(engine.name + ".json")


def write_engine(
    path: Path,
    model: onnx.ModelProto,
    header: Header,
    settings: BuildSettings,
    session: Reporter,
) -> EngineInfo:
    """Builds an engine on this machine and writes it with its description.

    Args:
      path: the engine.
      model: the graph; on TensorRT 10's DLA the plain one, else one whose types say the precision.
      header: of the graph.
      settings: how to build.
      session: console.

    Returns:
      The description.

    Raises:
      MissingDependencyError: no TensorRT, or no GPU.
      ExportError: TensorRT cannot build it.
    """
    trt = tensorrt.library(f"building {path} (the ONNX model is complete without it)")
    device = Device()
    session.console.print(
        f"building {path} with TensorRT {trt.__version__} on {device.name}: this takes minutes",
        markup=False,
    )
    plan = tensorrt.build(trt, model.SerializeToString(), settings, session.warn)
    info = EngineInfo(
        header=header,
        precision=settings.precision,
        batches=settings.batches,
        tensorrt=trt.__version__,
        gpu=device.name,
        dla_core=settings.dla_core,
        sha256=hashlib.sha256(plan).hexdigest(),
    )
    _write(path, plan, info, session)
    return info


def write_rtx_engine(
    path: Path,
    model: onnx.ModelProto,
    header: Header,
    settings: RtxSettings,
    reporter: Reporter,
) -> EngineInfo:
    """Builds an engine of TensorRT for RTX without a GPU and writes it with its description.

    Args:
      path: the engine.
      model: portable graph, whose types say the precision.
      header: of the graph.
      settings: how to build.
      reporter: console, progress.

    Returns:
      The description.

    Raises:
      MissingDependencyError: there is no TensorRT for RTX.
      ExportError: it does not build the graph.
    """
    trt = tensorrt_rtx.library(f"building {path} (the ONNX model is complete without it)")
    reporter.console.print(
        f"building {path} with TensorRT for RTX {trt.__version__} for "
        f"{', '.join(settings.targets)}, without a GPU: this takes up to a few minutes",
        markup=False,
    )
    start = time.monotonic()
    plan = tensorrt_rtx.build(trt, model.SerializeToString(), settings, reporter)
    peak = peak_memory()
    reporter.console.print(
        f"built in {time.monotonic() - start:.1f} s"
        + (f", peak memory of this process {peak / 1e9:.1f} GB" if peak else ""),
        markup=False,
    )
    info = EngineInfo(
        header=header,
        precision=settings.precision,
        batches=settings.batches,
        tensorrt=trt.__version__,
        gpu="",
        dla_core=None,
        sha256=hashlib.sha256(plan).hexdigest(),
        targets=settings.targets,
    )
    _write(path, plan, info, reporter)
    reporter.note(
        f"{path} was built ahead of time and has not run on a card: its runtime compiles the last "
        "kernels there at the first start; compare its detections with the .onnx file's once"
    )
    return info


def _write(path: Path, plan: bytes, info: EngineInfo, reporter: Reporter) -> None:
    # Two files cannot be renamed in one step. A kill in between leaves a pair that `read_plan`
    # refuses by the digest, in whatever order they are written.
    write_file(path, [plan])
    write_file(info_path(path), [json.dumps(info.to_json(), indent=2).encode() + b"\n"])
    reporter.console.print(
        f"engine: {path} ({len(plan) / 1e6:.1f} MB), description {info_path(path)}", markup=False
    )


def read_info(path: Path) -> EngineInfo:
    """Returns the description of an engine.

    Raises:
      CheckpointError: it is missing or damaged.
    """
    described = info_path(path)
    if not described.exists():
        raise CheckpointError(
            f"{path}: the description {described.name} is not beside it, so nobody knows what its "
            "input and outputs mean; copy both files, or build the engine again with "
            "rcnn-jax converter"
        )
    try:
        return EngineInfo.from_json(parse_json(read_file(described, "engine description")))
    except ValueError as error:
        raise CheckpointError(
            f"{described}: is damaged or of another version of rcnn-jax ({error}); build the "
            "engine again"
        ) from error


def read_plan(path: Path, info: EngineInfo, version: str, gpu: str) -> bytes:
    """Returns the plan of an engine that this machine can run.

    Args:
      path: the engine.
      info: its description.
      version: of TensorRT here.
      gpu: name of the GPU here.

    Raises:
      CheckpointError: the file is missing or damaged, is not the one described, or was built for
        another TensorRT or GPU: a message each.
    """
    plan = read_file(path, "engine")
    # Before TensorRT sees it, which trusts what a plan holds.
    if hashlib.sha256(plan).hexdigest() != info.sha256:
        raise CheckpointError(
            f"{path}: is not the engine that {info_path(path).name} describes: it was damaged, or "
            "built again without its description; copy both files, or build it again"
        )
    if info.targets and not any(_is_of(gpu, target) for target in info.targets):
        raise CheckpointError(
            f"{path}: was built for {', '.join(info.targets)}, this machine has {gpu}; build it for "
            "that generation with rcnn-jax converter --rtx"
        )
    # Equal, not compatible: TensorRT warns of a plan of another GPU model and may run it, slower or with
    # errors.
    expected = [("TensorRT", info.tensorrt, version)]
    # A plan for generations is for every GPU of them; the check above has looked at that.
    expected += [] if info.targets else [("GPU", info.gpu, gpu)]
    for what, built, here in expected:
        if built != here:
            raise CheckpointError(
                f"{path}: was built for {what} {built}, this machine has {here}: an engine belongs "
                "to one machine; build it here from the .onnx file with rcnn-jax converter"
            )
    return plan


def _is_of(gpu: str, target: str) -> bool:
    """Says whether a GPU, `NVIDIA L4 (8.9)`, is of a generation, `sm89`."""
    # sm120 is 12.0: the last digit is the minor version.
    return gpu.endswith(f"({target[2:-1]}.{target[-1]})")


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenEngine:
    """An engine with its description in memory; the plan is read when it is started.

    Attributes:
      path: the engine.
      info: its description.
    """

    path: Path
    info: EngineInfo

    @property
    def origin(self) -> Origin:
        """Kind, classes and settings of the model, from the description."""
        return self.info.header.origin

    @property
    def header(self) -> Header:
        """Of the graph it was built from."""
        return self.info.header

    @property
    def report_name(self) -> str:
        """The whole name of the file: an engine lies beside its bundle, and so do their reports."""
        return self.path.name

    def predictor(self, experiment: Experiment, test: TestSettings, devices: int = 1) -> Predictor:
        """Returns the predictor, with the settings of the export: see `start`.

        Raises: as `start`.
        """
        del experiment, test
        require_one_device(self.path, devices)
        return self.start()

    def start(self) -> Predictor:
        """Returns the function of the engine: uint8 canvases to detections in pixels of the canvas.

        Raises:
          CheckpointError: the engine does not run here.
          MissingDependencyError: no TensorRT, or no GPU.
        """
        name = str(self.path)
        made_by = tensorrt_rtx if self.info.targets else tensorrt
        trt = made_by.library(f"running {name}")
        device = Device()
        plan = read_plan(self.path, self.info, trt.__version__, device.name)
        engine = tensorrt.Engine(trt, plan, name, device)

        def run(batch: np.ndarray) -> dict[str, np.ndarray]:
            outputs = engine.run(batch)
            # The digest says that the file arrived whole, not that its maker meant well: outputs
            # index arrays.
            check_outputs(outputs, len(batch), self.header, name)
            return outputs

        return predictor_of(run, self.header, engine.least, engine.most)


def open_engine(path: Path, *, for_rtx: bool = False) -> OpenEngine:
    """Returns an engine with its description; needs neither TensorRT nor a GPU.

    Args:
      path: the engine.
      for_rtx: TensorRT for RTX must have built it.

    Raises:
      CheckpointError: the description cannot be used.
      UsageError: TensorRT has built it, and TensorRT for RTX is to run it.
    """
    info = read_info(path)
    if for_rtx and not info.targets:
        raise UsageError(
            f"runtime trt-rtx does not run {path}: TensorRT {info.tensorrt} built it; "
            "rcnn-jax converter --rtx builds one for TensorRT for RTX"
        )
    return OpenEngine(path=path, info=info)
