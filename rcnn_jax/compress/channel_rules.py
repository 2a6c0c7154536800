"""Rules of primitives: where the channels of their operands go, and which ones become one.

    (trace, equation, axes of the operands) -> axes of the results

A rule ties channels (`Trace.tie`) or keeps them with a reason (`Trace.pin`). Element-wise primitives need
none; any other without a rule keeps what enters it.
"""

import math

import numpy as np

from rcnn_jax.compress.axes import FIXED, UNIFORM, Axes, Axis, channels_of, reshaped
from rcnn_jax.compress.channel_trace import Cost, Pin, Rule, Trace, fixed, shape_of
from rcnn_jax.ops.marker import read_mark
from rcnn_jax.tracing.jaxpr import Site, walk


def _convolution(trace: Trace, site: Site, values: list[Axes]) -> list[Axes]:
    params = site.equation.params
    numbers, groups = params["dimension_numbers"], params["feature_group_count"]
    image, kernel = values
    # Space and batch are never channels; where they hold some, a layer has folded them in.
    for axis in (*numbers.lhs_spec[2:], numbers.lhs_spec[0]):
        trace.pin(image[axis], Pin(reason="convolved over, or one image of a batch each"))
    for axis in numbers.rhs_spec[2:]:
        trace.pin(kernel[axis], Pin(reason="convolved over"))
    entering, read = image[numbers.lhs_spec[1]], kernel[numbers.rhs_spec[1]]
    filters = kernel[numbers.rhs_spec[0]]
    result = list(fixed(shape_of(site.equation.outvars[0])))
    if params["batch_group_count"] != 1:
        trace.pin_all(values, Pin(reason="a convolution with batch groups has no channel rule"))
    elif groups == 1:
        trace.tie(entering, read)
    else:
        _tie_groups(trace, groups, entering, read, filters)
    trace.proportional(site.equation, entering, filters)
    result[numbers.out_spec[1]] = filters
    return [tuple(result)]


def _conv(trace: Trace, site: Site, values: list[Axes]) -> list[Axes]:
    """A marker: of its two forms the direct one reads channels as they are, and has the FLOP."""
    inside = (each for body in site.bodies for each in walk(body.jaxpr, site))
    direct = next(each for each in inside if each.primitive == "conv_general_dilated")
    return _convolution(trace, direct, values)


def _tie_groups(trace: Trace, groups: int, entering: Axis, read: Axis, filters: Axis) -> None:
    """Ties the channels of a convolution in groups so that all groups stay of one size.

    Where a group reads one channel it goes with that channel. Otherwise the number of groups is part of
    the layer, so every group loses the same positions.
    """
    inputs, outputs, rows = channels_of(entering), channels_of(filters), channels_of(read)
    if outputs is None:
        trace.pin(entering, Pin(reason="read by a convolution in groups of a fixed width"))
        return
    # XLA orders the filters by group: the first of them all, then those of the second.
    by_group = outputs.reshape(groups, -1)
    if inputs is None:
        trace.pin(outputs, Pin(reason="in groups over channels of a fixed number"))
    # Depthwise, with a multiplier: every channel has its own filters, which go with it.
    elif len(inputs) == groups:
        trace.ties.append((np.repeat(inputs, by_group.shape[1]), outputs))
    else:
        trace.ties.append((np.tile(by_group[0], groups), outputs))
        trace.ties.append((np.tile(inputs.reshape(groups, -1)[0], groups), inputs))
        if rows is not None:
            trace.ties.append((inputs.reshape(groups, -1)[0], rows))


def _depthwise(trace: Trace, site: Site, values: list[Axes]) -> list[Axes]:
    """A marker, because as a sum of products its FLOP would not be counted."""
    image, kernel = values
    shape = shape_of(site.equation.outvars[0])
    side = shape_of(site.equation.invars[1])[0]
    result = list(fixed(shape))
    result[3] = trace.tie(image[3], kernel[3])
    trace.proportional(site.equation, result[3], flops=2 * side * side * math.prod(shape))
    return [tuple(result)]


