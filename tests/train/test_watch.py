import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.errors import TrainingError
from rcnn_jax.train.watch import LossWatch


def test_finite_losses_pass():
    watch = LossWatch(str)
    watch.add(1, np.array([0]), {"loss": jnp.float32(1.0)})
    watch.read()


def test_message_names_step_term_and_images():
    watch = LossWatch(lambda i: f"image_{i}.png")
    watch.add(41, np.array([3]), {"loss": jnp.float32(1.0), "box": jnp.float32(0.5)})
    watch.add(42, np.array([7, 9]), {"loss": jnp.float32(np.nan), "box": jnp.float32(np.inf)})
    with pytest.raises(TrainingError) as raised:
        watch.read()
    assert str(raised.value).startswith(
        "step 42: the loss is not finite (box = inf, loss = nan); "
        "images of the step: image_7.png, image_9.png."
    )
