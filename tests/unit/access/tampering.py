"""Somebody who changes the audit log behind access's back, with the rights of whoever may change the schema."""

from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from services.chassis.database import Database


async def tamper(database: Database, statement: str, **values: Any) -> None:
    """Take away what keeps the log as it is, and run a statement."""

    def change(session: Session) -> None:
        if database.is_sqlite:
            guards = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'audit'"
            for name in list(session.scalars(text(guards))):
                session.execute(text(f"DROP TRIGGER {name}"))
        else:
            session.execute(text("ALTER TABLE audit DISABLE TRIGGER USER"))
        session.execute(text(statement), values)

    await database.write(change)
