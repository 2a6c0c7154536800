"""The entries of a folder that count as images."""

import os
import socket
from pathlib import Path

import pytest

from rcnn_jax.data.formats.image_folder import find_images, list_images
from rcnn_jax.errors import DataError


def names(paths) -> list[str]:
    return [path.name for path in paths]


def fill(folder: Path, *entries: str) -> Path:
    folder.mkdir(exist_ok=True)
    for entry in entries:
        (folder / entry).write_bytes(b"x")
    return folder


def test_hidden_files_are_no_images(tmp_path):
    fill(tmp_path, "a.png", "._a.png", ".DS_Store", ".hidden.jpg")
    listing = list_images(tmp_path)
    assert names(listing.paths) == ["a.png"]
    assert not listing.unusable
    assert not listing.others


def test_endings_count_in_any_case_and_images_are_sorted_by_name(tmp_path):
    fill(tmp_path, "c.JPG", "b.Jpeg", "a.png", "d.tiff", "e.webp", "f.bmp", "notes.txt")
    listing = list_images(tmp_path)
    assert names(listing.paths) == ["a.png", "b.Jpeg", "c.JPG", "d.tiff", "e.webp", "f.bmp"]
    assert listing.others == {".txt": 1}


def test_what_is_no_file_is_set_apart_with_its_reason_and_never_opened(tmp_path):
    fill(tmp_path, "a.png")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "nowhere.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.png"))
    listing = list_images(tmp_path)
    assert names(listing.paths) == ["a.png", "link.png"]
    assert {path.name: kind for path, kind in listing.unusable.items()} == {
        "folder.png": "folder",
        "loop.png": "link that leads nowhere",
        "nowhere.png": "link that leads nowhere",
        "pipe.png": "named pipe",
        "socket.png": "socket",
    }


def test_the_message_of_an_absent_folder_names_it(tmp_path):
    with pytest.raises(DataError, match=r"gone: the image folder \(-i\) does not exist"):
        list_images(tmp_path / "gone", what="image folder (-i)")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="expected the image folder, found a file"):
        list_images(tmp_path / "file")
    with pytest.raises(DataError, match="cannot be listed"):
        list_images(tmp_path / ("x" * 300))


def test_a_single_picture_may_have_any_name(tmp_path):
    fill(tmp_path, "frame", "b.png")
    assert find_images(tmp_path / "frame").paths == (tmp_path / "frame",)


def test_a_pattern_names_images_and_what_exists_comes_before_the_pattern(tmp_path):
    fill(tmp_path, "a1.png", "a2.png", "b.png", "a3.txt")
    assert names(find_images(f"{tmp_path}/a*").paths) == ["a1.png", "a2.png"]
    fill(tmp_path / "set[1]", "c.png")
    assert names(find_images(tmp_path / "set[1]").paths) == ["c.png"]
    with pytest.raises(DataError, match="no image matches this pattern"):
        find_images(f"{tmp_path}/z*.png")


def test_the_error_for_a_folder_without_images_lists_its_content(tmp_path):
    fill(tmp_path, "a.gif", "b.gif", "c")
    with pytest.raises(DataError, match=r"no image found; .*found 2 \.gif, 1 without an ending"):
        find_images(tmp_path)
    with pytest.raises(DataError, match=r"expected an image or a folder of images, found a device"):
        find_images("/dev/null")
