"""The sampler: candidates -> a random subset of fixed size with a bounded fraction of positives.

Every candidate draws a random number and the largest win, by top-k: exact counts, every subset of
that size equally likely, the same result for the same key, no sort of all anchors.
"""

import jax
import jax.numpy as jnp
from jax import lax

from rcnn_jax.structures import Array


def sample_labels(key: Array, labels: Array, batch: int, max_positive: int) -> jax.Array:
    """Returns the labels of one image with all but a random subset set to -1.

    At most max_positive positives stay; negatives fill the batch up. Fewer than batch labels stay
    where there are not enough of either kind.

    Args:
      key: random key.
      labels: i32[a], 1 positive, 0 negative, -1 neither.
      batch: labels that stay at most.
      max_positive: positives that stay at most, <= batch.

    Returns:
      i32[a].
    """
    labels = jnp.asarray(labels)
    key_positive, key_negative = jax.random.split(key)
    positive, positives = _random_order(key_positive, labels == 1, max_positive)
    negative, negatives = _random_order(key_negative, labels == 0, batch)
    kept_positives = jnp.minimum(positives, max_positive)
    kept_negatives = jnp.minimum(negatives, batch - kept_positives)
    kept = jnp.zeros(labels.shape, bool)
    kept = kept.at[positive].max(jnp.arange(positive.shape[0]) < kept_positives)
    # `max`, not `set`: past the negatives that there are, the list names positives, and `set` would
    # clear them.
    kept = kept.at[negative].max(jnp.arange(negative.shape[0]) < kept_negatives)
    return jnp.where(kept, labels, -1)


def sample_indices(
    key: Array,
    foreground: Array,
    background: Array,
    count: int,
    max_foreground: int,
    with_replacement: bool,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns indices of a random subset of the candidates of one image, foreground first.

    Args:
      key: random key.
      foreground: bool[p].
      background: bool[p], disjoint from foreground.
      count: r.
      max_foreground: foreground candidates taken at most, <= count.
      with_replacement: what to do when there are fewer than r to take: False leaves the last rois
        invalid; True goes through the candidates of a kind again, in the same random order, and
        lets foreground fill everything where there is no background.

    Returns:
      (index i32[r] in [0, p), foreground bool[r], valid bool[r]).
    """
    key_foreground, key_background = jax.random.split(key)
    wanted = count if with_replacement else max_foreground
    front, fronts = _random_order(key_foreground, jnp.asarray(foreground), wanted)
    back, backs = _random_order(key_background, jnp.asarray(background), count)
    taken_front = jnp.minimum(fronts, max_foreground)
    if with_replacement:
        # As the original: an image with rois of one kind alone fills the batch with that kind
        # (docs/reference/faster_rcnn.md, "RoI sampling").
        taken_front = jnp.where((backs == 0) & (fronts > 0), count, taken_front)
        taken_back = jnp.where(backs > 0, count - taken_front, 0)
    else:
        taken_back = jnp.minimum(backs, count - taken_front)
    slot = jnp.arange(count)
    is_front = slot < taken_front
    # A list ends after what was wanted, however many candidates there are: both limit the period.
    from_front = front[_cycle(slot, jnp.minimum(fronts, front.shape[0]))]
    from_back = back[_cycle(slot - taken_front, jnp.minimum(backs, back.shape[0]))]
    valid = slot < taken_front + taken_back
    index = jnp.where(valid, jnp.where(is_front, from_front, from_back), 0)
    return index, is_front, valid


def _random_order(key: Array, candidate: jax.Array, most: int) -> tuple[jax.Array, jax.Array]:
    """Returns (indices of at most `most` candidates in random order, number of all candidates).

    The indices are i32[min(max(most, 1), n)]; those past the number of candidates mean nothing.
    """
    # Draws lie in [0, 1), so -1 loses to every candidate. Of their 2**23 values some tie among
    # 270,000 anchors; the lower index wins, a bias far below the noise of the draw.
    draw = jnp.where(candidate, jax.random.uniform(key, candidate.shape), -1.0)
    # At least one, also for a fraction of 0: an index into an empty array has no meaning.
    _, index = lax.top_k(draw, min(max(most, 1), candidate.shape[0]))
    return index, jnp.sum(candidate.astype(jnp.int32))


def _cycle(position: jax.Array, period: jax.Array) -> jax.Array:
    """Returns positions that start over after `period`; 0 where there is nothing to go through."""
    return position % jnp.maximum(period, 1)
