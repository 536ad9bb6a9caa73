"""People of tenants, who sign in with tokens."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "users",
        sa.Column("user_id", sa.String(length=128), nullable=False),
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("issuer", sa.String(length=500), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("display_name", sa.String(length=200), nullable=False),
        sa.Column("roles", sa.String(length=200), nullable=False),
        sa.Column("projects", sa.Text(), nullable=False),
        sa.Column("created_at", _BIG, nullable=False),
        sa.Column("disabled_at", _BIG, nullable=True),
        sa.Column("deleted_at", _BIG, nullable=True),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.tenant"], name="fk_users_tenant"),
        sa.PrimaryKeyConstraint("user_id"),
    )
    op.create_index("ix_users_tenant", "users", ["tenant", "user_id"])
    op.create_index("ix_users_disabled_at", "users", ["disabled_at"])


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("users")
