import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from rcnn_jax.ops.kernels import winograd
from rcnn_jax.ops.kernels.conv import conv
from rcnn_jax.ops.kernels.winograd import pays, winograd_conv, winograd_kernel_gradient

ONE = ((1, 1), (1, 1))
# batch, (height, width), pads: less than a tile, whole tiles, parts of tiles in either direction.
CASES = [
    (1, (3, 3), ((0, 0), (0, 0))),
    (1, (1, 2), ONE),
    (2, (8, 12), ONE),
    (3, (9, 6), ((0, 2), (1, 0))),
    (7, (7, 7), ONE),
    (2, (21, 34), ((2, 2), (2, 2))),
]


def arrays(batch, size, channels=(5, 6)):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, *size, channels[0])).astype(np.float32)
    kernel = rng.standard_normal((3, 3, *channels)).astype(np.float32)
    return x, kernel


def direct(x, kernel, pads):
    return lax.conv_general_dilated(
        x, kernel, (1, 1), pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


# One tile a chunk, some rows of an image, several images, all.
@pytest.mark.parametrize("chunk", [1, 150, 2**15])
@pytest.mark.parametrize(("batch", "size", "pads"), CASES)
def test_results_and_gradient_are_those_of_the_direct_form(monkeypatch, batch, size, pads, chunk):
    monkeypatch.setattr(winograd, "_CHUNK", chunk)
    x, kernel = arrays(batch, size)
    wanted, back = jax.vjp(lambda kernel: direct(x, kernel, pads), kernel)
    # Compiled whole: operation by operation it takes five times as long.
    actual = jax.jit(lambda x, kernel: winograd_conv(x, kernel, pads))(x, kernel)
    np.testing.assert_allclose(actual, wanted, atol=1e-4)
    gradient = np.random.default_rng(1).standard_normal(wanted.shape).astype(np.float32)
    of_kernel = jax.jit(lambda *each: winograd_kernel_gradient(*each[:2], pads, each[2]))
    np.testing.assert_allclose(of_kernel(x, kernel, gradient), back(gradient)[0], atol=1e-3)


def test_rounding_is_near_that_of_the_direct_form():
    x, kernel = arrays(1, (24, 24), (256, 256))
    exact = np.asarray(np.pad(x, ((0, 0), *ONE, (0, 0))), np.float64)
    exact = sum(exact[:, p : p + 24, q : q + 24] @ kernel[p, q] for p in range(3) for q in range(3))
    actual = winograd_conv(jnp.asarray(x), jnp.asarray(kernel), ONE)
    # Twice what was measured; points 0, 1, -1, 2, -2 exceed it.
    assert np.abs(actual - exact).max() < 6e-6 * np.abs(exact).max()


@pytest.mark.parametrize(
    ("shape", "kernel", "strides", "pads", "expected"),
    [
        ((1, 128, 128, 64), (3, 3, 64, 64), 1, ONE, True),
        ((1, 128, 128, 64), (3, 3, 64, 64), 2, ONE, False),
        ((1, 128, 128, 64), (1, 1, 64, 64), 1, ((0, 0), (0, 0)), False),
        ((1, 128, 128, 64), (3, 3, 64, 64), 1, ((3, 1), (1, 1)), False),
        ((1, 128, 128, 64), (3, 3, 64, 9), 1, ONE, False),
        ((1, 16, 16, 64), (3, 3, 64, 64), 1, ONE, False),
    ],
)
def test_only_what_it_computes_faster_is_computed_by_it(shape, kernel, strides, pads, expected):
    x, kernel = (jax.ShapeDtypeStruct(each, jnp.float32) for each in (shape, kernel))
    assert pays(x, kernel, strides, pads) is expected
    half = jax.ShapeDtypeStruct(shape, jnp.bfloat16)
    assert not pays(half, kernel, strides, pads)


def test_a_large_convolution_takes_this_form_in_every_pass_on_a_cpu_and_no_other():
    x, kernel = arrays(1, (128, 128), (64, 64))
    assert pays(x, kernel, 1, ONE)

    def passes(x, kernel):
        y, back = jax.vjp(lambda x, kernel: conv(x, kernel, 1, ONE), x, kernel)
        return y, back(y)

    text = jax.jit(passes).lower(x, kernel).compile().as_text()
    assert "convolution(" not in text
    exported = jax.export.export(jax.jit(passes), platforms=["cuda"])(x, kernel)
    assert exported.mlir_module().count("stablehlo.convolution") == 3


def test_a_large_convolution_has_the_derivatives_of_the_direct_form():
    x, kernel = arrays(1, (128, 128), (64, 64))
    wanted, back = jax.vjp(lambda x, kernel: direct(x, kernel, ONE), x, kernel)
    actual, our_back = jax.vjp(lambda x, kernel: conv(x, kernel, 1, ONE), x, kernel)
    np.testing.assert_allclose(actual, wanted, atol=1e-3)
    for ours, theirs in zip(our_back(wanted), back(wanted), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())


def test_a_batch_of_any_size_is_exported_as_one_convolution():
    (batch,) = jax.export.symbolic_shape("b")
    x = jax.ShapeDtypeStruct((batch, 128, 128, 64), jnp.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, 64, 64), jnp.float32)
    exported = jax.export.export(jax.jit(lambda x, kernel: conv(x, kernel, 1, ONE)))(x, kernel)
    assert exported.mlir_module().count("stablehlo.convolution") == 1
