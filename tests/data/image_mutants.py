"""Damaged images: the bytes of small ones, changed by a seeded generator.

    for name, data in mutants(seed=1, count=1000): ...

Changes are those that disks, networks and attackers make: bits and bytes, cuts, runs of zeros,
pieces moved, doubled or taken from another file, and extreme numbers in headers.
"""

import random
from collections.abc import Iterator

from tests.data.image_samples import samples

EXTREMES = (
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\x80\0\0\0",
    b"\0\0\xff\xff",
    b"\0\1\0\0",
)
_HEADER = 64
"""Bytes in which half of the changes are made: pixels are mostly noise to a decoder."""


def mutants(seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """Yields (name of the sample, its bytes after one to four changes).

    Args:
      seed: equal seeds make equal mutants.
      count: how many.
    """
    rng = random.Random(seed)
    corpus = samples()
    names = sorted(corpus)
    for _ in range(count):
        name = rng.choice(names)
        data = bytearray(corpus[name])
        for _ in range(rng.randint(1, 4)):
            rng.choice(CHANGES)(rng, data, corpus[rng.choice(names)])
        yield name, bytes(data)


def _position(rng: random.Random, data: bytearray) -> int:
    end = len(data) if rng.random() < 0.5 else min(_HEADER, len(data))
    return rng.randrange(max(end, 1))


def _flip_bit(rng: random.Random, data: bytearray, other: bytes) -> None:
    if data:
        data[_position(rng, data) % len(data)] ^= 1 << rng.randrange(8)


def _set_byte(rng: random.Random, data: bytearray, other: bytes) -> None:
    if data:
        data[_position(rng, data) % len(data)] = rng.randrange(256)


def _set_extreme(rng: random.Random, data: bytearray, other: bytes) -> None:
    position = _position(rng, data)
    value = rng.choice(EXTREMES)[: rng.choice((2, 4))]
    data[position : position + len(value)] = value


def _cut(rng: random.Random, data: bytearray, other: bytes) -> None:
    del data[_position(rng, data) :]


def _blank(rng: random.Random, data: bytearray, other: bytes) -> None:
    position = _position(rng, data)
    length = min(rng.randint(1, 64), len(data) - position)
    data[position : position + length] = bytes(max(length, 0))


def _double(rng: random.Random, data: bytearray, other: bytes) -> None:
    start, position = _position(rng, data), _position(rng, data)
    data[position:position] = data[start : start + rng.randint(1, 64)]


def _remove(rng: random.Random, data: bytearray, other: bytes) -> None:
    position = _position(rng, data)
    del data[position : position + rng.randint(1, 32)]


def _graft(rng: random.Random, data: bytearray, other: bytes) -> None:
    position, start = _position(rng, data), rng.randrange(len(other))
    piece = other[start : start + rng.randint(1, 128)]
    data[position : position + len(piece)] = piece


CHANGES = (_flip_bit, _set_byte, _set_extreme, _cut, _blank, _double, _remove, _graft)
