import cv2
import numpy as np
import pytest

from rcnn_jax.data.formats.image_size import encoded_image_size, image_format, read_image_size
from rcnn_jax.errors import DataError

IMAGE = np.arange(30 * 50, dtype=np.uint8).reshape(30, 50)


@pytest.mark.parametrize("extension", [".png", ".jpg", ".bmp", ".webp"])
def test_the_size_is_height_and_width(tmp_path, extension):
    path = tmp_path / f"a{extension}"
    cv2.imwrite(str(path), IMAGE)
    assert read_image_size(path) == (30, 50)


def test_exif_orientation_is_ignored():
    jpeg = cv2.imencode(".jpg", IMAGE)[1].tobytes()
    # One EXIF entry: orientation (0x0112), SHORT, count 1, value 6: rotate by a quarter turn.
    tiff = (
        b"MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00"
        + bytes(4)
    )
    body = b"Exif\x00\x00" + tiff
    rotated = jpeg[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + jpeg[2:]
    assert cv2.imdecode(np.frombuffer(rotated, np.uint8), cv2.IMREAD_COLOR).shape[:2] == (50, 30)
    assert encoded_image_size(rotated, "rotated") == (30, 50)


def test_progressive_jpeg_and_padded_markers_are_read():
    jpeg = cv2.imencode(".jpg", IMAGE, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    assert encoded_image_size(jpeg[:2] + b"\xff\xff" + jpeg[2:], "padded") == (30, 50)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(
        DataError, match="gone.png: cannot read the image: No such file or directory"
    ):
        read_image_size(tmp_path / "gone.png")


@pytest.mark.parametrize(
    "data", [b"text", b"\xff\xd8\xff", b"\xff\xd8\x00", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0\0"]
)
def test_damaged_images_are_refused(data):
    with pytest.raises(DataError, match="x.jpg: is not an image, or is damaged"):
        encoded_image_size(data, "x.jpg")


def test_formats_are_recognised_by_content():
    names = [image_format(cv2.imencode(e, IMAGE)[1].tobytes()) for e in (".jpg", ".png", ".bmp")]
    assert names == ["jpeg", "png", ""]
