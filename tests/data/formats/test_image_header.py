"""Image headers: format, size and kind of pixels, without decoding."""

import io

import pytest
from PIL import Image

from rcnn_jax.data.formats.image_header import ends_early, foreign_format, header_of
from tests.data.image_samples import SIZE, by_pillow, samples

SAMPLES = samples()


@pytest.mark.parametrize("name", SAMPLES)
def test_the_header_states_what_the_image_is(name):
    header = header_of(SAMPLES[name])
    assert header is not None
    assert (header.height, header.width) == SIZE
    assert header.format == name.split("_")[0]
    assert header.alpha == ("alpha" in name or "transparent" in name)
    assert header.cmyk == ("cmyk" in name)
    assert header.frames == ("animated" in name or "pages" in name)
    assert (header.bits == 16) == ("16bit" in name)
    orientations = {"png_turned": 6, "jpeg_turned": 8, "webp_turned": 3}
    assert header.orientation == orientations.get(name, 1)
    assert not header.floating


@pytest.mark.parametrize("name", SAMPLES)
def test_every_beginning_of_an_image_is_read_without_an_error(name):
    data = SAMPLES[name]
    for end in range(min(len(data), 400)):
        header = header_of(data[:end])
        assert header is None or (header.height, header.width) == SIZE


def test_real_numbers_are_seen():
    values = Image.new("F", SIZE[::-1])
    assert header_of(by_pillow(values, "TIFF")).floating


def test_the_size_of_a_webp_is_that_of_its_canvas_or_frame():
    for kind in ({"lossless": True}, {"lossless": False}):
        for size in ((1, 1), (16383, 1), (1, 16383), (300, 200)):
            data = by_pillow(Image.new("RGB", size), "WEBP", **kind)
            header = header_of(data)
            assert (header.width, header.height) == size


def test_a_lost_end_is_seen_where_the_format_tells():
    for name in ("png", "png_palette", "jpeg", "jpeg_turned", "webp", "webp_alpha"):
        data = SAMPLES[name]
        header = header_of(data)
        assert not ends_early(data, header)
        assert ends_early(data[: int(len(data) * 0.8)], header)


def test_a_thumbnail_does_not_hide_a_lost_end():
    whole = SAMPLES["jpeg"]
    thumbnail = b"\xff\xe1" + (len(whole) + 2).to_bytes(2, "big") + whole
    with_thumbnail = whole[:2] + thumbnail + whole[2:]
    header = header_of(with_thumbnail)
    assert not ends_early(with_thumbnail, header)
    assert ends_early(with_thumbnail[:-10], header)


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\n<html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
        (b"\x00\x00\x00\x1cftypavif", "an AVIF image"),
        (b"\x00\x00\x00\x18ftypheic", "a HEIC image"),
        (b"%PDF-1.7", "a PDF document"),
        (b"PK\x03\x04", "a ZIP archive"),
        (b"\x93NUMPY", "a NumPy array"),
    ],
)
def test_what_lies_under_the_name_of_an_image_is_named(start, what):
    assert header_of(start) is None
    assert what in foreign_format(start)
    assert foreign_format(b"nothing known") == ""


def test_a_header_of_nothing_but_chunks_ends():
    chunk = (0).to_bytes(4, "big") + b"teXt" + bytes(4)
    assert header_of(SAMPLES["png"][:33] + chunk * 200_000) is not None
    segments = b"\xff\xd8" + b"\xff\xfe\x00\x02" * 200_000
    assert header_of(segments) is None
    looped = bytearray(by_pillow(Image.new("RGB", SIZE[::-1]), "TIFF"))
    looped[4:8] = (0).to_bytes(4, "little")
    header_of(bytes(looped))
    assert header_of(io.BytesIO(b"").getvalue()) is None
