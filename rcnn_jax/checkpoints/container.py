"""The sealed container: bytes that only the holder of the key can read or change unnoticed.

    magic 8 | header 54: version, scrypt n r p, chunk size, payload size, salt, nonce prefix,
    key check, CRC of the header | chunk 0 | chunk 1 | ...

scrypt (RFC 7914) turns the user's key and a random salt into 256 bits; every chunk is AES-256-GCM
with the nonce prefix || index. The header, the index and a last-chunk flag are authenticated with
every chunk, so that cutting, reordering and mixing chunks of two files are detected. The key check,
an HMAC under the derived key, tells a wrong key from damage; it opens nothing.

Files of any size pass through chunk by chunk (`seal_pieces`, `open_pieces`). scrypt runs once per
process for all that is sealed, and once per salt for what is opened: a run seals several files at
every stop. The files of a process then share a salt and differ in the nonce prefix, 64 random bits:
two of a hundred thousand files agree with a probability of 3e-10.
"""

import functools
import hmac
import io
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

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
_HEADER_END = len(MAGIC) + _HEADER.size


HINT = "(-k KEY, enc_key in the spec, or the environment variable RCNN_JAX_KEY)"
"""How a key is given; ends the messages that ask for one."""


class KeyMistakeError(CheckpointError):
    """There is no key, or it is not the one that sealed the file; the file may well be whole."""


@dataclass(frozen=True, kw_only=True)
class Kdf:
    """Cost of scrypt: memory 128 * r * 2**log2_n bytes, time proportional to p times that.

    The default is one of the equal settings of the OWASP password storage guide: 32 MiB.
    """

    log2_n: int = 15
    r: int = 8
    p: int = 3


DEFAULT_KDF = Kdf()


def is_sealed(data: bytes) -> bool:
    """True when the bytes begin as a container does."""
    return data[: len(MAGIC)] == MAGIC


def seal(data: bytes, key: str, *, kdf: Kdf = DEFAULT_KDF, chunk_bytes: int = CHUNK_BYTES) -> bytes:
    """Encrypts and authenticates bytes under a key of any length.

    Two seals of the same data differ: nonces are random.

    Args:
      data: the payload.
      key: what the user gives with `-k`; not empty.
      kdf: cost of turning the key into 256 bits.
      chunk_bytes: payload bytes of a chunk.

    Raises:
      ValueError: the key is empty.
    """
    return b"".join(seal_pieces([data], len(data), key, kdf=kdf, chunk_bytes=chunk_bytes))


def seal_pieces(
    pieces: Iterable[bytes | memoryview],
    size: int,
    key: str,
    *,
    kdf: Kdf = DEFAULT_KDF,
    chunk_bytes: int = CHUNK_BYTES,
) -> Iterator[bytes]:
    """Yields the container of a payload that comes in pieces; holds one chunk of it at a time.

    Args:
      pieces: the payload, cut anywhere.
      size: bytes of all pieces.
      key: as for `seal`.
      kdf: as for `seal`.
      chunk_bytes: as for `seal`.

    Raises:
      ValueError: the key is empty, or the pieces have another size.
    """
    if not key:
        raise ValueError("sealing needs a key")
    salt, secret = _secret_of_process(key, kdf)
    prefix = os.urandom(8)
    fields = (VERSION, kdf.log2_n, kdf.r, kdf.p, chunk_bytes, size, salt, prefix)
    unchecked = _HEADER.pack(*fields, _key_check(secret), 0)[:-4]
    header = MAGIC + unchecked + struct.pack("<I", zlib.crc32(unchecked))
    yield header
    cipher, chunks = AESGCM(secret), _regrouped(pieces, chunk_bytes)
    for index, start, stop, last in _chunk_bounds(size, chunk_bytes):
        chunk = next(chunks, b"")
        if len(chunk) != stop - start:
            raise ValueError(f"the pieces end before the {size} bytes that were promised")
        yield cipher.encrypt(_nonce(prefix, index), chunk, _context(header, index, last))
    if next(chunks, b""):
        raise ValueError(f"the pieces have more than the {size} bytes that were promised")


def open_sealed(data: bytes, key: str | None, name: str = "sealed data") -> bytes:
    """Returns what `seal` was given.

    Args:
      data: a whole container.
      key: the key it was sealed with.
      name: of the file, begins every message.

    Raises:
      KeyMistakeError: no key, or a wrong one.
      CheckpointError: not a container, truncated, or damaged: a message each.
    """
    if not is_sealed(data):
        raise CheckpointError(
            f"{name}: is not a sealed file of this project: {foreign.describe(data[:64], name)}"
        )
    return b"".join(open_pieces(io.BytesIO(data), key, name))


