"""Hypotheses on implausible average precision: what must have gone wrong, tried on boxes.

A model that finds next to nothing has usually learnt well: its labels or detections are read in another
way than they were written. Each hypothesis undoes one such mistake; the one that restores average
precision is the explanation.

    images -> baseline AP50 -> AP50 under every hypothesis -> Diagnosis

Functions of arrays: nothing here runs a model or reads a file. What needs the model a second time (order
of channels, thresholds) is in `evaluate.explain`; what a hypothesis does to boxes in `box_changes`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rcnn_jax.data.loader.images import fit
from rcnn_jax.errors import DataError
from rcnn_jax.evaluate.alignment import best_permutation, search_scale
from rcnn_jax.evaluate.box_changes import (
    Change,
    Size,
    changed,
    from_size,
    move_detections,
    move_labels,
    relabelled,
    to_size,
    turn_90,
    turn_180,
    turn_270,
    unsound,
)
from rcnn_jax.evaluate.voc import ImageResult, evaluate_voc
from rcnn_jax.settings.data import GeometrySettings

IMPLAUSIBLE = 0.3
"""AP50 below which hypotheses are tried. A poor model is no mistake, but it costs a second to ask, and
none of the hypotheses restores the AP of a model that is merely poor."""
AGNOSTIC_GAIN = 0.3
"""AP50 without regard to classes, above the one with: from here on labels are suspected at any AP."""
MOST_IMAGES = 200
_LEAST_GAIN = 0.2
_TIE = 0.02


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One hypothesis and the AP50 under it.

    Attributes:
      cause: what would be wrong, as a clause: `x and y of the labels are swapped`.
      advice: what to do about it.
      ap50: mean AP at IoU 0.5 when it is undone, in [0, 1].
      agnostic: the same without regard to classes.
    """

    cause: str
    advice: str
    ap50: float
    agnostic: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Why average precision is implausible.

    Attributes:
      ap50: as measured, on the images that were tried.
      agnostic: the same without regard to classes.
      images: number of them.
      trials: what was tried, best first.
    """

    ap50: float
    agnostic: float
    images: int
    trials: tuple[Trial, ...]

    @property
    def best(self) -> Trial | None:
        """The hypothesis that restores average precision; None where none does."""
        return next((t for t in self.trials if restores(t.ap50, self.ap50)), None)

    def sentence(self) -> str:
        """Returns the outcome in at most three sentences."""
        head = f"AP50 is {self.ap50:.3f} on {self.images} images"
        if self.best is None:
            return (
                f"{head}, and none of {len(self.trials)} explanations restores it: neither labels nor "
                "preprocessing look misread, so the model has learnt too little or other data"
            )
        return (
            f"{head}, and {self.best.ap50:.3f} if this is undone: {self.best.cause}. "
            f"{self.best.advice}"
        )

    def to_json(self) -> dict:
        """Returns plain values for `json.dump`."""
        return {
            "AP50": self.ap50,
            "AP50_any_class": self.agnostic,
            "images": self.images,
            "cause": None if self.best is None else self.best.cause,
            "advice": None if self.best is None else self.best.advice,
            "tried": [{"cause": t.cause, "AP50": t.ap50} for t in self.trials],
        }


def restores(ap50: float, before: float) -> bool:
    """Says whether an AP50 is so much better that chance cannot have made it."""
    return ap50 >= before + _LEAST_GAIN


def mean_ap50(images: Sequence[ImageResult], classes: int) -> float:
    """Returns the mean AP at IoU 0.5 over the classes that have objects; NaN without objects."""
    names = [f"{number:06d}" for number in range(classes)]
    report = evaluate_voc(images, names, (0.5,), 0.0, "voc12")
    precisions = [result.ap for result in report.classes[0] if result.n_gt]
    return float(np.mean(precisions)) if precisions else float("nan")


def agnostic(images: Sequence[ImageResult]) -> list[ImageResult]:
    """Returns the images with one class for everything."""
    return [
        replace(i, classes=np.zeros_like(i.classes), gt_classes=np.zeros_like(i.gt_classes))
        for i in images
    ]


def chosen(images: Sequence[ImageResult]) -> list[int]:
    """Returns the images that hypotheses are tried on: evenly taken among those with objects."""
    full = [number for number, image in enumerate(images) if len(image.gt_boxes)]
    step = -(-len(full) // MOST_IMAGES) or 1
    return full[::step]


def diagnose(
    images: Sequence[ImageResult],
    sizes: Sequence[Size],
    class_names: Sequence[str],
    geometry: GeometrySettings | None = None,
) -> Diagnosis | None:
    """Tries every hypothesis; None where AP50 is plausible or nothing can be said.

    Plausible is an AP50 of at least 0.3, unless boxes match their objects by so much more without their
    classes that the classes must be confused.

    Args:
      images: detections and ground truth; boxes of the ground truth not clipped, where they can be had.
      sizes: (height, width) of the images.
      class_names: n names.
      geometry: from image to canvas; None leaves hypotheses on the canvas out.
    """
    picked = chosen(images)
    images, sizes = [images[i] for i in picked], [sizes[i] for i in picked]
    count = len(class_names)
    before = mean_ap50(images, count)
    without = mean_ap50(agnostic(images), 1)
    if not images or not (before < IMPLAUSIBLE or without - before > AGNOSTIC_GAIN):
        return None
    if not any(len(image.boxes) for image in images):
        return Diagnosis(ap50=before, agnostic=without, images=len(images), trials=())
    trials = [
        _tried(cause, advice, changed(images, sizes, change), count)
        for cause, advice, change in hypotheses(images, sizes, class_names, geometry)
    ]
    diagnosis = Diagnosis(ap50=before, agnostic=without, images=len(images), trials=_ranked(trials))
    if diagnosis.best is None and count > 1:
        trials += _with_labels(images, sizes, class_names, geometry, trials)
        diagnosis = replace(diagnosis, trials=_ranked(trials))
    return diagnosis


def hypotheses(
    images: Sequence[ImageResult],
    sizes: Sequence[Size],
    class_names: Sequence[str],
    geometry: GeometrySettings | None,
) -> Iterator[tuple[str, str, Change]]:
    """Yields (cause, advice, change that undoes it), the simplest first."""
    yield from _label_hypotheses(images, class_names)
    yield from _coordinate_hypotheses(images, sizes)
    if geometry is not None:
        yield from _canvas_hypotheses(geometry)
    yield from _scale_hypotheses(images, sizes)


def _label_hypotheses(
    images: Sequence[ImageResult], names: Sequence[str]
) -> Iterator[tuple[str, str, Change]]:
    if len(names) < 2:
        return
    advice = (
        "Compare the order of the classes in the spec (sorted by name) or the category ids with "
        "those that the model was trained with"
    )
    for step in (1, -1):
        shifted = [(number + step) % len(names) for number in range(len(names))]
        word = "next" if step > 0 else "previous"
        cause = f"class numbers are shifted by one (an object of '{names[0]}' is found as "
        cause += f"'{names[shifted[0]]}', every class as the {word} one)"
        yield cause, advice, relabelled(shifted)
    order = best_permutation(images, len(names))
    moved = [f"'{names[a]}' as '{names[b]}'" for a, b in enumerate(order) if a != b]
    if moved:
        listed = ", ".join(moved[:6]) + (f" and {len(moved) - 6} more" if len(moved) > 6 else "")
        cause = f"classes are permuted between labels and model: objects of {listed}"
        yield cause, advice, relabelled(order)


def _coordinate_hypotheses(
    images: Sequence[ImageResult], sizes: Sequence[Size]
) -> Iterator[tuple[str, str, Change]]:
    convert = "Correct the conversion of the labels, and look at them with `rcnn-jax doctor`"
    sides = [
        ("labels", move_labels, convert),
        ("detections", move_detections, "Correct what reads the outputs of the model"),
    ]
    # Most of these are undone on either side alike: boxes that no image can hold tell whose they are.
    labels, detections = (
        unsound([getattr(image, name) for image in images], sizes) for name in ("gt_boxes", "boxes")
    )
    for what, side, advice in sides if labels >= detections else sides[::-1]:
        yield f"x and y of the {what} are swapped", advice, side(lambda b, s: b[:, [1, 0, 3, 2]])
        yield f"(x, y, width, height) of the {what} is read as corners", advice, side(from_size)
        yield f"corners of the {what} are read as (x, y, width, height)", advice, side(to_size)
        yield (
            f"the centre of a box is read as its top left corner in the {what}",
            advice,
            side(lambda b, s: b - np.tile((b[:, 2:] - b[:, :2]) / 2, 2)),
        )
        yield (
            f"the top left corner of a box is read as its centre in the {what}",
            advice,
            side(lambda b, s: b + np.tile((b[:, 2:] - b[:, :2]) / 2, 2)),
        )
    yield (
        "the labels are fractions of the image, read as pixels",
        convert,
        move_labels(lambda b, s: b * np.tile(np.asarray(s, np.float32), 2)),
    )
    stored_pixels = (
        "Labels were drawn on the picture as it is shown, pixels are read as they are stored (EXIF "
        "orientation is ignored): turn the pixels, `rcnn-jax doctor --fix` does"
    )
    for angle, turn in ((180, turn_180), (90, turn_90), (270, turn_270)):
        yield f"the labels are turned by {angle} degrees", stored_pixels, move_labels(turn)
    yield (
        "the labels are mirrored left to right",
        "Mirror boxes and pixels together",
        move_labels(lambda b, s: np.stack([b[:, 0], s[1] - b[:, 3], b[:, 2], s[1] - b[:, 1]], 1)),
    )
    yield (
        "the labels are mirrored top to bottom",
        "Mirror boxes and pixels together",
        move_labels(lambda b, s: np.stack([s[0] - b[:, 2], b[:, 1], s[0] - b[:, 0], b[:, 3]], 1)),
    )


def _canvas_hypotheses(geometry: GeometrySettings) -> Iterator[tuple[str, str, Change]]:
    def scale_of(size: Size) -> np.ndarray:
        try:
            return np.tile(np.asarray(fit(size, geometry).scale, np.float32), 2)
        except DataError:  # the crop leaves nothing of this image
            return np.ones(4, np.float32)

    def margin_of(size: Size) -> np.ndarray:
        placed = fit(size, geometry)
        rest = np.asarray(placed.canvas, np.float32) - placed.image_size
        return np.tile(rest / 2 / np.asarray(placed.scale, np.float32), 2)

    resized = "Scale the labels back to the image files, or resize the files too"
    read = (
        "Divide the detections by the scale of the canvas (`Header.geometry` of the model says it)"
    )
    yield (
        "the labels are pixels of the canvas instead of the image file",
        resized,
        move_labels(lambda b, s: b / scale_of(s)),
    )
    yield (
        "the detections are pixels of the canvas instead of the image file",
        read,
        move_detections(lambda b, s: b / scale_of(s)),
    )
    yield (
        "the detections are scaled to the image twice",
        read,
        move_detections(lambda b, s: b * scale_of(s)),
    )
    yield (
        "images stand in the middle of the canvas, where this program takes them at its top left",
        "Pad at the bottom and the right",
        move_detections(lambda b, s: b - margin_of(s)),
    )


def _scale_hypotheses(
    images: Sequence[ImageResult], sizes: Sequence[Size]
) -> Iterator[tuple[str, str, Change]]:
    unit = [np.ones(4, np.float32)] * len(images)
    sides = [np.tile(np.asarray(size, np.float32), 2) for size in sizes]
    for per, word in ((unit, "pixels"), (sides, "of the image")):
        scale_and_shift = search_scale(images, per)
        if scale_and_shift is None:
            continue
        (sy, sx), (ty, tx) = scale_and_shift
        number = "{:+.0f}" if word == "pixels" else "{:+.3f}"
        cause = (
            f"the labels are of another scale or place: x {sx:.3f} {number.format(tx)} {word}, "
            f"y {sy:.3f} {number.format(ty)} {word} makes them fit"
        )
        in_fractions = word != "pixels"

        def change(
            b: np.ndarray, s: Size, factor=(sy, sx), shift=(ty, tx), fractions=in_fractions
        ) -> np.ndarray:
            side = np.tile(np.asarray(s, np.float32), 2) if fractions else np.float32(1)
            return b * np.tile(np.float32(factor), 2) + np.tile(np.float32(shift), 2) * side

        yield (
            cause,
            "Labels were made for another version of the images (resized, cropped or padded): "
            "convert them, or take those images",
            move_labels(change),
        )


def _with_labels(
    images: Sequence[ImageResult],
    sizes: Sequence[Size],
    names: Sequence[str],
    geometry: GeometrySettings | None,
    trials: Sequence[Trial],
) -> Iterator[Trial]:
    """Yields the best change of the boxes together with other labels: two mistakes at once."""
    best = max(trials, key=lambda trial: trial.agnostic)
    if best.agnostic < _LEAST_GAIN:
        return
    for cause, advice, change in hypotheses(images, sizes, names, geometry):
        if cause == best.cause:
            moved = changed(images, sizes, change)
            for second, _, relabel in _label_hypotheses(moved, names):
                yield _tried(
                    f"{cause}; and {second}",
                    advice,
                    changed(moved, sizes, relabel),
                    len(names),
                )


def _tried(cause: str, advice: str, images: Sequence[ImageResult], classes: int) -> Trial:
    return Trial(
        cause=cause,
        advice=advice,
        ap50=mean_ap50(images, classes),
        agnostic=mean_ap50(agnostic(images), 1),
    )


def _ranked(trials: Sequence[Trial]) -> tuple[Trial, ...]:
    """Returns the trials best first; of equals the earlier, which is the simpler one."""
    # In steps of a tie: what two mistakes explain alike, the last digit must not decide.
    return tuple(sorted(trials, key=lambda trial: -round(trial.ap50 / _TIE)))
