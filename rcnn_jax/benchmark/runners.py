"""Runners: a model in each runtime as one function, with the device and the number formats it uses.

    u8 canvas --normalise--> runtime --read outputs--> detections

One image at a time, everywhere: the graphs have a batch of one.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import jax
import onnxruntime

from rcnn_jax.benchmark.entry import Entry
from rcnn_jax.benchmark.graphs import Graphs, NotMade
from rcnn_jax.compress.qat import float_variables, in_float
from rcnn_jax.errors import RcnnError
from rcnn_jax.export.contracts import in_single_precision
from rcnn_jax.export.conversion import precision_of, with_precision
from rcnn_jax.runtime.backend import Predictor, RunGraph
from rcnn_jax.runtime.bundle import OpenBundle, jax_predictor
from rcnn_jax.runtime.engine import OpenEngine, open_engine, write_engine
from rcnn_jax.runtime.graph import OpenGraph, file_predictor
from rcnn_jax.runtime.onnx_runtime import REFERENCE, open_session, runner
from rcnn_jax.runtime.openvino import computes_in_bfloat16, library, openvino_runner
from rcnn_jax.runtime.providers import PLUGINS, devices, plugin_session
from rcnn_jax.runtime.runtimes import TITLES
from rcnn_jax.runtime.tensorrt import BuildSettings
from rcnn_jax.runtime.tensorrt import library as tensorrt_library
from rcnn_jax.tasks.build import with_amp


@dataclass(frozen=True, kw_only=True, eq=False)
class Runner:
    """A model that is ready to run.

    Attributes:
      predictor: images u8[1 h w c] to detections.
      size: bytes of its file.
      device: what it runs on.
      computed: number formats of the dense part.
      version: of the runtime and its device; results of another one do not count.
    """

    predictor: Predictor
    size: int
    device: str
    computed: str
    version: str


def absent(runtime: str) -> str:
    """Returns why a runtime cannot run here, in one line; "" where it can."""
    try:
        if runtime in PLUGINS:
            plugin = PLUGINS[runtime]
            if not devices(plugin, plugin.title):
                seen = ", ".join({each.device.type.name for each in onnxruntime.get_ep_devices()})
                return f"no device for {plugin.title}: ONNX Runtime finds {seen}; it takes {plugin.needs}"
        elif runtime == "openvino":
            library("OpenVINO")
        elif runtime == "tensorrt":
            tensorrt_library("TensorRT")
    except RcnnError as error:
        return " ".join(str(error).split())
    return ""


def open_runner(entry: Entry, graphs: Graphs) -> Runner:
    """Returns the runner of a row.

    Args:
      entry: the row.
      graphs: makes its graph.

    Raises:
      NotMade: there is no such graph or engine, or the runtime does not compute in this precision.
      RcnnError: the runtime is not on this machine, or cannot load the graph.
    """
    if entry.runtime == "jax":
        return _in_jax(entry, graphs)
    graph = graphs.graph(entry)
    if entry.runtime == "tensorrt":
        return _engine(graph, graphs)
    content, name = graph.model.SerializeToString(), graph.path.name
    run, device, computed = _graph_runner(entry, content, name, precision_of(graph.model))
    title = TITLES[entry.runtime]
    return Runner(
        predictor=file_predictor(run, graph.header, name, title),
        size=len(content),
        device=device,
        computed=computed,
        version=f"{title} {_version(entry.runtime)}, {device}",
    )


def _in_jax(entry: Entry, graphs: Graphs) -> Runner:
    if not isinstance(graphs.model, OpenBundle):
        raise NotMade(f"{graphs.model.path.name} is an exported file; JAX runs the .tlt")
    experiment = graphs.experiment
    if entry.precision == "bf16":
        experiment = with_amp(dataclasses.replace(experiment, amp_dtype="bfloat16"))
    if entry.precision == "fp32":
        experiment = dataclasses.replace(experiment, task=in_single_precision(experiment.task))
    experiment, variables = graphs.model.load(experiment)
    if (
        experiment.task.model.quant.sites
    ):  # trained with fake quantisation, which float rows leave out as the export does
        experiment, variables = in_float(experiment), float_variables(variables)
    device = jax.local_devices()[0]
    return Runner(
        predictor=jax_predictor(experiment, experiment.inference)(variables),
        size=graphs.model.path.stat().st_size if graphs.model.path.exists() else 0,
        device="CPU"
        if device.platform == "cpu"
        else f"{device.platform.upper()} ({device.device_kind})",
        computed="bfloat16" if entry.precision == "bf16" else "float32",
        version=f"JAX {jax.__version__}, {device.device_kind}",
    )


def _graph_runner(
    entry: Entry, content: bytes, name: str, precision: str
) -> tuple[RunGraph, str, str]:
    """Returns (function of a graph, device, number formats)."""
    # Neither has kernels for float16 on x86: both widen it, so its average precision is that of weights
    # and not of sums in float16.
    in_words = {"fp32": "float32", "fp16": "float32, weights float16"}
    if entry.runtime == "onnxruntime":
        words = in_words | {"int8": "float32, rounded to int8"}
        return runner(open_session(content, name, REFERENCE)), "CPU", words[precision]
    if entry.runtime == "openvino":
        if entry.precision == "bf16":
            if not computes_in_bfloat16():
                raise NotMade("OpenVINO: this processor has no bfloat16 (AVX512-BF16 or AMX)")
            return openvino_runner(content, name, "bf16"), "CPU", "bfloat16, asked for"
        words = in_words | {"int8": "int8, else float32"}
        return openvino_runner(content, name), "CPU", f"{words[precision]}, asked for"
    session, device = plugin_session(content, name, entry.runtime)
    words = {"fp32": "float32", "fp16": "float16", "int8": "int8, else float32"}
    return runner(session), device, f"{words[precision]} in the graph"


def _engine(graph: OpenGraph, graphs: Graphs) -> Runner:
    """Returns the runner of an engine, which is built into the folder where it is not there yet.

    Raises:
      NotMade: the model is encrypted; the weights would lie in the engine in plain.
      RcnnError: it cannot be built or run here.
    """
    if graphs.key:
        raise NotMade("engines are not encrypted, and this model is: build one with converter")
    path = graphs.folder / f"{graph.path.stem}.engine"
    precision = precision_of(graph.model)
    if not path.exists():
        model = with_precision(graph.model, None, None, strict=False, name=graph.path.name)
        settings = BuildSettings(precision=precision)
        write_engine(path, model, graph.header, settings, graphs.reporter)
    return engine_runner(open_engine(path))


def engine_runner(engine: OpenEngine) -> Runner:
    """Returns the runner of an engine."""
    info = engine.info
    words = {"fp32": "float32", "fp16": "float16", "int8": "int8, else float16"}
    return Runner(
        predictor=engine.start(),
        size=Path(engine.path).stat().st_size,
        device=info.gpu or ", ".join(info.targets),
        computed=words[info.precision],
        version=f"TensorRT {info.tensorrt}, {info.gpu}",
    )


def _version(runtime: str) -> str:
    if runtime == "openvino":
        return str(library("OpenVINO").__version__)
    return onnxruntime.__version__
