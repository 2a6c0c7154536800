import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.errors import TrainingError
from rcnn_jax.train.non_finite import NonFiniteCheck


def test_finite_losses_pass():
    check = NonFiniteCheck(str)
    check.add(1, np.array([0]), {"loss": jnp.float32(1.0)})
    check.finish()


def test_message_names_step_term_and_images():
    check = NonFiniteCheck(lambda i: f"image_{i}.png")
    check.add(41, np.array([3]), {"loss": jnp.float32(1.0), "box": jnp.float32(0.5)})
    check.add(42, np.array([7, 9]), {"loss": jnp.float32(np.nan), "box": jnp.float32(np.inf)})
    with pytest.raises(TrainingError) as raised:
        check.finish()
    assert str(raised.value).startswith(
        "step 42: the loss is not finite (box = inf, loss = nan); "
        "images of the step: image_7.png, image_9.png."
    )


def test_polling_leaves_the_newest_step_to_the_device():
    check = NonFiniteCheck(str)
    check.add(1, np.array([0]), {"loss": jnp.float32(np.nan)})
    check.poll()
    check.add(2, np.array([1]), {"loss": jnp.float32(1.0)})
    with pytest.raises(TrainingError, match="step 1: the loss is not finite"):
        check.poll()
