"""Arithmetic of one equation: 2 FLOP per multiplication and addition.

Convolutions and matrix products alone are counted; the rest of a detector moves data.
"""

import math
from typing import Any

import numpy as np


def flops_of(equation: Any) -> int:
    """Returns the FLOP of a convolution or matrix product, 0 for every other equation."""
    shapes = [variable.aval.shape for variable in equation.invars[:2]]
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        size = math.prod(shapes[0][axis] for axis in contracted)
        return 2 * size * math.prod(equation.outvars[0].aval.shape)
    if equation.primitive.name == "conv_general_dilated":
        return _convolution(equation, *shapes)
    return 0


def _convolution(equation: Any, image: tuple[int, ...], kernel: tuple[int, ...]) -> int:
    """Returns the FLOP of a convolution; kernel offsets on padding or between dilated cells are none."""
    params = equation.params
    numbers, out = params["dimension_numbers"], equation.outvars[0].aval.shape
    pairs = 1
    for axis, (lhs, rhs, axis_out) in enumerate(
        zip(numbers.lhs_spec[2:], numbers.rhs_spec[2:], numbers.out_spec[2:], strict=True)
    ):
        hole = params["lhs_dilation"][axis]
        begin = (
            np.arange(out[axis_out]) * params["window_strides"][axis] - params["padding"][axis][0]
        )
        read = begin[:, None] + np.arange(kernel[rhs]) * params["rhs_dilation"][axis]
        # Products with padding are skipped by libraries or add zeros; counting them would flatter
        # small maps.
        pairs *= int(((read >= 0) & (read <= (image[lhs] - 1) * hole) & (read % hole == 0)).sum())
    images, features = out[numbers.out_spec[0]], out[numbers.out_spec[1]]
    return 2 * images * features * kernel[numbers.rhs_spec[1]] * pairs
