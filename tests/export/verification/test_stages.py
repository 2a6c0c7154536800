"""Results of a model's methods become outputs, without a change of the model."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from rcnn_jax.export.verification.stages import STAGES, with_stages


class Twice(nn.Module):
    """A model whose stages are a doubling and a sum; `helper` is none."""

    def extract(self, x):
        return {4: 2 * x, 5: self.helper(x)}

    def helper(self, x):
        return x + 1

    def rpn(self, features):
        return features[4].sum()


def run(images):
    model = Twice()

    def both(module, x):
        first = module.rpn(module.extract(x))
        module.extract(x + 100)
        return {"y": first}

    return model.apply({}, images, method=both)


def test_every_stage_is_an_output_under_its_own_name():
    outputs = with_stages(run)(jnp.arange(3.0))
    assert set(outputs) == {"y", "stage:extract[4]", "stage:extract[5]", "stage:rpn"}
    assert outputs["y"] == outputs["stage:rpn"] == 6.0


def test_a_stage_that_runs_twice_keeps_its_first_results():
    outputs = with_stages(run)(jnp.arange(3.0))
    assert outputs["stage:extract[4]"].tolist() == [0.0, 2.0, 4.0]


def test_the_stages_are_there_when_the_function_is_traced():
    shapes = jax.eval_shape(with_stages(run), jnp.arange(3.0))
    assert shapes["stage:extract[5]"].shape == (3,)
    assert set(STAGES) == {"extract", "rpn", "classify", "segment"}
