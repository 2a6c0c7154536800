"""Conventions of a detectron2 model: its config.yaml, or the defaults of the model zoo.

A config may hold tags that ask a YAML reader to make Python objects; here it is data: such nodes become
the plain scalars, lists and maps that they are written as.

Source: docs/from_detectron2.md, "What is taken for granted".
"""

import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from rcnn_jax.checkpoints.layout import Layout
from rcnn_jax.checkpoints.taken_for_granted import Granted, coco_categories, ratio_factors
from rcnn_jax.errors import CheckpointError
from rcnn_jax.printable import reason
from rcnn_jax.text_file import read_text

MOST_CONFIG = 1 << 18
"""Bytes of a config; those of the zoo have 10,000. PyYAML reads a megabyte in eight seconds."""
# P2 to P6, which `build_resnet_fpn_backbone` always gives.
_LEVELS = 5
# Not repr(): aliases let a few lines of YAML stand for gigabytes of text, and reprlib's own limits for
# half a megabyte.
_SHORT = reprlib.Repr()
_SHORT.maxlevel = 2

DEFAULTS: Mapping[str, Any] = {
    "MODEL.META_ARCHITECTURE": "GeneralizedRCNN",
    "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone",
    # Of the Caffe backbones (MSRA) that the zoo started from: BGR in 0 to 255, divisor 1, and the
    # stride in the first 1x1. They come together; torchvision's backbones have none of the three.
    "MODEL.PIXEL_MEAN": [103.53, 116.28, 123.675],
    "MODEL.PIXEL_STD": [1.0, 1.0, 1.0],
    "MODEL.RESNETS.STRIDE_IN_1X1": True,
    "MODEL.RESNETS.NUM_GROUPS": 1,
    "MODEL.RESNETS.RES5_DILATION": 1,
    "MODEL.RESNETS.DEFORM_ON_PER_STAGE": [False, False, False, False],
    "MODEL.FPN.FUSE_TYPE": "sum",
    "MODEL.ANCHOR_GENERATOR.SIZES": [[32], [64], [128], [256], [512]],
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [[0.5, 1.0, 2.0]],
    # In strides: anchors lie on the corners of cells, not in their middle.
    "MODEL.ANCHOR_GENERATOR.OFFSET": 0.0,
    "MODEL.RPN.BBOX_REG_WEIGHTS": [1.0, 1.0, 1.0, 1.0],
    "MODEL.RPN.NMS_THRESH": 0.7,
    # Of a level, not of an image; base configs of models without a pyramid have 6000.
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 1000,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 1000,
    "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
    # No default: the zoo's 80 would refuse every fine-tuned model, and the layers know it.
    "MODEL.ROI_HEADS.NUM_CLASSES": None,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.05,
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": 0.5,
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": "ROIAlignV2",
    # 0 is adaptive: as many samples as a cell of the crop has cells of the map.
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": 0,
    "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS": [10.0, 10.0, 5.0, 5.0],
    "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": False,
    "MODEL.ROI_MASK_HEAD.POOLER_TYPE": "ROIAlignV2",
    "MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO": 0,
    "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": 14,
    "MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK": False,
    "INPUT.FORMAT": "BGR",
    "INPUT.MIN_SIZE_TEST": 800,
    "INPUT.MAX_SIZE_TEST": 1333,
    "TEST.DETECTIONS_PER_IMAGE": 100,
}
"""The values of the zoo's FPN models, for every entry that is read."""

