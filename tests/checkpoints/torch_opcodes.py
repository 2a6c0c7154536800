"""Torch files, assembled opcode by opcode as torch.save writes them, without torch.

archive   a zip of `data.pkl` and the storages       torch 1.6 and later
stream    five pickles, then the storages            before
"""

import struct
import zipfile
from pathlib import Path

import numpy as np

PROTO, STOP, MARK = b"\x80\x02", b".", b"("
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
ORDERED = b"ccollections\nOrderedDict\n)R"
MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
VERSION = PROTO + b"M\xe9\x03."
KINDS = {
    "f4": "Float", "f8": "Double", "f2": "Half", "i8": "Long", "i4": "Int", "u1": "Byte", "b1": "Bool",
}  # fmt: skip


def text(value: str) -> bytes:
    """Returns the opcodes of a text."""
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    """Returns the opcode of a whole number."""
    return b"J" + struct.pack("<i", value)


def numbers(*values: int) -> bytes:
    """Returns the opcodes of a tuple of whole numbers."""
    return MARK + b"".join(map(number, values)) + b"t"


def tensor(kind, key, offset, shape, strides, size=99, view=b"", rebuild=REBUILD) -> bytes:
    """Returns the opcodes of a tensor; view: of the sixth entry that streams have."""
    storage = MARK + text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu")
    storage += number(size) + view + b"tQ"
    position = number(offset) + numbers(*shape) + numbers(*strides)
    return rebuild + MARK + storage + position + b"\x89" + ORDERED + b"tR"


def state_dict(entries: dict[str, bytes] | None = None, **named: bytes) -> bytes:
    """Returns the opcodes of an ordered dictionary."""
    items = b"".join(text(name) + value for name, value in {**(entries or {}), **named}.items())
    return ORDERED + MARK + items + b"u"


def machine(little: bool = True) -> bytes:
    """Returns the third pickle of a stream."""
    return PROTO + b"}" + text("little_endian") + (b"\x88" if little else b"\x89") + b"s."


def stream(
    program: bytes, storages: dict[str, np.ndarray], order: list[str] | None = None
) -> bytes:
    """Returns a stream.

    Args:
      program: opcodes of the objects, without the first and the last one.
      storages: {key: numbers}.
      order: of the keys; that of `storages` by default.
    """
    keys = b"]" + MARK + b"".join(map(text, order or list(storages))) + b"e"
    pickles = MAGIC + VERSION + machine() + PROTO + program + STOP + PROTO + keys + STOP
    parts = (struct.pack("<q", each.size) + each.tobytes() for each in storages.values())
    return pickles + b"".join(parts)


def write_archive(
    path: Path, program: bytes, storages: dict[str, np.ndarray], order: bytes = b"little"
) -> Path:
    """Writes an archive; arguments as of `stream`, order: of the bytes."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", PROTO + program + STOP)
        archive.writestr("model/byteorder", order)
        for key, array in storages.items():
            archive.writestr(f"model/data/{key}", array.tobytes())
    return path


def saved(arrays: dict[str, np.ndarray]) -> tuple[bytes, dict[str, np.ndarray]]:
    """Returns program and storages of a state dict, a storage each."""
    storages = {str(index): array for index, array in enumerate(arrays.values())}
    entries = {
        name: tensor(
            f"{KINDS[array.dtype.str[1:]]}Storage",
            str(index),
            0,
            array.shape,
            [step // array.itemsize for step in array.strides],
            array.size,
            view=b"N",
        )
        for index, (name, array) in enumerate(arrays.items())
    }
    return state_dict(entries), storages
