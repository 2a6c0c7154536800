"""From a folder of images to a spec: splits, canvas, anchors, schedule, and where the data lies."""
