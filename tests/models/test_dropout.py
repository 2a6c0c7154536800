import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.models.dropout import drop_connect, dropout


def keys(*seeds):
    return jax.vmap(jax.random.key)(jnp.asarray(seeds))


@pytest.mark.parametrize("drop", [dropout, drop_connect])
def test_nothing_drops_without_keys_or_rate(drop):
    x = jnp.ones((4, 3))
    assert drop(x, None, 0.5, 0) is x
    assert drop(x, keys(1, 2), 0.0, 0) is x


def test_dropped_elements_are_zero_and_the_others_are_scaled():
    y = np.asarray(dropout(jnp.ones((2, 1000)), keys(1, 2), 0.25, 0))
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.75)}
    assert abs((y == 0).mean() - 0.25) < 0.05


def test_drop_connect_drops_whole_rows():
    y = np.asarray(drop_connect(jnp.ones((8, 2, 2, 3)), keys(0, 1), 0.5, 0)).reshape(8, -1)
    assert (y == y[:, :1]).all() and 0 < (y[:, 0] == 0).sum() < 8


@pytest.mark.parametrize("drop", [dropout, drop_connect])
def test_what_drops_depends_on_the_image_not_on_its_place(drop):
    x = jnp.ones((6, 40))  # three rois per image
    forward = drop(x, keys(5, 9), 0.5, 3)
    backward = drop(x, keys(9, 5), 0.5, 3)
    np.testing.assert_array_equal(forward[:3], backward[3:])
    np.testing.assert_array_equal(forward[3:], backward[:3])


def test_two_layers_drop_differently():
    x = jnp.ones((1, 100))
    assert (dropout(x, keys(1), 0.5, 0) != dropout(x, keys(1), 0.5, 1)).any()
