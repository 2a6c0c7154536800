"""Films made for a test: a square that moves one pixel a frame over a dark ground."""

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
