"""The layers every network is made of: NHWC, float32 parameters, explicit padding.

Leaves are named as in Keras: `kernel`, `bias`, `gamma`, `beta` in `params`, `moving_mean` and
`moving_variance` in `batch_stats`. The last axis of every kernel is the output channel, also where
Keras orders it otherwise (depthwise, transposed). Convolutions and products run in `dtype`; batch
norm computes in float32 and casts back. Paddings are whole numbers known at trace time: they export
as plain attributes.

Layers and sums with `rounded` inputs compute on the int8 grid of the exported graph (ops/fake_quant.py);
the scale of every such input is a leaf of the collection `quant`.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
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


class BatchNorm(nn.Module):
    """gamma * (x - mean) / sqrt(variance + epsilon) + beta, per channel over all other axes.

    In training the mean and the biased variance of the batch are used, over every device of
    `axis_name`, and the moving averages take `moving * momentum + batch * (1 - momentum)`, so the
    collection `batch_stats` must be mutable. Everywhere else, and always when `frozen`, the moving
    averages are used; gamma and beta stay trainable. All arithmetic is float32.

    Attributes:
      epsilon: added to the variance.
      momentum: weight of the old moving average.
      frozen: statistics stay as they are in training too.
      axis_name: mapped axis the statistics are averaged over, or None.
      dtype: of the result.
    """

    epsilon: float = 1e-3
    momentum: float = 0.99
    frozen: bool = False
    axis_name: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        train: bool,
        rows: jax.Array | None = None,
        conv: Conv | DepthwiseConv | None = None,
    ) -> jax.Array:
        """Normalises [b ... c].

        Args:
          x: what is normalised.
          train: use and update batch statistics, unless `frozen`.
          rows: f32[b], 1 for rows that count in the statistics and 0 for padding, such as rois that
            were not sampled; None where all count.
          conv: `x` is the input of this layer, which normalises its result itself; needs `frozen`.
        """
        width = getattr(conv, "features", x.shape[-1])  # a depthwise layer keeps that of its input
        shape = (width,)
        gamma = self.param("gamma", nn.initializers.ones_init(), shape)
        beta = self.param("beta", nn.initializers.zeros_init(), shape)
        moving_mean = self.variable("batch_stats", "moving_mean", jnp.zeros, shape, jnp.float32)
        moving_variance = self.variable(
            "batch_stats", "moving_variance", jnp.ones, shape, jnp.float32
        )
        if conv is None:
            x = x.astype(jnp.float32)
        if train and not self.frozen:
            keep = self.momentum
            if rows is None:
                mean, variance = self._batch_statistics(x)
            else:
                mean, variance, count = self._row_statistics(x, rows)
                keep = jnp.where(count > 0, keep, 1.0)  # nothing was seen
            # `init` returns the statistics to start from, not those of the empty image it runs on.
            if not self.is_initializing():
                moving_mean.value = keep * moving_mean.value + (1 - keep) * mean
                moving_variance.value = keep * moving_variance.value + (1 - keep) * variance
        else:
            mean, variance = moving_mean.value, moving_variance.value
        # One product and one sum per channel: the exporter folds these into the convolution before,
        # and finds nothing to fold in (x - mean) / deviation.
        scale = gamma * lax.rsqrt(variance + self.epsilon)
        offset = beta - mean * scale
        if conv is not None:
            return conv(x, affine=(scale, offset))
        per_channel = (1,) * (x.ndim - 1) + shape
        return (x * scale.reshape(per_channel) + offset.reshape(per_channel)).astype(self.dtype)

    def _batch_statistics(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Mean and biased variance f32[c] of the (global) batch."""
        axes = tuple(range(x.ndim - 1))
        mean = jnp.mean(x, axes)
        # Both moments in one pass, and one collective for both: a variance around the mean needs
        # the mean of all devices first.
        mean_of_squares = jnp.mean(lax.square(x), axes)
        # No mapped axis exists yet when variables are made.
        if self.axis_name is not None and not self.is_initializing():
            mean, mean_of_squares = lax.pmean((mean, mean_of_squares), self.axis_name)
        # Cancellation may leave a constant channel slightly below zero.
        return mean, jnp.maximum(mean_of_squares - lax.square(mean), 0.0)

    def _row_statistics(
        self, x: jax.Array, rows: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Mean and biased variance f32[c] of the rows that count, and the number of values."""
        axes = tuple(range(x.ndim - 1))
        weights = rows.astype(jnp.float32).reshape(-1, *(1,) * (x.ndim - 1))
        count = jnp.sum(rows, dtype=jnp.float32) * (x[0].size // x.shape[-1])
        sums = jnp.sum(x * weights, axes), jnp.sum(lax.square(x) * weights, axes), count
        if self.axis_name is not None and not self.is_initializing():
            sums = lax.psum(sums, self.axis_name)  # devices may hold different numbers of rows
        total, squares, count = sums
        mean = total / jnp.maximum(count, 1.0)
        variance = jnp.maximum(squares / jnp.maximum(count, 1.0) - lax.square(mean), 0.0)
        return mean, variance, count


def normalised(
    conv: Conv | DepthwiseConv,
    norm: BatchNorm,
    x: jax.Array,
    train: bool,
    rows: jax.Array | None = None,
) -> jax.Array:
    """Convolution and batch norm, one operation where a step trains with frozen statistics.

    The scale is then a factor of the kernel, through which gradients reach kernel and gamma, and the
    result of the bare convolution is neither written nor kept for the gradient. Trained statistics need
    it, for they are its own; in prediction the exporter folds, from the two operations that its rules
    know.

    Args:
      conv: the convolution.
      norm: its batch norm.
      x: [b h w in].
      train: see `BatchNorm`.
      rows: see `BatchNorm`.
    """
    # A rounded kernel is that of the bare convolution: scales of int8 are taken before.
    if train and norm.frozen and not conv.rounded and not norm.is_initializing():
        return norm(x, train, conv=conv)
    return norm(conv(x), train, rows)


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
