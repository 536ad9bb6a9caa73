"""How much a version matters when something has to make room: the order in which all three tiers evict.

The watcher says what the aliases make of each version, once for every engine of the process; slots, host memory and
the local files ask.  A protected version ranks above all of these, in its slot (``pin``) and wherever else it lies
(``protection``).
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from enum import IntEnum


class Priority(IntEnum):
    """Classes of versions, the first to leave first; within one the longest unused leaves first."""

    # Asked for by its digest; no alias knows it.
    AD_HOC = 1
    # What an alias served before: kept warm, so that a rollback is instant.
    PREVIOUS = 2
    # What an alias is about to serve, or serves to a part of its callers.
    CANDIDATE = 3
    # What an alias serves.
    SERVING = 4
    # Pinned: it leaves neither its slot nor the files.
    PROTECTED = 5


class Priorities:
    """The class of every version that an alias names, or that is ``protected``."""

    def __init__(self, protected: Container[str] = ()) -> None:
        self._protected = protected
        self._by_version: Mapping[str, Priority] = {}

    def of(self, version: str) -> Priority:
        """The class; AD_HOC for one that no alias names."""
        if version in self._protected:
            return Priority.PROTECTED
        return self._by_version.get(version, Priority.AD_HOC)

    def set(self, named: Iterable[tuple[str, Priority]]) -> None:
        """Replace everything: what aliases name now, a version as often as it is named; the highest class counts."""
        by_version: dict[str, Priority] = {}
        for version, priority in named:
            if version:
                by_version[version] = max(priority, by_version.get(version, priority))
        self._by_version = by_version
