"""Our Mask R-CNN under torchvision's weights and conventions, stage by stage.

Every stage is a function of the output of the one before, so that it can be fed with what torchvision
gave there, or with what we gave.
"""

import dataclasses
from pathlib import Path
from typing import Any

import cv2
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rcnn_jax.checkpoints.pretrained import apply_weights
from rcnn_jax.checkpoints.torch_names import from_torch
from rcnn_jax.data.sources.categories import Categories
from rcnn_jax.spec.load import parse_spec
from rcnn_jax.structures import BoxOutputs, Detections, Proposals, RpnOutputs
from rcnn_jax.tasks import recipe, two_stage
from rcnn_jax.tasks.build import build_experiment
from rcnn_jax.tasks.mask_rcnn.task import MaskRcnnTask
from rcnn_jax.tasks.task import TestSettings

CONFIG = Path(__file__).parents[2] / "configs" / "mask_rcnn" / "torchvision_resnet50.txt"
NUM_CLASSES = 5
SIDE = 128
PROPOSALS, DETECTIONS = 60, 20  # less to compute and to store than 1000 and 100
GOLDENS = Path(__file__).parents[1] / "golden"
GOLDEN = GOLDENS / "torchvision_mask_rcnn.npz"
GOLDEN_V2 = GOLDENS / "torchvision_mask_rcnn_v2.npz"
GOLDEN_DETECTRON2 = GOLDENS / "detectron2_mask_rcnn.npz"

DENSE = 1e-4  # largest difference, as a share of the largest value of the stage
PIXELS = 0.05  # of boxes
SCORES = 1e-4  # of probabilities


def task_and_test(
    proposals: int = PROPOSALS, detections: int = DETECTIONS
) -> tuple[MaskRcnnTask, TestSettings]:
    """The config for checkpoints of torchvision, with five classes and other counts."""
    text = CONFIG.read_text()
    for old, new in (
        ("num_classes: 91", f"num_classes: {NUM_CLASSES + 1}"),
        ("test_rpn_post_nms_topn: 1000", f"test_rpn_post_nms_topn: {proposals}"),
        ("test_detections_per_image: 100", f"test_detections_per_image: {detections}"),
    ):
        assert old in text, old
        text = text.replace(old, new)
    names = tuple(f"class {i}" for i in range(1, NUM_CLASSES + 1))
    experiment = build_experiment(
        parse_spec(text, CONFIG.name, "mask_rcnn").config,
        "mask_rcnn",
        categories=Categories(tuple(range(1, NUM_CLASSES + 1)), names),
    )
    assert isinstance(experiment.task, MaskRcnnTask)
    # torchvision drops boxes with a score up to 0.05; a spec keeps all.
    test = experiment.evaluation
    kept = dataclasses.replace(test.detections, score_threshold=0.05)
    return experiment.task, TestSettings(proposals=test.proposals, detections=kept)


def variables_from(task: MaskRcnnTask, state_dict: dict) -> dict[str, Any]:
    """Variables filled from a state dict; every layer must be in it."""
    empty = jax.eval_shape(lambda: task.init(jax.random.key(0)))
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), empty)
    weights = from_torch(state_dict, task.model.convention.bn_eps)
    loaded = apply_weights(zeros["params"], zeros["batch_stats"], weights)
    assert loaded.coverage == 1.0, loaded.reason
    return {"params": loaded.params, "batch_stats": loaded.batch_stats}


