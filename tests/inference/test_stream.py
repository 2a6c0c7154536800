"""A loop over a source in Python: the objects of single pictures, with index, time and ids."""

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest

import rcnn_jax
from rcnn_jax.errors import DataError, UsageError
from rcnn_jax.inference.frames import Source, as_source, read_frames
from rcnn_jax.inference.stream import Pictures, find_videos, resolve

films = pytest.importorskip("tests.inference.films", reason="PyAV (extra video) is not installed")
OPEN = Path("/proc/self/fd")


@pytest.fixture(scope="module")
def model(boxes_files):
    return rcnn_jax.load(boxes_files.graph, runtime="onnxruntime")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three pictures, b.png, c.png, d.png, and a video, a.mp4."""
    path = tmp_path_factory.mktemp("pictures")
    for number, letter in enumerate("bcd"):
        cv2.imwrite(str(path / f"{letter}.png"), films.square(9 * number)[..., ::-1])
    films.write_film(path / "a.mp4", [0, 0.1, 0.5, 0.9])
    return path


def same(ours, theirs):
    np.testing.assert_allclose(ours.boxes, theirs.boxes, atol=1e-3)
    np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-5)
    np.testing.assert_array_equal(ours.classes, theirs.classes)


@pytest.mark.parametrize("batch", [1, 3])
def test_frames_of_a_video_have_the_objects_of_pictures_and_times_of_their_source(
    model, folder, batch
):
    path = folder / "a.mp4"
    streamed = list(model.stream(path, batch=batch))
    assert [one.index for one in streamed] == [0, 1, 2, 3]
    np.testing.assert_allclose([one.time for one in streamed], [0, 0.1, 0.5, 0.9], atol=1e-3)
    frames = list(read_frames(as_source(path)))
    for one, frame in zip(streamed, frames, strict=True):
        assert one.source == str(path) and one.class_names == model.class_names
        np.testing.assert_array_equal(one.picture, frame.image)
        same(one, model(frame.image))
    assert sum(len(one.scores) for one in streamed) > 4


def test_masks_of_frames_lie_on_the_frame(masks_files, folder):
    model = rcnn_jax.load(masks_files.graph, runtime="onnxruntime")
    one = next(model.stream(folder / "a.mp4"))
    assert one.image_masks.shape == (len(one.scores), 96, 96)
    assert one.draw().shape == (96, 96, 3)


@pytest.mark.parametrize("name", ["", "*.png"])
def test_a_folder_and_a_pattern_give_their_pictures(model, folder, name):
    streamed = list(model.stream(str(folder / name)))
    assert [Path(one.source).name for one in streamed] == ["b.png", "c.png", "d.png"]
    assert [one.index for one in streamed] == [0, 1, 2] and streamed[0].time is None
    for one in streamed:
        same(one, model(one.source))


def test_a_pattern_of_videos_gives_one_after_the_other(model, folder):
    streamed = list(model.stream(f"{folder}/*.mp4"))
    assert [one.index for one in streamed] == [0, 1, 2, 3]


def test_a_list_may_hold_pictures_of_every_form_and_videos(model, folder):
    paths = [folder / "b.png", str(folder / "a.mp4"), (folder / "c.png").read_bytes()]
    streamed = list(model.stream([*paths, films.square(18)]))
    assert [one.index for one in streamed] == [0, 0, 1, 2, 3, 0, 1]
    assert [one.source for one in streamed[-2:]] == ["", ""]
    same(streamed[-1], model(films.square(18)))
    same(streamed[-2], model(folder / "c.png"))


def test_frames_in_memory_are_taken_as_they_come(model):
    taken = []

    def endless():
        for number in itertools.count():
            taken.append(number)
            yield films.square(number)

    streamed = list(itertools.islice(model.stream(endless()), 3))
    assert [one.index for one in streamed] == [0, 1, 2] and taken == [0, 1, 2]
    stack = np.stack([films.square(0), films.square(1)])
    assert len(list(model.stream(stack))) == 2
    (alone,) = model.stream(films.square(2))
    same(alone, streamed[2])
    assert list(model.stream([])) == []


def test_the_threshold_leaves_the_lower_scores_out(model, folder):
    every = next(model.stream(folder / "b.png"))
    least = float(np.median(every.scores))
    for source in (folder / "b.png", folder / "a.mp4"):
        one = next(model.stream(source, threshold=least))
        assert len(one.scores) and (np.asarray(one.scores) >= least).all()


def test_ids_follow_objects_and_are_drawn(model, folder):
    pytest.importorskip("similari", reason="similari (extra track) is not installed")
    frames = [films.square(number) for number in range(4)]
    for source in (folder / "a.mp4", frames):
        streamed = list(model.stream(source, track=True, threshold=0.3))
        assert all(one.ids.shape == one.scores.shape for one in streamed)
        first, second = (set(one.ids.tolist()) for one in streamed[:2])
        assert first & second
        best = streamed[0].above(float(streamed[0].scores[0]))
        assert best.ids.tolist() == streamed[0].ids[: len(best.scores)].tolist()
        plain = streamed[0].replace(ids=None)
        assert (streamed[0].draw(threshold=0.3) != plain.draw(threshold=0.3)).any()


def open_files():
    return [link.resolve() for link in OPEN.iterdir()]


@pytest.mark.skipif(not OPEN.is_dir(), reason="open files are seen in /proc")
def test_a_loop_that_is_left_closes_its_video(model, tmp_path):
    path = films.write_film(tmp_path / "long.mp4", [n / 25 for n in range(200)])
    stream = model.stream(path)
    next(stream)
    assert path.resolve() in open_files()
    stream.close()
    assert path.resolve() not in open_files()
    for _ in model.stream(path):
        break
    assert path.resolve() not in open_files()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nobody.mp4", "the video does not exist"),
        ("nobody", "does not exist"),
        ("nobody*.mp4", "no video matches this pattern"),
        ("nobody*.png", "no image matches this pattern"),
        (["nobody.mp4"], "the video does not exist"),
        (None, "found None instead of pictures"),
        (True, "found bool instead of pictures"),
        ({"a": 1}, "found dict instead of pictures"),
    ],
)
def test_a_source_that_is_none_is_told_before_the_loop(model, source, message):
    with pytest.raises(DataError, match=message):
        model.stream(source)


@pytest.mark.parametrize("options", [{"threshold": 1.5}, {"threshold": -1}, {"batch": 0}])
def test_options_out_of_range_are_told_before_the_loop(model, folder, options):
    with pytest.raises(UsageError, match="expected"):
        model.stream(folder, **options)


def test_a_picture_that_cannot_be_read_does_not_stop_the_others(model, folder, tmp_path):
    for name in ("b.png", "d.png"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "c.png").write_bytes(b"no picture")
    seen = []
    with pytest.raises(DataError, match=r"1 pictures or videos could not be used.*\n.*c\.png"):
        for one in model.stream(tmp_path, batch=2):
            seen.append(one.index)
    assert seen == [0, 2]
    with pytest.raises(DataError, match=r"picture 1: found float32"):
        list(model.stream([films.square(0), films.square(0).astype(np.float32)]))


def test_a_video_that_cannot_be_read_does_not_stop_the_others(model, tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no film" * 100)
    films.write_film(tmp_path / "b.mp4", [0, 0.1, 0.2])
    seen = []
    with pytest.raises(DataError, match=r"a\.mp4: cannot be read"):
        for one in model.stream(tmp_path):
            seen.append((one.source, one.index))
    assert seen == [(str(tmp_path / "b.mp4"), index) for index in range(3)]
    (tmp_path / "c.mp4").touch()
    with pytest.raises(
        DataError, match=r"2 pictures or videos could not be used.*\n.*a\.mp4.*\n.*c\.mp4"
    ):
        list(model.stream(tmp_path))


def test_numbers_and_addresses_are_live(tmp_path):
    assert list(resolve(0)) == [Source("/dev/video0", live=True)]
    assert list(resolve("camera:2")) == [Source("/dev/video2", live=True)]
    assert list(resolve("rtsp://host/x")) == [Source("rtsp://host/x", live=True)]
    (run,) = resolve([np.zeros((4, 4, 3), np.uint8)])
    assert isinstance(run, Pictures)
    with pytest.raises(DataError, match="/dev/video987"):
        next(read_frames(Source("/dev/video987", live=True)))


def test_a_password_is_in_no_prediction_and_no_error(model):
    with pytest.raises(DataError) as error:
        next(model.stream("rtsp://user:se@cret@127.0.0.1:9/x?password=geheim"))
    text = str(error.value)
    assert "127.0.0.1:9" in text
    assert not any(word in text for word in ("user:", "se@", "cret", "geheim"))


def test_a_folder_of_videos_and_any_pattern_of_them_are_videos(folder, tmp_path):
    content = (folder / "a.mp4").read_bytes()
    for name in ("one.mp4", "two.MKV", ".hidden.mp4", "take[1].mp4"):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "notes.txt").write_text("no video")
    names = ["one.mp4", "take[1].mp4", "two.MKV"]
    for text in (str(tmp_path), f"{tmp_path}/*", f"{tmp_path}/*.[mM][pK][4V]"):
        assert [Path(video.address).name for video in find_videos(text)] == names
    assert [each.address for each in find_videos(f"{tmp_path}/take[1].mp4")] == [
        f"{tmp_path}/take[1].mp4"
    ]
    assert find_videos(str(folder)) == []  # it has pictures, which come first
    assert find_videos("rtsp://host/a[1].mp4") == [Source("rtsp://host/a[1].mp4", live=True)]
