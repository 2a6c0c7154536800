"""A graph in onnxruntime-web's WebAssembly under Node, as a function of arrays.

The runtime is the one that `export --web` puts beside a page, from the npm package in the user's cache.
"""

import functools
import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from rcnn_jax.errors import RcnnError
from rcnn_jax.export.web.onnxruntime_web import runtime_files

SCRIPT = Path(__file__).with_suffix(".mjs")
TYPES = {"float32": np.float32, "int32": np.int32, "int64": np.int64, "bool": np.bool_}
SECONDS = 600


@functools.cache
def absent() -> str:
    """Returns why there is no such runtime here, "" where there is one."""
    if shutil.which("node") is None:
        return "Node is not installed"
    try:
        runtime_files(offline=True)
    except RcnnError as error:
        return str(error)
    return ""


def run_in_node(
    model: bytes, batches: Sequence[np.ndarray], *, parallel: bool = False
) -> list[dict[str, np.ndarray]]:
    """Returns the outputs of a graph for every batch.

    Args:
      model: the ONNX model.
      batches: f32[b c h w] each.
      parallel: ask for all of them at once.

    Raises:
      RcnnError: onnxruntime-web is not in the cache.
      RuntimeError: Node or the runtime fails; its words.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "runtime").mkdir()
        for file, content in runtime_files(offline=True).items():
            (folder / "runtime" / file).write_bytes(content)
        (folder / "model.onnx").write_bytes(model)
        images = []
        for number, batch in enumerate(batches):
            file = folder / f"{number}.input"
            file.write_bytes(np.ascontiguousarray(batch, np.float32).tobytes())
            images.append({"file": str(file), "dims": list(batch.shape)})
        request = {
            "runtime": str(folder / "runtime"),
            "model": str(folder / "model.onnx"),
            "input": onnx.ModelProto.FromString(model).graph.input[0].name,
            "images": images,
            "out": name,
            "parallel": parallel,
        }
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
        done = subprocess.run(
            ["node", str(SCRIPT), str(folder / "request.json")],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"Node ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
        described = json.loads((folder / "outputs.json").read_text(encoding="utf-8"))
        return [{name: _array(folder, each) for name, each in one.items()} for one in described]


def _array(folder: Path, described: dict) -> np.ndarray:
    content = (folder / described["file"]).read_bytes()
    return np.frombuffer(content, TYPES[described["type"]]).reshape(described["dims"])
