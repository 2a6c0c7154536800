"""Proposal of a spec: which detector, canvas, anchors and schedule suit a data set, each with its reason.

images + objects + pace -> Choice per detector -> the first that sees the objects -> Draft
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rcnn_jax.configure.canvas import Canvas, Relief, choose_canvas, relief
from rcnn_jax.configure.pace import Pace, pixel_budget, planned_steps
from rcnn_jax.data.anchor_search import Anchors, Coverage, coverage
from rcnn_jax.data.layouts.collection import Item
from rcnn_jax.errors import DataError
from rcnn_jax.kinds import Kind
from rcnn_jax.tasks.draft import SpecWriter
from rcnn_jax.tasks.families import FAMILIES, Family

_ENOUGH = 0.9  # of the objects must be reached by the anchors of a single map
_SPREAD = 1.5  # ratio of shapes of images that a stretched canvas may have to serve
_BATCH, _ACCELERATED_BATCH = 2, 8


@dataclass(frozen=True, kw_only=True)
class Objects:
    """The objects to learn, without the crowds.

    Attributes:
      sizes: f64[n 2], (height, width) of the images.
      owner: i64[m], image of every object.
      sides: f64[m 2], (height, width) in pixels of its image.
      names: of the classes of the objects, m of them.
      most: in one image.
    """

    sizes: np.ndarray
    owner: np.ndarray
    sides: np.ndarray
    names: np.ndarray
    most: int

    @classmethod
    def of(cls, items: Sequence[Item]) -> "Objects":
        """Returns the objects of images whose sizes are known.

        Raises:
          DataError: there is none.
        """
        sizes = np.array([item.size for item in items], np.float64).reshape(-1, 2)
        rows, names = [], []
        for index, item in enumerate(items):
            for obj in item.objects:
                y1, x1, y2, x2 = obj.box
                # Crowds are not learnt, so nothing is chosen for them.
                if not obj.crowd and y2 > y1 and x2 > x1:
                    rows.append((index, y2 - y1, x2 - x1))
                    names.append(obj.name)
        table = np.array(rows, np.float64).reshape(-1, 3)
        return cls.made(sizes, table[:, 0].astype(np.int64), table[:, 1:], np.array(names))

    @classmethod
    def made(
        cls, sizes: np.ndarray, owner: np.ndarray, sides: np.ndarray, names: np.ndarray
    ) -> "Objects":
        """Returns the objects of these arrays.

        Raises:
          DataError: there is none.
        """
        if not len(owner):
            raise DataError("no object with an area is left to learn from")
        most = int(np.bincount(owner).max())
        return cls(sizes=sizes, owner=owner, sides=sides, names=names, most=most)

    @property
    def fractions(self) -> np.ndarray:
        """f64[m], square roots of the share of the image's area."""
        areas = self.sizes.prod(axis=1)[self.owner]
        return np.sqrt(np.clip(self.sides.prod(axis=1) / areas, 0.0, 1.0))

    @property
    def small_fraction(self) -> float:
        """Side of small objects as a fraction of the image's.

        The smaller tenth of all, or a quarter of the smallest class: a class of small objects may be a
        twentieth of all and is to be found too.
        """
        fractions = self.fractions
        quantiles = [float(np.quantile(fractions, 0.1))]
        quantiles += [float(np.quantile(fractions[own], 0.25)) for _, own in self.classes()]
        return max(min(quantiles), 1e-6)

    def classes(self) -> list[tuple[str, np.ndarray]]:
        """Returns (name, bool[m] of its objects) of the classes with enough objects to judge by.

        Fewer say nothing about the size of a class; one wrong label would choose canvas and detector.
        """
        groups = [(str(name), self.names == name) for name in np.unique(self.names)]
        least = max(10, 0.01 * len(self.names))
        return [(name, own) for name, own in groups if own.sum() >= least]

    def on(self, canvas: tuple[int, int], *, keeps_aspect: bool) -> np.ndarray:
        """Returns f64[m 2], the sides on a canvas."""
        scale = np.array(canvas) / self.sizes
        if keeps_aspect:
            # The smaller scale for both sides: the rest of the canvas is padding.
            scale = np.repeat(scale.min(axis=1, keepdims=True), 2, axis=1)
        return np.maximum(self.sides * scale[self.owner], 1e-3)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Proposed settings of one detector.

    Attributes:
      family: the detector.
      canvas: of the network.
      anchors: of its cells.
      coverage: what they reach.
      weakest: the class of which they reach least, and the fraction of it; of all objects, where no class
        has enough.
      relief: what would show objects that are too small; None where few are.
      stretched: images are of so different shapes that one canvas distorts them.
      small_fraction: see `Objects`.
    """

    family: Family
    canvas: Canvas
    anchors: Anchors
    coverage: Sequence[Coverage]
    weakest: tuple[str, float]
    relief: Relief | None
    stretched: bool
    small_fraction: float

    @property
    def writer(self) -> SpecWriter:
        """How its specs are written."""
        return self.family.draft()

    @property
    def suits(self) -> bool:
        """Whether it sees the objects."""
        return self.relief is None and not self.stretched and self.weakest[1] >= _ENOUGH

    @property
    def why_not(self) -> str:
        """Objection to it, in words."""
        if self.relief is not None:
            return f"{self.relief.unseen:.0%} of the {self.relief.whose} are smaller than its cells"
        if self.stretched:
            return "images of different shapes would be stretched to one canvas"
        whose, reached = self.weakest
        return f"its anchors reach {reached:.0%} of the {whose}"


def choose(
    objects: Objects,
    pace: Pace,
    minutes: float,
    *,
    masks: bool,
    arch: str = "resnet:18",
    kind: Kind | None = None,
    canvas: tuple[int, int] | None = None,
) -> tuple[Choice, str]:
    """Returns the detector with its canvas and anchors, and why it was chosen.

    Args:
      objects: of the data set.
      pace: of the machine.
      minutes: for training.
      masks: outlines are learnt.
      arch: backbone, which not every detector has.
      kind: the wanted detector; None chooses.
      canvas: the wanted (height, width); None chooses.
    """
    rows = [row for row in FAMILIES.values() if kind in (None, row.kind)]
    if masks and not any(row.draft().masks for row in rows):
        raise DataError(f"{rows[0].kind} learns no masks: leave --masks or --detector out")
    rows = [row for row in rows if row.draft().masks or not masks]
    able = [row for row in rows if arch in row.draft().backbones]
    if not able:
        raise DataError(
            f"{rows[0].kind} has no backbone {arch}; there are {', '.join(rows[0].draft().backbones)}"
        )
    rows = able
    choices = [_choice(row, objects, pixel_budget(pace, minutes), canvas) for row in rows]
    if kind is not None or len(choices) == 1:
        reason = "as asked" if kind else "it learns masks" if masks else f"it has {arch}"
        return choices[0], f"{choices[0].family.kind}, {reason}"
    # In the order of families: the first that sees the objects is the simpler detector.
    for choice in choices:
        if choice.suits:
            return choice, _praise(choice, choices)
    # None sees enough: the finest map misses least.
    best = min(choices, key=lambda each: each.writer.finest)
    return best, _praise(best, choices)


def _praise(choice: Choice, choices: Sequence[Choice]) -> str:
    own = (
        f"{choice.family.title.split(':')[0]}, its finest map has a stride of "
        f"{choice.writer.finest} pixels"
    )
    others = [
        f"{other.family.kind} was passed over: {other.why_not}"
        for other in choices
        if other is not choice and not other.suits
    ]
    return "; ".join([own, *others])


def _choice(row: Family, objects: Objects, budget: int, wanted: tuple[int, int] | None) -> Choice:
    writer = row.draft()
    if wanted is None:
        canvas = choose_canvas(
            objects.sizes,
            objects.small_fraction,
            finest=writer.finest,
            grid=writer.grid,
            budget=budget,
        )
    else:
        # A wanted canvas is moved to the grid: maps of the network are whole cells.
        height, width = canvas_on_grid(wanted, writer.grid)
        canvas = Canvas(height, width, height * width, budget)
    size = canvas.height, canvas.width
    sides = objects.on(size, keeps_aspect=writer.keeps_aspect)
    anchors = writer.anchors(sides, size)
    shapes = np.log(objects.sizes[:, 1] / objects.sizes[:, 0])
    reached = coverage(sides, anchors.cells)
    # By class: a model is judged by the mean over classes, however few objects one of them has.
    classes = _quoted(objects.classes())
    parts = [(name, coverage(sides[own], anchors.cells)[0].reached) for name, own in classes]
    weakest = min([("objects", reached[0].reached), *parts], key=lambda part: part[1])
    # Without the outer twentieths: a few odd pictures must not decide the detector.
    spread = math.exp(float(np.quantile(shapes, 0.95) - np.quantile(shapes, 0.05)))
    return Choice(
        family=row,
        canvas=canvas,
        anchors=anchors,
        coverage=reached,
        weakest=weakest,
        relief=relief_on(size, objects, writer),
        stretched=not writer.keeps_aspect and spread > _SPREAD,
        small_fraction=objects.small_fraction,
    )


def relief_on(canvas: tuple[int, int], objects: Objects, writer: SpecWriter) -> Relief | None:
    """Returns the relief for the class of which a canvas hides most; None where it hides few of any.

    Args:
      canvas: (height, width).
      objects: of the data set.
      writer: of the detector's specs.
    """
    fractions = objects.fractions
    reliefs = [
        relief(
            canvas,
            objects.sizes,
            fractions[own],
            finest=writer.finest,
            grid=writer.grid,
            whose=name,
        )
        for name, own in [("objects", slice(None)), *_quoted(objects.classes())]
    ]
    return max(filter(None, reliefs), key=lambda each: each.unseen, default=None)


def canvas_on_grid(wanted: tuple[int, int], grid: int) -> tuple[int, int]:
    """Returns the (height, width) of whole cells of a grid nearest to a wanted canvas."""
    height, width = (max(round(side / grid), 1) * grid for side in wanted)
    return height, width


def _quoted(classes: list[tuple[str, np.ndarray]]) -> list[tuple[str, np.ndarray]]:
    # A single class is all objects; several are told apart by name.
    return [(f"objects of '{name}'", own) for name, own in classes] if len(classes) > 1 else []


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Length of a run.

    Attributes:
      batch: images per step.
      steps: of the run, which may end within its first epoch.
      epoch: steps of an epoch.
      validations: on the way and at the end.
      seconds: of a step, estimated.
    """

    batch: int
    steps: int
    epoch: int
    validations: int
    seconds: float

    @property
    def epochs(self) -> int:
        """Epochs of the run, at least one."""
        return max(self.steps // self.epoch, 1)


def schedule(
    choice: Choice, pace: Pace, minutes: float, train_images: int, val_images: int
) -> Schedule:
    """Returns batch and length of a run of so many minutes."""
    batch = _ACCELERATED_BATCH if pace.accelerated else _BATCH
    batch = max(min(batch, train_images), 1)
    pixels = choice.canvas.pixels
    steps, validations = planned_steps(pace, minutes, pixels, batch, train_images, val_images)
    return Schedule(
        batch=batch,
        steps=steps,
        epoch=max(train_images // batch, 1),
        validations=validations,
        seconds=pace.seconds(pixels * batch),
    )


def classes_of(items: Sequence[Item]) -> tuple[Counter[str], dict[str, str]]:
    """Returns objects per name, and name -> class for names that differ in case alone.

    Labels are matched without regard to case where a spec maps them, so `Car` and `car` are one class.
    """
    counts = Counter(obj.name for item in items for obj in item.objects if not obj.crowd)
    leaders: dict[str, str] = {}
    for name, _ in counts.most_common():
        # The commoner spelling leads: `car` of a thousand labels over one `Car`.
        leaders.setdefault(name.casefold(), name)
    return counts, {name: leaders[name.casefold()] for name in counts}


def renamed(items: Sequence[Item], names: Mapping[str, str]) -> tuple[Item, ...]:
    """Returns items whose objects have the names of classes; crowds of other names are left out."""
    return tuple(
        dataclasses.replace(
            item,
            objects=tuple(
                dataclasses.replace(obj, name=names[obj.name])
                for obj in item.objects
                if obj.name in names
            ),
        )
        for item in items
    )
