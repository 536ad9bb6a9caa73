"""A curve in a terminal: points and lines in the cells of a grid, each cell a Braille letter of two by four dots.

Our own, because a plotting library would cost the light client more than these lines do: plotext brings a compiled
kernel of half a megabyte for one platform, no types, and keeps the figure at module level.

Invariant: what is drawn is as wide and as high as was asked for, whatever the values are.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from rich.text import Text

# Bits of a Braille letter, by column and row of its dots from the upper left (Unicode, block U+2800).
_BITS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
_BLANK = 0x2800
_LEVELS = "▁▂▃▄▅▆▇█"
_LABEL_CELLS = 8

Points = Sequence[tuple[float, float]]


@dataclass(slots=True)
class _Canvas:
    """Dots of a grid of cells, and how each cell looks; what is drawn later wins the cell's style."""

    columns: int
    rows: int
    dots: dict[tuple[int, int], int] = field(default_factory=dict)
    marks: dict[tuple[int, int], str] = field(default_factory=dict)
    styles: dict[tuple[int, int], str] = field(default_factory=dict)

    def dot(self, across: int, down: int, style: str) -> None:
        """Set a dot, counted from the upper left."""
        cell = (across // 2, down // 4)
        self.dots[cell] = self.dots.get(cell, 0) | _BITS[across % 2][down % 4]
        self.styles[cell] = style

    def line(self, begin: tuple[int, int], end: tuple[int, int], style: str) -> None:
        """Set the dots between two."""
        steps = max(abs(end[0] - begin[0]), abs(end[1] - begin[1]), 1)
        for step in range(steps + 1):
            across, down = (round(a + (b - a) * step / steps) for a, b in zip(begin, end, strict=True))
            self.dot(across, down, style)

    def mark(self, across: int, down: int, letter: str, style: str) -> None:
        """Put a letter where a dot would be."""
        cell = (across // 2, down // 4)
        self.marks[cell], self.styles[cell] = letter, style

    def row(self, number: int) -> Text:
        """One row of cells."""
        text = Text()
        for column in range(self.columns):
            cell = (column, number)
            letter = self.marks.get(cell) or (chr(_BLANK + self.dots[cell]) if cell in self.dots else " ")
            text.append(letter, style=self.styles.get(cell, ""))
        return text


@dataclass(frozen=True, slots=True)
class Curves:
    """What a chart shows: `raw` as dots, `smoothed` as a line, `marked` as diamonds; x is the optimizer step."""

    raw: Points
    smoothed: Points = ()
    marked: Points = ()


def chart(curves: Curves, *, last_step: int, columns: int, rows: int) -> list[Text]:
    """Lines of text: `rows` of the plot with the axis at its left, one of the steps below it, `columns` cells wide.

    Values that are no numbers are left out.
    """
    inside = max(columns - _LABEL_CELLS - 1, 2)
    canvas = _Canvas(inside, rows)
    raw, line, marked = (_numbers(points) for points in (curves.raw, curves.smoothed, curves.marked))
    low, high = _bounds([value for _, value in [*raw, *marked]])
    place = _placing(last_step, low, high, canvas)
    for step, value in raw:
        canvas.dot(*place(step, value), "dim")
    for before, after in pairwise(line):
        canvas.line(place(*before), place(*after), "cyan")
    for step, value in marked:
        canvas.mark(*place(step, value), "◆", "yellow")
    lines = [_label(number, rows, low, high) + canvas.row(number) for number in range(rows)]
    return [*lines, _steps_below(last_step, inside)]


def _numbers(points: Points) -> list[tuple[float, float]]:
    return [(step, value) for step, value in points if math.isfinite(value)]


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    # A flat line lies in the middle.
    margin = 0.0 if high > low else max(abs(high), 1.0) / 2
    return low - margin, high + margin


def _placing(last_step: int, low: float, high: float, canvas: _Canvas) -> Callable[[float, float], tuple[int, int]]:
    """Where the dot of a step and a value lies."""
    across, down = canvas.columns * 2 - 1, canvas.rows * 4 - 1

    def place(step: float, value: float) -> tuple[int, int]:
        share = (step - 1) / max(last_step - 1, 1)
        height = (value - low) / (high - low)
        return _within(round(share * across), across), _within(down - round(height * down), down)

    return place


def _within(dot: int, most: int) -> int:
    return max(0, min(most, dot))


def _label(row: int, rows: int, low: float, high: float) -> Text:
    shown = {0: f"{high:.4g}", rows - 1: f"{low:.4g}"}
    axis = "┤" if row in shown else "│"
    # A style of the whole text would be one of what is put behind it, too.
    return Text().append(f"{shown.get(row, ''):>{_LABEL_CELLS}}{axis}", style="dim")


def _steps_below(last_step: int, inside: int) -> Text:
    return Text(f"{'step':>{_LABEL_CELLS}} 1{last_step:>{max(inside - 1, 1)}}", style="dim")


def smoothed(values: Mapping[int, float], span_steps: int) -> list[tuple[float, float]]:
    """The exponential moving average of values by step, of the weight that a mean over `span_steps` has.

    Divided by the weights so far, so that it begins at the first value and not at nought; values that are no numbers
    are passed over.
    """
    keep = 1 - 2 / (max(span_steps, 1) + 1)
    mean, weight, found = 0.0, 0.0, []
    for step in sorted(values):
        if math.isfinite(values[step]):
            mean = keep * mean + (1 - keep) * values[step]
            weight = keep * weight + (1 - keep)
            found.append((float(step), mean / weight))
    return found


def spark(values: Sequence[float], columns: int) -> str:
    """Values as bars of one row, the newest at the right: each cell the mean of those that fall into it."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return ""
    size = max(1, math.ceil(len(known) / columns))
    means = [sum(known[at : at + size]) / len(known[at : at + size]) for at in range(0, len(known), size)]
    low, high = min(means), max(means)
    if high <= low:
        return _LEVELS[3] * len(means)
    return "".join(_LEVELS[round((mean - low) / (high - low) * (len(_LEVELS) - 1))] for mean in means)
