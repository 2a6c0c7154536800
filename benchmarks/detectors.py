"""Detectors and images of the benchmarks."""

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.options import Options
from rcnn_jax.errors import SpecError
from rcnn_jax.spec import load_spec
from rcnn_jax.structures import Batch, GroundTruth
from rcnn_jax.tasks.build import build_experiment
from rcnn_jax.tasks.experiment import Experiment

ROOT = Path(__file__).parents[1]
OBJECTS = 8
"""Ground-truth boxes per image, as in docs/reference/performance.md, "Detectors of torchvision"."""

# torchvision publishes no Faster R-CNN on a single map: the note keeps the ratio honest.
ONE_MAP = "the peer reads a feature pyramid (FPN), rcnn_jax one map of stride 16"


@dataclass(frozen=True, kw_only=True)
class Detector:
    """A spec and the batch it is measured with.

    Attributes:
      name: of the benchmark.
      spec: file.
      batch: images per call.
      canvas: (height, width) instead of the spec's, or None.
      masks: False takes the mask head off a Mask R-CNN: a Faster R-CNN on a pyramid remains; None does
        what the spec says.
      bf16: compute in bfloat16, whatever the options say.
    """

    name: str
    spec: Path
    batch: int = 1
    canvas: tuple[int, int] | None = None
    masks: bool | None = True
    bf16: bool = False


PYRAMID = ROOT / "benchmarks/specs/mask_resnet50.txt"
KITTI = ROOT / "configs/faster_rcnn/kitti_resnet18.txt"
TINY = (
    Detector(name="tiny", spec=ROOT / "configs/faster_rcnn/tiny.txt"),
    Detector(name="tiny mask", spec=ROOT / "benchmarks/specs/mask_tiny.txt"),
)
MASK, FASTER = "Mask R-CNN R50-FPN", "Faster R-CNN R50-FPN"
KITTI_NAME = "Faster R-CNN R18, 384x1248"


def _pyramids(canvas: tuple[int, int], batch: int, bf16: bool = False) -> tuple[Detector, ...]:
    """Returns the two detectors on a pyramid at a size."""
    text = f"{canvas[0]}x{canvas[1]}, batch {batch}"
    shared: dict[str, Any] = {"spec": PYRAMID, "canvas": canvas, "batch": batch, "bf16": bf16}
    return (
        Detector(name=f"{MASK}, {text}", **shared),
        Detector(name=f"{FASTER}, {text}", masks=False, **shared),
    )


def _kitti(batch: int, bf16: bool = False) -> Detector:
    return Detector(name=f"{KITTI_NAME}, batch {batch}", spec=KITTI, batch=batch, bf16=bf16)