def open_pieces(file: BinaryIO, key: str | None, name: str) -> Iterator[bytes]:
    """Yields the payload of a container chunk by chunk; every chunk is checked before it is given.

    That the file ends where its payload does is checked before the first chunk, so a reader may
    stop early without missing a cut.

    Args:
      file: a container, at its start.
      key: the key it was sealed with.
      name: of the file, begins every message.

    Raises:
      KeyMistakeError: no key, or a wrong one.
      CheckpointError: truncated or damaged.
    """
    if not key:
        raise KeyMistakeError(
            f"{name}: is sealed and no key was given; give the key it was saved with {HINT}"
        )
    found = file.seek(0, os.SEEK_END)
    file.seek(0)
    header = file.read(_HEADER_END)
    if len(header) < _HEADER_END:
        raise _truncated(name, len(header), _HEADER_END, at_least=True)
    version, log2_n, r, p, chunk_bytes, size, salt, prefix, check, crc = _HEADER.unpack(
        header[len(MAGIC) :]
    )
    if not is_sealed(header) or zlib.crc32(header[len(MAGIC) : -4]) != crc:
        raise _damaged(name, "its header")
    if version != VERSION:
        raise CheckpointError(
            f"{name}: is a container of version {version}, this release reads version {VERSION}; "
            "use a newer release"
        )
    kdf = Kdf(log2_n=log2_n, r=r, p=p)
    if not (_is_affordable(kdf) and chunk_bytes):
        raise _damaged(name, "its header")
    secret = _derive(key, salt, kdf)
    if not hmac.compare_digest(_key_check(secret), check):
        raise KeyMistakeError(f"{name}: the key is wrong; give the key it was saved with {HINT}")
    count = max(1, -(-size // chunk_bytes))
    expected = _HEADER_END + size + count * _TAG_BYTES
    if found < expected:
        raise _truncated(name, found, expected)
    if found > expected:
        raise _damaged(name, f"the part of {found - expected:,} bytes after its end")
    cipher = AESGCM(secret)
    for index, start, stop, last in _chunk_bounds(size, chunk_bytes):
        sealed_chunk = file.read(stop - start + _TAG_BYTES)
        nonce, context = _nonce(prefix, index), _context(header, index, last)
        try:
            yield cipher.decrypt(nonce, sealed_chunk, context)
        except InvalidTag as error:
            raise _damaged(name, f"chunk {index + 1} of {count}") from error


def _is_affordable(kdf: Kdf) -> bool:
    """Says whether a header asks for no more than sealing takes.

    Whoever forges a header chooses its cost: scrypt would be made to take gigabytes and hours.
    """
    most = DEFAULT_KDF
    return 1 <= kdf.log2_n <= most.log2_n and 1 <= kdf.r <= most.r and 1 <= kdf.p <= most.p


def _regrouped(pieces: Iterable[bytes | memoryview], size: int) -> Iterator[bytes]:
    """Yields the same bytes in parts of `size`, the last one shorter."""
    rest = bytearray()
    for piece in pieces:
        view = memoryview(piece).cast("B")
        while len(view):
            taken = size - len(rest)
            rest += view[:taken]
            view = view[taken:]
            if len(rest) == size:
                yield bytes(rest)
                rest.clear()
    if rest:
        yield bytes(rest)


def _chunk_bounds(size: int, chunk_bytes: int) -> Iterator[tuple[int, int, int, bool]]:
    """Yields (index, start, stop, is last); an empty payload is one empty chunk."""
    count = max(1, -(-size // chunk_bytes))
    for index in range(count):
        start = index * chunk_bytes
        yield index, start, min(start + chunk_bytes, size), index == count - 1


@functools.lru_cache(maxsize=4)
def _secret_of_process(key: str, kdf: Kdf) -> tuple[bytes, bytes]:
    """Returns (salt, secret) for all that this process seals under a key."""
    salt = os.urandom(16)
    return salt, _derive(key, salt, kdf)


@functools.lru_cache(maxsize=16)
def _derive(key: str, salt: bytes, kdf: Kdf) -> bytes:
    scrypt = Scrypt(salt=salt, length=32, n=1 << kdf.log2_n, r=kdf.r, p=kdf.p)
    # A key typed in another encoding than UTF-8 arrives with surrogates; it is a key all the same.
    return scrypt.derive(key.encode("utf-8", "surrogatepass"))


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
