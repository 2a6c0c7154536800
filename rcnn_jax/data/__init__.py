"""Images, labels and batches on the host: NumPy and OpenCV, never a device."""
