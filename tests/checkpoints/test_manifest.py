"""Manifest of a checkpoint: records of leaves and digests of values."""

import hashlib

import numpy as np

from rcnn_jax.checkpoints.manifest import elements, json_digest, leaf_record


def test_the_record_of_a_leaf_has_the_digest_of_its_bytes_in_c_order():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    record = leaf_record(array.T)
    assert (record["shape"], record["dtype"]) == ([3, 2], "float32")
    assert record["sha256"] == hashlib.sha256(array.T.tobytes()).hexdigest()
    assert record != leaf_record(array.reshape(3, 2))


def test_a_scalar_has_one_element_and_an_empty_array_none():
    assert elements(leaf_record(np.float32(3.0).reshape(()))) == 1
    assert elements(leaf_record(np.zeros((4, 0)))) == 0


def test_the_digest_of_values_does_not_depend_on_their_order():
    assert json_digest({"a": 1, "b": [2]}) == json_digest({"b": [2], "a": 1})
    assert json_digest({"a": 1}) != json_digest({"a": 2})
