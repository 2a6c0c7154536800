"""Checks of image files that decode nothing: names, presence, and the end of PNG and JPEG."""

import os

import cv2
import numpy as np
import pytest

from rcnn_jax.data.formats.image_files import (
    require_files,
    require_text_name,
    require_whole,
    same_format,
)
from rcnn_jax.errors import DataError

PICTURE = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
JPEG = cv2.imencode(".jpg", PICTURE)[1].tobytes()
PNG = cv2.imencode(".png", PICTURE)[1].tobytes()


def write(tmp_path, data, name="a.img"):
    path = tmp_path / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (".jpg", ".JPEG", True),
        (".PNG", ".png", True),
        (".jpg", ".png", False),
        (".bmp", ".bmp", True),
        ("", ".png", False),
    ],
)
def test_formats_are_compared_in_any_spelling(one, other, same):
    assert same_format(one, other) is same


@pytest.mark.parametrize("data", [JPEG, PNG, JPEG + b"a video follows", PNG + b"\n"])
def test_a_whole_file_passes_and_may_have_other_bytes_behind_it(tmp_path, data):
    require_whole(write(tmp_path, data))


@pytest.mark.parametrize("data", [JPEG, PNG], ids=["jpeg", "png"])
def test_a_file_that_was_cut_anywhere_is_named(tmp_path, data):
    for length in (len(data) - 1, len(data) // 2, 30):
        with pytest.raises(DataError, match="a.img: the image is cut off before its end"):
            require_whole(write(tmp_path, data[:length]))


def test_the_end_of_a_thumbnail_is_not_that_of_the_picture(tmp_path):
    """A JPEG inside the header of a JPEG, as cameras write it, and nothing behind the scan."""
    thumbnail = cv2.imencode(".jpg", PICTURE[:4, :4])[1].tobytes()
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    whole = JPEG[:2] + segment + JPEG[2:]
    require_whole(write(tmp_path, whole))
    with pytest.raises(DataError, match="is cut off"):
        require_whole(write(tmp_path, whole[:-2]))


def test_other_formats_are_left_to_their_decoder(tmp_path):
    require_whole(write(tmp_path, b"BM of some kind"))


def test_a_file_that_cannot_be_read_says_why(tmp_path):
    with pytest.raises(DataError, match="cannot read the image: No such file"):
        require_whole(tmp_path / "gone.png")


def test_missing_and_empty_files_are_listed_together_with_what_is_near(tmp_path):
    good, empty = write(tmp_path, JPEG, "a.jpg"), write(tmp_path, b"", "b.jpg")
    (tmp_path / "c.jpg").mkdir()
    write(tmp_path, JPEG, "d.JPG")
    with pytest.raises(DataError) as error:
        require_files([good, empty, tmp_path / "c.jpg", tmp_path / "d.jpg"], "list.json")
    first, *lines = str(error.value).splitlines()
    assert first == "list.json: 3 images cannot be used:"
    assert lines[0] == f"  {empty}: is empty (0 bytes)"
    assert lines[1] == f"  {tmp_path}/c.jpg: is not a file"
    assert lines[2].startswith(
        f"  {tmp_path}/d.jpg: No such file or directory; {tmp_path}/d.JPG is there"
    )
    require_files([good], "list.json")


def test_at_most_ten_files_are_listed(tmp_path):
    with pytest.raises(DataError) as error:
        require_files([tmp_path / f"{i}.jpg" for i in range(12)], "list.json")
    assert str(error.value).endswith("and 2 more") and str(error.value).count("\n") == 11


def test_a_name_that_is_no_utf_8_is_refused(tmp_path):
    require_text_name(tmp_path / "größe.jpg")
    latin = os.fsencode(tmp_path) + b"/gr\xf6\xdfe.jpg"
    with pytest.raises(DataError, match="is not UTF-8: rename it"):
        require_text_name(tmp_path / os.fsdecode(latin))
