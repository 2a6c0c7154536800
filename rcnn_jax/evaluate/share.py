"""The results of one evaluation that several processes share: each has its images, all need all.

What is gathered is what the metrics take, bit for bit and in the order of a single process, so the
numbers are those of a single process.
"""

import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rcnn_jax.evaluate.voc import ImageResult
from rcnn_jax.hosts.team import Team

_FIELDS = tuple(field.name for field in dataclasses.fields(ImageResult))


def all_voc_results(
    own: Sequence[ImageResult], records: Sequence[int], position: Mapping[int, int], team: Team
) -> list[ImageResult]:
    """Returns the results of all processes, in the order of a single one.

    Args:
      own: of this process.
      records: of which image each is.
      position: {record: its place in the order}.
      team: of the processes.
    """
    pairs: list[tuple[int, ImageResult]] = []
    for data in team.gather(pack(own, records)):
        pairs += zip(*reversed(unpack(data)), strict=True)
    return [result for _, result in sorted(pairs, key=lambda pair: position[pair[0]])]


def all_coco_results(
    own: Sequence[tuple[int, int, list[dict[str, Any]]]], position: Mapping[int, int], team: Team
) -> tuple[list[int], list[dict[str, Any]]]:
    """Returns the image ids and the results of all processes, in the order of a single one.

    Args:
      own: (record, image id, results of the image) of this process.
      position: {record: its place in the order}.
      team: of the processes.
    """
    rows = [row for part in team.gather_json(own) for row in part]
    # By place, not by process: COCO's evaluation breaks ties of equal scores by the order of
    # results.
    rows.sort(key=lambda row: position[row[0]])
    return [row[1] for row in rows], [result for row in rows for result in row[2]]


def pack(results: Sequence[ImageResult], records: Sequence[int]) -> bytes:
    """Returns results as bytes: every field of all images in one array, beside the counts."""
    arrays: dict[str, Any] = {"records": np.asarray(records, np.int64)}
    for name in _FIELDS:
        leaves = [getattr(result, name) for result in results]
        # Optional fields are there for all images of a run or for none.
        if leaves and leaves[0] is not None:
            # One array a field: a member of an npz costs more bytes than the few boxes of an image.
            arrays[name] = np.concatenate(leaves)
            arrays[f"{name}_counts"] = np.asarray([len(leaf) for leaf in leaves], np.int64)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def unpack(data: bytes) -> tuple[list[ImageResult], list[int]]:
    """Returns the arguments of `pack`: the results and their records."""
    # Bytes of another process, and still nothing is unpickled.
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        records = arrays["records"].tolist()
        columns: dict[str, list[Any]] = {
            name: np.split(arrays[name], np.cumsum(arrays[f"{name}_counts"])[:-1])
            if name in arrays
            else [None] * len(records)
            for name in _FIELDS
        }
    results = [
        ImageResult(**{name: column[i] for name, column in columns.items()})
        for i in range(len(records))
    ]
    return results, records
