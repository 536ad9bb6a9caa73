"""On whose behalf a verb runs.  The only place that turns "which tenant" into a condition on rows."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, true


@dataclass(frozen=True, slots=True)
class Caller:
    """A verified caller.  ``everywhere`` is role service: it reads by digest across tenants."""

    tenant: str
    principal: str
    everywhere: bool = False

    def sees(self, tenant_column: Any) -> ColumnElement[bool]:
        """The condition under which a row with this tenant column exists for the caller."""
        if self.everywhere:
            return true()
        condition: ColumnElement[bool] = tenant_column == self.tenant
        return condition
