"""When a trainer last said that it has the result of a job which is being registered."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add it; of jobs that are being registered already nobody has said so yet."""
    with op.batch_alter_table("jobs") as batch:
        batch.add_column(sa.Column("result_seen_at", sa.Float, nullable=False, server_default="0"))


def downgrade() -> None:
    """Forget it."""
    with op.batch_alter_table("jobs") as batch:
        batch.drop_column("result_seen_at")
