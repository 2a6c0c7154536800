"""Films made for a test: a square that moves one pixel a frame over a dark ground."""

import struct
from fractions import Fraction

import numpy as np
import pytest

av = pytest.importorskip("av", reason="PyAV (extra video) is not installed")
TICKS = 90_000


def square(position, height=96, width=96, side=24):
    image = np.full((height, width, 3), 40, np.uint8)
    image[10 : 10 + side, position : position + side] = (230, 200, 60)
    return image


def write_film(path, times, height=96, width=96, rate=30):
    """Writes a film whose frames are shown at `times` in seconds."""
    with av.open(str(path), "w") as container:
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
