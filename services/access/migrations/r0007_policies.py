"""Content policies of tenants."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "policies",
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("updated_at", _BIG, nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.tenant"], name="fk_policies_tenant"),
        sa.PrimaryKeyConstraint("tenant"),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("policies")
