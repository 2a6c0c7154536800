"""Aims of training and prediction: what a report calls met or missed, in one place.

Each judges what a report holds of a benchmark, so that an aim that has been raised judges the recorded
reports too: `python -m benchmarks.report FILE.json`.
"""

import copy
from collections.abc import Mapping
from typing import Any

from benchmarks.detectors import FASTER, KITTI_NAME, MASK
from benchmarks.results import Aim

COMPILE_SECONDS = 15.0
"""Of a training step on a CPU, for every detector."""

_CPU_RATIOS = {MASK: 1.0, FASTER: 1.0, KITTI_NAME: 0.8}
"""{detector: time of torchvision over ours}; the tail of the last one, on 300 crops, is no peer's."""

ACCELERATOR_RATIO = 4.0
IMAGES_PER_SECOND = 160.0
"""Mask R-CNN of 832x1344, bfloat16, trained batch norm, on one H200."""


def training_aims(one: Mapping[str, Any], platform: str) -> tuple[Aim, ...]:
    """Returns the aims of a training step.

    Args:
      one: `Benchmark.to_json()`.
      platform: of the device, for example `cpu`.
    """
    aims = []
    seconds = one["sides"][0]["compile_seconds"] if one["sides"] else None
    if platform == "cpu" and seconds is not None:
        what = "compile time of the step on a CPU"
        aims.append(_aim(one, what, seconds, "at most", COMPILE_SECONDS, "s"))
    if platform == "cpu":
        return (*aims, *_ratio(one, _CPU_RATIOS))
    aims += _ratio(one, dict.fromkeys((MASK, FASTER), ACCELERATOR_RATIO))
    if MASK in one["name"] and one["parameters"]["precision"] == "bfloat16":
        rate = one["images"] / one["sides"][0]["median"]
        aims.append(_aim(one, "images per second", rate, "at least", IMAGES_PER_SECOND, "img/s"))
    return tuple(aims)


def prediction_aims(one: Mapping[str, Any], platform: str) -> tuple[Aim, ...]:
    """Returns the aims of a prediction; see `training_aims`."""
    return _ratio(one, _CPU_RATIOS) if platform == "cpu" else ()


def with_aims(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the content of a report with its training and prediction judged by the aims above."""
    content = copy.deepcopy(dict(content))
    rules = {"train": training_aims, "predict": prediction_aims}
    for suite in content["suites"]:
        if suite["suite"] in rules and suite["device"]:
            platform = suite["device"]["platform"]
            for one in suite["benchmarks"]:
                aims = rules[suite["suite"]](one, platform)
                one["aims"] = [aim.to_json() for aim in aims]
    return content


def _ratio(one: Mapping[str, Any], limits: Mapping[str, float]) -> tuple[Aim, ...]:
    limit = next((limit for name, limit in limits.items() if name in one["name"]), None)
    if limit is None or not one["ratios"]:
        return ()
    # Against the fastest variant of the peer.
    value = min(one["ratios"].values())
    return (_aim(one, "time of torchvision over ours", value, "at least", limit, ""),)


def _aim(
    one: Mapping[str, Any], what: str, value: float, relation: Any, limit: float, unit: str
) -> Aim:
    return Aim(
        what=f"{one['name']}: {what}", value=value, relation=relation, limit=limit, unit=unit
    )
