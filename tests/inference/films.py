"""Films made for a test: a square that moves one pixel a frame over a dark ground."""

import struct
from fractions import Fraction

import numpy as np
import pytest

from rcnn_jax.inference.frames import as_source, read_frames
from rcnn_jax.inference.video import detect_frames
from rcnn_jax.settings.data import GeometrySettings
from rcnn_jax.structures import Detections

av = pytest.importorskip("av", reason="PyAV (extra video) is not installed")
TICKS = 90_000
GEOMETRY = GeometrySettings(mode="pad_crop", height=96, width=96)


def square(position, height=96, width=96, side=24):
    image = np.full((height, width, 3), 40, np.uint8)
    image[10 : 10 + side, position : position + side] = (230, 200, 60)
    return image


def write_film(path, times, height=96, width=96, rate=30, options=None):
    """Writes a film whose frames are shown at `times` in seconds."""
    with av.open(str(path), "w", container_options=options or {}) as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.codec_context.time_base = Fraction(1, TICKS)
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(square(number, height, width), format="rgb24")
            frame.pts, frame.time_base = round(time * TICKS), Fraction(1, TICKS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def turn(path, turns):
    """Writes into the header of an MP4 that players show it turned clockwise, as phones do."""
    content = bytearray(path.read_bytes())
    # The matrix of the track header, version 0: 40 bytes behind the name; 16.16 and 2.30 numbers.
    # (a, b) is where the x axis of the stored picture points on the screen, y downwards.
    a, b = [(1, 0), (0, 1), (-1, 0), (0, -1)][turns]
    matrix = struct.pack(">9i", a << 16, b << 16, 0, -b << 16, a << 16, 0, 0, 0, 1 << 30)
    start = content.index(b"tkhd") + 4 + 40
    assert content[start + 32 : start + 36] == matrix[32:]
    content[start : start + 36] = matrix
    path.write_bytes(content)


def finds_the_square(batch):
    """A predictor that finds the bright square of every canvas."""
    boxes = []
    for canvas in batch:
        rows, columns = np.nonzero(canvas[..., 0] > 130)
        boxes.append([[rows.min(), columns.min(), rows.max() + 1, columns.max() + 1], [0, 0, 1, 1]])
    b = len(batch)
    return (
        Detections(
            boxes=np.float32(boxes),
            scores=np.tile(np.float32([0.9, 0.2]), (b, 1)),
            classes=np.zeros((b, 2), np.int32),
            valid=np.ones((b, 2), bool),
            masks=None,
        ),
        None,
    )


def seen_in(path, batch=4):
    frames = read_frames(as_source(path))
    return detect_frames(frames, GEOMETRY, "rgb", finds_the_square, batch=batch, threshold=0.5)
