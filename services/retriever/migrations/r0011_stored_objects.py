"""Objects of sources say in which reading they were stored, so that one whose conversion fails later is counted right."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Of what was stored before, nobody knows when."""
    with op.batch_alter_table("source_objects") as table:
        table.add_column(sa.Column("stored_in", _NUMBER, nullable=False, server_default="0"))


def downgrade() -> None:
    """Forget it."""
    with op.batch_alter_table("source_objects") as table:
        table.drop_column("stored_in")
