"""Fields of headers and engine descriptions: each held against its type and range when it is read."""

import dataclasses
import json

import pytest

from rcnn_jax.export.contracts import make_header
from rcnn_jax.runtime.header import Header
from rcnn_jax.runtime.stored_fields import engine_values, header_values, parse_json
from tests.export.tiny import faster_rcnn, mask_rcnn

BOXES = json.loads(json.dumps(make_header(faster_rcnn(), "tao", None).to_json()))
MASKS = json.loads(json.dumps(make_header(mask_rcnn(), "tao", 4).to_json()))
ENGINE = {
    "header": BOXES,
    "precision": "fp16",
    "batches": [1, 4, 8],
    "tensorrt": "10.3",
    "gpu": "a GPU",
    "dla_core": None,
    "sha256": "0" * 64,
}


@pytest.mark.parametrize("fields", [BOXES, MASKS], ids=lambda f: f["kind"])
def test_what_the_exporter_writes_is_read_back(fields):
    header = Header(**header_values(fields))
    assert json.loads(json.dumps(header.to_json())) == fields
    assert isinstance(header.class_names, tuple) and isinstance(header.mean, tuple)


def test_fields_that_earlier_versions_did_not_write_may_be_absent():
    fields = {k: v for k, v in BOXES.items() if k not in ("depends", "version", "nms_names")}
    assert "depends" not in header_values(fields)
    assert header_values({**fields, "geometry": {"mode": "stretch", "height": 8, "width": 8}})


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ([], r"found \[\] where named fields are expected"),
        ({k: v for k, v in BOXES.items() if k != "mean"}, "the field mean is missing"),
        ({**BOXES, "meen": 1}, "the field 'meen' is unknown"),
        ({**BOXES, "kind": "yolo"}, "kind is 'yolo'"),
        ({**BOXES, "class_names": []}, r"class_names is \[\]"),
        ({**BOXES, "class_names": ["\ud800"]}, "class_names is"),
        ({**BOXES, "mean": [1.0, 2.0]}, "mean, std and channel_order are not of the same channels"),
        ({**BOXES, "mean": [1.0, 2.0, float("nan")]}, "mean is"),
        ({**BOXES, "std": [1.0, 1.0, 0.0]}, "std is"),
        ({**BOXES, "std": [1.0, 1.0, 10**400]}, "std is"),
        ({**BOXES, "batch": True}, "batch is True"),
        ({**BOXES, "batch": 0}, "batch is 0"),
        ({**BOXES, "nms_names": ["a", "a"]}, "nms_names is"),
        ({**BOXES, "category_ids": [1, 2, 3]}, "category_ids are for a Mask R-CNN"),
        ({**MASKS, "category_ids": None}, "category_ids are for a Mask R-CNN"),
        ({**MASKS, "category_ids": [1]}, "category_ids and class_names are not of the same number"),
        ({**BOXES, "geometry": {"mode": "stretch"}}, "geometry has no height or width"),
        ({**BOXES, "geometry": {"mode": "short_side"}}, "mode is 'short_side'"),
        ({**BOXES, "geometry": {**BOXES["geometry"], "height": 1 << 20}}, "height is 1048576"),
        ({**BOXES, "geometry": {**BOXES["geometry"], "crop": [1, 2, 3]}}, r"crop is \[1, 2, 3\]"),
    ],
)
def test_what_the_exporter_cannot_have_written_is_refused(fields, text):
    with pytest.raises(ValueError, match=text):
        header_values(fields)


def test_a_long_value_is_shown_short():
    with pytest.raises(ValueError, match=r"\.\.\.$") as error:
        header_values({**BOXES, "kind": "x" * 1000})
    assert len(str(error.value)) < 80


def test_an_engine_description_is_checked_too():
    assert engine_values(ENGINE)["batches"] == (1, 4, 8)
    for changed in (
        {"batches": [4, 1, 8]},
        {"batches": [1, 4]},
        {"dla_core": -1},
        {"precision": 8},
    ):
        with pytest.raises(ValueError, match=next(iter(changed))):
            engine_values({**ENGINE, **changed})


def test_every_field_of_a_header_is_checked():
    for name in (field.name for field in dataclasses.fields(Header)):
        named = "mode" if name == "geometry" else name  # the first of its own fields
        with pytest.raises(ValueError, match=named):
            header_values({**MASKS, name: {"of": ["no", "type"]} if name != "depends" else 3})


def test_a_text_that_nests_without_end_is_a_value_error():
    for text in ("[" * 100_000, "{", b"\xff"):
        with pytest.raises(ValueError):
            parse_json(text)