SMALL, REAL = (320, 320), (832, 1344)
QUICK = (*_pyramids(SMALL, 1), _kitti(1))
ONE_MAP_RESNET50 = Detector(
    name="Faster R-CNN R50, 320x320, batch 1", spec=ROOT / "benchmarks/specs/resnet50_320.txt"
)
# bfloat16 and batch 8: what the aims of a GPU are stated for.
_MASK_8, _FASTER_8 = _pyramids(REAL, 8, bf16=True)
_MASK_16, _FASTER_16 = _pyramids(REAL, 16, bf16=True)
TRAINED = {
    "tiny": TINY,
    "quick": QUICK,
    "full": (*QUICK, ONE_MAP_RESNET50, _kitti(8)),
    "real": _pyramids(REAL, 1),
    "gpu": (_MASK_8, _kitti(8, bf16=True), _FASTER_8),
}
PREDICTED = {
    **TRAINED,
    "gpu": (
        _pyramids(REAL, 1, bf16=True)[0],
        _MASK_16,
        _kitti(1, bf16=True),
        _kitti(16, bf16=True),
        _FASTER_16,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A detector that is ready to be measured.

    Attributes:
      name: of the benchmark.
      experiment: task and settings.
      arch: as the spec names it, for example `resnet:50`.
      canvas: (height, width).
      batch: images per call.
      bf16: computes in bfloat16.
    """

    name: str
    experiment: Experiment
    arch: str
    canvas: tuple[int, int]
    batch: int
    bf16: bool

    @property
    def depth(self) -> int | None:
        """Layers of a ResNet that torchvision has too, None for other backbones."""
        match = re.fullmatch(r"resnet:(18|34|50|101)", self.arch)
        return int(match.group(1)) if match else None

    @property
    def masks(self) -> bool:
        """Whether there is a mask head."""
        return getattr(self.experiment.task.model, "include_mask", False)

    @property
    def num_classes(self) -> int:
        """Classes without background."""
        return len(self.experiment.task.class_names)


def detectors(options: Options, table: dict[str, tuple[Detector, ...]]) -> tuple[Detector, ...]:
    """Returns the specs that are measured at a size, or the one that was asked for."""
    if options.spec:
        spec = Path(options.spec)
        name = f"{spec.stem}, batch {options.batch}"
        return (Detector(name=name, spec=spec, batch=options.batch, masks=None),)
    return table[options.size]


def prepare(detector: Detector, options: Options) -> Subject:
    """Reads the spec of a detector.

    Raises:
      SpecError: the spec has errors, or its canvas depends on the images.
    """
    loaded = load_spec(detector.spec)
    config: Any = loaded.config
    kind = "mask_rcnn" if loaded.kind == "mask_rcnn" else "faster_rcnn"
    network = config.maskrcnn_config if kind == "mask_rcnn" else config.model_config
    if kind == "mask_rcnn" and detector.masks is not None:
        network.include_mask = detector.masks
    if options.frozen:
        network.freeze_bn = True
    # The flag of the run adds to the detector's own choice: no flag turns it off.
    bf16 = options.bf16 or detector.bf16
    experiment = build_experiment(config, kind, bf16=bf16)
    geometry = experiment.geometry
    if detector.canvas is not None:
        height, width = detector.canvas
        geometry = dataclasses.replace(geometry, height=height, width=width)
    # A canvas per image would compile a program per size, and the rounds would measure the
    # compiler.
    if not geometry.height:
        raise SpecError(
            f"{detector.spec}: the canvas depends on the images (size_min); benchmarks need "
            "size_height_width"
        )
    return Subject(
        name=detector.name,
        experiment=dataclasses.replace(experiment, geometry=geometry),
        arch=experiment.task.model.arch,
        canvas=(geometry.height, geometry.width),
        batch=detector.batch,
        bf16=bf16,
    )


def notes_of(subject: Subject) -> tuple[str, ...]:
    """Returns how the peer differs, where it does."""
    return (ONE_MAP,) if subject.experiment.kind == "faster_rcnn" else ()


def parameters_of(subject: Subject, params: Any) -> dict[str, Any]:
    """Returns the sizes that explain the times."""
    return {
        "arch": subject.arch,
        "canvas": f"{subject.canvas[0]}x{subject.canvas[1]}",
        "batch": subject.batch,
        "precision": "bfloat16" if subject.bf16 else "float32",
        "classes": subject.num_classes,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
    }


def random_boxes(subject: Subject, objects: int = OBJECTS) -> np.ndarray:
    """Returns boxes f32[b objects 4] inside the canvas, sides from a twelfth to a half of it."""
    rng = np.random.default_rng(1)
    canvas = np.asarray(subject.canvas, np.float64)
    side = rng.uniform(1 / 12, 1 / 2, (subject.batch, objects, 2)) * canvas
    corner = rng.uniform(0, 1, side.shape) * (canvas - side)
    return np.concatenate([corner, corner + side], axis=-1).astype(np.float32)


def random_images(subject: Subject) -> np.ndarray:
    """Returns u8[b h w c]."""
    channels = subject.experiment.task.pixels.channels
    # Noise: shapes are fixed, so the time does not depend on what is seen, except where peers skip
    # work.
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (subject.batch, *subject.canvas, channels), np.uint8)


def random_batch(subject: Subject, objects: int = OBJECTS) -> Batch:
    """Returns a training batch as the loader makes it; the masks are full boxes."""
    settings = subject.experiment.train_gt
    batch, limit = subject.batch, settings.max_objects
    objects = min(objects, limit)
    boxes = np.zeros((batch, limit, 4), np.float32)
    boxes[:, :objects] = random_boxes(subject, objects)
    valid = np.arange(limit) < objects
    classes = np.arange(limit) % subject.num_classes
    size = np.tile(np.asarray(subject.canvas, np.float32), (batch, 1))
    masks = None
    if settings.mask_size:
        masks = np.zeros((batch, limit, settings.mask_size, settings.mask_size), np.uint8)
        # Full boxes: targets are cropped by index arithmetic, which takes the same time for any
        # mask.
        masks[:, :objects] = 1
    return Batch(
        images=random_images(subject),
        image_size=size,
        scale=np.ones((batch, 2), np.float32),
        source_size=size,
        image_id=np.arange(batch, dtype=np.int32),
        image_valid=np.ones(batch, bool),
        example_index=np.arange(batch, dtype=np.int32),
        gt=GroundTruth(
            boxes=boxes,
            classes=np.tile(np.where(valid, classes, 0).astype(np.int32), (batch, 1)),
            valid=np.tile(valid, (batch, 1)),
            crowd=np.zeros((batch, limit), bool),
            masks=masks,
        ),
    )
