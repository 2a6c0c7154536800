"""TFRecord files of `tf.train.Example`, written and read without TensorFlow.

A file is a sequence of frames `length u64 | crc(length) u32 | data | crc(data) u32`, little endian, with
the masked CRC-32C of the TFRecord format. `RecordFile` scans the lengths once and then reads any
record by its number. An Example is a map from names to lists of bytes, int64 or float32; its
protobuf messages are built here in a descriptor pool of their own, so that TensorFlow may be loaded
in the same process.
"""

import os
import struct
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import google_crc32c
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from rcnn_jax.errors import DataError

FeatureValues = Sequence[bytes] | Sequence[int] | Sequence[float] | np.ndarray

MOST_PIXELS = 1 << 30
"""Pixels that OpenCV decodes at most; masks of a larger image would fill the memory."""

_HEADER = struct.Struct("<QI")
_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")
_CRC_MASK = 0xA282EAD8  # the constant of the format: a CRC of data that holds CRCs is weak
_GZIP_MAGIC = b"\x1f\x8b"


def write_records(path: Path, records: Iterable[bytes]) -> int:
    """Writes an uncompressed TFRecord file and returns the number of records.

    The file is written in place: a caller that must not leave a half-written file behind passes the
    temporary name of a `staging.StagedFiles`.

    Raises:
      DataError: the file cannot be written.
    """
    count = 0
    try:
        with Path(path).open("wb") as file:
            for record in records:
                length = _LENGTH.pack(len(record))
                # The length has a CRC of its own: a reader that trusted a damaged length would look
                # for all further records at wrong positions.
                file.write(length + _CRC.pack(_masked_crc(length)))
                file.write(record)
                file.write(_CRC.pack(_masked_crc(record)))
                count += 1
    except OSError as error:
        raise DataError(f"{path}: cannot write records here: {error.strerror or error}") from error
    return count


