"""The sealed container: bytes that only the holder of the key can read or change unnoticed.

    magic 8 | header 54: version, scrypt n r p, chunk size, payload size, salt, nonce prefix,
    key check, CRC of the header | chunk 0 | chunk 1 | ...

scrypt (RFC 7914) turns the user's key and a random salt into 256 bits; every chunk is AES-256-GCM
with the nonce prefix || index. The header, the index and a last-chunk flag are authenticated with
every chunk, so that cutting, reordering and mixing chunks of two files are detected. The key check,
an HMAC under the derived key, tells a wrong key from damage; it opens nothing.

Peak memory is three times the payload: the payload, the chunks, and the joined result.
"""

import hmac
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from rcnn_jax.checkpoints import foreign
from rcnn_jax.errors import CheckpointError

MAGIC = b"RCNNSEAL"
VERSION = 1
CHUNK_BYTES = 1 << 20

_HEADER = struct.Struct("<HBBBxIQ16s8s8sI")
_TAG_BYTES = 16
_MAX_LOG2_N = 22
_HEADER_END = len(MAGIC) + _HEADER.size


@dataclass(frozen=True, kw_only=True)
class Kdf:
    """Cost of scrypt: memory 128 * r * 2**log2_n bytes, time proportional to p times that.

    The default is one of the equal settings of the OWASP password storage guide: 32 MiB.
    """

    log2_n: int = 15
    r: int = 8
    p: int = 3


def is_sealed(data: bytes) -> bool:
    """True when the bytes begin as a container does."""
    return data[: len(MAGIC)] == MAGIC


DEFAULT_KDF = Kdf()


def seal(data: bytes, key: str, *, kdf: Kdf = DEFAULT_KDF, chunk_bytes: int = CHUNK_BYTES) -> bytes:
    """Encrypts and authenticates bytes under a key of any length.

    Two seals of the same data differ: salt and nonces are random.

    Args:
      data: the payload.
      key: what the user gives with `-k`; not empty.
      kdf: cost of turning the key into 256 bits.
      chunk_bytes: payload bytes of a chunk.

    Raises:
      ValueError: the key is empty.
    """
    if not key:
        raise ValueError("sealing needs a key")
    salt, prefix = os.urandom(16), os.urandom(8)
    secret = _derive(key, salt, kdf)
    fields = (VERSION, kdf.log2_n, kdf.r, kdf.p, chunk_bytes, len(data), salt, prefix)
    unchecked = _HEADER.pack(*fields, _key_check(secret), 0)[:-4]
    header = MAGIC + unchecked + struct.pack("<I", zlib.crc32(unchecked))
    cipher, payload = AESGCM(secret), memoryview(data)
    chunks = [header]
    for index, start, stop, last in _chunk_bounds(len(data), chunk_bytes):
        nonce, context = _nonce(prefix, index), _context(header, index, last)
        chunks.append(cipher.encrypt(nonce, payload[start:stop], context))
    return b"".join(chunks)


def open_sealed(data: bytes, key: str | None, name: str = "sealed data") -> bytes:
    """Returns what `seal` was given.

    Args:
      data: a whole container.
      key: the key it was sealed with.
      name: of the file, begins every message.

    Raises:
      CheckpointError: not a container, no key, wrong key, truncated, or damaged: five messages.
    """
    if not is_sealed(data):
        raise CheckpointError(
            f"{name}: is not a sealed file of this project: {foreign.describe(data[:64], name)}"
        )
    if not key:
        raise CheckpointError(
            f"{name}: is sealed and no key was given; give the key it was saved with "
            "(-k KEY, enc_key in the spec, or the environment variable RCNN_JAX_KEY)"
        )
    if len(data) < _HEADER_END:
        raise _truncated(name, len(data), _HEADER_END, at_least=True)
    header = bytes(data[:_HEADER_END])
    version, log2_n, r, p, chunk_bytes, size, salt, prefix, check, crc = _HEADER.unpack(
        header[len(MAGIC) :]
    )
    if zlib.crc32(header[len(MAGIC) : -4]) != crc:
        raise _damaged(name, "its header")
    if version != VERSION:
        raise CheckpointError(
            f"{name}: is a container of version {version}, this release reads version {VERSION}; "
            "use a newer release"
        )
    # A forged header must not make scrypt ask for unbounded memory or time.
    if not (1 <= log2_n <= _MAX_LOG2_N and 1 <= r <= 32 and 1 <= p <= 16 and chunk_bytes):
        raise _damaged(name, "its header")
    secret = _derive(key, salt, Kdf(log2_n=log2_n, r=r, p=p))
    if not hmac.compare_digest(_key_check(secret), check):
        raise CheckpointError(
            f"{name}: the key is wrong; give the key it was saved with "
            "(-k KEY, enc_key in the spec, or the environment variable RCNN_JAX_KEY)"
        )
    count = max(1, -(-size // chunk_bytes))
    expected = _HEADER_END + size + count * _TAG_BYTES
    if len(data) < expected:
        raise _truncated(name, len(data), expected)
    if len(data) > expected:
        raise _damaged(name, f"the part of {len(data) - expected:,} bytes after its end")
    cipher, payload, chunks = AESGCM(secret), memoryview(data), []
    for index, start, stop, last in _chunk_bounds(size, chunk_bytes):
        offset = _HEADER_END + index * _TAG_BYTES
        sealed_chunk = payload[offset + start : offset + stop + _TAG_BYTES]
        nonce, context = _nonce(prefix, index), _context(header, index, last)
        try:
            chunks.append(cipher.decrypt(nonce, sealed_chunk, context))
        except InvalidTag as error:
            raise _damaged(name, f"chunk {index + 1} of {count}") from error
    return b"".join(chunks)


def _chunk_bounds(size: int, chunk_bytes: int) -> Iterator[tuple[int, int, int, bool]]:
    """Yields (index, start, stop, is last); an empty payload is one empty chunk."""
    count = max(1, -(-size // chunk_bytes))
    for index in range(count):
        start = index * chunk_bytes
        yield index, start, min(start + chunk_bytes, size), index == count - 1


def _derive(key: str, salt: bytes, kdf: Kdf) -> bytes:
    scrypt = Scrypt(salt=salt, length=32, n=1 << kdf.log2_n, r=kdf.r, p=kdf.p)
    return scrypt.derive(key.encode())


def _key_check(secret: bytes) -> bytes:
    return hmac.digest(secret, b"rcnn_jax key check", "sha256")[:8]


def _nonce(prefix: bytes, index: int) -> bytes:
    return prefix + struct.pack(">I", index)


def _context(header: bytes, index: int, last: bool) -> bytes:
    """What a chunk's tag vouches for besides the chunk: file, place, and whether it ends there."""
    return header + struct.pack("<I?", index, last)


def _truncated(name: str, found: int, expected: int, at_least: bool = False) -> CheckpointError:
    quantity = "at least " if at_least else ""
    return CheckpointError(
        f"{name}: is truncated: it has {found:,} bytes of {quantity}{expected:,}; copy it again"
    )


def _damaged(name: str, where: str) -> CheckpointError:
    return CheckpointError(
        f"{name}: is damaged or was changed: {where} fails its check; "
        "copy it again or use another file"
    )
