"""Operands of the exporter: constants known during the export, and tensors of the graph.

Arrays of the program have a *logical* order of axes (NHWC); tensors of the graph are *stored* in an
order of their own (NCHW). A value carries the permutation between the two, so that `transpose` is
only a new label and convolutions find what they want. A value or constant that was broadcast keeps
length 1 where it repeats itself, until somebody needs the whole array.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

Dim = Any
"""A length: an int, or an expression of the symbolic batch size."""
Shape = tuple[Dim, ...]
Perm = tuple[int, ...]


# eq=False: operands are compared by identity. A generated == would compare arrays, whose truth
# NumPy refuses to tell.
@dataclass(frozen=True, eq=False)
class Const:
    """An array known during the export.

    Attributes:
      array: of the rank of `shape`, with length 1 where it repeats itself.
      shape: logical shape; may hold the symbolic batch size.
    """

    array: np.ndarray
    shape: Shape

    @property
    def dtype(self) -> np.dtype:
        """Type of the numbers."""
        return self.array.dtype

    @property
    def is_whole(self) -> bool:
        """Whether the array has its full shape."""
        return tuple(self.array.shape) == self.shape

    def uniform(self) -> float | None:
        """Returns the number that fills the whole array, or None."""
        if self.array.size == 0:
            return None
        first = self.array.flat[0]
        return first.item() if bool((self.array == first).all()) else None


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of the graph.

    Attributes:
      name: of the tensor.
      shape: logical shape.
      dtype: type of the numbers.
      perm: axis i as stored is the logical axis perm[i].
      stored: shape as stored; 1 where the logical shape is longer and the tensor repeats itself.
    """

    name: str
    shape: Shape
    dtype: np.dtype
    perm: Perm
    stored: Shape


Operand = Const | Value


def identity(rank: int) -> Perm:
    """Returns the order that stores an array as it is."""
    return tuple(range(rank))


def whole(array: np.ndarray) -> Const:
    """Returns an array as a constant."""
    return Const(array, tuple(array.shape))


def number(value: float, dtype: Any = np.float32) -> Const:
    """Returns a scalar as a constant."""
    return Const(np.asarray(value, dtype), ())


def collapse(array: np.ndarray) -> np.ndarray:
    """Returns the array with length 1 along every axis on which it repeats itself."""
    for axis in range(array.ndim):
        if array.shape[axis] > 1:
            # jnp broadcasts before it calls a primitive, so a bias arrives as large as the feature
            # map. Axis by axis, on what is left: the comparison gets cheaper each time.
            first = array.take([0], axis)
            if bool((array == first).all()):
                array = first
    return array


def is_static(shape: Shape) -> bool:
    """Returns whether every length is a plain number."""
    # A dimension of `jax.export` is an expression and no int, even where it is the batch alone.
    return all(isinstance(dim, int | np.integer) for dim in shape)
