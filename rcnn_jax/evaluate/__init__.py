"""Evaluation: matching, average precision of PASCAL VOC and COCO, reports."""
