"""Writes a web page that runs a model in the browser, with everything it needs in one folder.

    graph + header --> DIR/index.html  app.mjs ...  model.onnx  model.json  reference.png  runtime/

The page asks no other host. The runtime is that of `onnxruntime_web.py`; WebGPU where the browser has one
that gives the right numbers, WebAssembly otherwise.
"""

import dataclasses
import json
import shutil
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx

from rcnn_jax.data.loader import images as image_files
from rcnn_jax.data.synthetic import generate
from rcnn_jax.errors import ExportError
from rcnn_jax.export.conversion import precision_of
from rcnn_jax.export.web.onnxruntime_web import PARTS, runtime_files
from rcnn_jax.image_file import encode_image
from rcnn_jax.processes import unfinished_name
from rcnn_jax.reporter import SILENT, Reporter
from rcnn_jax.runtime.backend import Predictor
from rcnn_jax.runtime.header import Header
from rcnn_jax.runtime.onnx_runtime import open_session, predictor

_ASSETS = (
    "index.html",
    "app.mjs",
    "camera.mjs",
    "detector.mjs",
    "reference.mjs",
    "pixels.mjs",
    "draw.mjs",
)
_SIDE = 512
_SCENES = 8
# Weak objects are compared too, where nothing is above the threshold; a few, because the weakest hang
# on the last bits of an overlap.
_BEST = 10


