"""Files of weights that somebody made up: their checksums are right, their content is not.

Every maker takes a seeded generator and a path, and writes one file there.
"""

import copy
import functools
import io
import json
import os
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest import mock

import h5py
import numpy as np
from safetensors.numpy import save_file

import rcnn_jax
from rcnn_jax.checkpoints import container
from rcnn_jax.checkpoints.bundle import Bundle, read_bundle, read_header, write_bundle
from rcnn_jax.checkpoints.pretrained import apply_weights, load_weights
from tests.checkpoints import torch_opcodes
from tests.checkpoints.headers import MODEL_HEADER
from tests.fuzz.case import Case, Target, read_all, sound_cases, write_case, written
from tests.fuzz.damage import ODD, changed_bytes, changed_tree
from tests.fuzz.models import untrained

KEY = "key"
CHEAP = container.Kdf(log2_n=2, r=1, p=1)
NAMES = (
    "conv1.weight", "layer1.0.conv1.weight", "layer1.0.bn1.running_mean", "features.0.weight",
    "features.1.bias", "features.18.0.weight", "features.x.weight", "conv_stem.weight",
    "blocks.0.0.conv_dw.weight", "blocks.1.x.weight", "blocks.9.9.odd.weight",
    "roi_heads.box_predictor.bbox_pred.weight", "roi_heads.box_head.fc6.weight",
    "roi_heads.mask_predictor.conv5_mask.weight", "pre_logits.fc1.weight",
    "stages.0.conv_down.conv.weight", "inception3a.branch1.conv.weight",
    "features.1.0.block.0.0.weight", "layer1.99999999999.conv1.weight", "params/conv1/kernel",
    "conv5-mask/kernel", "class-predict/bias", "box-predict/kernel", "rpn_out_regress/kernel",
    "block_1a_conv_1/kernel", "fc6/kernel", "fc1/kernel", "00_conv.w", "00_conv.b",
    "01_depthwise.w", "01_depthwise.b", "7_conv.w", "batch_stats/bn/moving_mean", ".weight", "/",
    ":", "\x1b[31m", "a\x00b", "ключ", "�", ".bias", "classifier.0.weight",
    "backbone.body.conv1.weight",
)  # fmt: skip
SHAPES = (
    (),
    (0,),
    (3,),
    (4, 4),
    (256, 5),
    (0, 0),
    (2, 3, 4),
    (1, 1, 3, 2),
    (256 * 49, 4),
    (7,) * 5,
)
DTYPES = ("f4", "f8", "f2", "i8", "u1", "?", ">f4", "i2")


ODD_VALUES = (
    *ODD,
    *("\x1b[2J", [{}], [1, "a", None]),
    *({"conv1": -8}, {"conv1": 10**12}, {"conv1": 8.5}, {"conv1": "8"}),
)
"""Put into headers where something else belongs: widths of layers that no layer has, too."""


def nested(rng: random.Random, document: Any) -> Any:
    """A copy of the document with one of its entries, at any depth, replaced, dropped or doubled."""
    document = copy.deepcopy(document)
    if rng.random() < 0.03:
        name = rng.choice(("kind", "x", "step", "run_state", "category_ids", "__class__"))
        document[name] = rng.choice(ODD_VALUES)
    else:
        changed_tree(rng, document, ODD_VALUES)
    return document


def arrays(rng: random.Random, count: int) -> dict[str, np.ndarray]:
    """Arrays under names of every family, in shapes that no layer has."""
    return {
        rng.choice(NAMES): np.zeros(rng.choice(SHAPES), rng.choice(DTYPES)) for _ in range(count)
    }


HEADER = {
    **MODEL_HEADER,
    "category_ids": [1, 2],
    "created_with": {"jax": "0.10"},
    "step": 7,
    "run_id": "abc",
    "run_state": {"run_id": "abc", "step": 7, "best_metric": 0.5, "due": False, "finished": True},
}


