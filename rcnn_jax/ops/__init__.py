"""Pure array functions of detection: boxes, anchors, matching, sampling, pooling, losses."""
