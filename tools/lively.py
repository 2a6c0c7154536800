"""Random weights under which a detector behaves like a trained one, for comparisons of backends.

Untrained networks find nothing, or everything with one score, and then any two backends agree. Here
one pass over images settles all that makes the difference:

- kernels are He-normal; batch norm gets the statistics of its input;
- outputs of predictors get mean 0 and a standard deviation of their own over places and rois;
- the background logit rises along the direction from the usual roi to that of a black canvas.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rcnn_jax.models.layers import BatchNorm, Conv, Dense
from rcnn_jax.tasks import two_stage
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.tasks.task import Variables

SIDE = 256
"""Longest side of the images that statistics are taken of."""

SPREAD = {
    "rpn_out_class": 2.0,
    "rpn_out_regress": 0.3,
    "dense_class_td": 2.0,
    "dense_regress_td": 1.0,
    "rpn-class": 2.0,
    "rpn-box": 0.3,
    "class-predict": 2.0,
    "box-predict": 1.0,
    "mask_fcn_logits": 2.0,
}
"""Standard deviation of the outputs of each predictor."""

_CLASSES = ("dense_class_td", "class-predict")
_CERTAIN = 12.0


def lively(experiment: Experiment, images: np.ndarray, seed: int = 0) -> Variables:
    """Returns variables for the images and their like.

    Args:
      experiment: of either detector.
      images: u8[b h w c], the last one black.
      seed: of the kernels.
    """
    variables = _random(experiment, seed)
    factor = SIDE / max(images.shape[1:3])
    multiple = 2 ** max(experiment.task.model.levels)
    sides = [max(1, round(side * factor / multiple)) * multiple for side in images.shape[1:3]]
    rows, columns = (
        np.arange(side) * whole // side
        for side, whole in zip(sides, images.shape[1:3], strict=True)
    )
    seen = jax.tree.map(np.asarray, _observe(experiment, variables, images[:, rows][:, :, columns]))
    params, statistics = variables["params"], variables.get("batch_stats", {})
    for layer, (mean, variance) in seen["norms"].items():
        statistics[layer] = {"moving_mean": mean, "moving_variance": variance}
    for layer, (mean, deviation) in seen["outputs"].items():
        scale = SPREAD[layer] / np.maximum(deviation, 1e-6)
        params[layer]["kernel"] = params[layer]["kernel"] * scale
        params[layer]["bias"] = -mean * scale
    for layer, vectors in seen["rois"].items():
        usual, black = vectors[:-1].mean((0, 1)), vectors[-1].mean(0)
        way = (black - usual) / np.square(black - usual).sum()
        params[layer]["kernel"][:, -1] += _CERTAIN * way
        params[layer]["bias"][-1] -= _CERTAIN * usual @ way
    return variables


def _random(experiment: Experiment, seed: int) -> Variables:
    rng = np.random.default_rng(seed)

    def draw(path: Any, leaf: Any) -> np.ndarray:
        name = path[-1].key
        if name != "kernel":
            kind = np.ones if name in ("gamma", "moving_variance") else np.zeros
            return kind(leaf.shape, np.float32)
        scale = np.float32((2 / np.prod(leaf.shape[:-1])) ** 0.5)
        return rng.standard_normal(leaf.shape, np.float32) * scale

    shapes = jax.eval_shape(experiment.task.init, jax.random.key(seed))
    return jax.tree_util.tree_map_with_path(draw, shapes)


def _observe(experiment: Experiment, variables: Variables, images: np.ndarray) -> dict[str, Any]:
    """Returns what one pass over the images shows.

    `norms`: {layer: (mean, variance) of its input}; `outputs`: {predictor: (mean, deviation) of its
    output}; `rois`: {predictor of classes: its input f32[b r c]}.
    """
    task: Any = experiment.task
    options = dataclasses.replace(task.model.options, freeze_bn=False)
    model = task.model.clone(options=options, freeze_blocks=(), dtype=jnp.float32)
    boxes = _grid(images.shape[1:3])
    found: dict[str, dict[str, Any]] = {"norms": {}, "outputs": {}, "rois": {}}

    def listen(method: Any, args: Any, kwargs: Any, context: Any) -> Any:
        result = method(*args, **kwargs)
        name = context.module.name
        if isinstance(context.module, BatchNorm):
            found["norms"][name] = _moments(args[0])
        if name in SPREAD and isinstance(context.module, Conv | Dense):
            mean, variance = _moments(result)  # the finest level speaks for all of a pyramid
            found["outputs"].setdefault(name, (mean, jnp.sqrt(variance)))
        if name in _CLASSES and isinstance(context.module, Dense):
            found["rois"][name] = args[0].reshape(len(images), len(boxes), -1)
        return result

    def look(module: Any, images: jax.Array) -> None:
        features = module.extract(two_stage.normalize(images, task.pixels), True)
        module.rpn(features)
        rois = jnp.broadcast_to(boxes, (images.shape[0], *boxes.shape))
        settings = task.settings

        def crops(side: int) -> jax.Array:
            return two_stage.pool(features, rois, side, settings.roi_levels)

        module.classify(crops(settings.roi_size), True)
        if getattr(module, "include_mask", False):
            module.segment(crops(module.mask_crop_size))

    @jax.jit
    def run(variables: Variables, images: jax.Array) -> dict[str, Any]:
        with nn.intercept_methods(listen):
            model.apply(variables, images, method=look, mutable=["batch_stats"])
        return found

    return run(variables, images)


def _moments(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    axes = tuple(range(x.ndim - 1))
    x = x.astype(jnp.float32)
    return jnp.mean(x, axes), jnp.var(x, axes)


def _grid(canvas: tuple[int, ...]) -> np.ndarray:
    """Returns 16 boxes f32[16 4], quarters of the canvas in every direction."""
    height, width = canvas
    corners = np.stack(np.meshgrid(np.arange(4), np.arange(4), indexing="ij"), -1).reshape(-1, 2)
    step = np.asarray([height, width], np.float32) / 4
    return np.concatenate([corners * step, (corners + 1) * step], axis=1).astype(np.float32)
