"""When a version is good enough for an alias: a pure decision over what was measured.

Invariant: a gate never guesses.  Without a matching evaluation a version does not pass, and
two versions are compared only on the same dataset.  What has no holder to be compared with
passes that comparison: there is nothing to lose.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

# Differences of decimal fractions are not exact: 0.9 - 0.8 must be an improvement of 0.1.
_SLACK = 1e-9


class Direction(StrEnum):
    """Which values of a metric are better."""

    HIGHER = "HIGHER"
    LOWER = "LOWER"

    @property
    def sign(self) -> int:
        """What a difference is multiplied by so that better is positive."""
        return 1 if self is Direction.HIGHER else -1


@dataclass(frozen=True, slots=True)
class Measured:
    """One value of a metric; ``dataset_digest`` is empty when none was named."""

    metric: str
    value: float
    dataset_digest: str


@dataclass(frozen=True, slots=True)
class ForgettingBound:
    """How much of something else may be lost, at most ``most_loss`` in the metric's unit."""

    metric: str
    dataset_digest: str
    direction: Direction
    most_loss: float


@dataclass(frozen=True, slots=True)
class Policy:
    """The conditions of a gate; None asks for nothing, an empty ``alias`` guards all of the model's."""

    metric: str
    direction: Direction
    dataset_digest: str = ""
    alias: str = ""
    required_value: float | None = None
    least_improvement: float | None = None
    forgetting: ForgettingBound | None = None
    checks_rollbacks: bool = False

    def snapshot(self) -> dict[str, Any]:
        """The policy as plain JSON."""
        return asdict(self)

    @staticmethod
    def restore(snapshot: dict[str, Any]) -> "Policy":
        """Read back what :meth:`snapshot` wrote."""
        bound = snapshot["forgetting"]
        if bound is not None:
            bound = ForgettingBound(**{**bound, "direction": Direction(bound["direction"])})
        return Policy(**{**snapshot, "direction": Direction(snapshot["direction"]), "forgetting": bound})


@dataclass(frozen=True, slots=True)
class Contest:
    """A version that wants an alias and what serves there now; both lists are newest first.

    ``holder`` is None when nothing serves; ``rollback`` says that the alias was asked to go back to the version.
    """

    candidate: Sequence[Measured]
    holder: Sequence[Measured] | None
    rollback: bool = False


def shortfall(policy: Policy, contest: Contest) -> str:
    """What the version lacks, as a sentence with required and found; empty when it passes."""
    if contest.rollback and not policy.checks_rollbacks:
        return ""
    found = _newest(contest.candidate, policy.metric, policy.dataset_digest)
    if found is None:
        return _unmeasured("it", policy.metric, policy.dataset_digest)
    return _below(policy, found) or _not_better(policy, found, contest.holder) or _forgotten(policy.forgetting, contest)


def _below(policy: Policy, found: Measured) -> str:
    required = policy.required_value
    if required is None or _at_least(policy.direction.sign * (found.value - required), 0.0):
        return ""
    bound = "at least" if policy.direction is Direction.HIGHER else "at most"
    return f"{_named(found)} must be {bound} {required:g}, found {found.value:g}"


def _not_better(policy: Policy, found: Measured, holder: Sequence[Measured] | None) -> str:
    least = policy.least_improvement
    if least is None or holder is None:
        return ""
    held = _newest(holder, policy.metric, found.dataset_digest, exact=True)
    if held is None:
        return _unmeasured("the version that serves", policy.metric, found.dataset_digest)
    gained = policy.direction.sign * (found.value - held.value)
    if _at_least(gained, least):
        return ""
    return (
        f"{_named(found)} must be better than that of the version that serves by {least:g} or more, found {gained:g} "
        f"({found.value:g} against {held.value:g})"
    )


def _forgotten(bound: ForgettingBound | None, contest: Contest) -> str:
    if bound is None or contest.holder is None:
        return ""
    found = _newest(contest.candidate, bound.metric, bound.dataset_digest)
    if found is None:
        return _unmeasured("it", bound.metric, bound.dataset_digest)
    held = _newest(contest.holder, bound.metric, found.dataset_digest, exact=True)
    if held is None:
        return _unmeasured("the version that serves", bound.metric, found.dataset_digest)
    lost = bound.direction.sign * (held.value - found.value)
    if _at_least(bound.most_loss, lost):
        return ""
    return (
        f"{_named(found)} may be worse than that of the version that serves by at most {bound.most_loss:g}, found "
        f"{lost:g} ({found.value:g} against {held.value:g})"
    )


def _newest(measured: Sequence[Measured], metric: str, dataset_digest: str, *, exact: bool = False) -> Measured | None:
    """The newest of a metric on a dataset; without ``exact`` an empty dataset means any."""
    anywhere = not dataset_digest and not exact
    return next(
        (item for item in measured if item.metric == metric and (anywhere or item.dataset_digest == dataset_digest)),
        None,
    )


def _unmeasured(who: str, metric: str, dataset_digest: str) -> str:
    where = f" on {dataset_digest}" if dataset_digest else ""
    return f"{who} has no evaluation of {metric}{where}; record one"


def _named(found: Measured) -> str:
    return f"{found.metric} on {found.dataset_digest}" if found.dataset_digest else found.metric


def _at_least(value: float, least: float) -> bool:
    return value >= least - _SLACK * max(1.0, abs(value), abs(least))
