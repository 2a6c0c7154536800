"""Seeded damage to annotation files and records: values of a wrong type, missing keys, odd bytes.

Run as a program for as many as wanted; nothing but a DataError may come of a mutant, and soon:

    python -m tests.data.mutants --records 5000 --files 2000
"""

import argparse
import copy
import json
import math
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rcnn_jax.data.conversion.detectnet import CocoConversion, convert_coco
from rcnn_jax.data.conversion.mask_rcnn import MaskRcnnConversion, convert_mask_rcnn
from rcnn_jax.data.formats.coco import CocoDataset
from rcnn_jax.data.formats.coco_masks import mask_rle
from rcnn_jax.data.formats.detectnet_records import DetectNetFrame, encode_frame
from rcnn_jax.data.formats.kitti import KittiObject
from rcnn_jax.data.formats.mask_rcnn_records import MaskRcnnRecord, encode_mask, encode_record
from rcnn_jax.data.formats.tfrecord import decode_example, encode_example, write_records
from rcnn_jax.data.loader.census import take_census
from rcnn_jax.data.loader.mask_crops import crop_mask
from rcnn_jax.data.sources.annotations import ClassMap
from rcnn_jax.data.sources.boxes import DetectNetRecords
from rcnn_jax.data.sources.masks import CocoFolder, MaskRcnnRecords
from rcnn_jax.errors import RcnnError
from rcnn_jax.evaluate.coco import evaluate_coco
from rcnn_jax.settings.data import GeometrySettings

HEIGHT, WIDTH = 24, 32
SLOW = 5.0
"""Seconds that no mutant may take."""

NESTED: Any = []
for _ in range(50):
    NESTED = [NESTED]
