"""Which detectors train and predict are measured with, and the images they are given."""

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
"""Ground-truth boxes per image, as in reference/performance_findings section 1."""

PYRAMID = "the peer reads a feature pyramid (FPN), rcnn_jax one map of stride 16"


@dataclass(frozen=True, kw_only=True)
class Detector:
    """A spec and the batch it is measured with."""

    spec: Path
    batch: int


TINY = Detector(spec=ROOT / "configs/faster_rcnn/tiny.txt", batch=1)
RESNET50 = Detector(spec=ROOT / "benchmarks/specs/resnet50_320.txt", batch=1)
RESNET18 = Detector(spec=ROOT / "configs/faster_rcnn/kitti_resnet18.txt", batch=1)
RESNET18_BATCH = Detector(spec=ROOT / "configs/faster_rcnn/kitti_resnet18.txt", batch=8)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A detector that is ready to be measured.

    Attributes:
      experiment: task and settings.
      arch: as the spec names it, for example `resnet:50`.
      canvas: (height, width).
      batch: images per call.
    """

    experiment: Experiment
    arch: str
    canvas: tuple[int, int]
    batch: int

    @property
    def depth(self) -> int | None:
        """Layers of a ResNet that torchvision has too, None for other backbones."""
        found = re.fullmatch(r"resnet:(18|34|50|101)", self.arch)
        return int(found.group(1)) if found else None


def detectors(options: Options) -> tuple[Detector, ...]:
    """Returns what is measured at a size, or the one spec that was asked for."""
    if options.spec:
        return (Detector(spec=Path(options.spec), batch=options.batch),)
    return {
        "tiny": (TINY,),
        "quick": (RESNET50, RESNET18),
        "full": (RESNET50, RESNET18, RESNET18_BATCH),
    }[options.size]


def prepare(detector: Detector, options: Options) -> Subject:
    """Reads the spec of a detector.

    Raises:
      SpecError: the spec has errors, or its canvas depends on the images.
    """
    config: Any = load_spec(detector.spec, "faster_rcnn").config
    experiment = build_experiment(config, "faster_rcnn", bf16=options.bf16)
    geometry = experiment.geometry
    if not geometry.height:
        raise SpecError(
            f"{detector.spec}: the canvas depends on the images (size_min); benchmarks need "
            "size_height_width"
        )
    return Subject(
        experiment=experiment,
        arch=config.model_config.arch,
        canvas=(geometry.height, geometry.width),
        batch=detector.batch,
    )


def name_of(detector: Detector) -> str:
    """Returns what a benchmark of the detector is called."""
    return f"{detector.spec.stem}, batch {detector.batch}"


def peer_name(subject: Subject) -> str:
    """Returns what the peer of a detector is called."""
    return f"torchvision resnet{subject.depth}-fpn" if subject.depth else "torchvision"


def parameters_of(subject: Subject, params: Any, options: Options) -> dict[str, Any]:
    """Returns the sizes that explain the times."""
    return {
        "arch": subject.arch,
        "canvas": f"{subject.canvas[0]}x{subject.canvas[1]}",
        "batch": subject.batch,
        "precision": "bfloat16" if options.bf16 else "float32",
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
    }


def random_boxes(subject: Subject) -> np.ndarray:
    """Returns boxes f32[b OBJECTS 4] inside the canvas, sides from a twelfth to a half of it."""
    rng = np.random.default_rng(1)
    canvas = np.asarray(subject.canvas, np.float64)
    side = rng.uniform(1 / 12, 1 / 2, (subject.batch, OBJECTS, 2)) * canvas
    corner = rng.uniform(0, 1, side.shape) * (canvas - side)
    return np.concatenate([corner, corner + side], axis=-1).astype(np.float32)


def random_images(subject: Subject) -> np.ndarray:
    """Returns u8[b h w c]."""
    channels = subject.experiment.task.pixels.channels
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (subject.batch, *subject.canvas, channels), np.uint8)


def random_batch(subject: Subject) -> Batch:
    """Returns a training batch as the loader makes it."""
    batch, limit = subject.batch, subject.experiment.train_gt.max_objects
    boxes = np.zeros((batch, limit, 4), np.float32)
    boxes[:, :OBJECTS] = random_boxes(subject)
    valid = np.arange(limit) < OBJECTS
    classes = np.arange(limit) % len(subject.experiment.task.class_names)
    size = np.tile(np.asarray(subject.canvas, np.float32), (batch, 1))
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
        ),
    )
