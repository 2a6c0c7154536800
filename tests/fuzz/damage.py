"""Seeded damage of two forms: to bytes, as disks, networks and attackers do it; to JSON-like trees.

Everything is drawn from a `random.Random`: equal generators do equal damage.
"""

import copy
import random
from collections.abc import Sequence
from typing import Any

EXTREMES = (
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\x80\0\0\0",
    b"\0\0\xff\xff",
    b"\0\1\0\0",
)
_HEAD = 64
"""Bytes in which half of the changes are made: most formats say there what follows."""

_NESTED: Any = []
for _ in range(50):
    _NESTED = [_NESTED]
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 7, 96, 1.5, 1.0, -0.0, 0.5, 1e-45, 1e9, 1e300, 1e308),
    *(10**400, -(10**30), 1 << 40, 2**31, 2**63, -(2**63), -(2**70)),
    *(float("nan"), float("inf"), -float("inf")),
    *("", "1", "x", "\0", "a\0b", "\udce9", "\ud800", "\x1b[31m", "../../etc/passwd", "/", "é"),
    *("x" * 5000, "é" * 70_000, "⁦x"),
    *([], [[]], [1], [1, 2], ["1", "2"], ["a", "a"], [None] * 4, [1e9] * 6, [0] * 4, [1.0, 2.0, 3.0]),
    *(list(range(9)), {}, {"a": 1}, {"a": {"b": []}}, {"": None}, {"mode": "stretch"}, _NESTED),
)  # fmt: skip
"""Put where something else belongs: every type of JSON, and numbers that arithmetic trips over."""


def changed_bytes(rng: random.Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """Returns bytes after one to four changes.

    Args:
      rng: what is drawn from.
      data: what is changed.
      others: files of which pieces are put in.
    """
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        rng.choice(_CHANGES)(rng, changed, rng.choice(others) if others else data)
    return bytes(changed)


def changed_tree(rng: random.Random, tree: Any, odd: Sequence[Any] = ODD) -> None:
    """Changes, replaces, removes, repeats or adds one value somewhere in a tree of lists and dicts.

    Args:
      rng: what is drawn from.
      tree: changed in place.
      odd: values that come in the place of others.
    """
    node = tree
    while node:
        key = rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
        value = node[key]
        if isinstance(value, dict | list) and value and rng.random() < 0.8:
            node = value
            continue
        choice = rng.random()
        if choice < 0.13:
            del node[key]
        elif choice < 0.3 and isinstance(value, int | float):
            node[key] = value + rng.randrange(-3, 4)
        elif choice < 0.2 and isinstance(node, list):
            node.append(copy.deepcopy(value))
        elif choice < 0.2 and isinstance(node, dict):
            node[f"{key}_"] = copy.deepcopy(rng.choice(odd))
        else:
            node[key] = copy.deepcopy(rng.choice(odd))
        return


def _offset(rng: random.Random, data: bytearray) -> int:
    end = len(data) if rng.random() < 0.5 else min(_HEAD, len(data))
    return rng.randrange(max(end, 1))


def _flip_bit(rng: random.Random, data: bytearray, other: bytes) -> None:
    if data:
        data[_offset(rng, data)] ^= 1 << rng.randrange(8)


def _set_byte(rng: random.Random, data: bytearray, other: bytes) -> None:
    if data:
        data[_offset(rng, data)] = rng.randrange(256)


def _set_extreme(rng: random.Random, data: bytearray, other: bytes) -> None:
    offset = _offset(rng, data)
    value = rng.choice(EXTREMES)[: rng.choice((2, 4))]
    data[offset : offset + len(value)] = value


def _cut(rng: random.Random, data: bytearray, other: bytes) -> None:
    del data[_offset(rng, data) :]


def _blank(rng: random.Random, data: bytearray, other: bytes) -> None:
    offset = _offset(rng, data)
    length = min(rng.randint(1, 64), len(data) - offset)
    data[offset : offset + length] = bytes(max(length, 0))


def _double(rng: random.Random, data: bytearray, other: bytes) -> None:
    start, offset = _offset(rng, data), _offset(rng, data)
    data[offset:offset] = data[start : start + rng.randint(1, 64)]


def _remove(rng: random.Random, data: bytearray, other: bytes) -> None:
    offset = _offset(rng, data)
    del data[offset : offset + rng.randint(1, 32)]


def _graft(rng: random.Random, data: bytearray, other: bytes) -> None:
    offset, start = _offset(rng, data), rng.randrange(max(len(other), 1))
    piece = other[start : start + rng.randint(1, 128)]
    data[offset : offset + len(piece)] = piece


_CHANGES = (_flip_bit, _set_byte, _set_extreme, _cut, _blank, _double, _remove, _graft)
