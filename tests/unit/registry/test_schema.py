"""The migrations make exactly the tables that the code describes, for the registry and for access."""

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.orm import DeclarativeBase, Session

from services.access.store import Base as AccessBase
from services.chassis.database import open_database
from services.registry import store_aliases
from services.registry.store import Base as RegistryBase

assert store_aliases  # its tables are the registry's too
OURS = {"chassis_idempotency", "alembic_version"}


@pytest.mark.parametrize(("service", "base"), [("access", AccessBase), ("registry", RegistryBase)])
async def test_migrations_and_tables_agree(tmp_path: Path, service: str, base: type[DeclarativeBase]):
    def difference(session: Session):
        context = MigrationContext.configure(
            session.connection(), opts={"include_name": lambda name, kind, _: kind != "table" or name not in OURS}
        )
        return compare_metadata(context, base.metadata)

    async with open_database(f"sqlite:///{tmp_path}/s.db", f"services.{service}.migrations") as database:
        assert await database.read(difference) == []