def _group_norm(trace: Trace, site: Site, values: list[Axes]) -> list[Axes]:
    """A marker: groups stay or go as a whole, so that those which stay have the same statistics."""
    mark = read_mark(str(site.equation.params["name"]))
    assert mark is not None
    result = list(values[0])
    for axes in values[1:]:
        result[-1] = trace.tie(result[-1], axes[0])
    channels = channels_of(result[-1])
    if channels is not None:
        by_group = channels.reshape(mark[1]["groups"], -1)
        if by_group.shape[1] == mark[1]["size"]:
            trace.ties.append((np.repeat(by_group[:, 0], by_group.shape[1]), channels))
        else:  # with fewer channels the network would make other groups
            trace.pin(channels, Pin(reason="normalised in groups of another size than published"))
    return [tuple(result)]


def _product(trace: Trace, site: Site, values: list[Axes]) -> list[Axes]:
    (contracted, batched) = site.equation.params["dimension_numbers"]
    one, other = values
    joined = [trace.tie(one[i], other[j]) for i, j in zip(*contracted, strict=True)]
    result = [trace.tie(one[i], other[j]) for i, j in zip(*batched, strict=True)]
    for axes, side in ((one, 0), (other, 1)):
        used = {*contracted[side], *batched[side]}
        result += [axis for i, axis in enumerate(axes) if i not in used]
    trace.proportional(site.equation, *joined, *result)
    return [tuple(result)]


def _roi_align(trace: Trace, site: Site, values: list[Axes]) -> list[Axes]:
    """A marker: crops have the channels of the levels that they are cut from."""
    mark = read_mark(str(site.equation.params["name"]))
    assert mark is not None
    levels = [axes[-1] for axes in values[: len(mark[1]["levels"])]]
    channels = levels[0]
    for other in levels[1:]:
        channels = trace.tie(channels, other)
    return [(*fixed(shape_of(site.equation.outvars[0]))[:-1], channels)]


def _broadcast(trace: Trace, site: Site, values: list[Axes]) -> list[Axes]:
    shape, kept = (site.equation.params[name] for name in ("shape", "broadcast_dimensions"))
    sizes = shape_of(site.equation.invars[0])
    result: list[Axis] = [UNIFORM] * len(shape)
    for axis, size, kept_axis in zip(values[0], sizes, kept, strict=True):
        if size == shape[kept_axis]:
            result[kept_axis] = axis
        else:  # one channel for all indices
            trace.pin(axis, Pin(reason="spread over an axis", primitive=site.primitive))
    return [tuple(result)]


def _reshape(trace: Trace, site: Site, values: list[Axes]) -> list[Axes]:
    old, new = shape_of(site.equation.invars[0]), shape_of(site.equation.outvars[0])
    result, stuck = reshaped(values[0], old, new)
    for axis in stuck:
        trace.pin(axis, Pin(reason="split or merged by a reshape", primitive="reshape"))
    return [result]


def _transpose(trace: Trace, site: Site, values: list[Axes]) -> list[Axes]:
    return [tuple(values[0][i] for i in site.equation.params["permutation"])]


def _reverse(trace: Trace, site: Site, values: list[Axes]) -> list[Axes]:
    reversed_axes = site.equation.params["dimensions"]
    return [
        tuple(
            a[::-1] if i in reversed_axes and (a := channels_of(axis)) is not None else axis
            for i, axis in enumerate(values[0])
        )
    ]


def _slice(trace: Trace, site: Site, values: list[Axes]) -> list[Axes]:
    params = site.equation.params
    strides = params["strides"] or (1,) * len(values[0])
    cuts = zip(values[0], params["start_indices"], params["limit_indices"], strides, strict=True)
    return [tuple(_part(axis, slice(start, stop, step)) for axis, start, stop, step in cuts)]


def _part(axis: Axis, part: slice) -> Axis:
    """Returns a part of an axis; one channel alone is no axis of channels."""
    channels = channels_of(axis)
    return axis if channels is None else channels[part]


