"""What a batch's creator might do; what was begun before that was kept asks as a member, for inference, which every batch may."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    op.add_column("batches", sa.Column("roles", sa.String(length=200), nullable=False, server_default="member"))
    op.add_column("batches", sa.Column("scopes", sa.String(length=400), nullable=False, server_default="inference"))


def downgrade() -> None:
    """Drop the columns."""
    op.drop_column("batches", "scopes")
    op.drop_column("batches", "roles")
