"""What serves: names, engines, adapters and the tiers that they lie in.  As `nouns`."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One name that `model` accepts; `kind` is base, adapter, full, auto or encoder."""

    name: str
    kind: str
    version: str
    base_digest: str


@dataclass(frozen=True, slots=True)
class ScoredModel:
    """A model that auto may choose, and how near its examples are to the question, -1 to 1."""

    model: str
    score: float


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request would go: `name` in full, `alias` that led there, `engines` that hold the version now.

    `canary` says that the version is one that the alias tries; `reason` is for people.  Of auto, `candidates` are the
    nearest models, best first; the base answers where `confidence` is under `threshold`.
    """

    name: str
    kind: str
    version: str
    alias: str
    canary: bool
    engines: tuple[str, ...]
    reason: str
    candidates: tuple[ScoredModel, ...] = ()
    confidence: float = 0.0
    threshold: float = 0.0
    abstained: bool = False
    ambiguous: bool = False


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine of the generator; `start_time` does not change when adapters are swapped.

    `model` and `version` are your own full model that it serves, empty for a base of the deployment. `memory_bytes` is
    measured now, `estimated_bytes` what its memory budget counts it with.
    """

    engine: str
    state: str
    build: str
    base: str
    base_digest: str
    slots: int
    max_rank: int
    context_tokens: int
    running: int
    waiting: int
    restarts: int
    start_time: datetime | None
    model: str = ""
    version: str = ""
    memory_bytes: int = 0
    estimated_bytes: int = 0
    idle_seconds: float = 0.0
    last_error: str = ""


@dataclass(frozen=True, slots=True)
class Adapter:
    """One adapter as the generator holds it; `tier` is remote, file, memory or slot.

    `priority` says how much it matters when something has to make room: ad_hoc, previous, candidate, serving or
    protected, the first to leave first.
    """

    version: str
    model: str
    tier: str
    size_bytes: int
    in_flight: int
    pinned: bool
    load_seconds: float
    priority: str = ""


@dataclass(frozen=True, slots=True)
class TierUsage:
    """What the tenant's adapters take of one of the generator's tiers, and what happened there since it started.

    `limit_versions` and `limit_bytes` are the deployment's, 0 for none of that kind.  `hits` counts requests that found
    their version in this tier and in none nearer.
    """

    tier: str
    versions: int
    size_bytes: int
    limit_versions: int
    limit_bytes: int
    hits: int
    loads: int
    evictions: int
