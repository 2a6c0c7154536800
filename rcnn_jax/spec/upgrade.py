"""Translation of TLT 2.0 specs into today's form.

TLT 2.0 (and 1.0) named the network and the data otherwise and kept everything but the network in
`training_config`; TLT 3.0 gave the spec the form that it has had since. The mapping is mechanical: a
table of moves. An old spec is read against a table of its own, today's with the old rows added,
so that its errors are reported with their lines before anything is moved.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from rcnn_jax.spec.kinds import TABLES
from rcnn_jax.spec.schema import Field, Message, block, boolean, count, real, string
from rcnn_jax.spec.text.scan import Scan
from rcnn_jax.spec.text.tokens import Token

_NOW = TABLES["faster_rcnn"]


class Move(NamedTuple):
    """A field of the old form.

    Attributes:
      old: its path.
      new: today's path.
      change: conversion of the value; None to keep it.
    """

    old: str
    new: str
    change: Callable[[Any], Any] | None = None


def _opposite(shared: bool) -> bool:
    """Batch norm's shift is the bias that a convolution then does without."""
    return not shared


def _regularizer(name: str) -> str:
    names = {"l1": "L1", "l2": "L2", "none": "NO_REG", "no_reg": "NO_REG", "": "NO_REG"}
    return names.get(name.lower(), name)


# Mechanical: no value is judged here, the checks of today's table see the result.
MOVES = (
    Move("network_config.feature_extractor", "model_config.arch"),
    Move("network_config.conv_bn_share_bias", "model_config.use_bias", _opposite),
    Move("network_config", "model_config"),
    Move("training_config.reg_config.reg_type", "training_config.regularizer.type", _regularizer),
    Move("training_config.reg_config.weight_decay", "training_config.regularizer.weight"),
    Move("training_config.reg_config", "training_config.regularizer"),
    Move("training_config.lr_scheduler", "training_config.learning_rate"),
    Move("training_config.rpn_train_bs", "training_config.rpn_mini_batch"),
    Move("training_config.kitti_data_config", "dataset_config"),
    Move("training_config.data_augmentation", "augmentation_config"),
    Move("training_config.inference_config", "inference_config"),
    Move("training_config.evaluation_config", "evaluation_config"),
)
"""Moved fields, members of a block before the block."""

_WITHOUT_COUNTERPART = {
    "evaluation_config": (
        string("labels_dump_dir", 9001, None, "Folder for label files."),
        "evaluation writes metrics; inference writes label files",
    ),
}
"""Old fields without counterpart, by block, with the reason; rows of today's tables win."""


def _now(name: str, table: Message = _NOW) -> Field:
    row = table.find(name)
    assert row is not None
    return row


def _with(table: Message, name: str, *rows: Field) -> Message:
    """Returns a table with further rows, unless it has fields of their names."""
    added = tuple(row for row in rows if table.find(row.name) is None)
    return Message(name, table.doc, (*table.fields, *added))


def _old_table() -> Message:
    training, evaluation = _now("training_config").table, _now("evaluation_config")
    evaluation = replace(
        evaluation,
        message=_with(
            evaluation.table, "OldEvaluation", _WITHOUT_COUNTERPART["evaluation_config"][0]
        ),
    )
    regularizer = Message(
        "OldRegularizer",
        "Weight penalty.",
        (
            string("reg_type", 1, None, "Kind of penalty."),
            real("weight_decay", 2, None, "Weight of the penalty."),
        ),
    )
    network = _with(
        _now("model_config").table,
        "OldNetwork",
        string("feature_extractor", 9001, None, "Backbone."),
        boolean("conv_bn_share_bias", 9002, False, "Convolutions have no bias of their own."),
    )
    training = _with(
        training,
        "OldTraining",
        replace(_now("dataset_config"), name="kitti_data_config", number=9001),
        replace(_now("augmentation_config"), name="data_augmentation", number=9002),
        block("reg_config", 9003, regularizer, "Weight penalty."),
        replace(_now("learning_rate", training), name="lr_scheduler", number=9004),
        count("rpn_train_bs", 9005, None, "Anchors per image that train the RPN."),
        replace(_now("inference_config"), number=9006),
        replace(evaluation, number=9007),
    )
    others = tuple(
        row for row in _NOW.fields if row.name not in ("training_config", "evaluation_config")
    )
    return Message(
        "OldExperiment",
        "A Faster R-CNN experiment of TLT 2.0.",
        (
            *others,
            block("network_config", 9001, network, "The network."),
            replace(_now("training_config"), message=training),
            evaluation,
        ),
    )


