"""Encrypted checkpoints of the store: a key protects a run while it goes on, too."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from rcnn_jax.checkpoints import encrypted_step
from rcnn_jax.checkpoints.container import KeyMistakeError
from rcnn_jax.checkpoints.store import CheckpointStore
from tests.checkpoints.test_store import ENDLESS_RUN, RUN, assert_same, names, state

KEY = "a key of the user"
HINT = "(-k KEY, enc_key in the spec, or the environment variable RCNN_JAX_KEY)"
PATTERN = np.arange(2.0, 66.0).astype(np.float32).reshape(8, 8)


@pytest.fixture
def store(tmp_path):
    return CheckpointStore(tmp_path / "checkpoints", key=KEY)


def content(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_restore_is_bit_identical_with_dtypes_and_typed_keys(store):
    saved = state(7)
    store.save(7, saved, RUN)
    back, run_state = CheckpointStore(store.directory, key=KEY).restore(
        jax.eval_shape(lambda: saved)
    )
    assert run_state == RUN
    assert_same(back, saved)
    assert store.latest_run_state() == RUN


def test_arrays_of_every_size_come_back(store):
    rng = np.random.default_rng(0)
    saved = {
        "none": np.zeros((0, 3), np.float16),
        "scalar": np.asarray(5, np.int32),
        "flag": np.asarray([True, False]),
        "large": rng.normal(size=(3, 300, 411)).astype(np.float32),
        "turned": np.arange(12.0).reshape(3, 4).T,
    }
    store.save(1, saved, {})
    back, _ = store.restore(saved)
    for name, array in saved.items():
        np.testing.assert_array_equal(back[name], array)
        assert back[name].dtype == array.dtype
        back[name][...] = 0  # writable, as those of a plain checkpoint


def test_nothing_of_the_state_is_readable_on_the_disk(store):
    saved = {"params": {"kernel": PATTERN}, "opt_state": {"trace": PATTERN * 3}}
    store.save(1, saved, {"run_id": "a name to look for"})
    plain = CheckpointStore(store.directory.with_name("plain"))
    plain.save(1, saved, {"run_id": "a name to look for"})
    assert b"a name to look for" in content(plain.directory)
    everything = content(store.directory)
    assert len(everything) > PATTERN.nbytes * 2
    for secret in (b"a name to look for", b"kernel", PATTERN[3].tobytes(), KEY.encode()):
        assert secret not in everything


@pytest.mark.parametrize(
    ("key", "cause"), [(None, "no key was given"), ("other", "another key was given")]
)
def test_without_its_key_an_encrypted_run_is_refused(store, key, cause):
    store.save(4, state(4), RUN)
    again = CheckpointStore(store.directory, key=key)
    for read in (again.latest_run_state, lambda: again.restore(state())):
        with pytest.raises(KeyMistakeError) as error:
            read()
        assert str(error.value) == (
            f"{store.directory}: the run there is encrypted, and {cause}; give the key it was started "
            f"with {HINT}, or choose another folder for the results"
        )
    assert again.all_steps() == [4]


def test_the_last_steps_and_the_best_are_kept_as_in_a_plain_run(tmp_path):
    store = CheckpointStore(tmp_path, keep=2, key=KEY)
    for step in range(1, 8):
        store.save(step, state(step), {}, is_best=step in (2, 4))
    assert store.all_steps() == [4, 6, 7]
    assert names(tmp_path) == ["4", "6", "7"]


@pytest.mark.parametrize("damage", ["flip", "cut", "swap", "empty"])
def test_a_damaged_step_falls_back_to_the_one_before(store, damage, caplog):
    store.save(1, state(1), {"step": 1})
    store.save(2, state(2), {"step": 2})
    file = store.directory / "2" / encrypted_step.NAME
    data = bytearray(file.read_bytes())
    if damage == "flip":
        data[-40] ^= 1
    elif damage == "cut":
        data = data[:-1]
    elif damage == "swap":
        data = bytearray(b"RCNNSEAL" + bytes(100))
    else:
        data = bytearray()
    file.write_bytes(data)
    back, run_state = store.restore(state())
    assert_same(back, state(1))
    assert run_state == {"step": 1}
    assert "the checkpoint of step 2 is damaged: it cannot be opened" in caplog.text


def test_plain_steps_are_read_with_a_key_and_encrypted_when_asked(tmp_path):
    plain = CheckpointStore(tmp_path)
    plain.save(1, {"kernel": PATTERN}, {"n": 1}, is_best=True)
    plain.save(2, {"kernel": PATTERN * 2}, {"n": 2})
    plain.save(3, {"kernel": PATTERN * 3}, {"n": 3})
    store = CheckpointStore(tmp_path, key=KEY)
    assert store.latest_run_state() == {"n": 3}
    np.testing.assert_array_equal(store.restore({"kernel": PATTERN})[0]["kernel"], PATTERN * 3)
    assert store.encrypt_plain_steps() == [1, 2, 3]
    assert store.encrypt_plain_steps() == []
    assert names(tmp_path) == ["1", "2", "3"]
    assert b"kernel" not in content(tmp_path)
    np.testing.assert_array_equal(store.restore({"kernel": PATTERN})[0]["kernel"], PATTERN * 3)
    store.save(4, {"kernel": PATTERN}, {"n": 4})
    assert store.all_steps() == [1, 3, 4], "the best step is known as such after it was encrypted"


def test_without_a_key_nothing_is_encrypted(tmp_path):
    store = CheckpointStore(tmp_path)
    store.save(1, state(1), {})
    assert store.encrypt_plain_steps() == []
    assert not encrypted_step.is_encrypted(tmp_path / "1")


def test_an_encrypted_run_killed_at_any_moment_restores_a_whole_state(tmp_path):
    run = ENDLESS_RUN.replace("keep=2)", f"keep=2, key={KEY!r})")
    rng = random.Random(1)
    template = {"a": np.zeros((64, 64)), "b": np.zeros(5)}
    reached = 0
    for _ in range(6):
        command = [sys.executable, "-c", run, str(tmp_path)]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
        ) as process:
            assert process.stdout.readline() == b"begins\n"
            while not any(path.name.isdigit() for path in tmp_path.iterdir()):
                time.sleep(0.01)
            time.sleep(rng.uniform(0.0, 0.3))
            os.kill(process.pid, signal.SIGKILL)
        store = CheckpointStore(tmp_path, key=KEY)
        assert all(name.isdigit() for name in names(tmp_path))
        arrays, run_state = store.restore(template)
        assert run_state["step"] >= reached
        assert (arrays["a"] == run_state["step"]).all()
        reached = run_state["step"]
    assert reached >= 1
