"""Interface of a detector's network: its stages, and the fields that model files keep."""

from typing import Any, Protocol

import jax

from rcnn_jax.models.builder import BackboneOptions
from rcnn_jax.models.channels import ChannelPlan
from rcnn_jax.models.quant import QuantPlan
from rcnn_jax.settings.network import ConvConvention
from rcnn_jax.structures import BoxOutputs, Levels, RpnOutputs


class Network(Protocol):
    """A Linen module of a two-stage detector; the stages need a bound one.

    Attributes:
      arch: name of the backbone.
      options: what the spec chooses in the backbone.
      channels: widths that differ from the published ones.
      quant: inputs that are rounded to int8.
      convention: padding, strides and batch norm.
      levels: those that `extract` returns.
      dtype: of the computation.
      remat: training keeps tapped activations only and computes the others again.
    """

    # Properties, because Linen modules are frozen and a plain attribute of a protocol can be set.
    @property
    def arch(self) -> str: ...  # noqa: D102
    @property
    def options(self) -> BackboneOptions: ...  # noqa: D102
    @property
    def channels(self) -> ChannelPlan: ...  # noqa: D102
    @property
    def quant(self) -> QuantPlan: ...  # noqa: D102
    @property
    def convention(self) -> ConvConvention: ...  # noqa: D102
    @property
    def dtype(self) -> Any: ...  # noqa: D102
    @property
    def remat(self) -> bool: ...  # noqa: D102
    @property
    def levels(self) -> tuple[int, ...]: ...  # noqa: D102

    def extract(
        self, images: jax.Array, train: bool, dropout_keys: jax.Array | None = None
    ) -> Levels:
        """Returns the features {level: [b h w c]} of normalised images f32[b h w c]."""
        ...

    def rpn(self, features: Levels) -> RpnOutputs:
        """Returns objectness and deltas of every anchor."""
        ...

    def classify(
        self,
        crops: jax.Array,
        train: bool,
        dropout_keys: jax.Array | None = None,
        valid: jax.Array | None = None,
    ) -> BoxOutputs:
        """Returns logits and deltas of crops [b r s s c]; valid bool[b r] count in statistics."""
        ...

    # of Linen
    def get_variable(self, col: str, name: str, default: Any = None) -> Any: ...  # noqa: D102
    def put_variable(self, col: str, name: str, value: Any) -> None: ...  # noqa: D102
    def init(self, *args: Any, **kwargs: Any) -> Any: ...  # noqa: D102
    def apply(self, *args: Any, **kwargs: Any) -> Any: ...  # noqa: D102
    def clone(self, *args: Any, **kwargs: Any) -> Any: ...  # noqa: D102
