"""Prime samples: rois that decide average precision weigh more in the losses.

    importance               class loss: the best box of every object first, then every second best, ...
    classification_weights   box loss: rois of a high score, so that scores learn to rank boxes

Of the rois of an object only the one with the best box survives suppression, and detections are ranked
by score. Everything is of one image, where the paper ranks a whole batch: no result depends on how a
batch is divided over devices, and shapes are static (r times r comparisons, 65,000 for 256 rois).

Source: Cao et al., Prime Sample Attention in Object Detection, 2019 (arXiv:1904.04821), sections 4.1 and
4.3, for foreground rois.
"""

import jax
import jax.numpy as jnp

from rcnn_jax.structures import Array

# Of Cao et al. 2019 (arXiv:1904.04821), section 5.1: a roi of the last rank weighs nearly 0, and weights
# fall with the square of ranks.
_IMPORTANCE_POWER = 2.0
_SCORE_BIAS = 0.2


def importance(
    overlap: Array, gt_index: Array, classes: Array, foreground: Array, loss: Array
) -> jax.Array:
    """Returns the weights f32[r] of the class losses of one image (ISR), 1 for background.

    Rois of one object are ranked by overlap. All first ones of a class come before all second ones,
    sorted by overlap again: that is the rank of a roi in its class. With n rois in the largest class,
    the weight of rank k is ((n - k) / n)^2, times a factor that keeps the sum of the weighted losses of
    the image.

    Args:
      overlap: f32[r], IoU of the predicted box with the ground truth.
      gt_index: i32[r], the ground truth.
      classes: i32[r].
      foreground: bool[r]; other values of the rest mean nothing.
      loss: f32[r], class loss of the roi.
    """
    overlap, gt_index, classes = jnp.asarray(overlap), jnp.asarray(gt_index), jnp.asarray(classes)
    foreground, loss = jnp.asarray(foreground), jnp.asarray(loss)
    index = jnp.arange(overlap.shape[0])
    # better[i, j]: j has a better box than i; of equals the lower index, so that no rank comes twice.
    better = (overlap[None, :] > overlap[:, None]) | (
        (overlap[None, :] == overlap[:, None]) & (index[None, :] < index[:, None])
    )
    rivals = foreground[None, :] & foreground[:, None]
    same_object = rivals & (gt_index[None, :] == gt_index[:, None])
    same_class = rivals & (classes[None, :] == classes[:, None])
    local = jnp.sum(same_object & better, axis=1)
    earlier = (local[None, :] < local[:, None]) | ((local[None, :] == local[:, None]) & better)
    rank = jnp.sum(same_class & earlier, axis=1)
    most = jnp.maximum(jnp.max(jnp.sum(same_class, axis=1)), 1)
    weight = ((most - rank) / most).astype(jnp.float32) ** _IMPORTANCE_POWER
    losses = jnp.where(foreground, loss, 0.0)
    weighted = jnp.sum(losses * weight)
    # Without foreground, or with losses of 0, there is nothing to keep the sum of.
    factor = jnp.where(weighted > 0.0, jnp.sum(losses) / jnp.maximum(weighted, 1e-12), 1.0)
    return jnp.where(foreground, weight * factor, 1.0)


def classification_weights(logits: Array, classes: Array, foreground: Array) -> jax.Array:
    """Returns the weights f32[r] of the box losses of one image (CARL), 0 for background.

    The weight of a roi is 0.2 + 0.8 times the probability of its class, times a factor that makes the
    sum of the weights the number of foreground rois. It has a gradient: where a box is worse than those
    of other rois, the score of its class falls.

    Args:
      logits: f32[r n+1].
      classes: i32[r] in [0, n].
      foreground: bool[r].
    """
    probability = jax.nn.softmax(jnp.asarray(logits).astype(jnp.float32), axis=-1)
    own = jnp.take_along_axis(probability, jnp.asarray(classes)[..., None], axis=-1)[..., 0]
    count = jnp.asarray(foreground).astype(jnp.float32)
    weight = (_SCORE_BIAS + (1.0 - _SCORE_BIAS) * own) * count
    return weight * (jnp.sum(count) / jnp.maximum(jnp.sum(weight), 1e-12))
