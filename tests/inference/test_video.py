"""Video: the objects of single images, films with the times of their source, ids that stay."""

import io
import itertools
import json
import threading
import time
import types
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

from rcnn_jax.cli.main import main
from rcnn_jax.inference import frames, video
from rcnn_jax.inference.frames import Frame, as_source, read_frames
from rcnn_jax.inference.video import (
    Seen,
    detect_frames,
    follow,
    run_video,
)
from rcnn_jax.reporter import SILENT, SafeConsole
from rcnn_jax.structures import Detections

films = pytest.importorskip("tests.inference.films", reason="PyAV (extra video) is not installed")


@pytest.mark.parametrize("batch", [1, 4])
def test_every_frame_has_its_own_boxes_in_order(tmp_path, batch):
    path = films.write_film(tmp_path / "a.mp4", [n / 30 for n in range(10)])
    seen = list(films.seen_in(path, batch))
    assert [each.frame.number for each in seen] == [*range(10)]
    for each in seen:
        (box,) = each.detections.boxes
        np.testing.assert_allclose(box, [10, each.frame.number, 34, each.frame.number + 24], atol=2)


class Listener(type(SILENT)):
    """A reporter that keeps what is printed."""

    def __init__(self):
        super().__init__()
        self.console = SafeConsole(file=io.StringIO(), force_terminal=False)

    @property
    def lines(self):
        return self.console.file.getvalue().splitlines()


def test_a_source_without_a_length_says_its_frames_and_their_rate(tmp_path, monkeypatch):
    path = films.write_film(tmp_path / "a.mp4", [n / 30 for n in range(6)])
    now = itertools.count(step=4.0)
    monkeypatch.setattr(video, "time", types.SimpleNamespace(monotonic=lambda: next(now)))
    monkeypatch.setattr(video, "frame_count", lambda source: 0)
    listener = Listener()

    def detect(frames):
        return detect_frames(frames, films.GEOMETRY, "rgb", films.finds_the_square, batch=1)

    assert run_video(as_source(path), detect, [], listener) == 6
    # The clock goes on by 4 s with every look: a line every third frame, 12 s after the last one.
    assert listener.lines == [
        "3 frames, 0.2 frames/s",
        "6 frames, 0.2 frames/s",
        "6 frames, 12 objects, 40.0 s, 0.1 frames/s",
    ]


def test_an_interrupted_run_has_its_summary_too(tmp_path):
    path = films.write_film(tmp_path / "a.mp4", [n / 30 for n in range(6)])
    listener = Listener()

    def detect(frames):
        for each in detect_frames(frames, films.GEOMETRY, "rgb", films.finds_the_square, batch=1):
            if each.frame.number == 4:
                raise KeyboardInterrupt
            yield each

    with pytest.raises(KeyboardInterrupt):
        run_video(as_source(path), detect, [], listener)
    assert len(listener.lines) == 1
    assert listener.lines[0].startswith("4 frames, 8 objects, ")


def test_ids_stay_with_their_objects_and_are_not_shared_by_classes():
    pytest.importorskip("similari", reason="similari (extra track) is not installed")

    def frame(number):
        boxes = np.float32([[10, 10 + number, 30, 30 + number], [50, 60 - number, 70, 80 - number]])
        classes = np.int32([0, 1])
        if number % 2:  # the order of detections follows their scores and may change
            boxes, classes = boxes[::-1], classes[::-1]
        detections = Detections(boxes, np.float32([0.9, 0.8]), classes, np.ones(2, bool), None)
        return Seen(Frame(np.zeros((96, 96, 3), np.uint8), number, number / 30), detections)

    ids = {0: set(), 1: set()}
    for each in follow(frame(number) for number in range(12)):
        for label, number in zip(each.detections.classes, each.ids, strict=True):
            ids[int(label)].add(int(number))
    assert [len(numbers) for numbers in ids.values()] == [1, 1]
    assert ids[0].isdisjoint(ids[1])


