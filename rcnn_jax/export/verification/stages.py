"""Intermediate results of a model as further outputs, without a change of model or task."""

from collections.abc import Callable

import flax.linen as nn
import jax

STAGES = ("extract", "rpn", "classify", "segment")
"""Methods of the models whose results are compared one by one."""
STAGE_PREFIX = "stage:"


def with_stages(
    function: Callable[..., dict[str, jax.Array]],
) -> Callable[..., dict[str, jax.Array]]:
    """Returns the function with the results of the model's stages added to its outputs.

    They are called `stage:<method>/<leaf>`; a method that runs twice keeps its first results.
    """

    def run(images: jax.Array) -> dict[str, jax.Array]:
        stages: dict[str, jax.Array] = {}

        def listen(method, args, kwargs, context):
            result = method(*args, **kwargs)
            if context.method_name in STAGES:
                for path, leaf in jax.tree_util.tree_leaves_with_path(result):
                    name = f"{STAGE_PREFIX}{context.method_name}{jax.tree_util.keystr(path)}"
                    stages.setdefault(name, leaf)
            return result

        # Flax's interceptor sees the results without a change of model or task, which exist for
        # training.
        with nn.intercept_methods(listen):
            outputs = function(images)
        return {**outputs, **stages}

    return run
