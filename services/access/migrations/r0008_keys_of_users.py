"""Keys belong to users."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the column."""
    with op.batch_alter_table("keys") as keys:
        keys.add_column(sa.Column("user_id", sa.String(length=128), nullable=False, server_default=""))
        keys.create_index("ix_keys_user", ["user_id"])


def downgrade() -> None:
    """Drop it.  Nothing would stop a key whose user is disabled, so keys of users are lost with it."""
    op.execute(sa.text("DELETE FROM keys WHERE user_id <> ''"))
    with op.batch_alter_table("keys") as keys:
        keys.drop_index("ix_keys_user")
        keys.drop_column("user_id")
