"""Bundle (`.tlt`): a model in one file.

    magic 8 | version, CRC and size of the JSON | JSON header | safetensors

The JSON holds the kind of detector, the header of the caller, and the size and SHA-256 of the arrays.
Equal content makes equal bytes. With a key the whole file is encrypted (container.py). Nothing is
unpickled. The arrays of a model are `params/...`, `batch_stats/...` and `quant/...`; a training bundle
also has the state of the optimizer.
"""

import hashlib
import json
import re
import struct
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from rcnn_jax.checkpoints import container, foreign
from rcnn_jax.checkpoints.atomic import read_file, write_file
from rcnn_jax.checkpoints.header import check_header
from rcnn_jax.errors import CheckpointError
from rcnn_jax.kinds import Kind
from rcnn_jax.printable import reason

MAGIC = b"RCNNBNDL"
VERSION = 1
TRAINING_ARRAYS = ("opt_state", "epoch_sums", "loss_scale", "key", "dynamic")
"""Groups of arrays that only a resumed run needs."""
TRAINING_HEADER = ("step", "run_id", "run_state")
"""Header entries that only a resumed run needs."""

_PREFIX = struct.Struct("<8sIIQ")
# Beyond any spec, and little enough to hold for a file that only claims to be a bundle.
_LONGEST_HEADER = 16 << 20
_SHA256 = re.compile("[0-9a-f]{64}")
_DTYPES = {
    "BOOL": np.bool_,
    "U8": np.uint8,
    "I8": np.int8,
    "U16": np.uint16,
    "I16": np.int16,
    "U32": np.uint32,
    "I32": np.int32,
    "U64": np.uint64,
    "I64": np.int64,
    "F16": np.float16,
    "BF16": jnp.bfloat16,
    "F32": np.float32,
    "F64": np.float64,
}


@dataclass(frozen=True)
class Bundle:
    """A model and its origin.

    Attributes:
      kind: which detector.
      header: JSON values: arch, model fields, conventions, channel plan, class names and map,
        redacted spec text, config, versions; in a training bundle also `TRAINING_HEADER`.
      arrays: {flat name: array}, for example `params/conv1/kernel`.
    """

    kind: Kind
    header: dict[str, Any]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


def slim(bundle: Bundle) -> Bundle:
    """Returns the bundle without the state that only a resumed run needs."""
    arrays = {
        name: array
        for name, array in bundle.arrays.items()
        if name.split("/")[0] not in TRAINING_ARRAYS
    }
    header = {name: value for name, value in bundle.header.items() if name not in TRAINING_HEADER}
    return replace(bundle, header=header, arrays=arrays)


def write_bundle(path: Path | str, bundle: Bundle, key: str | None = None) -> None:
    """Writes the bundle whole or not at all, encrypted with a key.

    Args:
      path: the file; missing folders are made.
      bundle: what to write.
      key: encrypts the file; None or empty leaves it plain.

    Raises:
      CheckpointError: the disk has too little room, or the file cannot be written.
      ValueError: the header is not JSON, or an array has an unknown dtype.
    """
    pieces = _encode(bundle)
    if key:
        pieces = [container.encrypt(b"".join(pieces), key)]
    write_file(Path(path), pieces)


def read_bundle(path: Path | str, key: str | None = None) -> Bundle:
    """Reads a bundle and checks all of it.

    Args:
      path: the file.
      key: of the encryption; a plain file needs none and ignores it.

    Raises:
      CheckpointError: missing file, no key or wrong key, truncated, damaged, of a newer version, or
        not a bundle at all. The message says which.
    """
    data = _open(Path(path), key)
    document, start = _decode_header(data, str(path))
    payload = memoryview(data)[start:]
    # Before the digest, which fails for a file that was cut off too: only a copy helps there.
    if len(payload) < document["bytes"]:
        raise _truncated(str(path), len(data), start + document["bytes"])
    if hashlib.sha256(payload).hexdigest() != document["sha256"]:
        raise _damaged(str(path), "its arrays fail their SHA-256 check")
    return Bundle(document["kind"], document["header"], decode_arrays(bytes(payload), str(path)))


def read_header(path: Path | str, key: str | None = None) -> tuple[Kind, dict[str, Any]]:
    """Returns (kind, header) without decoding the arrays.

    Raises:
      CheckpointError: as `read_bundle`, except for the arrays, which are not checked.
    """
    document, _ = _decode_header(_open(Path(path), key), str(path))
    return document["kind"], document["header"]


