"""Channel plan: the output channels of layers that differ from the published network.

A backbone asks `plan.width("conv1", 64)` for every layer it makes. The empty plan answers with
the published width; pruning fills the plan with the channels it kept; tests use it to make tiny
networks of the real shape. A plan is a hashable value, so it can be a field of a Flax module, and
it travels in the bundle as JSON.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ChannelPlan:
    """Output channels by layer name; layers that are not named keep their published width.

    Attributes:
      widths: mapping or pairs of layer name and output channels, each at least 1. Kept as pairs
        sorted by name, so that equal plans are equal values.

    Raises:
      ValueError: a width is not a positive whole number.
    """

    widths: tuple[tuple[str, int], ...] = field(default=())

    def __post_init__(self):
        pairs = self.widths.items() if isinstance(self.widths, Mapping) else self.widths
        for name, width in pairs:
            # Plans come from files: `true` is an int of Python, and 2.5 must not be rounded to a
            # width.
            if isinstance(width, bool) or int(width) != width or width < 1:
                raise ValueError(f"layer '{name}' cannot have {width!r} channels: at least 1")
        normalised = tuple(sorted((name, int(width)) for name, width in pairs))
        # Pairs and not a dict, because Flax hashes the fields of a module.
        object.__setattr__(self, "widths", normalised)

    def width(self, name: str, published: int) -> int:
        """Output channels of the layer `name`, whose published width is `published`."""
        return dict(self.widths).get(name, published)

    def to_json(self) -> dict[str, int]:
        """The plan as a JSON object."""
        return dict(self.widths)

    @classmethod
    def from_json(cls, value: Mapping[str, int]) -> "ChannelPlan":
        """The plan that `to_json` wrote."""
        return cls(tuple(value.items()))
