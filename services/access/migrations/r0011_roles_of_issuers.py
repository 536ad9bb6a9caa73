"""What a user's issuer gives is known between sign-ins, since nobody ends or changes a user who may do more than they may."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the column; the next sign-in fills it."""
    with op.batch_alter_table("users") as users:
        users.add_column(sa.Column("issuer_roles", sa.String(length=200), nullable=False, server_default=""))


def downgrade() -> None:
    """Drop it."""
    with op.batch_alter_table("users") as users:
        users.drop_column("issuer_roles")
