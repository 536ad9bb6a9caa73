"""The suite's generator, and one tenant with marked adapters, for the whole folder."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from services.ops.supervisor import Suite
from tests.generating import SuiteGenerator, Tenant, marked_adapters, tenant_of
from tests.load.marked import MarkedAdapter


@dataclass(frozen=True)
class Marks:
    """A tenant's marked adapters: as many as the generator has slots."""

    tenant: Tenant
    adapters: list[MarkedAdapter]
    versions: list[str]

    def mark_of(self, version: str) -> int:
        """The only token that a version says."""
        return self.adapters[self.versions.index(version)].token_id

    @property
    def tokens(self) -> set[int]:
        """Every mark."""
        return {adapter.token_id for adapter in self.adapters}


@pytest.fixture(scope="package")
def served(suite: Suite) -> Iterator[SuiteGenerator]:
    """The suite's generator, and connections to it."""
    opened = SuiteGenerator(suite)
    yield opened
    opened.close()


@pytest.fixture(scope="package")
def marks(served: SuiteGenerator) -> Marks:
    """Marked adapters in the registry."""
    tenant, adapters = tenant_of(served), marked_adapters(served.base)
    versions = [tenant.publish(f"mark-{index}", adapter, served.base) for index, adapter in enumerate(adapters)]
    return Marks(tenant, adapters, versions)
