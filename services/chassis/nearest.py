"""Which names somebody may have meant who asked for one that does not exist."""

import difflib
from collections.abc import Iterable

_MOST = 3
_LIKENESS = 0.5


def nearest(name: str, candidates: Iterable[str]) -> str:
    """At most three candidates that are like ``name``, best first, as a sentence lists them; ``none`` if none is."""
    return ", ".join(difflib.get_close_matches(name, list(candidates), n=_MOST, cutoff=_LIKENESS)) or "none"
