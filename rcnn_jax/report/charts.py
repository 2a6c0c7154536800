"""Charts as inline SVG: lines, bars, matrices, dots with intervals.

Drawn by hand instead of by matplotlib: a chart is 2 to 10 kB instead of 60, its text stays text, and its
colours are the variables of `report.page`, which follow light and dark.
"""

import functools
import html as markup
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rcnn_jax.printable import shown

_COLORS = 8  # of the page's style
# Narrow, so that letters stay legible when a phone scales the drawing down to 370 pixels.
_WIDTH, _HEIGHT = 460, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 26, 40
_MOST_POINTS = 400
"""Points of a line; more cannot be told apart at this width."""
_LETTER = 6.6
"""Width of a letter of 12 pixels, on average."""
_DIGIT = 7.7
"""Width of a digit of 12 pixels in DejaVu Sans, the widest of the usual fonts of a browser."""


class Span(NamedTuple):
    """An estimate with its interval."""

    low: float
    value: float
    high: float


def lines(
    series: Mapping[str, Sequence[tuple[float, float]]],
    x_label: str,
    y_label: str,
    *,
    y_range: tuple[float, float] | None = None,
    marks: Sequence[tuple[float, float, str]] = (),
) -> str:
    """Returns a line chart.

    Args:
      series: name -> (x, y) by rising x; points that are not finite are left out.
      x_label: below the axis.
      y_label: above the axis.
      y_range: (lowest, highest); None for that of the data.
      marks: (x, y, text) of points to show, such as a chosen threshold; a text that has no room
        between the others is left out.
    """
    curves = {name: _thin(_finite(points)) for name, points in series.items()}
    every = [point for points in curves.values() for point in points]
    every += [(x, y) for x, y, _ in marks]
    if not every:
        return _empty(f"no data for {y_label}")
    frame = _Frame.around(every, y_range)
    drawn = [frame.axes(x_label, y_label)]
    for number, points in enumerate(curves.values()):
        path = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in points)
        drawn.append(
            f'<polyline points="{path}" fill="none" stroke="{color(number)}" stroke-width="2"/>'
        )
    for x, y, _ in marks:
        drawn.append(
            f'<circle cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="4" fill="var(--fg)"/>'
        )
    drawn += _mark_labels([(frame.x(x), frame.y(y), text) for x, y, text in marks])
    legend = _legend(list(curves)) if len(curves) > 1 or next(iter(curves), "") else ("", 0)
    return _svg("".join(drawn) + legend[0], _WIDTH, _HEIGHT + legend[1], f"{y_label} by {x_label}")


def bars(
    values: Mapping[str, float], unit: str = "", *, spans: Mapping[str, Span] | None = None
) -> str:
    """Returns horizontal bars, one per name, with the number behind each.

    Args:
      values: name -> number, at least 0.
      unit: behind every number.
      spans: intervals to draw over the bars, by name.
    """
    if not values:
        return _empty("nothing to show")
    spans = spans or {}
    ends = [*values.values(), *(span.high for span in spans.values())]
    # Intervals count too: a bar may be short and its interval long.
    most = max([end for end in ends if math.isfinite(end)] or [0.0]) or 1.0
    left = min(max(len(name) for name in values), 28) * _LETTER + 18
    texts = {name: f"{number(value)}{unit}" for name, value in values.items()}
    # Behind the longest bar its number must have room too.
    room = _WIDTH - left - max(90.0, max(map(len, texts.values())) * _DIGIT + 8)
    drawn = []
    for row, (name, value) in enumerate(values.items()):
        top = 6 + row * 22
        length = max(value, 0.0) / most * room if math.isfinite(value) else 0.0
        drawn.append(
            _label(left - 8, top + 12, _short(name, 28), "end")
            + f'<rect x="{left:.1f}" y="{top}" width="{length:.1f}" height="15" fill="{color(0)}"/>'
            + _label(
                left + max(length, _end(spans.get(name), most, room)) + 6,
                top + 12,
                texts[name],
                css="dim",
            )
        )
        if name in spans:
            low, high = (left + max(v, 0.0) / most * room for v in spans[name][::2])
            drawn.append(
                f'<path d="M{low:.1f} {top + 7}H{high:.1f}" stroke="var(--fg)" stroke-width="2"/>'
            )
    return _svg("".join(drawn), _WIDTH, 12 + 22 * len(values), "bars")


