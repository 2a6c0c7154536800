"""Predictor rows by class name: a model of other classes gives what it knows to those that both have.

    file: person, car, motorcycle     spec: helmet, motorbike, person
    rows of the spec:                 fresh, motorcycle's, person's; background's

The predictors of another set of classes have another shape, or the same shape in another order, which is
worse. A column of `kernel` and `bias` belongs to a class; boxes have four.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rcnn_jax.checkpoints.schemes import Weights

_COLUMNS = {
    "class-predict": 1,
    **{f"class-predict-{head}": 1 for head in (2, 3, 4)},  # of a cascade
    "box-predict": 4,
    "mask_fcn_logits": 1,
    "dense_class_td": 1,
    "dense_regress_td": 4,
}
"""{predictor: outputs for a class}; a slot more than there are classes is the background's, the last."""

_SAME = (
    # The first name of a row stands for all. Only what is one thing: van and car, or cyclist and
    # person, overlap, and taking such rows would start a class on another's decision.
    ("person", "people", "human", "pedestrian"),
    ("motorcycle", "motorbike"),
    ("airplane", "aeroplane", "plane"),
    ("car", "automobile"),
    ("bicycle", "bike"),
    ("couch", "sofa"),
    ("tv", "tvmonitor", "television", "tv monitor"),
    ("potted plant", "houseplant"),
    ("cell phone", "mobile phone", "mobile", "phone"),
    ("hair drier", "hair dryer"),
    ("donut", "doughnut"),
    ("refrigerator", "fridge"),
    ("dining table", "table"),
    ("traffic light", "stoplight"),
    ("backpack", "rucksack"),
    ("cow", "cattle"),
)
"""Names of one thing in COCO, Pascal VOC, Open Images and KITTI."""


class Matches(NamedTuple):
    """Which classes took rows of a file.

    Attributes:
      taken: ((class of the model, class of the file), ...) in the order of the model.
      fresh: classes of the model that the file does not know.
      layers: predictors whose rows were matched.
    """

    taken: tuple[tuple[str, str], ...]
    fresh: tuple[str, ...]
    layers: tuple[str, ...]

    def sentences(self, limit: int = 12) -> list[str]:
        """Returns messages for the user, a sentence each."""
        named = [ours if ours == theirs else f"{ours} (as {theirs})" for ours, theirs in self.taken]
        layers = ", ".join(self.layers)
        lines = []
        if named:
            lines.append(
                f"rows taken from the file by class name in {layers}: {_listed(named, limit)}"
            )
        if self.fresh:
            lines.append(f"rows that start anew: {_listed(self.fresh, limit)}")
        return lines


def match_rows(
    weights: Weights,
    params: Mapping[str, Mapping[str, Any]],
    theirs: Sequence[str],
    ours: Sequence[str],
) -> tuple[Weights, Matches]:
    """Returns weights whose predictors have the classes of the model, and which took their rows.

    Args:
      weights: of a file; layers other than the predictors stay.
      params: fresh ones of the model, {layer: {leaf: array}}; they fill the rows of other classes.
      theirs: classes of the file, background excluded.
      ours: classes of the model.
    """
    # Reversed, so that of two classes with the same plain name the first one stays.
    known = {_plain(name): index for index, name in reversed(list(enumerate(theirs)))}
    # Slots of ids that nobody uses would match each other by name; their rows were never trained.
    positions = [known.get(_plain(name)) if not _is_unused(name) else None for name in ours]
    result, layers = dict(weights), []
    for layer, per_class in _COLUMNS.items():
        # A file without masks, or a model without: then there is nothing to match and no error.
        if layer in weights and layer in params:
            leaves = _matched(weights[layer], params[layer], positions, len(theirs), per_class)
            if leaves is not None:
                result[layer] = leaves
                layers.append(layer)
    taken = tuple(
        (name, theirs[position])
        for name, position in zip(ours, positions, strict=True)
        if position is not None
    )
    fresh = tuple(
        name
        for name, position in zip(ours, positions, strict=True)
        if position is None and not _is_unused(name)
    )
    return result, Matches(taken, fresh, tuple(layers))


def _matched(
    stored: Mapping[str, np.ndarray],
    fresh: Mapping[str, Any],
    positions: Sequence[int | None],
    classes: int,
    per_class: int,
) -> dict[str, np.ndarray] | None:
    """Returns the leaves of a predictor, None where its rows cannot be told apart."""
    # A bias more or less is another head; the report at the start of a run lists it as not taken.
    if stored.keys() != fresh.keys():
        return None
    leaves = {}
    for leaf, start in fresh.items():
        array, new = stored[leaf], np.array(start)
        # A true division on purpose: 7 outputs of 4 per class are 1.75 slots, which equals no count
        # below.
        slots, own_slots = array.shape[-1] / per_class, new.shape[-1] // per_class
        if own_slots not in (len(positions), len(positions) + 1):
            return None  # one box for all classes, as in a cascade
        if slots not in (classes, classes + 1) or array.shape[:-1] != new.shape[:-1]:
            return None
        pairs = [(ours, theirs) for ours, theirs in enumerate(positions) if theirs is not None]
        # Background means "none of the classes", so it is worth taking, though it meant others
        # there.
        if slots == classes + 1 and own_slots == len(positions) + 1:
            pairs.append((len(positions), classes))
        for ours, theirs in pairs:
            own = slice(ours * per_class, (ours + 1) * per_class)
            new[..., own] = array[..., theirs * per_class : (theirs + 1) * per_class]
        leaves[leaf] = new
    return leaves


def _plain(name: str) -> str:
    """Returns the common form of all spellings of a class."""
    # Not stemmed: `glass` and `glasses` are two things.
    text = re.sub(r"[\s_\-]+", "", name.casefold())
    return _ALIASES.get(text, text)


_ALIASES = {
    re.sub(r"[\s_\-]+", "", name): re.sub(r"[\s_\-]+", "", names[0])
    for names in _SAME
    for name in names
}


def _is_unused(name: str) -> bool:
    return name.startswith("(unused ")


def _listed(names: Sequence[str], limit: int) -> str:
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")
