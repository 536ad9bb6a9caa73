"""What a version is to an engine that holds it: plain values; ``residency_table`` decides over them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from services.generator.engine import EngineAdapter
from services.generator.forecast import Course


class Tier(Enum):
    """How near a version is to serving."""

    FILE = "file"
    MEMORY = "memory"
    SLOT = "slot"


class AdapterState(Enum):
    """What happens to a version between the tiers."""

    # From the file into host memory.
    LIFTING = "lifting"
    # In host memory.
    KEPT = "kept"
    # From the file, or from host memory, into a slot.
    LOADING = "loading"
    RESIDENT = "resident"
    # From its slot back into host memory.
    LOWERING = "lowering"
    # From its slot to nothing but the file.
    UNLOADING = "unloading"


@dataclass(frozen=True, slots=True)
class StoredAdapter:
    """A verified adapter in a local folder; ``tenant`` owns it; ``size_bytes`` are those of its weights' file."""

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
    """The right to run one request; on the base ``version`` is empty and ``adapter`` None."""

    version: str
    adapter: EngineAdapter | None
    course: Course
    # How much of the wait was the loading of the version into its slot.
    load_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Resident:
    """One version that the engine holds or is about to.

    ``closing`` lets it finish what it runs and take nothing new.  ``weight_bytes`` is what its weights take in host
    memory as the engine measured it, the size of the file before; ``memory_bytes`` is its part of the memory budget,
    0 while a slot holds it: vLLM keeps a copy of that beside the slot in any case.
    """

    stored: StoredAdapter
    adapter: EngineAdapter
    state: AdapterState
    in_slot: bool = False
    memory_bytes: int = 0
    weight_bytes: int = 0
    in_flight: int = 0
    pinned: bool = False
    closing: bool = False
    used_at: float = 0.0
    load_seconds: float = 0.0

    @property
    def evictable(self) -> bool:
        """Whether it may leave its slot right now."""
        return self.state is AdapterState.RESIDENT and not self.in_flight and not self.pinned

    @property
    def at_hand(self) -> bool:
        """Whether it can serve without a look at the disk."""
        return self.tier is not Tier.FILE

    @property
    def tier(self) -> Tier:
        """Where it can be served from at this moment."""
        if self.state is AdapterState.RESIDENT:
            return Tier.SLOT
        kept = self.state in (AdapterState.KEPT, AdapterState.LOWERING)
        if kept or (self.state is AdapterState.LOADING and self.memory_bytes):
            return Tier.MEMORY
        return Tier.FILE


@dataclass(frozen=True, slots=True)
class Move:
    """What the engine has to do, in the order of the fields, so that ``adapter`` is in the tier ``to``."""

    stored: StoredAdapter
    adapter: EngineAdapter
    to: Tier
    # Leave host memory, their slot for good, their slot for host memory.
    drop: tuple[Resident, ...] = ()
    unload: Resident | None = None
    lower: Resident | None = None
    # Whether the bytes of ``adapter`` have to be read from the file first.
    lift: bool = False
