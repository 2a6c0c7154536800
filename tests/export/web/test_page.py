"""The folder of a page: whole or not at all, and what is refused."""

import shutil
from pathlib import Path

import jax
import pytest

from rcnn_jax.cli.main import main
from rcnn_jax.data.sources.categories import Categories
from rcnn_jax.errors import ExportError
from rcnn_jax.export.contracts import make_header
from rcnn_jax.export.web import page
from rcnn_jax.export.web.onnxruntime_web import PARTS
from rcnn_jax.export.web.page import write_web
from rcnn_jax.spec.load import load_spec
from rcnn_jax.tasks.build import build_experiment
from tests.browser.driver import served
from tests.export.web.pages import plain_graph

RUNTIME = {name for parts in PARTS.values() for name in parts}


def test_a_page_without_its_model_says_so(boxes_files, runtime, window, tmp_path):
    graph, header = plain_graph(boxes_files)
    folder = tmp_path / "web"
    write_web(folder, graph, header, title="Cells", threshold=0.5)
    (folder / "model.onnx").unlink()
    with served(folder) as (address, _):
        window.open(f"{address}/index.html")
        assert window.wait("document.body.dataset.state") == "failed"
        assert "model.onnx is missing (404)" in window.value("document.body.innerText")


def test_the_folder_holds_everything_and_is_replaced_as_a_whole(boxes_files, runtime, tmp_path):
    graph, header = plain_graph(boxes_files)
    folder = tmp_path / "web"
    written = write_web(folder, graph, header, title="Cells", threshold=0.5)
    assert {path.name for path in written} >= {"index.html", "model.onnx", "model.json", *RUNTIME}
    (folder / "old").touch()
    write_web(folder, graph, header, title="Cells", threshold=0.5)
    assert not (folder / "old").exists()
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "thesis.txt").touch()
    with pytest.raises(ExportError, match="a new or empty folder"):
        write_web(folder, graph, header, title="Cells", threshold=0.5)
    assert (folder / "thesis.txt").exists()


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--static_batch_size", "4"], "--static_batch_size"),
        (["--gen_ds_config"], "--gen_ds_config"),
        (["-o", "model.etlt", "-k", "key"], "-o with .etlt"),
    ],
)
def test_the_command_refuses_a_page_of_another_graph(boxes_files, tmp_path, capsys, flags, named):
    paths = ["-e", boxes_files.spec, "-m", boxes_files.model, "-o", tmp_path / "model.onnx"]
    words = [*map(str, paths), "--web", str(tmp_path / "page"), *flags]
    assert main(["faster_rcnn", "export", *words]) == 2
    assert f"leave {named}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_graph_for_deepstream_is_refused(boxes_files, tmp_path):
    with pytest.raises(ExportError, match="plain outputs"):
        page.check_web(make_header(boxes_files.experiment, "tao", 1))
    with pytest.raises(ExportError, match="one image: leave .* --static_batch_size out"):
        page.check_web(make_header(boxes_files.experiment, "plain", 4))


@pytest.mark.parametrize("kind", ["faster_rcnn", "mask_rcnn"])
def test_the_page_of_a_quickstart_model_is_below_12_mb(kind):
    spec = Path(__file__).parents[3] / "configs" / kind / "quickstart.txt"
    categories = Categories((1, 2, 3), ("disc", "star", "rod")) if kind == "mask_rcnn" else None
    experiment = build_experiment(load_spec(spec).config, kind, categories=categories)
    shapes = jax.eval_shape(experiment.task.init, jax.random.key(0))
    weights = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    # In float32, as if int8 had been taken back for every layer: a quarter of it is usual.
    assert 4 * weights < 12e6 - 1e6


def test_the_command_says_what_a_browser_loads(boxes_files, runtime, tmp_path):
    graph, header = plain_graph(boxes_files)
    files = write_web(tmp_path / "web", graph, header, title="Cells", threshold=0.5)
    model, runtime_size = page.loaded(files)
    assert model == (tmp_path / "web" / "model.onnx").stat().st_size
    # The build for WebGPU is twice as large, and is not loaded where there is none.
    wasm = [each for each in files if each.name in PARTS["wasm"]]
    assert runtime_size == sum(each.stat().st_size for each in wasm)
    assert 10e6 < runtime_size < 20e6
