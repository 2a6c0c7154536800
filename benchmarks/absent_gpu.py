"""Compilation for an absent NVIDIA GPU.

JAX's CUDA plugin compiles for a GPU that it is told about; neither the GPU nor its driver is needed.
Nothing can be timed, so the compiler takes its first choice among kernels instead of the fastest.
"""

from importlib.util import find_spec
from typing import Any

from jax.experimental import topologies

NAME = "NVIDIA H100"
# Autotuning runs candidates on the device. Level 0 takes the compiler's first choice, so memory and
# structure are those of a real build, and times would not be.
UNTUNED = {"xla_gpu_autotune_level": 0}
"""Options of the compiler that keep it from running kernels."""

_PLUGIN = "jax_cuda13_plugin"
_FACTS = """
gpu_device_info {
  name: "NVIDIA H100 80GB HBM3"
  device_vendor: "NVIDIA Corporation"
  platform_version: "Compute Capability 9.0a"
  cuda_compute_capability { major: 9 feature_extension: ACCELERATED_FEATURES }
  core_count: 132
  fpus_per_core: 128
  clock_rate_ghz: 1.98
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  thread_dim_limit_x: 1024
  thread_dim_limit_y: 1024
  thread_dim_limit_z: 64
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  shared_memory_per_core: 233472
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  l2_cache_size: 52428800
  device_memory_size: 84942979072
  memory_bandwidth: 3352320000000
  device_address_bits: 64
  driver_version: "13.0.0"
  runtime_version: "13.0.0"
  compile_time_toolkit_version: "13.0.0"
  dnn_version: "9.10.0"
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
"""Properties of the device, from its public data sheet, as the compiler reads them."""


def absent_gpu() -> Any:
    """Returns the device to compile for.

    Raises:
      ModuleNotFoundError: JAX's CUDA plugin is not installed.
      RuntimeError: JAX has looked for a GPU in vain; JAX_PLATFORMS=cpu keeps it from that.
    """
    if find_spec(_PLUGIN) is None:
        raise ModuleNotFoundError("JAX's CUDA plugin is not installed", name=_PLUGIN)
    # One device: sharding over several adds collectives and says nothing more about the step.
    topology = topologies.get_topology_desc(
        "", platform="cuda", topology="1x1x1", target_config=_FACTS
    )
    return topology.devices[0]