class RecordFile:
    """Random access to the records of one uncompressed TFRecord file; safe to use from threads.

    Opening scans the lengths, about 300,000 records a second, and checks their CRCs. The CRC of the
    data of a record is checked when it is first read, so once over the life of the object.

    Raises:
      DataError: the file is missing, compressed, cut off or damaged; the message names the byte.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise DataError(f"{self.path}: cannot open records: {error.strerror}") from error
        # A bare descriptor, read with pread below: no shared position, so no lock between threads.
        self._descriptor = descriptor
        self._close = weakref.finalize(self, os.close, descriptor)
        try:
            self._offsets, self._lengths = self._scan()
        except BaseException:
            self._close()
            raise
        # One byte a record. Two threads may check the same record at once, which is harmless.
        self._checked = bytearray(len(self._offsets))

    def __len__(self) -> int:
        return len(self._offsets)

    def __getitem__(self, index: int) -> bytes:
        """The data of record `index`, counted from 0.

        Raises:
          IndexError: there is no such record.
          DataError: the data does not fit its CRC, or the file became shorter since it was opened.
        """
        if not 0 <= index < len(self._offsets):
            raise IndexError(f"{self.path}: record {index} of {len(self._offsets)}")
        offset, length = int(self._offsets[index]), int(self._lengths[index])
        frame = os.pread(self._descriptor, length + _CRC.size, offset)
        # A short read is no damaged record: the file was rewritten under the open descriptor.
        if len(frame) != length + _CRC.size:
            raise self._became_shorter(index, offset)
        data = frame[:length]
        if not self._checked[index]:
            if _CRC.unpack_from(frame, length)[0] != _masked_crc(data):
                raise DataError(
                    f"{self.path}: record {index} at byte {offset} is damaged: its data does not "
                    "fit its checksum. Copy the file again or convert the dataset again."
                )
            self._checked[index] = 1
        return data

    def __iter__(self) -> Iterator[bytes]:
        return (self[index] for index in range(len(self)))

    def checksum(self, index: int) -> tuple[int, int]:
        """(length, CRC) of record `index` as the file states them; the data is not read.

        Raises:
          IndexError: there is no such record.
          DataError: the file became shorter since it was opened.
        """
        if not 0 <= index < len(self._offsets):
            raise IndexError(f"{self.path}: record {index} of {len(self._offsets)}")
        offset, length = int(self._offsets[index]), int(self._lengths[index])
        stored = os.pread(self._descriptor, _CRC.size, offset + length)
        if len(stored) != _CRC.size:
            raise self._became_shorter(index, offset)
        return length, _CRC.unpack(stored)[0]

    def verify(self) -> None:
        """Reads every record not read before, so that all CRCs have been checked.

        Raises:
          DataError: a record is damaged.
        """
        for index in range(len(self)):
            if not self._checked[index]:
                self[index]

    def close(self) -> None:
        """Closes the file; further reads fail. Happens by itself when the object goes away."""
        self._close()

    def __enter__(self) -> "RecordFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _scan(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns (offset of the data i64[n], length i64[n])."""
        if self.path.is_dir():
            raise DataError(f"{self.path}: is a folder, not a TFRecord file.")
        size = os.fstat(self._descriptor).st_size
        offsets, lengths, position = [], [], 0
        while position < size:
            header = os.pread(self._descriptor, _HEADER.size, position)
            if len(header) < _HEADER.size:
                raise self._cut_off(position, size)
            length, crc = _HEADER.unpack(header)
            if crc != _masked_crc(header[: _LENGTH.size]):
                raise self._damaged_length(position, header)
            # Against the size of the file, before anything of that length is read: `length` is any
            # number of 64 bits, and a Python integer does not overflow in the sum.
            end = position + _HEADER.size + length + _CRC.size
            if end > size:
                raise self._cut_off(position, size)
            offsets.append(position + _HEADER.size)
            lengths.append(length)
            position = end
        return np.array(offsets, np.int64), np.array(lengths, np.int64)

    def _became_shorter(self, index: int, offset: int) -> DataError:
        return DataError(
            f"{self.path}: the file became shorter while it was in use: record {index} at byte "
            f"{offset} is gone. Convert the dataset again."
        )

    def _cut_off(self, position: int, size: int) -> DataError:
        return DataError(
            f"{self.path}: the file is cut off: the record that begins at byte {position} goes "
            f"beyond the end of the file at byte {size}. Copy the file again or convert the "
            "dataset again."
        )

    def _damaged_length(self, position: int, header: bytes) -> DataError:
        if position == 0 and header.startswith(_GZIP_MAGIC):
            return DataError(
                f"{self.path}: is compressed (gzip). Unpack it: records are read plain."
            )
        if position == 0:
            return DataError(
                f"{self.path}: is not a TFRecord file, or is damaged at byte 0: the length of the "
                "first record does not fit its checksum."
            )
        return DataError(
            f"{self.path}: the file is damaged at byte {position}: the length of a record does not "
            "fit its checksum. Copy the file again or convert the dataset again."
        )


def encode_example(features: Mapping[str, FeatureValues]) -> bytes:
    """Returns a serialized `tf.train.Example`; equal features give equal bytes.

    Args:
      features: lists of bytes, of int or of float (stored as float32). The kind of an array is the
        kind of its dtype, even when it is empty; an empty list is stored without a kind, which
        every parser takes for an absent feature.
    """
    example = _Example()
    fields = example.features.feature
    for name, values in features.items():
        feature = fields[name]
        if isinstance(values, np.ndarray):
            kind = "float_list" if values.dtype.kind == "f" else "int64_list"
            # Stores the kind of an empty array too: images without objects have the same features.
            getattr(feature, kind).SetInParent()
            getattr(feature, kind).value.extend(values.tolist())
        elif not values:
            continue
        elif isinstance(values[0], bytes):
            feature.bytes_list.value.extend(values)
        elif all(isinstance(value, int | np.integer) for value in values):
            feature.int64_list.value.extend(values)
        else:
            feature.float_list.value.extend(values)
    # Map entries have no order in protobuf; without the flag equal features may differ in bytes.
    return example.SerializeToString(deterministic=True)


