import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl import logging as absl_logging

from rcnn_jax.checkpoints import atomic
from rcnn_jax.checkpoints.store import CheckpointStore
from rcnn_jax.errors import CheckpointError
from rcnn_jax.structures import TrainState

RUN = {"run_id": "abc", "best": 0.5, "data": {"batch": 3}}


def state(step: int = 0, width: int = 3) -> TrainState:
    params = {"fc1": {"kernel": jnp.full((2, width), step + 0.5), "bias": jnp.zeros(width)}}
    return TrainState(
        step=jnp.asarray(step, jnp.int32),
        params=params,
        collections={"batch_stats": {"bn": {"moving_mean": jnp.full(4, step, jnp.bfloat16)}}},
        opt_state=optax.sgd(0.1, 0.9).init(params),
        ema=None,
        loss_scale=None,
        epoch_sums={"total": jnp.asarray([1.0, step])},
        key=jax.random.key(step),
    )


def leaves(tree) -> list[np.ndarray]:
    plain = tree.replace(key=jax.random.key_data(tree.key))
    return [np.asarray(leaf) for leaf in jax.tree.leaves(plain)]


def assert_same(one, two):
    assert jax.tree.structure(one) == jax.tree.structure(two)
    for a, b in zip(leaves(one), leaves(two), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def flip_a_byte_of_the_arrays(step: Path):
    largest = max((step / "state").rglob("d/*"), key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 0xFF
    largest.write_bytes(data)


@pytest.fixture
def store(tmp_path):
    return CheckpointStore(tmp_path / "checkpoints")


def test_an_empty_store_restores_nothing(store):
    assert store.restore(state()) is None
    assert store.latest_run_state() is None
    assert store.all_steps() == []


def test_restore_is_bit_identical_with_dtypes_and_typed_keys(store):
    saved = state(7)
    awkward = jnp.asarray([[np.nan, -0.0, 1e-45]] * 2, jnp.float32)
    saved = saved.replace(params={"fc1": {"kernel": awkward, "bias": jnp.zeros(3)}})
    store.save(7, saved, RUN)
    back, run_state = CheckpointStore(store.directory).restore(jax.eval_shape(lambda: saved))
    assert run_state == RUN
    assert_same(back, saved)
    assert jax.random.bits(back.key) == jax.random.bits(saved.key)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(back.params))


def test_raw_keys_and_arrays_without_elements_come_back(store):
    saved = {"key": jax.random.PRNGKey(3), "none": jnp.zeros((0, 2), jnp.bfloat16), "n": 3}
    store.save(1, saved, {})
    back, _ = store.restore(saved)
    np.testing.assert_array_equal(back["key"], saved["key"])
    assert back["none"].shape == (0, 2) and back["none"].dtype == jnp.bfloat16
    assert back["n"] == 3


def test_the_newest_step_is_restored(store):
    for step in (2, 10, 9):
        store.save(step, state(step), {"step": step})
    assert store.all_steps() == [9, 10]
    back, run_state = store.restore(state())
    assert (int(back.step), run_state) == (10, {"step": 10})
    assert store.latest_run_state() == {"step": 10}


def test_the_last_steps_and_the_best_are_kept(tmp_path):
    store = CheckpointStore(tmp_path, keep=2)
    kept = []
    for step in range(1, 8):
        store.save(step, state(step), {}, is_best=step in (2, 6))
        kept.append(store.all_steps())
    assert kept == [[1], [1, 2], [2, 3], [2, 3, 4], [2, 4, 5], [5, 6], [6, 7]]
    assert names(tmp_path) == ["6", "7"]


def test_a_step_can_be_saved_again(store):
    store.save(3, state(3), {"n": 1}, is_best=True)
    store.save(3, state(4), {"n": 2})
    back, run_state = store.restore(state())
    assert (int(back.step), run_state) == (4, {"n": 2})
    assert names(store.directory) == ["3"]


@pytest.mark.parametrize("damage", ["flip", "file", "folder", "manifest", "run state"])
def test_a_damaged_step_falls_back_to_the_one_before_with_a_warning(store, damage, caplog):
    store.save(1, state(1), {"step": 1})
    store.save(2, state(2), {"step": 2})
    step = store.directory / "2"
    metadata = step / "manifest" / "metadata"
    if damage == "flip":
        flip_a_byte_of_the_arrays(step)
    elif damage == "file":
        for path in (step / "state").rglob("d/*"):
            path.write_bytes(b"")
    elif damage == "folder":
        (step / "state").rename(step / "elsewhere")
    elif damage == "manifest":
        metadata.write_text(metadata.read_text()[:-9])
    else:
        metadata.write_text(
            metadata.read_text().replace('"run_state": {"step": 2', '"run_state": {"step": 9')
        )
    with caplog.at_level(logging.WARNING, "rcnn_jax"):
        back, run_state = store.restore(state())
    assert_same(back, state(1))
    assert run_state == {"step": 1}
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith(f"{store.directory}: the checkpoint of step 2 is damaged: its ")
    assert second == "going back to the checkpoint of step 1"


def test_a_leaf_that_differs_from_its_digest_is_named(store, caplog):
    store.save(1, state(1), {})
    store.save(2, state(2), {})
    metadata = store.directory / "2" / "manifest" / "metadata"
    text = metadata.read_text()
    start = text.index("sha256", text.index("params/fc1/kernel")) + len('sha256": "')
    metadata.write_text(text[:start] + "0" * 64 + text[start + 64 :])
    with caplog.at_level(logging.WARNING, "rcnn_jax"):
        store.restore(state())
    assert caplog.records[0].getMessage() == (
        f"{store.directory}: the checkpoint of step 2 is damaged: "
        "its leaf params/fc1/kernel fails its SHA-256 check"
    )


def test_a_store_without_a_whole_step_is_an_error_not_a_fresh_start(store):
    store.save(1, state(1), {})
    (store.directory / "1" / "manifest" / "metadata").unlink()
    with pytest.raises(CheckpointError) as error:
        store.restore(state())
    message = str(error.value)
    assert message.startswith(
        f"{store.directory}: no checkpoint is whole (step 1: its manifest cannot be read "
        "(FileNotFoundError: [Errno 2]"
    )
    assert message.endswith("). Give --fresh to start anew")


def test_a_checkpoint_of_another_model_is_an_error(store):
    store.save(5, state(5, width=3), {})
    with pytest.raises(CheckpointError) as error:
        store.restore(state(width=4))
    assert str(error.value).startswith(
        f"{store.directory}: the checkpoint of step 5 is not of this model: the stored arrays do "
        "not fit: params/fc1/bias is float32[3], not float32[4]; params/fc1/kernel is"
    )
    assert str(error.value).endswith(
        ". Use the spec it was trained with, another workdir, or --fresh to start anew"
    )


def test_too_little_disk_space_leaves_the_stored_steps_alone(store, monkeypatch):
    store.save(1, state(1), {})
    usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(atomic.shutil, "disk_usage", lambda folder: usage(1, 0, 5))
    with pytest.raises(CheckpointError, match="checkpoint of step 1: not enough disk space in"):
        store.save(1, state(2), {})
    assert int(store.restore(state())[0].step) == 1


def test_what_a_killed_run_left_is_tidied_up(tmp_path):
    store = CheckpointStore(tmp_path)
    store.save(1, state(1), {})
    store.save(2, state(2), {})
    (tmp_path / "2").rename(tmp_path / "2.replaced")
    (tmp_path / "1.deleted").mkdir()
    (tmp_path / "1.replaced").mkdir()
    (tmp_path / "3.orbax-checkpoint-tmp").mkdir()
    (tmp_path / "notes").mkdir()
    assert CheckpointStore(tmp_path).all_steps() == [1, 2]
    assert names(tmp_path) == ["1", "2", "notes"]


def test_saving_and_restoring_are_silent(store, caplog, capfd):
    absl_logging.set_verbosity(absl_logging.INFO)
    with caplog.at_level(logging.INFO):
        store.save(1, state(1), {})
        store.restore(state())
    assert absl_logging.get_verbosity() == absl_logging.INFO
    absl_logging.set_verbosity(absl_logging.WARNING)
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


def test_keeping_nothing_is_a_mistake_of_the_program(tmp_path):
    with pytest.raises(ValueError, match="keep must be at least 1, found 0"):
        CheckpointStore(tmp_path, keep=0)


ENDLESS_RUN = """
import sys
import numpy as np
from rcnn_jax.checkpoints.store import CheckpointStore

store = CheckpointStore(sys.argv[1], keep=2)
stored = store.restore({"a": np.zeros((64, 64)), "b": np.zeros(5)})
step = 0 if stored is None else stored[1]["step"]
print("begins", flush=True)
while True:
    step += 1
    print(step, flush=True)
    store.save(step, {"a": np.full((64, 64), float(step)), "b": np.full(5, float(step))},
               {"step": step}, is_best=step % 3 == 0)
    store.save(step, {"a": np.full((64, 64), float(step)), "b": np.full(5, float(step))},
               {"step": step})
"""


def test_a_run_killed_at_any_moment_restores_a_whole_state(tmp_path):
    rng = random.Random(0)
    template = {"a": np.zeros((64, 64)), "b": np.zeros(5)}
    reached = 0
    for _ in range(10):
        command = [sys.executable, "-c", ENDLESS_RUN, str(tmp_path)]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
        ) as run:
            assert run.stdout.readline() == b"begins\n"
            for _ in range(rng.randrange(4)):  # steps that are over, however long they take
                run.stdout.readline()
            time.sleep(rng.uniform(0.0, 0.05))  # somewhere in the next one
            os.kill(run.pid, signal.SIGKILL)
        store = CheckpointStore(tmp_path)
        assert all(name.isdigit() for name in names(tmp_path))
        stored = store.restore(template)
        if stored is None:
            assert reached == 0
            continue
        arrays, run_state = stored
        step = run_state["step"]
        assert step >= reached
        assert (arrays["a"] == step).all() and (arrays["b"] == step).all()
        reached = step
    assert reached > 2


def test_a_disk_that_fills_up_while_a_step_is_written_leaves_the_one_before(store, monkeypatch):
    store.save(1, state(1), {"n": 1})

    def full(*_, **__):
        raise ValueError("RESOURCE_EXHAUSTED: Error writing: No space left on device")

    monkeypatch.setattr(store._orbax, "save", full)
    with pytest.raises(CheckpointError) as error:
        store.save(1, state(2), {"n": 2})
    assert "step 1: the disk of" in str(error.value)
    assert "bytes are needed; free some space" in str(error.value)
    assert names(store.directory) == ["1"]
    assert store.restore(state())[1] == {"n": 1}
