"""From a trained model to a file that runs elsewhere, and back to detections from such a file."""
