"""Lives of generators: what an earlier process of a generator said of a version no longer counts."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Replace the generators by their lives; words that name no life belong to none that will speak again."""
    op.drop_table("generators")
    op.create_table(
        "generator_lives",
        sa.Column("generator", sa.String(length=128), nullable=False),
        sa.Column("instance", sa.String(length=128), nullable=False),
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("generator", "instance"),
        sa.UniqueConstraint("generator", "number", name="uq_generator_lives_number"),
    )
    op.add_column("readiness", sa.Column("instance", sa.String(length=128), nullable=False, server_default=""))
    op.create_index("ix_readiness_generator", "readiness", ["generator"], unique=False)


def downgrade() -> None:
    """Forget the lives; generators make themselves known again with their next sign of life."""
    op.drop_index("ix_readiness_generator", table_name="readiness")
    op.drop_column("readiness", "instance")
    op.drop_table("generator_lives")
    op.create_table(
        "generators",
        sa.Column("generator", sa.String(length=128), nullable=False),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("generator"),
    )
