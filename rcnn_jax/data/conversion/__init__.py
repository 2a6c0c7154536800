"""Conversion of KITTI and COCO annotations to TFRecords."""
