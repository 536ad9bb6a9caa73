from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from services.chassis.database import make_engine, open_database
from services.trainer.store import Base


async def test_the_revisions_build_the_schema_that_the_code_uses(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/trainer.db"
    async with open_database(url, "services.trainer.migrations"):
        pass
    with make_engine(url).connect() as connection:
        found = compare_metadata(
            MigrationContext.configure(
                connection, opts={"include_name": lambda name, *_: not str(name).startswith("chassis")}
            ),
            Base.metadata,
        )
    assert found == []
