"""Advice on the anchors of a spec, from the sizes of its training objects."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rcnn_jax.data import anchor_fit
from rcnn_jax.kinds import Kind
from rcnn_jax.ops.anchors import cell_sizes_from_scales, cells_inside
from rcnn_jax.tasks.two_stage import TwoStageSettings

_HARMLESS = 0.1  # fraction of objects that even good anchors may miss
_SELDOM = 0.1  # fraction of the cells
_WORTHWHILE = 0.05  # fraction of objects that other anchors must reach in addition


@dataclass(frozen=True, slots=True)
class Advice:
    """Advice in one line, and whether it asks the user to act."""

    text: str
    act: bool


def anchor_advice(
    fields: Mapping[str, Any], kind: Kind, settings: TwoStageSettings, sides: np.ndarray
) -> Advice:
    """Returns how many objects the anchors reach, and in the spec's words which would reach more.

    Args:
      fields: of the spec, by name.
      kind: which detector.
      settings: of the task.
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
    # The same number of anchors: more always reach more, but change the width of the RPN's layers,
    # and starting weights would no longer fit.
    words, better = (_of_scales if kind == "faster_rcnn" else _of_octaves)(fields, sides, cells)
    text = (
        f"no anchor reaches {missed:.0%} of the training objects (IoU {anchor_fit.REACHED:g}) at the "
        "size they have on the canvas"
    )
    # Small objects on a coarse map stay out of reach whatever the sizes: no advice is better than
    # one that changes nothing.
    if missed - better < _WORTHWHILE:
        return Advice(f"{text}; other anchors of this number would hardly reach more", act=False)
    return Advice(f"{text}; with {words} it would be {better:.0%}", act=True)


def outside_advice(settings: TwoStageSettings, canvas: tuple[int, int]) -> Advice | None:
    """Returns advice on anchors that lie inside the canvas in few cells or nowhere.

    Args:
      settings: of the task.
      canvas: (height, width) of the network input.
    """
    rule = settings.rpn_targets.outside
    if rule == "train":
        return None
    nowhere, seldom = [], []
    for level, sizes in settings.cell_sizes:
        # Rounded up, as convolutions of stride 2 with padding round.
        rows, columns = (-(-side // 2**level) for side in canvas)
        counts = cells_inside((rows, columns), 2**level, sizes, settings.anchor_convention, canvas)
        for (height, width), count in zip(sizes, counts.tolist(), strict=True):
            if not count:
                nowhere.append(f"{height:.0f} x {width:.0f}")
            elif count < _SELDOM * rows * columns:
                seldom.append(f"{height:.0f} x {width:.0f} ({count} of {rows * columns} cells)")
    if not nowhere and not seldom:
        return None
    parts = []
    if nowhere:
        fate = {
            "auto": "are trained although they leave the image",
            "ignore": "are never positive and propose nothing (outside_anchors: 'train' trains them)",
        }[rule]
        parts.append(
            f"anchors of {', '.join(nowhere)} pixels (height x width) lie inside the canvas of "
            f"{canvas[0]} x {canvas[1]} nowhere: they {fate}"
        )
    if seldom:
        parts.append(
            f"anchors that lie inside in few cells are trained in those alone: {', '.join(seldom)}; "
            "outside_anchors: 'train' trains them everywhere"
        )
    # Only `ignore` loses objects in silence: under `auto` the sizes are trained after all.
    return Advice("; ".join(parts), act=bool(nowhere) and rule == "ignore")


def _of_scales(fields: Mapping[str, Any], sides: np.ndarray, cells: dict) -> tuple[str, float]:
    """Suggests as many scales and ratios as the spec has."""
    anchors = fields["model_config"]["anchor_box_config"]
    scales = anchor_fit.fit_scales(sides, len(anchors["scale"]))
    ratios = anchor_fit.fit_ratios(sides, len(anchors["ratio"]))
    # Faster R-CNN has one level; another number would be a mistake of the caller.
    (stride,) = cells
    better = anchor_fit.unreached(sides, {stride: cell_sizes_from_scales(scales, ratios)})
    listed = " ".join(
        [*(f"scale: {value:g}" for value in scales), *(f"ratio: {value:g}" for value in ratios)]
    )
    return f"anchor_box_config {{ {listed} }} (ratio is width / height)", better


def _of_octaves(fields: Mapping[str, Any], sides: np.ndarray, cells: dict) -> tuple[str, float]:
    """Suggests a base side and as many aspect ratios as the spec has."""
    network = fields["maskrcnn_config"]
    strides = sorted(cells)
    ratios = anchor_fit.fit_ratios(sides, len(network["aspect_ratios"]))
    scale = anchor_fit.fit_octaves(sides, strides, network["num_scales"], ratios)
    better = anchor_fit.unreached(
        sides, anchor_fit.octave_cells(scale, strides, network["num_scales"], ratios)
    )
    # The square root of the ratio and its inverse: area 1, so `anchor_scale` stays the side.
    pairs = ", ".join(f"({ratio**0.5:.2g}, {ratio**-0.5:.2g})" for ratio in ratios)
    return f'anchor_scale: {scale} and aspect_ratios: "[{pairs}]" (width, height)', better
