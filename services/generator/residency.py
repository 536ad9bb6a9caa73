"""Which versions sit in the engine's slots: the table of slots and who may use them.

Invariant: the table never promises more slots than the engine has; a version that a
request uses, or that is pinned, is never chosen to make room; a version leaves only
when nobody uses it.  vLLM's own LRU therefore never has to act.  Nothing here waits:
``places`` turns these decisions into engine calls.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from services.chassis.errors import Failure, Reason
from services.generator.engine import EngineAdapter

_engine_ids = itertools.count(1)


class SlotState(Enum):
    """Where a version is between the file and the slot."""

    LOADING = "loading"
    RESIDENT = "resident"
    UNLOADING = "unloading"


@dataclass(frozen=True, slots=True)
class StoredAdapter:
    """A verified adapter in a local folder; ``tenant`` owns it."""

    version: str
    tenant: str
    model: str
    folder: Path
    rank: int
    size_bytes: int
    # The digest of the chat template that it brings in its folder; empty when it speaks the base's.
    template_digest: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """The right to run one request of so many answers; on the base ``version`` is empty and ``adapter`` None."""

    version: str
    adapter: EngineAdapter | None
    answers: int = 1
    # How much of the wait was the loading of the version into its slot.
    load_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Resident:
    """One slot's holder.  ``closing`` lets it finish what it runs and take nothing new."""

    stored: StoredAdapter
    adapter: EngineAdapter
    state: SlotState
    in_flight: int = 0
    pinned: bool = False
    closing: bool = False
    used_at: float = 0.0
    load_seconds: float = 0.0

    @property
    def evictable(self) -> bool:
        """Whether it may leave right now."""
        return self.state is SlotState.RESIDENT and not self.in_flight and not self.pinned


class SlotTable:
    """The slots of one engine, by version."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._held: dict[str, Resident] = {}

    def get(self, version: str) -> Resident | None:
        """The holder, or None when the version has no slot."""
        return self._held.get(version)

    def all(self) -> tuple[Resident, ...]:
        """Every holder, by version."""
        return tuple(self._held[version] for version in sorted(self._held))

    def take(self, version: str, now: float) -> EngineAdapter | None:
        """Use a resident version for one more request; None when it cannot be used now."""
        held = self._held.get(version)
        if held is None or held.state is not SlotState.RESIDENT or held.closing:
            return None
        self._set(replace(held, in_flight=held.in_flight + 1, used_at=now))
        return held.adapter

    def give_back(self, version: str, adapter: EngineAdapter, now: float) -> None:
        """End one request's use; nothing when the engine was lost and rebuilt in between."""
        held = self._held.get(version)
        if held is not None and held.adapter.engine_id == adapter.engine_id:
            self._set(replace(held, in_flight=held.in_flight - 1, used_at=now))

    def room(self) -> tuple[bool, Resident | None]:
        """Whether a version could be loaded now, and whom it would replace (the longest unused)."""
        if len(self._held) < self.slots:
            return True, None
        idle = [held for held in self._held.values() if held.evictable]
        if not idle:
            return False, None
        return True, min(idle, key=lambda held: (not held.closing, held.used_at))

    def begin_load(self, stored: StoredAdapter, victim: Resident | None) -> EngineAdapter:
        """Reserve a slot; the victim, if any, is unloaded first and keeps no claim."""
        if victim is not None:
            del self._held[victim.stored.version]
        assert len(self._held) < self.slots
        name = f"{stored.model}@{stored.version}"
        adapter = EngineAdapter(next(_engine_ids), name, stored.folder)
        self._set(Resident(stored, adapter, SlotState.LOADING))
        return adapter

    def loaded(self, version: str, now: float, seconds: float) -> None:
        """The engine holds it now."""
        held = self._held[version]
        self._set(replace(held, state=SlotState.RESIDENT, used_at=now, load_seconds=seconds))

    def begin_unload(self, version: str) -> Resident | None:
        """Reserve an idle version for unloading; None when it is in use or not resident."""
        held = self._held.get(version)
        if held is None or held.state is not SlotState.RESIDENT or held.in_flight:
            return None
        self._set(replace(held, state=SlotState.UNLOADING))
        return held

    def gone(self, version: str) -> None:
        """The engine does not hold it (any more)."""
        self._held.pop(version, None)

    def ask_to_close(self) -> None:
        """Choose a busy, unpinned version to finish what it runs and make room, unless one was."""
        if any(held.closing for held in self._held.values()):
            return
        busy = [held for held in self._held.values() if held.state is SlotState.RESIDENT and not held.pinned]
        if busy:
            self.close(min(busy, key=lambda held: (held.in_flight, held.used_at)).stored.version)

    def close(self, version: str) -> None:
        """Let a version take nothing new."""
        held = self._held.get(version)
        if held is not None:
            self._set(replace(held, closing=True))

    def reopen(self, keep_closed: Iterable[str] = ()) -> None:
        """Nobody waits for room any more: closing versions may be used again."""
        for held in list(self._held.values()):
            if held.closing and held.stored.version not in keep_closed:
                self._set(replace(held, closing=False))

    def pin(self, version: str, pinned: bool) -> Resident:
        """Protect from eviction, or end that.  Raises ADAPTER_NOT_RESIDENT, SLOTS_PROTECTED."""
        held = self._held.get(version)
        if held is None or held.state is not SlotState.RESIDENT:
            raise Failure(Reason.ADAPTER_NOT_RESIDENT, name=version)
        others = sum(other.pinned for other in self._held.values() if other is not held)
        if pinned and others + 1 >= self.slots:
            raise Failure(Reason.SLOTS_PROTECTED, slots=self.slots)
        self._set(replace(held, pinned=pinned))
        return self._held[version]

    def forget_all(self) -> list[Resident]:
        """The engine is gone: empty the table and return what had been resident."""
        lost = [held for held in self._held.values() if held.state is SlotState.RESIDENT]
        self._held.clear()
        return lost

    def _set(self, held: Resident) -> None:
        self._held[held.stored.version] = held
