"""Versions say why no engine loads them as they are, and are found by the base that they belong to."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add both; what is there was accepted because engines load it."""
    with op.batch_alter_table("versions") as table:
        table.add_column(sa.Column("unservable_reason", sa.Text(), nullable=False, server_default=""))
        table.create_index("ix_versions_base_digest", ["tenant", "base_digest"])


def downgrade() -> None:
    """Drop both."""
    with op.batch_alter_table("versions") as table:
        table.drop_index("ix_versions_base_digest")
        table.drop_column("unservable_reason")
