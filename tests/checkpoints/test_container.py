import io
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rcnn_jax.checkpoints.container import (
    CHUNK_BYTES,
    Kdf,
    decrypt,
    decrypt_pieces,
    encrypt,
    encrypt_pieces,
    is_encrypted,
)
from rcnn_jax.errors import CheckpointError

FAST = Kdf(log2_n=2, r=1, p=1)
HEADER = 8 + 54
HINT = "(-k KEY, enc_key in the spec, or the environment variable RCNN_JAX_KEY)"


def message(data: bytes, key: str | None = "key") -> str:
    with pytest.raises(CheckpointError) as error:
        decrypt(data, key, "m.tlt")
    return str(error.value)


@settings(deadline=None, max_examples=40)
@given(data=st.binary(max_size=70), key=st.text(min_size=1), chunk=st.integers(1, 33))
def test_decryption_inverts_encryption(data, key, chunk):
    assert decrypt(encrypt(data, key, kdf=FAST, chunk_bytes=chunk), key) == data


def test_the_default_cost_and_chunk_work_together():
    data = bytes(range(256)) * (CHUNK_BYTES // 200)
    encrypted = encrypt(data, "nvidia_tlt")
    assert is_encrypted(encrypted) and not is_encrypted(data)
    assert decrypt(encrypted, "nvidia_tlt") == data
    assert len(encrypted) == HEADER + len(data) + 2 * 16


def test_two_encryptions_of_the_same_data_differ():
    assert encrypt(b"data", "key", kdf=FAST) != encrypt(b"data", "key", kdf=FAST)


def test_the_payload_is_not_readable_in_the_file():
    assert b"secret words" not in encrypt(b"secret words" * 9, "key", kdf=FAST)


def test_encryption_with_an_empty_key_is_a_mistake_of_the_program():
    with pytest.raises(ValueError, match="encryption needs a key"):
        encrypt(b"data", "")


def test_a_wrong_key_is_not_reported_as_damage():
    encrypted = encrypt(b"data", "key", kdf=FAST)
    expected = f"m.tlt: the key is wrong; give the key it was saved with {HINT}"
    assert message(encrypted, "other") == expected
    assert message(encrypted, "key ") == expected


@pytest.mark.parametrize("key", [None, ""])
def test_the_error_without_a_key_names_the_ways_to_give_one(key):
    assert message(encrypt(b"data", "key", kdf=FAST), key) == (
        f"m.tlt: is encrypted and no key was given; give the key it was saved with {HINT}"
    )


@pytest.mark.parametrize("keep", [9, HEADER - 1])
def test_a_file_cut_inside_the_header_is_truncated(keep):
    encrypted = encrypt(b"data", "key", kdf=FAST)
    assert message(encrypted[:keep]) == (
        f"m.tlt: is truncated: it has {keep} bytes of at least {HEADER}; copy it again"
    )


@pytest.mark.parametrize("cut", [1, 16, 17, 40])
def test_a_file_cut_anywhere_behind_the_header_is_truncated(cut):
    encrypted = encrypt(b"x" * 100, "key", kdf=FAST, chunk_bytes=40)
    total = HEADER + 100 + 3 * 16
    assert message(encrypted[:-cut]) == (
        f"m.tlt: is truncated: it has {total - cut} bytes of {total}; copy it again"
    )


def test_every_changed_bit_is_noticed():
    encrypted = encrypt(b"some payload", "key", kdf=FAST, chunk_bytes=5)
    for position in range(8, len(encrypted)):
        changed = bytearray(encrypted)
        changed[position] ^= 0x10
        assert "is damaged or was changed" in message(bytes(changed)), position


def test_a_damaged_chunk_is_named():
    encrypted = bytearray(encrypt(b"x" * 100, "key", kdf=FAST, chunk_bytes=40))
    encrypted[HEADER + 56 + 3] ^= 1
    assert message(bytes(encrypted)) == (
        "m.tlt: is damaged or was changed: chunk 2 of 3 fails its check; "
        "copy it again or use another file"
    )


def test_swapped_chunks_are_noticed():
    encrypted = encrypt(b"x" * 80, "key", kdf=FAST, chunk_bytes=40)
    first, second = encrypted[HEADER : HEADER + 56], encrypted[HEADER + 56 :]
    assert "chunk 1 of 2 fails its check" in message(encrypted[:HEADER] + second + first)


def test_chunks_of_another_file_under_the_same_key_are_noticed():
    one = encrypt(b"x" * 40, "key", kdf=FAST)
    two = encrypt(b"x" * 40, "key", kdf=FAST)
    assert "chunk 1 of 1 fails its check" in message(one[:HEADER] + two[HEADER:])


def test_a_removed_last_chunk_is_noticed_even_under_a_forged_header():
    encrypted = encrypt(b"x" * 80, "key", kdf=FAST, chunk_bytes=40)
    header = bytearray(encrypted[8:HEADER])
    header[10:18] = struct.pack("<Q", 40)
    header[-4:] = struct.pack("<I", zlib.crc32(header[:-4]))
    forged = encrypted[:8] + bytes(header) + encrypted[HEADER : HEADER + 56]
    assert "chunk 1 of 1 fails its check" in message(forged)


def test_bytes_after_the_end_are_noticed():
    assert "the part of 3 bytes after its end fails" in message(
        encrypt(b"d", "key", kdf=FAST) + b"abc"
    )


def test_a_forged_header_cannot_ask_for_unbounded_memory():
    header = bytearray(encrypt(b"d", "key", kdf=FAST)[8:HEADER])
    header[2] = 60
    header[-4:] = struct.pack("<I", zlib.crc32(header[:-4]))
    assert "its header fails its check" in message(b"RCNNSEAL" + bytes(header))


@pytest.mark.parametrize(("position", "value"), [(2, 16), (2, 24), (3, 9), (4, 4), (2, 0)])
def test_a_header_may_not_ask_for_more_than_encryption_needs(position, value):
    header = bytearray(encrypt(b"d", "key")[8:HEADER])
    header[position] = value
    header[-4:] = struct.pack("<I", zlib.crc32(header[:-4]))
    assert "its header fails its check" in message(b"RCNNSEAL" + bytes(header))


def test_pieces_of_any_size_are_encrypted_and_decrypted_as_a_stream():
    pieces = [b"", b"ab", memoryview(b"cdefghijk"), b"l" * 100]
    encrypted = b"".join(encrypt_pieces(pieces, 111, "key", kdf=FAST, chunk_bytes=7))
    chunks = list(decrypt_pieces(io.BytesIO(encrypted), "key", "m.tlt"))
    assert [len(chunk) for chunk in chunks] == [7] * 15 + [6]
    assert b"".join(chunks) == b"abcdefghijk" + b"l" * 100


@pytest.mark.parametrize("size", [2, 4])
def test_pieces_of_another_size_than_announced_are_a_mistake_of_the_program(size):
    with pytest.raises(ValueError, match=f"the {size} bytes of the header"):
        list(encrypt_pieces([b"abc"], size, "key", kdf=FAST, chunk_bytes=2))


def test_a_key_of_bytes_that_are_no_utf8_is_a_key():
    assert decrypt(encrypt(b"data", "k\udcff", kdf=FAST), "k\udcff") == b"data"


def test_no_message_shows_a_key():
    encrypted = bytearray(encrypt(b"data", "sesame", kdf=FAST))
    assert "sesame" not in message(bytes(encrypted), "sesam")
    encrypted[-1] ^= 1
    assert "sesame" not in message(bytes(encrypted), "sesame")


def test_a_newer_version_is_named():
    header = bytearray(encrypt(b"d", "key", kdf=FAST)[8:HEADER])
    header[0] = 9
    header[-4:] = struct.pack("<I", zlib.crc32(header[:-4]))
    assert message(b"RCNNSEAL" + bytes(header)) == (
        "m.tlt: is a container of version 9, this release reads version 1; use a newer release"
    )


def test_something_else_is_not_an_encrypted_file():
    assert message(b"hello") == (
        "m.tlt: is not an encrypted file of this project: it seems to be a model of the original "
        "toolkit, encrypted. The cipher of the original toolkit is closed, so such files cannot be "
        "read here. With the original toolkit, export the weights to .hdf5 and give that file as "
        "pretrained weights, or train anew"
    )