def _split(trace: Trace, site: Site, values: list[Axes]) -> list[Axes]:
    params, results, start = site.equation.params, [], 0
    for size in params["sizes"]:
        axes = list(values[0])
        axes[params["axis"]] = _part(axes[params["axis"]], slice(start, start + size))
        results.append(tuple(axes))
        start += size
    return results


def _concatenate(trace: Trace, site: Site, values: list[Axes]) -> list[Axes]:
    joined = site.equation.params["dimension"]
    result = list(values[0])
    for axes in values[1:]:
        for i, axis in enumerate(axes):
            if i != joined:
                result[i] = trace.tie(result[i], axis)
    parts = [channels_of(axes[joined]) for axes in values]
    if all(part is None for part in parts):
        result[joined] = FIXED
        return [tuple(result)]
    for i, part in enumerate(parts):
        if part is None:  # what has no channels is kept as it is
            kept = trace.fresh(shape_of(site.equation.invars[i])[joined])
            trace.pin(kept, Pin(reason="beside values of a fixed width"))
            parts[i] = kept
    result[joined] = np.concatenate([part for part in parts if part is not None])
    return [tuple(result)]


def _pad(trace: Trace, site: Site, values: list[Axes]) -> list[Axes]:
    result = list(values[0])
    for i, widths in enumerate(site.equation.params["padding_config"]):
        if any(widths):
            trace.pin(result[i], Pin(reason="padded along its channels", primitive="pad"))
            result[i] = FIXED
    return [tuple(result)]


def _reduce(trace: Trace, site: Site, values: list[Axes]) -> list[Axes]:
    gone = site.equation.params["axes"]
    for i in gone:
        trace.pin(values[0][i], Pin(reason="reduced over its channels", primitive=site.primitive))
    return [tuple(axis for i, axis in enumerate(values[0]) if i not in gone)]


def _windows(trace: Trace, site: Site, values: list[Axes]) -> list[Axes]:
    result = list(values[0])
    for i, size in enumerate(site.equation.params["window_dimensions"]):
        if size != 1:
            trace.pin(result[i], Pin(reason="pooled over its channels", primitive=site.primitive))
            result[i] = FIXED
    return [tuple(result)]


def _same(trace: Trace, site: Site, values: list[Axes]) -> list[Axes]:
    return list(values)


def _branches(trace: Trace, site: Site, values: list[Axes]) -> list[Axes]:
    """Every branch is entered and their results are tied; the most expensive one counts."""
    results: list[list[Axes]] = []
    dearest: list[Cost] = []
    before, trace.costs = trace.costs, []
    for body in site.bodies:
        operands = [values[i] for i in body.operands]
        results.append(trace.run(body.jaxpr, body.consts, operands, site))
        # One branch runs, and which is not known: the bound is the dearest.
        dearest = max(dearest, trace.costs, key=lambda costs: sum(c.flops for c in costs))
        trace.costs = []
    trace.costs = before + dearest
    joined = results[0]
    for other in results[1:]:
        joined = [
            tuple(trace.tie(a, b) for a, b in zip(one, two, strict=True))
            for one, two in zip(joined, other, strict=True)
        ]
    return joined


RULES: dict[str, Rule] = {
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "cond": _branches,
    "conv": _conv,
    "conv_general_dilated": _convolution,
    "depthwise_conv": _depthwise,
    "dot_general": _product,
    "expand_dims": _reshape,
    "group_norm": _group_norm,
    "optimization_barrier": _same,
    "pad": _pad,
    "reshape": _reshape,
    "rev": _reverse,
    "roi_align": _roi_align,
    "slice": _slice,
    "split": _split,
    "squeeze": _reshape,
    "transpose": _transpose,
    **dict.fromkeys(("reduce_max", "reduce_min", "reduce_sum", "reduce_prod"), _reduce),
    **dict.fromkeys(
        ("reduce_window", "reduce_window_max", "reduce_window_min", "reduce_window_sum"), _windows
    ),
}
"""By the name of the primitive, or of the marker around a whole operation."""
