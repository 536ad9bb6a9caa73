"""Audit events are chained by hashes, those that exist too, and say by which call and for whom they came."""

import sqlalchemy as sa
from alembic import op

from services.access.chain import GENESIS, Link

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_AUDIT = sa.table(
    "audit",
    sa.column("tenant", sa.String),
    sa.column("sequence", sa.BigInteger),
    sa.column("principal", sa.String),
    sa.column("action", sa.String),
    sa.column("resource", sa.Text),
    sa.column("created_at", sa.BigInteger),
    sa.column("hash", sa.LargeBinary),
)


def upgrade() -> None:
    """Add the columns and chain what is there."""
    with op.batch_alter_table("audit") as audit:
        audit.add_column(sa.Column("actor", sa.String(length=128), nullable=False, server_default=""))
        audit.add_column(sa.Column("method", sa.String(length=200), nullable=False, server_default=""))
        audit.add_column(sa.Column("hash", sa.LargeBinary(length=32), nullable=True))
    _chain(op.get_bind())
    with op.batch_alter_table("audit") as audit:
        audit.alter_column("hash", existing_type=sa.LargeBinary(length=32), nullable=False)


def _chain(connection: sa.Connection) -> None:
    rows = connection.execute(sa.select(_AUDIT).order_by(_AUDIT.c.tenant, _AUDIT.c.sequence)).all()
    tenant, previous = "", GENESIS
    for row in rows:
        if row.tenant != tenant:
            tenant, previous = row.tenant, GENESIS
        link = Link(row.tenant, row.sequence, row.principal, "", row.action, "", row.resource, row.created_at)
        previous = link.hash(previous)
        same = (_AUDIT.c.tenant == row.tenant) & (_AUDIT.c.sequence == row.sequence)
        connection.execute(sa.update(_AUDIT).where(same).values(hash=previous))


def downgrade() -> None:
    """Drop the columns."""
    with op.batch_alter_table("audit") as audit:
        for column in ("hash", "method", "actor"):
            audit.drop_column(column)
