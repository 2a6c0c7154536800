import gzip
import struct
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from rcnn_jax.data.formats.tfrecord import RecordFile, decode_example, encode_example, write_records
from rcnn_jax.errors import DataError


def reference_crc32c(data: bytes) -> int:
    """The bit-by-bit definition, reflected polynomial 0x82F63B78."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def reference_masked(data: bytes) -> bytes:
    crc = reference_crc32c(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) % 2**32)


@pytest.fixture
def three(tmp_path):
    path = tmp_path / "three"
    write_records(path, [b"first", b"", b"the third record"])
    return path


def test_the_bytes_are_those_of_the_format(tmp_path):
    path = tmp_path / "one"
    assert write_records(path, [b"first"]) == 1
    length = struct.pack("<Q", 5)
    assert path.read_bytes() == length + reference_masked(length) + b"first" + reference_masked(
        b"first"
    )


def test_records_come_back_in_any_order(three):
    with RecordFile(three) as records:
        assert len(records) == 3
        assert [records[2], records[0], records[1]] == [b"the third record", b"first", b""]
        assert list(records) == [b"first", b"", b"the third record"]
        with pytest.raises(IndexError):
            records[3]


def test_an_empty_file_has_no_records(tmp_path):
    write_records(tmp_path / "none", [])
    assert list(RecordFile(tmp_path / "none")) == []


def test_threads_read_the_same_records(tmp_path):
    expected = [bytes([i]) * (i + 1) for i in range(200)]
    write_records(tmp_path / "many", expected)
    records = RecordFile(tmp_path / "many")
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(records.__getitem__, list(range(200)) * 3)) == expected * 3


def test_a_file_cut_off_in_its_data_names_the_byte(three):
    data = three.read_bytes()
    three.write_bytes(data[:-9])
    # Frames are 12 + length + 4 bytes: 21 and 16, so the third begins at byte 37.
    with pytest.raises(DataError) as caught:
        RecordFile(three)
    assert str(caught.value) == (
        f"{three}: the file is cut off: the record that begins at byte 37 goes beyond the end of "
        f"the file at byte {len(data) - 9}. Copy the file again or convert the dataset again."
    )


def test_a_file_cut_off_in_a_header_names_the_byte(three):
    three.write_bytes(three.read_bytes()[: 37 + 5])
    with pytest.raises(DataError, match="cut off: the record that begins at byte 37 .* byte 42"):
        RecordFile(three)


def test_a_damaged_length_names_the_byte(three):
    data = bytearray(three.read_bytes())
    data[21] ^= 1
    three.write_bytes(data)
    with pytest.raises(DataError, match="three: the file is damaged at byte 21: the length"):
        RecordFile(three)


def test_damaged_data_is_found_on_reading_and_by_verify(three):
    data = bytearray(three.read_bytes())
    data[37 + 12] ^= 1
    three.write_bytes(data)
    records = RecordFile(three)
    assert records[0] == b"first"
    with pytest.raises(
        DataError, match="record 2 at byte 49 is damaged: its data does not fit its"
    ):
        records[2]
    with pytest.raises(DataError, match="record 2 at byte 49 is damaged"):
        records.verify()


def test_data_is_checked_once_over_the_life_of_the_object(three):
    records = RecordFile(three)
    records.verify()
    data = bytearray(three.read_bytes())
    data[12:17] = b"FIRST"
    with three.open("r+b") as file:
        file.write(data)
    assert records[0] == b"FIRST"


def test_a_file_that_shrinks_while_in_use_is_an_error(three):
    records = RecordFile(three)
    with three.open("r+b") as file:
        file.truncate(40)
    with pytest.raises(DataError, match="became shorter while it was in use: record 2 at byte 49"):
        records[2]


def test_a_gzip_file_is_recognised(tmp_path):
    path = tmp_path / "zipped"
    path.write_bytes(gzip.compress(b"x" * 100))
    with pytest.raises(DataError, match=r"zipped: is compressed \(gzip\). Unpack it"):
        RecordFile(path)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("these are not records, but text")
    with pytest.raises(
        DataError, match="notes.txt: is not a TFRecord file, or is damaged at byte 0"
    ):
        RecordFile(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(DataError, match="gone: cannot open records: No such file or directory"):
        RecordFile(tmp_path / "gone")
    with pytest.raises(DataError, match="is a folder, not a TFRecord file"):
        RecordFile(tmp_path)


def test_writing_into_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(DataError, match="cannot write records here: No such file or directory"):
        write_records(tmp_path / "gone" / "x", [b"1"])


def test_decode_inverts_encode():
    features = {
        "name": [b"a", b"\x00\xff"],
        "count": [3, -1, 2**62],
        "ratio": [0.5, -2.0],
        "mixed": [1, 0.25],
        "none": [],
    }
    assert decode_example(encode_example(features)) == {**features, "mixed": [1.0, 0.25]}


def test_arrays_keep_their_kind_when_empty():
    ints = encode_example({"x": np.zeros(0, np.int64)})
    floats = encode_example({"x": np.zeros(0, np.float32)})
    # Feature field numbers: bytes 1, float 2, int64 3; the wire type of a message is 2.
    assert floats.endswith(bytes([2 << 3 | 2, 0])) and ints.endswith(bytes([3 << 3 | 2, 0]))
    assert decode_example(ints) == decode_example(floats) == {"x": []}


def test_equal_features_give_equal_bytes_whatever_their_order():
    a = encode_example({"x": [1], "y": [b"2"], "z": [3.0]})
    assert a == encode_example({"z": [3.0], "y": [b"2"], "x": [1]})


def test_something_else_is_not_an_example():
    with pytest.raises(DataError, match="shard 3, record 1: does not hold a tf.train.Example"):
        decode_example(b"\xff\xff\xff", "shard 3, record 1")
