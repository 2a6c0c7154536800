"""Sources of frames: names, times, ends, secrets."""

import re
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

from rcnn_jax.errors import DataError
from rcnn_jax.inference import frames
from rcnn_jax.inference.frames import (
    Source,
    UnreadableVideoError,
    as_source,
    frame_count,
    read_frames,
)

films = pytest.importorskip("tests.inference.films", reason="PyAV (extra video) is not installed")


@pytest.mark.parametrize(
    ("text", "address", "live"),
    [
        ("in/a.MP4", "in/a.MP4", False),
        ("camera:1", "/dev/video1", True),
        ("/dev/video0", "/dev/video0", True),
        ("rtsp:/u:p@host/x", "rtsp://u:p@host/x", True),  # as a path leaves it
        ("rtsp://host:554/x", "rtsp://host:554/x", True),
        ("https://host/film.mp4?t=1", "https://host/film.mp4?t=1", False),
        ("https://host/live.m3u8", "https://host/live.m3u8", True),
    ],
)
def test_a_video_a_camera_and_a_stream_are_sources(text, address, live):
    assert as_source(text) == Source(address, live)


@pytest.mark.parametrize("text", ["images", "a.png", "a/*.jpg", "camera", ""])
def test_images_are_none(text):
    assert as_source(text) is None


def test_name_and_password_of_a_stream_are_shown_nowhere():
    source = as_source("rtsp://user:secret@host:554/door/1")
    assert "secret" not in source.name + source.stem
    assert "user" not in source.stem
    with pytest.raises(DataError) as error:
        list(read_frames(Source("rtsp://user:secret@127.0.0.1:9/x", live=True)))
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("times", [[n / 30 for n in range(12)], [0, 0.1, 0.15, 0.9, 1.0]])
def test_frames_carry_their_own_times(tmp_path, times):
    path = films.write_film(tmp_path / "a.mp4", times, rate=1000)  # a declared rate that is wrong
    seen = list(read_frames(as_source(path)))
    assert [frame.number for frame in seen] == [*range(len(times))]
    np.testing.assert_allclose([frame.time for frame in seen], times, atol=1e-3)
    assert frame_count(as_source(path)) == len(times)
    # every frame is the right one: the square has moved by its number
    for frame in seen:
        columns = np.flatnonzero(frame.image[20, :, 0] > 130)
        assert abs(int(columns[0]) - frame.number) <= 1


def test_a_declared_rate_of_none_costs_no_time(tmp_path):
    times = [0, 0.1, 0.15, 0.9, 1.0]
    path = films.write_film(tmp_path / "a.ts", times)
    with films.av.open(str(path)) as container:
        assert not container.streams.video[0].average_rate
    assert frame_count(as_source(path)) == 0  # so there is no bar
    seen = list(read_frames(as_source(path)))
    np.testing.assert_allclose([frame.time for frame in seen], times, atol=1e-3)


def test_a_header_with_a_rate_of_0_gives_all_frames_at_rising_times(tmp_path):
    path = films.write_film(tmp_path / "a.avi", [n / 30 for n in range(8)])
    content = bytearray(path.read_bytes())
    # AVI has no time stamps: scale and rate of the stream's header, and the main header's microseconds.
    for name, start, count in ((b"strh", 20, 8), (b"avih", 0, 4)):
        position = content.index(name) + 8 + start
        content[position : position + count] = bytes(count)
    path.write_bytes(content)
    seen = list(read_frames(as_source(path)))
    assert [frame.number for frame in seen] == [*range(8)]
    assert all(np.diff([frame.time for frame in seen]) > 0)


@pytest.mark.parametrize(
    ("rotation", "corner"), [(0, (0, 0)), (90, (3, 0)), (180, (3, 2)), (-90, (0, 2))]
)
def test_a_turned_film_is_shown_upright(rotation, corner):
    image = np.zeros((4, 3, 3) if rotation % 180 == 0 else (3, 4, 3), np.uint8)
    image[0, 0] = 255
    upright = frames._upright(image, rotation)
    assert upright.shape == (4, 3, 3)
    assert tuple(np.argwhere(upright[..., 0])[0]) == corner