def _encode(bundle: Bundle) -> list[bytes]:
    # safetensors writes memory without regard to strides: a transposed view would be stored wrong.
    arrays = {name: np.asarray(array, order="C") for name, array in bundle.arrays.items()}
    payload = safetensors.numpy.save(arrays)
    document = {
        "kind": bundle.kind,
        "header": bundle.header,
        "bytes": len(payload),
        "sha256": hashlib.sha256(payload).hexdigest(),
    }
    # No NaN: Python would write and read it, other readers of JSON stop there.
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    return [_PREFIX.pack(MAGIC, VERSION, zlib.crc32(text), len(text)), text, payload]


def _open(path: Path, key: str | None) -> bytes:
    """Returns the plain bytes of a bundle file."""
    data = read_file(path, "model file")
    if container.is_encrypted(data):
        data = container.decrypt(data, key, str(path))
        if data[: len(MAGIC)] != MAGIC:
            raise CheckpointError(
                f"{path}: was decrypted but holds no bundle; an exported model (.etlt) is read by "
                "`evaluate`, `inference` and the converter only"
            )
    if data[: len(MAGIC)] != MAGIC:
        raise CheckpointError(
            f"{path}: is not a model file of this project: {foreign.describe(data[:64], str(path))}"
        )
    return data


def _decode_header(data: bytes, name: str) -> tuple[dict[str, Any], int]:
    """Returns the JSON document and the offset of the arrays."""
    if len(data) < _PREFIX.size:
        raise _truncated(name, len(data), _PREFIX.size)
    _, version, crc, size = _PREFIX.unpack_from(data)
    if version != VERSION:
        raise CheckpointError(
            f"{name}: is a bundle of version {version}, this release reads version {VERSION}; "
            "use a newer release"
        )
    if size > _LONGEST_HEADER:
        raise _damaged(name, f"its header claims to have {size:,} bytes")
    stop = _PREFIX.size + size
    if len(data) < stop:
        raise _truncated(name, len(data), stop)
    # A CRC, though the arrays have a SHA-256: `read_header` checks this part without reading those.
    text = data[_PREFIX.size : stop]
    if zlib.crc32(text) != crc:
        raise _damaged(name, "its header fails its CRC check")
    return _document(text, name), stop


def _document(text: bytes, name: str) -> dict[str, Any]:
    """Returns the JSON before the arrays, its fields checked."""
    try:
        document = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{name}: is not as this program writes bundles: its header is no JSON ({reason(error)})"
        ) from error
    sound = (
        isinstance(document, dict)
        and document.get("kind") in get_args(Kind)
        # Not isinstance: True is an int in Python.
        and type(document.get("bytes")) is int
        and document["bytes"] >= 0
        and isinstance(document.get("sha256"), str)
        and _SHA256.fullmatch(document["sha256"])
    )
    if not sound:
        raise CheckpointError(
            f"{name}: is not as this program writes bundles: it lacks a kind of detector, a number "
            "of bytes or a SHA-256"
        )
    check_header(document.get("header"), name)
    return document


def _refuse_constant(constant: str) -> float:
    raise ValueError(f"{constant} is no number")


def decode_arrays(payload: bytes, name: str) -> dict[str, np.ndarray]:
    """Returns {name: writable array} of safetensors bytes, sorted by name.

    The NumPy reader of safetensors does not support bfloat16.

    Args:
      payload: content of a `.safetensors` file.
      name: of the file, for messages.

    Raises:
      CheckpointError: not safetensors, damaged, or of a number type that NumPy lacks.
    """
    try:
        tensors = dict(safetensors.deserialize(payload))
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{name}: is not readable as safetensors: {reason(error)}") from error
    unknown = sorted({t["dtype"] for t in tensors.values()} - _DTYPES.keys())
    if unknown:
        raise CheckpointError(f"{name}: holds numbers of the type {', '.join(unknown)}")
    return {
        name: np.frombuffer(tensor["data"], _DTYPES[tensor["dtype"]]).reshape(tensor["shape"])
        for name, tensor in sorted(tensors.items())
    }


def _truncated(name: str, length: int, expected: int) -> CheckpointError:
    return CheckpointError(
        f"{name}: is truncated: it has {length:,} bytes of at least {expected:,}; copy it again"
    )


def _damaged(name: str, what: str) -> CheckpointError:
    return CheckpointError(f"{name}: is damaged: {what}; copy it again or use another file")
