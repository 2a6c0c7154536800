"""What to say of the anchors of a spec beside the objects of its training data."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from rcnn_jax.data import anchor_fit
from rcnn_jax.ops.anchors import cell_sizes_from_scales
from rcnn_jax.tasks.experiment import Config, Kind

_HARMLESS = 0.1  # share of objects that even good anchors may miss
_WORTHWHILE = 0.05  # share of objects that other anchors must reach in addition


@dataclass(frozen=True, slots=True)
class Advice:
    """One line about the anchors, and whether the user should act."""

    text: str
    act: bool


def anchor_advice(config: Config, kind: Kind, settings: Any, sides: np.ndarray) -> Advice:
    """Returns how many objects the anchors reach, and in the spec's words which would reach more.

    Args:
      config: of the detector.
      kind: which detector.
      settings: the task's `TwoStageSettings`.
      sides: f32[n 2], (height, width) of the training objects on the canvas; at least one.
    """
    sides = anchor_fit.thinned(sides)
    cells = {2**level: sizes for level, sizes in settings.cell_sizes}
    missed = anchor_fit.unreached(sides, cells)
    if missed <= _HARMLESS:
        return Advice(
            f"anchors reach {1 - missed:.0%} of the training objects (IoU {anchor_fit.REACHED:g})",
            act=False,
        )
    words, better = (_of_scales if kind == "faster_rcnn" else _of_octaves)(config, sides, cells)
    text = (
        f"no anchor reaches {missed:.0%} of the training objects (IoU {anchor_fit.REACHED:g}) at the "
        "size they have on the canvas"
    )
    if missed - better < _WORTHWHILE:
        return Advice(f"{text}; other anchors of this number would hardly reach more", act=False)
    return Advice(f"{text}; with {words} it would be {better:.0%}", act=True)


def _of_scales(config: Config, sides: np.ndarray, cells: dict) -> tuple[str, float]:
    """Suggests as many scales and ratios as the spec has."""
    anchors = config.model_config.anchor_box_config
    scales = anchor_fit.fit_scales(sides, len(anchors.scale))
    ratios = anchor_fit.fit_ratios(sides, len(anchors.ratio))
    (stride,) = cells
    better = anchor_fit.unreached(sides, {stride: cell_sizes_from_scales(scales, ratios)})
    listed = " ".join(
        [*(f"scale: {value:g}" for value in scales), *(f"ratio: {value:g}" for value in ratios)]
    )
    return f"anchor_box_config {{ {listed} }} (ratio is width / height)", better


def _of_octaves(config: Config, sides: np.ndarray, cells: dict) -> tuple[str, float]:
    """Suggests a base side and as many aspect ratios as the spec has."""
    network = config.maskrcnn_config
    strides = sorted(cells)
    ratios = anchor_fit.fit_ratios(sides, len(network.aspect_ratios))
    scale = anchor_fit.fit_octaves(sides, strides, network.num_scales, ratios)
    better = anchor_fit.unreached(
        sides, anchor_fit.octave_cells(scale, strides, network.num_scales, ratios)
    )
    pairs = ", ".join(f"({ratio**0.5:.2g}, {ratio**-0.5:.2g})" for ratio in ratios)
    return f'anchor_scale: {scale} and aspect_ratios: "[{pairs}]" (width, height)', better
