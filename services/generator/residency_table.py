"""Which version of one engine is in a slot, in host memory or on its way, and what has to move for another to come in.

Invariants: the table never promises more slots than the engine has, nor more bytes of host memory than its budget; a
version that a request uses, or that is pinned, is never chosen to make room; what makes room is of the lowest class,
then the longest unused; into host memory nothing comes at the cost of what ranks higher.  vLLM's own LRU therefore
never has to act.  Nothing here waits: the table answers with a ``Move`` and is told how that ended; ``moving`` asks the
engine.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from services.chassis.errors import Failure, Reason
from services.generator.engine import EngineAdapter
from services.generator.priorities import Priorities, Priority
from services.generator.residency import AdapterState, Move, Resident, StoredAdapter, Tier

_engine_ids = itertools.count(1)


class ResidencyTable:
    """The slots and the host memory of one engine, by version."""

    def __init__(
        self,
        slots: int,
        memory_limit_bytes: int = 0,
        priorities: Priorities | None = None,
        max_protected: int | None = None,
    ) -> None:
        self.slots = slots
        self.max_protected = slots if max_protected is None else max_protected
        self.memory_limit_bytes = memory_limit_bytes
        self._priorities = priorities or Priorities()
        self._held: dict[str, Resident] = {}

    def get(self, version: str) -> Resident | None:
        """What the engine holds of a version, or None."""
        return self._held.get(version)

    def all(self) -> tuple[Resident, ...]:
        """Everything that the engine holds, by version."""
        return tuple(self._held[version] for version in sorted(self._held))

    def priority(self, held: Resident) -> Priority:
        """The class that decides when it leaves."""
        return Priority.PROTECTED if held.pinned else self._priorities.of(held.stored.version)

    @property
    def slots_used(self) -> int:
        """Slots that are held or promised."""
        return sum(held.in_slot for held in self._held.values())

    @property
    def memory_bytes(self) -> int:
        """Bytes of host memory that are held or promised."""
        return sum(held.memory_bytes for held in self._held.values())

    def take(self, version: str, now: float) -> EngineAdapter | None:
        """Use a resident version for one more request; None when it cannot be used now."""
        held = self._held.get(version)
        if held is None or held.state is not AdapterState.RESIDENT or held.closing:
            return None
        self._set(replace(held, in_flight=held.in_flight + 1, used_at=now))
        return held.adapter

    def give_back(self, version: str, adapter: EngineAdapter, now: float) -> None:
        """End one request's use; nothing when the engine was lost and rebuilt in between."""
        held = self._mine(version, adapter)
        if held is not None:
            self._set(replace(held, in_flight=held.in_flight - 1, used_at=now))

    def touch(self, version: str, now: float) -> None:
        """Somebody asks for it."""
        held = self._held.get(version)
        if held is not None:
            self._set(replace(held, used_at=now))

    def load(self, stored: StoredAdapter, now: float, wanted: Collection[str] = ()) -> Move | None:
        """Reserve a slot for a version that waits in memory or in its file; None while every slot is in use.

        A version that is ``wanted`` is as good as in use, unless it was asked to close: it was loaded for somebody
        whose turn comes.
        """
        victim = None
        if self.slots_used >= self.slots:
            idle = [
                held
                for held in self._held.values()
                if held.evictable and (held.closing or held.stored.version not in wanted)
            ]
            if not idle:
                return None
            victim = min(idle, key=lambda held: (not held.closing, *self._rank(held)))
        kept = self._held.get(stored.version)
        loading = Resident(stored, self._adapter(stored), AdapterState.LOADING, weight_bytes=stored.size_bytes)
        loading = replace(kept or loading, state=AdapterState.LOADING, in_slot=True, used_at=now)
        self._set(loading)
        move = Move(stored, loading.adapter, Tier.SLOT, lift=kept is None)
        return move if victim is None else self._displace(victim, move)

    def lift(self, stored: StoredAdapter, now: float) -> Move | None:
        """Reserve host memory for a version that waits in its file; None when what ranks higher fills the budget."""
        size_bytes = stored.size_bytes
        victims = self._memory_victims(size_bytes, (self._priorities.of(stored.version), now))
        if victims is None:
            return None
        drop = self._drop(victims)
        lifting = Resident(stored, self._adapter(stored), AdapterState.LIFTING, used_at=now)
        self._set(replace(lifting, memory_bytes=size_bytes, weight_bytes=size_bytes))
        return Move(stored, lifting.adapter, Tier.MEMORY, drop, lift=True)

    def lower(self, version: str) -> Move | None:
        """Take an idle version out of its slot into host memory; None when it is in use or memory has no room."""
        held = self._idle(version)
        victims = self._memory_victims(held.weight_bytes, self._rank(held)) if held is not None else None
        if held is None or held.pinned or victims is None:
            return None
        leaving = self._leave_for_memory(held, in_slot=True)
        return Move(held.stored, held.adapter, Tier.MEMORY, self._drop(victims), lower=leaving)

    def unload(self, version: str) -> Move | None:
        """Take an idle version out of its slot or of host memory; None when it is in use or on its way."""
        held = self._held.get(version)
        if held is not None and held.state is AdapterState.KEPT:
            return Move(held.stored, held.adapter, Tier.FILE, self._drop([held]))
        if (held := self._idle(version)) is None:
            return None
        self._set(replace(held, state=AdapterState.UNLOADING))
        return Move(held.stored, held.adapter, Tier.FILE, unload=held)

    def arrived(self, move: Move, now: float, seconds: float, weight_bytes: int = 0) -> None:
        """The engine did what was asked; ``weight_bytes`` as it measured them, 0 for what is known already."""
        held = self._mine(move.stored.version, move.adapter)
        if held is None:
            return
        weight_bytes = weight_bytes or held.weight_bytes
        if move.to is Tier.SLOT:
            held = replace(held, state=AdapterState.RESIDENT, memory_bytes=0, used_at=now, load_seconds=seconds)
            self._set(replace(held, weight_bytes=weight_bytes))
        elif move.to is Tier.MEMORY:
            self.lowered(move.adapter, move.stored.version, weight_bytes)
        else:
            del self._held[move.stored.version]

    def lowered(self, adapter: EngineAdapter, version: str, weight_bytes: int) -> None:
        """It lies in host memory now, and takes so much there."""
        held = self._mine(version, adapter)
        if held is not None:
            kept = replace(held, state=AdapterState.KEPT, in_slot=False, pinned=False, closing=False)
            self._set(replace(kept, memory_bytes=weight_bytes, weight_bytes=weight_bytes))

    def moves(self, version: str, adapter: EngineAdapter) -> bool:
        """Whether it is on its way from one tier to another."""
        held = self._mine(version, adapter)
        return held is not None and held.state not in (AdapterState.RESIDENT, AdapterState.KEPT)

    def gone(self, version: str, adapter: EngineAdapter) -> None:
        """The engine does not hold it (any more)."""
        if self._mine(version, adapter) is not None:
            del self._held[version]

    def ask_to_close(self) -> None:
        """Choose a busy, unpinned version to finish what it runs and make room, unless one was."""
        if any(held.closing for held in self._held.values()):
            return
        busy = [held for held in self._held.values() if held.in_flight and not held.pinned]
        if busy:
            chosen = min(busy, key=lambda held: (self.priority(held), held.in_flight, held.used_at))
            self.close(chosen.stored.version)

    def close(self, version: str) -> None:
        """Let a version take nothing new."""
        held = self._held.get(version)
        if held is not None:
            self._set(replace(held, closing=True))

    def reopen(self, keep_closed: Iterable[str] = ()) -> bool:
        """Nobody waits for room any more: closing versions may be used again; whether there were any."""
        closing = [held for held in self._held.values() if held.closing and held.stored.version not in keep_closed]
        for held in closing:
            self._set(replace(held, closing=False))
        return bool(closing)

    def pin(self, version: str, pinned: bool) -> Resident:
        """Protect from eviction, or end that.  Raises ADAPTER_NOT_RESIDENT, SLOTS_PROTECTED."""
        held = self._held.get(version)
        if held is None or held.state is not AdapterState.RESIDENT:
            raise Failure(Reason.ADAPTER_NOT_RESIDENT, name=version)
        others = [other.stored.tenant for other in self._held.values() if other.pinned and other is not held]
        if pinned and len(others) + 1 >= self.slots:
            raise Failure(Reason.SLOTS_PROTECTED, slots=self.slots, limit="one must stay free for others")
        if pinned and others.count(held.stored.tenant) >= self.max_protected:
            limit = f"one tenant may protect versions in {self.max_protected} at most"
            raise Failure(Reason.SLOTS_PROTECTED, slots=self.slots, limit=limit)
        self._set(replace(held, pinned=pinned))
        return self._held[version]

    def forget_all(self) -> list[Resident]:
        """The engine is gone: empty the table; what had been at hand, the slots' holders first."""
        lost = [held for held in self._held.values() if held.state in (AdapterState.RESIDENT, AdapterState.KEPT)]
        self._held.clear()
        return sorted(lost, key=lambda held: (held.state is not AdapterState.RESIDENT, -held.used_at))

    def overflow(self) -> tuple[Resident, ...]:
        """What has to leave host memory because something took more there than its file promised."""
        victims: list[Resident] = []
        beyond = self.memory_bytes - self.memory_limit_bytes
        for held in sorted(self._kept(), key=self._rank):
            if beyond <= 0:
                break
            victims.append(held)
            beyond -= held.memory_bytes
        return self._drop(victims)

    def _displace(self, victim: Resident, move: Move) -> Move:
        """Let a victim's slot go over to whoever the move is for; into memory with it, if that has room."""
        victims = self._memory_victims(victim.weight_bytes, self._rank(victim))
        if victims is None:
            del self._held[victim.stored.version]
            return replace(move, unload=victim)
        leaving = self._leave_for_memory(victim, in_slot=False)
        return replace(move, drop=self._drop(victims), lower=leaving)

    def _leave_for_memory(self, held: Resident, *, in_slot: bool) -> Resident:
        """Promise it the memory; ``in_slot`` False when somebody else has its slot from now on."""
        leaving = replace(held, state=AdapterState.LOWERING, in_slot=in_slot, memory_bytes=held.weight_bytes)
        self._set(leaving)
        return leaving

    def _memory_victims(self, size_bytes: int, rank: tuple[Priority, float]) -> list[Resident] | None:
        """Whom so many bytes of a rank displace from memory: the lowest first, nobody of that rank or above."""
        if size_bytes > self.memory_limit_bytes:
            return None
        free = self.memory_limit_bytes - self.memory_bytes
        victims: list[Resident] = []
        for held in sorted(self._kept(), key=self._rank):
            if size_bytes <= free or self._rank(held) >= rank:
                break
            victims.append(held)
            free += held.memory_bytes
        return victims if size_bytes <= free else None

    def _drop(self, victims: Sequence[Resident]) -> tuple[Resident, ...]:
        for held in victims:
            del self._held[held.stored.version]
        return tuple(victims)

    def _kept(self) -> list[Resident]:
        return [held for held in self._held.values() if held.state is AdapterState.KEPT]

    def _rank(self, held: Resident) -> tuple[Priority, float]:
        return self.priority(held), held.used_at

    def _idle(self, version: str) -> Resident | None:
        held = self._held.get(version)
        return None if held is None or held.state is not AdapterState.RESIDENT or held.in_flight else held

    def _adapter(self, stored: StoredAdapter) -> EngineAdapter:
        """The one that memory knows already, or a new one: an id is never given twice."""
        kept = self._held.get(stored.version)
        if kept is not None:
            return kept.adapter
        return EngineAdapter(next(_engine_ids), f"{stored.model}@{stored.version}", stored.folder)

    def _mine(self, version: str, adapter: EngineAdapter) -> Resident | None:
        """The holder, unless the engine was lost and rebuilt since ``adapter`` was given out."""
        held = self._held.get(version)
        return held if held is not None and held.adapter.engine_id == adapter.engine_id else None

    def _set(self, held: Resident) -> None:
        self._held[held.stored.version] = held
