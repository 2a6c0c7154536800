"""Detection selection: softmax, one box per class and roi, NMS per class, the best of all.

logits, deltas -> softmax, one box per class -> clip -> score > threshold
per class -> NMS, all classes in one call -> top max_detections over all classes
"""

import jax
import jax.numpy as jnp

from rcnn_jax.ops.box_coder import BoxCoder
from rcnn_jax.ops.boxes import clip
from rcnn_jax.ops.nms import batched_nms, best_over_rows
from rcnn_jax.settings.detection import DetectionSettings
from rcnn_jax.structures import Array, BoxOutputs, Detections, Proposals


def select_detections(
    rois: Proposals,
    outputs: BoxOutputs,
    image_size: Array,
    settings: DetectionSettings,
    coder: BoxCoder,
) -> Detections:
    """Returns the detections of one image, best first; equal scores come in the order of classes.

    Args:
      rois: one image, f32[r 4]; invalid rois detect nothing.
      outputs: one image: logits [r n+1], background last; deltas [r n 4].
      image_size: (height, width) that boxes are clipped to.
      settings: thresholds; d = max_detections.
      coder: of the box head.

    Source: docs/reference/faster_rcnn.md, "Detections"; docs/reference/mask_rcnn.md,
    "Detections"; no "+1".
    """
    num_classes = outputs.deltas.shape[1]
    scores = jax.nn.softmax(outputs.logits.astype(jnp.float32), axis=-1)[:, :num_classes].T  # [n r]
    boxes = coder.decode(jnp.asarray(rois.boxes)[:, None, :], outputs.deltas)  # [r n 4]
    boxes = jnp.swapaxes(clip(boxes, image_size), 0, 1)  # [n r 4]
    # One row per class rather than one NMS over boxes shifted by class: with 90 classes the shift
    # reaches 1.3e5 pixels, where float32 has steps of 0.008 and IoU changes in its fourth digit.
    index, kept = batched_nms(
        boxes,
        scores,
        (scores > settings.score_threshold) & jnp.asarray(rois.valid)[None, :],
        threshold=settings.nms_threshold,
        # Enough to be exact: the final selection cannot take more than this from one class.
        max_keep=min(settings.max_detections, scores.shape[1]),
    )
    boxes, scores, classes, valid = best_over_rows(
        boxes, scores, index, kept, settings.max_detections
    )
    return Detections(boxes=boxes, scores=scores, classes=classes, valid=valid)
