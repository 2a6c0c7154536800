"""Layer factory: creates every layer with its name, padding, batch-norm constants and pruned width.

A `Builder` is a frozen value. Its methods return Flax modules with explicit names, to be called inside a
compact method or kept by `setup`. What holds for all layers (convention, precision, pruned widths, taps)
is decided here, so that a backbone is a table of shapes and a few lines.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rcnn_jax.models import layers
from rcnn_jax.models.batch_norm import BatchNorm
from rcnn_jax.models.channels import ChannelPlan
from rcnn_jax.models.group_norm import GroupNorm
from rcnn_jax.models.quant import QuantPlan
from rcnn_jax.settings.network import TAO_FRCNN, ConvConvention


@dataclass(frozen=True, kw_only=True)
class BackboneOptions:
    """Choices of a spec in a backbone; a family ignores those it has no layer for.

    Attributes:
      use_pooling: ResNet, VGG: pooling layers instead of strided convolutions.
      all_projections: ResNet, MobileNet v2: a convolution on every shortcut.
      use_bias: biases in the convolutions of the backbone.
      freeze_bn: batch norm keeps its statistics in training; gamma and beta stay trainable.
      bn_momentum: weight of the old moving averages; 0 for that of the published network.
      dropout_rate: VGG after fc1 and fc2, EfficientNet before the predictors; in [0, 1).
      drop_connect_rate: EfficientNet: rate of the last block, growing linearly from 0; in [0, 1).
      activation: EfficientNet: `swish` or `relu`.
    """

    use_pooling: bool = False
    all_projections: bool = True
    use_bias: bool = False
    freeze_bn: bool = False
    bn_momentum: float = 0.0
    dropout_rate: float = 0.0
    drop_connect_rate: float = 0.0
    activation: str = "swish"


@dataclass(frozen=True, kw_only=True)
class Builder:
    """Creates named layers.

    Attributes:
      options: choices of the spec.
      convention: padding, position of strides, constants of batch norm.
      channels: widths that differ from the published ones.
      quant: inputs that are rounded to int8.
      dtype: of the computation.
      bn_axis_name: mapped axis that batch norm averages over, or None.
      is_frozen: layer name -> whether its block is frozen; a frozen batch norm uses its moving averages
        in training too.
    """

    options: BackboneOptions = BackboneOptions()
    convention: ConvConvention = TAO_FRCNN
    channels: ChannelPlan = ChannelPlan()
    quant: QuantPlan = QuantPlan()
    dtype: Any = jnp.float32
    bn_axis_name: str | None = None
    is_frozen: Callable[[str], bool] = lambda name: False

    def conv(
        self,
        name: str,
        features: int,
        kernel_size: int = 1,
        strides: int = 1,
        *,
        use_bias: bool | None = None,
        padding: layers.Padding | None = None,
        kernel_init: layers.Initializer = layers.HE_NORMAL,
    ) -> layers.Conv:
        """A convolution of a backbone, by default with He initialisation.

        Deviation: the original uses Glorot; He (normal, fan out) keeps the scale of activations
        through ReLU and trains better from scratch.

        Args:
          name: of the layer.
          features: published output channels.
          kernel_size: side of the kernel.
          strides: step in both directions.
          use_bias: None for the choice of the spec.
          padding: None for the convention's.
          kernel_init: initial kernel.
        """
        return layers.Conv(
            self.channels.width(name, features),
            kernel_size,
            strides,
            padding or self.convention.padding,
            self.options.use_bias if use_bias is None else use_bias,
            self.dtype,
            kernel_init,
            self.quant.inputs(name),
            name=name,
        )

    def depthwise(
        self, name: str, kernel_size: int, strides: int, padding: layers.Padding
    ) -> layers.DepthwiseConv:
        """A depthwise convolution; it has as many channels as its input.

        Its padding is fixed by the family of the backbone, not by the convention of the network.
        """
        return layers.DepthwiseConv(
            kernel_size,
            strides,
            padding,
            self.options.use_bias,
            self.dtype,
            rounded=self.quant.inputs(name),
            name=name,
        )

    def transposed(
        self, name: str, features: int, kernel_size: int, kernel_init: layers.Initializer
    ) -> layers.TransposedConv:
        """An upsampling convolution with bias."""
        width = self.channels.width(name, features)
        return layers.TransposedConv(
            width,
            kernel_size,
            dtype=self.dtype,
            kernel_init=kernel_init,
            rounded=self.quant.inputs(name),
            name=name,
        )

    def dense(
        self, name: str, features: int, kernel_init: layers.Initializer = layers.GLOROT_UNIFORM
    ) -> layers.Dense:
        """A dense layer with bias."""
        width = self.channels.width(name, features)
        return layers.Dense(
            width,
            dtype=self.dtype,
            kernel_init=kernel_init,
            rounded=self.quant.inputs(name),
            name=name,
        )

    def add(self, name: str) -> layers.Add:
        """The sum of two branches."""
        return layers.Add(self.quant.inputs(name), name=name)

    def batch_norm(
        self, name: str, *, epsilon: float | None = None, momentum: float | None = None
    ) -> BatchNorm:
        """Batch norm; None for the constants of the convention."""
        published = self.convention.bn_momentum if momentum is None else momentum
        return BatchNorm(
            self.convention.bn_eps if epsilon is None else epsilon,
            # The choice of the spec comes before the backbone's own constant: averages that keep
            # 0.99 or 0.999 in a step are too slow for runs of a few thousand steps.
            self.options.bn_momentum or published,
            # A frozen block keeps its statistics too, or weights that cannot follow would see
            # inputs of another scale.
            self.options.freeze_bn or self.is_frozen(name),
            self.bn_axis_name,
            self.dtype,
            name=name,
        )

    def group_norm(self, name: str, features: int) -> GroupNorm:
        """Group norm behind a layer of so many published output channels."""
        return GroupNorm(features, dtype=self.dtype, name=name)

    def tap(
        self, name: str, function: Callable[[jax.Array], jax.Array] | None = None
    ) -> layers.Tap:
        """A named activation: the result of an elementwise function, or the input itself.

        The module has a name of its own, because a tap is often called like the batch norm before it and
        Flax refuses two modules of one name.
        """
        return layers.Tap(name, function, name=f"{name}_tap")

    def relu(self, name: str) -> layers.Tap:
        """ReLU, tapped as `name`."""
        return self.tap(name, nn.relu)

    def leaky_relu(self, name: str, slope: float) -> layers.Tap:
        """Leaky ReLU (x for x >= 0, else slope * x), tapped as `name`."""
        return self.tap(name, functools.partial(nn.leaky_relu, negative_slope=slope))

    def sigmoid(self, name: str) -> layers.Tap:
        """Logistic function, tapped as `name`."""
        return self.tap(name, nn.sigmoid)

    def swish(self, name: str) -> layers.Tap:
        """Swish (x * sigmoid(x)), tapped as `name`."""
        return self.tap(name, nn.swish)
