"""From KITTI and COCO annotations to TFRecords."""
