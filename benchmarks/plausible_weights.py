"""Random weights under which a detector behaves like a trained one, for comparisons of backends.

Untrained networks find nothing, or everything with one score, and then any two backends agree. Here
one pass over images settles all that makes the difference:

- kernels are He-normal; batch norm gets the statistics of its input; the last one of a residual
  branch has a small gamma, as training leaves it, or a deep network would amplify the last bit;
- outputs of predictors get mean 0 and a standard deviation of their own over places and rois; dense
  predictors look along what varies from roi to roi, or they would amplify rounding;
- logits of classes are measured from those of a black canvas, where the background is ahead; those
  of objects rise towards the other images, that of the background falls.
"""

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rcnn_jax.models.batch_norm import BatchNorm
from rcnn_jax.models.layers import Conv, Dense
from rcnn_jax.tasks import two_stage
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.tasks.task import Variables

# Statistics hardly depend on the size, the pass over a large canvas would take most of the time.
SIDE = 256
"""Longest side of the images that statistics are taken of."""

ROIS = 64
SPREAD = {
    "rpn_out_class": 2.0,
    "rpn_out_regress": 0.3,
    "dense_class_td": 3.0,
    "dense_regress_td": 1.0,
    "rpn-class": 2.0,
    "rpn-box": 0.3,
    "class-predict": 3.0,
    "box-predict": 1.0,
    "mask_fcn_logits": 2.0,
}
"""Standard deviation of the outputs of each predictor."""

DAMPED = 0.1
"""Gamma of the last batch norm of a residual branch."""

_LAST_OF_BRANCH = re.compile(r"_bn_[23]$|_3_bn$|_project_bn$|_conv\d_2_bn$")
_CLASSES = ("dense_class_td", "class-predict")
# e^4: more than fifty to one against an object.
AHEAD = 4.0
"""How far the background is ahead of every class on a black canvas, borders apart."""

TRIALS = 8
"""How many places of the background are tried to empty a black canvas."""

SEEDS = 3
"""How many sets of kernels are tried: under some a black canvas outdoes any image or all scores are 1."""


def plausible(experiment: Experiment, images: np.ndarray, seed: int = 0) -> Variables:
    """Returns variables for the images and their like.

    Args:
      experiment: of either detector.
      images: u8[b h w c], the last one black.
      seed: of the kernels.
    """
    variables = _random(experiment, seed)
    factor = SIDE / max(images.shape[1:3])
    multiple = 2 ** max(experiment.task.model.levels)
    # Multiples of the coarsest stride, as every canvas is.
    sides = [max(1, round(side * factor / multiple)) * multiple for side in images.shape[1:3]]
    rows, columns = (
        np.arange(side) * whole // side
        for side, whole in zip(sides, images.shape[1:3], strict=True)
    )
    seen = jax.tree.map(np.asarray, _observe(experiment, variables, images[:, rows][:, :, columns]))
    params, statistics = variables["params"], variables.get("batch_stats", {})
    for layer, (mean, variance) in seen["norms"].items():
        # Measured on its own input: with 0 and 1, activations of a deep random network grow or
        # vanish layer by layer.
        statistics[layer] = {"moving_mean": mean, "moving_variance": variance}
    rng = np.random.default_rng(seed)
    logits = {}
    for layer, inputs in seen["inputs"].items():
        kernel = _along_what_varies(inputs, params[layer]["kernel"].shape[-1], rng)
        params[layer]["kernel"], outputs = kernel, inputs @ kernel
        if layer in _CLASSES:
            logits[layer] = outputs
        else:
            seen["outputs"][layer] = outputs.mean((0, 1)), outputs.std((0, 1))
    for layer, (mean, deviation) in seen["outputs"].items():
        # A predictor that does not vary at all keeps finite weights.
        scale = SPREAD[layer] / np.maximum(deviation, 1e-6)
        params[layer]["kernel"] = params[layer]["kernel"] * scale
        params[layer]["bias"] = -mean * scale
    for layer, answers in logits.items():
        # Logits count from those of the black canvas, so that it is the background's.
        black = answers[-1].mean(0)
        away = (answers[:-1] - black).reshape(-1, len(black))
        scale = SPREAD[layer] / np.maximum(np.sqrt(np.square(away).mean(0)), 1e-6)
        lean = np.where(away.mean(0) < 0, -1, 1).astype(np.float32)
        # The background falls where objects rise.
        lean[-1] = -lean[-1]
        params[layer]["kernel"] = params[layer]["kernel"] * scale * lean
        params[layer]["bias"] = -black * scale * lean
        params[layer]["bias"][-1] += AHEAD
    return variables


