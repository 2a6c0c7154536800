"""What runs model files: bundles in JAX, graphs in ONNX Runtime, engines in TensorRT."""
