"""Leases: which replica does a piece of long work."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table; nothing is under way while a schema changes."""
    op.create_table(
        "leases",
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("work", sa.String(length=64), nullable=False),
        sa.Column("holder", sa.String(length=64), nullable=False),
        sa.Column("progress", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "work"),
    )


def downgrade() -> None:
    """Drop it; whatever is under way is done once more by whoever is asked."""
    op.drop_table("leases")
