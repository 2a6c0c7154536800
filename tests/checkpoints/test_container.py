import io
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rcnn_jax.checkpoints.container import (
    CHUNK_BYTES,
    Kdf,
    is_sealed,
    open_pieces,
    open_sealed,
    seal,
    seal_pieces,
)
from rcnn_jax.errors import CheckpointError

FAST = Kdf(log2_n=2, r=1, p=1)
HEADER = 8 + 54
HINT = "(-k KEY, enc_key in the spec, or the environment variable RCNN_JAX_KEY)"


def message(data: bytes, key: str | None = "key") -> str:
    with pytest.raises(CheckpointError) as error:
        open_sealed(data, key, "m.tlt")
    return str(error.value)


@settings(deadline=None, max_examples=40)
@given(data=st.binary(max_size=70), key=st.text(min_size=1), chunk=st.integers(1, 33))
def test_opening_gives_back_what_was_sealed(data, key, chunk):
    assert open_sealed(seal(data, key, kdf=FAST, chunk_bytes=chunk), key) == data


def test_the_default_cost_and_chunk_work_together():
    data = bytes(range(256)) * (CHUNK_BYTES // 200)
    sealed = seal(data, "nvidia_tlt")
    assert is_sealed(sealed) and not is_sealed(data)
    assert open_sealed(sealed, "nvidia_tlt") == data
    assert len(sealed) == HEADER + len(data) + 2 * 16


def test_two_seals_of_the_same_data_differ():
    assert seal(b"data", "key", kdf=FAST) != seal(b"data", "key", kdf=FAST)


def test_the_payload_is_not_readable_in_the_file():
    assert b"secret words" not in seal(b"secret words" * 9, "key", kdf=FAST)


def test_sealing_with_an_empty_key_is_a_mistake_of_the_program():
    with pytest.raises(ValueError, match="sealing needs a key"):
        seal(b"data", "")


def test_a_wrong_key_is_told_from_damage():
    sealed = seal(b"data", "key", kdf=FAST)
    expected = f"m.tlt: the key is wrong; give the key it was saved with {HINT}"
    assert message(sealed, "other") == expected
    assert message(sealed, "key ") == expected


@pytest.mark.parametrize("key", [None, ""])
def test_a_sealed_file_without_a_key_says_how_to_give_one(key):
    assert message(seal(b"data", "key", kdf=FAST), key) == (
        f"m.tlt: is sealed and no key was given; give the key it was saved with {HINT}"
    )


@pytest.mark.parametrize("keep", [9, HEADER - 1])
def test_a_file_cut_inside_the_header_is_truncated(keep):
    sealed = seal(b"data", "key", kdf=FAST)
    assert message(sealed[:keep]) == (
        f"m.tlt: is truncated: it has {keep} bytes of at least {HEADER}; copy it again"
    )


@pytest.mark.parametrize("cut", [1, 16, 17, 40])
def test_a_file_cut_anywhere_behind_the_header_is_truncated(cut):
    sealed = seal(b"x" * 100, "key", kdf=FAST, chunk_bytes=40)
    total = HEADER + 100 + 3 * 16
    assert message(sealed[:-cut]) == (
        f"m.tlt: is truncated: it has {total - cut} bytes of {total}; copy it again"
    )


def test_every_changed_bit_is_noticed():
    sealed = seal(b"some payload", "key", kdf=FAST, chunk_bytes=5)
    for position in range(8, len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 0x10
        assert "is damaged or was changed" in message(bytes(changed)), position


def test_a_damaged_chunk_is_named():
    sealed = bytearray(seal(b"x" * 100, "key", kdf=FAST, chunk_bytes=40))
    sealed[HEADER + 56 + 3] ^= 1
    assert message(bytes(sealed)) == (
        "m.tlt: is damaged or was changed: chunk 2 of 3 fails its check; "
        "copy it again or use another file"
    )


def test_swapped_chunks_are_noticed():
    sealed = seal(b"x" * 80, "key", kdf=FAST, chunk_bytes=40)
    first, second = sealed[HEADER : HEADER + 56], sealed[HEADER + 56 :]
    assert "chunk 1 of 2 fails its check" in message(sealed[:HEADER] + second + first)


def test_chunks_of_another_file_under_the_same_key_are_noticed():
    one = seal(b"x" * 40, "key", kdf=FAST)
    two = seal(b"x" * 40, "key", kdf=FAST)
    assert "chunk 1 of 1 fails its check" in message(one[:HEADER] + two[HEADER:])


def test_a_removed_last_chunk_is_noticed_even_under_a_forged_header():
    sealed = seal(b"x" * 80, "key", kdf=FAST, chunk_bytes=40)
    header = bytearray(sealed[8:HEADER])
    header[10:18] = struct.pack("<Q", 40)
    header[-4:] = struct.pack("<I", zlib.crc32(header[:-4]))
    forged = sealed[:8] + bytes(header) + sealed[HEADER : HEADER + 56]
    assert "chunk 1 of 1 fails its check" in message(forged)


def test_bytes_after_the_end_are_noticed():
    assert "the part of 3 bytes after its end fails" in message(
        seal(b"d", "key", kdf=FAST) + b"abc"
    )


def test_a_forged_header_cannot_ask_for_unbounded_memory():
    header = bytearray(seal(b"d", "key", kdf=FAST)[8:HEADER])
    header[2] = 60
    header[-4:] = struct.pack("<I", zlib.crc32(header[:-4]))
    assert "its header fails its check" in message(b"RCNNSEAL" + bytes(header))


@pytest.mark.parametrize(("place", "value"), [(2, 16), (2, 24), (3, 9), (4, 4), (2, 0)])
def test_a_header_may_not_ask_for_more_than_sealing_takes(place, value):
    header = bytearray(seal(b"d", "key")[8:HEADER])
    header[place] = value
    header[-4:] = struct.pack("<I", zlib.crc32(header[:-4]))
    assert "its header fails its check" in message(b"RCNNSEAL" + bytes(header))


def test_pieces_of_any_size_are_sealed_and_opened_as_a_stream():
    pieces = [b"", b"ab", memoryview(b"cdefghijk"), b"l" * 100]
    sealed = b"".join(seal_pieces(pieces, 111, "key", kdf=FAST, chunk_bytes=7))
    chunks = list(open_pieces(io.BytesIO(sealed), "key", "m.tlt"))
    assert [len(chunk) for chunk in chunks] == [7] * 15 + [6]
    assert b"".join(chunks) == b"abcdefghijk" + b"l" * 100


@pytest.mark.parametrize("size", [2, 4])
def test_pieces_of_another_size_than_promised_are_a_mistake_of_the_program(size):
    with pytest.raises(ValueError, match=f"the {size} bytes that were promised"):
        list(seal_pieces([b"abc"], size, "key", kdf=FAST, chunk_bytes=2))


def test_a_key_of_bytes_that_are_no_utf8_is_a_key():
    assert open_sealed(seal(b"data", "k\udcff", kdf=FAST), "k\udcff") == b"data"


def test_no_message_shows_a_key():
    sealed = bytearray(seal(b"data", "sesame", kdf=FAST))
    assert "sesame" not in message(bytes(sealed), "sesam")
    sealed[-1] ^= 1
    assert "sesame" not in message(bytes(sealed), "sesame")


def test_a_newer_version_is_named():
    header = bytearray(seal(b"d", "key", kdf=FAST)[8:HEADER])
    header[0] = 9
    header[-4:] = struct.pack("<I", zlib.crc32(header[:-4]))
    assert message(b"RCNNSEAL" + bytes(header)) == (
        "m.tlt: is a container of version 9, this release reads version 1; use a newer release"
    )


def test_something_else_is_not_a_sealed_file():
    assert message(b"hello") == (
        "m.tlt: is not a sealed file of this project: it seems to be a model of the original "
        "toolkit, encrypted. The cipher of the original toolkit is closed, so such files cannot be "
        "read here. With the original toolkit, export the weights to .hdf5 and give that file as "
        "pretrained weights, or train anew"
    )
