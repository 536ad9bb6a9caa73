"""A collection remembers the threshold of answers that a change of its embedding model ended."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """No collection lost one yet."""
    with op.batch_alter_table("collections") as table:
        table.add_column(sa.Column("former_threshold", sa.Float(), nullable=True))


def downgrade() -> None:
    """Forget them."""
    with op.batch_alter_table("collections") as table:
        table.drop_column("former_threshold")
