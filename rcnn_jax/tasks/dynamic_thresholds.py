"""Dynamic R-CNN: the threshold of foreground rois and the beta of the box loss follow the proposals.

    proposals of an image ---> IoU of the 75th best ---> mean over 100 steps    ---> threshold
    foreground rois       ---> 10th smallest error  ---> median of 100 steps    ---> beta

Proposals get better while a detector trains. A threshold that is right at the end finds no foreground at
the start, and one that is right at the start teaches loose boxes at the end; the same holds for the error
at which the box loss turns linear. Both begin with the numbers of the spec: the threshold never falls
below, beta never rises above.

The numbers and the statistics in between are a collection of the variables, as those of batch norm, so a
checkpoint holds them. Prediction reads none of them.

Source: Zhang et al., Dynamic R-CNN, 2020 (arXiv:2004.06002), section 3. Deviations: ranks are those of an
image and not of the images of a device, so that results do not depend on how many devices there are, and
copies of ground truths, whose error is 0, are left out, or they alone would have the smallest errors.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rcnn_jax.models.network import Network
from rcnn_jax.ops.boxes import iou_matrix
from rcnn_jax.ops.marker import staged
from rcnn_jax.ops.over_devices import sum_over
from rcnn_jax.settings.detection import DynamicSettings
from rcnn_jax.structures import GroundTruth, Proposals, RoiTargets
from rcnn_jax.tasks.two_stage import TwoStageSettings

State = dict[str, jax.Array]
"""The leaves that `initial` describes."""
COLLECTION = "dynamic"
"""Name of the collection of the variables."""
# Not the name of a layer of any backbone; collections are {layer: leaves}.
_GROUP = "roi_thresholds"
_MIN_BETA = 1e-3
_NOTHING = -1.0


class Statistic(NamedTuple):
    """Attributes: total f32[] over the images that have a value; count f32[] of them."""

    total: jax.Array
    count: jax.Array


def initial(settings: TwoStageSettings) -> dict[str, Any]:
    """Returns the collection before the first step.

    Its leaves are the numbers in use (overlap, beta), the bounds that they never cross (overlap_low,
    beta_high), and the statistics since the last change: overlaps f32[2] (sum, count), errors
    f32[interval], passes i32[].
    """
    assert settings.dynamic is not None
    overlap = jnp.float32(settings.roi_sampling.foreground_overlap)
    beta = jnp.float32(settings.losses.box_beta)
    return {
        _GROUP: {
            "overlap": overlap,
            "overlap_low": overlap + 0.0,
            "beta": beta,
            "beta_high": beta + 0.0,
            "overlaps": jnp.zeros(2, jnp.float32),
            "errors": jnp.full(settings.dynamic.interval, _NOTHING, jnp.float32),
            "passes": jnp.zeros((), jnp.int32),
        }
    }


def read(network: Network, settings: TwoStageSettings) -> State:
    """Returns the collection of a bound network; the initial one where its variables have none."""
    return network.get_variable(COLLECTION, _GROUP, initial(settings)[_GROUP])


def applied(state: State, settings: TwoStageSettings) -> TwoStageSettings:
    """Returns the settings with the numbers in use.

    Args:
      state: of `read`.
      settings: with `dynamic`.
    """
    sampling, losses = settings.roi_sampling, settings.losses
    overlap = lax.stop_gradient(state["overlap"])
    # The gap between background and foreground stays as wide as the spec made it.
    gap = sampling.background_high - sampling.foreground_overlap
    return dataclasses.replace(
        settings,
        roi_sampling=dataclasses.replace(
            sampling, foreground_overlap=overlap, background_high=overlap + gap
        ),
        # Not Huber's: that is beta times the distance, and would fall with beta instead of rising. With
        # the first beta of 1 both are the same.
        losses=dataclasses.replace(losses, regression="smooth_l1", box_beta=state["beta"]),
    )


def record(
    network: Network,
    state: State,
    proposals: Proposals,
    gt: GroundTruth,
    rois: RoiTargets,
    settings: DynamicSettings,
) -> None:
    """Adds the statistics of a batch to the collection, and changes the numbers where it is time.

    Args:
      network: bound; its collection must be mutable.
      state: of `read`.
      proposals: of the batch, without ground truths.
      gt: of the batch.
      rois: sampled from both.
      settings: ranks and interval.
    """
    overlaps = staged(overlap_statistic)(proposals, gt, settings.overlap_rank)
    errors = staged(error_statistic)(rois, settings.error_rank)
    sums = lax.stop_gradient(jnp.stack([*overlaps, *errors]))
    if settings.axis_name is not None:
        sums = sum_over(settings.axis_name, sums)
    network.put_variable(COLLECTION, _GROUP, updated(state, sums))


def overlap_statistic(proposals: Proposals, gt: GroundTruth, rank: int) -> Statistic:
    """Returns the IoU of the proposal of a rank, summed over images.

    An image with fewer proposals gives its last one; one without objects or proposals does not count.

    Args:
      proposals: of a batch.
      gt: of a batch.
      rank: 1 for the best proposal.
    """

    def of_image(boxes: jax.Array, valid: jax.Array, truth: GroundTruth) -> Any:
        real = jnp.asarray(truth.valid) & ~jnp.asarray(truth.crowd)
        overlap = jnp.where(real[None, :], iou_matrix(boxes, truth.boxes), 0.0)
        best = jnp.where(valid, jnp.max(overlap, axis=1, initial=0.0), _NOTHING)
        most = min(rank, boxes.shape[0])
        leaders, _ = lax.top_k(best, most)
        count = jnp.minimum(jnp.sum(valid), most)
        return leaders[jnp.maximum(count - 1, 0)], jnp.any(real) & (count > 0)

    truth = gt.replace(masks=None)
    values, counts = jax.vmap(of_image)(
        jnp.asarray(proposals.boxes), jnp.asarray(proposals.valid), truth
    )
    return _summed(values, counts)


def error_statistic(rois: RoiTargets, rank: int) -> Statistic:
    """Returns the error of the foreground roi of a rank from the smallest on, summed over images.

    The error of a roi is the mean absolute target of dy and dx, in the unit of the box coder. An image
    with fewer rois gives its last one; one without does not count.

    Args:
      rois: of a batch.
      rank: 1 for the smallest error.
    """
    error = jnp.abs(jnp.asarray(rois.deltas)[..., :2]).mean(-1)  # [b r]
    counted = jnp.asarray(rois.foreground) & (error > 0.0)
    ranked = jnp.sort(jnp.where(counted, error, jnp.inf), axis=1)
    count = jnp.sum(counted, axis=1)
    position = jnp.clip(jnp.minimum(count, rank) - 1, 0)
    values = jnp.take_along_axis(ranked, position[:, None], axis=1)[:, 0]
    return _summed(values, count > 0)


def updated(state: State, sums: jax.Array) -> State:
    """Returns the collection after a pass.

    Args:
      state: before it.
      sums: f32[4], total and count of overlaps and of errors over all devices.
    """
    interval = state["errors"].shape[0]
    overlaps = state["overlaps"] + sums[:2]
    error = jnp.where(sums[3] > 0.0, sums[2] / jnp.maximum(sums[3], 1.0), _NOTHING)
    errors = state["errors"].at[state["passes"]].set(error)
    passes = state["passes"] + 1
    due = passes == interval
    mean = overlaps[0] / jnp.maximum(overlaps[1], 1.0)
    # The mean of nothing is 0 and falls below the bound: the threshold starts again.
    overlap = jnp.where(overlaps[1] > 0.0, mean, state["overlap"])
    beta = jnp.where(jnp.any(errors >= 0.0), _median(errors), state["beta"])
    return {
        **state,
        "overlap": jnp.where(due, jnp.maximum(overlap, state["overlap_low"]), state["overlap"]),
        "beta": jnp.where(
            due,
            jnp.clip(beta, _MIN_BETA, jnp.maximum(state["beta_high"], _MIN_BETA)),
            state["beta"],
        ),
        "overlaps": jnp.where(due, 0.0, overlaps),
        "errors": errors,
        "passes": jnp.where(due, 0, passes),
    }


def _median(errors: jax.Array) -> jax.Array:
    """Returns the median of the values that are not negative."""
    # Sorted with the missing ones in front: NaN in their place would be a state that looks broken.
    ranked = jnp.sort(errors)
    count = jnp.sum(errors >= 0.0)
    first = errors.shape[0] - count
    last = errors.shape[0] - 1
    low = jnp.clip(first + (count - 1) // 2, 0, last)
    high = jnp.clip(first + count // 2, 0, last)
    return (ranked[low] + ranked[high]) / 2.0


def _summed(values: jax.Array, counts: jax.Array) -> Statistic:
    # Chosen before the sum: values that do not count may be infinite.
    return Statistic(jnp.sum(jnp.where(counts, values, 0.0)), jnp.sum(counts, dtype=jnp.float32))
