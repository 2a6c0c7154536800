"""What the pictures of a data set say: their normalisation, and how they may be mirrored."""

import math
import re
from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from rcnn_jax.data.layouts.collection import Item
from rcnn_jax.diagnose.records import Pixels as Picture
from rcnn_jax.diagnose.scan import Scan
from rcnn_jax.tasks.draft import Pixels

_GREY, _LAMP = 3.0, 12.0  # levels by which halves of pictures may differ
_MANY = 500  # objects that show that a picture has no up


def pixel_statistics(pictures: Iterable[Picture]) -> Pixels:
    """Returns the normalisation that gives these pictures mean 0 and deviation 1."""
    means, squares = [], []
    for picture in pictures:
        # OpenCV adds up the bytes: photographs of twelve million pixels as floats took a second each.
        own, deviations = (values[:, 0] for values in cv2.meanStdDev(picture.image))
        means.append(own)
        squares.append(own**2 + deviations**2)
    mean = np.mean(means, axis=0)
    # One divisor for the three channels, since nvinfer has one factor.
    deviation = float(np.sqrt(np.maximum(np.mean(squares, axis=0) - mean**2, 1.0)).mean())
    red, green, blue = (min(max(round(float(value), 1), 0.5), 254.5) for value in mean)
    return Pixels(mean=(red, green, blue), divisor=max(round(deviation, 1), 1.0))


def handed_classes(names: Iterable[str]) -> list[str]:
    """Returns the classes that are others in a mirror, by their names: `turn_left`, `LeftHand`."""
    # A capital letter begins a word, as a blank or a mark does.
    words = {name: re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name) for name in dict.fromkeys(names)}
    return [
        name for name, own in words.items() if {"left", "right"} & {word.lower() for word in own}
    ]


def upside_down(items: Sequence[Item], scans: Sequence[Scan]) -> bool:
    """Says whether pictures have no up and down: halves alike, objects of all sizes at all heights.

    Photographs are brighter above, and what is lower is nearer; microscopes and cameras that look down
    know neither.
    """
    halves = [
        float(scan.small[:8].mean()) - float(scan.small[8:].mean())
        for scan in scans
        if scan.small is not None
    ]
    # Too few to tell by; then pictures have an up and a down, as most have.
    if len(halves) < 16:
        return False
    error = float(np.std(halves)) / math.sqrt(len(halves))
    rows = [
        ((obj.box[0] + obj.box[2]) / 2 / item.size[0], math.log(area))
        for item in items
        if item.size
        for obj in item.objects
        if (area := (obj.box[2] - obj.box[0]) * (obj.box[3] - obj.box[1])) > 0
    ]
    table = np.array(rows, np.float64).reshape(-1, 2)
    if len(table) < 16 or not table.std(axis=0).all():
        return False
    related = abs(float(np.asarray(np.corrcoef(table.T))[0, 1]))
    lean = abs(float(table[:, 0].mean()) - 0.5)
    brighter = abs(float(np.mean(halves)))
    # Where many objects of all sizes lie at all heights, a lamp at the edge of the field is no sky.
    even = len(table) >= _MANY and related < 0.05 and lean < 0.02
    return brighter < max(2 * error, _LAMP if even else _GREY) and related < 0.1 and lean < 0.05
