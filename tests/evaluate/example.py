"""An evaluation of boxes, and of masks, in which every kind of error occurs; no model is run."""

import numpy as np
from pycocotools import mask as coco_mask

from rcnn_jax.evaluate.coco import evaluate_coco
from rcnn_jax.evaluate.masks import coco_results
from rcnn_jax.evaluate.scored import Evaluation, of_coco
from rcnn_jax.evaluate.voc import ImageResult, evaluate_voc

NAMES = ("cat", "dog", "fox")
SIDE = 160


def images(seed: int = 0, count: int = 24, *, noise: float = 2.0) -> list[ImageResult]:
    """Images of four objects: found, loose, of another class, twice or not; with false alarms."""
    rng = np.random.default_rng(seed)
    results = []
    for _ in range(count):
        corners = np.array([(8, 8), (8, 88), (88, 8), (88, 88)]) + rng.integers(0, 20, (4, 2))
        sides = rng.uniform(20, 48, (4, 2))
        truth = np.concatenate([corners, corners + sides], axis=1).astype(np.float32)
        classes = rng.integers(0, len(NAMES), 4)
        rows = []
        for box, label in zip(truth, classes, strict=True):
            kind, score = rng.uniform(), float(rng.uniform(0.4, 0.99))
            near = box + rng.normal(0, noise, 4)
            if kind < 0.75:
                rows.append((near, score, label))
            if 0.7 < kind < 0.75:
                rows.append((near + 1, score / 2, label))
            if 0.75 < kind < 0.85:
                rows.append((near, score, (label + 1) % len(NAMES)))
            if 0.85 < kind < 0.92:
                rows.append((near + np.tile(sides[0] / 2, 2), score, label))
        if rng.uniform() < 0.3:
            rows.append((np.array([60, 60, 84, 84]), float(rng.uniform(0.1, 0.8)), 0))
        results.append(
            ImageResult(
                boxes=np.array([row[0] for row in rows], np.float32).reshape(-1, 4).clip(0, SIDE),
                scores=np.array([row[1] for row in rows], np.float32),
                classes=np.array([row[2] for row in rows], np.int32),
                gt_boxes=truth,
                gt_classes=classes.astype(np.int32),
                gt_crowd=rng.uniform(size=4) < 0.05,
                proposals=np.concatenate([truth[rng.uniform(size=4) < 0.95] + 1, truth[:1] - 3]),
            )
        )
    return results


def voc(seed: int = 0, *, method="voc07", thresholds=(0.5,), noise: float = 2.0) -> Evaluation:
    """The images judged by PASCAL's metric."""
    results = images(seed, noise=noise)
    return Evaluation(
        report=evaluate_voc(results, NAMES, thresholds, 0.0, method),
        class_names=NAMES,
        images=tuple(results),
        records=tuple(range(len(results))),
        sizes=((SIDE, SIDE),) * len(results),
    )


def coco(seed: int = 0, *, masks: bool = True) -> Evaluation:
    """The images judged by COCO's metric; masks are their boxes."""
    of_model = images(seed)
    content = {"images": [], "annotations": [], "categories": []}
    results = []
    ids = (3, 5, 9)
    content["categories"] = [{"id": i, "name": n} for i, n in zip(ids, NAMES, strict=True)]
    for number, image in enumerate(of_model):
        content["images"].append({"id": number + 1, "height": SIDE, "width": SIDE, "file_name": ""})
        for index, (y1, x1, y2, x2) in enumerate(image.gt_boxes.astype(float).tolist()):
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": number + 1,
                    "category_id": ids[image.gt_classes[index]],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": int(image.gt_crowd[index]),
                    "segmentation": rle((y1, x1, y2, x2)),
                }
            )
        results += coco_results(
            number + 1,
            image.boxes,
            image.scores,
            [ids[label] for label in image.classes],
            [rle(box) for box in image.boxes.tolist()] if masks else None,
        )
    kinds = ("bbox", "segm") if masks else ("bbox",)
    numbers = [image["id"] for image in content["images"]]
    proposals = [image.proposals for image in of_model]
    names, kept, outlines = of_coco(content, results, numbers, ids, NAMES, proposals, masks=masks)
    return Evaluation(
        report=evaluate_coco(content, results, kinds, image_ids=numbers),
        class_names=names,
        images=kept,
        records=tuple(range(len(of_model))),
        sizes=((SIDE, SIDE),) * len(of_model),
        outlines=outlines,
    )


def rle(box) -> dict:
    """Run lengths of a box."""
    y1, x1, y2, x2 = (round(value) for value in box)
    pixels = np.zeros((SIDE, SIDE), np.uint8, order="F")
    pixels[y1:y2, x1:x2] = 1
    coded = coco_mask.encode(pixels)
    return {"size": [SIDE, SIDE], "counts": coded["counts"].decode()}


class Pictures:
    """A source of grey pictures with the objects drawn in."""

    def __init__(self, evaluation: Evaluation):
        self._images = evaluation.images

    def name(self, index: int) -> str:
        """A path."""
        return f"data/images/{index:04d}.png"

    def image(self, index: int, channel_order: str) -> np.ndarray:
        """u8[160 160 3]."""
        del channel_order
        image = np.full((SIDE, SIDE, 3), 90, np.uint8)
        for (y1, x1, y2, x2), label in zip(
            self._images[index].gt_boxes.round().astype(int).tolist(),
            self._images[index].gt_classes.tolist(),
            strict=True,
        ):
            image[y1:y2, x1:x2] = ((180, 90, 90), (90, 180, 90), (90, 90, 180))[label]
        return image