OLD_EXPERIMENT = _old_table()
"""The table of the old form; today's fields are read too, for specs that somebody began to change."""

# Names that no spec of later generations has, at any level.
_MARKS = frozenset(
    ("network_config", "kitti_data_config", "data_augmentation", "reg_config", "lr_scheduler")
)


def is_old(tokens: list[Token]) -> bool:
    """Returns whether the tokens are those of a TLT 2.0 spec."""
    return any(
        token.kind == "name" and token.text in _MARKS and following.is_mark(":", "{", "<")
        for token, following in zip(tokens, tokens[1:], strict=False)
    )


def upgrade(form: Scan) -> tuple[Scan, list[str]]:
    """Returns an old spec in today's form, and a sentence for each field without counterpart.

    Args:
      form: from `scan` with `OLD_EXPERIMENT`; its values are moved.
    """
    values, dropped = form.values, []
    network = values.get("network_config", {})
    if network and not {"conv_bn_share_bias", "use_bias"} & set(network):
        # Written out before the moves: absence meant false, and today's counterpart is its
        # opposite.
        network["conv_bn_share_bias"] = False  # an absent boolean was false
        dropped.append(
            "network_config.conv_bn_share_bias is not given, which was false: model_config.use_bias "
            "is true"
        )
    # In the order of the list: members leave a block before the rest of it moves as a whole.
    for move in MOVES:
        present, value = _taken(values, move.old)
        if present:
            lost = _put(values, move.new, move.change(value) if move.change else value)
            dropped += [
                f"{move.old}{end} is left out: {move.new}{end} is given too" for end in lost
            ]
    for name, (row, reason) in _WITHOUT_COUNTERPART.items():
        # A field that today's table has got meanwhile is no longer dropped.
        if _now(name).table.find(row.name) is None and _taken(values, f"{name}.{row.name}")[0]:
            dropped.append(f"{name}.{row.name} has no counterpart: {reason}")
    return replace(form, positions={_path_now(p): at for p, at in form.positions.items()}), dropped


def _taken(values: dict[str, Any], path: str) -> tuple[bool, Any]:
    """Removes the value of a path; returns (whether there was one, value)."""
    *blocks, last = path.split(".")
    for name in blocks:
        values = values.get(name, {})
    return last in values, values.pop(last, None)


def _put(values: dict[str, Any], path: str, value: Any) -> list[str]:
    """Sets the value of a path unless it has one; blocks are merged.

    Returns:
      The ends of the paths whose value was dropped: behind the path, or "" for the path itself.
    """
    *blocks, last = path.split(".")
    for name in blocks:
        values = values.setdefault(name, {})
    if last not in values:
        values[last] = value
        return []
    # A single value is given in both forms: the one in today's form counts, the other is reported.
    if not isinstance(value, dict):
        return [""]
    present = values[last]
    lost = [f".{name}" for name in value if name in present]
    # A value in today's form wins: somebody has begun to change the file by hand.
    values[last] = {**value, **present}
    return lost


def _path_now(path: str) -> str:
    for move in MOVES:
        rest = path.removeprefix(move.old)
        # Whole components only: a longer field name that begins alike is another field.
        if rest != path and rest[:1] in ("", ".", "["):
            return move.new + rest
    return path
