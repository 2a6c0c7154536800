"""Seeded damage to exported files: forged headers, forged graphs, flipped bytes.

Forged files are well-formed: their checksums and syntax hold, their content is what nobody wrote.
"""

import copy
import functools
import json
import random
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnx

import rcnn_jax
from rcnn_jax.export.precision.scales import read_cache, read_json, write_cache, write_json
from rcnn_jax.export.precision.tensorfile import read_tensorfile, write_tensorfile
from rcnn_jax.runtime.engine import EngineInfo, read_info
from rcnn_jax.runtime.header import HEADER_KEY, Header
from rcnn_jax.runtime.onnx_file import handed_header
from rcnn_jax.text_file import decode
from tests.checkpoints.mutants import npy
from tests.fuzz.case import Case, Target, read_all, sound_cases, write_case, written
from tests.fuzz.damage import ODD, changed_bytes, changed_tree
from tests.fuzz.models import untrained

GRAPH, ENGINE, HEADER = ".onnx", ".engine.json", ".header.json"
CACHE, SCALES, ARCHIVE, HDF5 = ".cache", ".scales.json", ".tensorfile.npz", ".tensorfile"
SHAPE = (3, 4, 5)
"""(c, h, w) of the batches in a tensorfile."""
ODD_VALUES = (*ODD, ["\x1b[31m"], [None] * 3)
NO_HEADERS = ("", "[", "7", "[]", "null", '"x"', "[" * 5000, "{" * 5000, '{"a":' * 5000)
"""Texts in the place of a header."""
PICTURE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
Item = TypeVar("Item")


def mutant(rng: random.Random) -> Case:
    """Returns a graph, half of the time, or a file that lies beside one."""
    if rng.random() < 0.5:
        model = rng.choice(_graphs())
        return Case(GRAPH, forged_file(rng, model))
    suffix = rng.choice((ENGINE, HEADER, CACHE, SCALES, ARCHIVE, HDF5))
    if suffix == ARCHIVE and rng.random() < 0.5:
        return written(functools.partial(_archive, rng), suffix)
    (sound,) = sound_cases("headers", suffix)
    if suffix in (ENGINE, HEADER, SCALES) and rng.random() < 0.8:
        return Case(suffix, forged_json(rng, json.loads(sound.data)).encode())
    return Case(suffix, changed_bytes(rng, sound.data))


