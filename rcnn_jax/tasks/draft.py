"""Draft of a spec for a data set: what a detector's writer of specs is given, and what it fits itself.

data set -> Draft --- writer of the detector (`families.Family.draft`) ---> commented spec text
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from rcnn_jax.data.anchor_search import Anchors, Coverage
from rcnn_jax.printable import shown
from rcnn_jax.settings.data import TilingSettings
from rcnn_jax.spec.text.tokens import quote
from rcnn_jax.tasks.named_files import Config


@dataclass(frozen=True, kw_only=True)
class LabelFiles:
    """Images and labels of one split.

    Attributes:
      images: folder of the images.
      labels: folder of KITTI label files, or a COCO file.
      listing: file of stems; empty for all images of the folder.
    """

    images: str
    labels: str
    listing: str = ""


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """Normalisation of pixels.

    Attributes:
      mean: of r, g, b, on 0..255.
      divisor: after the subtraction.
      order: of the channels, `rgb` or `bgr`.
    """

    mean: tuple[float, float, float]
    divisor: float
    order: str = "rgb"


@dataclass(frozen=True, kw_only=True)
class Inherited:
    """What a spec takes over from the model that its run starts from.

    Attributes:
      arch: backbone and depth, for example `resnet:50`.
      convention: what the weights take for granted, by its name in specs of Mask R-CNN.
      network: further fields of the network that have other values than their defaults, as a spec writes
        them.
      widths: filters of layers that differ from the published ones, and `fast_rcnn_mlp_head_dim`.
    """

    arch: str
    convention: str = "tao"
    network: Mapping[str, str] = field(default_factory=dict)
    widths: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What is known when a spec is written.

    Attributes:
      source: the data set, for the first line.
      seed: of training.
      classes: name in the labels -> class to learn, in the order of the classes.
      train: training images, one or more folders.
      val: validation images.
      train_images: number of training images, or of their tiles.
      val_images: number of validation images.
      extension: most frequent ending of the images, without a dot.
      canvas: (height, width) of the network input.
      anchors: of the cells.
      coverage: what they reach.
      small_fraction: side of small objects as a fraction of the image's.
      max_objects: most objects of an image, or of a tile.
      max_detections: most detections of an image: more than a whole one has objects.
      masks: outlines are learnt.
      arch: backbone and depth, for example `resnet:18`.
      weights: file to start from; empty for random weights.
      convention: what the weights take for granted, where the spec states it.
      network: further fields of the network that the weights need, {name: value as a spec writes it}.
      widths: of a whole detector to start from, as of `Inherited`; None where there is none: the draft
        chooses them.
      pixels: of the normalisation, where the spec states one.
      horizontal_flips: the classes are the same in a mirror.
      vertical_flips: the pictures look the same upside down, and the classes are the same in a mirror.
      batch: images per step.
      steps: length of the run, which may be less than an epoch.
      validations: on the way and at the end.
      output: folder of the run.
      tiling: how images are cut into tiles; None for whole ones.
      recipe: named in the spec, for what the draft does not choose itself; empty for none.
      reasons: field group -> sentences that say why, written as comments.
    """

    source: str
    seed: int
    classes: Mapping[str, str]
    train: Sequence[LabelFiles]
    val: LabelFiles
    train_images: int
    val_images: int
    extension: str
    canvas: tuple[int, int]
    anchors: Anchors
    coverage: Sequence[Coverage]
    small_fraction: float
    max_objects: int
    max_detections: int
    masks: bool
    arch: str
    weights: str
    convention: str
    network: Mapping[str, str]
    widths: Mapping[str, int] | None = None
    pixels: Pixels
    horizontal_flips: bool
    vertical_flips: bool
    batch: int
    steps: int
    validations: int
    output: str
    tiling: TilingSettings | None = None
    recipe: str = ""
    reasons: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch on one device."""
        return max(self.train_images // self.batch, 1)

    @property
    def epochs(self) -> int:
        """Length of the run in epochs, at least one."""
        return max(self.steps // self.steps_per_epoch, 1)

    @property
    def candidates(self) -> int:
        """Proposals before NMS: with fewer than the ten alike anchors of an object some get none."""
        return max(500, 10 * self.max_objects)

    @property
    def recipe_line(self) -> str:
        """The line that names the recipe, with its line break; empty without one."""
        if not self.recipe:
            return ""
        # What is chosen for the data below is given, and wins.
        return f"# For what is not given below.\nrecipe: {quote(self.recipe)}\n"

    @property
    def tile_lines(self) -> str:
        """The lines that cut images into tiles, inside a message; empty for whole images."""
        if self.tiling is None:
            return ""
        fields = f"  tile_size: {self.tiling.size}\n  tile_overlap: {self.tiling.overlap:g}\n"
        return self.comment("tiles", "  ") + fields

    def comment(self, group: str, indent: str = "") -> str:
        """Returns the reasons of a group as comment lines, each with its line break."""
        # Names of files and classes may hold a line break, which would end the comment.
        lines = wrapped([shown(line) for line in self.reasons.get(group, ())])
        return "".join(f"{indent}# {line}\n" for line in lines)


@dataclass(frozen=True, kw_only=True)
class SpecWriter:
    """How the specs of one detector are drafted.

    Attributes:
      finest: smallest stride of a map in pixels: smaller objects have no cell of their own.
      grid: sides of the canvas are multiples of it.
      labels: form of the labels that its specs name.
      keeps_aspect: images are scaled as they are; otherwise they are stretched to the canvas.
      masks: outlines can be learnt.
      backbones: that its specs can name.
      takes_detectors: published detectors of torchvision fit it as a whole.
      anchors: (sides on the canvas, canvas) -> anchors.
      inherited: config of a model -> what a run that starts from it takes over.
      text: draft -> spec.
    """

    finest: int
    grid: int
    labels: Literal["kitti", "coco"]
    keeps_aspect: bool
    masks: bool
    backbones: tuple[str, ...]
    anchors: Callable[[np.ndarray, tuple[int, int]], Anchors]
    inherited: Callable[[Config], Inherited]
    text: Callable[[Draft], str]
    takes_detectors: bool = False


def wrapped(lines: Sequence[str], width: int = 96) -> Iterator[str]:
    """Yields the lines, cut at blanks; what follows a cut is indented."""
    for line in lines:
        start = ""
        while len(start + line) > width and " " in line[: width - len(start)]:
            cut = line.rindex(" ", 0, width - len(start))
            yield start + line[:cut]
            line, start = line[cut + 1 :], "  "
        yield start + line


def coverage_lines(coverage: Sequence[Coverage]) -> list[str]:
    """Returns a line per group: how many objects an anchor fits, and how many it fits where they lie."""
    return [
        f"  {each.group:<18}{each.objects:>8,} objects, {each.fitted:>6.1%} {each.reached:>6.1%}"
        for each in coverage
    ]
