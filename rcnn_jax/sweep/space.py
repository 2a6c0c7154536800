"""Search spaces: a distribution for every field that a sweep changes."""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rcnn_jax.errors import UsageError

Overrides = dict[str, Any]
"""{path of a field, with dots: its value}."""


@dataclass(frozen=True)
class Float:
    """A real number in [low, high].

    Attributes:
      low: smallest value.
      high: largest value.
      log: uniform in the logarithm, as learning rates are searched.
      points: number of values of a grid.
    """

    low: float
    high: float
    log: bool = False
    points: int = 4

    def __post_init__(self) -> None:
        _check_range(self.low, self.high, self.log)

    def at(self, fraction: float) -> float:
        """Returns the value at a fraction in [0, 1] of the range."""
        if self.log:
            value = self.low ** (1 - fraction) * self.high**fraction
        else:
            value = self.low + fraction * (self.high - self.low)
        # Rounding misses the ends by a digit: 0.3 + (0.9 - 0.3) is above 0.9.
        return min(max(value, self.low), self.high)

    def grid(self) -> list[float]:
        """Returns `points` values from low to high."""
        return [self.at(fraction) for fraction in np.linspace(0, 1, self.points)]


@dataclass(frozen=True)
class Int:
    """A whole number in [low, high].

    Attributes:
      low: smallest value.
      high: largest value.
      log: uniform in the logarithm.
      points: number of values of a grid.
    """

    low: int
    high: int
    log: bool = False
    points: int = 4

    def __post_init__(self) -> None:
        _check_range(self.low, self.high, self.log)

    def at(self, fraction: float) -> int:
        """Returns the value at a fraction in [0, 1] of the range; every number is as likely."""
        if self.log:
            return round(Float(self.low, self.high, log=True).at(fraction))
        # Not rounding: it would give the two ends half the chance of the others.
        return min(self.low + int(fraction * (self.high - self.low + 1)), self.high)

    def grid(self) -> list[int]:
        """Returns at most `points` different values from low to high."""
        # A set, since neighbours in a narrow range round to the same number.
        values = np.linspace(self.low, self.high, min(self.points, self.high - self.low + 1))
        return sorted({round(float(value)) for value in values})


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    values: tuple[Any, ...]

    # Choice("a", "b") reads better in a sweep file than a tuple in a call, hence no generated
    # __init__.
    def __init__(self, *values: Any):
        object.__setattr__(self, "values", values)
        if not values:
            raise UsageError("Choice() has no value to choose from")

    def at(self, fraction: float) -> Any:
        """Returns the value at a fraction in [0, 1]."""
        return self.values[min(int(fraction * len(self.values)), len(self.values) - 1)]

    def grid(self) -> list[Any]:
        """Returns all values."""
        return list(self.values)


Distribution = Float | Int | Choice
Space = Mapping[str, Distribution]


def grid(space: Space) -> Iterator[Overrides]:
    """Yields every combination; the last field changes first."""
    names = list(space)
    for values in itertools.product(*(space[name].grid() for name in names)):
        yield dict(zip(names, values, strict=True))


def grid_size(space: Space) -> int:
    """Returns the number of combinations."""
    return math.prod(len(distribution.grid()) for distribution in space.values())


def random(space: Space, seed: int, number: int) -> Overrides:
    """Returns random values; a pure function of seed and number, so a resumed sweep draws the same."""
    # Philox takes the pair as its key: neighbouring numbers are not related, as with seed + number.
    generator = np.random.Generator(np.random.Philox(key=[seed, number]))
    return {name: distribution.at(generator.random()) for name, distribution in space.items()}


def _check_range(low: float, high: float, log: bool) -> None:
    if not (math.isfinite(low) and math.isfinite(high)) or low > high or (log and low <= 0):
        hint = "; a logarithmic range begins above 0" if log else ""
        raise UsageError(f"a range from {low:g} to {high:g} holds no value{hint}")