def safetensors(rng: random.Random) -> bytes:
    """A safetensors file, in two of three cases with a forged header."""
    held = {
        name.encode("utf-8", "replace").decode(): array
        for name, array in arrays(rng, 4).items()
        if array.dtype.str[0] != ">"
    }
    kinds = {
        "f4": "F32",
        "f8": "F64",
        "f2": "F16",
        "i8": "I64",
        "u1": "U8",
        "b1": "BOOL",
        "i2": "I16",
    }
    header: dict[str, Any] = {"__metadata__": {"a": "b"}}
    position = 0
    for name, array in held.items():
        end = position + array.nbytes
        header[name] = {
            "dtype": kinds[array.dtype.str[1:]],
            "shape": list(array.shape),
            "data_offsets": [position, end],
        }
        position = end
    if rng.random() < 0.66:
        header = nested(rng, header)
        entry = rng.choice(list(header) or [""])
        if rng.random() < 0.5 and isinstance(header.get(entry), dict):
            field, odd = rng.choice(
                (
                    ("shape", [2**62, 2**62]), ("shape", [-1]), ("shape", [2**40]), ("dtype", "F4"),
                    ("data_offsets", [0, 2**63]), ("data_offsets", [9, 1]), ("dtype", "C64"),
                    ("data_offsets", [-1, 4]), ("shape", [1] * 200), ("dtype", "bf16"),
                )
            )  # fmt: skip
            header[entry][field] = odd
    try:
        text = json.dumps(header).encode()
    except ValueError:
        text = b"{}"
    if rng.random() < 0.1:
        text = text.replace(b'"dtype"', b'"dtype": "F32", "dtype"', 1)
    size = len(text) if rng.random() < 0.9 else rng.choice((0, 2**63, len(text) + 1, 2**32))
    return struct.pack("<Q", size) + text + bytes(position)


def bundle(rng: random.Random, path: Path) -> None:
    """A bundle whose checksums fit, encrypted in a third of the cases."""
    data = rng.choice(_plain_bundles())
    size = struct.unpack_from("<Q", data, 16)[0]
    document, payload = json.loads(data[24 : 24 + size]), data[24 + size :]
    if rng.random() < 0.3:
        payload = safetensors(rng)
        document["bytes"], document["sha256"] = len(payload), sha256(payload).hexdigest()
    if rng.random() < 0.8:
        document = nested(rng, document)
    text = json.dumps(document).encode()
    if rng.random() < 0.15:
        text = rng.choice(
            (
                b"", b"null", b"[]", b"[" * 200_000, b'{"kind": NaN}', b"\xff\xfe", b'{"a":1e999}',
                b"9" * 6000, text[:-1], text.replace(b"7", b"Infinity"), b'{"a":' * 90_000,
            )
        )  # fmt: skip
    version = 1 if rng.random() < 0.95 else rng.choice((0, 2, 2**32 - 1))
    length = len(text) if rng.random() < 0.95 else rng.choice((0, 2**62, len(text) + 5))
    data = struct.pack("<8sIIQ", b"RCNNBNDL", version, zlib.crc32(text), length) + text + payload
    path.write_bytes(forged_encryption(rng, data) if rng.random() < 0.33 else data)


@functools.cache
def _plain_bundles() -> list[bytes]:
    """Returns bundles to forge: of a real model of each detector, and one of a single layer."""
    stored = [case.data for case in sound_cases("bundles", ".tlt")]
    plain = [data for data in stored if not container.is_encrypted(data)]
    return [*plain, untrained("mask_rcnn").bundle, _single_layer().data]


def _single_layer() -> Case:
    one = Bundle("faster_rcnn", HEADER, {"params/conv1/kernel": np.ones((2, 3))})
    return written(lambda path: write_bundle(path, one), ".tlt")


