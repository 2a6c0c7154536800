"""Strict numerics for every test: no silent broadcasting of ranks, no warning left unread."""

import ctypes
import importlib.util
import os
from importlib.metadata import version
from pathlib import Path

LIBC = ctypes.CDLL(None)
ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Where nothing is optimised, XLA's older emitters compile a program in two thirds of the time. Later
# releases have no such flag, and XLA ends a process that gives one that it does not know.
OLDER_EMITTERS = " --xla_cpu_use_fusion_emitters=false" * version("jaxlib").startswith("0.10.")
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=4" + OLDER_EMITTERS)
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
# Programs run a few times on tiny images: most of the time would go into optimising them.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("MPLBACKEND", "agg")
# `init` asks the publishers of weights by itself; whether they answer must decide no test.
os.environ.setdefault("RCNN_JAX_OFFLINE", "1")

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")


HAS_OPENVINO = importlib.util.find_spec("openvino") is not None


@pytest.fixture(autouse=True)
def graphs_run_in_onnx_runtime(monkeypatch):
    """`--runtime auto` means the same in every environment; what says `openvino` gets it."""
    if HAS_OPENVINO:
        monkeypatch.setattr("rcnn_jax.runtime.runtimes.is_installed", lambda: False)


@pytest.fixture(scope="module", autouse=True)
def forgotten_programs():
    """Gives memory back after every file: all programs together take more than 10 GB."""
    yield
    jax.clear_caches()
    if hasattr(LIBC, "malloc_trim"):
        LIBC.malloc_trim(0)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the clone; a bare clone has none."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"real data is read from {SHARED.name}/ beside the clone, which is absent")
    return SHARED


@pytest.fixture(scope="session")
def boxes_files(tmp_path_factory):
    """Files of a tiny Faster R-CNN that nobody trained, see tests/export/files.py."""
    from tests.export.files import make_files

    return make_files(tmp_path_factory.mktemp("boxes"), "faster_rcnn")


@pytest.fixture(scope="session")
def masks_files(tmp_path_factory):
    """Files of a tiny Mask R-CNN that nobody trained, see tests/export/files.py."""
    from tests.export.files import make_files

    return make_files(tmp_path_factory.mktemp("masks"), "mask_rcnn")
