"""Plugin execution providers: what is absent is told, what is there agrees with the CPU's kernels.

WebGPU runs on a CPU too, by a software driver of Vulkan (SwiftShader of a Chromium, or lavapipe): its
switch for that is in the environment of the processes here.
"""

import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest

import rcnn_jax
from rcnn_jax.cli.main import main
from rcnn_jax.errors import MissingDependencyError, UsageError
from rcnn_jax.runtime import providers
from rcnn_jax.runtime.providers import PLUGINS, is_installed
from rcnn_jax.runtime.runtimes import GRAPH_RUNTIMES, TITLES

ROOT = Path(__file__).parents[2]
MODULES = [plugin.module for plugin in PLUGINS.values()]
DRIVERS = (
    ("/usr/lib/chromium", "vk_swiftshader_icd.json"),
    ("/usr/share/vulkan/icd.d", "lvp_icd*.json"),
)


@functools.cache
def software_driver() -> str:
    files = (str(path) for folder, name in DRIVERS for path in sorted(Path(folder).glob(name)))
    return next(files, "")


webgpu = pytest.mark.skipif(
    not is_installed("webgpu"), reason="the extra rcnn-jax[webgpu] is not installed"
)
on_a_cpu = pytest.mark.skipif(
    not software_driver(),
    reason="no software driver of Vulkan (SwiftShader, lavapipe) is installed",
)


def run(program: str, *, driver: bool) -> str:
    """Output of a program in a process of its own: a provider reads its environment once."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    if driver:
        folder = str(Path(software_driver()).parent)
        variables |= {
            "VK_ICD_FILENAMES": software_driver(),
            "LD_LIBRARY_PATH": folder,  # Chromium's own libvulkan.so.1 lies there
            "ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER": "1",
        }
    done = subprocess.run(
        [sys.executable, "-c", program], env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_every_plugin_is_a_runtime_of_graphs_with_a_title():
    assert set(PLUGINS) <= set(GRAPH_RUNTIMES)
    for name, plugin in PLUGINS.items():
        assert plugin.runtime == name and TITLES[name] == plugin.title


@pytest.mark.parametrize("runtime", PLUGINS)
def test_a_missing_package_is_told_with_what_installs_it(boxes_files, runtime, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, PLUGINS[runtime].module, None)
    with pytest.raises(MissingDependencyError, match=rf"pip install 'rcnn-jax\[{runtime}\]'"):
        rcnn_jax.load(boxes_files.graph, runtime=runtime)
    flags = ["-e", str(boxes_files.spec), "-m", str(boxes_files.graph), "--runtime", runtime]
    assert main(["faster_rcnn", "evaluate", *flags]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error and f"rcnn-jax[{runtime}]" in error


def test_an_onnx_runtime_before_plugins_is_told(monkeypatch, tmp_path):
    folder = tmp_path / PLUGINS["webgpu"].module
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delattr(providers.onnxruntime, "get_ep_devices", raising=False)
    monkeypatch.delitem(sys.modules, PLUGINS["webgpu"].module, raising=False)
    with pytest.raises(UsageError, match=r"needs ONNX Runtime 1\.24 or later, found 1\."):
        providers.devices(PLUGINS["webgpu"], "running x")


def test_a_library_that_does_not_load_is_told_with_the_words_of_the_loader(monkeypatch, tmp_path):
    module = PLUGINS["webgpu"].module
    (tmp_path / module).mkdir()
    library = tmp_path / module / "libprovider.so"
    library.write_bytes(b"no library")
    (tmp_path / module / "__init__.py").write_text(
        f"def get_library_path():\n    return {str(library)!r}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setattr(providers, "_REGISTERED", set())
    with pytest.raises(
        UsageError, match=r"WebGPU does not start on this machine: .*; it takes a GPU"
    ):
        providers.devices(PLUGINS["webgpu"], "running x")
    sys.modules.pop(module, None)


@webgpu
def test_a_machine_without_a_gpu_is_told_what_it_has():
    output = run(
        """
from rcnn_jax.errors import UsageError
from rcnn_jax.runtime.providers import PLUGINS, devices, plugin_session
if devices(PLUGINS["webgpu"], "test"):
    print("a GPU")
else:
    try:
        plugin_session(b"", "model.onnx", "webgpu")
    except UsageError as error:
        print(error)
""",
        driver=False,
    )
    assert "a GPU" in output or (
        "this machine has no device for WebGPU: ONNX Runtime finds CPU (" in output
        and "--runtime onnxruntime runs on the CPU" in output
    )


@webgpu
@on_a_cpu
def test_webgpu_gives_the_detections_of_the_cpu_in_a_row_and_in_parallel():
    """Both detectors, both graphs, and twelve images whose results must not be mixed up."""
    output = run(
        """
from concurrent.futures import ThreadPoolExecutor
from rcnn_jax.export.lowering.portable import to_portable
from rcnn_jax.export.verification.parity import Tolerance, compare_detections
from rcnn_jax.runtime.backend import predictor_of
from rcnn_jax.runtime.runtimes import graph_runner
from tests.export import tiny
for kind in ("faster_rcnn", "mask_rcnn"):
    model, header = tiny.default_graph(kind)
    for form in (model, to_portable(model)):
        content = form.SerializeToString()
        one, other = (
            predictor_of(graph_runner(content, "x", name), header, 1, None)
            for name in ("onnxruntime", "webgpu")
        )
        count = 12 if kind == "faster_rcnn" and form is not model else 2
        images = [tiny.images(1, seed=seed) for seed in range(count)]
        wanted = [one(image)[0] for image in images]
        row = [other(image)[0] for image in images]
        with ThreadPoolExecutor(4) as pool:
            parallel = list(pool.map(lambda image: other(image)[0], images))
        for a, b, c in zip(wanted, row, parallel, strict=True):
            for each in (b, c):
                parity = compare_detections(a, each)
                assert parity.detections and parity.unmatched == 0, parity
                assert parity.within(Tolerance(mask=1e-3)), parity
        print("same", kind)
""",
        driver=True,
    )
    assert output.count("same") == 4
