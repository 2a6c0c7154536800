"""Environment of a run: processor, accelerator, versions, and clocks as they were found.

Nothing here imports JAX, so that the program that starts the suites leaves the accelerator alone.
"""

import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "numpy",
    "opencv-python-headless",
    "grain",
    "pycocotools",
    "hotcoco",
    "onnxruntime",
    "onnxruntime-openvino",
    "torch",
    "torchvision",
    "tensorflow",
    "tensorflow-cpu",
)
_VARIABLES = (
    "XLA_FLAGS",
    "XLA_PYTHON_CLIENT_PREALLOCATE",
    "XLA_PYTHON_CLIENT_MEM_FRACTION",
    "JAX_PLATFORMS",
    "JAX_ENABLE_X64",
    "JAX_DEFAULT_MATMUL_PRECISION",
    "OMP_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
)
_GPU_FIELDS = (
    "name",
    "driver_version",
    "memory.total",
    "memory.used",
    "clocks.sm",
    "clocks.max.sm",
    "clocks.mem",
    "temperature.gpu",
    "power.draw",
    "utilization.gpu",
)


def describe() -> dict[str, Any]:
    """Returns the constants of a run."""
    return {
        "revision": _revision(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor(),
        # Those this process may use: in a container the machine has more.
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "memory_bytes": _memory(),
        "versions": _versions(),
        # Only those that change speed: the whole environment of a user has secrets in it.
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
    }


def as_found() -> dict[str, Any]:
    """Returns the variables of a run: load, clock of the cores in MHz, state of the GPUs."""
    # Before and after every suite: a shared machine is what explains most outliers.
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {"load_1min": load, "core_mhz": _core_clocks(), "gpus": _gpus()}


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _revision() -> str:
    return _output("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty")


def _processor() -> str:
    names = _cpuinfo("model name")
    return names[0] if names else platform.processor()


def _core_clocks() -> list[float]:
    return [round(float(value)) for value in _cpuinfo("cpu MHz")]


def _cpuinfo(field: str) -> list[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
    return [line.split(":", 1)[1].strip() for line in lines if line.startswith(field)]


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def _gpus() -> list[dict[str, str]]:
    query = f"--query-gpu={','.join(_GPU_FIELDS)}"
    lines = _output("nvidia-smi", query, "--format=csv,noheader").splitlines()
    return [
        dict(zip(_GPU_FIELDS, [value.strip() for value in line.split(",")], strict=True))
        for line in lines
        if line.count(",") == len(_GPU_FIELDS) - 1
    ]


def _output(program: str, *arguments: str) -> str:
    """Returns the output of a program, "" where it is absent or fails."""
    if shutil.which(program) is None:
        return ""
    try:
        process = subprocess.run(
            [program, *arguments], capture_output=True, text=True, timeout=20, check=True
        )
    except (subprocess.SubprocessError, OSError):
        return ""
    return process.stdout.strip()
