"""The layers every network is made of: NHWC, float32 parameters, explicit padding.

Leaves are named as in Keras: `kernel` and `bias` in `params`. The last axis of every kernel is the
output channel, also where Keras orders it otherwise (depthwise, transposed). Convolutions and products
run in `dtype`. Paddings are whole numbers known at trace time: they export as plain attributes. Norms
have files of their own.

Layers and sums with `rounded` inputs compute on the int8 grid of the exported graph (ops/fake_quant.py);
the scale of every such input is a leaf of the collection `quant`.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from rcnn_jax.models.quant import leaf_name
from rcnn_jax.ops.fake_quant import fake_quant, fake_quant_weight
from rcnn_jax.ops.kernels import max_pool as pooling
from rcnn_jax.ops.kernels.conv import conv
from rcnn_jax.ops.kernels.depthwise import depthwise_conv
from rcnn_jax.ops.kernels.pointwise import pointwise_conv
from rcnn_jax.ops.kernels.transposed import transposed_conv
from rcnn_jax.ops.marker import marked

Initializer = Callable[..., jax.Array]
Padding = Literal["symmetric", "same", "valid"]
Affine = tuple[jax.Array, jax.Array]
"""(scale, offset), f32[c] each, of a batch norm with given statistics."""

GLOROT_UNIFORM: Initializer = nn.initializers.glorot_uniform()
HE_NORMAL: Initializer = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
# For depthwise kernels [k k 1 c], where HE_NORMAL takes k k c for the fan-out: an output reaches k
# k cells, so their first weights would be too small by the square root of the channels.
HE_NORMAL_FAN_IN: Initializer = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


def conv_pads(
    size: Sequence[int], kernel_size: int, strides: int, padding: Padding
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Padding of a convolution, ((top, bottom), (left, right)) in pixels.

    `symmetric` pads k // 2 on every side: what the patched Keras of the original does (3 -> 1,
    7 -> 3, 2 -> 1). `same` is TensorFlow's: output ceil(n / stride), the odd pixel at the bottom
    and right. `valid` pads nothing. Source: docs/reference/faster_rcnn.md, "Padding of layers".

    Args:
      size: (height, width) of the input.
      kernel_size: side of the square kernel.
      strides: step in both directions.
      padding: the rule.
    """
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "symmetric":
        side = (kernel_size // 2, kernel_size // 2)
        return side, side
    height, width = size
    return _same_pads(height, kernel_size, strides), _same_pads(width, kernel_size, strides)


def pool_pads(
    size: Sequence[int], window: int, strides: int, padding: Padding
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Padding of a pooling layer; `symmetric` is (k-1) // 2 on every side here (3 -> 1, 2 -> 0)."""
    if padding == "symmetric":
        side = ((window - 1) // 2, (window - 1) // 2)
        return side, side
    return conv_pads(size, window, strides, padding)


def _same_pads(side: int, kernel_size: int, strides: int) -> tuple[int, int]:
    total = max((-(-side // strides) - 1) * strides + kernel_size - side, 0)
    return total // 2, total - total // 2


class Conv(nn.Module):
    """Convolution with a square kernel; `kernel` [k k in out].

    Attributes:
      features: output channels.
      kernel_size: k.
      strides: step in both directions.
      padding: see `conv_pads`.
      use_bias: adds `bias` [out].
      dtype: of the computation and the result; parameters are float32.
      kernel_init: initial kernel; the bias starts at zero.
      rounded: calls whose input, and with it the kernel, is rounded to int8.
    """

    features: int
    kernel_size: int = 1
    strides: int = 1
    padding: Padding = "symmetric"
    use_bias: bool = True
    dtype: Any = jnp.float32
    kernel_init: Initializer = GLOROT_UNIFORM
    rounded: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, x: jax.Array, call: int = 0, affine: Affine | None = None) -> jax.Array:
        """Maps [b h w in] to [b h' w' out].

        Args:
          x: the input.
          call: number of the call, where one layer runs on several feature maps.
          affine: what follows, folded into kernel and bias; None for nothing.
        """
        side = self.kernel_size
        kernel = self.param("kernel", self.kernel_init, (side, side, x.shape[-1], self.features))
        # Cast at each use: the optimizer updates float32, because a step far below a weight is lost
        # in the 8 bits of bfloat16.
        x, kernel = _operands(self, x, _scaled(kernel, affine), call)
        if side == 1:  # nothing to pad
            return _plus_bias(self, pointwise_conv(x, kernel, self.strides), affine)
        pads = conv_pads(x.shape[1:3], side, self.strides, self.padding)
        return _plus_bias(self, conv(x, kernel, self.strides, pads), affine)


class DepthwiseConv(nn.Module):
    """One k x k filter per channel; `kernel` [k k 1 c].

    Attributes:
      kernel_size: k.
      strides: step in both directions.
      padding: see `conv_pads`.
      use_bias: adds `bias` [c].
      dtype: of the computation and the result.
      kernel_init: initial kernel.
      rounded: calls whose input, and with it the kernel, is rounded to int8.
    """

    kernel_size: int = 3
    strides: int = 1
    padding: Padding = "symmetric"
    use_bias: bool = True
    dtype: Any = jnp.float32
    kernel_init: Initializer = HE_NORMAL_FAN_IN
    rounded: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, x: jax.Array, affine: Affine | None = None) -> jax.Array:
        """Maps [b h w c] to [b h' w' c]; see `Conv`."""
        side, channels = self.kernel_size, x.shape[-1]
        kernel = self.param("kernel", self.kernel_init, (side, side, 1, channels))
        x, kernel = _operands(self, x, _scaled(kernel, affine))
        pads = conv_pads(x.shape[1:3], side, self.strides, self.padding)
        return _plus_bias(self, depthwise_conv(x, kernel, self.strides, pads), affine)


class TransposedConv(nn.Module):
    """Upsampling by k with a k x k kernel and stride k; `kernel` [k k in out].

    Law: out[k*i + di, k*j + dj] = x[i, j] @ kernel[di, dj] + bias, as Keras' Conv2DTranspose (whose
    file keeps the last two axes of the kernel swapped).

    Attributes:
      features: output channels.
      kernel_size: k, the factor of upsampling.
      dtype: of the computation and the result.
      kernel_init: initial kernel; the bias starts at zero.
      rounded: calls whose input, and with it the kernel, is rounded to int8.
    """

    features: int
    kernel_size: int = 2
    use_bias: bool = True
    dtype: Any = jnp.float32
    kernel_init: Initializer = GLOROT_UNIFORM
    rounded: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [b h w in] to [b k*h k*w out]."""
        side = self.kernel_size
        kernel = self.param("kernel", self.kernel_init, (side, side, x.shape[-1], self.features))
        y = transposed_conv(*_operands(self, x, kernel))
        return _plus_bias(self, y)


class Dense(nn.Module):
    """Product over the last axis; `kernel` [in out].

    Attributes:
      features: output width.
      use_bias: adds `bias` [out].
      dtype: of the computation and the result.
      kernel_init: initial kernel; the bias starts at zero.
      rounded: calls whose input, and with it the kernel, is rounded to int8.
    """

    features: int
    use_bias: bool = True
    dtype: Any = jnp.float32
    kernel_init: Initializer = GLOROT_UNIFORM
    rounded: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [b in] to [b out]."""
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        return _plus_bias(self, jnp.dot(*_operands(self, x, kernel)))


class Add(nn.Module):
    """Sum of two branches.

    A module, because fake quantisation rounds a branch at the sum: other readers of the same tensor may
    need it as it is.

    Attributes:
      rounded: operands that are rounded to int8.
    """

    rounded: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, a: jax.Array, b: jax.Array) -> jax.Array:
        """Adds two arrays of one shape and dtype."""
        return _rounded_input(self, a, 0) + _rounded_input(self, b, 1)


def _operands(
    layer: Any, x: jax.Array, kernel: jax.Array, call: int = 0
) -> tuple[jax.Array, jax.Array]:
    """Returns input and kernel in the dtype of the computation, rounded where the layer does so."""
    if call in layer.rounded:
        # Before the cast: bfloat16 would move the weights off the grid that is exported.
        x, kernel = _rounded_input(layer, x, call), fake_quant_weight(kernel)
    return x.astype(layer.dtype), kernel.astype(layer.dtype)


def _rounded_input(module: Any, x: jax.Array, index: int) -> jax.Array:
    """Returns an input rounded with its own scale, where the module rounds it."""
    if index not in module.rounded:
        return x
    # 0 says that the range was never calibrated: a run that calibrates later holds it until then.
    scale = module.variable("quant", leaf_name(index), jnp.zeros, (), jnp.float32)
    return fake_quant(x, scale.value)


def _scaled(kernel: jax.Array, affine: Affine | None) -> jax.Array:
    return kernel if affine is None else kernel * affine[0].reshape(1, 1, 1, -1)


def _plus_bias(layer: Any, y: jax.Array, affine: Affine | None = None) -> jax.Array:
    """Adds the bias of `layer`, made here so that it follows the kernel in creation order."""
    bias = None
    if layer.use_bias:
        bias = layer.param("bias", nn.initializers.zeros_init(), (y.shape[-1],))
    if affine is not None:
        bias = affine[1] if bias is None else bias * affine[0] + affine[1]
    if bias is None:
        return y
    return y + bias.astype(y.dtype).reshape((1,) * (y.ndim - 1) + (-1,))


class Tap(nn.Module):
    """Activation function whose result has a name: where quantisation observes or rounds.

    Without quantisation it owns no variable and computes the function alone. It is a module so that
    training with fake quantisation can keep a range here, in a collection of its own. The name is an
    equation of the trace: `layer_order` knows layers without weights by it, and the exporter gives it to
    the ONNX tensor.

    Attributes:
      tensor: name of the result, unique in the network and stable under pruning: the Keras name of the
        layer that makes it.
      function: elementwise; None passes the input on.
    """

    tensor: str
    function: Callable[[jax.Array], jax.Array] | None = None

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [...] to [...]."""
        # The `name` primitive of JAX: identity under every transformation, and free in compiled
        # code.
        return checkpoint_name(x if self.function is None else self.function(x), self.tensor)


def max_pool(x: jax.Array, window: int, strides: int, padding: Padding = "symmetric") -> jax.Array:
    """Largest value of every window, [b h w c] -> [b h' w' c]; padding never wins.

    Deviation: the original pads with zeros under `symmetric`, which is the same after a ReLU.
    """
    pads = pool_pads(x.shape[1:3], window, strides, padding)
    return pooling.max_pool(x, window, strides, pads)


def avg_pool(x: jax.Array) -> jax.Array:
    """Mean over height and width, [b h w c] -> [b c], accumulated in float32."""
    # In bfloat16 a sum of 49 cells keeps two or three bits of each.
    return jnp.mean(x, (1, 2), dtype=jnp.float32).astype(x.dtype)


def upsample_nearest(x: jax.Array, factor: int = 2) -> jax.Array:
    """Repeats every cell `factor` times in both directions, [b h w c] -> [b fh fw c]."""
    return marked("upsample_nearest", _repeat_cells, factor=factor)(x)


def _repeat_cells(x: jax.Array, factor: int) -> jax.Array:
    b, h, w, c = x.shape
    repeated = jnp.broadcast_to(x[:, :, None, :, None, :], (b, h, factor, w, factor, c))
    return repeated.reshape(b, h * factor, w * factor, c)
