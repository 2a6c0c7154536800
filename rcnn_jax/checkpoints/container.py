"""Encrypted container: authenticated encryption of files of any size under a user's key.

    magic 8 | header 54: version, scrypt n r p, chunk size, payload size, salt, nonce prefix,
    key check, CRC of the header | chunk 0 | chunk 1 | ...

scrypt (RFC 7914) turns the user's key and a random salt into 256 bits; every chunk is AES-256-GCM
with the nonce prefix || index. The header, the index and a last-chunk flag are authenticated with
every chunk, so that cutting, reordering and mixing chunks of two files are detected. The key check,
an HMAC under the derived key, distinguishes a wrong key from damage; it decrypts nothing.

Files pass through chunk by chunk (`encrypt_pieces`, `decrypt_pieces`). scrypt runs once per process for
encryption, since a run writes several files at every milestone, and once per salt for decryption. The
files of a process then have one salt and differ in the nonce prefix, 64 random bits: two of a hundred
thousand files agree with a probability of 3e-10.
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
# One chunk is in memory at a time and adds a tag of 16 bytes; a file of 32-bit indices holds 4 PiB.
CHUNK_BYTES = 1 << 20

_HEADER = struct.Struct("<HBBBxIQ16s8s8sI")
_TAG_BYTES = 16
_HEADER_END = len(MAGIC) + _HEADER.size


HINT = "(-k KEY, enc_key in the spec, or the environment variable RCNN_JAX_KEY)"
"""The ways to give a key; the end of messages that ask for one."""


class KeyMistakeError(CheckpointError):
    """No key, or not the one of the file; the file itself may be whole."""


@dataclass(frozen=True, kw_only=True)
class Kdf:
    """Cost of scrypt: memory 128 * r * 2**log2_n bytes, time proportional to p times that.

    The default is one of the equal settings of the OWASP password storage guide: 32 MiB.
    """

    log2_n: int = 15
    r: int = 8
    p: int = 3


DEFAULT_KDF = Kdf()


def is_encrypted(data: bytes) -> bool:
    """Returns whether the bytes begin with the magic of a container."""
    return data[: len(MAGIC)] == MAGIC


def encrypt(
    data: bytes, key: str, *, kdf: Kdf = DEFAULT_KDF, chunk_bytes: int = CHUNK_BYTES
) -> bytes:
    """Encrypts and authenticates bytes under a key of any length.

    Two results for the same data differ: nonces are random.

    Args:
      data: the payload.
      key: of the user (`-k`); not empty.
      kdf: cost of the key derivation.
      chunk_bytes: payload bytes of a chunk.

    Raises:
      ValueError: the key is empty.
    """
    return b"".join(encrypt_pieces([data], len(data), key, kdf=kdf, chunk_bytes=chunk_bytes))


def encrypt_pieces(
    pieces: Iterable[bytes | memoryview],
    size: int,
    key: str,
    *,
    kdf: Kdf = DEFAULT_KDF,
    chunk_bytes: int = CHUNK_BYTES,
) -> Iterator[bytes]:
    """Encrypts a payload that comes in pieces; holds one chunk of it at a time.

    Args:
      pieces: the payload, cut anywhere.
      size: bytes of all pieces.
      key: as for `encrypt`.
      kdf: as for `encrypt`.
      chunk_bytes: as for `encrypt`.

    Raises:
      ValueError: the key is empty, or the pieces have another size.
    """
    if not key:
        raise ValueError("encryption needs a key")
    salt, secret = _secret_of_process(key, kdf)
    # Anew for every file: the secret is that of the process, and a nonce that comes twice under one
    # secret breaks GCM.
    prefix = os.urandom(8)
    fields = (VERSION, kdf.log2_n, kdf.r, kdf.p, chunk_bytes, size, salt, prefix)
    unchecked = _HEADER.pack(*fields, _key_check(secret), 0)[:-4]
    # The CRC is no protection, the tags are: it distinguishes damage of the header, whose salt
    # would derive another secret, from a wrong key.
    header = MAGIC + unchecked + struct.pack("<I", zlib.crc32(unchecked))
    yield header
    cipher, chunks = AESGCM(secret), _regrouped(pieces, chunk_bytes)
    for index, start, stop, last in _chunk_bounds(size, chunk_bytes):
        chunk = next(chunks, b"")
        if len(chunk) != stop - start:
            raise ValueError(f"the pieces end before the {size} bytes of the header")
        yield cipher.encrypt(_nonce(prefix, index), chunk, _context(header, index, last))
    if next(chunks, b""):
        raise ValueError(f"the pieces have more than the {size} bytes of the header")


def decrypt(data: bytes, key: str | None, name: str = "encrypted data") -> bytes:
    """Returns the payload of a container.

    Args:
      data: a whole container.
      key: the one it was encrypted with.
      name: of the file, begins every message.

    Raises:
      KeyMistakeError: no key, or a wrong one.
      CheckpointError: not a container, truncated, or damaged: a message each.
    """
    if not is_encrypted(data):
        raise CheckpointError(
            f"{name}: is not an encrypted file of this project: {foreign.describe(data[:64], name)}"
        )
    return b"".join(decrypt_pieces(io.BytesIO(data), key, name))


def decrypt_pieces(file: BinaryIO, key: str | None, name: str) -> Iterator[bytes]:
    """Decrypts a container chunk by chunk; every chunk is authenticated before it is yielded.

    The length of the file is checked before the first chunk, so a reader may stop early without
    missing a truncation.

    Args:
      file: a container, at its start.
      key: the one it was encrypted with.
      name: of the file, begins every message.

    Raises:
      KeyMistakeError: no key, or a wrong one.
      CheckpointError: truncated or damaged.
    """
    if not key:
        raise KeyMistakeError(
            f"{name}: is encrypted and no key was given; give the key it was saved with {HINT}"
        )
    length = file.seek(0, os.SEEK_END)
    file.seek(0)
    header = file.read(_HEADER_END)
    if len(header) < _HEADER_END:
        raise _truncated(name, len(header), _HEADER_END, at_least=True)
    version, log2_n, r, p, chunk_bytes, size, salt, prefix, check, crc = _HEADER.unpack(
        header[len(MAGIC) :]
    )
    if not is_encrypted(header) or zlib.crc32(header[len(MAGIC) : -4]) != crc:
        raise _damaged(name, "its header")
    if version != VERSION:
        raise CheckpointError(
            f"{name}: is a container of version {version}, this release reads version {VERSION}; "
            "use a newer release"
        )
    # Before scrypt runs: the header is not authenticated yet, and its cost is the sender's choice.
    kdf = Kdf(log2_n=log2_n, r=r, p=p)
    if not (_is_affordable(kdf) and chunk_bytes):
        raise _damaged(name, "its header")
    secret = _derive(key, salt, kdf)
    # Checked before the first chunk: a wrong key and a damaged chunk fail the same way there, and
    # the user would copy a sound file again.
    if not hmac.compare_digest(_key_check(secret), check):
        raise KeyMistakeError(f"{name}: the key is wrong; give the key it was saved with {HINT}")
    count = max(1, -(-size // chunk_bytes))
    expected = _HEADER_END + size + count * _TAG_BYTES
    if length < expected:
        raise _truncated(name, length, expected)
    # Nothing behind the last chunk is authenticated, so nothing may stand there.
    if length > expected:
        raise _damaged(name, f"the part of {length - expected:,} bytes after its end")
    cipher = AESGCM(secret)
    for index, start, stop, last in _chunk_bounds(size, chunk_bytes):
        ciphertext = file.read(stop - start + _TAG_BYTES)
        nonce, context = _nonce(prefix, index), _context(header, index, last)
        try:
            yield cipher.decrypt(nonce, ciphertext, context)
        except InvalidTag as error:
            raise _damaged(name, f"chunk {index + 1} of {count}") from error


def _is_affordable(kdf: Kdf) -> bool:
    """Returns whether the cost in a header is at most that of encryption.

    A forged header could otherwise make scrypt use gigabytes and hours.
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
    """Returns (salt, secret) for everything that this process encrypts under a key."""
    salt = os.urandom(16)
    return salt, _derive(key, salt, kdf)


