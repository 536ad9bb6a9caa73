"""What lies in each tier, as its owner or the deployment may see it.

Invariant: every count is taken from what holds the versions, never kept beside it, so no failure can make it drift.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from services.generator.holdings import Shared
from services.generator.priorities import Priority
from services.generator.residency import Resident, StoredAdapter, Tier
from services.generator.residency_table import ResidencyTable
from services.generator.shelf import Shelf, Shelved
from services.generator.tallies import Tally


@dataclass(frozen=True, slots=True)
class Usage:
    """One tier: what lies there now, how much may (0 versions or bytes: no limit of that kind), what happened there."""

    tier: Tier
    versions: int
    size_bytes: int
    limit_versions: int
    limit_bytes: int
    tally: Tally


@dataclass(frozen=True, slots=True)
class Located:
    """An adapter in the nearest tier that has it; ``resident`` is None for one that only its file has."""

    stored: StoredAdapter
    priority: Priority
    resident: Resident | None
    shelved: Shelved | None = None


class Accounting:
    """The three tiers of one process."""

    def __init__(self, shelf: Shelf, files_limit_bytes: int, shared: Shared) -> None:
        self._shelf = shelf
        self._files_limit_bytes = files_limit_bytes
        self._shared = shared

    def usage(self, tables: Iterable[ResidencyTable], tenant: str | None) -> list[Usage]:
        """Every tier over the engines' tables, nearest first; of one tenant, or with None of all."""
        tables = list(tables)
        held = [held for table in tables for held in table.all() if tenant in (None, held.stored.tenant)]
        slots = [each for each in held if each.in_slot]
        memory = [each.memory_bytes for each in held if each.memory_bytes]
        files = [each.size_bytes for each in self._shelf.all() if tenant in (None, each.stored.tenant)]
        memory_limit_bytes = sum(table.memory_limit_bytes for table in tables)
        slot_bytes = sum(each.weight_bytes for each in slots)
        return [
            self._usage(Tier.SLOT, len(slots), slot_bytes, sum(table.slots for table in tables), 0, tenant),
            self._usage(Tier.MEMORY, len(memory), sum(memory), 0, memory_limit_bytes, tenant),
            self._usage(Tier.FILE, len(files), sum(files), 0, self._files_limit_bytes, tenant),
        ]

    def _usage(
        self, tier: Tier, versions: int, size_bytes: int, limit_versions: int, limit_bytes: int, tenant: str | None
    ) -> Usage:
        return Usage(tier, versions, size_bytes, limit_versions, limit_bytes, self._shared.tallies.of(tier, tenant))

    def held(self, tables: Iterable[ResidencyTable], tenant: str | None) -> list[Located]:
        """Every adapter that an engine holds."""
        return [
            located(table, each) for table in tables for each in table.all() if tenant in (None, each.stored.tenant)
        ]

    def located(self, tables: Iterable[ResidencyTable], tenant: str | None) -> list[Located]:
        """Every adapter in the nearest tier that has it, the engines' first, then the files by last use."""
        near = self.held(tables, tenant)
        held = {found.stored.version for found in near}
        far = [each for each in self._shelf.all() if tenant in (None, each.stored.tenant)]
        priorities = self._shared.priorities
        return near + [
            Located(each.stored, priorities.of(each.stored.version), None, each)
            for each in far
            if each.stored.version not in held
        ]


def located(table: ResidencyTable, held: Resident) -> Located:
    """An adapter that an engine holds."""
    return Located(held.stored, table.priority(held), held)
