"""Settings of the two-stage algorithm: RPN targets, proposals, sampled rois, detections."""

from dataclasses import dataclass
from typing import Literal

OutsideAnchors = Literal["train", "ignore", "auto"]
"""The rule for anchors that leave the image, see `RpnTargetSettings`."""


@dataclass(frozen=True, kw_only=True)
class RpnTargetSettings:
    """Rules of the RPN's targets.

    Attributes:
      positive_overlap: an anchor with at least this IoU is positive.
      negative_overlap: an anchor below this IoU with everything is negative.
      force_match: which anchors become positive below the threshold: `unmatched_best`, the best anchor
        of each ground truth that got none (TAO Faster R-CNN); `best`, the best anchor of each ground
        truth (TAO Mask R-CNN); `ties`, every anchor that ties the best (torchvision).
      outside: the rule for anchors that leave the image. `train`: they are anchors like others
        (TAO Mask R-CNN). `ignore`: they take no part (TAO Faster R-CNN). `auto`: they take no part,
        except those of a size that lies inside the image nowhere, which nothing else would train.
      anchors_per_cell: how many sizes there are; `auto` needs it.
      batch_per_image: anchors sampled for the objectness loss.
      positive_fraction: largest fraction of positives in the sample.
      box_loss_on_sample: box loss on sampled positives only, else on all positives.
    """

    # 0.7 and 0.3 of Ren et al. 2015; between them an anchor is neither.
    positive_overlap: float = 0.7
    negative_overlap: float = 0.3
    force_match: Literal["unmatched_best", "best", "ties"] = "best"
    outside: OutsideAnchors = "train"
    anchors_per_cell: int = 1
    batch_per_image: int = 256
    positive_fraction: float = 0.5
    box_loss_on_sample: bool = True


@dataclass(frozen=True, kw_only=True)
class ProposalSettings:
    """Counts and thresholds of proposals.

    Attributes:
      pre_nms: candidates per level that enter NMS.
      post_nms: proposals kept over all levels.
      nms_threshold: a candidate is suppressed when its IoU with a better one is greater.
      min_size: proposals with a side not greater than this many pixels are dropped.
    """

    pre_nms: int
    post_nms: int
    nms_threshold: float = 0.7
    min_size: float = 0.0


@dataclass(frozen=True, kw_only=True)
class RoiSamplingSettings:
    """Sample of the proposals that train the heads.

    Attributes:
      batch_per_image: r.
      foreground_fraction: largest fraction of foreground rois.
      foreground_overlap: IoU of a foreground roi is at least this.
      background_high: IoU of a background roi is below this.
      background_low: IoU of a background roi is at least this.
      append_gt: ground-truth boxes join the proposals.
      with_replacement: too few candidates of one kind are drawn more than once (TAO Faster R-CNN)
        instead of leaving rois invalid.
    """

    batch_per_image: int
    # A quarter, as in Fast R-CNN (Girshick 2015): few proposals of an early RPN are foreground.
    foreground_fraction: float = 0.25
    foreground_overlap: float = 0.5
    background_high: float = 0.5
    background_low: float = 0.0
    append_gt: bool = True
    with_replacement: bool = False


@dataclass(frozen=True, kw_only=True)
class DynamicSettings:
    """How two numbers of the box head follow the proposals (Dynamic R-CNN).

    Attributes:
      overlap_rank: the threshold of foreground follows the IoU of the proposal of this rank in an image.
      error_rank: beta follows the error of the foreground roi of this rank in an image.
      interval: passes of the losses between two changes.
      axis_name: mapped axis that the statistics are added up over, or None.
    """

    # 75, 10 and 100 of Zhang et al. 2020, section 4.2.
    overlap_rank: int = 75
    error_rank: int = 10
    interval: int = 100
    axis_name: str | None = None


@dataclass(frozen=True, kw_only=True)
class DetectionSettings:
    """Thresholds and number of detections.

    Attributes:
      score_threshold: boxes with a score not greater than this are dropped.
      nms_threshold: per-class NMS, suppress when the IoU is greater.
      max_detections: d.
    """

    score_threshold: float
    nms_threshold: float
    max_detections: int
