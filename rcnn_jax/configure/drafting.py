"""The draft of a spec from the examined data, with the reasons that become its comments."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from rcnn_jax.configure.data_files import DataFiles
from rcnn_jax.configure.pictures import handed_classes
from rcnn_jax.configure.proposal import Choice, Objects, Schedule
from rcnn_jax.configure.splits import Split
from rcnn_jax.configure.tiles import Tiled
from rcnn_jax.configure.weights import Start
from rcnn_jax.data.layouts.write import kitti_name
from rcnn_jax.tasks.draft import Draft, Pixels, coverage_lines

_FEWEST_OBJECTS, _OBJECTS_GRID = 16, 8


@dataclass(frozen=True, kw_only=True)
class Known:
    """Inputs of a draft: data, detector and run.

    Attributes:
      source: the data set in words.
      seed: of training.
      minutes: for training.
      masks: outlines are learnt.
      output: folder of the run.
      split: its images.
      placed: where they lie.
      names: label -> class.
      counts: objects per label.
      objects: their sizes.
      most: objects of a whole image.
      choice: detector, canvas and anchors.
      why: it was chosen.
      schedule: batch and length.
      start: weights.
      pixels: normalisation.
      flips: pictures look the same upside down.
      tiled: the data set in tiles, which objects and choice are of; None for whole images.
    """

    source: str
    seed: int
    minutes: float
    masks: bool
    output: str
    split: Split
    placed: DataFiles
    names: Mapping[str, str]
    counts: Mapping[str, int]
    objects: Objects
    most: int
    choice: Choice
    why: str
    schedule: Schedule
    start: Start
    pixels: Pixels
    flips: bool
    tiled: Tiled | None = None


def draft_of(known: Known) -> Draft:
    """Returns the draft of a spec."""
    split, choice, length = known.split, known.choice, known.schedule
    endings = Counter(item.image.suffix.lstrip(".").lower() for item in split.items)
    # A spec has one extension; files of others are left to the reader's own search.
    extension = next(
        (name for name, _ in endings.most_common() if name in ("png", "jpg", "jpeg")), "png"
    )
    parts = Counter(item.split for item in split.items)
    tiled, handed = known.tiled, handed_classes(known.names.values())
    # KITTI separates by blanks, so converted labels have none in their names.
    written = kitti_name if known.placed.converted else str
    # Rounded up, because the number is a static shape and new images may hold a few more.
    most = max(-(-known.objects.most // _OBJECTS_GRID) * _OBJECTS_GRID, _FEWEST_OBJECTS)
    return Draft(
        source=known.source,
        seed=known.seed,
        classes={written(label): written(name) for label, name in known.names.items()},
        train=known.placed.train,
        val=known.placed.val,
        train_images=tiled.counts["train"] if tiled else parts["train"],
        val_images=parts["val"],
        extension=extension,
        canvas=(choice.canvas.height, choice.canvas.width),
        anchors=choice.anchors,
        coverage=choice.coverage,
        small_fraction=choice.small_fraction,
        max_objects=most,
        # Of a whole image, where tiles are learnt too: what they see is joined before it is cut off.
        max_detections=known.most * 3 // 2,
        masks=known.masks,
        arch=known.start.arch,
        weights=known.start.path,
        convention=known.start.convention,
        network=known.start.network,
        widths=known.start.widths,
        pixels=known.pixels,
        horizontal_flips=not handed,
        vertical_flips=known.flips and not handed,
        batch=length.batch,
        steps=length.steps,
        validations=length.validations,
        output=known.output,
        tiling=tiled.tiling if tiled else None,
        reasons=_reasons(known),
    )


def lines_of(known: Known) -> list[str]:
    """Returns the summary of a draft, line by line."""
    height, width = known.choice.canvas.height, known.choice.canvas.width
    return [
        *known.split.sentences,
        *known.placed.sentences,
        f"detector: {known.why}",
        *([f"tiles: {known.tiled.sentence}"] if known.tiled else []),
        f"canvas: {height} x {width} (height x width)",
        f"anchors: {_anchors(known.choice)}",
        *coverage_lines(known.choice.coverage),
        f"weights: {known.start.sentence}",
    ]


def _anchors(choice: Choice) -> str:
    return f"{choice.anchors.per_cell} per cell; objects with IoU 0.5, in place, as they lie:"


def _length(schedule: Schedule, minutes: float) -> str:
    pace = f"at an estimated {schedule.seconds:.2f} s a step"
    if schedule.steps < schedule.epoch:
        whole = schedule.epoch * schedule.seconds / 60
        return (
            f"{schedule.steps:,} steps are about {minutes:g} minutes here, {pace}; an epoch of "
            f"{schedule.epoch:,} steps takes {whole:.0f}."
        )
    epochs = "1 epoch is" if schedule.epochs == 1 else f"{schedule.epochs} epochs are"
    return f"{epochs} about {minutes:g} minutes here, {pace}."


def _flips(known: Known) -> str:
    if handed := handed_classes(known.names.values()):
        return f"In a mirror {', '.join(handed)} would be another class: no flips."
    if known.flips:
        return "Upside down the pictures look the same."
    return "Pictures have an up and a down: no vertical flips."


def _reasons(known: Known) -> dict[str, list[str]]:
    choice, canvas = known.choice, known.choice.canvas
    objects = ", ".join(f"{label} {known.counts[label]:,}" for label in known.names)
    return {
        "head": [
            f"{known.source}, written by rcnn-jax init.",
            *known.split.sentences,
            f"Detector: {known.why}.",
        ],
        "schedule": [
            _length(known.schedule, known.minutes),
            f"train --minutes {known.minutes:g} measures the step and plans the length by it.",
        ],
        "canvas": [
            f"The objects ask for {canvas.wanted / 1e6:.2f} million pixels, time allows "
            f"{canvas.budget / 1e6:.2f}.",
            *(choice.relief.sentences if choice.relief else ()),
        ],
        "objects": [
            f"At most {known.most} objects in an image"
            + (f", {known.objects.most} in a tile." if known.tiled else ".")
        ],
        "tiles": [f"{known.tiled.sentence}."] if known.tiled else [],
        "weights": [f"Weights: {known.start.sentence}."],
        "pixels": [
            "As the weights were trained."
            if known.start.pixels
            else "Mean and deviation of the pixels of this data."
        ],
        "data": list(known.placed.sentences),
        "classes": [f"Objects: {objects}."],
        "anchors": [f"Anchors: {_anchors(choice)}", *coverage_lines(choice.coverage)],
        "flips": [_flips(known)],
        "masks": ["Outlines are learnt." if known.masks else "Boxes alone, on a pyramid."],
    }
