"""Seeded damage to the records of both detectors: features of a wrong type, missing ones, odd bytes."""

import copy
import random
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rcnn_jax.data.formats.detectnet_records import DetectNetFrame, encode_frame
from rcnn_jax.data.formats.kitti import KittiObject
from rcnn_jax.data.formats.mask_rcnn_records import MaskRcnnRecord, encode_mask, encode_record
from rcnn_jax.data.formats.tfrecord import (
    decode_example,
    encode_example,
    write_records,
)
from rcnn_jax.data.loader.census import take_census
from rcnn_jax.data.loader.mask_crops import crop_mask
from rcnn_jax.data.sources.annotations import ClassMap
from rcnn_jax.data.sources.boxes import DetectNetRecords
from rcnn_jax.data.sources.masks import MaskRcnnRecords
from rcnn_jax.settings.data import GeometrySettings
from tests.fuzz.case import Case, Target, sound_cases, write_case, written
from tests.fuzz.damage import changed_bytes

HEIGHT, WIDTH = 24, 32
FASTER, MASK = ".faster_rcnn.tfrecord", ".mask_rcnn.tfrecord"

ODD_FEATURES: tuple[Any, ...] = (
    *([], [0], [1], [-1], [2**62], [-(2**62)], [3, 3], [7] * 9),
    *([0.5], [float("nan")], [float("inf")], [-1e30], [3e38] * 2, [0.1] * 9),
    *(
        [b""],
        [b"x"],
        [b"\xff\xfe"],
        [b"a\0b"],
        [b"1" * 5000],
        [b"a", b"b"],
        [b"../../x"],
        [b"\x1b[2J\x07"],
    ),
    *([b"\x89PNG\r\n\x1a\n" + b"\xff" * 40], [b"\xff\xd8\xff\xc0\0\2"], [b"BM" + b"\xff" * 60]),
)


def mutant(rng: random.Random) -> Case:
    """Returns a file of one record; most have sound checksums."""
    suffix = rng.choice((FASTER, MASK))
    (sound,) = sound_cases("records", suffix)
    if rng.random() < 0.1:
        return Case(suffix, changed_bytes(rng, sound.data))
    example = _changed_features(rng, _record_of(sound))
    return _file(suffix, example)


def _record_of(case: Case) -> bytes:
    """Returns the record in a file: 12 bytes of length stand before it, 4 of its checksum behind."""
    return case.data[12:-4]


def _changed_features(rng: random.Random, sound: bytes) -> bytes:
    features: dict[str, Any] = decode_example(sound)
    changed = copy.deepcopy(features)
    for _ in range(rng.choice((1, 2, 3))):
        key = rng.choice(sorted(features))
        choice, values = rng.random(), changed.get(key)
        if choice < 0.2:
            changed.pop(key, None)
        elif choice < 0.35 and values:
            changed[key] = values[: rng.randrange(len(values))]
        elif choice < 0.5 and values and isinstance(values[0], bytes):
            changed[key] = [changed_bytes(rng, values[0]), *values[1:]]
        else:
            changed[key] = rng.choice(ODD_FEATURES)
    data = encode_example(changed)
    return changed_bytes(rng, data) if rng.random() < 0.1 else data


def check(case: Case, folder: Path) -> None:
    """Opens a record as training does: annotations, image and masks.

    Raises:
      DataError: it is refused.
    """
    path = write_case(case, folder)
    if case.suffix == MASK:
        look(MaskRcnnRecords([path], {1: 0, 3: 1}, ("cat", "dog")))
        return
    image = folder / "1.png"
    if not image.exists():
        cv2.imwrite(str(image), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    classes = ClassMap({"cat": "cat", "dog": "dog"})
    look(DetectNetRecords([path], folder, "png", classes))


def look(source: Any) -> None:
    """Counts a source, and reads its images and masks."""
    take_census(source, "", GeometrySettings(mode="keep_aspect", height=32, width=32))
    for index in range(len(source)):
        source.image(index, "rgb")
        for mask in source.annotation(index).masks or ():
            if mask is not None:
                crop_mask(mask, np.eye(2, 3), np.float32([1, 1, 9, 9]), 4)


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


def _seeds() -> dict[str, Case]:
    return {
        "boxes": _file(FASTER, sound_detectnet()),
        "masks": _file(MASK, sound_mask_rcnn()),
    }


def _file(suffix: str, record: bytes) -> Case:
    return written(lambda path: write_records(path, [record]), suffix)


RECORDS = Target("records", (FASTER, MASK), _seeds, mutant, check, quick=1000)
