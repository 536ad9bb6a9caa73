"""An alias says whether its target was set to go back: only then do gates let it pass."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the word; a target that waits while the schema changes has to pass its gates."""
    with op.batch_alter_table("aliases") as table:
        table.add_column(sa.Column("rollback", sa.Boolean(), nullable=False, server_default=sa.false()))


def downgrade() -> None:
    """Drop it."""
    with op.batch_alter_table("aliases") as table:
        table.drop_column("rollback")
