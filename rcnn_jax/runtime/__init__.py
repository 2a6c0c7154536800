"""Runtimes of model files: JAX for bundles, ONNX Runtime for graphs, TensorRT for engines."""
