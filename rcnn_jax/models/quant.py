"""Which inputs of a network are rounded to int8, where it is trained with fake quantisation.

A layer asks `plan.inputs("conv1")` for the calls whose input it rounds, a residual sum for its operands.
A layer that rounds an input rounds its weights too. The empty plan is the float network. A plan is a
hashable value, so it can be a field of a Flax module, and it travels in the bundle as JSON.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class QuantPlan:
    """The rounded inputs by module; the range of each lies in the collection `quant`.

    Attributes:
      sites: (module, numbers of its rounded inputs), sorted by module. A layer that runs on several
        feature maps numbers its calls, a sum its operands; all other layers have input 0 alone.
    """

    sites: tuple[tuple[str, tuple[int, ...]], ...] = ()

    @classmethod
    def of(cls, inputs: Mapping[str, tuple[int, ...]]) -> "QuantPlan":
        """Returns the plan of {module: numbers of its rounded inputs}."""
        return cls(tuple(sorted((name, tuple(sorted(set(ids)))) for name, ids in inputs.items())))

    def inputs(self, name: str) -> tuple[int, ...]:
        """Numbers of the inputs that the module `name` rounds."""
        return dict(self.sites).get(name, ())

    def to_json(self) -> dict[str, list[int]]:
        """The plan as a JSON object."""
        return {name: list(ids) for name, ids in self.sites}

    @classmethod
    def from_json(cls, value: Mapping[str, list[int]]) -> "QuantPlan":
        """The plan that `to_json` wrote."""
        return cls.of({name: tuple(ids) for name, ids in value.items()})


def leaf_name(index: int) -> str:
    """Name of the leaf that holds the scale of an input."""
    return f"input_{index}"
