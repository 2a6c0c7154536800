"""The compiler: from a JAX function to an ONNX graph."""
