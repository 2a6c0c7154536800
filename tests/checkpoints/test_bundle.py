import json
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.checkpoints import container
from rcnn_jax.checkpoints.bundle import Bundle, read_bundle, read_header, slim, write_bundle
from rcnn_jax.errors import CheckpointError
from tests.checkpoints.headers import MODEL_HEADER

HEADER = {
    **MODEL_HEADER,
    "class_names": ["car", "fußgänger"],
    "step": 12,
    "run_id": "abc",
    "run_state": {"run_id": "abc", "best_metric": 0.5},
}
ARRAYS = {
    "params/conv1/kernel": np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1),
    "params/conv1/bias": np.asarray([1.5, -2.0, 3.25], jnp.bfloat16),
    "batch_stats/bn/moving_mean": np.zeros((0, 3), np.float16),
    "opt_state/0/count": np.asarray(7, np.int32),
    "key": np.asarray([1, 2], np.uint32),
    "quant/seen": np.asarray([True, False]),
}
BUNDLE = Bundle("faster_rcnn", HEADER, ARRAYS)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "m.tlt"


def message(path, key=None) -> str:
    with pytest.raises(CheckpointError) as error:
        read_bundle(path, key)
    return str(error.value).replace(str(path), "m.tlt")


@pytest.mark.parametrize("key", [None, "", "nvidia_tlt"])
def test_reading_inverts_writing(path, key):
    write_bundle(path, BUNDLE, key)
    back = read_bundle(path, key)
    assert (back.kind, back.header) == ("faster_rcnn", HEADER)
    assert back.arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert back.arrays[name].dtype == array.dtype
        assert back.arrays[name].shape == array.shape
        np.testing.assert_array_equal(back.arrays[name], array)
    assert read_header(path, key) == ("faster_rcnn", HEADER)


def test_arrays_that_were_read_can_be_written_to(path):
    write_bundle(path, BUNDLE)
    read_bundle(path).arrays["params/conv1/bias"][0] = 0


def test_equal_content_gives_equal_bytes(tmp_path):
    backwards = Bundle(
        "faster_rcnn", dict(reversed(HEADER.items())), dict(reversed(ARRAYS.items()))
    )
    write_bundle(tmp_path / "a", BUNDLE)
    write_bundle(tmp_path / "b", backwards)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_an_encrypted_bundle_shows_nothing(path):
    write_bundle(path, BUNDLE, "key")
    assert b"resnet" not in path.read_bytes()


def test_a_plain_bundle_ignores_a_key(path):
    write_bundle(path, BUNDLE)
    assert read_bundle(path, "key").header == HEADER


def test_slim_drops_what_only_training_needs():
    small = slim(BUNDLE)
    assert sorted(small.header) == sorted(MODEL_HEADER)
    assert sorted(small.arrays) == [
        "batch_stats/bn/moving_mean",
        "params/conv1/bias",
        "params/conv1/kernel",
        "quant/seen",
    ]
    assert slim(small) == small


def test_a_header_that_json_cannot_hold_is_a_mistake_of_the_program(path):
    with pytest.raises(ValueError, match="JSON"):
        write_bundle(path, replace(BUNDLE, header={"loss": float("nan")}))
    assert not path.exists()


def test_a_missing_file_is_named(path):
    assert message(path) == "m.tlt: no such model file; check the path"


def test_key_errors_of_the_container_name_the_file(path):
    write_bundle(path, BUNDLE, "key")
    assert message(path).startswith("m.tlt: is encrypted and no key was given; give the key")
    assert message(path, "other").startswith("m.tlt: the key is wrong; give the key")


def test_every_truncation_is_reported(path):
    write_bundle(path, BUNDLE)
    data = path.read_bytes()
    for size in range(8, len(data)):
        path.write_bytes(data[:size])
        assert message(path).startswith(f"m.tlt: is truncated: it has {size:,} bytes of at least")


def test_a_damaged_header_and_damaged_arrays_are_reported(path):
    write_bundle(path, BUNDLE)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"resnet:18", b"resnet:34"))
    assert message(path) == (
        "m.tlt: is damaged: its header fails its CRC check; copy it again or use another file"
    )
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert message(path) == (
        "m.tlt: is damaged: its arrays fail their SHA-256 check; copy it again or use another file"
    )


def test_a_newer_version_is_named(path):
    write_bundle(path, BUNDLE)
    data = bytearray(path.read_bytes())
    data[8] = 2
    path.write_bytes(data)
    assert message(path) == (
        "m.tlt: is a bundle of version 2, this release reads version 1; use a newer release"
    )


def test_a_file_of_the_original_is_refused_with_an_explanation(path):
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    assert message(path).startswith(
        "m.tlt: is not a model file of this project: it is an archive of the original toolkit "
        "(zip or EFF). The cipher of the original toolkit is closed"
    )


def test_an_exported_model_is_not_a_bundle(path):
    path.write_bytes(container.encrypt(b"\x08\x08onnx", "key"))
    assert message(path, "key") == (
        "m.tlt: was decrypted but holds no bundle; an exported model (.etlt) is read by `evaluate`, "
        "`inference` and the converter only"
    )


def test_the_file_is_json_and_safetensors(path):
    write_bundle(path, BUNDLE)
    data = path.read_bytes()
    size = int.from_bytes(data[16:24], "little")
    assert json.loads(data[24 : 24 + size])["header"] == HEADER
    assert b'"params/conv1/kernel":{"dtype":"F32","shape":[4,2,3]' in data[24 + size :]