ODD = (
    *(None, True, False, 0, 1, -1, 2, 1.5, 1.0, 10**400, -(10**30), 2**63, 1 << 40, 1e300, 1e9),
    *(float("nan"), float("inf"), "", "1", "x", "\0", "a\0b", "\udce9", "../../etc/passwd", "/"),
    *("x" * 5000, [], [[]], [1], [1, 2], ["1", "2"], [None] * 4, [1e9] * 6, {}, {"a": 1}, NESTED),
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
"""Values put where something else belongs."""

ODD_FEATURES: tuple[Any, ...] = (
    *([], [0], [1], [-1], [2**62], [-(2**62)], [3, 3], [7] * 9),
    *([0.5], [float("nan")], [float("inf")], [-1e30], [3e38] * 2, [0.1] * 9),
    *([b""], [b"x"], [b"\xff\xfe"], [b"a\0b"], [b"1" * 5000], [b"a", b"b"], [b"../../x"]),
    *([b"\x89PNG\r\n\x1a\n" + b"\xff" * 40], [b"\xff\xd8\xff\xc0\0\2"], [b"BM" + b"\xff" * 60]),
)


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


def coco_mutants(seed: int, count: int) -> Iterator[bytes]:
    """Yields damaged annotation files: one or two values are replaced, removed or repeated."""
    rng = np.random.Generator(np.random.Philox(seed))
    for _ in range(count):
        content: Any = coco_content()
        for _ in range(rng.integers(1, 3)):
            tree = content.get("annotations") if rng.random() < 0.7 else content
            _damage_tree(tree if isinstance(tree, dict | list) else content, rng)
        data = json.dumps(content).encode("utf-8", "surrogatepass")
        yield _damage_bytes(data, rng) if rng.random() < 0.1 else data


def feature_mutants(seed: int, count: int, sound: bytes) -> Iterator[bytes]:
    """Yields damaged serialized examples of a sound one."""
    rng = np.random.Generator(np.random.Philox(seed))
    features = decode_example(sound)
    for _ in range(count):
        changed = copy.deepcopy(features)
        for _ in range(rng.integers(1, 4)):
            key = sorted(features)[rng.integers(len(features))]
            if rng.random() < 0.2:
                changed.pop(key, None)
            elif rng.random() < 0.2 and changed.get(key):
                changed[key] = changed[key][: rng.integers(len(changed[key]))]
            elif rng.random() < 0.2 and changed.get(key) and isinstance(changed[key][0], bytes):
                changed[key] = [_damage_bytes(changed[key][0], rng), *changed[key][1:]]
            else:
                changed[key] = ODD_FEATURES[rng.integers(len(ODD_FEATURES))]
        data = encode_example(changed)
        yield _damage_bytes(data, rng) if rng.random() < 0.1 else data


def sound_detectnet() -> bytes:
    """Returns a record of Faster R-CNN with two objects."""
    objects = tuple(
        KittiObject(class_name=name, x1=2, y1=3, x2=12, y2=9, occluded=k)
        for k, name in enumerate(("cat", "dog"))
    )
    return encode_frame(DetectNetFrame(frame_id="1", height=HEIGHT, width=WIDTH, objects=objects))


def sound_mask_rcnn() -> bytes:
    """Returns a record of Mask R-CNN with two objects."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[3:9, 2:12] = 1
    box = [3 / HEIGHT, 2 / WIDTH, 9 / HEIGHT, 12 / WIDTH]
    return encode_record(
        MaskRcnnRecord(
            encoded=cv2.imencode(".png", mask)[1].tobytes(),
            source_id="1",
            filename="1.png",
            height=HEIGHT,
            width=WIDTH,
            boxes=np.array([box] * 2, np.float32),
            labels=np.array([1, 3]),
            class_names=("cat", "Big Dog"),
            area=np.array([60, 60], np.float32),
            crowd=np.array([False, True]),
            masks=(encode_mask(mask),) * 2,
        )
    )


class Folder:
    """Reads mutants as the commands do, in a folder with two images."""

    def __init__(self, root: Path):
        self.root = root
        self._count = 0
        for name in ("1.png", "2.png"):
            cv2.imwrite(str(root / name), np.zeros((HEIGHT, WIDTH, 3), np.uint8))

    def coco(self, data: bytes) -> None:
        """Trains on, converts and evaluates an annotation file."""
        path = self.root / "instances.json"
        path.write_bytes(data)
        dataset = CocoDataset.load_instances(path, masks=True)
        classes = {item_id: index for index, item_id in enumerate(dataset.categories)}
        _look(CocoFolder(dataset, self.root, classes, tuple(map(str, classes))))
        evaluate_coco(path, [], ("bbox", "segm"))
        self._count += 1
        convert_mask_rcnn(
            MaskRcnnConversion(
                image_dir=self.root,
                annotations_file=path,
                output_dir=self.root / "out",
                tag=str(self._count),
                num_shards=1,
            )
        )
        coco = CocoConversion(
            root=self.root.parent,
            img_dir_names=(self.root.name,),
            annotation_files=(f"{self.root.name}/{path.name}",),
            num_partitions=1,
        )
        convert_coco(coco, self.root / "out" / f"k{self._count}")

    def detectnet(self, data: bytes) -> None:
        """Opens a record of Faster R-CNN."""
        path = self.root / "shard"
        write_records(path, [data])
        classes = ClassMap({"cat": "cat", "dog": "dog"})
        _look(DetectNetRecords([path], self.root, "png", classes))

    def mask_rcnn(self, data: bytes) -> None:
        """Opens a record of Mask R-CNN and decodes its masks."""
        path = self.root / "shard"
        write_records(path, [data])
        _look(MaskRcnnRecords([path], {1: 0, 3: 1}, ("cat", "dog")))


def unhandled(
    read: Callable[[bytes], None], mutants: Iterator[bytes], slow: float = math.inf
) -> list[str]:
    """Returns a report of every mutant that gave a traceback or took more seconds than `slow`."""
    reports = []
    for number, data in enumerate(mutants):
        begin = time.monotonic()
        try:
            read(data)
        except RcnnError as error:
            str(error).encode()  # a message that can be printed
        except Exception:
            reports.append(f"mutant {number}: {data[:3000]!r}\n{traceback.format_exc()}")
        if (seconds := time.monotonic() - begin) > slow:
            reports.append(f"mutant {number}: {seconds:.1f} s: {data[:3000]!r}")
    return reports


def _look(source: Any) -> None:
    take_census(source, "", GeometrySettings(mode="keep_aspect", height=32, width=32))
    for index in range(len(source)):
        source.image(index, "rgb")
        for mask in source.annotation(index).masks or ():
            if mask is not None:
                crop_mask(mask, np.eye(2, 3), np.float32([1, 1, 9, 9]), 4)


def _damage_tree(content: Any, rng: np.random.Generator) -> None:
    """Changes, replaces, removes or repeats one value somewhere in a tree of lists and dicts."""
    node = content
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return
        key = keys[rng.integers(len(keys))]
        inner = node[key]
        if isinstance(inner, dict | list) and inner and rng.random() < 0.9:
            node = inner
            continue
        choice = rng.random()
        if choice < 0.12:
            del node[key]
        elif choice < 0.3 and isinstance(inner, int | float):
            node[key] = inner + int(rng.integers(-3, 4))
        elif choice < 0.2 and isinstance(node, list):
            node.append(copy.deepcopy(inner))
        else:
            node[key] = copy.deepcopy(ODD[rng.integers(len(ODD))])
        return


def _damage_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    if not data:
        return b"\xff"
    changed = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        changed[rng.integers(len(changed))] = rng.integers(256)
    return bytes(changed[: rng.integers(len(changed))] if rng.random() < 0.3 else changed)


def main() -> None:
    """Runs as many mutants as the command line asks for and prints what was not handled."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--records", type=int, default=5000)
    parser.add_argument("--files", type=int, default=2000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        folder = Folder(Path(root))
        half = args.records // 2
        reports = [
            *unhandled(folder.coco, coco_mutants(args.seed, args.files), SLOW),
            *unhandled(folder.detectnet, feature_mutants(args.seed, half, sound_detectnet()), SLOW),
            *unhandled(folder.mask_rcnn, feature_mutants(args.seed, half, sound_mask_rcnn()), SLOW),
        ]
    print("\n\n".join(reports))  # noqa: T201
    print(f"{len(reports)} not handled of {args.files} files and {2 * half} records")  # noqa: T201


if __name__ == "__main__":
    main()
