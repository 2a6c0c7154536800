"""Seeded damage to exported files: forged headers, forged graphs, flipped bytes.

    python -m tests.export.mutants MODEL.onnx 500      reads and runs that many, says what they did

Forged files are well-formed: their checksums and syntax hold, their content is what nobody wrote.
"""

import copy
import json
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx

import rcnn_jax
from rcnn_jax.errors import RcnnError
from rcnn_jax.runtime.header import HEADER_KEY

VALUES = (
    None, True, False, 0, 1, -1, 7, 96, 2**31, 2**63, -(2**63), 10**400, 0.5, 1e308, 1e-45,
    float("inf"), float("nan"), "", "x", "\x00", "\ud800", "é" * 70_000, [], [1], [[]], [None] * 3,
    ["a", "a"], ["\x1b[31m"], [1.0, 2.0, 3.0], [0, 0, 0, 0], list(range(9)), {}, {"mode": "stretch"},
    {"a": {"b": []}},
)  # fmt: skip
"""What takes the place of a value: every JSON type, and numbers that arithmetic trips over."""
SECONDS = 5.0
"""No file may keep a reader busy for longer."""


def forged_headers(fields: dict, seed: int, count: int) -> Iterator[str]:
    """Yields texts in the place of a header: one to three values are others, or it is no header."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        if number % 25 == 0:
            yield ("", "[", "7", "[]", "null", '"x"', "[" * 5000, "{" * 5000, '{"a":' * 5000)[
                number // 25 % 9
            ]
            continue
        forged = copy.deepcopy(fields)
        for _ in range(rng.integers(1, 4)):
            _forge(forged, rng)
        yield json.dumps(forged)


def _forge(fields: dict, rng: np.random.Generator) -> None:
    """Changes, removes or adds one value, at any depth."""
    name = list(fields)[rng.integers(len(fields))] if fields else "new"
    value = fields.get(name)
    if isinstance(value, dict) and value and rng.random() < 0.7:
        _forge(value, rng)
    elif isinstance(value, list) and value and rng.random() < 0.5:
        value[rng.integers(len(value))] = _any(rng)
    elif rng.random() < 0.15:
        fields.pop(name, None)
    elif rng.random() < 0.1:
        fields[f"{name}_"] = _any(rng)
    else:
        fields[name] = _any(rng)


def _any(rng: np.random.Generator):
    return copy.deepcopy(VALUES[rng.integers(len(VALUES))])


def forged_graphs(model: onnx.ModelProto, seed: int, count: int) -> Iterator[bytes]:
    """Yields files whose graph is another one below the same header, or whose bytes are damaged."""
    rng = np.random.default_rng(seed)
    whole = model.SerializeToString()
    for number in range(count):
        if number % 3 == 0:
            data = bytearray(whole)
            # most of a file is weights, whose bytes may be any: names and shapes lie at its ends
            for _ in range(rng.integers(1, 9)):
                place = rng.integers(len(data)) if rng.random() < 0.3 else rng.integers(4000)
                data[place if rng.random() < 0.5 else -1 - place] ^= 1 << rng.integers(8)
            yield bytes(data)
            continue
        forged = onnx.ModelProto()
        forged.CopyFrom(model)
        _damage(forged.graph, rng)
        yield forged.SerializeToString()


def _damage(graph: onnx.GraphProto, rng: np.random.Generator) -> None:
    def one(values):
        return values[int(rng.integers(len(values)))]

    match int(rng.integers(10)):
        case 0:
            one(graph.node).op_type = one(("Relu", "NoSuchOperator", "Loop", "NonZero", ""))
        case 1:
            del graph.node[int(rng.integers(len(graph.node)))]
        case 2:
            node = one(graph.node)
            node.input[int(rng.integers(len(node.input)))] = one(graph.node).output[0]
        case 3:
            one(graph.initializer).dims[:] = [int(rng.integers(-2, 100)) for _ in range(4)]
        case 4:
            tensor = one(graph.initializer)
            tensor.data_type = int(rng.integers(0, 25))
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


def files(model: onnx.ModelProto, seed: int, count: int) -> Iterator[bytes]:
    """Yields `count` forged headers and as many forged graphs, as files."""
    (entry,) = [entry for entry in model.metadata_props if entry.key == HEADER_KEY]
    fields = json.loads(entry.value)
    for text in forged_headers(fields, seed, count):
        forged = onnx.ModelProto()
        forged.CopyFrom(model)
        forged.metadata_props[0].value = text
        yield forged.SerializeToString()
    yield from forged_graphs(model, seed + 1, count)


def outcome(path: Path, picture: np.ndarray) -> str:
    """Returns what reading and running a file came to: `runs`, `refused`, or the traceback.

    A refusal is one sentence that begins with the file.
    """
    try:
        found = rcnn_jax.load(path)([picture])
        assert found[0].valid.all()
        return "runs"
    except RcnnError as error:
        assert str(error).startswith(f"{path}: "), error
        return "refused"
    except MemoryError:
        raise
    except Exception:
        return traceback.format_exc()


def main() -> None:
    """Tries the files of a model and prints how many did what, and every traceback."""
    model, count = onnx.load(sys.argv[1]), int(sys.argv[2])
    picture = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    seen: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "forged.onnx"
        for number, data in enumerate(files(model, 0, count)):
            path.write_bytes(data)
            start = time.monotonic()
            said = outcome(path, picture)
            took = time.monotonic() - start
            if said not in ("runs", "refused"):
                print(number, said)
            seen[said.splitlines()[-1] + (" (slow)" if took > SECONDS else "")] += 1
    for said, times in seen.most_common():
        print(f"{times:6d}  {said}")


if __name__ == "__main__":
    main()
