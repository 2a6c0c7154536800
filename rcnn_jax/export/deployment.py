"""Deployment: the engine, DeepStream bundle and Triton repository that an export writes on request."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from rcnn_jax.export.conversion import precision_of, values_of, with_precision
from rcnn_jax.export.deepstream.bundle import write_bundle
from rcnn_jax.export.deepstream.config import DeepStreamBundle, check_header, notes
from rcnn_jax.export.deepstream.parsers import LIBRARY
from rcnn_jax.export.triton import check_repository, write_repository
from rcnn_jax.export.web.page import check_folder, check_web, loaded, write_web
from rcnn_jax.reporter import Reporter
from rcnn_jax.runtime.engine import info_path, write_engine
from rcnn_jax.runtime.header import Header
from rcnn_jax.runtime.onnx_file import read_header
from rcnn_jax.runtime.tensorrt import BuildSettings


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """Further output of an export.

    Attributes:
      engine: file to build, or None.
      build: how.
      strict: around the int8 layers the engine computes in float32 instead of float16.
      bundle: whether to write the files of DeepStream.
      library: with DeepStream's parser functions.
      triton: model repository of Triton to write into, or None.
      web: folder of a web page, or None.
    """

    engine: Path | None = None
    build: BuildSettings = BuildSettings()
    strict: bool = False
    bundle: bool = False
    library: str = LIBRARY
    triton: Path | None = None
    web: Path | None = None


def check_deployment(wanted: Deployment, header: Header, output: Path) -> None:
    """Stops before the export when the bundle or the repository cannot be written.

    Raises:
      RcnnError: see `deepstream.check_header` and `triton.check_repository`.
    """
    if wanted.triton is not None:
        check_repository(wanted.triton, output)
    if wanted.web is not None:
        check_web(header)
        check_folder(wanted.web)
    if wanted.bundle:
        check_header(header)


def deploy(
    wanted: Deployment,
    graph: onnx.ModelProto,
    *,
    path: Path,
    threshold: float,
    cache: Path | None = None,
    picture: np.ndarray | None = None,
    reporter: Reporter,
) -> tuple[Path, ...]:
    """Writes the further output of an export; the ONNX file is complete already.

    Args:
      wanted: engine, bundle.
      graph: the content of the ONNX file.
      path: of the ONNX file.
      threshold: least score that DeepStream shows.
      cache: calibration cache of an int8 model.
      picture: u8[h w 3], RGB, on which the page checks the browser; None for a made-up one.
      reporter: console.

    Returns:
      What was written.

    Raises:
      RcnnError: the bundle cannot be written, or the engine cannot be built here.
    """
    # Compared as a whole, so that a further kind of output needs no line here.
    if wanted == Deployment():
        return ()
    written: list[Path] = []
    header, precision = read_header(graph, str(path)), precision_of(graph)
    if wanted.bundle:
        # Again, now that the outputs are known: a Mask R-CNN without mask head lacks one.
        check_header(header, tuple(values_of(graph.graph.output)))
        bundle = DeepStreamBundle(
            model=path,
            header=header,
            precision=precision,
            threshold=threshold,
            engine=wanted.engine,
            library=wanted.library,
            cache=cache,
        )
        for note in notes(header):
            reporter.warn(note)
        for file in write_bundle(bundle):
            reporter.console.print(f"DeepStream: {file}", markup=False)
            written.append(file)
    if wanted.triton is not None:
        # One number for both servers: the largest batch of the engine is Triton's too.
        largest = wanted.build.batches[2]
        for file in write_repository(wanted.triton, path, graph, header, largest):
            reporter.console.print(f"Triton: {file}", markup=False)
            written.append(file)
    if wanted.web is not None:
        title = f"{', '.join(header.class_names[:4])}{', ...' * (len(header.class_names) > 4)}"
        files = write_web(
            wanted.web,
            graph,
            header,
            title=title,
            threshold=threshold,
            picture=picture,
            reporter=reporter,
        )
        model, runtime = (size / 1e6 for size in loaded(files))
        reporter.console.print(
            f"web page: {wanted.web} ({model:.1f} MB of model, {runtime:.1f} MB of WebAssembly runtime); "
            f"look at it with  python -m http.server -d {wanted.web}",
            markup=False,
        )
        written += files
    # Last: building takes longest and may fail where TensorRT is missing, when all else is
    # complete.
    if wanted.engine is not None:
        settings = replace(wanted.build, precision=precision)
        if header.batch is not None:
            settings = replace(settings, batches=(header.batch,) * 3)
        # Around int8 layers an engine computes in fp16; the file itself stays as it was checked.
        graph = with_precision(graph, None, None, strict=wanted.strict, name=str(path))
        write_engine(wanted.engine, graph, header, settings, reporter)
        written += [wanted.engine, info_path(wanted.engine)]
    return tuple(written)