@functools.lru_cache(maxsize=16)
def _derive(key: str, salt: bytes, kdf: Kdf) -> bytes:
    scrypt = Scrypt(salt=salt, length=32, n=1 << kdf.log2_n, r=kdf.r, p=kdf.p)
    # A key typed in another encoding than UTF-8 arrives with surrogates; it is a valid key.
    return scrypt.derive(key.encode("utf-8", "surrogatepass"))


def _key_check(secret: bytes) -> bytes:
    # 64 bits: enough against a mistyped key. Whoever guesses keys pays for scrypt before each
    # comparison, with this check as without it.
    return hmac.digest(secret, b"rcnn_jax key check", "sha256")[:8]


def _nonce(prefix: bytes, index: int) -> bytes:
    # 96 bits, the length that GCM uses as it is; any other is hashed first.
    return prefix + struct.pack(">I", index)


def _context(header: bytes, index: int, last: bool) -> bytes:
    """Associated data of a chunk: its file, its index, and whether it is the last."""
    return header + struct.pack("<I?", index, last)


def _truncated(name: str, length: int, expected: int, at_least: bool = False) -> CheckpointError:
    quantity = "at least " if at_least else ""
    return CheckpointError(
        f"{name}: is truncated: it has {length:,} bytes of {quantity}{expected:,}; copy it again"
    )


def _damaged(name: str, where: str) -> CheckpointError:
    return CheckpointError(
        f"{name}: is damaged or was changed: {where} fails its check; "
        "copy it again or use another file"
    )
