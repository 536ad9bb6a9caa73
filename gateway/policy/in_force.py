"""The content policy of the request that runs, for whoever asks a model on its behalf.

Invariant: it is one policy from the request's beginning to its end, however often the tenant's changes meanwhile.
"""

from contextvars import ContextVar
from dataclasses import dataclass, field

from gateway.generation import Fallback
from gateway.policy.nouns import ContentPolicy


@dataclass(slots=True)
class InForce:
    """A policy, and what was done under it that the caller is to be told."""

    policy: ContentPolicy
    _told: dict[Fallback, None] = field(default_factory=dict)

    def tell(self, instead: str, reason: str) -> None:
        """Keep for the response what became of a text; the same is told once."""
        self._told[Fallback("policy", instead, reason)] = None

    @property
    def told(self) -> tuple[Fallback, ...]:
        """What is to be told so far."""
        return tuple(self._told)


_in_force: ContextVar[InForce | None] = ContextVar("trivium_content_policy", default=None)


def begin(policy: ContentPolicy | None) -> None:
    """Put a policy, or none, in force for the current request."""
    _in_force.set(None if policy is None else InForce(policy))


def now() -> InForce | None:
    """What is in force; None where nothing is judged."""
    return _in_force.get()
