import zipfile

import pytest

from rcnn_jax.checkpoints.archive import Archive
from rcnn_jax.errors import CheckpointError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.zip"


def message(path, read=None) -> str:
    with pytest.raises(CheckpointError) as error, Archive(path, "archive of cats") as archive:
        archive.read(read)
    return str(error.value).replace(str(path), "a.zip")


def test_members_are_read_by_name(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/../../b", b"cat")
    with Archive(path, "archive of cats") as archive:
        assert archive.names == {"a/../../b"}
        assert archive.read("a/../../b") == b"cat"
    assert message(path, "c") == "a.zip: is no archive of cats: it holds no c"


def test_something_else_is_no_archive(path):
    for content in (b"", b"cat", b"PK\x03\x04" + bytes(40)):
        path.write_bytes(content)
        assert message(path).startswith("a.zip: is not a readable archive of cats: ")


def test_a_small_file_that_unpacks_to_a_large_one_is_refused_unread(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(100 << 20))
    size = path.stat().st_size
    assert size < 1 << 20
    assert message(path, "zeros") == (
        f"a.zip: unpacks from {size:,} to {100 << 20:,} bytes, which weights never do; it is not read"
    )


def test_encryption_and_rare_compression_are_refused(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("cat", b"cat")
    assert message(path, "cat") == (
        "a.zip: its member 'cat' is encrypted or compressed in an unusual way, as no archive of "
        "cats is"
    )


def test_a_changed_member_is_named_as_damage(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("cat", b"content")
    path.write_bytes(path.read_bytes().replace(b"content", b"CONTENT", 1))
    assert message(path, "cat").startswith("a.zip: is not a readable archive of cats: Bad CRC")