def decode_example(data: bytes, where: str = "record") -> dict[str, list]:
    """Returns name -> list of bytes, int or float of a serialized `tf.train.Example`.

    Args:
      data: the serialized message.
      where: file and record, for the message.

    Raises:
      DataError: `data` is no such message.
    """
    try:
        example = _Example.FromString(data)
    except DecodeError as error:
        raise DataError(
            f"{where}: does not hold a tf.train.Example; are these TFRecords of another program?"
        ) from error
    features = {}
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        features[name] = list(getattr(feature, kind).value) if kind else []
    return features


def feature(features: Mapping[str, list], key: str, expected: type, where: str) -> list:
    """Returns the values of a feature, [] when it is absent.

    Args:
      features: of `decode_example`.
      key: its name.
      expected: bytes, int or float.
      where: file and record, for the message.

    Raises:
      DataError: the values have another type.
    """
    values = features.get(key) or []
    if values and not isinstance(values[0], expected):
        actual = type(values[0]).__name__
        raise DataError(f"{where}: '{key}' holds {actual}, expected {expected.__name__}.")
    return values


def text_of(value: bytes, key: str, where: str) -> str:
    """Returns a bytes value as text.

    Raises:
      DataError: it is not UTF-8, or holds a NUL, which no file name may.
    """
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where}: '{key}' is {value[:60]!r}, which is not UTF-8 text: convert the dataset again"
        ) from error
    if "\0" in text:
        raise DataError(f"{where}: '{key}' is {value[:60]!r}: it holds a NUL character")
    return text


def require_size(height: int, width: int, where: str) -> tuple[int, int]:
    """Returns (height, width) of an image.

    Raises:
      DataError: one is not positive, or they are larger than any image that can be decoded.
    """
    if min(height, width) < 1 or height * width > MOST_PIXELS:
        raise DataError(
            f"{where}: its size is {width} x {height} pixels: convert the dataset again"
        )
    return int(height), int(width)


def _masked_crc(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + _CRC_MASK) & 0xFFFFFFFF


def _example_class() -> type:
    """The message class of tensorflow/core/example/example.proto, from field numbers."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="example.proto", package="tensorflow", syntax="proto3"
    )

    def add(message, name, number, kind, *, repeated=False, type_name=None, oneof=None):
        message.field.add(
            name=name,
            number=number,
            type=kind,
            label=field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL,
            type_name=type_name,
            oneof_index=oneof,
        )

    scalars = {
        "BytesList": field.TYPE_BYTES,
        "FloatList": field.TYPE_FLOAT,
        "Int64List": field.TYPE_INT64,
    }
    for name, kind in scalars.items():
        add(file.message_type.add(name=name), "value", 1, kind, repeated=True)

    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, name in enumerate(("bytes_list", "float_list", "int64_list"), start=1):
        list_name = "".join(part.capitalize() for part in name.split("_"))
        type_name = f".tensorflow.{list_name}"
        add(feature, name, number, field.TYPE_MESSAGE, type_name=type_name, oneof=0)

    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    add(entry, "key", 1, field.TYPE_STRING)
    add(entry, "value", 2, field.TYPE_MESSAGE, type_name=".tensorflow.Feature")
    entry_name = ".tensorflow.Features.FeatureEntry"
    add(features, "feature", 1, field.TYPE_MESSAGE, repeated=True, type_name=entry_name)

    example = file.message_type.add(name="Example")
    add(example, "features", 1, field.TYPE_MESSAGE, type_name=".tensorflow.Features")

    # Not the default pool: TensorFlow registers the same names there, and the second one to do so
    # fails.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


_Example = _example_class()
