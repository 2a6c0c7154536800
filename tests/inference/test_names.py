"""Outputs of different images never share a name."""

import random
from pathlib import Path

from rcnn_jax.inference.names import output_names, picture_name


def named(*paths: str) -> dict[str, str]:
    return {str(path): name for path, name in output_names([Path(p) for p in paths]).items()}


def test_outputs_are_called_as_the_stem_where_it_is_unique():
    assert named("in/a.png", "in/b.c.jpg") == {"in/a.png": "a", "in/b.c.jpg": "b.c"}
    assert named() == {}


def test_whole_names_are_taken_where_stems_repeat():
    assert named("in/a.png", "in/a.jpg", "in/b.png") == {
        "in/a.png": "a.png",
        "in/a.jpg": "a.jpg",
        "in/b.png": "b",
    }


def test_stems_that_differ_by_case_or_encoding_only_are_equal():
    assert named("in/a.png", "in/A.jpg") == {"in/a.png": "a.png", "in/A.jpg": "A.jpg"}
    assert named("in/A.png", "in/a.png") == {"in/A.png": "A.png", "in/a.png": "a-2.png"}
    composed, separated = "in/\u00e9.png", "in/e\u0301.jpg"
    assert set(named(composed, separated).values()) == {Path(composed).name, Path(separated).name}


def test_images_of_several_folders_are_named_by_their_folders():
    assert named("in/x/1.png", "in/y/1.png", "in/y/2.png") == {
        "in/x/1.png": "x_1.png",
        "in/y/1.png": "y_1.png",
        "in/y/2.png": "2",
    }


def test_pictures_keep_the_format_of_the_image_where_it_can_be_written():
    assert picture_name(Path("a.png"), "a") == "a.png"
    assert picture_name(Path("a.JPG"), "a.JPG") == "a.JPG"
    assert picture_name(Path("frame"), "frame") == "frame.png"
    assert picture_name(Path("a.gif"), "a") == "a.png"


def test_whatever_the_names_no_two_outputs_are_equal():
    rng = random.Random(5)
    for _ in range(300):
        paths = {
            Path("in")
            / "/".join(
                rng.choice(["a", "A", "a.png", "a_a", "a-2", "a-2.png"])
                for _ in range(rng.randint(1, 3))
            )
            / ("".join(rng.choices(["a", "A", "-2", ".png", "_a"], k=rng.randint(1, 4))) + suffix)
            for suffix in rng.choices([".png", ".PNG", ".jpg", ""], k=8)
        }
        names = output_names(sorted(paths))
        labels = {name.casefold() for name in names.values()}
        pictures = {picture_name(path, name).casefold() for path, name in names.items()}
        assert len(labels) == len(pictures) == len(paths)