def histogram(counts: Sequence[float], edges: Sequence[float], x_label: str) -> str:
    """Returns vertical bars over the intervals between edges.

    Args:
      counts: of every interval.
      edges: one more than counts; drawn at equal distances, so they may be logarithmic.
      x_label: below the axis.
    """
    if not counts or not sum(counts):
        return _empty(f"no data for {x_label}")
    frame = _Frame(0.0, float(len(counts)), 0.0, float(max(counts)) * 1.05)
    drawn = [frame.axes(x_label, "count", x_ticks=False)]
    # Eight labels fit below the axis without touching each other.
    step = max(1, math.ceil(len(edges) / 8))
    for index, count in enumerate(counts):
        x, top = frame.x(index), frame.y(count)
        width = frame.x(index + 1) - x - 1
        drawn.append(
            f'<rect x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" '
            f'height="{frame.y(0) - top:.1f}" fill="{color(0)}"/>'
        )
    for index in range(0, len(edges), step):
        # Three digits: edges at equal ratios are not round.
        drawn.append(_below(frame.x(index), _compact(float(f"{edges[index]:.3g}"))))
    return _svg("".join(drawn), _WIDTH, _HEIGHT, f"histogram of {x_label}")


def matrix(
    counts: Sequence[Sequence[float]], rows: Sequence[str], columns: Sequence[str], title: str
) -> str:
    """Returns a matrix whose cells are darker the larger their fraction of the row is.

    Args:
      counts: [rows][columns], at least 0.
      rows: names at the left.
      columns: names above.
      title: in the corner: what stands in rows and columns.
    """
    if not counts:
        return _empty(title)
    left = max(min(max(map(len, rows)), 20) * _LETTER + 12, len(title) * _LETTER)
    texts = [[_compact(count) for count in cells] for cells in counts]
    longest = max(len(text) for cells in texts for text in cells)
    side = max(min((_WIDTH - left) / len(columns), 64.0), 26.0, longest * _DIGIT + 3)
    letters = min(max(map(len, columns)), 16)
    head = letters * _LETTER * 0.75 + 24
    drawn = [_label(0, 14, title, css="dim")]
    for index, name in enumerate(columns):
        x = left + (index + 0.5) * side
        drawn.append(
            f'<text transform="translate({x:.1f} {head - 6:.1f}) rotate(-40)">'
            f"{_text(_short(name, 16))}</text>"
        )
    for line, (name, cells) in enumerate(zip(rows, counts, strict=True)):
        top = head + line * side
        drawn.append(_label(left - 8, top + side / 2 + 4, _short(name, 20), "end"))
        # By row: of a rare class every confusion matters as much as of a frequent one.
        total = sum(cells) or 1.0
        for index, count in enumerate(cells):
            x = left + index * side
            # At most 0.48: above half, white numbers on the light blue of the dark scheme have less
            # than the contrast of 4.5 that text needs.
            drawn.append(
                f'<rect x="{x:.1f}" y="{top:.1f}" width="{side - 1:.1f}" height="{side - 1:.1f}" '
                f'fill="{color(0)}" fill-opacity="{0.04 + 0.44 * count / total:.3f}"/>'
            )
            if count:
                drawn.append(_label(x + side / 2, top + side / 2 + 4, texts[line][index], "middle"))
    # The last name begins in the middle of its column and goes on beyond the cells.
    width = left + (len(columns) - 0.5) * side + letters * _DIGIT * math.cos(math.radians(40)) + 8
    return _svg("".join(drawn), width, head + len(rows) * side, title)


def color(number: int) -> str:
    """Returns the colour of a series; the ninth is the first again."""
    return f"var(--c{number % _COLORS})"


def number(value: float) -> str:
    """Formats a number with three digits, whole ones whole."""
    if not math.isfinite(value):
        return "-"
    return f"{value:,.0f}" if value == int(value) and abs(value) < 1e9 else f"{value:.3g}"


