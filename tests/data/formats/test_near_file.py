import unicodedata

import pytest

from rcnn_jax.data.formats.near_file import near_file

ACCENT = unicodedata.normalize("NFC", "kühe.png")


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "img"
    (folder / "a").mkdir(parents=True)
    for name in ("1.jpg", "a/x.jpg", "my image.jpg", ACCENT):
        (folder / name).write_bytes(b"x")
    return folder


@pytest.mark.parametrize(
    ("name", "file", "cause"),
    [
        ("a\\x.jpg", "a/x.jpg", "the name has \\ where / belongs"),
        ("C:\\data\\1.jpg", "1.jpg", "the name has folders that are not there"),
        ("my%20image.jpg", "my image.jpg", "the name is percent-encoded"),
        (unicodedata.normalize("NFD", ACCENT), ACCENT, "its accents are written in form NFC"),
        ("1.jpg ", "1.jpg", "the name has blanks at its end"),
        ("1.JPG", "1.jpg", "upper and lower case differ"),
        ("1", "1.jpg", "the name has no extension"),
        ("img/1.jpg", "1.jpg", "the name has folders that are not there"),
        ("http://host/1.jpg", "1.jpg", "the name has folders that are not there"),
    ],
)
def test_the_file_that_was_meant_is_named_with_the_cause(images, name, file, cause):
    assert near_file(images / name) == f"; {images / file} is there: {cause}"


@pytest.mark.parametrize("name", ["2.jpg", "b/2.jpg", "a", "x" * 300, "a\0b"])
def test_of_a_name_that_is_like_no_file_nothing_is_said(images, name):
    assert near_file(images / name) == ""
