"""One base as this generator serves it: its files, its tokenizer, its rules, and the engine that computes with it.

A host exists without its engine: prompts are counted and adapters verified while no
process runs.  Invariant: the digest by which a host is known is the one that its engine's
worker attests with every answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from services.chassis.errors import Failure, Reason
from services.generator.engine import Constraint, Engine, Tokenizer
from services.generator.places import Slots, not_ready
from services.generator.supervision import EngineState, Supervisor
from services.generator.verification import BaseRules


@dataclass(frozen=True, slots=True)
class Base:
    """A base's folder and its digest; ``always_on`` for the deployment's default, whose engine never stops.

    ``public`` bases are the deployment's own; of the others only the owners of a version may know.
    """

    name: str
    digest: str
    folder: Path
    always_on: bool = False
    public: bool = False


class Constraints(Protocol):
    """Judges constraints apart from the engine."""

    async def require_compilable(self, constraint: Constraint, tenant: str, field: str = ...) -> None:
        """Raises FIELD_INVALID for one that does not compile within its limits, NOT_READY when nobody can say."""
        ...

    async def rest(self) -> None:
        """End the processes that have nothing to do."""
        ...

    async def close(self) -> None:
        """End all processes."""
        ...


@dataclass(eq=False, slots=True)
class Host:
    """A base, what is known of it without an engine, and its engine.

    ``size_bytes`` is the estimate of the memory that the engine takes.  ``owners`` says, for a full model of the
    registry, which version of whose model it is: equal folders of two tenants share an engine, as they would share
    the deployment's base, and neither hears of the other.  ``adapters`` are the versions on it that were prepared.
    """

    base: Base
    tokenizer: Tokenizer
    rules: BaseRules
    constraints: Constraints
    engine: Engine
    slots: Slots
    supervisor: Supervisor
    size_bytes: int
    owners: dict[str, dict[str, str]] = field(default_factory=dict)
    adapters: set[str] = field(default_factory=set)
    life: asyncio.Task[None] | None = None
    given_up: str = ""

    @property
    def digest(self) -> str:
        """Digest (sha256:…) of the base."""
        return self.base.digest

    @property
    def ready(self) -> bool:
        """Whether the engine answers now."""
        return self.life is not None and self.supervisor.state is EngineState.READY

    def belongs_to(self, tenant: str, version: str, model: str) -> None:
        """Note that a tenant's version is this folder."""
        self.owners.setdefault(tenant, {})[version] = model

    async def next_life(self, after: int) -> None:
        """Return once an engine answers that was started after that life.  Raises NOT_READY when none will be."""
        while self.slots.life <= after:
            if self.life is None:
                raise not_ready(self.given_up or "the engine was stopped")
            await self.slots.changed()


def too_large(host: Host, budget_bytes: int) -> Failure:
    """The failure of a request whose engine could not run beside the default one however long it waited."""
    return Failure(
        Reason.ENGINE_TOO_LARGE,
        name=host.base.name,
        needed_bytes=host.size_bytes,
        budget_bytes=budget_bytes,
    )


Opener = Callable[[Base], Host]
"""Makes a host of a base.  Blocks: it reads the tokenizer."""
