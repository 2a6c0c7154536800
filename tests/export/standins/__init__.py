"""Machines we do not have: TensorRT's documented Python API and CUDA's driver, on a CPU."""
