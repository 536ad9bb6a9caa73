"""Quotas, what gateways hold of them, what each month was spent; usage by model and project, with its cost."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the tables and columns."""
    op.create_table(
        "quotas",
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("quota", sa.Text(), nullable=False),
        sa.Column("updated_at", _BIG, nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.tenant"], name="fk_quotas_tenant"),
        sa.PrimaryKeyConstraint("tenant"),
    )
    op.create_table(
        "buckets",
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("meter", sa.String(length=320), nullable=False),
        sa.Column("level_millionths", _BIG, nullable=False),
        sa.Column("filled_at", _BIG, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "meter"),
    )
    op.create_table(
        "holdings",
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("meter", sa.String(length=320), nullable=False),
        sa.Column("gateway", sa.String(length=128), nullable=False),
        sa.Column("amount", _BIG, nullable=False),
        sa.Column("expires_at", _BIG, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "meter", "gateway"),
    )
    op.create_table(
        "spending",
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("scope", sa.String(length=300), nullable=False),
        sa.Column("month", sa.Integer(), nullable=False),
        sa.Column("tokens", _BIG, nullable=False),
        sa.Column("micros", _BIG, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "scope", "month"),
    )
    op.add_column("usage", sa.Column("model", sa.String(length=256), nullable=False, server_default=""))
    op.add_column("usage", sa.Column("project", sa.String(length=128), nullable=False, server_default=""))
    op.add_column("usage", sa.Column("micros", _BIG, nullable=False, server_default="0"))
    op.create_index("ix_usage_created_at", "usage", ["tenant", "created_at"], unique=False)


def downgrade() -> None:
    """Drop them."""
    op.drop_index("ix_usage_created_at", table_name="usage")
    for column in ("micros", "project", "model"):
        op.drop_column("usage", column)
    for table in ("spending", "holdings", "buckets", "quotas"):
        op.drop_table(table)