def write_web(
    folder: Path,
    graph: onnx.ModelProto,
    header: Header,
    *,
    title: str,
    threshold: float,
    picture: np.ndarray | None = None,
    offline: bool = False,
    reporter: Reporter = SILENT,
) -> list[Path]:
    """Writes the page; the folder appears whole, or not at all.

    Args:
      folder: does not exist, or is empty, or holds a page of an earlier export.
      graph: with plain outputs and a batch of one.
      header: of the graph.
      title: heading of the page.
      threshold: least score that is shown at first.
      picture: u8[h w 3], RGB, for the check of the browser's backend; a made-up scene where it is None
        or shows the model nothing.
      offline: take the runtime from the cache alone.
      reporter: progress.

    Returns:
      The files.

    Raises:
      ExportError: the graph is none for a browser, or the folder holds something else.
      CheckpointError: the runtime cannot be fetched.
    """
    check_web(header)
    check_folder(folder)
    data = graph.SerializeToString()
    # Compared on one picture only: what differs between browsers are kernels, not contents.
    picture, objects = _reference(data, header, picture)
    if not objects:
        reporter.warn(
            "--web: the model sees nothing in the reference picture, by which a browser's backend is "
            "checked; the page will run on WebAssembly alone"
        )
    content = _describe(header, title, threshold)
    content["reference"] = {
        "image": "./reference.png",
        "objects": objects[:_BEST],
        "count": len(objects),
        # Kernels of int8 round on different sides, and the page must know how much that moves.
        "precision": precision_of(graph),
    }
    # Before the first folder is made: this is what fails where there is no network.
    runtime = runtime_files(offline, reporter)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = unfinished_name(folder)
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        (temporary / "runtime").mkdir(parents=True)
        for name in _ASSETS:
            # By importlib: a wheel may be installed as an archive, where __file__ names no folder.
            asset = resources.files("rcnn_jax.export.web") / "assets" / name
            (temporary / name).write_bytes(asset.read_bytes())
        (temporary / "model.onnx").write_bytes(data)
        (temporary / "model.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
        (temporary / "reference.png").write_bytes(_png(picture))
        for name, part in runtime.items():
            (temporary / "runtime" / name).write_bytes(part)
        # os.replace cannot put a folder over one that is not empty, so for a moment there is none.
        if folder.exists():
            shutil.rmtree(folder)
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return sorted(path for path in folder.rglob("*") if path.is_file())


def loaded(files: Iterable[Path]) -> tuple[int, int]:
    """Returns the bytes that a browser without WebGPU loads: of the model, and of its runtime.

    Args:
      files: of `write_web`.
    """
    sizes = {path.name: path.stat().st_size for path in files}
    return sizes["model.onnx"], sum(sizes[name] for name in PARTS["wasm"])


def check_web(header: Header) -> None:
    """Checks that a browser can run a graph of this header.

    Raises:
      ExportError: its outputs are DeepStream's, its batch is not one, or its canvas is not fixed.
    """
    if header.contract != "plain" or header.batch not in (None, 1):
        raise ExportError(
            "--web needs a graph with plain outputs for one image: leave --contract and "
            "--static_batch_size out"
        )


def check_folder(folder: Path) -> None:
    """Checks that a page may take a folder.

    Raises:
      ExportError: it is a file, or holds something else than a page of an earlier export.
    """
    if folder.is_file():
        raise ExportError(f"--web {folder}: expected a folder, found a file")
    # model.json marks a page of ours: `--web ~` must not empty a home.
    if folder.exists() and any(folder.iterdir()) and not (folder / "model.json").exists():
        raise ExportError(f"--web {folder}: expected a new or empty folder, or a page to replace")


def _describe(header: Header, title: str, threshold: float) -> dict[str, Any]:
    """JSON values of the page: preprocessing and classes."""
    return {
        "title": title,
        "file": "./model.onnx",
        "threshold": threshold,
        "class_names": list(header.class_names),
        "geometry": dataclasses.asdict(header.geometry),
        "channel_order": header.channel_order,
        "mean": list(header.mean),
        "std": list(header.std),
        "runtime": {name: f"./runtime/{parts[0]}" for name, parts in PARTS.items()},
    }


def _reference(
    data: bytes, header: Header, picture: np.ndarray | None
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Returns a picture and its objects; the first picture in which the model sees any."""
    # From the bytes that are written, not from the model in JAX: the page is compared with its own
    # graph.
    run = predictor(open_session(data, "the graph of the page"), header)
    made_up = (scene.image for scene in generate(0, _SCENES, _SIDE, _SIDE))
    last: np.ndarray | None = None
    for last in made_up if picture is None else (picture, *made_up):
        if objects := _objects(run, header, last):
            return last, objects
    assert last is not None
    return last, []


def _objects(run: Predictor, header: Header, picture: np.ndarray) -> list[dict[str, Any]]:
    """Returns all objects of a picture, best first, by ONNX Runtime here, in pixels of the picture."""
    # The reference is stored as RGB, as browsers decode it; the page reorders as this line does.
    image = {"rgb": picture, "bgr": picture[..., ::-1]}.get(header.channel_order)
    if image is None:
        image = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None]
    placed = image_files.fit(picture.shape[:2], header.geometry)
    canvas = image_files.apply_image(np.ascontiguousarray(image), placed)
    detections, _ = run(canvas[None])
    keep = np.asarray(detections.valid[0])
    boxes = image_files.boxes_to_source(
        np.asarray(detections.boxes[0])[keep],
        np.asarray(placed.scale),
        np.asarray(picture.shape[:2]),
        image_files.origin(header.geometry),
    )
    rows = zip(
        boxes,
        np.asarray(detections.scores[0])[keep],
        np.asarray(detections.classes[0])[keep],
        strict=True,
    )
    objects: list[dict[str, Any]] = [
        {"box": [float(side) for side in box], "score": float(score), "label": int(label)}
        for box, score, label in rows
    ]
    if detections.masks is not None:
        for each, mask in zip(objects, np.asarray(detections.masks[0])[keep], strict=True):
            each["mask"] = _quarters(mask)
    return sorted(objects, key=lambda each: -each["score"])


def _quarters(mask: np.ndarray) -> list[float]:
    """Returns the sums of the four quarters of a mask f32[s s], row by row."""
    half = len(mask) // 2
    rows = (mask[:half], mask[half:])
    return [float(part.sum()) for row in rows for part in (row[:, :half], row[:, half:])]


def _png(picture: np.ndarray) -> bytes:
    # PNG, because decoders of JPEG differ in the last bits and the comparison would be of decoders.
    return encode_image(picture, ".png", name="the reference picture")
