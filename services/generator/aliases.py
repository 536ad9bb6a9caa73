"""Aliases as the registry tells of them: what each names, and what is to be loaded for it."""

from __future__ import annotations

from dataclasses import dataclass

from services.generator.priorities import Priority


@dataclass(frozen=True, slots=True)
class AliasSeen:
    """An alias as the registry last told it; ``pending`` while its target does not serve yet.

    ``canaries`` are versions that get a share of its requests, each with whether it waits for generators;
    ``previous`` served before and stays loaded while there is room, so that going back to it takes no time.
    """

    tenant: str
    model: str
    alias: str
    target: str
    serving: str
    pending: bool
    canaries: tuple[tuple[str, bool], ...] = ()
    previous: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """What identifies it."""
        return self.tenant, self.model, self.alias

    @property
    def wanted(self) -> tuple[tuple[str, bool], ...]:
        """Versions that are to be loaded for it, each with whether the registry waits for our word on it."""
        main = (self.target, True) if self.pending else (self.serving, False)
        return tuple(want for want in (main, *self.canaries) if want[0])

    @property
    def classes(self) -> tuple[tuple[str, Priority], ...]:
        """Versions that it names, each with what it makes of them."""
        tried = [version for version, _ in self.canaries] + ([self.target] if self.pending else [])
        named = [(version, Priority.CANDIDATE) for version in tried]
        return ((self.serving, Priority.SERVING), (self.previous, Priority.PREVIOUS), *named)

    @property
    def held(self) -> frozenset[str]:
        """Versions that stay loaded for it once they are."""
        return frozenset({self.serving, self.previous, *(version for version, _ in self.canaries)} - {""})

    def waits_for(self, version: str) -> bool:
        """Whether the registry waits for our word on a version."""
        return (version, True) in self.wanted


@dataclass(frozen=True, slots=True)
class Change:
    """One message of the stream; ``sequence`` 0 for a sign of life."""

    sequence: int
    alias: AliasSeen | None
    deleted: bool
    caught_up: bool
    version_deleted: bool = False
