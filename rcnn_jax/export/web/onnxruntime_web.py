"""onnxruntime-web, which runs a page's model: its files, from the npm package in the user's cache.

    registry of npm --once--> CACHE/.../onnxruntime-web-VERSION.tgz --> the files of two backends

The package may be put into the cache by hand; then no registry is asked.
"""

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

from rcnn_jax.checkpoints.cache import Digest, cache_folder, matches
from rcnn_jax.checkpoints.download import fetch
from rcnn_jax.errors import ExportError
from rcnn_jax.reporter import SILENT, Reporter

VERSION = "1.30.0"
"""Of onnxruntime-web: one that the page was tested with."""

DIGEST = Digest("sha256", "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71")
# For the progress bar, where a registry gives no length.
SIZE = 33_106_585
PACKAGE = f"onnxruntime-web-{VERSION}.tgz"
REGISTRY_VARIABLE = "npm_config_registry"
_NPM_SECONDS = 30.0
# One build of each backend: a browser without WebGPU need not load the larger one.
PARTS = {
    "wasm": ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"),
    "webgpu": (
        "ort.webgpu.min.mjs",
        "ort-wasm-simd-threaded.asyncify.mjs",
        "ort-wasm-simd-threaded.asyncify.wasm",
    ),
}


def runtime_files(offline: bool = False, reporter: Reporter = SILENT) -> dict[str, bytes]:
    """Returns the files of onnxruntime-web by name, from the npm package in the user's cache."""
    archive = package_path()
    if not (archive.is_file() and matches(archive, DIGEST)):
        archive = fetch(
            _address(),
            DIGEST,
            what=f"onnxruntime-web {VERSION}, which runs the page",
            size=SIZE,
            offline=offline,
            reporter=reporter,
        )
    wanted = {f"package/dist/{name}": name for parts in PARTS.values() for name in parts}
    files: dict[str, bytes] = {}
    # In memory and by name: nothing of an archive decides where it is written.
    with tarfile.open(fileobj=io.BytesIO(archive.read_bytes()), mode="r:gz") as members:
        for member in members:
            stream = members.extractfile(member) if member.name in wanted else None
            if stream is not None:
                files[wanted[member.name]] = stream.read()
    missing = sorted(set(wanted.values()) - files.keys())
    if missing:
        raise ExportError(f"{archive}: lacks {', '.join(missing)}")
    return files


def package_path(variables: Mapping[str, str] = os.environ) -> Path:
    """Returns where the npm package lies when it is put into the cache by hand."""
    return cache_folder(variables) / "web" / PACKAGE


def _address(variables: Mapping[str, str] = os.environ) -> str:
    """Returns where the package is: in the registry that the environment names, or npm's settings.

    Raises:
      ExportError: neither names one.
    """
    # No registry is written down here: an organisation has its own, and npm knows it.
    registry = variables.get(REGISTRY_VARIABLE) or _npm_registry(variables)
    if not registry:
        raise ExportError(
            f"--web: the page needs the npm package onnxruntime-web {VERSION}, and nothing names a "
            f"registry to fetch it from: {REGISTRY_VARIABLE} is not set, and `npm config get registry` "
            f"gives none. Set the variable, or run `npm pack onnxruntime-web@{VERSION}` where npm is and "
            f"put {PACKAGE} at {package_path(variables)}"
        )
    return f"{registry.rstrip('/')}/onnxruntime-web/-/{PACKAGE}"


def _npm_registry(variables: Mapping[str, str]) -> str:
    """Returns the registry of npm's settings; "" without npm."""
    npm = shutil.which("npm", path=variables.get("PATH", ""))
    if npm is None:
        return ""
    try:
        answer = subprocess.run(
            [npm, "config", "get", "registry"],
            capture_output=True,
            text=True,
            timeout=_NPM_SECONDS,
            check=False,
            env=dict(variables),
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = answer.stdout.split()
    # npm prints "undefined" for a setting that has been emptied.
    return lines[-1] if answer.returncode == 0 and lines and "://" in lines[-1] else ""
