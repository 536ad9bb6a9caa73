"""Collections say from which score on an answer counts as found."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Every collection takes the default."""
    with op.batch_alter_table("collections") as table:
        table.add_column(sa.Column("answerable_threshold", sa.Float(), nullable=True))


def downgrade() -> None:
    """Forget the thresholds."""
    with op.batch_alter_table("collections") as table:
        table.drop_column("answerable_threshold")