class _Frame(NamedTuple):
    """The mapping from data to pixels of the plot."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float

    @classmethod
    def around(
        cls, points: Sequence[tuple[float, float]], y_range: tuple[float, float] | None
    ) -> "_Frame":
        xs, ys = zip(*points, strict=True)
        y_low, y_high = y_range or (min(ys), max(ys))
        # A flat line has no extent, which would divide by zero: give it one around its value.
        y_room = (y_high - y_low) or abs(y_high) or 1.0
        margin = 0.0 if y_range else 0.05 * y_room
        x_room = 0.0 if max(xs) > min(xs) else 0.5
        return cls(min(xs) - x_room, max(xs) + x_room, y_low - margin, y_low + y_room + margin)

    def x(self, value: float) -> float:
        part = (value - self.x_low) / (self.x_high - self.x_low)
        return _LEFT + part * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        part = (value - self.y_low) / (self.y_high - self.y_low)
        return _HEIGHT - _BOTTOM - min(max(part, 0.0), 1.0) * (_HEIGHT - _TOP - _BOTTOM)

    def axes(self, x_label: str, y_label: str, *, x_ticks: bool = True) -> str:
        right = _WIDTH - _RIGHT
        drawn = []
        for value in _ticks(self.y_low, self.y_high):
            top = self.y(value)
            drawn.append(f'<path class="axis" d="M{_LEFT} {top:.1f}H{right}"/>')
            drawn.append(_label(_LEFT - 6, top + 4, _compact(value), "end", "dim"))
        for value in _ticks(self.x_low, self.x_high) if x_ticks else ():
            drawn.append(_below(self.x(value), _compact(value)))
        drawn.append(_label((_LEFT + right) / 2, _HEIGHT - 6, x_label, "middle", "dim"))
        drawn.append(_label(4, 12, y_label, css="dim"))
        return "".join(drawn)


def _compact(value: float) -> str:
    """Formats a number for the six letters beside an axis or in a cell: 40k, 2.5M, 0.025, 2.5e-4."""
    size = abs(value)
    if not math.isfinite(value):
        return number(value)
    if size and not 1e-3 <= size < 1e12:
        mantissa, _, power = f"{value:.1e}".partition("e")
        return f"{float(mantissa):g}e{int(power)}"
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= max(unit, 1e4):
            return f"{value / unit:.4g}{letter}"
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"


def _below(x: float, text: str) -> str:
    """Returns a number below the horizontal axis; one at the right end of it ends with the drawing."""
    outside = x + len(text) * _DIGIT / 2 > _WIDTH
    # 22: a pixel lower than the number of the vertical axis in the corner, a pixel above the axis' name.
    return _label(
        _WIDTH if outside else x, _HEIGHT - 22, text, "end" if outside else "middle", "dim"
    )


def _ticks(low: float, high: float) -> list[float]:
    """Returns three to eight round numbers in an interval."""
    raw = (high - low) / 5
    # Steps of 1, 2 or 5 times a power of ten, which people read without arithmetic.
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
    first = math.ceil(low / step - 1e-9)
    count = math.floor(high / step + 1e-9) - first + 1
    return [round((first + index) * step, 12) for index in range(count)]


def _finite(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def _thin(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Returns at most 400 of the points, evenly taken, the last among them."""
    step = max(1, math.ceil(len(points) / _MOST_POINTS))
    return points[::step] + (points[-1:] if step > 1 and (len(points) - 1) % step else [])


def _end(span: Span | None, most: float, room: float) -> float:
    return max(span.high, 0.0) / most * room if span else 0.0


def _legend(names: Sequence[str]) -> tuple[str, int]:
    """Returns the names of the series below the plot, and the height that they take."""
    drawn, x, top = [], float(_LEFT), _HEIGHT + 12
    for index, name in enumerate(names):
        text = _short(name, 30)
        width = len(text) * _LETTER + 26
        if x + width > _WIDTH and x > _LEFT:
            x, top = float(_LEFT), top + 18
        drawn.append(
            f'<rect x="{x:.1f}" y="{top - 9}" width="10" height="10" fill="{color(index)}"/>'
            + _label(x + 15, top, text)
        )
        x += width
    return "".join(drawn), top - _HEIGHT + 8


def _mark_labels(marks: Sequence[tuple[float, float, str]]) -> list[str]:
    """Returns the texts of marks at (x, y) pixels, each in the first position that is free."""
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y, _ in marks]
    drawn = []
    for x, y, text in marks:
        width = len(text) * _LETTER
        positions = [
            (left, y + down)
            for down in (-6, 15, -20, 29, -34, 43, -48, 57)
            for left in (x + 7, x - 7 - width)
            if left >= _LEFT and left + width <= _WIDTH and 24 <= y + down <= _HEIGHT - _BOTTOM - 2
        ]
        boxes = [(left, base - 10, left + width, base + 3) for left, base in positions]
        free = [box for box in boxes if not any(map(functools.partial(_overlap, box), taken))]
        # A crowd of marks has room for some texts alone: the others are in the table below the chart.
        if free:
            taken.append(free[0])
            drawn.append(_label(free[0][0], free[0][3] - 3, text))
    return drawn


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _label(x: float, y: float, text: str, anchor: str = "start", css: str = "") -> str:
    style = f' class="{css}"' if css else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{style}>{_text(text)}</text>'


def _svg(inside: str, width: float, height: float, title: str) -> str:
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" '
        # Not smaller than 0.7, letters of 8 pixels: a matrix of many classes scrolls on a phone.
        f'style="min-width:{0.7 * width:.0f}px;max-width:{1.25 * width:.0f}px" '
        f'role="img" aria-label="{_text(title)}">'
        f"{inside}</svg>"
    )


def _empty(text: str) -> str:
    return _svg(_label(4, 18, text, css="dim"), _WIDTH, 28, text)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _text(text: str) -> str:
    return markup.escape(shown(text), quote=True)
