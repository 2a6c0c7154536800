"""The metric by which the best weights are chosen."""

from rcnn_jax.settings.metrics import CocoMetrics, VocMetrics


def test_masks_are_chosen_by_the_quality_of_masks():
    boxes = CocoMetrics(annotations="a.json", masks=False, max_detections=100, images=0)
    masks = CocoMetrics(annotations="a.json", masks=True, max_detections=100, images=0)
    assert (boxes.main_metric, masks.main_metric) == ("AP", "mask_AP")


def test_boxes_of_voc_are_chosen_by_their_mean():
    metrics = VocMetrics(iou_thresholds=(0.5,), score_threshold=0.0, method="voc12")
    assert metrics.main_metric == "mAP" and not metrics.plot
