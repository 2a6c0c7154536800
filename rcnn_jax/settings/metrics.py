"""Settings of the metrics: VOC average precision, or the numbers of COCO."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class VocMetrics:
    """Average precision per class at one or several IoU thresholds.

    Attributes:
      iou_thresholds: each in (0, 1).
      score_threshold: detections below do not count.
      method: `voc07` is the 11-point mean, `voc12` the area under the envelope.
      plot: write a picture of the precision-recall curves.
    """

    iou_thresholds: tuple[float, ...]
    score_threshold: float
    method: Literal["voc07", "voc12"]
    plot: bool = False

    @property
    def main_metric(self) -> str:
        """The metric by which the best weights are chosen."""
        return "mAP"


@dataclass(frozen=True, kw_only=True)
class CocoMetrics:
    """The twelve numbers of COCO for boxes and, with masks, twelve more.

    Attributes:
      annotations: COCO annotation file that detections are compared with.
      masks: evaluate masks too.
      max_detections: detections per image that the model can yield.
      images: at most so many images are evaluated, the first ones of the validation data.
    """

    annotations: str
    masks: bool
    max_detections: int
    images: int

    @property
    def main_metric(self) -> str:
        """The metric by which the best weights are chosen."""
        return "mask_AP" if self.masks else "AP"


MetricSettings = VocMetrics | CocoMetrics
