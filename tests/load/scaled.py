"""The size of a benchmark at a scale."""


def scaled(full: int, scale: float, *, least: int = 1) -> int:
    """So many of the full number, at least ``least``."""
    return max(least, round(full * scale))
