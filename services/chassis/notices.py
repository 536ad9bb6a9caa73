"""Word between replicas over their PostgreSQL: whoever commits tells those who listen, at once.

Invariant: a notice leaves with its transaction's commit, and one may be lost (while a
listener connects anew); so a notice says only that it is time to look, a listener looks
after every connection, and whoever listens looks now and then anyway.
"""

import asyncio
from collections.abc import AsyncGenerator

import psycopg
from psycopg import sql
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from services.chassis.database import Database

_CONNECT_AGAIN_SECONDS = 1.0


def tell(session: Session, channel: str) -> None:
    """Send a notice when the open transaction commits.  On SQLite there is nobody to tell."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_notify(channel, "")))


async def heard(database: Database, channel: str) -> AsyncGenerator[None]:
    """Once for every connection and for every notice, until cancelled.  Not for SQLite."""
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(database.address, autocommit=True) as connection:
                await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
                yield
                async for _ in connection.notifies():
                    yield
        except psycopg.OperationalError:
            await asyncio.sleep(_CONNECT_AGAIN_SECONDS)