def forged_encryption(rng: random.Random, data: bytes) -> bytes:
    """A container, in half of the cases with a forged header whose CRC fits."""
    data = _encrypted(rng, data)
    if rng.random() < 0.5:
        return data
    fields = list(struct.unpack("<HBBBxIQ16s8s8s", data[8:58]))
    field = rng.randrange(6)
    fields[field] = rng.choice((0, 1, 2, 22, 25, 28, 30, 31, 60, 255))
    if field > 3:
        fields[field] = rng.choice((0, 1, 2**20, 2**31, 2**32 - 1))
    head = struct.pack("<HBBBxIQ16s8s8s", *fields)
    return data[:8] + head + struct.pack("<I", zlib.crc32(head)) + data[62:]


def _encrypted(rng: random.Random, data: bytes) -> bytes:
    """Encrypts with salts of the generator: equal seeds make equal files."""
    container._secret_of_process.cache_clear()
    with mock.patch.object(os, "urandom", rng.randbytes):
        return container.encrypt(data, KEY, kdf=CHEAP)


def _text(rng: random.Random) -> bytes:
    text = rng.choice((*NAMES, "storage", "torch", "0", "x" * 300)).encode("utf-8", "replace")
    return b"X" + struct.pack("<I", len(text)) + text


def _number(rng: random.Random) -> bytes:
    kind = rng.random()
    if kind < 0.6:
        return b"K" + bytes([rng.randrange(8)])
    if kind < 0.9:
        return b"J" + struct.pack("<i", rng.choice((-1, 0, 3, 2**31 - 1, -(2**31), 100_000)))
    size = rng.choice((0, 9, 40))
    return b"\x8a" + bytes([size]) + rng.randbytes(size)


def _shape(rng: random.Random) -> bytes:
    count = rng.choice((0, 1, 1, 2, 2, 4, 4, 40))
    return b"(" + b"".join(_number(rng) for _ in range(count)) + b"t"


def _tensor(rng: random.Random) -> bytes:
    kind = rng.choice(
        ("Float", "Float", "Half", "BFloat16", "Long", "Bool", "Complex", "")
    ).encode()
    key = rng.choice((b"X\x01\x00\x00\x000", b"X\x01\x00\x00\x001", _text(rng), _number(rng)))
    storage = (
        b"(X\x07\x00\x00\x00storagectorch\n" + kind + b"Storage\n" + key + b"X\x03\x00\x00\x00cpu"
    )
    storage += _number(rng) + b"tQ"
    layout = [_number(rng), _shape(rng), _shape(rng)]
    if rng.random() < 0.85:  # one that could have been saved
        storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000NK\x09tQ"
        sides = rng.choices(range(6), k=rng.choice((0, 1, 2, 4, 4)))
        shape = b"(" + b"".join(b"K" + bytes([side]) for side in sides) + b"t"
        strides = b"(" + b"".join(b"K" + bytes([rng.randrange(9)]) for _ in sides) + b"t"
        layout = [b"K\x00", shape, strides]
    parts = [
        storage,
        *layout,
        b"\x89",
        b"ccollections\nOrderedDict\n)R",
    ]
    if rng.random() < 0.06:
        parts[rng.randrange(len(parts))] = rng.choice((b"N", _text(rng), b"]", b"}", b""))
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + b"".join(parts) + b"tR"


def _program(rng: random.Random) -> bytes:
    program = b"\x80\x02ccollections\nOrderedDict\n)R("
    for _ in range(rng.randrange(1, 5)):
        program += _text(rng) + (_tensor(rng) if rng.random() < 0.85 else _number(rng))
    program += b"u."
    for _ in range(rng.choice((0, 0, 0, 0, 0, 1, 2))):
        position = rng.randrange(2, len(program))
        piece = rng.choice(
            (
                rng.randbytes(1), b"(", b"t", b"R", b"Q", b"h\x05", b"q\x01", b"\x85", b"\x93", b"a",
                b"cos\nsystem\n", b"b", b"s", b"e", b"0", b"I9\n", b"\x81", b".", b"\x94", b"\x87",
            )
        )  # fmt: skip
        program = program[:position] + piece + program[position + rng.randrange(2) :]
    return program


