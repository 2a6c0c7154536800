"""Image files of frames: one image per stem, whatever the spelling of its extension."""

from pathlib import Path

import pytest

from rcnn_jax.data.findings import (
    HIDDEN_FILE,
    LABELS_ALONE,
    OTHER_EXTENSION,
    OTHER_SPELLING,
    Finding,
    Tally,
)
from rcnn_jax.data.sources.frame_images import (
    find_files,
    images_of_format,
    images_of_stems,
    note_labels_alone,
)
from rcnn_jax.errors import DataError


@pytest.fixture
def folder(tmp_path):
    def fill(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
        return tmp_path

    return fill


def test_the_extension_that_was_asked_for_comes_first(folder):
    root, tally = folder("a/1.png", "a/1.jpg", "b/2.PNG"), Tally()
    paths = find_files(root, ["a/1", "b/2", "b/3"], ".png", tally)
    assert paths == [root / "a/1.png", root / "b/2.PNG", root / "b/3.png"]
    assert tally.findings == (Finding(OTHER_SPELLING, str(root / "b/2.PNG")),)


def test_a_frame_that_several_files_may_mean_is_an_error(folder):
    root = folder("1.jpg", "1.jpeg")
    with pytest.raises(DataError, match=r"'1' may be any of 1.jpeg, 1.jpg: remove all but one"):
        find_files(root, ["1"], ".png", Tally())


def test_a_stem_may_have_dots(folder):
    root = folder("cam.1.png")
    assert find_files(root, ["cam.1"], ".png", Tally()) == [root / "cam.1.png"]


def test_one_format_is_listed_by_stem_in_any_spelling(folder):
    root, tally = folder("b.JPG", "a.jpeg", "c.png", "._a.jpg", "notes.txt"), Tally()
    images = images_of_format(root, ".jpg", tally)
    assert list(images.items()) == [("a", root / "a.jpeg"), ("b", root / "b.JPG")]
    assert set(tally.findings) == {
        Finding(HIDDEN_FILE, str(root / "._a.jpg")),
        Finding(OTHER_SPELLING, str(root / "a.jpeg"), 2),
        Finding(OTHER_EXTENSION, str(root / "c.png")),
    }


def test_a_folder_without_the_format_lists_what_it_holds(folder):
    root = folder("a.txt", "b.txt", "c")
    with pytest.raises(DataError, match=r"'.png'; found: 2 .txt, 1 without\."):
        images_of_format(root, ".png", Tally())


def test_two_images_of_one_stem_are_an_error_however_they_are_listed(folder):
    root = folder("a.jpg", "a.JPG")
    with pytest.raises(DataError, match="a.jpg: a.JPG has the same stem"):
        images_of_format(root, ".jpg", Tally())
    with pytest.raises(DataError, match="a.jpg: a.JPG has the same stem"):
        images_of_stems(root, None, Tally())


def test_stems_are_taken_in_the_order_they_are_given(folder):
    root = folder("a.png", "b.jpg", "c.bmp")
    assert images_of_stems(root, ["c", "a"], Tally()) == [root / "c.bmp", root / "a.png"]
    assert images_of_stems(root, None, Tally()) == [root / n for n in ("a.png", "b.jpg", "c.bmp")]


@pytest.mark.parametrize(
    ("stems", "text"),
    [
        (["a", "x", "y"], "2 of 3 listed images are not there, the first is x"),
        ([], "the list of images to use is empty"),
    ],
)
def test_a_list_that_cannot_be_met_is_an_error(folder, stems, text):
    with pytest.raises(DataError, match=text):
        images_of_stems(folder("a.png"), stems, Tally())


def test_missing_and_empty_folders_are_told_apart(folder, tmp_path):
    with pytest.raises(DataError, match="gone: the image folder does not exist"):
        images_of_stems(tmp_path / "gone", None, Tally())
    with pytest.raises(DataError, match="no image .* in this folder"):
        images_of_stems(folder("a.txt"), None, Tally())
    with pytest.raises(DataError, match="gone: cannot list the images: No such file"):
        images_of_format(tmp_path / "gone", ".png", Tally())


def test_labels_without_an_image_are_counted(folder):
    root, tally = folder("a.txt", "b.txt", "c.txt", ".d.txt", "e.xml"), Tally()
    note_labels_alone(root, {"b"}, tally)
    assert tally.findings == (Finding(LABELS_ALONE, str(root / "a.txt"), 2),)
    note_labels_alone(Path("/no/such/folder"), set(), tally)  # reported where a label is read
    assert len(tally.findings) == 1
