import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rcnn_jax.checkpoints.leaves import flatten, nest, unflatten
from rcnn_jax.errors import CheckpointError

PARAMS = {"fc1": {"kernel": jnp.ones((2, 3)), "bias": jnp.zeros(3)}}


def test_names_are_paths():
    state = optax.chain(optax.clip(1.0), optax.trace(0.9)).init(PARAMS)
    assert sorted(flatten(state, "opt_state")) == [
        "opt_state/1/trace/fc1/bias",
        "opt_state/1/trace/fc1/kernel",
    ]


def test_leaves_are_contiguous_host_arrays_of_the_same_dtype():
    tree = {"t": np.asarray(np.arange(6.0).reshape(2, 3).T), "b": jnp.ones(2, jnp.bfloat16), "s": 3}
    flat = flatten(tree)
    assert all(isinstance(a, np.ndarray) and a.flags.c_contiguous for a in flat.values())
    assert flat["b"].dtype == jnp.bfloat16 and flat["s"].shape == ()
    np.testing.assert_array_equal(flat["t"], tree["t"])


def test_unflatten_is_the_inverse_for_an_optimizer_state():
    state = optax.adam(1e-3).init(PARAMS)
    back = unflatten(flatten(state, "opt_state"), state, "opt_state")
    assert jax.tree.structure(back) == jax.tree.structure(state)
    assert all(
        (a == b).all() and a.dtype == b.dtype
        for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(state), strict=True)
    )


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_typed_keys_come_back_typed_from_arrays_and_from_structs(impl):
    tree = {"key": jax.random.key(7, impl=impl), "raw": jax.random.PRNGKey(3)}
    flat = flatten(tree)
    assert flat["key"].dtype == np.uint32
    for template in (tree, jax.eval_shape(lambda: tree)):
        back = unflatten(flat, template)
        assert back["key"].dtype == tree["key"].dtype
        assert jax.random.uniform(back["key"]) == jax.random.uniform(tree["key"])
        assert isinstance(back["raw"], np.ndarray)


def test_other_groups_are_ignored():
    flat = {**flatten(PARAMS, "params"), "params_extra/x": np.ones(1)}
    assert unflatten(flat, PARAMS, "params")["fc1"]["bias"].shape == (3,)


def test_misfits_are_listed():
    flat = {"a": np.ones(2, np.float32), "c": np.ones(1)}
    template = {"a": jax.ShapeDtypeStruct((3,), jnp.float32), "b": jnp.ones(1)}
    with pytest.raises(CheckpointError) as error:
        unflatten(flat, template)
    assert str(error.value) == (
        "the stored arrays do not fit: b is missing; c is not expected; "
        "a is float32[2], not float32[3]"
    )


def test_only_the_first_misfits_are_shown():
    with pytest.raises(CheckpointError, match="l4 is missing; and 3 more$"):
        unflatten({}, {f"l{i}": jnp.ones(1) for i in range(8)})


def test_another_dtype_is_a_misfit():
    with pytest.raises(CheckpointError, match=r"a is bfloat16\[2\], not float32\[2\]"):
        unflatten({"a": np.ones(2, jnp.bfloat16)}, {"a": jnp.ones(2)})


def test_ambiguous_names_are_a_mistake_of_the_program():
    with pytest.raises(ValueError, match="two leaves are called 'a/b'"):
        flatten({"a": {"b": 1}, "a/b": 2})


def test_nesting_returns_one_group():
    assert nest({"params/a/b": 1, "params/c": 2, "ema/a/b": 3}, "params") == {"a": {"b": 1}, "c": 2}
