"""When a target may serve: a pure decision over what the living generators say.

Invariant: a version serves under an alias only after ``min_ready`` generators that
are alive have said that they hold it.  A first target is no exception: without a
generator nothing is known to load, so the alias waits and says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class ReadinessState(StrEnum):
    """What a generator says about a version."""

    LOADING = "LOADING"
    READY = "READY"
    FAILED = "FAILED"


class AliasState(StrEnum):
    """Where an alias stands between its target and what serves."""

    SERVING = "SERVING"
    PENDING = "PENDING"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Readiness:
    """One generator's last word on one version."""

    generator: str
    version: str
    state: ReadinessState
    reason: str
    updated_at: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a target, and the reason as people read it (empty once it serves)."""

    state: AliasState
    reason: str


def judge(words: Sequence[Readiness], living: frozenset[str], min_ready: int) -> Verdict:
    """Decide over a target from the words on it; only living generators count.

    It fails when so many refused it that those left can no longer be enough.
    """
    counted = [word for word in words if word.generator in living]
    ready = sum(word.state is ReadinessState.READY for word in counted)
    refused = [word for word in counted if word.state is ReadinessState.FAILED]
    if ready >= min_ready:
        return Verdict(AliasState.SERVING, "")
    if refused and len(living) - len(refused) < min_ready:
        causes = "; ".join(f"{word.generator}: {word.reason or 'no reason given'}" for word in refused[:3])
        return Verdict(AliasState.FAILED, causes)
    if not living:
        return Verdict(AliasState.PENDING, "no generator is connected; the target serves once one has loaded it")
    return Verdict(AliasState.PENDING, f"{ready} of {min_ready} generators are ready, {len(living)} connected")
