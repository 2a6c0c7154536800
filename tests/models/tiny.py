"""Variables of a tiny network made by NumPy: compiling hundreds of random draws takes minutes."""

import jax
import jax.numpy as jnp
import numpy as np


def variable_shapes(model, image_channels=3):
    """The variables of `model` as shapes; nothing is computed."""
    side = 2 ** max(model.levels)
    images, boxes = jnp.zeros((1, side, side, image_channels)), jnp.zeros((1, 1, 4))
    return jax.eval_shape(model.init, jax.random.key(0), images, boxes)


def random_variables(model, seed=0):
    """Kernels of variance 2 / fan out (He), everything else as a fresh network has it."""
    rng = np.random.default_rng(seed)

    def fill(path, leaf):
        if path[-1].key in ("gamma", "moving_variance"):
            return jnp.asarray(np.ones(leaf.shape, np.float32))
        if path[-1].key != "kernel":
            return jnp.asarray(np.zeros(leaf.shape, np.float32))
        fan_out = np.prod(leaf.shape[:-2]) * leaf.shape[-1]
        return jnp.asarray(rng.normal(0, (2 / fan_out) ** 0.5, leaf.shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(fill, variable_shapes(model))


def initial_leaves(model, *names):
    """The freshly drawn leaves "layer/leaf" only: the compiler drops all other draws."""
    side = 2 ** max(model.levels)
    images, boxes = jnp.zeros((1, side, side, 3)), jnp.zeros((1, 1, 4))

    @jax.jit
    def draw(key):
        params = model.init(key, images, boxes)["params"]
        return [params[layer][leaf] for layer, leaf in (name.split("/") for name in names)]

    return draw(jax.random.key(0))