_REQUIRED = (
    # Nearly all of these change what is computed and no shape of a weight: a model would run and be
    # wrong.
    "MODEL.META_ARCHITECTURE",
    "MODEL.BACKBONE.NAME",
    "MODEL.RESNETS.NUM_GROUPS",
    "MODEL.RESNETS.RES5_DILATION",
    "MODEL.RESNETS.DEFORM_ON_PER_STAGE",
    "MODEL.FPN.FUSE_TYPE",
    "MODEL.ANCHOR_GENERATOR.OFFSET",
    "MODEL.RPN.BBOX_REG_WEIGHTS",
    "MODEL.ROI_HEADS.NAME",
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE",
    "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG",
)
"""Entries that this network has at one value only: that of DEFAULTS."""
_REQUIRED_OF_MASKS = (
    "MODEL.ROI_MASK_HEAD.POOLER_TYPE",
    "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION",
    "MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK",
)


# More than YAMLError: dates that do not exist, nesting without end and values that are not what their tag
# says (`!!bool maybe`) come out of PyYAML as what Python raised.
_UNREADABLE = (
    yaml.YAMLError,
    *(ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError),
)


class _InertLoader(yaml.SafeLoader):
    """Reads every tag of Python's objects as the plain node that carries it."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Does not merge, so that a merge key is refused: merges of merges grow without bound."""


