"""Seeded damage to annotation files: values of a wrong type, missing keys, odd bytes."""

import json
import random
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rcnn_jax.data.conversion.detectnet import CocoConversion, convert_coco
from rcnn_jax.data.conversion.mask_rcnn import MaskRcnnConversion, convert_mask_rcnn
from rcnn_jax.data.formats.coco import CocoDataset
from rcnn_jax.data.formats.coco_masks import mask_rle
from rcnn_jax.data.sources.masks import CocoFolder
from rcnn_jax.evaluate.coco import evaluate_coco
from tests.data.record_mutants import HEIGHT, WIDTH, look
from tests.fuzz.case import Case, Target, read_all, sound_cases, write_case
from tests.fuzz.damage import ODD, changed_bytes, changed_tree

ODD_VALUES = (
    *ODD,
    *({"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}, {"size": 3, "counts": "x"}),
    *({"size": [HEIGHT, WIDTH], "counts": [10**30]}, {"size": [1 << 40] * 2, "counts": "0" * 999}),
    *(
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5, 6]],
        [[1e9, 2, 3, 4, 5, 6]],
        [["a"] * 6],
        [1, 2, 3, 4, 5, 6],
    ),
)
"""Put where something else belongs: masks that are nearly some, too."""


def mutant(rng: random.Random) -> Case:
    """Returns an annotation file in which one or two values are other ones, or bytes."""
    (sound,) = sound_cases("coco", ".json")
    content: Any = json.loads(sound.data)
    for _ in range(rng.choice((1, 2))):
        tree = content.get("annotations") if rng.random() < 0.7 else content
        changed_tree(rng, tree if isinstance(tree, dict | list) else content, ODD_VALUES)
    data = json.dumps(content).encode("utf-8", "surrogatepass")
    return Case(".json", changed_bytes(rng, data) if rng.random() < 0.1 else data)


def check(case: Case, folder: Path) -> None:
    """Trains on, converts and evaluates an annotation file, in a folder with its two images.

    Raises:
      RcnnError: what the readers say, all of them.
    """
    images = folder / "images"
    if not images.exists():
        images.mkdir()
        for name in ("1.png", "2.png"):
            cv2.imwrite(str(images / name), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    path = write_case(case, folder, "instances")
    with tempfile.TemporaryDirectory(dir=folder) as out:
        read_all(
            lambda: _train(path, images),
            lambda: evaluate_coco(path, [], ("bbox", "segm")),
            lambda: convert_mask_rcnn(
                MaskRcnnConversion(
                    image_dir=images,
                    annotations_file=path,
                    output_dir=Path(out),
                    tag="t",
                    num_shards=1,
                )
            ),
            lambda: convert_coco(
                CocoConversion(
                    root=folder,
                    img_dir_names=(images.name,),
                    annotation_files=(path.name,),
                    num_partitions=1,
                ),
                Path(out) / "k",
            ),
        )


def _train(path: Path, images: Path) -> None:
    dataset = CocoDataset.load_instances(path, masks=True)
    classes = {item_id: index for index, item_id in enumerate(dataset.categories)}
    look(CocoFolder(dataset, images, classes, tuple(map(str, classes))))


def coco_content() -> dict[str, Any]:
    """Returns a sound annotation file of two images with all three forms of masks."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[3:9, 2:12] = 1
    square = [2, 3, 12, 3, 12, 9, 2, 9]
    runs = {"size": [HEIGHT, WIDTH], "counts": [51, *([6, 18] * 9), 6, 495]}
    forms = [[square], mask_rle(mask), runs, [square, [1, 2, 3, 4]]]
    return {
        "images": [
            {"id": i, "file_name": f"{i}.png", "height": HEIGHT, "width": WIDTH} for i in (1, 2)
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 3, "name": "Big Dog"}],
        "annotations": [
            {
                "id": i + 1,
                "image_id": 1 + i % 2,
                "category_id": 1 + 2 * (i % 2),
                "bbox": [2, 3, 10, 6],
                "area": 60,
                "iscrowd": int(i == 2),
                "segmentation": form,
            }
            for i, form in enumerate(forms)
        ],
    }


def _seeds() -> dict[str, Case]:
    return {"instances": Case(".json", json.dumps(coco_content()).encode())}


COCO = Target("coco", (".json",), _seeds, mutant, check, quick=500)
