"""Batches, and what became of their lines until their files are written."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "batches",
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("batch", sa.String(length=64), nullable=False),
        sa.Column("principal", sa.String(length=128), nullable=False),
        sa.Column("endpoint", sa.String(length=64), nullable=False),
        sa.Column("input_file", sa.String(length=64), nullable=False),
        sa.Column("input_sha256", sa.String(length=64), nullable=False),
        sa.Column("output_file", sa.String(length=64), nullable=False),
        sa.Column("error_file", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("ending", sa.String(length=16), nullable=False),
        sa.Column("window_seconds", _BIG, nullable=False),
        sa.Column("output_seconds", _BIG, nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.Column("problems", sa.Text(), nullable=False),
        sa.Column("model", sa.String(length=256), nullable=False),
        sa.Column("total", _BIG, nullable=False),
        sa.Column("completed", _BIG, nullable=False),
        sa.Column("failed", _BIG, nullable=False),
        sa.Column("prompt_tokens", _BIG, nullable=False),
        sa.Column("cached_tokens", _BIG, nullable=False),
        sa.Column("completion_tokens", _BIG, nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=True),
        sa.Column("finalized_at", sa.Float(), nullable=True),
        sa.Column("cancelled_at", sa.Float(), nullable=True),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.Column("holder", sa.String(length=64), nullable=False),
        sa.Column("run", sa.String(length=64), nullable=False),
        sa.Column("leased_until", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "batch"),
    )
    op.create_index("ix_batches_state", "batches", ["state", "batch"])
    op.create_index("ix_batches_input_sha256", "batches", ["input_sha256"])
    op.create_table(
        "batch_results",
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("batch", sa.String(length=64), nullable=False),
        sa.Column("line", _BIG, nullable=False),
        sa.Column("answered", sa.Boolean(), nullable=False),
        sa.Column("written", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant", "batch"], ["batches.tenant", "batches.batch"], name="fk_batch_results_batch"
        ),
        sa.PrimaryKeyConstraint("tenant", "batch", "line"),
    )


def downgrade() -> None:
    """Drop the tables; batches are lost, their files stay."""
    op.drop_table("batch_results")
    op.drop_index("ix_batches_input_sha256", table_name="batches")
    op.drop_index("ix_batches_state", table_name="batches")
    op.drop_table("batches")
