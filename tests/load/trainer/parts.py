"""What every part of the benchmark shares: figures, and lines of progress."""

import statistics
import sys
from collections.abc import Sequence
from typing import Any

# By key; what a part prints at its end.
Figures = dict[str, Any]


def say(text: str) -> None:
    """Tell people how it goes; standard output is for the figures."""
    print(text, file=sys.stderr, flush=True)


def spread(values: Sequence[float]) -> str:
    """A median with its range, for people."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def rounded(figures: Figures) -> Figures:
    """The figures with four significant digits, those in lists and tables too."""
    return {key: _rounded(value) for key, value in figures.items()}


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return rounded(value)
    return [_rounded(each) for each in value] if isinstance(value, list | tuple) else value
