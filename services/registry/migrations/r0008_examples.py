"""A model says by examples what it is for, and which model answers where it cannot."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add both; no model has any yet."""
    with op.batch_alter_table("models") as table:
        table.add_column(sa.Column("examples", sa.Text(), nullable=False, server_default="[]"))
        table.add_column(sa.Column("fallback", sa.Text(), nullable=False, server_default=""))


def downgrade() -> None:
    """Drop them."""
    with op.batch_alter_table("models") as table:
        table.drop_column("fallback")
        table.drop_column("examples")
