"""Pieces of an answer as a model sends them."""

from gateway.generation import TextDelta, TokenLogprob


def words(*texts: str) -> tuple[TextDelta, ...]:
    """Pieces of one token each."""
    return tuple(TextDelta(text, (TokenLogprob(text, place, -1.0),), tokens=1) for place, text in enumerate(texts))
