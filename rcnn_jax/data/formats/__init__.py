"""File formats of data sets: images, KITTI, COCO, TFRecords."""
