"""Image decoding: limits before unpacking, losses reported once."""

import io
import logging
import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from rcnn_jax.data.formats import image_decoder
from rcnn_jax.data.formats.image_decoder import decode, open_image, pixel_limit
from rcnn_jax.data.formats.image_header import tiff_as_stored
from rcnn_jax.data.formats.image_size import read_image_size
from rcnn_jax.data.loader.images import read_image
from rcnn_jax.errors import DataError
from tests.data.image_samples import SIZE, by_pillow, picture, samples

SAMPLES = samples()


@pytest.fixture
def warnings(monkeypatch, caplog):
    """The log from here on, with no loss reported yet."""
    monkeypatch.setattr(image_decoder, "_reported", set())
    caplog.set_level(logging.WARNING, "rcnn_jax")
    return caplog


def bomb(side: int = 30_000) -> bytes:
    """A valid PNG of a few hundred bytes whose header states side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("name", SAMPLES)
def test_pixels_are_those_that_pillow_finds(name):
    ours = decode(SAMPLES[name], "rgb", name)
    image = Image.open(io.BytesIO(SAMPLES[name]))
    if "16bit" in name:
        theirs = np.repeat((np.asarray(image) >> 8).astype(np.uint8)[..., None], 3, axis=-1)
    elif name == "tiff_alpha":
        theirs = np.rint(np.asarray(image)[..., :3] * (100 / 255)).astype(np.uint8)
    elif "alpha" in name:  # Pillow, too, keeps the colours under the opacity
        theirs = np.asarray(image.convert("RGBA"))[..., :3]
    else:
        theirs = np.asarray(image.convert("RGB"))
    slack = 3 if name.split("_")[0] in ("jpeg", "webp") else 0
    assert np.abs(ours.astype(int) - theirs).max() <= slack
    assert decode(SAMPLES[name], "l", name).shape == (*SIZE, 1)
    np.testing.assert_array_equal(decode(SAMPLES[name], "bgr", name), ours[..., ::-1])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_that_is_mirrored_or_lies_on_its_side_is_read_as_stored(orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    data = by_pillow(Image.fromarray(picture()), "TIFF", exif=exif)
    np.testing.assert_array_equal(decode(data, "rgb", "a.tif"), picture())


def test_the_orientation_of_both_byte_orders_is_found():
    for order, magic in (("<", b"II*\0"), (">", b"MM\0*")):
        entry = struct.pack(f"{order}IHHHIHH", 8, 1, 0x112, 3, 1, 6, 0)
        upright = struct.pack(f"{order}IHHHIHH", 8, 1, 0x112, 3, 1, 1, 0)
        assert tiff_as_stored(magic + entry + bytes(4)) == magic + upright + bytes(4)


def test_an_image_that_would_fill_the_memory_is_refused_by_its_header(tmp_path, monkeypatch):
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb())
    message = r"bomb.png: its header states 30000x30000 pixels .*178,956,970.*RCNN_JAX_MAX_PIXELS"
    for read in (read_image_size, lambda path: read_image(path, "rgb")):
        with pytest.raises(DataError, match=message):
            read(path)
    monkeypatch.setenv("RCNN_JAX_MAX_PIXELS", "125")
    with pytest.raises(DataError, match="9x14 pixels .*more than the 125"):
        decode(SAMPLES["jpeg"], "rgb", "a.jpg")
    monkeypatch.setenv("RCNN_JAX_MAX_PIXELS", "126")
    assert decode(SAMPLES["jpeg"], "rgb", "a.jpg").shape == (*SIZE, 3)


@pytest.mark.parametrize("text", ["many", "-1", "0", "1e9", "9" * 30, "²"])
def test_a_limit_that_is_no_number_is_refused(monkeypatch, text):
    monkeypatch.setenv("RCNN_JAX_MAX_PIXELS", text)
    with pytest.raises(DataError, match="RCNN_JAX_MAX_PIXELS = .*: expected a number of pixels"):
        pixel_limit()


def test_a_file_that_is_no_file_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for path, message in (
        (tmp_path / "pipe.png", "is no ordinary file"),
        ("/dev/zero", "is no ordinary file"),
        (tmp_path, "is a folder"),
        (tmp_path / "gone.png", "No such file"),
        (tmp_path / "a\0b.png", "null byte"),
    ):
        with pytest.raises(DataError, match=message):
            open_image(path, str(path))


def test_a_file_larger_than_any_image_is_not_read(tmp_path):
    path = tmp_path / "large.png"
    with path.open("wb") as file:
        file.truncate(10 << 30)
    with pytest.raises(DataError, match="too large for an image: 10,737,418,240 bytes"):
        read_image(path, "rgb")


def test_real_and_32_bit_numbers_are_refused_with_what_to_do():
    for mode in ("F", "I"):
        data = by_pillow(Image.new(mode, SIZE[::-1]), "TIFF")
        with pytest.raises(
            DataError, match="32-bit .* no fixed range; save the image with 8 or 16"
        ):
            decode(data, "rgb", "a.tif")


def test_a_truncated_file_is_reported_as_such():
    for name in ("jpeg", "png", "webp"):
        data = SAMPLES[name]
        with pytest.raises(DataError, match=r"a: the file ends early \("):
            decode(data[: int(len(data) * 0.9)], "rgb", "a")


def test_a_chunk_that_promises_gigabytes_is_refused_before_memory_is_taken():
    data = bytearray(SAMPLES["png"])
    data[33:37] = (2**31 - 8).to_bytes(4, "big")
    with pytest.raises(DataError, match="the file ends early"):
        decode(bytes(data), "rgb", "a.png")


def test_data_of_12_bits_in_16_is_reported_once_with_its_range(warnings):
    deep = picture()[..., 0].astype(np.uint16) * 14 + 300
    deep[0, :2] = 7, 4080
    data = cv2.imencode(".png", deep)[1].tobytes()
    pixels = decode(data, "rgb", "first.png")
    decode(data, "l", "second.png")
    assert pixels.max() == 15
    (message,) = warnings.messages
    assert message.startswith("first.png: 16-bit values from 7 to 4080 become the levels 0 to 15")
    assert "12-bit data: times 16" in message


def test_the_full_range_of_16_bits_gives_no_warning(warnings):
    decode(SAMPLES["png_16bit"], "rgb", "a.png")
    assert not warnings.messages


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("png_turned", "jpeg_turned", "webp_turned"), "EXIF orientation 6 is ignored"),
        (("png_alpha", "webp_alpha", "png_grey_alpha"), "opacity is ignored"),
        (("tiff_alpha", "tiff_alpha"), "opacity darkens the colours"),
        (("png_animated", "webp_animated", "tiff_pages"), "holds several pictures"),
        (("jpeg_cmyk", "tiff_cmyk"), "CMYK colours become RGB without a colour profile"),
    ],
)
def test_losses_are_reported_once_with_the_first_image(warnings, names, message):
    for name in names:
        decode(SAMPLES[name], "rgb", name)
    (text,) = warnings.messages
    assert text.startswith(f"{names[0]}: ") and message in text


def test_a_header_that_lies_about_the_size_is_damage():
    data = bytearray(SAMPLES["jpeg"])
    start = data.index(b"\xff\xc0") + 5
    data[start : start + 2] = (SIZE[0] + 1).to_bytes(2, "big")
    pixels = None
    try:
        pixels = decode(bytes(data), "rgb", "a.jpg")
    except DataError as error:
        assert "do not decode as an image" in str(error)
    assert pixels is None or pixels.shape[:2] == (SIZE[0] + 1, SIZE[1])
