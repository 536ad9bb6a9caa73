"""When a target may serve: a pure decision over what the living generators say.

Invariant: a version serves under an alias only after ``min_ready`` generators that
are alive have said, in their present life, that they hold it: a process that was
started again may serve another base, take a lower rank, and holds nothing yet.  A
first target is no exception: without a generator nothing is known to load, so the
alias waits and says so.  (What no generator serves, an encoder, waits for none: :mod:`alias_view`.)
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
class Life:
    """One process of a generator: ``instance`` is drawn at its start."""

    generator: str
    instance: str


@dataclass(frozen=True, slots=True)
class Report:
    """A generator's message; without a version it only says that the generator lives."""

    life: Life
    tenant: str = ""
    version: str = ""
    state: ReadinessState = ReadinessState.LOADING
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Readiness:
    """One generator's last word on one version; ``instance`` is the life that said it."""

    generator: str
    version: str
    state: ReadinessState
    reason: str
    updated_at: float
    instance: str = ""

    @property
    def life(self) -> Life:
        """Who said it."""
        return Life(self.generator, self.instance)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a target, and the reason as people read it (empty once it serves)."""

    state: AliasState
    reason: str


def judge(words: Sequence[Readiness], living: frozenset[Life], min_ready: int) -> Verdict:
    """Decide over a target from the words on it; only living generators count, and only what their present life said.

    It fails when so many refused it that those left can no longer be enough.
    """
    counted = [word for word in words if word.life in living]
    ready = sum(word.state is ReadinessState.READY for word in counted)
    refused = [word for word in counted if word.state is ReadinessState.FAILED]
    if ready >= min_ready:
        return Verdict(AliasState.SERVING, "")
    if refused and len(living) - len(refused) < min_ready:
        return Verdict(AliasState.FAILED, _refusal(refused))
    if not living:
        return Verdict(AliasState.PENDING, "no generator is connected; the target serves once one has loaded it")
    standing = f"{ready} of {min_ready} generators are ready, {len(living)} connected"
    held_up = [word for word in counted if word.state is ReadinessState.LOADING and word.reason]
    return Verdict(AliasState.PENDING, f"{standing}; {_causes(held_up)}" if held_up else standing)


def _causes(words: Sequence[Readiness]) -> str:
    return "; ".join(f"{word.generator}: {_reason(word)}" for word in words[:3])


def _refusal(words: Sequence[Readiness]) -> str:
    """Why none takes it: by which generator only where they do not all say the same, for that is then of the version."""
    reasons = {_reason(word) for word in words}
    return reasons.pop() if len(reasons) == 1 else _causes(words)


def _reason(word: Readiness) -> str:
    return word.reason.rstrip(".") or "no reason given"
