"""Five runtimes, one truth: both detectors, both graphs, one tolerance."""

import numpy as np
import pytest

from benchmarks import node_side
from benchmarks.runtimes import ONE_TOLERANCE, SIDES, Case, main, rows, variants, worst
from rcnn_jax.runtime.backend import preprocess
from rcnn_jax.runtime.onnx_runtime import open_session, runner
from tests.export import tiny

KINDS = ("faster_rcnn", "mask_rcnn")


@pytest.fixture(scope="module", params=KINDS)
def case(request):
    """A tiny detector and what JAX sees."""
    import jax

    experiment = {"faster_rcnn": tiny.faster_rcnn, "mask_rcnn": tiny.mask_rcnn}[request.param]()
    variables = tiny.lively_variables(experiment, predictors=0.3)
    images = [tiny.images(1, seed=seed) for seed in range(3)]
    predict = jax.jit(lambda x: experiment.task.predict(variables, x, experiment.inference)[0])
    wanted = [jax.tree.map(np.asarray, predict(image)) for image in images]
    model, header = tiny.graph(experiment)
    return Case(graphs=variants(model, ("fp32",)), header=header, images=images, wanted=wanted)


@pytest.mark.parametrize("name", SIDES)
def test_every_runtime_gives_the_detections_of_jax(name, case):
    side = SIDES[name]
    if side.absent():
        pytest.skip(side.absent())
    lines = list(rows(side, case))
    assert len(lines) == (1 if side.run is None else 2)
    assert all("| fp32 |" in line for line, _ in lines)
    assert all(agrees for _, agrees in lines), lines


def test_a_runtime_that_moves_a_box_by_a_tenth_of_a_pixel_does_not_agree(case):
    wanted = case.wanted
    moved = [each.replace(boxes=each.boxes + np.float32(0.1)) for each in wanted]
    assert worst(wanted, wanted).within(ONE_TOLERANCE)
    assert not worst(wanted, moved).within(ONE_TOLERANCE)


def test_wasm_keeps_fifty_images_apart_in_a_row_and_in_parallel():
    if node_side.absent():
        pytest.skip(node_side.absent())
    model, header = tiny.graph(tiny.faster_rcnn(canvas=(64, 64)))
    batches = [preprocess(tiny.images(1, canvas=(64, 64), seed=s), header) for s in range(50)]
    content = model.SerializeToString()
    run = runner(open_session(content, "x"))
    for parallel in (False, True):
        results = node_side.run_in_node(content, batches, parallel=parallel)
        assert len(results) == 50
        for batch, outputs in zip(batches, results, strict=True):
            wanted = run(batch)
            assert outputs.keys() == wanted.keys()
            np.testing.assert_array_equal(outputs["valid"], wanted["valid"])
            np.testing.assert_allclose(outputs["boxes"], wanted["boxes"], atol=0.05)
            np.testing.assert_allclose(outputs["scores"], wanted["scores"], atol=1e-3)


def test_a_graph_that_wasm_cannot_run_is_told_in_its_words():
    if node_side.absent():
        pytest.skip(node_side.absent())
    strange = tiny.default_graph("faster_rcnn")[0]
    strange.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(RuntimeError, match="Node ended with"):
        node_side.run_in_node(strange.SerializeToString(), [])


def test_the_table_says_what_is_not_here_and_writes_what_it_prints(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(node_side, "absent", lambda: "Node is not installed")
    import dataclasses

    monkeypatch.setitem(SIDES, "wasm", dataclasses.replace(SIDES["wasm"], absent=node_side.absent))
    out = tmp_path / "table.md"
    words = [
        "--precisions",
        "fp32",
        "--count",
        "3",
        "--network",
        "resnet:10",
        "--canvas",
        "128x192",
        "--factor",
        "0.125",
    ]
    assert main([*words, "--runtimes", "onnxruntime", "wasm", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert out.read_text() == printed
    assert printed.count("| yes |") == 4
    assert printed.count("not here: Node is not installed") == 2


def test_a_trained_model_is_compared_in_the_images_of_a_folder(boxes_files, tmp_path):
    words = ["--models", str(boxes_files.model), "--images", str(boxes_files.images)]
    out = tmp_path / "table.md"
    assert main([*words, "--runtimes", "onnxruntime", "--count", "2", "--out", str(out)]) in (0, 1)
    table = out.read_text().splitlines()[2:]
    assert [line.split(" | ")[1:4] for line in table] == [
        [form, precision, "Faster R-CNN"]
        for precision in ("fp32", "fp16")
        for form in ("ordinary", "portable")
    ]
    assert all(line.endswith("| yes |") for line in table[:2])
    with pytest.raises(SystemExit):
        main(["--models", str(boxes_files.model)])
