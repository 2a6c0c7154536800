"""Dropout whose randomness belongs to the image, not to its position in a device's batch.

Each image brings its own key, so the result does not depend on how images are spread over devices.
"""

import jax
import jax.numpy as jnp


def dropout(x: jax.Array, keys: jax.Array | None, rate: float, salt: int) -> jax.Array:
    """Sets a random fraction `rate` of the elements to zero and scales the others by 1 / (1 - rate).

    Args:
      x: f[b*r ...], r consecutive rows per image.
      keys: [b], one key per image; None leaves x as it is (evaluation).
      rate: in [0, 1); 0 leaves x as it is.
      salt: number of the layer, so that two layers drop differently.
    """
    return _drop(x, keys, rate, salt, x.shape[1:])


def drop_connect(x: jax.Array, keys: jax.Array | None, rate: float, salt: int) -> jax.Array:
    """Sets whole rows (images, or rois) to zero with probability `rate` and scales the others.

    The argument list is that of `dropout`. Source: Tan and Le, EfficientNet, 2019, section 5.
    """
    return _drop(x, keys, rate, salt, (1,) * (x.ndim - 1))


def _drop(
    x: jax.Array, keys: jax.Array | None, rate: float, salt: int, mask_shape: tuple[int, ...]
) -> jax.Array:
    if keys is None or rate == 0.0:
        return x
    images = keys.shape[0]
    # A draw for each image under its own key, although one draw for the batch is a single call:
    # that one depends on which images share a device.
    rows = x.shape[0] // images

    def keep_mask(key: jax.Array) -> jax.Array:
        return jax.random.bernoulli(jax.random.fold_in(key, salt), 1 - rate, (rows, *mask_shape))

    keep = jax.vmap(keep_mask)(keys).reshape(images * rows, *mask_shape)
    return jnp.where(keep, x / (1 - rate), jnp.zeros((), x.dtype)).astype(x.dtype)
