"""Damaged annotations and records give one message each; `mutants` runs thousands by hand."""

import json

from tests.data.mutants import (
    Folder,
    coco_content,
    coco_mutants,
    feature_mutants,
    sound_detectnet,
    sound_mask_rcnn,
    unhandled,
)


def test_what_mutants_are_made_of_is_sound(tmp_path):
    folder = Folder(tmp_path)
    folder.coco(json.dumps(coco_content()).encode())
    folder.detectnet(sound_detectnet())
    folder.mask_rcnn(sound_mask_rcnn())


def test_damaged_annotation_files_give_one_message_each(tmp_path):
    assert unhandled(Folder(tmp_path).coco, coco_mutants(1, 150)) == []


def test_damaged_records_of_faster_rcnn_give_one_message_each(tmp_path):
    mutants = feature_mutants(2, 200, sound_detectnet())
    assert unhandled(Folder(tmp_path).detectnet, mutants) == []


def test_damaged_records_of_mask_rcnn_give_one_message_each(tmp_path):
    mutants = feature_mutants(3, 200, sound_mask_rcnn())
    assert unhandled(Folder(tmp_path).mask_rcnn, mutants) == []
