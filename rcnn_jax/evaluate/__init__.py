"""How good detections are: matching, average precision, reports."""