class Stages:
    """The stages of prediction, each compiled once per shape; all return arrays by flat names.

    Levels are told apart by their number: {"features/2": f32[b h w c], "objectness/2": f32[b h w k]}.
    A stage takes such a dict too and reads of it what it needs.
    """

    def __init__(self, task: MaskRcnnTask, test: TestSettings, variables: Any):
        self.variables = variables
        self._test = test
        self._task = task
        self._features = jax.jit(nn.apply(self._extract, task.model))
        self._rpn = jax.jit(nn.apply(lambda model, x: model.rpn(x), task.model))
        self._propose = jax.jit(self._proposals)
        self._box_head = jax.jit(nn.apply(self._classify, task.model))
        self._detect = jax.jit(self._detections)
        self._mask_head = jax.jit(nn.apply(self._segment, task.model))
        self._whole = jax.jit(lambda v, x: named(task.predict(v, x, test)[0]))

    def features(self, images) -> dict[str, Any]:
        """features/l of images u8[b h w 3]."""
        return flat(self._features(self.variables, images), "features")

    def rpn(self, stage) -> dict[str, Any]:
        """objectness/l and deltas/l of features/l."""
        outputs = self._rpn(self.variables, by_level(stage, "features"))
        return flat(outputs.objectness, "objectness") | flat(outputs.deltas, "deltas")

    def proposals(self, stage, image_size) -> dict[str, Any]:
        """proposals and proposal_scores of objectness/l, deltas/l; image_size f32[b 2]."""
        outputs = RpnOutputs(
            objectness=by_level(stage, "objectness"), deltas=by_level(stage, "deltas")
        )
        proposals = self._propose(outputs, image_size)
        return {
            "proposals": proposals.boxes,
            "proposal_scores": proposals.scores,
            "proposal_valid": proposals.valid,
        }

    def box_head(self, stage, boxes) -> dict[str, Any]:
        """box_crops, logits and box_deltas of features/l and boxes f32[b r 4]."""
        crops, outputs = self._box_head(self.variables, by_level(stage, "features"), boxes)
        return {"box_crops": crops, "logits": outputs.logits, "box_deltas": outputs.deltas}

    def detections(self, stage, image_size) -> dict[str, Any]:
        """boxes, scores, classes, valid of proposals, logits, box_deltas; image_size f32[2]."""
        outputs = BoxOutputs(logits=stage["logits"], deltas=stage["box_deltas"])
        return named(self._detect(stage["proposals"], outputs, image_size))

    def mask_head(self, stage, boxes) -> dict[str, Any]:
        """mask_crops and mask_logits of features/l and boxes f32[b d 4]."""
        crops, logits = self._mask_head(self.variables, by_level(stage, "features"), boxes)
        return {"mask_crops": crops, "mask_logits": logits}

    def predict(self, images) -> dict[str, Any]:
        """What the task itself says of images: boxes, scores, classes, valid, masks."""
        return self._whole(self.variables, images)

    def _extract(self, model, images):
        return model.extract(two_stage.normalize(images, self._task.pixels), train=False)

    def _proposals(self, outputs, image_size):
        settings = self._task.settings
        anchors = two_stage.level_anchors(outputs, settings)
        proposals = self._test.proposals
        return two_stage.propose(outputs, anchors, image_size, proposals, settings.rpn_coder)

    def _classify(self, model, features, boxes):
        crops = self._crops(features, boxes, self._task.settings.roi_size)
        return crops, model.classify(crops, train=False)

    def _detections(self, boxes, outputs, image_size):
        everything = jnp.ones(boxes.shape[:2])
        rois = Proposals(boxes=boxes, scores=everything, valid=everything.astype(bool))
        coder = self._task.settings.box_coder
        return two_stage.detect(rois, outputs, image_size, self._test.detections, coder)

    def _segment(self, model, features, boxes):
        crops = self._crops(features, boxes, model.mask_crop_size)
        return crops, model.segment(crops)

    def _crops(self, features, boxes, side):
        return recipe.roi_crops(features, boxes, side, self._task.settings)


def named(detections: Detections) -> dict:
    """Detections under flat names."""
    masks = {} if detections.masks is None else {"masks": detections.masks}
    return {
        "boxes": detections.boxes,
        "scores": detections.scores,
        "classes": detections.classes,
        "valid": detections.valid,
        **masks,
    }


def flat(levels: dict, stage: str) -> dict:
    """{level: x} -> {"stage/level": x}."""
    return {f"{stage}/{level}": x for level, x in levels.items()}


def by_level(stage: dict, name: str) -> dict:
    """{"name/level": x, ...} -> {level: x}."""
    return {int(k.split("/")[1]): x for k, x in stage.items() if k.startswith(f"{name}/")}


def matching(detections: dict, other: dict) -> dict[str, Any]:
    """Compares predictions of images: detections of one class whose corners are within a pixel.

    Returns:
      {"count": pairs} and the largest difference of boxes, scores and masks over the pairs.
    """
    count, worst = 0, {"boxes": 0.0, "scores": 0.0, "masks": 0.0}
    for image, boxes in enumerate(other["boxes"]):
        distance = np.abs(detections["boxes"][image][:, None] - boxes[None]).max(-1)
        distance[detections["classes"][image][:, None] != other["classes"][image][None]] = np.inf
        nearest = distance.argmin(0)
        theirs = np.flatnonzero(distance.min(0) < 1.0)
        count += len(theirs)
        for name in worst:
            pair = detections[name][image][nearest[theirs]], other[name][image][theirs]
            worst[name] = max(worst[name], float(np.abs(pair[0] - pair[1]).max(initial=0.0)))
    return {"count": count, **worst}


def photographs(folder: Path) -> np.ndarray:
    """The demo photographs as u8[3 256 320 3]."""
    read: list[Any] = [
        cv2.imread(str(folder / f"{name}.jpg")) for name in ("astronaut", "chelsea", "coffee")
    ]
    resized = [cv2.resize(x, (320, 256), interpolation=cv2.INTER_AREA) for x in read]
    return np.ascontiguousarray(np.stack(resized)[..., ::-1])


def relative_error(ours, theirs) -> float:
    """Largest difference as a share of the largest value."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def sampled(array: np.ndarray, count: int = 512) -> np.ndarray:
    """So many values at places that depend on the size alone."""
    rng = np.random.Generator(np.random.Philox(key=[array.size, 2]))
    return array.reshape(-1)[rng.integers(0, array.size, count)]
