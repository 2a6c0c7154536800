"""Pictures as bytes of image files."""

import cv2
import numpy as np
import pytest

from rcnn_jax.errors import DataError
from rcnn_jax.image_file import encode_image

PICTURE = np.random.default_rng(0).integers(0, 256, (12, 9, 3)).astype(np.uint8)


def decoded(data, flag=cv2.IMREAD_UNCHANGED):
    return cv2.imdecode(np.frombuffer(data, np.uint8), flag)


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".bmp"])
def test_a_file_without_loss_holds_the_pixels_in_rgb(suffix):
    np.testing.assert_array_equal(decoded(encode_image(PICTURE, suffix))[..., ::-1], PICTURE)


def test_grey_pictures_and_views_are_encoded_too():
    np.testing.assert_array_equal(decoded(encode_image(PICTURE[..., 0], ".png")), PICTURE[..., 0])
    flipped = PICTURE[::-1, ::2]
    np.testing.assert_array_equal(decoded(encode_image(flipped, ".png"))[..., ::-1], flipped)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp", ".tiff"])
def test_opencv_has_nothing_to_warn_of(suffix, capfd):
    encode_image(PICTURE, suffix)
    assert capfd.readouterr().err == ""


def test_the_quality_of_a_jpeg_decides_its_size():
    sizes = [len(encode_image(PICTURE, ".jpg", quality=quality)) for quality in (20, 70, 95)]
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1]


@pytest.mark.parametrize("suffix", ["", ".txt", "png"])
def test_a_suffix_of_no_image_is_one_message(suffix):
    with pytest.raises(DataError, match=r"a/b: no image is written as .* expected \.jpg or \.png"):
        encode_image(PICTURE, suffix, name="a/b")


def test_a_picture_without_pixels_is_one_message():
    with pytest.raises(DataError, match="no image is written"):
        encode_image(PICTURE[:0], ".png")
