"""Whatever callers have: a picture works, anything else is one message."""

import io
from pathlib import Path

import cv2
import numpy as np
import pytest

from rcnn_jax.data.loader.pictures import as_pictures, read_picture
from rcnn_jax.errors import DataError

RGB = np.random.default_rng(1).integers(0, 256, (5, 7, 3), np.uint8)
PNG = cv2.imencode(".png", RGB[..., ::-1])[1].tobytes()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    return path


def test_files_bytes_and_arrays_are_the_same_picture(file):
    for image in (file, str(file), PNG, bytearray(PNG), memoryview(PNG), RGB):
        np.testing.assert_array_equal(read_picture(image, "rgb"), RGB)
        np.testing.assert_array_equal(read_picture(image, "bgr"), RGB[..., ::-1])
        assert read_picture(image, "l").shape == (5, 7, 1)


def test_images_of_pil_are_pictures():
    pil = pytest.importorskip("PIL.Image")
    image = pil.open(io.BytesIO(PNG))
    for picture in (image, image.convert("RGBA"), image.convert("RGB")):
        np.testing.assert_array_equal(read_picture(picture, "rgb"), RGB)
    grey = read_picture(image.convert("L"), "rgb")
    assert grey.shape == (5, 7, 3) and (grey[..., 0] == grey[..., 2]).all()
    assert read_picture(image.convert("P"), "bgr").shape == (5, 7, 3)
    with pytest.raises(DataError, match="mode I;16 has no fixed range: convert it to RGB"):
        read_picture(pil.fromarray(RGB[..., 0].astype(np.uint16)), "rgb")
    with pytest.raises(DataError, match="PIL image that cannot be read"):
        read_picture(pil.open(io.BytesIO(PNG[: len(PNG) - 30])), "rgb")


def test_one_picture_need_not_be_in_a_list(file):
    for image in (file, str(file), PNG, RGB):
        assert len(as_pictures(image)) == 1
    assert len(as_pictures(np.stack([RGB, RGB]))) == 2
    assert len(as_pictures(iter([RGB, PNG, file]))) == 3
    assert as_pictures([]) == as_pictures(()) == []


@pytest.mark.parametrize("value", [None, 3, 1.5, {"a": 1}, np.float32(2), np.array(3), object()])
def test_what_holds_no_pictures_is_one_message(value):
    with pytest.raises(DataError, match=r"instead of pictures: expected image files, the bytes"):
        as_pictures(value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "found None, expected image files"),
        ([RGB], "found list, expected image files"),
        (RGB.tolist(), "found list, expected image files"),
        (np.zeros((0, 0, 3), np.uint8), "without pixels"),
        (np.zeros(0), r"found float64\[0\], expected uint8\[h w 3\]"),
        (RGB / 255, r"float64\[5, 7, 3\], .* \(image \* 255\)\.round\(\)"),
        (RGB.astype(np.float32), r"\(image\)\.round\(\)"),
        (RGB.astype(np.int64), r"found int64"),
        (RGB[..., 0], r"grey image with np.stack"),
        (RGB[..., :1], r"grey image with np.repeat"),
        (np.zeros((5, 7, 4), np.uint8), r"opacity out with image\[..., :3\]"),
        (RGB.transpose(2, 0, 1), r"transpose\(1, 2, 0\)"),
        (np.stack([RGB, RGB]), "a batch is no picture"),
        (np.array([None, 1]), "found object"),
        (b"", "image in memory: is empty"),
        (b"text", "image in memory: is not an image"),
        ("gone.png", "gone.png: cannot read the image"),
        ("", "is a folder"),
        (Path("/dev/zero"), "is no ordinary file"),
        ("a\0b", "null byte"),
    ],
)
def test_what_is_no_picture_is_one_message(value, message):
    with pytest.raises(DataError, match=message):
        read_picture(value, "rgb")


def test_open_files_are_pictures_and_not_their_lines(file):
    wanted = read_picture(file, "rgb")
    (upload,) = as_pictures(io.BytesIO(file.read_bytes()))
    np.testing.assert_array_equal(read_picture(upload, "rgb"), wanted)
    with file.open("rb") as opened:
        np.testing.assert_array_equal(read_picture(opened, "rgb"), wanted)
    with pytest.raises(DataError, match=r"BufferedReader that cannot be read: .*closed"):
        read_picture(opened, "rgb")
    with pytest.raises(DataError, match="StringIO opened for text: open it with mode 'rb'"):
        read_picture(io.StringIO("x"), "rgb")
