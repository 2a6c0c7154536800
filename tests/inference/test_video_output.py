"""What is written of a video: films with the times of their source, lines that can be followed."""

import json
import multiprocessing
import os
import signal

import numpy as np
import pytest

from rcnn_jax.inference.frames import Frame, as_source, read_frames
from rcnn_jax.inference.video import Seen
from rcnn_jax.inference.video_output import Film, Lines, with_ids
from rcnn_jax.structures import Detections

films = pytest.importorskip("tests.inference.films", reason="PyAV (extra video) is not installed")


def test_a_film_is_as_long_as_its_source_and_odd_sides_are_padded(tmp_path):
    times = [0, 0.04, 0.5, 0.52, 1.5]
    path = films.write_film(tmp_path / "a.mp4", times)
    with Film(tmp_path / "out" / "b.mp4", ["square"], captions=True, masks=False) as film:
        for each in films.seen_in(path):
            odd = Frame(each.frame.image[:95, :95], each.frame.number, each.frame.time)
            film.write(Seen(odd, each.detections))
    again = list(read_frames(as_source(tmp_path / "out" / "b.mp4")))
    np.testing.assert_allclose([frame.time for frame in again], times, atol=1e-3)
    assert again[0].image.shape == (96, 96, 3)


def test_what_was_written_is_whole_when_something_breaks_off(tmp_path):
    path = films.write_film(tmp_path / "a.mp4", [n / 30 for n in range(10)])
    out, lines = tmp_path / "b.mp4", tmp_path / "b.jsonl"
    with (
        pytest.raises(KeyboardInterrupt),
        Film(out, ["square"], captions=True, masks=False) as film,
        Lines(lines, ["square"], None) as file,
    ):
        for each in films.seen_in(path):
            film.write(each)
            file.write(each)
            if each.frame.number == 6:
                raise KeyboardInterrupt
    assert len(list(read_frames(as_source(out)))) == 7
    assert len(lines.read_text().splitlines()) == 7
    assert not list(tmp_path.glob(".*"))


def empty(number, seconds):
    image = films.square(number)
    none = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), np.zeros(0, bool), None)
    return Seen(Frame(image, number, seconds), none)


def test_lines_of_a_live_source_can_be_followed(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("of an earlier run\n")
    with Lines(path, ["square"], None, live=True) as file:
        assert path.read_text() == "of an earlier run\n"
        for number in range(3):
            file.write(empty(number, number / 10))
            assert [json.loads(line)["frame"] for line in path.read_text().splitlines()] == [
                *range(number + 1)
            ]
    assert [each.name for each in tmp_path.iterdir()] == ["a.jsonl"]


def killed(folder):
    """Writes film and lines of a live source until the process is killed by itself."""
    film = Film(folder / "a.mp4", ["square"], captions=True, masks=False, live=True)
    lines = Lines(folder / "a.jsonl", ["square"], None, live=True)
    for number in range(50):
        film.write(empty(number, number / 10))
        lines.write(empty(number, number / 10))
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_process_has_written_of_a_live_source_can_be_played(tmp_path):
    # Spawned: a fork of a process with JAX's threads may stand still.
    process = multiprocessing.get_context("spawn").Process(target=killed, args=(tmp_path,))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    seen = list(read_frames(as_source(tmp_path / "a.mp4")))
    # All but the last fragment, which is a second long.
    assert len(seen) >= 38
    np.testing.assert_allclose(
        [frame.time for frame in seen], [n / 10 for n in range(len(seen))], atol=1e-3
    )
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 50


def test_the_colour_of_an_object_follows_its_id():
    boxes = np.float32([[0, 0, 4, 4], [4, 4, 8, 8]])
    both = Detections(boxes, np.float32([0.9, 0.8]), np.int32([1, 0]), np.ones(2, bool), None)
    shown, names = with_ids(both, ["car", "dog"], np.asarray([7, 3]))
    assert shown.classes.tolist() == [7, 3]
    assert [names[7], names[3]] == ["dog 7", "car 3"]
    assert with_ids(both, ["car", "dog"], None) == (both, ["car", "dog"])
