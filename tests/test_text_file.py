"""Text files: the mark goes, other encodings are named."""

import pytest

from rcnn_jax.errors import DataError, SpecError
from rcnn_jax.text_file import read_text


def test_a_byte_order_mark_is_no_text(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfcar\n")
    assert read_text(path, "label file") == "car\n"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("car".encode("utf-16"), "the label file is saved as UTF-16; save it as UTF-8"),
        ("car".encode("utf-32"), "the label file is saved as UTF-32; save it as UTF-8"),
        ("car 1".encode("utf-16-le"), "the label file is saved as UTF-16 without a mark; save it"),
        ("car 1".encode("utf-16-be"), "the label file is saved as UTF-16 without a mark; save it"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "is a pointer of Git LFS, not the label file",
        ),
        (b"car\ncaf\xe9", "a.txt:2: the label file is not UTF-8 text (byte 7 is 0xe9)"),
    ],
)
def test_another_encoding_is_named(tmp_path, data, message):
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    with pytest.raises(DataError) as error:
        read_text(path, "label file")
    assert message in str(error.value)


def test_what_is_no_file_is_one_message(tmp_path):
    with pytest.raises(SpecError, match="there is no such spec"):
        read_text(tmp_path / "x", "spec", SpecError)
    with pytest.raises(DataError, match="expected a spec, found a folder"):
        read_text(tmp_path, "spec")
    with pytest.raises(DataError, match="expected an annotation file, found a folder"):
        read_text(tmp_path, "annotation file")
    with pytest.raises(DataError, match="the spec cannot be read"):
        read_text("a\0b", "spec")


def test_what_is_no_text_is_not_called_text_of_another_encoding(tmp_path):
    path = tmp_path / "model.tlt"
    path.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    with pytest.raises(SpecError, match="expected a spec file, found a file that is no text"):
        read_text(path, "spec file", SpecError)


def test_nothing_is_read_beyond_the_limit(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("12345")
    assert read_text(path, "spec", limit=5) == "12345"
    with pytest.raises(DataError, match="the spec is longer than 4 bytes: is it one"):
        read_text(path, "spec", limit=4)
