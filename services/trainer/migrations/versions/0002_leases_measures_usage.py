"""Leases of jobs, what their processes measure, what tenants use."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_ID = sa.String(128)
_DIGEST = sa.String(80)
_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _job_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("validation_digest", _DIGEST, nullable=False, server_default=""),
        sa.Column("lease_owner", _ID, nullable=False, server_default=""),
        sa.Column("lease_epoch", _BIG, nullable=False, server_default="0"),
        sa.Column("lease_expires_at", sa.Float, nullable=False, server_default="0"),
        sa.Column("lease_since", sa.Float, nullable=False, server_default="0"),
        sa.Column("lease_nodes_json", sa.Text, nullable=False, server_default="[]"),
        sa.Column("measures_json", sa.Text, nullable=False, server_default="{}"),
    ]


def _event_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("tokens_per_second", sa.Float, nullable=False, server_default="0"),
        sa.Column("memory_bytes", _BIG, nullable=False, server_default="0"),
        sa.Column("evaluation_json", sa.Text, nullable=False, server_default="{}"),
    ]


def upgrade() -> None:
    """Add them; jobs that are there have no lease, and go on from their checkpoints."""
    for table, columns in (("jobs", _job_columns()), ("events", _event_columns())):
        with op.batch_alter_table(table) as batch:
            for column in columns:
                batch.add_column(column)
    op.create_table(
        "tenant_usage",
        sa.Column("tenant", _ID, primary_key=True),
        sa.Column("used_seconds", sa.Float, nullable=False),
        sa.Column("used_at", sa.Float, nullable=False),
        sa.Column("window_tokens", _BIG, nullable=False),
        sa.Column("window_at", sa.Float, nullable=False),
        sa.Column("started_json", sa.Text, nullable=False),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("tenant_usage")
    for table, columns in (("events", _event_columns()), ("jobs", _job_columns())):
        with op.batch_alter_table(table) as batch:
            for column in columns:
                batch.drop_column(column.name)
