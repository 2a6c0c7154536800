"""Event files of TensorBoard: read back record by record; a full disk is an error of the call."""

import struct

import numpy as np
import pytest

from rcnn_jax.train.events import Events


def events_of(folder):
    """The events of the only file of a folder, read by the layout of TFRecords."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    (path,) = folder.iterdir()
    data, events = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        events.append(event_pb2.Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    return events


def test_the_file_begins_with_the_step_that_takes_earlier_ones_back(tmp_path):
    Events(tmp_path / "a" / "b", 5).close()
    *_, start = events_of(tmp_path / "a" / "b")
    assert start.step == 5 and start.session_log.status == 1, "START"


def test_numbers_pictures_and_distributions_are_written_under_their_tags(tmp_path):
    events = Events(tmp_path, 1)
    events.scalars(3, {"train/loss": 0.5, "train/rate": 0.25})
    events.image(3, "detections/0", np.full((4, 6, 3), 200, np.uint8))
    events.histogram(3, "conv1", np.array([-1.0, 0.0, 0.5, 1e-20], np.float32))
    events.close()
    summaries = {v.tag: v for event in events_of(tmp_path) for v in event.summary.value}
    assert summaries["train/loss"].simple_value == 0.5
    picture = summaries["detections/0"].image
    assert (picture.height, picture.width) == (4, 6) and picture.encoded_image_string
    histogram = summaries["conv1"].histo
    assert histogram.num == 4 and (histogram.min, histogram.max) == (-1.0, 0.5)
    assert all(e.step == 3 for e in events_of(tmp_path) if e.summary.value)


def test_a_folder_that_takes_no_file_is_an_error_of_the_call(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError):
        Events(tmp_path / "file" / "events", 1)
