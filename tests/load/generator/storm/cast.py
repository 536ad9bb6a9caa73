"""Who takes part in a storm: two tenants and their versions, of every kind that a slot has to hold.

The versions differ in rank, in what they adapt and in how they are scaled, so that whatever one leaves behind in a
slot, or lends to another's rows, changes what is said.  Their random weights are large: sampled at temperature 1, an
answer is some nats a token likelier under its own version than under any other.  Two are marked (``tests.load.marked``)
and can say one word only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.chassis.models import ResolvedModel
from tests.generating import Served, Tenant, adapter_files, marked_adapters, tenant_of
from tests.load.generator import adapters
from tests.load.generator.adapters import SEVEN, Recipe

MODEL = "storm"
_ATTENTION, _MLP = SEVEN[:4], SEVEN[4:]
RECIPES = (
    Recipe(rank=8, seed=1, spread=0.1),
    Recipe(rank=16, seed=2, spread=0.1, modules=("q_proj", "v_proj")),
    Recipe(rank=2, seed=3, spread=0.12, alpha=4),
    Recipe(rank=4, seed=4, spread=0.1, alpha=8, modules=_MLP),
    Recipe(rank=16, seed=5, spread=0.07, rslora=True, alpha=4),
    Recipe(rank=8, seed=6, spread=0.12, modules=_ATTENTION),
)
_TENANTS = 2
_MARKS = 2


@dataclass(frozen=True, slots=True)
class Version:
    """A published version: its tenant's place, its digest, its files, and the one token of a marked one."""

    tenant: int
    digest: str
    folder: Path
    mark: int | None = None


@dataclass(frozen=True)
class Cast:
    """Tenants and versions on a running generator."""

    served: Served
    tenants: Sequence[Tenant]
    versions: Sequence[Version]

    def of(self, tenant: int) -> list[Version]:
        """One tenant's versions."""
        return [version for version in self.versions if version.tenant == tenant]


def assemble(served: Served, folder: Path, *, marks: int = _MARKS) -> Cast:
    """Publish every version, tenants taking turns; marked ones are made for the default base alone."""
    tenants = [tenant_of(served) for _ in range(_TENANTS)]
    return Cast(served, tenants, list(_published(served.base, tenants, folder, marks)))


def _published(base: ResolvedModel, tenants: Sequence[Tenant], folder: Path, marks: int) -> Iterator[Version]:
    for number, recipe in enumerate(RECIPES):
        written = adapters.write(base.path, folder / f"storm-{number}", recipe)
        place = number % len(tenants)
        published = tenants[place].registry.publish(MODEL, adapters.files(written), base_digest=base.digest)
        yield Version(place, str(published.version), written)
    for number, marked in enumerate(marked_adapters(base, marks) if marks else ()):
        place = number % len(tenants)
        published = tenants[place].registry.publish(MODEL, adapter_files(marked), base_digest=base.digest)
        yield Version(place, str(published.version), marked.folder, marked.token_id)
