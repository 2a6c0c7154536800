"""On which picture labels were drawn, and how it is turned; PIL is the second opinion."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from rcnn_jax.data.layouts.collection import Labelled
from rcnn_jax.diagnose.exif import drawn_as_shown, shown_size, turning_copy, upright
from rcnn_jax.diagnose.records import Record, read_file
from rcnn_jax.diagnose.scan import Scan


def photograph(orientation, suffix="PNG"):
    tag = Image.Exif()
    tag[274] = orientation
    pixels = np.random.default_rng(0).integers(0, 255, (4, 6, 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, suffix, exif=tag)
    return data.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_as_pil_turns_it(tmp_path, orientation):
    path = tmp_path / "a.png"
    path.write_bytes(photograph(orientation))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    picture = read_file(path)
    assert picture.orientation == orientation
    assert np.array_equal(upright(picture.image, orientation), expected)
    size = shown_size(Scan(size=picture.image.shape[:2], orientation=orientation))
    assert size == expected.shape[:2]
    turning_copy({path: orientation})(path, tmp_path / "b.png")
    copy = read_file(tmp_path / "b.png")
    assert copy.orientation == 1
    assert np.array_equal(copy.image, expected)


def record(stated, *boxes):
    objects = tuple(Labelled("cat", box) for box in boxes)
    return Record("a", "", stated, objects, lambda: pytest.fail("is not read"))


LYING, UPSIDE_DOWN = Scan(size=(40, 60), orientation=6), Scan(size=(40, 60), orientation=3)


def test_a_stated_size_says_so_for_the_whole_set():
    upright_one = Scan(size=(40, 60))
    records = [record((60, 40)), record((40, 60)), record((40, 60))]
    # The second one is as large either way; the tool that drew the first drew it too.
    assert drawn_as_shown(records, [LYING, UPSIDE_DOWN, upright_one]) == {0, 1}
    assert drawn_as_shown(records[1:], [UPSIDE_DOWN, upright_one]) == frozenset()


def test_where_pictures_contradict_each_speaks_for_itself():
    records = [record((60, 40)), record((40, 60)), record((40, 60))]
    assert drawn_as_shown(records, [LYING, UPSIDE_DOWN, LYING]) == {0}


def test_boxes_beyond_the_stored_picture_say_so_where_no_size_is_stated():
    assert drawn_as_shown([record(None, (1, 1, 55, 20))], [LYING]) == {0}
    assert drawn_as_shown([record(None, (1, 1, 20, 55))], [LYING]) == frozenset()
    # Inside both pictures, and outside both: nothing follows.
    assert drawn_as_shown([record(None, (1, 1, 20, 20))], [LYING]) == frozenset()
    assert drawn_as_shown([record(None, (1, 1, 90, 90))], [LYING]) == frozenset()


def test_pictures_that_cannot_be_read_say_nothing():
    assert drawn_as_shown([record((60, 40))], [Scan(fault="broken")]) == frozenset()
