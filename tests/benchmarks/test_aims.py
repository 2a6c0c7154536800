"""Aims of training and prediction: their limits, and that reports on record are judged by them."""

import json
from pathlib import Path

import pytest

from benchmarks.aims import prediction_aims, training_aims, with_aims

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
REPORTS = sorted(RESULTS.glob("*.json"))


def benchmark(name, ratio=0.9, compile_seconds=20.0):
    return {
        "name": name,
        "parameters": {"precision": "bfloat16"},
        "sides": [{"compile_seconds": compile_seconds, "median": 0.05}],
        "ratios": {"torchvision": ratio, "torchvision bf16": ratio + 1},
        "images": 8,
    }


def limits(aims):
    return {aim.what.rpartition(": ")[2]: (aim.limit, aim.met) for aim in aims}


@pytest.mark.parametrize("name", ["Mask R-CNN R50-FPN, 832x1344", "Faster R-CNN R50-FPN, 320x320"])
def test_on_a_cpu_a_pyramid_is_to_be_level_with_torchvision(name):
    one = benchmark(f"train {name}, batch 1")
    assert limits(training_aims(one, "cpu")) == {
        "compile time of the step on a CPU": (15.0, False),
        "time of torchvision over ours": (1.0, False),
    }
    one = benchmark(f"predict {name}, batch 1", ratio=1.0)
    assert limits(prediction_aims(one, "cpu")) == {"time of torchvision over ours": (1.0, True)}


def test_the_detector_of_one_map_has_an_aim_of_its_own():
    one = benchmark("train Faster R-CNN R18, 384x1248, batch 1", ratio=0.8, compile_seconds=6.0)
    assert limits(training_aims(one, "cpu")) == {
        "compile time of the step on a CPU": (15.0, True),
        "time of torchvision over ours": (0.8, True),
    }
    one = benchmark("predict Faster R-CNN R18, 384x1248, batch 1", ratio=0.79)
    assert limits(prediction_aims(one, "cpu")) == {"time of torchvision over ours": (0.8, False)}


def test_on_a_gpu_images_count_too():
    one = benchmark("train Mask R-CNN R50-FPN, 832x1344, batch 8", ratio=4.5)
    assert limits(training_aims(one, "gpu")) == {
        "time of torchvision over ours": (4.0, True),
        "images per second": (160.0, True),
    }
    assert prediction_aims(one, "gpu") == ()


@pytest.mark.parametrize("path", REPORTS, ids=lambda path: path.stem)
def test_a_report_on_record_is_judged_by_the_aims_of_today(path):
    content = json.loads(path.read_text())
    assert with_aims(content) == content, f"python -m benchmarks.report {path}"
    page = path.with_suffix(".md").read_text()
    aims = [
        aim for suite in content["suites"] for one in suite["benchmarks"] for aim in one["aims"]
    ]
    assert page.count("**missed**") == sum(not aim["met"] for aim in aims)
    assert all(aim["what"] in page for aim in aims)