def _archive(rng: random.Random, path: Path) -> None:
    """Writes a tensorfile of one batch that nobody wrote."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo("batch_0.npy"), npy(rng))


@functools.cache
def _graphs() -> tuple[onnx.ModelProto, ...]:
    stored = [onnx.load_from_string(case.data) for case in sound_cases("headers", GRAPH)]
    return (*stored, onnx.load_from_string(untrained("mask_rcnn").graph))


def forged_file(rng: random.Random, model: onnx.ModelProto) -> bytes:
    """Returns a file with another header, another graph below the same header, or other bytes."""
    choice = rng.random()
    if choice < 0.17:
        return _changed_ends(rng, model.SerializeToString())
    forged = onnx.ModelProto()
    forged.CopyFrom(model)
    if choice < 0.5:
        _damage(forged.graph, rng)
    else:
        (entry,) = [entry for entry in forged.metadata_props if entry.key == HEADER_KEY]
        entry.value = forged_json(rng, json.loads(entry.value))
    return forged.SerializeToString()


def forged_json(rng: random.Random, fields: dict[str, Any]) -> str:
    """Returns JSON in which one to three values are others, or what is none."""
    if rng.random() < 0.04:
        return rng.choice(NO_HEADERS)
    forged = copy.deepcopy(fields)
    for _ in range(rng.choice((1, 2, 3))):
        changed_tree(rng, forged, ODD_VALUES)
    return json.dumps(forged)


def _changed_ends(rng: random.Random, data: bytes) -> bytes:
    """Flips bits. Most of a file is weights, whose bytes may be any: names and shapes are elsewhere."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        offset = rng.randrange(len(changed)) if rng.random() < 0.3 else rng.randrange(4000)
        changed[offset if rng.random() < 0.5 else -1 - offset] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _damage(graph: onnx.GraphProto, rng: random.Random) -> None:
    def one(values: Sequence[Item]) -> Item:
        return values[rng.randrange(len(values))]

    match rng.randrange(10):
        case 0:
            one(graph.node).op_type = one(("Relu", "NoSuchOperator", "Loop", "NonZero", ""))
        case 1:
            del graph.node[rng.randrange(len(graph.node))]
        case 2:
            node = one(graph.node)
            node.input[rng.randrange(len(node.input))] = one(graph.node).output[0]
        case 3:
            one(graph.initializer).dims[:] = [rng.randrange(-2, 100) for _ in range(4)]
        case 4:
            tensor = one(graph.initializer)
            tensor.data_type = rng.randrange(25)
        case 5:
            tensor = one(graph.initializer)
            tensor.raw_data = tensor.raw_data[: len(tensor.raw_data) // 2]
        case 6:
            dim = one(one((*graph.input, *graph.output)).type.tensor_type.shape.dim)
            dim.dim_value = one((0, -1, 1, 3, 97, 2**40))
        case 7:
            value = one(graph.output)
            value.name = one(graph.node).output[0]
        case 8:
            tensor = one([t for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT])
            number = one((np.nan, np.inf, 1e38, 0.0))
            size = len(tensor.raw_data) // 4
            tensor.raw_data = np.full(size, number, np.float32).tobytes()
        case _:
            node = one(graph.node)
            if node.attribute:
                attribute = one(node.attribute)
                attribute.i = one((-1, 0, 7, 2**40))
                attribute.ints[:] = [one((-1, 0, 2, 2**33)) for _ in attribute.ints]
                attribute.f = one((np.nan, -1.0, 1e30))


def check(case: Case, folder: Path) -> None:
    """Reads an exported file or one that lies beside it; a graph is run on a picture.

    Raises:
      RcnnError: it is refused.
      AssertionError: the message does not begin with the file.
    """
    path = write_case(case, folder)
    name = f"--header {path}" if case.suffix == HEADER else path
    read_all(functools.partial(_READERS[case.suffix], path), name=name)


def _run(path: Path) -> None:
    (detections,) = rcnn_jax.load(path)([PICTURE])
    assert detections.valid.all()


def _engine(path: Path) -> None:
    read_info(path.with_suffix(""))


def _text(path: Path) -> str:
    return decode(path.read_bytes(), str(path), "file of scales")


_READERS = {
    GRAPH: _run,
    ENGINE: _engine,
    HEADER: lambda path: handed_header(_graphs()[0], path, None),
    CACHE: lambda path: read_cache(_text(path), str(path)),
    SCALES: lambda path: read_json(_text(path), str(path)),
    ARCHIVE: lambda path: list(read_tensorfile(path, SHAPE)),
    HDF5: lambda path: list(read_tensorfile(path, SHAPE)),
}


def _seeds() -> dict[str, Case]:
    graph = untrained("faster_rcnn").graph
    header = json.loads(onnx.load_from_string(graph).metadata_props[0].value)
    engine = {
        "header": header,
        "precision": "fp16",
        "batches": [1, 2, 4],
        "tensorrt": "10.8.0.43",
        "gpu": "any",
        "dla_core": None,
        "sha256": "0" * 64,
    }
    assert EngineInfo.from_json(engine).header == Header.from_json(header)
    scales = {"Input": 0.5, "trunk/Relu:0": 0.125}
    batches = [np.zeros((2, *SHAPE), np.float32), np.ones((1, *SHAPE), np.float32)]
    return {
        "boxes": Case(GRAPH, graph),
        "model": Case(ENGINE, json.dumps(engine).encode()),
        "boxes_alone": Case(HEADER, json.dumps(header).encode()),
        "two": Case(CACHE, write_cache(scales).encode()),
        "two_largest": Case(SCALES, write_json(scales).encode()),
        "batches": written(lambda path: write_tensorfile(path, batches), ARCHIVE),
        "batches_hdf5": written(lambda path: write_tensorfile(path, batches), HDF5),
    }


HEADERS = Target("headers", tuple(_READERS), _seeds, mutant, check, quick=400)
