"""Audit events come from other services too: each with an id, by which it is kept once, and how its call ended."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the columns."""
    with op.batch_alter_table("audit") as audit:
        audit.add_column(sa.Column("event_id", sa.String(length=64), nullable=True))
        audit.add_column(sa.Column("outcome", sa.String(length=32), nullable=False, server_default=""))
        audit.add_column(sa.Column("request_id", sa.String(length=128), nullable=False, server_default=""))
        audit.create_index("ix_audit_event", ["tenant", "event_id"], unique=True)


def downgrade() -> None:
    """Drop them.  The events of other services stay, with hashes that nobody can compute any more."""
    with op.batch_alter_table("audit") as audit:
        audit.drop_index("ix_audit_event")
        for column in ("request_id", "outcome", "event_id"):
            audit.drop_column(column)
