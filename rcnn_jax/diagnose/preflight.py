"""Preflight: the questions that a spec must answer before hours are spent on it, as checks.

Each check is a function from what was seen to a `Check`: an outcome, a sentence, and what to do. What has
to be run for it (steps, predictions, an export) is run by the command.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from rcnn_jax.data.anchor_fit import REACHED, CellSizes, best_overlaps, thinned, unreached
from rcnn_jax.diagnose.edges import Placement
from rcnn_jax.evaluate.explain import KNOWN_PIXELS, as_if
from rcnn_jax.evaluate.hypotheses import Diagnosis
from rcnn_jax.settings.network import PixelSettings

Outcome = Literal["go", "caution", "no-go", "skipped"]
LEARNT = 0.5
"""AP50 on the images of the overfit from which a spec has shown that it can learn."""
ENOUGH = 60
"""Steps before which a loss that has not fallen says nothing."""
FELL = 0.7
"""The loss must fall to this part of its start where AP50 has had no time to rise."""
_UNREACHED = 0.5  # of the objects: no training can do without anchors for half of them
_BETTER_PIXELS = 0.5  # distance of statistics, beside that of the spec
_FAR = 0.25  # distance from which another preprocessing is looked for


@dataclass(frozen=True, kw_only=True)
class Check:
    """The answer to one question.

    Attributes:
      name: of the question.
      outcome: whether training may begin.
      sentence: what was seen, with figures.
      advice: what to do; empty where nothing is.
    """

    name: str
    outcome: Outcome
    sentence: str
    advice: str = ""


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """All answers.

    Attributes:
      checks: in the order they were made.
    """

    checks: tuple[Check, ...]

    @property
    def go(self) -> bool:
        """Whether nothing forbids to begin."""
        return all(check.outcome != "no-go" for check in self.checks)

    def sentence(self) -> str:
        """Returns go or no-go, with the first reason."""
        if not self.go:
            first = next(check for check in self.checks if check.outcome == "no-go")
            return f"no-go: {first.name}: {first.sentence}. {first.advice}"
        cautions = [check for check in self.checks if check.outcome == "caution"]
        if cautions:
            return f"go, with caution: {cautions[0].name}: {cautions[0].sentence}"
        return "go"

    def to_json(self) -> dict[str, Any]:
        """Returns plain values for `json.dump`."""
        return {
            "go": self.go,
            "checks": [
                {
                    "name": check.name,
                    "outcome": check.outcome,
                    "sentence": check.sentence,
                    "advice": check.advice,
                }
                for check in self.checks
            ],
        }


def check_anchors(sides: np.ndarray, cells: Mapping[int, CellSizes], advice: str) -> Check:
    """Says whether the anchors reach the objects at the size they have on the canvas.

    Args:
      sides: f32[n 2], (height, width) of the objects on the canvas.
      cells: stride in pixels -> (height, width) of the anchors of its cells.
      advice: in the spec's words, which anchors fit.
    """
    sides = thinned(sides)
    if not len(sides):
        return Check(
            name="anchors",
            outcome="no-go",
            sentence="there is no object to learn from",
            advice="Check class names and folders: `rcnn-jax doctor SPEC` says what was left out",
        )
    # By size alone, in the middle of a cell: small objects between two cells are reached by the rule that
    # every object gets its best anchor, objects of another size by nothing.
    fit = best_overlaps(sides, cells)
    outside, missed = float((fit < REACHED).mean()), unreached(sides, cells)
    size = np.sqrt(sides.prod(axis=1))
    own = np.sqrt([height * width for sizes in cells.values() for height, width in sizes])
    sentence = (
        f"anchors fit {1 - outside:.0%} of the objects by size and reach {1 - missed:.0%} where they lie "
        f"(IoU 0.5; sides: objects {np.quantile(size, 0.1):.0f} to {np.quantile(size, 0.9):.0f}, anchors "
        f"{own.min():.0f} to {own.max():.0f} pixels of the canvas; typical best IoU {np.median(fit):.2f})"
    )
    if outside > _UNREACHED:
        return Check(
            name="anchors", outcome="no-go", sentence=f"out of range: {sentence}", advice=advice
        )
    if missed > _UNREACHED:
        return Check(name="anchors", outcome="caution", sentence=sentence, advice=advice)
    return Check(name="anchors", outcome="go", sentence=sentence)


def check_pixels(pixels: PixelSettings) -> Check:
    """Says whether mean and divisor are on the scale of the pixels, which is 0 to 255."""
    mean, std = np.asarray(pixels.mean), np.asarray(pixels.std)
    shown = f"mean {_listed(mean)}, divided by {_listed(std)}"
    if (mean > 0).any() and (mean <= 1.5).all():
        return Check(
            name="pixels",
            outcome="no-go",
            sentence=f"the mean is on a scale of 0 to 1 and pixels run from 0 to 255 ({shown})",
            advice=f"Multiply by 255: mean {_listed(mean * 255)}"
            + (
                f", divisor {_listed(std * 255)}" if (std <= 1.5).all() and (std != 1).any() else ""
            ),
        )
    if (mean < 0).any() or (mean > 255).any():
        return Check(
            name="pixels",
            outcome="no-go",
            sentence=f"the mean lies outside of 0 to 255 ({shown})",
            advice="Write the mean of the pixels as they are in the files, 0 to 255",
        )
    largest = float(np.max(np.maximum(255 - mean, mean) / std))
    if largest > 1000 or largest < 0.05:
        return Check(
            name="pixels",
            outcome="no-go",
            sentence=f"inputs of the network reach {largest:.3g}; usual are 1 to 255 ({shown})",
            advice="input_image_config.image_scaling_factor divides: 1.0, or about 58 or 127.5",
        )
    return Check(name="pixels", outcome="go", sentence=f"{pixels.channel_order}, {shown}")


def check_labels(placement: Placement | None) -> Check:
    """Says whether the boxes lie on edges of the pictures."""
    if placement is None:
        return Check(
            name="labels", outcome="skipped", sentence="too few boxes to compare with edges"
        )
    if placement.cause:
        return Check(
            name="labels",
            outcome="no-go",
            sentence=f"the labels look shifted: {placement.cause} ({placement.boxes} boxes, edges "
            f"under their sides {placement.gain:+.0%})",
            advice="Look at some of them (`rcnn-jax doctor`), and correct the conversion",
        )
    return Check(
        name="labels",
        outcome="go",
        sentence=f"{placement.boxes} boxes lie where the edges of the pictures are",
    )


def check_weights(
    pixels: PixelSettings,
    images: np.ndarray,
    stored: tuple[np.ndarray, np.ndarray] | None,
    measure: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
) -> Check:
    """Says whether the weights to start from were trained on pixels like these.

    The first batch norm keeps the mean and variance that its inputs had in training. Here they are
    measured on images of this data, prepared as the spec says and in every other usual way: the way that
    comes closest is the one of the training.

    Args:
      pixels: of the spec.
      images: u8[b h w c], in the order of `pixels`.
      stored: (mean, variance) f32[k] of the first batch norm; None where the weights have none.
      measure: images -> (mean, variance) that they give there.
    """
    if stored is None or pixels.channels != 3:
        return Check(
            name="weights",
            outcome="skipped",
            sentence="no stored statistics tell how the pixels of the starting weights were prepared",
        )
    own = statistics_distance(stored, measure(images))
    ways = {f"channels in the other order ({pixels.channel_order[::-1]})": images[..., ::-1]}
    ways |= {name: as_if(images, pixels, known) for name, known in KNOWN_PIXELS.items()}
    ranked = {name: statistics_distance(stored, measure(way)) for name, way in ways.items()}
    best = min(ranked, key=lambda name: ranked[name])
    figures = f"distance of statistics {own:.2f} as in the spec, {ranked[best]:.2f} otherwise"
    if own > _FAR and ranked[best] < _BETTER_PIXELS * own:
        return Check(
            name="weights",
            outcome="no-go",
            sentence=f"the starting weights were trained on other pixels: {best} ({figures})",
            advice="Set the channel order and mean that these weights were trained with",
        )
    return Check(name="weights", outcome="go", sentence=f"fit the pixels of the spec ({figures})")


def statistics_distance(
    stored: tuple[np.ndarray, np.ndarray], seen: tuple[np.ndarray, np.ndarray]
) -> float:
    """Returns how far means are apart, in deviations, and variances, as half their logarithm."""
    (mean, variance), (other, spread) = stored, seen
    deviation = np.sqrt(np.maximum(variance, 1e-8))
    distance = np.abs(other - mean) / deviation
    ratio = 0.5 * np.abs(np.log(np.maximum(spread, 1e-8) / np.maximum(variance, 1e-8)))
    # The median: dead filters of published weights have any statistics.
    return float(np.median(distance) + np.median(ratio))


def check_rate(
    rate: float, exploded: bool, first: float, last: float, steps: int, slower: float | None
) -> Check:
    """Says whether the learning rate is one that the spec can be trained with.

    Args:
      rate: highest rate of the spec.
      exploded: whether the loss went up or was not finite.
      first: mean loss of the first steps.
      last: of the last ones.
      steps: that were taken.
      slower: a lower rate with which the loss fell; None where none was found.
    """
    if not exploded:
        return Check(
            name="learning rate", outcome="go", sentence=f"{rate:g} is stable over {steps} steps"
        )
    ending = "not finite" if not np.isfinite(last) else f"{last:.3g}"
    sentence = f"the loss explodes at {rate:g}: from {first:.3g} to {ending} in {steps} steps"
    advice = (
        f"With {slower:g} it falls: lower the rate, lengthen the warm-up, or set clip_norm"
        if slower is not None
        else "It explodes at a hundredth of that too: look at the mean and scale of the pixels, and at "
        "the weights to start from"
    )
    return Check(name="learning rate", outcome="no-go", sentence=sentence, advice=advice)


def check_overfit(first: float, last: float, steps: int, images: int, ap50: float) -> Check:
    """Says whether a few images can be learnt by heart.

    Args:
      first: mean loss of the first steps.
      last: of the last ones.
      steps: that were taken.
      images: number of them.
      ap50: on the same images, in [0, 1].
    """
    seen = f"loss {first:.3g} to {last:.3g} in {steps} steps on {images} images, AP50 on them {ap50:.2f}"
    if ap50 >= LEARNT:
        return Check(name="overfit", outcome="go", sentence=seen)
    if last < FELL * first or steps < ENOUGH:
        learns = "it learns" if last < FELL * first else "nothing can be said yet"
        return Check(
            name="overfit",
            outcome="caution",
            sentence=f"{seen}: {learns}, the time was too short",
            advice="Give it more time with --minutes",
        )
    return Check(
        name="overfit",
        outcome="no-go",
        sentence=f"four images cannot be learnt by heart: {seen}",
        advice="Too low a rate, frozen layers, or labels without a relation to the pictures",
    )


def check_evaluation(diagnosis: Diagnosis | None) -> Check | None:
    """Checks whether a hypothesis explains a failed evaluation of learnt images."""
    if diagnosis is None or diagnosis.best is None:
        return None
    return Check(
        name="evaluation",
        outcome="no-go",
        sentence=f"what was learnt is not what is evaluated: {diagnosis.best.cause} "
        f"(AP50 {diagnosis.ap50:.2f}, {diagnosis.best.ap50:.2f} if that is undone)",
        advice=diagnosis.best.advice,
    )


def check_memory(needed: int | None, batch: int, wanted: int, there: int | None) -> Check:
    """Says whether a step fits into the memory.

    Args:
      needed: bytes of the measured step; None where unknown.
      batch: images of it.
      wanted: images of a step of the spec.
      there: bytes that a step may take on the device; None where unknown.
    """
    if needed is None or there is None:
        return Check(
            name="memory", outcome="skipped", sentence="this device does not tell its memory"
        )
    # What a step holds for its images grows with them, weights do not: an upper bound.
    planned = int(needed * max(wanted / batch, 1.0))
    about = "" if wanted <= batch else "at most about "
    sentence = (
        f"a step of {wanted} images takes {about}{_gigabytes(planned)} of {_gigabytes(there)}"
    )
    if planned > there:
        return Check(
            name="memory",
            outcome="no-go" if wanted <= batch else "caution",
            sentence=sentence,
            advice="Lower the batch or the canvas",
        )
    return Check(name="memory", outcome="go", sentence=sentence)


def check_hours(seconds: float, batch: int, wanted: int, steps: int) -> Check:
    """Says how long the run will take on this machine, without its validations.

    Args:
      seconds: of a measured step.
      batch: images of it.
      wanted: images of a step of the spec.
      steps: of the run.
    """
    total = seconds * max(wanted / batch, 1.0) * steps
    duration = f"{total / 3600:.1f} hours" if total > 5400 else f"{total / 60:.0f} minutes"
    return Check(
        name="time",
        outcome="go",
        sentence=f"{steps:,} steps of {seconds * max(wanted / batch, 1.0):.2f} seconds: about {duration} "
        "on this machine",
    )


def first_statistics(tree: Any, order: Sequence[str]) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns (mean, variance) of the first batch norm of a network.

    Args:
      tree: layer -> leaves `mean` and `var`, or None.
      order: names of the layers as they run.
    """
    first = next((name for name in order if name in (tree or {})), None)
    if first is None:
        return None
    leaves = {name: np.asarray(leaf) for name, leaf in tree[first].items()}
    mean = next((v for k, v in leaves.items() if "mean" in k), None)
    variance = next((v for k, v in leaves.items() if "var" in k), None)
    return None if mean is None or variance is None else (mean, variance)


def merged(checks: Sequence[Check | None]) -> Preflight:
    """Returns the preflight of the checks that were made."""
    return Preflight(checks=tuple(check for check in checks if check is not None))


def failed(name: str, error: Exception, advice: str) -> Check:
    """Returns the check of something that raised."""
    text = str(error).strip().rstrip(".") or type(error).__name__
    return Check(name=name, outcome="no-go", sentence=text, advice=advice)


def _listed(values: np.ndarray) -> str:
    unique = np.unique(values)
    shown = unique if len(unique) == 1 else values
    return " ".join(f"{value:.4g}" for value in shown)


def _gigabytes(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