def _along_what_varies(inputs: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Returns f32[in count]: random sums of how the inputs f32[b r in] differ from their mean."""
    rows = inputs.reshape(-1, inputs.shape[-1])
    away = rows - rows.mean(0)
    kernel = away.T @ rng.standard_normal((len(rows), count), np.float32)
    return kernel / np.maximum(np.linalg.norm(kernel, axis=0), 1e-12)


def settled(
    experiment: Experiment, images: np.ndarray, detect: Callable[[Variables], np.ndarray]
) -> tuple[Variables, Sequence[int]]:
    """Returns plausible variables without detections on a black canvas, and counts of detections.

    At the borders a black canvas looks different, more so a small one, and `plausible` cannot know all
    rois: the background is moved on as little as a few trials can tell, and where that empties the
    images too, other kernels are tried. So they are where every score is 1.

    Args:
      experiment: of either detector.
      images: u8[b h w c], the last one black.
      detect: variables -> scores f32[b d] of detections, 0 where there is none.

    Returns:
      The variables, and the number of detections of every image.
    """
    for seed in range(SEEDS):
        variables, scores = _background_ahead(plausible(experiment, images, seed), detect)
        if _is_told_apart(scores) and scores[scores > 0].min() < 1:
            break
    return variables, np.sum(scores > 0, axis=1).tolist()


def _is_told_apart(scores: np.ndarray) -> bool:
    return bool(scores.any()) and not scores[-1].any()


def _background_ahead(
    variables: Variables, detect: Callable[[Variables], np.ndarray]
) -> tuple[Variables, np.ndarray]:
    (layer,) = set(_CLASSES) & set(variables["params"])
    leaves = variables["params"][layer]
    last = np.arange(len(leaves["bias"])) == len(leaves["bias"]) - 1
    low, high, ahead = 0.0, np.inf, 0.0
    best: tuple[Variables, np.ndarray] | None = None
    for _ in range(TRIALS):
        bias = (leaves["bias"] + ahead * last).astype(np.float32)
        params = {**variables["params"], layer: {**leaves, "bias": bias}}
        moved = {**variables, "params": params}
        scores = detect(moved)
        if _is_told_apart(scores):
            best = moved, scores
            if ahead == 0:
                break
        # Bisection, upwards by doubling until the first bias that empties the canvas.
        low, high = (ahead, high) if scores[-1].any() else (low, ahead)
        ahead = 2 * ahead + 1 if np.isinf(high) else (low + high) / 2
    # The last attempt if none was good: `settled` tries other kernels.
    return best or (moved, scores)


def _random(experiment: Experiment, seed: int) -> Variables:
    rng = np.random.default_rng(seed)

    def draw(path: Any, leaf: Any) -> np.ndarray:
        name = path[-1].key
        if name != "kernel":
            damped = name == "gamma" and _LAST_OF_BRANCH.search(path[-2].key)
            value = DAMPED if damped else float(name in ("gamma", "moving_variance"))
            return np.full(leaf.shape, value, np.float32)
        scale = np.float32((2 / np.prod(leaf.shape[:-1])) ** 0.5)
        return rng.standard_normal(leaf.shape, np.float32) * scale

    shapes = jax.eval_shape(experiment.task.init, jax.random.key(seed))
    return jax.tree_util.tree_map_with_path(draw, shapes)


def _observe(experiment: Experiment, variables: Variables, images: np.ndarray) -> dict[str, Any]:
    """Returns the statistics of one pass over the images.

    `norms`: {layer: (mean, variance) of its input}; `outputs`: {convolution that predicts: (mean,
    deviation) of its output}; `inputs`: {dense layer that predicts: its input f32[b r in]}.
    """
    task: Any = experiment.task
    # Trained batch norm normalises by the batch: one pass then sees every layer with its statistics
    # settled.
    options = dataclasses.replace(task.model.options, freeze_bn=False)
    model = task.model.clone(options=options, freeze_blocks=(), dtype=jnp.float32)
    boxes = _boxes(images.shape[1:3], seed=0)
    # Filled while the function is traced; the jitted function returns it as its outputs.
    moments: dict[str, dict[str, Any]] = {"norms": {}, "outputs": {}, "inputs": {}}

    def listen(method: Any, args: Any, kwargs: Any, context: Any) -> Any:
        result = method(*args, **kwargs)
        name = context.module.name
        if isinstance(context.module, BatchNorm):
            moments["norms"][name] = _moments(args[0])
        if name in SPREAD and isinstance(context.module, Dense):
            moments["inputs"][name] = args[0].reshape(len(images), len(boxes), -1)
        elif name in SPREAD and isinstance(context.module, Conv):
            mean, variance = _moments(result)  # the finest level speaks for all of a pyramid
            moments["outputs"].setdefault(name, (mean, jnp.sqrt(variance)))
        return result

    def look(module: Any, images: jax.Array) -> None:
        features = module.extract(two_stage.normalize(images, task.pixels), True)
        module.rpn(features)
        rois = jnp.broadcast_to(boxes, (images.shape[0], *boxes.shape))
        settings = task.settings

        def crops(side: int) -> jax.Array:
            return two_stage.pool(features, rois, side, settings)

        module.classify(crops(settings.roi_size), True)
        if getattr(module, "include_mask", False):
            module.segment(crops(module.mask_crop_size))

    @jax.jit
    def run(variables: Variables, images: jax.Array) -> dict[str, Any]:
        with nn.intercept_methods(listen):
            model.apply(variables, images, method=look, mutable=["batch_stats"])
        return moments

    return run(variables, images)


def _moments(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    axes = tuple(range(x.ndim - 1))
    x = x.astype(jnp.float32)
    return jnp.mean(x, axes), jnp.var(x, axes)


def _boxes(canvas: tuple[int, ...], seed: int) -> np.ndarray:
    """Returns f32[64 4], boxes of all sizes and shapes within the canvas."""
    rng = np.random.default_rng(seed)
    sides = np.asarray(canvas) * 2.0 ** rng.uniform(-4, 0, (ROIS, 2))
    corners = rng.uniform(-0.25, 1.0, (ROIS, 2)) * np.asarray(canvas)
    boxes = np.concatenate([corners, corners + sides], axis=1)
    limits = np.asarray([*canvas, *canvas])
    return np.clip(boxes, 0, limits).astype(np.float32)
