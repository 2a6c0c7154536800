"""What is counted in compiled programs, and that trained batch norm moves no float32 maps."""

from importlib.util import find_spec

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from jax.sharding import SingleDeviceSharding

from benchmarks.absent_gpu import UNTUNED, absent_gpu
from experiments import folding
from rcnn_jax.models.batch_norm import normalised
from rcnn_jax.models.builder import Builder

PROGRAM = """
HloModule step
ENTRY %main (a: bf16[8,4,4,64]) -> f32[8,4,4,64] {
  %a = bf16[8,4,4,64]{3,2,1,0} parameter(0)
  %wide = f32[8,4,4,64]{3,2,1,0} convert(%a)
  %both = (bf16[8,4,4,64]{3,2,1,0}, f32[8,4,4,64]{3,2,1,0}) fusion(%wide), kind=kLoop
  %sums = f32[64]{0} fusion(%wide), kind=kInput
  %logits = f32[8,8192]{1,0} fusion(%wide), kind=kLoop
  %small = f32[8,4,4,2]{3,2,1,0} fusion(%wide), kind=kLoop
  %half = bf16[8,4,4,64]{3,2,1,0} fusion(%wide), kind=kLoop
}
"""
MAP = 8 * 4 * 4 * 64


def test_kernels_that_write_float32_maps_are_counted_and_others_are_not():
    assert folding.float32_maps(PROGRAM, MAP) == ["wide", "both"]


def test_traffic_is_operands_and_results_of_every_kernel():
    # convert 2 + 4, both 4 + 6, sums 4, logits 4 + 4 * 8 * 8192 bytes, small 4, half 4 + 2
    wide, vector, few = 4 * MAP, 4 * 64, 4 * 8 * 4 * 4 * 2
    half, logits = 2 * MAP, 4 * 8 * 8192
    total = (half + wide) + (2 * wide + half) + (wide + vector) + (wide + logits)
    assert folding.traffic(PROGRAM) == total + (wide + few) + (wide + half)


class Pair(nn.Module):
    """Two convolutions, each with its trained batch norm and ReLU."""

    normalise: object

    @nn.compact
    def __call__(self, x):
        build = Builder(dtype=jnp.bfloat16)
        for name in ("one", "two"):
            conv = build.conv(name, 64, 3, use_bias=False)
            x = nn.relu(self.normalise(conv, build.batch_norm(f"{name}_bn"), x, True))
        return x


def compiled(normalise):
    """The optimised gradient of a pair, for a GPU that is absent."""
    module, x = Pair(normalise), jax.ShapeDtypeStruct((8, 104, 168, 64), jnp.bfloat16)
    variables = jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.zeros(x.shape, x.dtype)))

    def loss(params, collections, x):
        y, updated = module.apply({"params": params, **collections}, x, mutable=["batch_stats"])
        return jnp.sum(y.astype(jnp.float32)), updated

    device = SingleDeviceSharding(absent_gpu())
    collections = {"batch_stats": variables["batch_stats"]}
    arguments = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device),
        (variables["params"], collections, x),
    )
    step = jax.jit(jax.grad(loss, has_aux=True)).lower(*arguments)
    return step.compile(compiler_options=UNTUNED).as_text()


@pytest.mark.skipif(
    find_spec("jax_cuda13_plugin") is None,
    reason="JAX's CUDA plugin (extra cuda13) is not installed",
)
def test_trained_batch_norm_reads_and_writes_bfloat16_on_a_gpu():
    size = 8 * 104 * 168 * 64
    program, wide = compiled(normalised), compiled(folding.widened)
    assert folding.float32_maps(program, size) == []
    assert len(folding.float32_maps(wide, size)) >= 4
    assert folding.traffic(program) < 0.8 * folding.traffic(wide)
