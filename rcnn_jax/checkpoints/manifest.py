"""Manifest of a checkpoint: shape, dtype and SHA-256 of every leaf, and of the progress of the run."""

import hashlib
import json
from typing import Any

import numpy as np


def elements(leaf: dict[str, Any]) -> int:
    """Returns the number of elements of a leaf, by its record."""
    return int(np.prod(leaf["shape"], dtype=np.int64))


def leaf_record(array: np.ndarray) -> dict[str, Any]:
    """Returns shape, dtype and SHA-256 of the bytes of an array, as JSON values."""
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return {
        "shape": list(array.shape),
        "dtype": str(array.dtype),
        "sha256": hashlib.sha256(data.data).hexdigest(),
    }


def json_digest(value: Any) -> str:
    """Returns the SHA-256 of JSON values, keys sorted."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