def pth(rng: random.Random, path: Path) -> None:
    """A `.pth` whose program builds tensors that nobody saved."""
    program = _program(rng)
    unusual = rng.random()
    if unusual < 0.02:
        program = b"\x80\x02]q\x00" + b"(K\x01e" * 400_000 + b"."
    elif unusual < 0.04:
        program = b"\x80\x02)" + b"\x85" * 300_000 + b"."
    elif unusual < 0.06:
        program = rng.randbytes(200)
    if rng.random() < 0.3:
        path.write_bytes(_stream(rng, program))
        return damage(rng, path)
    with zipfile.ZipFile(path, "w", rng.choice((0, 8))) as archive:
        _add(archive, rng.choice(("m/data.pkl",) * 12 + ("a/b/data.pkl", "data.pkl")), program)
        _add(archive, "m/data/0", np.zeros(rng.choice((0, 3, 4000, 4000)), "<f4").tobytes())
        _add(archive, "m/data/1", rng.randbytes(rng.choice((0, 1, 7, 64))))
        if rng.random() < 0.3:
            _add(archive, "m/byteorder", rng.choice((b"big", b"little", b"\xff")))
    damage(rng, path)


def _stream(rng: random.Random, program: bytes) -> bytes:
    """The form of torch before 1.6, with counts and lists that do not fit in half of the cases."""
    keys = [*"01"] if rng.random() < 0.7 else rng.choices([*"012", "x" * 300], k=rng.randrange(4))
    pieces = [torch_opcodes.text(key) for key in keys]
    if rng.random() < 0.1:
        pieces.append(_number(rng))
    listed = b"\x80\x02](" + b"".join(pieces) + b"e."
    machine = torch_opcodes.machine(rng.random() < 0.95)
    stream = torch_opcodes.MAGIC + torch_opcodes.VERSION + machine + program + listed
    for _ in keys:
        held = rng.randbytes(4 * rng.choice((0, 1, 3, 4000)))
        count = rng.choice((len(held) // 4,) * 6 + (0, -1, 2**40, 2**63 - 1))
        stream += struct.pack("<q", count) + held
    return stream


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    """Adds a member of 1980: equal seeds make equal files."""
    archive.writestr(zipfile.ZipInfo(name), data, archive.compression)


def damage(rng: random.Random, path: Path) -> None:
    """Sometimes changes a few bytes of a file."""
    if rng.random() < 0.2:
        path.write_bytes(changed_bytes(rng, path.read_bytes()))


def npy(rng: random.Random) -> bytes:
    """An array whose header may promise what is not there, or be no header."""
    stream = io.BytesIO()
    array = np.ones(rng.choice(SHAPES), rng.choice((*DTYPES, "U3", "S2", "c8", "M8[s]")))
    np.lib.format.write_array(stream, array, allow_pickle=False)
    data = stream.getvalue()
    if rng.random() < 0.4:
        return data
    descr = rng.choice(
        ("'<f4'", "'|O'", "'<V8'", "'f99'", "''", "None", "[('a','<f4')]", "'<f4,'", "5")
    )
    shape = rng.choice(
        ("(2**62,)", "(9999999999999,)", "(-1,)", "(3,3)", "()", "None", "(True,)", "(1.5,)", "3",
         "(" * 3000, "(4611686018427387904, 4)", "(0, -5)", "(1,)*40", "[3]", "(3L,)")
    )  # fmt: skip
    order = rng.choice(("False", "True", "None", "1"))
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}".encode()
    if rng.random() < 0.15:
        text = rng.choice((b"", b"\xff", b"{", b"'", b"[]", b"__import__('os')", b"{'descr'" * 900))
    major = rng.choice((1, 1, 1, 2, 3, 9))
    size = struct.pack("<H" if major == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([major, 0]) + size + text + bytes(rng.choice((0, 4, 36)))


def npz(rng: random.Random, path: Path) -> None:
    """An `.npz` with headers that promise what is not there."""
    method = rng.choice((0, 8, 8, 12))
    with zipfile.ZipFile(path, "w", method) as archive:
        for name in dict.fromkeys(rng.choices(NAMES, k=rng.randrange(1, 4))):
            name = name.encode("utf-8", "replace").decode()
            suffix = rng.choice((".npy", ".npy", ""))
            _add(archive, name.replace("\x00", "0") + suffix, npy(rng))
        if method and rng.random() < 0.03:
            _add(archive, "bomb.npy", bytes(400 << 20))
    damage(rng, path)


def plain_safetensors(rng: random.Random, path: Path) -> None:
    """A `.safetensors`."""
    path.write_bytes(safetensors(rng))
    damage(rng, path)


def keras(rng: random.Random, path: Path) -> None:
    """A Keras file: `.h5`, or a `.keras` where the path says so."""
    inner = path.with_suffix(".inner.h5")
    with h5py.File(inner, "w") as file:
        for _ in range(rng.randrange(1, 4)):
            layer = rng.choice(
                ("conv1", "fc1", "layers/dense", "layers/a/layer", "optimizer", "vars")
            )
            leaf = rng.choice(
                ("kernel:0", "bias", "vars/0", "vars/²", "vars/99999999", "depthwise_kernel")
            )
            name = f"{layer}/{leaf}"
            if name in file:
                continue
            _keras_entry(rng, file, name)
        if rng.random() < 0.4:
            config = rng.choice(
                (
                    b"\xff", "{", "[" * 9000,
                    json.dumps({"config": {"name": {}, "layer": {"config": {}}}}),
                    json.dumps({"config": {"layer": {"config": {"name": [1]}}, "name": "a"}}), 5, [1, 2],
                )
            )  # fmt: skip
            file.attrs["model_config"] = config
    if path.suffix == ".keras":
        with zipfile.ZipFile(path, "w", rng.choice((0, 8))) as archive:
            name = rng.choice(("model.weights.h5", "model.weights.h5", "other.h5"))
            _add(archive, name, inner.read_bytes())
    else:
        path.write_bytes(inner.read_bytes())
    inner.unlink()


def _keras_entry(rng: random.Random, file: Any, name: str) -> None:
    kind = rng.randrange(9)
    folder = name.rpartition("/")[0]
    if kind == 0:
        file[name] = h5py.SoftLink(rng.choice(("/", "/nowhere", "/conv1")))
    elif kind == 1:
        file[name] = h5py.ExternalLink(rng.choice(("/etc/passwd", "other.h5")), "/a")
    elif kind == 2:
        file.create_dataset(name, (4,), "f4", external=[("/etc/passwd", 0, 16)])
    elif kind == 3:
        layout = h5py.VirtualLayout((4,), "f4")
        layout[:] = h5py.VirtualSource("other.h5", "a", (4,))
        file.create_virtual_dataset(name, layout)
    elif kind == 4:
        file.create_dataset(name, (1 << 20, 1 << 20), "f4", chunks=(64, 64))
    elif kind == 5:
        file.create_dataset(name, data=h5py.Empty("f4"))
    else:
        file[name] = np.zeros(rng.choice(SHAPES), rng.choice(("f4", "f8", "i4", "f2")))
    if rng.random() < 0.7 and isinstance(file.get(folder, getlink=True), h5py.HardLink):
        file[folder].attrs["name"] = rng.choice(("dense", b"\xff", 5, np.zeros(3), ""))


MAKERS: dict[str, Callable[[random.Random, Path], None]] = {
    ".tlt": bundle,
    ".pth": pth,
    ".npz": npz,
    ".safetensors": plain_safetensors,
    ".h5": keras,
    ".keras": keras,
}
"""{suffix: writer of one made-up file}."""
SUFFIXES = tuple(MAKERS)[1:]
LAYER = {"conv1": {"kernel": np.zeros((1, 1, 3, 2), np.float32)}}


def weights_mutant(rng: random.Random) -> Case:
    """Returns a made-up file of any kind but ours, or a sound one with other bytes."""
    return _mutant(rng, "weights", rng.choice(SUFFIXES))


def bundle_mutant(rng: random.Random) -> Case:
    """Returns a made-up bundle, or the bundle of a real model with another header or other bytes."""
    return _mutant(rng, "bundles", ".tlt")


def _mutant(rng: random.Random, target: str, suffix: str) -> Case:
    if rng.random() < 0.25:
        sound = rng.choice(sound_cases(target, suffix))
        return Case(suffix, changed_bytes(rng, sound.data))
    return written(functools.partial(MAKERS[suffix], rng), suffix)


def check_weights(case: Case, folder: Path) -> None:
    """Reads a file as pretrained weights.

    Raises:
      RcnnError: it is refused.
    """
    path = write_case(case, folder)
    read_all(functools.partial(_apply, path), name=path)


def check_bundle(case: Case, folder: Path) -> None:
    """Reads a bundle in every way there is: as pretrained weights, whole, its header, as a model.

    Raises:
      RcnnError: what the readers say, all of them.
    """
    path = write_case(case, folder)
    readers = (
        functools.partial(read, path, KEY) for read in (read_bundle, read_header, rcnn_jax.load)
    )
    read_all(functools.partial(_apply, path), *readers, name=path)


def _apply(path: Path) -> None:
    apply_weights(LAYER, {}, load_weights(path, KEY))


def _bundle_seeds() -> dict[str, Case]:
    model = untrained("faster_rcnn").bundle
    encrypted = _encrypted(random.Random(0), model)
    return {"boxes": Case(".tlt", model), "encrypted": Case(".tlt", encrypted)}


def _weights_seeds() -> dict[str, Case]:
    writers = (_sound_pth, _sound_npz, _sound_safetensors, _sound_h5, _sound_keras)
    seeds = {
        f"conv1_{suffix[1:]}": written(write, suffix)
        for suffix, write in zip(SUFFIXES, writers, strict=True)
    }
    return {**seeds, "conv1_stream": written(_sound_stream, ".pth")}


KERNEL = np.arange(6, dtype=np.float32).reshape(2, 3, 1, 1)
"""The only weights of the sound files: one convolution, as torch lays it out."""


def _sound_pth(path: Path) -> None:
    storage = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x06tQ"
    layout = b"K\0(K\x02K\x03K\x01K\x01t(K\x03K\x01K\x01K\x01t\x89ccollections\nOrderedDict\n)R"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + layout + b"tR"
    name = b"X\x0c\0\0\0conv1.weight"
    with zipfile.ZipFile(path, "w") as archive:
        program = b"\x80\x02ccollections\nOrderedDict\n)R(" + name + tensor + b"u."
        _add(archive, "m/data.pkl", program)
        _add(archive, "m/byteorder", b"little")
        _add(archive, "m/data/0", KERNEL.tobytes())


def _sound_stream(path: Path) -> None:
    path.write_bytes(torch_opcodes.stream(*torch_opcodes.saved({"conv1.weight": KERNEL})))


def _sound_npz(path: Path) -> None:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, KERNEL, allow_pickle=False)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        _add(archive, "conv1.weight.npy", stream.getvalue())


def _sound_safetensors(path: Path) -> None:
    save_file({"conv1.weight": KERNEL}, path)


def _sound_h5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["conv1/conv1/kernel:0"] = KERNEL.transpose(2, 3, 1, 0)


def _sound_keras(path: Path) -> None:
    inner = path.with_suffix(".inner.h5")
    with h5py.File(inner, "w") as file:
        file["layers/conv2d/vars/0"] = KERNEL.transpose(2, 3, 1, 0)
        file["layers/conv2d/vars"].attrs["name"] = "conv1"
    with zipfile.ZipFile(path, "w") as archive:
        _add(archive, "model.weights.h5", inner.read_bytes())


BUNDLES = Target("bundles", (".tlt",), _bundle_seeds, bundle_mutant, check_bundle, quick=150)
WEIGHTS = Target("weights", SUFFIXES, _weights_seeds, weights_mutant, check_weights, quick=500)
