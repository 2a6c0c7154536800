"""Seeded damage to annotations of labelling tools: Label Studio, CVAT, Pascal VOC, YOLO."""

import json
import random
import re
import tempfile
from pathlib import Path

import numpy as np

from rcnn_jax.data.layouts.detect import read_collection
from tests.data.layouts.folders import picture, voc_xml
from tests.fuzz.case import Case, Target, sound_cases
from tests.fuzz.damage import ODD, changed_bytes, changed_tree

SUFFIXES = (".label_studio.json", ".cvat.xml", ".voc.xml", ".yolo.txt")
_TEXTS = (
    "",
    "nan",
    "inf",
    "-1",
    "1e308",
    "9" * 12,
    "99999999",
    "a",
    "1,2;3",
    "&#x0;",
    "é",
    ",,",
    ";",
)


def mutant(rng: random.Random) -> Case:
    """Returns an annotation file in which one or two values are other ones, or bytes."""
    suffix = rng.choice(SUFFIXES)
    (sound,) = sound_cases("layouts", suffix)
    if rng.random() < 0.1:
        return Case(suffix, changed_bytes(rng, sound.data))
    if suffix.endswith(".json"):
        content = json.loads(sound.data)
        for _ in range(rng.choice((1, 2))):
            changed_tree(rng, rng.choice(content), (*ODD, "[::1]/a.png", "//[a.png", [[1, 2]] * 3))
        return Case(suffix, json.dumps(content).encode("utf-8", "surrogatepass"))
    text = sound.data.decode()
    spans = [match.span(1) for match in re.finditer(r'"([^"]*)"|>([^<]+)<|(\S+)', text) if match[1]]
    spans += [match.span() for match in re.finditer(r"[\w.]+", text)]
    start, end = rng.choice(spans)
    return Case(suffix, (text[:start] + rng.choice(_TEXTS) + text[end:]).encode())


def check(case: Case, folder: Path) -> None:
    """Reads an annotated folder as `doctor` and `init` do.

    Raises:
      RcnnError: nothing in it is annotated.
    """
    with tempfile.TemporaryDirectory(dir=folder) as name:
        root = Path(name)
        picture(root / "a.png")
        (root / f"a{Path(case.suffix).suffix}").write_bytes(case.data)
        collection = read_collection(root)
    for item in collection.items:
        for labelled in item.objects:
            assert isinstance(labelled.name, str)
            assert np.isfinite(labelled.box).all()


def _seeds() -> dict[str, Case]:
    shapes = (
        '<box label="cat" xtl="6" ytl="4" xbr="36" ybr="24" occluded="1" rotation="3.5"/>',
        '<polygon label="cat" points="1,2;11,2;11,8"/>',
        '<ellipse label="cat" cx="30" cy="20" rx="10" ry="5"/>',
        '<mask label="cat" rle="1, 3, 2" left="4" top="6" width="3" height="2"/>',
        '<points label="cat" points="1,2"/>',
    )
    cvat = (
        "<annotations><meta><task><labels><label><name>cat</name></label></labels></task>"
        "<dumped>2026-01-01 10:00:00</dumped></meta>"
        f'<image id="0" name="a.png" subset="Train" width="60" height="40">{"".join(shapes)}</image>'
        "</annotations>"
    )
    size = {"original_width": 60, "original_height": 40}
    values = (
        ("rectanglelabels", {"x": 10, "y": 10, "width": 50, "height": 50, "rotation": 30}),
        ("polygonlabels", {"points": [[10, 10], [50, 10], [50, 60]]}),
        ("ellipselabels", {"x": 50, "y": 50, "radiusX": 10, "radiusY": 25}),
        ("brushlabels", {"format": "rle", "rle": [0, 0, 37, 128, 56, 220, 4, 0, 255]}),
    )
    result = [
        {"id": kind, "type": kind, "value": {**value, kind: ["cat"]}, **size}
        for kind, value in values
    ]
    tasks = [
        {
            "id": 1,
            "data": {"image": "/data/upload/1/0a1b2c3d-a.png"},
            "annotations": [
                {"id": 2, "completed_by": {"id": 3}, "result": result, "updated_at": "2026-01-01"},
                {"id": 4, "completed_by": 5, "result": [], "was_cancelled": True},
            ],
        },
        {
            "id": 6,
            "image": "a.png",
            "annotation_id": 7,
            "annotator": 8,
            "label": [{**values[0][1], "rectanglelabels": ["dog"], **size}],
        },
    ]
    return {
        "task": Case(".label_studio.json", json.dumps(tasks).encode()),
        "images": Case(".cvat.xml", cvat.encode()),
        "image": Case(
            ".voc.xml", voc_xml("a.png", ("cat", 7, 5, 36, 24), ("dog", 1, 1, 9, 9)).encode()
        ),
        "lines": Case(".yolo.txt", b"0 0.5 0.5 0.2 0.2\n1 0.1 0.1 0.4 0.1 0.4 0.5\n"),
    }


LAYOUTS = Target("layouts", SUFFIXES, _seeds, mutant, check, quick=500)
