"""Images of an annotation file, matched with those of a source by name, else by id."""

import pytest

from rcnn_jax.errors import DataError
from rcnn_jax.evaluate.annotated import AnnotatedImages


class Source:
    """Images (id, file name, (height, width)) without pixels."""

    def __init__(self, *images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def name(self, index):
        return f"record {index}"

    def source_id(self, index):
        return self.images[index][0]

    def file_name(self, index):
        return self.images[index][1]

    def size(self, index):
        return self.images[index][2]


def file(*images):
    """An annotation file of (id, file name) of 6 x 8 pixels."""
    listed = [{"id": i, "file_name": name, "height": 6, "width": 8} for i, name in images]
    return AnnotatedImages({"images": listed}, "val.json")


SIZE = (6, 8)


def test_an_image_is_matched_by_name_whatever_its_id_and_folder():
    assert file((7, "val/a.png"), (8, "b.png")).image_id(Source((99, "x/a.png", SIZE)), 0) == 7


def test_a_name_that_two_folders_have_is_matched_by_id():
    known = file((7, "one/a.png"), (8, "two/a.png"))
    assert known.image_id(Source((8, "a.png", SIZE)), 0) == 8
    with pytest.raises(DataError, match=r"record 0: image 9 \('a.png'\) is not in val.json"):
        known.image_id(Source((9, "a.png", SIZE)), 0)


def test_a_record_without_a_name_is_matched_by_id():
    assert file((7, ""), (8, "")).image_id(Source((8, "", SIZE)), 0) == 8


def test_every_image_must_be_there_once_and_of_the_stated_size():
    known = file((7, "a.png"), (8, "b.png"))
    known.require_all_known(Source((1, "a.png", SIZE), (2, "b.png", SIZE)))
    with pytest.raises(DataError, match="record 1: is image 7 of val.json, as record 0 is"):
        known.require_all_known(Source((1, "a.png", SIZE), (2, "x/a.png", SIZE)))
    with pytest.raises(DataError, match="record 0: is 9 x 6 pixels; val.json states 8 x 6"):
        known.require_all_known(Source((1, "a.png", (6, 9))))


@pytest.mark.parametrize("content", [{}, [], {"images": []}, {"images": {}}])
def test_what_lists_no_images_is_no_annotation_file(content):
    with pytest.raises(DataError, match="val.json: has no list of images"):
        AnnotatedImages(content, "val.json")
