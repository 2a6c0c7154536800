"""Every suite at its smallest size, in process and without peers; times are not looked at."""

import numpy as np
import pytest

from benchmarks import absent_gpu, detectors, ops
from benchmarks.options import SIZES, Options
from benchmarks.suite import NAMES, ON_REQUEST, load_suite
from rcnn_jax.errors import SpecError

TINY = Options(size="tiny", peers=False)


def run_all(name, options=TINY):
    return [case.run().to_json() for case in load_suite(name, options)]


@pytest.mark.parametrize("name", ["ops", "predict", "train"])
def test_compiled_benchmarks_state_compile_time_and_memory(name):
    benchmarks = run_all(name)
    assert benchmarks
    for one in benchmarks:
        (ours,) = one["sides"]
        assert ours["name"] == "rcnn_jax"
        assert len(ours["seconds"]) == 2
        assert min(ours["seconds"]) > 0
        assert ours["compile_seconds"] > 0
        assert ours["temp_bytes"] >= 0


def test_loader_is_measured_plain_augmented_and_composed():
    benchmarks = run_all("data")
    assert [one["parameters"]["augmented"] for one in benchmarks] == [False, True, True]
    assert all(one["images"] == 4 for one in benchmarks)


def test_names_are_unique_at_every_size():
    for size in SIZES:
        for suite in (*NAMES, *ON_REQUEST):
            names = [case.name for case in load_suite(suite, Options(size=size))]
            assert names
            assert len(set(names)) == len(names)


def test_exported_graph_is_measured_beside_jax():
    for one in run_all("export"):
        assert [side["name"] for side in one["sides"]] == ["rcnn_jax", "onnxruntime"]
        assert one["parameters"]["file"].endswith(" MB")


def test_growth_is_measured_at_three_sizes():
    (case, *_) = load_suite("growth", TINY)
    one = case.run().to_json()
    assert [side["name"] for side in one["sides"]] == ["x1", "x4", "x16"]
    assert one["parameters"]["rois"] == "16 64 256"
    assert len(one["aims"]) == 2


def test_compiled_step_updates_its_state_in_place():
    case = load_suite("compile", TINY)[1]
    rows = dict(case.run().table.rows)
    updated, total = rows["buffers of the state that are updated in place"].split(" of ")
    # The root key goes through unchanged, and the sums of an epoch may be made anew.
    assert int(total) - int(updated) <= 1
    assert "f32" in rows["convolutions"]


def test_step_is_compiled_for_a_gpu_that_is_absent():
    pytest.importorskip("jax_cuda13_plugin", reason="JAX's CUDA plugin compiles for a GPU")
    one = load_suite("compile", TINY)[-1].run()
    assert one.parameters["compiled for"] == absent_gpu.NAME
    assert dict(one.table.rows)["compile"].endswith(" s")


def test_without_a_plugin_no_gpu_is_made_up(monkeypatch):
    monkeypatch.setattr(absent_gpu, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="CUDA plugin is not installed"):
        load_suite("compile", TINY)[-1].run()


def test_spec_without_fixed_canvas_is_refused():
    spec = detectors.ROOT / "configs" / "faster_rcnn" / "voc_resnet50.txt"
    options = Options(spec=str(spec), peers=False)
    (case,) = load_suite("predict", options)
    with pytest.raises(SpecError, match="benchmarks need size_height_width"):
        case.run()


def test_rois_lie_inside_the_image():
    size = ops.TABLE_ROI[0]
    boxes = ops.random_rois(size)
    assert boxes.shape == (1, size.rois, 4)
    assert (boxes[..., 2:] > boxes[..., :2]).all()
    assert boxes.min() >= 0
    assert (boxes[..., 2:] <= np.array((size.height, size.width)) + 1e-3).all()


def test_boxes_of_nms_overlap_and_tie():
    boxes, scores = ops.clustered_boxes(2, 400)
    assert boxes.shape == (2, 400, 4)
    assert len(np.unique(scores[0])) < 400
    kept = ops.batched_nms(
        boxes, scores, np.ones_like(scores, bool), threshold=ops.THRESHOLD, max_keep=400
    )[1]
    assert 0 < int(np.sum(kept)) < 800