def _plain(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> Any:
    del suffix
    if isinstance(node, yaml.MappingNode):
        values = loader.construct_mapping(node, deep=True)
        # The items alone: beside them such a node carries the state of a Python object.
        return values.get("dictitems", values)  # how a CfgNode is dumped as an object
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    # Text, even of a number: under a tag of Python's the loader does not look at the form of a
    # scalar.
    assert isinstance(node, yaml.ScalarNode)
    return loader.construct_scalar(node)


# All tags, not a list of harmless ones: configs are dumped with the classes of whoever trained.
_InertLoader.add_multi_constructor("tag:yaml.org,2002:python/", _plain)
_InertLoader.add_multi_constructor("!", _plain)


def read_config(path: Path) -> dict[str, Any]:
    """Returns {dotted name: value} of the entries of a config that count, without running anything.

    Raises:
      CheckpointError: no such file, or no YAML map.
    """
    text = read_text(path, "config", CheckpointError, limit=MOST_CONFIG)
    try:
        tree = yaml.load(text, _InertLoader)  # noqa: S506 the loader makes plain values only
    except _UNREADABLE as error:
        where = getattr(error, "problem_mark", None)
        line = f":{where.line + 1}" if where is not None else ""
        what = getattr(error, "problem", None) or reason(error)
        raise CheckpointError(f"{path}{line}: is not readable as YAML: {what}") from error
    if not isinstance(tree, dict) or "MODEL" not in tree:
        raise CheckpointError(
            f"{path}: is no config of detectron2: expected a map with the entry MODEL"
        )
    # Only what is read: a config has 200 entries, and most of them are about training.
    fields = {name: _at(tree, name) for name in (*DEFAULTS, "_BASE_")}
    # An empty entry (`SIZES:`) is None, which must not hide the zoo's value.
    return {name: value for name, value in fields.items() if value is not None}


def _at(tree: Any, name: str) -> Any:
    # None of a missing branch falls through the rest, so a short config needs no special case.
    for part in name.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def detectron2_settings(layout: Layout, config: Mapping[str, Any] | None, where: str) -> Granted:
    """Returns the settings of a model of detectron2.

    Args:
      layout: of its layers.
      config: of `read_config`; None takes the values of the zoo and says so.
      where: the config or the checkpoint, begins every message.

    Raises:
      CheckpointError: the config asks for what this network does not have, or is of another model.
    """
    entries = {**DEFAULTS, **(config or {})}
    _refuse(layout, entries, where)
    order = {"BGR": "bgr", "RGB": "rgb"}.get(str(entries["INPUT.FORMAT"]))
    if order is None:
        raise _wrong(where, "INPUT.FORMAT", entries, "BGR or RGB")
    mean = _numbers(entries, "MODEL.PIXEL_MEAN", 3, where)
    std = _numbers(entries, "MODEL.PIXEL_STD", 3, where)
    # The library's order is x first, as its deltas are; the spec's is y first.
    x, y, w, h = _numbers(entries, "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS", 4, where)
    strides = entries["MODEL.RESNETS.STRIDE_IN_1X1"]
    network = {
        "convention": '"detectron2"',
        "pixel_order": f'"{order}"',
        "pixel_mean": f'"{list(mean)}"',
        "pixel_std": f'"{list(std)}"',
        "bottleneck_stride": '"1x1"' if strides else '"3x3"',
        "roi_sampling_ratio": f"{_samples(layout, entries, where)}",
        # Norm in pyramid or heads means a model that trained its statistics; the zoo's are frozen.
        "freeze_bn": "false" if layout.fpn_norm or layout.head_norm else "true",
        "aspect_ratios": ratio_factors(_ratios(entries, where)),
        "anchor_scale": f"{_anchor_scale(entries, where)}",
        "bbox_reg_weights": f'"({y!r}, {x!r}, {h!r}, {w!r})"',
        "test_rpn_pre_nms_topn": f"{_count(entries, 'MODEL.RPN.PRE_NMS_TOPK_TEST', where)}",
        "test_rpn_post_nms_topn": f"{_count(entries, 'MODEL.RPN.POST_NMS_TOPK_TEST', where)}",
        # Written by repr, which float() reads back to the same bits.
        "test_rpn_nms_thresh": f"{_number(entries, 'MODEL.RPN.NMS_THRESH', where)!r}",
        "test_nms": f"{_number(entries, 'MODEL.ROI_HEADS.NMS_THRESH_TEST', where)!r}",
        "test_score_threshold": f"{_number(entries, 'MODEL.ROI_HEADS.SCORE_THRESH_TEST', where)!r}",
        "test_detections_per_image": f"{_count(entries, 'TEST.DETECTIONS_PER_IMAGE', where)}",
    }
    return Granted(
        source="detectron2",
        network=network,
        short_side=_count(entries, "INPUT.MIN_SIZE_TEST", where),
        long_side=_count(entries, "INPUT.MAX_SIZE_TEST", where),
        bn_eps=1e-5,
        notes=_notes(config, entries, order),
        categories=coco_categories(layout.classes) if layout.classes == 80 else None,
    )


def _notes(
    config: Mapping[str, Any] | None, entries: Mapping[str, Any], order: str
) -> tuple[str, ...]:
    stride = "1x1" if entries["MODEL.RESNETS.STRIDE_IN_1X1"] else "3x3"
    values = (
        f"pixels {order.upper()}, mean {list(entries['MODEL.PIXEL_MEAN'])}, divisor "
        f"{list(entries['MODEL.PIXEL_STD'])}, strides in the {stride} convolutions"
    )
    if config is None:
        return (
            f"taken from the model zoo, because no shape shows it: {values}. A model that started from a "
            "backbone of torchvision differs: give its config.yaml with --config",
        )
    missing = sorted(DEFAULTS.keys() - config.keys() - {"MODEL.ROI_HEADS.NUM_CLASSES"})
    notes = [f"from the config: {values}"]
    if missing:
        base = f"; its _BASE_ {config['_BASE_']} is not read" if "_BASE_" in config else ""
        notes.append(
            f"the config does not name {len(missing)} of the entries, which are those of the zoo{base}: "
            f"{', '.join(missing[:4])}{', ...' if len(missing) > 4 else ''}"
        )
    return tuple(notes)


def _refuse(layout: Layout, entries: Mapping[str, Any], where: str) -> None:
    for name in (*_REQUIRED, *(_REQUIRED_OF_MASKS if layout.masks else ())):
        if entries[name] != DEFAULTS[name]:
            raise _wrong(where, name, entries, repr(DEFAULTS[name]))
    # Mostly a config of another run in the same folder; nothing else in it need differ visibly.
    classes = entries["MODEL.ROI_HEADS.NUM_CLASSES"]
    if classes is not None and classes != layout.classes:
        raise _wrong(
            where, "MODEL.ROI_HEADS.NUM_CLASSES", entries, f"the {layout.classes} of the file"
        )


def _samples(layout: Layout, entries: Mapping[str, Any], where: str) -> int:
    """Returns the samples of RoIAlign, which box and mask head share here."""
    name = "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO"
    value = _count(entries, name, where, least=0)
    other = entries["MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO"]
    # The entry stands in configs without masks too, at whatever value, and has no effect there.
    if layout.masks and other != value:
        raise _wrong(
            where, "MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO", entries, f"{value} as in {name}"
        )
    return value


def _ratios(entries: Mapping[str, Any], where: str) -> tuple[float, ...]:
    name = "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS"
    rows = entries[name]
    # The library lets every level have its own ratios. Here all levels share one set, as they share
    # one RPN head.
    if not isinstance(rows, list) or not rows or any(row != rows[0] for row in rows):
        raise _wrong(where, name, entries, "the same ratios on every level")
    return _floats(rows[0], entries, name, where)


def _anchor_scale(entries: Mapping[str, Any], where: str) -> int:
    """Returns the side of anchors in strides: one size a level, twice that of the level before."""
    name = "MODEL.ANCHOR_GENERATOR.SIZES"
    rows = entries[name]
    wanted = f"one size for each of {_LEVELS} levels, doubling, a multiple of the stride"
    if not isinstance(rows, list) or len(rows) != _LEVELS:
        raise _wrong(where, name, entries, wanted)
    sides = [_floats(row, entries, name, where) for row in rows]
    # Level 2 has a stride of 4. One scale for all levels is what doubling sizes come to.
    scales = {side[0] / 2.0 ** (2 + level) for level, side in enumerate(sides)}
    scale = min(scales)
    if len(scales) != 1 or any(len(side) != 1 for side in sides) or scale != int(scale):
        raise _wrong(where, name, entries, wanted)
    return int(scale)


def _floats(values: Any, entries: Mapping[str, Any], name: str, where: str) -> tuple[float, ...]:
    values = values if isinstance(values, list | tuple) else [values]
    sound = [
        float(value)
        for value in values
        # By type, not isinstance: YAML's `true` would pass as the integer 1. The bound keeps forged
        # values out of the arithmetic, where they would overflow far from this message; no `isfinite`,
        # which a whole number of 400 digits overflows.
        if type(value) in (int, float) and 0 < value < 1e6
    ]
    if not sound or len(sound) != len(values):
        raise _wrong(where, name, entries, "numbers above 0")
    return tuple(sound)


def _numbers(entries: Mapping[str, Any], name: str, count: int, where: str) -> tuple[float, ...]:
    values = entries[name]
    # Of the right number too: a mean of one value would broadcast over three channels in silence.
    sound = isinstance(values, list | tuple) and all(
        type(value) in (int, float) and 0 <= value < 1e6 for value in values
    )
    if not sound or len(values) != count:
        raise _wrong(where, name, entries, f"{count} numbers")
    return tuple(float(value) for value in values)


def _number(entries: Mapping[str, Any], name: str, where: str) -> float:
    value = entries[name]
    if type(value) not in (int, float) or not 0.0 <= value < 1.0:
        raise _wrong(where, name, entries, "a number in [0, 1)")
    return float(value)


def _count(entries: Mapping[str, Any], name: str, where: str, least: int = 1) -> int:
    value = entries[name]
    # Below 2**20: counts become static shapes, and a forged one would be memory.
    if type(value) is not int or not least <= value < 1 << 20:
        raise _wrong(where, name, entries, f"a whole number from {least} on")
    return value


def _wrong(where: str, name: str, entries: Mapping[str, Any], expected: str) -> CheckpointError:
    shown = _SHORT.repr(entries[name])
    return CheckpointError(
        f"{where}: {name} is {shown}, expected {expected}: the model cannot be built"
    )