@pytest.mark.parametrize("content", [b"", b"no film" * 100])
def test_a_file_that_is_no_film_is_one_message(tmp_path, content):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read|holds no picture"):
        list(read_frames(as_source(path)))


def test_a_film_that_is_cut_off_gives_the_frames_before(tmp_path):
    path = films.write_film(tmp_path / "a.ts", [n / 25 for n in range(50)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert 5 < len(list(read_frames(as_source(path)))) < 50


# Headers at the front, as downloads and browsers have them: what is there can be read.
@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("a.mkv", {}, r"ends after [\d.]+ of the 19.7 seconds"),
        ("a.mp4", {"movflags": "faststart"}, r"ends after \d+ of the 60 frames"),
    ],
)
def test_a_film_that_was_cut_short_gives_its_frames_and_says_so(tmp_path, name, options, words):
    path = films.write_film(tmp_path / name, [n / 3 for n in range(60)], options=options)
    assert len(list(read_frames(as_source(path)))) == 60
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    seen = []
    with pytest.raises(UnreadableVideoError, match=words):
        for frame in read_frames(as_source(path)):
            seen.append(frame.number)
    assert len(seen) > 5 and seen == [*range(len(seen))]


def test_films_of_odd_rates_are_no_films_that_were_cut_short(tmp_path):
    for name in ("a.mkv", "a.mp4", "a.avi"):
        for rate in (1, 30, 1000):
            path = films.write_film(tmp_path / name, [n / 10 for n in range(30)], rate=rate)
            assert len(list(read_frames(as_source(path)))) == 30


def test_a_live_stream_that_breaks_off_is_opened_again_and_its_clock_goes_on(tmp_path):
    film = films.write_film(tmp_path / "a.ts", [n / 25 for n in range(10)]).read_bytes()
    served = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            served.append(1)
            # Between the two openings: a try that fails, and one that is answered late.
            if len(served) not in (1, 3):
                self.send_error(503)
                return
            if len(served) == 3:
                time.sleep(0.4)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(film)

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    notes, seen = [], []
    source = Source(f"http://user:secret@127.0.0.1:{server.server_port}/live", live=True)
    try:
        with pytest.raises(DataError, match=f"did not come back in {frames.TRIES} tries"):
            for frame in read_frames(source, notes.append, wait=0.01):
                seen.append(frame)
    finally:
        server.shutdown()
        server.server_close()
    assert [frame.number for frame in seen] == [*range(20)]
    times = [frame.time for frame in seen]
    assert times == sorted(times)
    # What really passed, and not the first wait of 0.01 s.
    assert times[10] - times[9] >= 0.4
    np.testing.assert_allclose(np.diff(times[10:]), 0.04, atol=1e-3)
    assert len(notes) == frames.TRIES + 2
    assert not any("secret" in text for text in notes)


def test_an_address_nobody_answers_is_one_message():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(DataError, match="is the address right"):
        list(read_frames(Source(f"rtsp://127.0.0.1:{port}/x", live=True)))


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("rtsp://us:pw@host/door", "host/door"),
        ("rtsp://us:p@w@host/door", "host/door"),
        ("rtsp://host/door?user=us&password=pw&channel=1", "channel=1"),
        ("rtsp://host:554/user=us_password=pw_channel=1", "host:554"),
        ("https://host/live.m3u8?token=pw", "host/live.m3u8"),
    ],
)
def test_secrets_are_masked_wherever_an_address_has_them(address, kept):
    source = Source(address, live=True)
    assert kept in source.name
    for text in (source.name, source.stem):
        assert not re.search(r"(us:|=us|pw|p@w)", text), text


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_phone_film_comes_as_players_show_it(tmp_path, turns):
    path = films.write_film(tmp_path / "a.mp4", [0, 0.1], height=64, width=96)
    stored = next(read_frames(as_source(path))).image
    films.turn(path, turns)
    shown = next(read_frames(as_source(path))).image
    # Clockwise, as the matrix of the film says; np.rot90 turns the other way.
    np.testing.assert_array_equal(shown, np.rot90(stored, -turns))