def test_the_command_writes_film_and_lines(boxes_files, tmp_path, capsys):
    spec, model = boxes_files.spec, boxes_files.graph
    path = films.write_film(tmp_path / "clip.mp4", [n / 10 for n in range(6)])
    out = tmp_path / "out"
    flags = ["-e", str(spec), "-m", str(model), "-i", str(path), "-r", str(out)]
    assert main(["faster_rcnn", "inference", *flags]) == 0
    lines = [json.loads(line) for line in (out / "labels" / "clip.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == [*range(6)]
    np.testing.assert_allclose(
        [line["time"] for line in lines], [n / 10 for n in range(6)], atol=1e-3
    )
    assert len(list(read_frames(as_source(out / "images_annotated" / "clip.mp4")))) == 6
    assert "6 frames" in capsys.readouterr().out


def test_a_broken_film_does_not_keep_a_folder_from_being_worked_on(boxes_files, tmp_path, capsys):
    folder, out = tmp_path / "clips", tmp_path / "out"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(b"no film" * 100)
    # One stem twice, and two sizes in one folder.
    films.write_film(folder / "b.mp4", [n / 10 for n in range(3)])
    films.write_film(folder / "b.mkv", [n / 10 for n in range(4)], height=160, width=120)
    flags = ["-e", str(boxes_files.spec), "-m", str(boxes_files.graph), "-i", str(folder)]
    assert main(["faster_rcnn", "inference", *flags, "-r", str(out)]) == 2
    printed = capsys.readouterr()
    assert "a.mp4: cannot be read" in printed.out
    assert "1 of 3 videos could not be read to their end (named above)" in printed.err
    for name, count in (("b.mp4", 3), ("b.mkv", 4)):
        assert len((out / "labels" / f"{name}.jsonl").read_text().splitlines()) == count
        frames = list(read_frames(as_source(out / "images_annotated" / f"{name}.mp4")))
        assert len(frames) == count
    assert frames[0].image.shape == (160, 120, 3)
    assert not (out / "labels" / "a.jsonl").exists()


def test_one_film_for_several_videos_is_refused(masks_files, tmp_path, capsys):
    for name in ("a.mp4", "b.mp4"):
        films.write_film(tmp_path / name, [0, 0.1])
    flags = ["-e", str(masks_files.spec), "-m", str(masks_files.graph), "-i", str(tmp_path)]
    assert main(["mask_rcnn", "inference", *flags, "-o", str(tmp_path / "c.mp4")]) == 2
    assert "c.mp4: names one film, and -i names 2 videos" in capsys.readouterr().err
    assert not (tmp_path / "c.mp4").exists()


def test_film_and_lines_of_a_live_source_are_there_while_the_command_runs(
    boxes_files, tmp_path, capsys, monkeypatch
):
    content = films.write_film(tmp_path / "clip.ts", [n / 10 for n in range(30)]).read_bytes()
    served, seen = [], []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            served.append(1)
            if len(served) > 1:
                self.send_error(503)
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    out = tmp_path / "out"

    def look(_):
        """In the place of the wait for a stream that has ended."""
        for _ in range(600):
            files = {path.suffix: path for path in out.rglob("*") if not path.name.startswith(".")}
            text = files[".jsonl"].read_text() if ".jsonl" in files else ""
            if text.count("\n") == 30 and ".mp4" in files:
                break
            time.sleep(0.05)
        seen.append((text.count("\n"), len(list(read_frames(as_source(files[".mp4"]))))))

    monkeypatch.setattr(frames, "time", types.SimpleNamespace(monotonic=time.monotonic, sleep=look))
    monkeypatch.setattr(frames, "TRIES", 1)
    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    flags = ["-e", boxes_files.spec, "-m", boxes_files.graph, "-r", out]
    flags += ["-i", f"http://127.0.0.1:{server.server_port}/live"]
    try:
        assert main(["faster_rcnn", "inference", *map(str, flags)]) == 2
    finally:
        server.shutdown()
        server.server_close()
    shown = capsys.readouterr()
    assert "did not come back in 1 tries" in shown.err
    # The summary although the source has failed in the end.
    assert "30 frames, " in shown.out and " frames/s" in shown.out
    ((lines, written),) = seen
    # The film is a second behind, which is the length of its fragments.
    assert lines == 30 and 15 <= written <= 30


def test_the_video_itself_is_never_written_over(boxes_files, tmp_path, capsys):
    spec, model = boxes_files.spec, boxes_files.graph
    (tmp_path / "images_annotated").mkdir()
    path = films.write_film(tmp_path / "images_annotated" / "clip.mp4", [0, 0.1])
    before = path.read_bytes()
    flags = ["-e", str(spec), "-m", str(model), "-i", str(path), "-r", str(tmp_path)]
    assert main(["faster_rcnn", "inference", *flags]) == 2
    assert path.read_bytes() == before
    assert "is the video that is read" in capsys.readouterr().err


def test_a_source_that_cannot_be_opened_leaves_the_lines_of_an_earlier_run(
    boxes_files, tmp_path, capsys
):
    labels = tmp_path / "labels"
    labels.mkdir()
    (labels / "clip.jsonl").write_text("{}\n")
    (tmp_path / "clip.mp4").write_bytes(b"no film")
    flags = ["-e", str(boxes_files.spec), "-m", str(boxes_files.graph), "-r", str(tmp_path)]
    assert main(["faster_rcnn", "inference", *flags, "-i", str(tmp_path / "clip.mp4")]) == 2
    assert (labels / "clip.jsonl").read_text() == "{}\n" and len(list(labels.iterdir())) == 1
    assert main(["faster_rcnn", "inference", *flags, "-i", str(tmp_path / "none*.mp4")]) == 2
    errors = capsys.readouterr().err
    assert "clip.mp4: cannot be read" in errors and "no video matches this pattern" in errors


def test_a_password_is_in_nothing_that_the_command_shows_or_writes(boxes_files, tmp_path, capfd):
    address = "rtsp://somebody:hid@den@127.0.0.1:9/x?password=covert"
    flags = ["-e", str(boxes_files.spec), "-m", str(boxes_files.graph), "-r", str(tmp_path / "out")]
    log = tmp_path / "log.txt"
    flags += ["-i", address, "--log_file", str(log)]
    assert main(["faster_rcnn", "inference", *flags]) == 2
    # Of the descriptors: FFmpeg's own log does not go through Python's sys.stderr.
    shown = capfd.readouterr()
    texts = [shown.out, shown.err, log.read_text()]
    for path in (tmp_path / "out").rglob("*"):
        texts += [path.name, path.read_text() if path.is_file() else ""]
    assert "127.0.0.1:9" in shown.err
    for secret in ("somebody", "hid", "den@", "covert"):
        assert not any(secret in text for text in texts), secret
