"""Reasons to keep a vector that no chunk uses."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "vector_holds",
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("text_digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("holder", _NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "text_digest", "holder"),
    )
    op.create_index("ix_vector_holds_holder", "vector_holds", ["tenant", "holder"], unique=False)


def downgrade() -> None:
    """Drop the table."""
    op.drop_index("ix_vector_holds_holder", table_name="vector_holds")
    op.drop_table("vector_holds")
